"""The run folder: what one training run leaves on disk, and the lock that keeps two processes apart.

``config.toml``
    Every setting by value, the inputs, the plan; enough to run it again.
``events.jsonl``
    Every logged number, one JSON object a line.
``environment.json``
    Versions, processor, threads, date.
``checkpoints/``
    See ``checkpoint``.
``stages/NAME/``
    The model as a stage left it, with a checkpoints/ of its own; for each stage of a method but the last.
``report.html``
    Written when training ends.
``lock``
    Held while a process trains here; empty of meaning otherwise.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pairfree.config import read_toml, to_toml
from pairfree.data import processes
from pairfree.engine import checkpoint
from pairfree.errors import ConfigError, InputError, OutputError
from pairfree.files.atomic import output_error, remove_stale, write_text
from pairfree.files.listing import check_folder
from pairfree.files.lock import Lock
from pairfree.version import __version__


class RunFolder:
    """Paths and small files of one run. Nothing here knows a method."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.environment_path = self.path / "environment.json"
        self.config_path = self.path / "config.toml"
        self.events_path = self.path / "events.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.report_path = self.path / "report.html"

    def stage_path(self, name: str) -> Path:
        """Folder of the model as the stage of that name left it."""
        return self.path / "stages" / name.replace(" ", "-")

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.config_path.is_file()

    def check_free(self) -> None:
        """Refuse, before any work, a place where a process trains or something else lives."""
        check_folder(self.path)
        if (self.path / "lock").is_file():
            with self.locked():
                pass
        self.check_empty()

    def check_empty(self) -> None:
        """Refuse a folder with anything in it.

        A run that was killed before its first checkpoint counts as nothing: it cannot be resumed and is begun
        again.
        """
        ours = {"lock"}
        if (self.path / "lock").is_file() and not checkpoint.listing(self.checkpoints):
            ours |= {"config.toml", "environment.json", "events.jsonl", "checkpoints", "stages"}
        if not self.path.is_dir():
            return
        remedy = "name another folder"
        if checkpoint.listing(self.checkpoints):
            remedy = f"add `resume` to go on with its run, or {remedy}"
        for child in self.path.iterdir():
            if child.name not in ours and ".partial-" not in child.name:
                raise OutputError(f"{self.path}: folder exists and is not empty; {remedy}")

    def create(self) -> None:
        """Make the folder. OutputError where that is not possible."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be made ({error.strerror}); name a folder you may write to"
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process.

        BusyError names the process that holds it; a killed process's lock is free at once.
        """
        try:
            lock = Lock(self.path / "lock", self.path)
        except OSError as error:
            raise output_error(error, self.path / "lock") from None
        try:
            remove_stale(self.path)
            for folder in (self.checkpoints, *self.path.glob("stages/*/checkpoints")):
                remove_stale(folder)
            yield
        finally:
            lock.release()

    def drop_stages_after(self, step: int) -> None:
        """Forget models of stages that a resumed run will end again."""
        for folder in self.path.glob("stages/*/checkpoints"):
            for words in checkpoint.listing(folder):
                if int(words.stem.removeprefix("step-")) > step:
                    words.unlink()

    def write_config(self, values: Mapping[str, Any]) -> None:
        """Write config.toml: plain values, and one level of tables."""
        write_text(self.config_path, to_toml(values), overwrite=True)

    def read_config(self) -> dict[str, Any]:
        """What config.toml says. InputError where there is none, or none that can be read."""
        if not self.exists:
            raise InputError(
                f"{self.path}: not a run folder (no config.toml); give the folder that training "
                "wrote, its `out`"
            )
        try:
            return read_toml(self.config_path)
        except ConfigError as error:
            raise InputError(str(error)) from None

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Write environment.json."""
        write_text(self.environment_path, json.dumps(facts, indent=1) + "\n", overwrite=True)

    def note_resumed(self, step: int, facts: Mapping[str, Any]) -> None:
        """Add to environment.json where and when the run went on."""
        begun = self.read_environment()
        words = []
        for key in ("date", "processor", "device", "torch"):
            if key in facts:
                words.append(str(facts[key]))
        resumed = f"at step {step:,}: {', '.join(words)}"
        if "resumed" in begun:
            resumed = f"{begun['resumed']}; {resumed}"
        self.write_environment({**begun, "resumed": resumed})

    def read_environment(self) -> dict[str, Any]:
        """What environment.json says; nothing where it cannot be read."""
        try:
            facts: dict[str, Any] = json.loads(self.environment_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts

    def read_events(self) -> list[dict[str, Any]]:
        """Logged events; a last line that a killed process left half-written is dropped."""
        if not self.events_path.is_file():
            return []
        events = []
        for line in self.events_path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                events.append(event)
        return events

    def rewind(self, step: int) -> None:
        """Forget events of steps that a resumed run will do again."""
        kept = [event for event in self.read_events() if event.get("step", 0) < step]
        lines = [json.dumps(event) + "\n" for event in kept]
        write_text(self.events_path, "".join(lines), overwrite=True)


class EventLog:
    """Appends to events.jsonl; a line is on disk when ``write`` returns, save for a power cut.

    Raises OutputError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # nothing is left in a buffer that could fail again on closing
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise output_error(error, path) from None

    def write(self, event: Mapping[str, Any]) -> None:
        """Append one event."""
        try:
            self._file.write(json.dumps(event).encode() + b"\n")
        except OSError as error:
            raise output_error(error, self._path) from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """Versions, processor, threads and date: what a number needs beside it to be repeated.

    Parameters
    ----------
    device
        Where networks lie.
    precision
        Number format of convolutions.
    """
    import numpy
    import scipy

    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "pairfree": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "scikit-image": version("scikit-image"),
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "precision": precision,
    }
    if processes.count() > 1:
        facts["processes"] = processes.count()
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _processor() -> str:
    """Its name; on Linux with family and model.

    A virtual machine's name ("AMD EPYC") covers generations of twofold speed.
    """
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            facts[key.strip()] = value.strip()
    except OSError:
        pass
    name = facts.get("model name") or platform.processor() or platform.machine()
    if {"cpu family", "model"} <= facts.keys():
        return f"{name} (family {facts['cpu family']} model {facts['model']})"
    return name


def now() -> float:
    """Seconds of a clock that never goes back."""
    return time.perf_counter()
