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
``NAME.damaged``
    What stood under a name of these and could not be used.
"""

from __future__ import annotations

import json
import logging
import platform
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pairfree.config import to_toml
from pairfree.data import processes
from pairfree.engine import checkpoint
from pairfree.errors import ConfigError, InputError, OutputError
from pairfree.facts import (
    MOST_TOML_BYTES,
    NUMBER,
    TEXT,
    VALUE,
    WHOLE,
    Kind,
    Unreadable,
    check,
    list_of,
    parse_json,
    read_bytes,
    read_json,
    read_toml,
    table_of,
)
from pairfree.files.atomic import output_error, remove_stale, write_text
from pairfree.files.damaged import make_way, set_aside, set_aside_name
from pairfree.files.listing import check_folder
from pairfree.files.lock import Lock
from pairfree.files.messages import shown
from pairfree.regular import open_regular
from pairfree.version import __version__

SINGLE = Kind("text or a finite number", lambda value: TEXT.fits(value) or NUMBER.fits(value))
PATHS = Kind(
    "a path, or a list of paths", lambda value: TEXT.fits(value) or list_of(TEXT).fits(value)
)
CONFIG = {"method": TEXT, "settings": table_of(VALUE)}
"""What a config.toml of a run must say."""
CONFIG_FURTHER = {
    **dict.fromkeys(("preset", "device", "command", "init", "start", "nan"), TEXT),
    **dict.fromkeys(("seed", "slices_around"), WHOLE),
    **dict.fromkeys(("minutes", "max_bytes"), NUMBER),
    **dict.fromkeys(("noisy", "clean", "target", "noise_images"), PATHS),
    "scene": SINGLE,
    "stage_names": list_of(TEXT),
    "stage_steps": list_of(WHOLE),
}
"""What it may say."""
MOST_EVENTS_BYTES = 8 * 2**20
"""Of events.jsonl: five hundred steps are logged, in some hundred bytes each."""
EVENT = {"step": Kind("a step", lambda value: WHOLE.fits(value) and value < 2**53)}
EVENT_FURTHER = dict.fromkeys(("stage", "event", "detail"), TEXT)
"""What a line of events.jsonl must say, and may; its other fields are numbers."""
_say = logging.getLogger("pairfree")


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
        # a name that a checkpoint was given by someone else leads nowhere else
        return self.path / "stages" / re.sub(r"[^\w-]", "-", name)

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
        ours |= {set_aside_name(Path(name)).name for name in ours}
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
                number = re.fullmatch(r"step-([0-9]{1,15})", words.stem)
                if number is None or int(number[1]) <= step:
                    continue
                try:
                    words.unlink()
                except OSError as error:
                    raise output_error(error, words) from None

    def write_config(self, values: Mapping[str, Any]) -> None:
        """Write config.toml: plain values, and one level of tables."""
        text = to_toml(values)
        if len(text.encode("utf-8", "backslashreplace")) > MOST_TOML_BYTES:
            raise ConfigError(
                f"{shown(self.config_path)}: would have more than {MOST_TOML_BYTES / 2**20:g} MiB, most of "
                "it names of files; name their folders, or globs"
            )
        write_text(self.config_path, text, overwrite=True)

    def read_config(self) -> dict[str, Any]:
        """What config.toml says. InputError where there is none, or none that can be used."""
        if not self.exists:
            raise InputError(
                f"{self.path}: not a run folder (no config.toml); give the folder that training "
                "wrote, its `out`"
            )
        try:
            return check(read_toml(self.config_path), CONFIG, CONFIG_FURTHER)
        except (Unreadable, FileNotFoundError) as error:
            raise InputError(
                f"{shown(self.config_path)}: damaged, {error}; bring it back from a copy, or start a new run "
                f"with `init` {shown(self.path)}"
            ) from None

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Write environment.json."""
        make_way(self.environment_path, "it is written anew")
        write_text(self.environment_path, json.dumps(facts, indent=1) + "\n", overwrite=True)

    def note_resumed(self, step: int, facts: Mapping[str, Any]) -> None:
        """Add to environment.json where and when the run went on; a damaged one is begun anew."""
        begun, damage = self._load_environment()
        if damage:
            set_aside(self.environment_path, damage, "it now begins where the run goes on")
        words = []
        for key in ("date", "processor", "device", "torch"):
            if key in facts:
                words.append(str(facts[key]))
        resumed = f"at step {step:,}: {', '.join(words)}"
        if "resumed" in begun:
            resumed = f"{begun['resumed']}; {resumed}"
        self.write_environment({**(begun or facts), "resumed": resumed})

    def read_environment(self) -> dict[str, Any]:
        """What environment.json says; nothing where there is none, and, with a warning, a damaged one."""
        facts, damage = self._load_environment()
        if damage:
            _say.warning("%s: damaged, %s; passed over", shown(self.environment_path), damage)
        return facts

    def _load_environment(self) -> tuple[dict[str, Any], str]:
        """What environment.json says, and what is wrong with it: "" for nothing."""
        try:
            found = read_json(self.environment_path)
            if not table_of(VALUE).fits(found):
                raise Unreadable("is no table of texts and numbers")
        except FileNotFoundError:
            return {}, ""
        except Unreadable as error:
            return {}, str(error)
        return dict(found), ""

    def read_events(self) -> list[dict[str, Any]]:
        """Logged events; lines that are none are passed over, with a warning.

        Without one, where a killed process left the last half-written.
        """
        events, damage = self._load_events()
        if damage:
            _say.warning("%s: damaged, %s; passed over", shown(self.events_path), damage)
        return events

    def _load_events(self) -> tuple[list[dict[str, Any]], str]:
        """Logged events, and what is wrong with the file: "" for nothing."""
        try:
            data = read_bytes(self.events_path, MOST_EVENTS_BYTES)
        except FileNotFoundError:
            return [], ""
        except Unreadable as error:
            return [], str(error)
        *lines, last = data.split(b"\n")
        events, bad = [], 0
        for line in lines:
            event = _read_event(line)
            if event is not None:
                events.append(event)
            elif line.strip():
                bad += 1
        half = _read_event(last)
        if half is not None:
            events.append(half)
        return events, f"{bad:,} of {len(lines):,} lines are no events" if bad else ""

    def rewind(self, step: int) -> None:
        """Forget events of steps that a resumed run will do again."""
        events, damage = self._load_events()
        if damage:
            set_aside(self.events_path, damage, "the other events are kept")
        make_way(self.events_path, "it is written anew")
        kept = [event for event in events if event["step"] < step]
        lines = [json.dumps(event) + "\n" for event in kept]
        write_text(self.events_path, "".join(lines), overwrite=True)


def _read_event(line: bytes) -> dict[str, Any] | None:
    """An event as a line of events.jsonl tells it; None where it tells none."""
    try:
        event = check(parse_json(line), EVENT, EVENT_FURTHER)
    except Unreadable:
        return None
    return event if table_of(VALUE).fits(event) else None


class EventLog:
    """Appends to events.jsonl; a line is on disk when ``write`` returns, save for a power cut.

    Raises OutputError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # nothing is left in a buffer that could fail again on closing
            self._file = open_regular(path, "ab", follow=False, buffering=0)
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
