"""The only training loop. It counts steps, logs, saves, stops when asked; what a step does is the method's business."""

from __future__ import annotations

import copy
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from pairfree.data.patches import TrainingData
from pairfree.engine import checkpoint
from pairfree.engine.run import EventLog, RunFolder, now
from pairfree.errors import ConfigError, DivergedError, PairfreeError
from pairfree.methods.base import At, Method

LOGGED_POINTS = 500
CHECKPOINT_SECONDS = 30.0
WARM_UP_STEPS = 3
MEASURE_SECONDS = 2.0


class Stopped(PairfreeError):
    """Training was asked to stop (SIGINT, SIGTERM); a checkpoint stands."""

    exit_code = 130


@dataclass(frozen=True)
class Plan:
    """How many steps each stage has; part of the checkpoint, so that a resumed run equals an uninterrupted one."""

    stages: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        return sum(steps for _, steps in self.stages)

    def at(self, seed: int, step: int) -> At:
        before = 0
        for name, steps in self.stages:
            if step < before + steps:
                return At(seed, step, name, step - before, steps)
            before += steps
        raise IndexError(f"step {step} of a plan of {before}")

    @property
    def log_every(self) -> int:
        return max(1, self.total // LOGGED_POINTS)


def plan_steps(method: Method, steps: int) -> Plan:
    """Split a number of steps by the stages' shares; each stage gets at least one."""
    stages = method.stages()
    if steps < len(stages):
        raise ConfigError(f"--steps {steps}: this method has {len(stages)} stages and needs at least one step for each")
    lengths = [max(1, round(steps * stage.share)) for stage in stages[:-1]]
    while sum(lengths) >= steps:
        lengths[lengths.index(max(lengths))] -= 1
    lengths.append(steps - sum(lengths))
    return Plan(tuple((stage.name, length) for stage, length in zip(stages, lengths, strict=True)))


def plan_minutes(method: Method, data: TrainingData, minutes: float, seed: int) -> Plan:
    """Turn minutes into steps: each stage is timed on a copy of the method and gets its share of the time; the timing is paid from it."""
    started = now()
    budget = minutes * 60.0
    stages = method.stages()
    measure = min(MEASURE_SECONDS, 0.02 * budget / len(stages))
    paces = [_seconds_per_step(copy.deepcopy(method), data, seed, stage.name, measure) for stage in stages]
    left = max(0.0, budget - (now() - started))
    steps = [max(1, int(left * stage.share / pace)) for stage, pace in zip(stages, paces, strict=True)]
    return Plan(tuple((stage.name, count) for stage, count in zip(stages, steps, strict=True)))


def _seconds_per_step(trial: Method, data: TrainingData, seed: int, stage: str, seconds: float) -> float:
    started, done = now(), 0
    while done < WARM_UP_STEPS + 1 or now() - started < seconds:
        if done == WARM_UP_STEPS:
            _finish(data)
            started = now()
        # in turn from both halves of the stage: what is ramped in half-way costs half of the steps
        trial.step(data.batch(seed, done, trial.batch_size), At(seed, done, stage, 250 + 500 * (done % 2), 1000))
        done += 1
    _finish(data)
    return (now() - started) / (done - WARM_UP_STEPS)


def _finish(data: TrainingData) -> None:
    if data.noisy.device.type == "cuda":
        torch.cuda.synchronize(data.noisy.device)


@dataclass
class Loop:
    """The state of a loop, all of it: what is not here is in the method or a function of the step."""

    method: Method
    data: TrainingData
    plan: Plan
    seed: int
    run: RunFolder
    facts: dict[str, Any]
    done: int = 0


def train(loop: Loop, on_step: Callable[[int, int, str, float | None], None] | None = None) -> None:
    """Run ``loop`` from ``loop.done`` to the end of its plan.

    on_step     called with (steps done, total, stage, latest logged loss) after each step
    Raises      DivergedError with the last good checkpoint named; Stopped after a checkpoint when a signal asked for it
    """
    log, saved, loss = EventLog(loop.run.events_path), now(), None
    try:
        with _signals() as asked:
            if loop.done == 0:
                save(loop)
            while loop.done < loop.plan.total:
                at = loop.plan.at(loop.seed, loop.done)
                logged = loop.method.step(loop.data.batch(loop.seed, at.step, loop.method.batch_size), at)
                loop.done += 1
                if at.step % loop.plan.log_every == 0 or loop.done == loop.plan.total:
                    values = {name: float(value) for name, value in logged.items()}
                    loss = values.get("loss")
                    log.write({"step": at.step, "stage": at.stage, **values})
                if at.stage_step + 1 == at.stage_steps and loop.done < loop.plan.total:
                    save(loop, loop.run.stage_path(at.stage) / "checkpoints")
                if on_step is not None:
                    on_step(loop.done, loop.plan.total, at.stage, loss)
                if asked.is_set():
                    save(loop)
                    raise Stopped(f"{loop.run.path}: stopped at step {loop.done} of {loop.plan.total}, saved; go on with --resume")
                if now() - saved > CHECKPOINT_SECONDS:
                    save(loop)
                    saved = now()
            save(loop)
    except DivergedError as error:
        log.write({"step": loop.done, "event": "diverged", "detail": str(error)})
        last = checkpoint.listing(loop.run.checkpoints)
        where = f"last good checkpoint {last[-1]}" if last else "no checkpoint yet"
        raise DivergedError(f"{error}; {where}; try a smaller rate (--set lr=...)") from None
    finally:
        log.close()


def save(loop: Loop, folder: Path | None = None) -> None:
    checkpoint.save(folder or loop.run.checkpoints, {**loop.facts, "step": loop.done}, loop.method.tensors())


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event; a second one ends the process at once. Outside the main thread signals are left alone."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        asked.set()

    kept = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
