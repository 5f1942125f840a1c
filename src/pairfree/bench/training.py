"""Trains the network of a cell; one that was killed goes on where its run folder stands."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairfree import api
from pairfree.bench.base import Cell, Task
from pairfree.bench.cache import SCORES, given_settings, settings_of
from pairfree.bench.code import digest_code
from pairfree.bench.scores import denoise_all, score_groups
from pairfree.bench.work import Work
from pairfree.engine import checkpoint
from pairfree.engine.model import Model
from pairfree.engine.run import now
from pairfree.engine.trainer import OnStep, Stopped
from pairfree.facts import (
    NUMBER,
    WHOLE,
    Unreadable,
    list_of,
    or_none,
    read_bytes,
    read_json,
    table_with,
)
from pairfree.files.atomic import write_text
from pairfree.files.damaged import rename_over
from pairfree.files.messages import shown
from pairfree.methods import METHODS
from pairfree.methods.base import Needs

PROBES = "probes.json"
PROBE = table_with({"step": WHOLE, "seconds": or_none(NUMBER), "scores": SCORES})
"""What is stored of a stop on the way."""
_say = logging.getLogger("pairfree")


@dataclass(frozen=True)
class Trained:
    """The network of a cell."""

    model: Model
    """It, ready to denoise."""
    seconds: float | None
    """What its training took.

    As this process measured it, or, where it was stopped in between, as the run's clock counted it; None
    where that run has none.
    """
    probes: list[dict[str, Any]]
    """``step``, ``seconds`` and ``scores`` of each stop on the way that the experiment asks for."""


def train_cell(work: Work) -> Trained:
    """Train the network of a cell, or go on with its training.

    What lies in its folder and is of other data, other settings or other code is set aside first.

    Raises
    ------
    InputError
        Where the method refuses these images.
    DivergedError
        Where the training diverges.
    """
    _make_room(work)
    started = now()
    stopped_before = _has_begun(work)
    if not stopped_before:
        shutil.rmtree(work.run, ignore_errors=True)
    probes = _probe(work)
    model = _train(work, work.on_step)
    if stopped_before or work.experiment.probes:
        seconds = _seconds_by_clock(model)
    else:
        seconds = round(now() - started, 1)
    return Trained(model, seconds, probes)


def _make_room(work: Work) -> None:
    """Make the folder of a cell; what stands there and cannot be gone on with is set aside, in a line."""
    marker = work.folder / "cell-key"
    mark = [work.key + json.dumps(settings_of(work.cell), sort_keys=True), digest_code()]
    if os.path.lexists(work.folder):
        stored = _lines_of(marker)
        why = ""
        if stored[:1] != mark[:1]:
            why = "is of other data or settings"
        elif stored != mark:
            why = "was begun by other code"
        elif _read_probes(work.folder / PROBES) is None:
            why = f"{PROBES} in it is damaged"
        if why:
            _set_aside(work.folder, why)
    write_text(marker, "\n".join(mark), overwrite=True)


def _set_aside(folder: Path, why: str) -> None:
    """Give a folder another name; that of an earlier one that has it is removed."""
    older = folder.with_name(f"{folder.name}.older")
    rename_over(folder, older)
    _say.warning(
        "%s: %s; begun anew, what stood there is kept as %s and may be deleted",
        shown(folder),
        why,
        shown(older.name),
    )


def _lines_of(marker: Path) -> list[str]:
    """What a folder says it is of; none where it does not."""
    try:
        return read_bytes(marker).decode("utf-8", "replace").split("\n")
    except (Unreadable, OSError):
        return []


def _read_probes(path: Path) -> list[dict[str, Any]] | None:
    """What was found on the way so far; None where the file does not tell."""
    try:
        found = read_json(path)
    except FileNotFoundError:
        return []
    except (Unreadable, OSError):
        return None
    return found if list_of(PROBE).fits(found) else None


def _has_begun(work: Work) -> bool:
    """Whether a checkpoint stands to go on from."""
    return bool(checkpoint.listing(work.run / "checkpoints"))


def _seconds_by_clock(model: Model) -> float | None:
    clock = model.record.clock
    return None if clock is None else round(clock.used_s, 1)


def _train(work: Work, on_step: OnStep | None) -> Model:
    cell = work.cell
    arrays = training_arrays(cell, work.task)
    if _has_begun(work):
        return api.train(
            out=work.run,
            resume=True,
            device=work.device,
            report=False,
            on_step=on_step,
            **arrays,
        )
    return api.train(
        out=work.run,
        method=cell.method,
        preset=cell.preset,
        minutes=cell.minutes,
        seed=cell.seed,
        device=work.device,
        settings=given_settings(cell),
        start=cell.start,
        report=False,
        command=f"pairfree bench, cell {cell.name}",
        on_step=on_step,
        **arrays,
    )


def training_arrays(cell: Cell, task: Task) -> dict[str, Any]:
    """Lists of images that ``api.train`` is given of the task, by the needs of the cell's method."""
    needs = METHODS[cell.method].needs
    arrays: dict[str, Any] = {"noisy": list(task.noisy)}
    if needs is Needs.TARGET_CLEAN:
        arrays["target"] = list(task.clean)
    elif needs.target:
        arrays["target"] = list(task.second_noisy)
    if needs.clean:
        arrays["clean"] = list(task.unpaired)
    if needs.noise:
        arrays["noise_images"] = list(task.noise_images)
    return arrays


def _probe(work: Work) -> list[dict[str, Any]]:
    """Train up to each probe in turn, stop, score.

    What was found stands on disk, for a process that is killed and goes on.
    """
    count = work.experiment.probes
    path = work.folder / PROBES
    found = _read_probes(path) or []
    for number in range(len(found) + 1, count + 1):
        stop = _StopAt(number, count + 1, work.on_step)
        try:
            _train(work, stop)
        except Stopped:
            if not stop.reached:
                raise
        model = api.load(work.run, device=work.device)
        outputs = denoise_all(model, work.task.test)
        found.append(
            {
                "step": model.record.step,
                "seconds": _seconds_by_clock(model),
                "scores": score_groups(work.experiment, work.task.test, outputs),
            }
        )
        write_text(path, json.dumps(found, indent=1) + "\n", overwrite=True)
    return found


class _StopAt:
    """An ``on_step`` that stops the training once ``part`` of ``parts`` of its steps are done."""

    def __init__(self, part: int, parts: int, on_step: OnStep | None) -> None:
        self.part = part
        self.parts = parts
        self.on_step = on_step
        self.reached = False

    def __call__(self, done: int, total: int, stage: str, loss: float | None) -> bool:
        """Tell the step on; whether to stop there. What is told cannot stop the training."""
        if self.on_step is not None:
            self.on_step(done, total, stage, loss)
        self.reached = total > done >= total * self.part / self.parts
        return self.reached
