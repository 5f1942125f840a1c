"""How many steps each stage of a run has. Minutes become steps at the start, and steps are refitted to the minutes on the way."""

from __future__ import annotations

import copy
import math
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
WARM_UP_STEPS = 3
MEASURE_SECONDS = 2.0
REFITS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Shares of a time budget after which the steps that are left are counted anew."""
STAGE_REFITS = (0.25, 0.5, 0.9)
"""Likewise shares of the steps of a stage: one that was timed while the machine was busy would end long before its time."""
PRIOR_SHARE, OVERALL_PRIOR_SHARE = 0.005, 0.02
"""Shares of the budget that must have been foretold before the pace of a stage counts as much as that of the whole run, and that of the
whole run as much as the pace that was timed."""
MUCH_LEFT = 0.1
"""Share of the budget for which a run whose steps are all done goes on."""


@dataclass(frozen=True)
class Plan:
    """How many steps each stage has; part of the checkpoint, so that a resumed run goes on as it would have."""

    stages: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        return sum(steps for _, steps in self.stages)

    def as_list(self) -> list[list[Any]]:
        return [list(stage) for stage in self.stages]

    @classmethod
    def of(cls, listed: Iterable[Sequence[Any]]) -> Plan:
        """Inverse of ``as_list``."""
        return cls(tuple((str(name), int(steps)) for name, steps in listed))

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
        raise ConfigError(
            f"--steps {steps}: this method has {len(stages)} stages and needs at least one step for each"
        )
    lengths = [max(1, round(steps * stage.share)) for stage in stages[:-1]]
    while sum(lengths) >= steps:
        lengths[lengths.index(max(lengths))] -= 1
    lengths.append(steps - sum(lengths))
    return Plan(tuple((stage.name, length) for stage, length in zip(stages, lengths, strict=True)))


@dataclass
class Clock:
    """A time budget as it is used up.

    A machine's pace changes by a quarter within minutes (other programs, heat, neighbours on a shared host), so a count made in the
    first seconds would miss the budget by as much. What is timed there are the *proportions*: a step of the first and of the second
    half of each stage. The ratio of real to foretold time, of the stage under way above all, then tells at every refit how many steps the
    rest of the budget holds.

    budget_s    seconds of the whole run, planning included
    shares      of the stages
    paces       seconds a step in the first and in the second half of each stage, as first timed
    planned_s   seconds that the timing took
    spent_s     seconds of the steps done, over all processes of the run
    foretold_s  seconds that the steps done would have taken at ``paces``
    stages_s    spent and foretold, of each stage
    """

    budget_s: float
    shares: list[float]
    paces: list[list[float]]
    planned_s: float = 0.0
    spent_s: float = 0.0
    foretold_s: float = 0.0
    stages_s: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stages_s = self.stages_s or [[0.0, 0.0] for _ in self.shares]

    @classmethod
    def start(cls, method: Method, data: TrainingData, minutes: float, seed: int) -> Clock:
        """Time each stage on a copy of the method; the timing is paid from the budget. Processes do not wait for each other in it."""
        started = time.perf_counter()
        stages, patches = method.stages(), processes.part_of(method.batch_size)
        measure = min(MEASURE_SECONDS, 0.02 * minutes * 60.0 / len(stages))
        with processes.alone():
            paces = [
                _seconds_per_step(copy.deepcopy(method), data, seed, stage.name, measure, patches)
                for stage in stages
            ]
        return cls(minutes * 60.0, [stage.share for stage in stages], paces, time.perf_counter() - started)

    def plan(self, method: Method) -> Plan:
        """The first plan, at the paces as timed."""
        left = max(0.0, self.budget_s - self.planned_s)
        return Plan(
            tuple(
                (stage.name, max(1, int(left * stage.share / (sum(pace) / 2.0))))
                for stage, pace in zip(method.stages(), self.paces, strict=True)
            )
        )

    def tick(self, plan: Plan, at: At, seconds: float) -> bool:
        """Count one step. True when the plan should be refitted."""
        before = self.spent_s
        self.spent_s += seconds
        stage = [name for name, _ in plan.stages].index(at.stage)
        foretold = self.paces[stage][at.progress >= 0.5]
        self.foretold_s += foretold
        self.stages_s[stage] = [self.stages_s[stage][0] + seconds, self.stages_s[stage][1] + foretold]
        return any(before < share * self.budget_s <= self.spent_s for share in REFITS) or any(
            at.stage_step < share * at.stage_steps <= at.stage_step + 1 for share in STAGE_REFITS
        )

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
        """``plan`` with the steps that are left counted anew; stages that are over keep their lengths, but the last where much is left.

        The stage under way ends when its share of the time does: with r = spent / foretold, a stage of L steps of which s are done still
        takes r ((L/2 - s) first + (L/2) second) seconds before its middle, r (L - s) second after it.
        """
        stages, before, until, under_way = [], 0, -self.planned_s, True
        for stage, ((name, length), share, (first, second)) in enumerate(
            zip(plan.stages, self.shares, self.paces, strict=True)
        ):
            until += share * self.budget_s
            here = min(max(done - before, 0), length)
            before += length
            if here < length or (stage == len(self.shares) - 1 and self.much_left()):
                left = max(
                    0.0, until - self.spent_s if under_way else share * self.budget_s
                ) / self._slowness(stage)
                under_way = False
                fresh = 2.0 * (left + here * first) / (first + second)
                length = max(here + 1, int(fresh if here < fresh / 2.0 else here + left / second))
            stages.append((name, length))
        return Plan(tuple(stages))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Clock:
        """Inverse of ``as_dict``. ValueError for anything else."""
        numbers = ("budget_s", "planned_s", "spent_s", "foretold_s")
        try:
            clock = cls(**values)
            pairs = (*clock.paces, *clock.stages_s)
            flat = [
                *clock.shares,
                *(value for pair in pairs for value in pair),
                *(getattr(clock, name) for name in numbers),
            ]
            sound = all(
                isinstance(value, int | float) and math.isfinite(value) and value >= 0 for value in flat
            )
            sound = (
                sound
                and clock.budget_s > 0
                and all(len(pair) == 2 for pair in pairs)
                and min(map(min, clock.paces), default=1) > 0
            )
        except TypeError:
            sound = False
        if not sound or not len(clock.paces) == len(clock.stages_s) == len(clock.shares):
            raise ValueError(f"no clock: {values!r:.80}")
        return clock

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def _seconds_per_step(
    trial: Method, data: TrainingData, seed: int, stage: str, seconds: float, patches: int
) -> list[float]:
    """Of a step in the first and in the second half of a stage, in turn, so that both meet the same machine."""
    taken, done = [0.0, 0.0], 0
    while done < 2 * WARM_UP_STEPS + 2 or sum(taken) < seconds or done % 2:
        half = done % 2
        started = time.perf_counter()
        trial.step(data.batch(seed, done, patches), At(seed, done, stage, 250 + 500 * half, 1000))
        if data.noisy.device.type == "cuda":
            torch.cuda.synchronize(data.noisy.device)
        if done >= 2 * WARM_UP_STEPS:
            taken[half] += time.perf_counter() - started
        done += 1
    return [max(spent, 1e-9) / (done / 2 - WARM_UP_STEPS) for spent in taken]
