"""Trains the network of a cell; one that was killed goes on where its run folder stands."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairfree import api
from pairfree.bench.base import Cell, Task
from pairfree.bench.cache import given_settings, settings_of
from pairfree.bench.scores import denoise_all, score_groups
from pairfree.bench.work import Work
from pairfree.engine import checkpoint
from pairfree.engine.model import Model
from pairfree.engine.run import now
from pairfree.engine.trainer import OnStep, Stopped
from pairfree.files.atomic import write_text
from pairfree.methods import METHODS
from pairfree.methods.base import Needs


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

    What lies in its folder and is of other data or settings is removed first.

    Raises
    ------
    InputError
        Where the method refuses these images.
    DivergedError
        Where the training diverges.
    """
    mark = work.key + json.dumps(settings_of(work.cell), sort_keys=True)
    marker = work.folder / "cell-key"
    if work.folder.exists() and _text_of(marker) != mark:
        shutil.rmtree(work.folder)
    started = now()
    write_text(marker, mark, overwrite=True)
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


def _text_of(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


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
    path = work.folder / "probes.json"
    found: list[dict[str, Any]] = json.loads(_text_of(path) or "[]")
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
