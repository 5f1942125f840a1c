"""The only training loop. It counts steps, logs, saves, stops when asked; what a step does is the method's business."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pairfree.data.patches import TrainingData
from pairfree.engine import checkpoint
from pairfree.engine.plan import Clock, Plan
from pairfree.engine.run import EventLog, RunFolder, now
from pairfree.errors import DivergedError, PairfreeError
from pairfree.methods.base import Method

OnStep = Callable[[int, int, str, float | None], object]
CHECKPOINT_SECONDS = 30.0


class Stopped(PairfreeError):
    """Training was asked to stop (SIGINT, SIGTERM, or by the caller); a checkpoint stands."""

    exit_code = 130


@dataclass
class Loop:
    """The state of a loop, all of it: what is not here is in the method or a function of the step.

    clock   of a budget in minutes; None where steps are counted
    """

    method: Method
    data: TrainingData
    plan: Plan
    seed: int
    run: RunFolder
    facts: dict[str, Any]
    done: int = 0
    clock: Clock | None = None


def train(loop: Loop, on_step: OnStep | None = None) -> None:
    """Run ``loop`` from ``loop.done`` to the end of its plan.

    on_step     called with (steps done, total, stage, latest logged loss) after each step; returns True to stop
    Raises      DivergedError with the last good checkpoint named; Stopped after a checkpoint when a signal or ``on_step`` asked for it
    """
    log, saved, loss = EventLog(loop.run.events_path), now(), None
    ticked = saved
    for net in loop.method.networks.values():
        net.train()  # a network that has been applied before is in eval mode
    try:
        with _signals() as asked:
            if loop.done == 0:
                save(loop)
            while loop.done < loop.plan.total:
                at = loop.plan.at(loop.seed, loop.done)
                logged = loop.method.step(loop.data.batch(loop.seed, at.step, loop.method.batch_size), at)
                loop.done += 1
                if loop.clock is not None:
                    seconds, ticked = now() - ticked, now()
                    if loop.clock.tick(loop.plan, at, seconds) and loop.done < loop.plan.total:
                        loop.plan = loop.clock.refit(loop.plan, loop.done)
                if at.step % loop.plan.log_every == 0 or loop.done == loop.plan.total:
                    values = {name: float(value) for name, value in logged.items()}
                    loss = values.get("loss")
                    log.write({"step": at.step, "stage": at.stage, **values})
                if at.stage_step + 1 == at.stage_steps and loop.done < loop.plan.total:
                    save(loop, loop.run.stage_path(at.stage) / "checkpoints")
                if on_step is not None and on_step(loop.done, loop.plan.total, at.stage, loss) is True:
                    asked.set()
                if asked.is_set():
                    save(loop)
                    raise Stopped(f"{loop.run.path}: stopped at step {loop.done} of {loop.plan.total}, saved; go on with --resume")
                if now() - saved > CHECKPOINT_SECONDS:
                    save(loop)
                    saved = now()
            loop.method.finish(loop.data, loop.seed)
            save(loop)
    except DivergedError as error:
        log.write({"step": loop.done, "event": "diverged", "detail": str(error)})
        last = checkpoint.listing(loop.run.checkpoints)
        where = f"last good checkpoint {last[-1]}" if last else "no checkpoint yet"
        raise DivergedError(f"{error}; {where}; try a smaller rate (--set lr=...)") from None
    finally:
        log.close()


def save(loop: Loop, folder: Path | None = None) -> None:
    facts = {**loop.facts, "step": loop.done, "plan": loop.plan.as_list()}
    if loop.clock is not None:
        facts["clock"] = loop.clock.as_dict()
    checkpoint.save(folder or loop.run.checkpoints, facts, loop.method.tensors())


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
