"""How many steps each stage of a run has.

Minutes become steps at the start, and steps are refitted to the minutes on the way.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pairfree.data import processes
from pairfree.data.patches import TrainingData
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Method

LOGGED_POINTS = 500
"""Steps of a run whose numbers are logged, at least, where it has so many."""
WARM_UP_STEPS = 3
"""Steps of each half that are not timed."""
MEASURE_SECONDS = 2.0
"""How long each stage is timed, at most."""
REFITS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Shares of a time budget after which the steps that are left are counted anew."""
STAGE_REFITS = (0.25, 0.5, 0.9)
"""Likewise shares of the steps of a stage: one that was timed while the machine was busy would end long
before its time."""
PRIOR_SHARE = 0.005
"""Share of the budget that must have been foretold before the pace of a stage counts as much as that of the
whole run."""
OVERALL_PRIOR_SHARE = 0.02
"""Share of the budget that must have been foretold before the pace of the whole run counts as much as the
timed one."""
SHORTEST_SECONDS, LONGEST_SECONDS = 1e-15, 1e12
"""Of a step, and of all steps together, as far as a clock believes them."""
MUCH_LEFT = 0.1
"""Share of the budget for which a run whose steps are all done goes on."""


@dataclass(frozen=True)
class Plan:
    """How many steps each stage has.

    It is part of the checkpoint, so that a resumed run goes on as it would have.
    """

    stages: tuple[tuple[str, int], ...]
    """Name and steps of each."""

    @property
    def total(self) -> int:
        """Steps of all stages."""
        return sum(steps for _, steps in self.stages)

    def as_list(self) -> list[list[Any]]:
        """[name, steps] of each stage, as JSON holds it."""
        return [list(stage) for stage in self.stages]

    @classmethod
    def of(cls, listed: Iterable[Sequence[Any]]) -> Plan:
        """Inverse of ``as_list``."""
        stages = [(str(name), int(steps)) for name, steps in listed]
        return cls(tuple(stages))

    def at(self, seed: int, step: int) -> At:
        """Where a step of the run stands. IndexError behind the last."""
        before = 0
        for name, steps in self.stages:
            if step < before + steps:
                return At(seed, step, name, step - before, steps)
            before += steps
        raise IndexError(f"step {step} of a plan of {before}")

    @property
    def log_every(self) -> int:
        """Of how many steps one is logged."""
        return max(1, self.total // LOGGED_POINTS)


def plan_steps(method: Method, steps: int) -> Plan:
    """Split a number of steps by the stages' shares; each stage gets at least one.

    Raises
    ------
    ConfigError
        For fewer steps than stages.
    """
    stages = method.stages()
    if steps < len(stages):
        raise ConfigError(
            f"`steps` {steps}: this method has {len(stages)} stages and needs at least one step for each"
        )
    lengths = [max(1, round(steps * stage.share)) for stage in stages[:-1]]
    while sum(lengths) >= steps:
        lengths[lengths.index(max(lengths))] -= 1
    lengths.append(steps - sum(lengths))
    names = [stage.name for stage in stages]
    return Plan(tuple(zip(names, lengths, strict=True)))


@dataclass
class Clock:
    """A time budget as it is used up.

    A machine's pace changes by a quarter within minutes (other programs, heat, neighbours on a shared host),
    so a count made in the first seconds would miss the budget by as much. What is timed there are the
    *proportions*: a step of the first and of the second half of each stage. The ratio of real to foretold
    time, of the stage under way above all, then tells at every refit how many steps the rest of the budget
    holds.
    """

    budget_s: float
    """Seconds of the whole run, planning included."""
    shares: list[float]
    """Of the stages."""
    paces: list[list[float]]
    """Seconds a step in the first and in the second half of each stage, as first timed."""
    planned_s: float = 0.0
    """Seconds that the timing took."""
    spent_s: float = 0.0
    """Seconds of the steps done, over all processes of the run."""
    foretold_s: float = 0.0
    """Seconds that the steps done would have taken at ``paces``."""
    stages_s: list[list[float]] = field(default_factory=list)
    """Spent and foretold, of each stage."""

    def __post_init__(self) -> None:
        self.stages_s = self.stages_s or [[0.0, 0.0] for _ in self.shares]

    @property
    def used_s(self) -> float:
        """Seconds of the budget that are used up: those of the timing and of the steps done."""
        return self.planned_s + self.spent_s

    @classmethod
    def start(cls, method: Method, data: TrainingData, minutes: float, seed: int) -> Clock:
        """Time each stage on a copy of the method; the timing is paid from the budget.

        Processes do not wait for each other in it.

        Parameters
        ----------
        method
            Is left as it is.
        data
            What it trains on.
        minutes
            The budget.
        seed
            Of the run.
        """
        started = time.perf_counter()
        budget_s = minutes * 60.0
        stages = method.stages()
        patches = processes.part_of(method.batch_size)
        measure_s = min(MEASURE_SECONDS, 0.02 * budget_s / len(stages))
        paces = []
        with processes.alone():
            for stage in stages:
                trial = copy.deepcopy(method)
                paces.append(_time_step(trial, data, seed, stage.name, measure_s, patches))
        shares = [stage.share for stage in stages]
        planned_s = time.perf_counter() - started
        return cls(budget_s, shares, paces, planned_s)

    def plan(self, method: Method) -> Plan:
        """The first plan, at the paces as timed."""
        left = max(0.0, self.budget_s - self.planned_s)
        stages = []
        for stage, pace in zip(method.stages(), self.paces, strict=True):
            mean_pace = sum(pace) / 2.0
            steps = int(left * stage.share / mean_pace)
            stages.append((stage.name, max(1, steps)))
        return Plan(tuple(stages))

    def tick(self, plan: Plan, at: At, seconds: float) -> bool:
        """Count one step. True when the plan should be refitted."""
        before = self.spent_s
        self.spent_s += seconds
        stage = [name for name, _ in plan.stages].index(at.stage)
        foretold = self.paces[stage][at.progress >= 0.5]
        self.foretold_s += foretold
        stage_spent, stage_foretold = self.stages_s[stage]
        self.stages_s[stage] = [stage_spent + seconds, stage_foretold + foretold]
        for share in REFITS:
            if before < share * self.budget_s <= self.spent_s:
                return True
        for share in STAGE_REFITS:
            due = share * at.stage_steps
            if at.stage_step < due <= at.stage_step + 1:
                return True
        return False

    def _slowness(self, stage: int) -> float:
        """Real over foretold time, of a stage as far as it has run, else of the whole."""
        prior = OVERALL_PRIOR_SHARE * self.budget_s
        overall = (self.spent_s + prior) / (self.foretold_s + prior)
        spent, foretold = self.stages_s[stage]
        prior = PRIOR_SHARE * self.budget_s
        return (spent + prior * overall) / (foretold + prior)

    def much_left(self) -> bool:
        """Whether so much of the budget is left that the last stage must have been planned too short."""
        return self.budget_s - self.planned_s - self.spent_s > MUCH_LEFT * self.budget_s

    def refit(self, plan: Plan, done: int) -> Plan:
        """``plan`` with the steps that are left counted anew.

        Stages that are over keep their lengths, but the last where much is left.

        Parameters
        ----------
        plan
            As it was followed so far.
        done
            Steps done.

        Notes
        -----
        The stage under way ends when its share of the time does: with r = spent / foretold, a stage of L
        steps of which s are done still takes r ((L/2 - s) first + (L/2) second) seconds before its middle, r
        (L - s) second after it.
        """
        stages = []
        before = 0
        until = -self.planned_s
        under_way = True
        for stage, (name, length) in enumerate(plan.stages):
            own_s = self.shares[stage] * self.budget_s
            until += own_s
            here = min(max(done - before, 0), length)
            before += length
            is_last = stage == len(self.shares) - 1
            if here < length or (is_last and self.much_left()):
                seconds = until - self.spent_s if under_way else own_s
                under_way = False
                length = self._stage_steps(stage, here, max(0.0, seconds))
            stages.append((name, length))
        return Plan(tuple(stages))

    def _stage_steps(self, stage: int, here: int, seconds: float) -> int:
        """Steps of a stage of which ``here`` are done, and whose rest should take so many seconds."""
        first, second = self.paces[stage]
        left = seconds / self._slowness(stage)
        steps = 2.0 * (left + here * first) / (first + second)
        if here >= steps / 2.0:
            steps = here + left / second
        return max(here + 1, int(steps))

    @classmethod
    def from_dict(cls, values: Any) -> Clock:
        """Inverse of ``as_dict``. ValueError for anything else."""
        try:
            clock = cls(**values)
            sound = clock._is_sound()
        except TypeError:
            sound = False
        if not sound:
            raise ValueError(f"no clock: {values!r:.80}")
        return clock

    def _is_sound(self) -> bool:
        """Whether all is what it should be; TypeError where lists are none."""
        pairs = (*self.paces, *self.stages_s)
        numbers: list[object] = [
            self.budget_s,
            self.planned_s,
            self.spent_s,
            self.foretold_s,
            *self.shares,
        ]
        for pair in pairs:
            numbers += [*pair]
        if not all(_is_amount(number) for number in numbers):
            return False
        if any(len(pair) != 2 for pair in pairs):
            return False
        if self.budget_s <= 0 or min(map(min, self.paces), default=1) < SHORTEST_SECONDS:
            return False
        return len(self.paces) == len(self.stages_s) == len(self.shares)

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, as JSON holds them."""
        return dict(vars(self))


def _is_amount(value: object) -> bool:
    """Whether this is a number of seconds that a clock can show, and not negative."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 <= value <= LONGEST_SECONDS


def _time_step(
    trial: Method,
    data: TrainingData,
    seed: int,
    stage: str,
    seconds: float,
    patches: int,
) -> list[float]:
    """Seconds of a step in the first and in the second half of a stage.

    They take turns, so that both meet the same machine.
    """
    taken = [0.0, 0.0]
    done = 0
    while done < 2 * WARM_UP_STEPS + 2 or sum(taken) < seconds or done % 2:
        half = done % 2
        started = time.perf_counter()
        batch = data.batch(seed, done, patches)
        at = At(seed, done, stage, 250 + 500 * half, 1000)
        trial.step(batch, at)
        if data.noisy.device.type == "cuda":
            torch.cuda.synchronize(data.noisy.device)
        if done >= 2 * WARM_UP_STEPS:
            taken[half] += time.perf_counter() - started
        done += 1
    timed = done / 2 - WARM_UP_STEPS
    return [max(spent, 1e-9) / timed for spent in taken]
