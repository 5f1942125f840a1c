"""The only training loop. It counts steps, logs, saves, stops when asked; what a step does is the method's business."""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from pairfree.data import processes
from pairfree.data.patches import TrainingData
from pairfree.engine import checkpoint
from pairfree.engine.plan import Clock, Plan
from pairfree.engine.record import Record
from pairfree.engine.run import EventLog, RunFolder, now
from pairfree.engine.watch import Watch
from pairfree.errors import DivergedError, PairfreeError
from pairfree.methods.base import Method

_say = logging.getLogger("pairfree")
OnStep = Callable[[int, int, str, float | None], object]
CHECKPOINT_SECONDS = 30.0
GRACE_SECONDS = 20.0
"""torchrun passes on a signal that its processes got already: only one that comes later is a second one."""


class Stopped(PairfreeError):
    """Training was asked to stop (SIGINT, SIGTERM, or by the caller); a checkpoint stands."""

    exit_code = 130


@dataclass
class Loop:
    """The state of a loop, all of it: what is not here is in the method or a function of the step.

    record  what a checkpoint says of the run, but how far it is
    clock   of a budget in minutes; None where steps are counted
    watch   of signs of a collapse
    """

    method: Method
    data: TrainingData
    plan: Plan
    seed: int
    run: RunFolder
    record: Record
    done: int = 0
    clock: Clock | None = None
    watch: Watch = field(default_factory=Watch)


def train(loop: Loop, on_step: OnStep | None = None) -> None:
    """Run ``loop`` from ``loop.done`` to the end of its plan.

    on_step     called with (steps done, total, stage, latest logged loss) after each step; returns True to stop
    Raises      DivergedError with the last good checkpoint named; Stopped after a checkpoint when a signal or ``on_step`` asked for it
    """
    log, saved, loss = EventLog(loop.run.events_path) if processes.first() else None, now(), None
    patches = processes.part_of(loop.method.batch_size)
    for net in loop.method.networks.values():
        net.train()  # a network that has been applied before is in eval mode
    try:
        with _signals() as asked:
            if loop.done == 0:
                save(loop)
            ticked = now()
            while loop.done < loop.plan.total:
                at = loop.plan.at(loop.seed, loop.done)
                logged = loop.method.step(loop.data.batch(loop.seed, at.step, patches), at)
                loop.done += 1
                refit = False
                if loop.clock is not None:
                    seconds, ticked = now() - ticked, now()
                    refit = loop.clock.tick(loop.plan, at, seconds) and (
                        loop.done < loop.plan.total or loop.clock.much_left()
                    )
                refit, stop, overdue = processes.any_of(
                    refit, asked.is_set(), now() - saved > CHECKPOINT_SECONDS
                )
                if refit and loop.clock is not None:
                    loop.plan = Plan.of(processes.shared(loop.clock.refit(loop.plan, loop.done).as_list()))
                if at.step % loop.plan.log_every == 0 or loop.done == loop.plan.total:
                    values = {name: float(value) for name, value in logged.items()}
                    loss = values.get("loss")
                    if log is not None:
                        log.write({"step": at.step, "stage": at.stage, **values})
                for line in loop.watch.see(logged):
                    _say.warning("step %d: %s", at.step, line)
                    if log is not None:
                        log.write({"step": at.step, "event": "collapse", "detail": line})
                if at.stage_step + 1 == at.stage_steps and loop.done < loop.plan.total:
                    save(loop, loop.run.stage_path(at.stage) / "checkpoints")
                if on_step is not None and on_step(loop.done, loop.plan.total, at.stage, loss) is True:
                    asked.set()
                if stop or (asked.is_set() and processes.count() == 1):
                    save(loop)
                    raise Stopped(
                        f"{loop.run.path}: stopped at step {loop.done} of {loop.plan.total}, saved; go on with --resume"
                    )
                if overdue:
                    save(loop)
                    saved = now()
            with processes.alone():
                loop.method.finish(loop.data, loop.seed)
            save(loop)
    except DivergedError as error:
        if log is not None:
            log.write({"step": loop.done, "event": "diverged", "detail": str(error)})
        last = checkpoint.listing(loop.run.checkpoints)
        where = f"last good checkpoint {last[-1]}" if last else "no checkpoint yet"
        raise DivergedError(f"{error}; {where}; try a smaller rate (--set lr=...)") from None
    finally:
        if log is not None:
            log.close()


def save(loop: Loop, folder: Path | None = None) -> None:
    """A checkpoint. Of several processes the first writes it, after all have made sure that they agree."""
    processes.agree(loop.method.networks.values())
    if not processes.first():
        return
    record = replace(loop.record, step=loop.done, plan=loop.plan, clock=loop.clock, watch=loop.watch)
    checkpoint.save(folder or loop.run.checkpoints, record, loop.method.tensors())


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event; a second one ends the process at once. Outside the main thread signals are left alone."""
    asked, at, several = threading.Event(), math.nan, processes.count() > 1
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal at
        second = not math.isnan(at)
        if second and (not several or now() - at > GRACE_SECONDS):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        at = at if second else now()
        asked.set()

    kept = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
