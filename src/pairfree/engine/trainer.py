"""The only training loop.

It counts steps, logs, saves, stops when asked; what a step does is the method's business.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from torch import Tensor

from pairfree.data import processes
from pairfree.data.patches import TrainingData
from pairfree.engine import checkpoint
from pairfree.engine.plan import Clock, Plan
from pairfree.engine.record import EARLY, Record
from pairfree.engine.run import EventLog, RunFolder, now
from pairfree.engine.watch import Watch
from pairfree.errors import DivergedError, PairfreeError
from pairfree.methods.base import At, Method

_say = logging.getLogger("pairfree")
OnStep = Callable[[int, int, str, float | None], object]
"""Called with (steps done, total, stage, latest logged loss) after each step; returns True to stop."""
CHECKPOINT_SECONDS = 30.0
"""Time between checkpoints."""
GRACE_SECONDS = 20.0
"""torchrun passes on a signal that its processes got already: only one that comes later is a second one."""


class Stopped(PairfreeError):
    """Training was asked to stop (SIGINT, SIGTERM, or by the caller); a checkpoint stands."""

    exit_code = 130


@dataclass
class Loop:
    """The state of a loop, all of it: what is not here is in the method or a function of the step."""

    method: Method
    data: TrainingData
    plan: Plan
    seed: int
    run: RunFolder
    record: Record
    """What a checkpoint says of the run, but how far it is."""
    done: int = 0
    """Steps."""
    clock: Clock | None = None
    """Of a budget in minutes; None where steps are counted."""
    watch: Watch = field(default_factory=Watch)
    """Of signs of a collapse."""
    ends: Callable[[int, int], bool] | None = None
    """(steps done, steps planned) -> whether nothing is gained any more, so that training ends."""

    @property
    def ended(self) -> bool:
        """Whether all steps are done, or the run ended before."""
        return bool(self.record.ending) or self.done >= self.plan.total


def train(loop: Loop, on_step: OnStep | None = None) -> None:
    """Run ``loop`` from ``loop.done`` to the end of its plan.

    Parameters
    ----------
    loop
        Is changed as it goes on.
    on_step
        Called with (steps done, total, stage, latest logged loss) after each step; returns True to stop.

    Raises
    ------
    DivergedError
        With the last good checkpoint named.
    Stopped
        After a checkpoint, when a signal or ``on_step`` asked for it.
    """
    log = EventLog(loop.run.events_path) if processes.first() else None
    try:
        with _catch_signals() as asked:
            _Training(loop, log, asked, on_step).run()
            with processes.alone():
                loop.method.finish(loop.data, loop.seed)
            save(loop)
    except DivergedError as error:
        if log is not None:
            log.write({"step": loop.done, "event": "diverged", "detail": str(error)})
        last = checkpoint.listing(loop.run.checkpoints)
        where = f"last good checkpoint {last[-1]}" if last else "no checkpoint yet"
        raise DivergedError(f"{error}; {where}; try a smaller rate (`settings` lr=...)") from None
    finally:
        if log is not None:
            log.close()


class _Training:
    """The steps of a loop, and what happens between them."""

    def __init__(
        self, loop: Loop, log: EventLog | None, asked: threading.Event, on_step: OnStep | None
    ) -> None:
        self.loop, self.log, self.asked, self.on_step = loop, log, asked, on_step
        self.loss: float | None = None
        """As it was last logged."""
        self.saved = now()
        """When the last checkpoint was written."""
        self.ticked = self.saved
        """When the last step ended."""

    def run(self) -> None:
        """All steps that are left."""
        loop = self.loop
        patches = processes.part_of(loop.method.batch_size)
        for net in loop.method.networks.values():
            net.train()  # a network that has been applied before is in eval mode
        if loop.done == 0:
            save(loop)
        self.ticked = now()
        while not loop.ended:
            at = loop.plan.at(loop.seed, loop.done)
            logged = loop.method.step(loop.data.batch(loop.seed, at.step, patches), at)
            loop.done += 1
            refit, stop, overdue = processes.any_of(
                self._tick(at), self.asked.is_set(), self._is_overdue()
            )
            if refit:
                self._refit()
            self._log(at, logged)
            self._watch(at, logged)
            self._save_stage(at)
            self._tell(at)
            self._end_where_nothing_is_gained()
            self._stop_if_asked(stop)
            if overdue:
                self._save()

    def _tick(self, at: At) -> bool:
        """Count the time of a step. True where the plan of a time budget should be refitted."""
        clock = self.loop.clock
        if clock is None:
            return False
        before, self.ticked = self.ticked, now()
        due = clock.tick(self.loop.plan, at, self.ticked - before)
        return due and (not self.loop.ended or clock.much_left())

    def _refit(self) -> None:
        """Count anew the steps that are left of a time budget; all processes go by the first one's count."""
        clock = self.loop.clock
        if clock is not None:
            plan = clock.refit(self.loop.plan, self.loop.done)
            self.loop.plan = Plan.of(processes.shared(plan.as_list()))

    def _log(self, at: At, logged: Mapping[str, Tensor]) -> None:
        """Write down the numbers of a step: of every so many, and of the last."""
        if at.step % self.loop.plan.log_every != 0 and not self.loop.ended:
            return
        values = {name: float(value) for name, value in logged.items()}
        self.loss = values.get("loss")
        self._note({"step": at.step, "stage": at.stage, **values})

    def _watch(self, at: At, logged: Mapping[str, Tensor]) -> None:
        """Warn of signs of a collapse."""
        for line in self.loop.watch.find_signs(logged):
            _say.warning("step %d: %s", at.step, line)
            self._note({"step": at.step, "event": "collapse", "detail": line})

    def _note(self, event: Mapping[str, object]) -> None:
        if self.log is not None:
            self.log.write(event)

    def _save_stage(self, at: At) -> None:
        """Keep the model as a stage left it; the last one's is the model."""
        if at.stage_step + 1 == at.stage_steps and not self.loop.ended:
            save(self.loop, self.loop.run.stage_path(at.stage) / "checkpoints")

    def _tell(self, at: At) -> None:
        """Tell the caller, who may ask to stop."""
        if self.on_step is None:
            return
        if self.on_step(self.loop.done, self.loop.plan.total, at.stage, self.loss) is True:
            self.asked.set()

    def _end_where_nothing_is_gained(self) -> None:
        """End here, for good."""
        loop = self.loop
        if loop.ends is None or not loop.ends(loop.done, loop.plan.total):
            return
        loop.record = replace(loop.record, ending=EARLY)
        self._note({"step": loop.done, "event": "ended", "detail": "before all steps were done"})

    def _stop_if_asked(self, stop: bool) -> None:
        """Save and raise ``Stopped`` where all processes know of the wish.

        One alone need not wait for the next step.
        """
        loop = self.loop
        if not stop and not (self.asked.is_set() and processes.count() == 1):
            return
        save(loop)
        raise Stopped(
            f"{loop.run.path}: stopped at step {loop.done} of {loop.plan.total}, saved; go on with `resume`"
        )

    def _is_overdue(self) -> bool:
        return now() - self.saved > CHECKPOINT_SECONDS

    def _save(self) -> None:
        save(self.loop)
        self.saved = now()


def save(loop: Loop, folder: Path | None = None, keep: int = checkpoint.KEEP) -> None:
    """Write a checkpoint, into the run's folder or another, of which so many stay.

    Of several processes the first writes it, after all have made sure that they agree.
    """
    processes.agree(loop.method.networks.values())
    if not processes.first():
        return
    record = replace(
        loop.record, step=loop.done, plan=loop.plan, clock=loop.clock, watch=loop.watch
    )
    checkpoint.save(folder or loop.run.checkpoints, record, loop.method.tensors(), keep)


@contextmanager
def _catch_signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event; a second one ends the process at once.

    Outside the main thread signals are left alone.
    """
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
