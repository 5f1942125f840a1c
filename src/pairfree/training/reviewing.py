"""Whether training comes nearer to the truth than its start and its earlier states.

By the error that needs no truth.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pairfree.data import processes
from pairfree.engine.plan import Plan
from pairfree.engine.predictor import Predictor
from pairfree.engine.record import EARLIER_KEPT, START_KEPT
from pairfree.evidence.rows import WITHIN_90
from pairfree.examination.compare import (
    Comparison,
    Trial,
    compare_probes,
    prepare_trials,
    probe_trials,
)
from pairfree.examination.examine import LEAST_PX
from pairfree.examination.laws import pool_errors
from pairfree.examination.probe import Passes
from pairfree.files.spans import centre_of
from pairfree.plain import NOTE
from pairfree.sampling import spaced_indices
from pairfree.training.job import Job
from pairfree.training.restoring import read_start, restore_start

FloatArray = NDArray[np.float64]

IMAGES, SIDE_PX = 4, 192
"""That are looked at, and of each so much: a second or two."""
FEWEST_STEPS = 200
"""Of shorter runs nothing is looked at."""
LOOKS = 4
"""Parts of a run, at whose ends it is looked at."""
NOTHING_DB = 0.02
"""Where nine in ten times no more than this was gained since the look before, nothing is gained any more."""
_say = logging.getLogger("pairfree")


@dataclass
class Review:
    """Compares a run with its start and with its earlier states, at each quarter and at the end."""

    job: Job
    start: Mapping[str, Tensor]
    """Weights of the denoiser as the run began."""
    keep: Callable[[], None]
    """Saves the run as it is as the state that is nearest to the truth so far."""
    looked: int = 0
    """Quarters that have been looked at."""
    earlier: Mapping[str, Tensor] | None = None
    """Weights of all networks in that state; None for the start."""
    _probes_of_nearest: list[Passes] = field(default_factory=list)

    def ends(self, done: int, total: int) -> bool:
        """Whether training should end here, as it moved away from the truth or nothing is gained any more."""
        quarter = LOOKS * done // total
        if quarter <= self.looked or done >= total or not self._trials:
            return False
        self.looked = quarter
        probes = self._probe()
        found = self._compare(probes)
        at = f"training ends after {done:,} of {total:,} steps"
        if found.second_is_better:
            moved = "%s: it moved away from the truth, by %s as estimated, from %s"
            _say.log(NOTE, moved, at, found.gain, self._nearest)
            return True
        if found.alike:  # nothing has been trained yet
            return False
        if quarter >= LOOKS // 2 and WITHIN_90 * found.error - found.decibels < NOTHING_DB:
            _say.log(NOTE, "%s: nothing is gained any more, as estimated", at)
            return True
        if found.decibels < 0:
            self.earlier = self._copy_weights()
            self._probes_of_nearest = probes
            self.keep()
        return False

    def keep_better(self) -> str:
        """Put the start or an earlier state back where it is nearer to the truth than the run as it is.

        Returns how the run ended, of ``engine.record.ENDINGS``; "" where nothing was put back.
        """
        found = self.compare()
        if found is None or not found.second_is_better:
            return ""
        self._put_nearest()
        text = "%s is kept: it is nearer to the truth, by about %s"
        _say.log(NOTE, text, self._nearest, found.gain)
        if self.earlier is None:
            return START_KEPT
        self.job.method.finish(self.job.data, self.job.seed)
        return EARLIER_KEPT

    def compare(self) -> Comparison | None:
        """The run as it is against the nearest state; None where the noise does not allow it."""
        return self._compare(self._probe()) if self._trials else None

    @property
    def _nearest(self) -> str:
        return "the network that it began from" if self.earlier is None else "an earlier state"

    def _compare(self, probes: Sequence[Passes]) -> Comparison:
        variances = [float(one.disturbance.variance.sum()) for one in self._trials]
        error = pool_errors([one.laws for one in self._trials], variances)
        if not self._probes_of_nearest:
            self._probes_of_nearest = self._probe_nearest()
        return compare_probes(probes, self._probes_of_nearest, error)

    @cached_property
    def _trials(self) -> list[Trial]:
        return prepare_trials(_choose_planes(self.job))

    def _put_nearest(self) -> None:
        if self.earlier is None:
            restore_start(self.job.method, self.start)
        else:
            self.job.method.load_tensors(self.earlier, optimizers=False)

    def _probe_nearest(self) -> list[Passes]:
        now = self._copy_weights()
        self._put_nearest()
        try:
            return self._probe()
        finally:
            self.job.method.load_tensors(now, optimizers=False)

    def _copy_weights(self) -> dict[str, Tensor]:
        """Of all networks, as they are now."""
        weights = self.job.method.weights()
        return {name: value.detach().clone() for name, value in weights.items()}

    def _probe(self) -> list[Passes]:
        """What the networks make of the trials; they train on afterwards."""
        networks = self.job.method.networks.values()
        training = [net.training for net in networks]
        for net in networks:
            net.eval()
        try:
            return probe_trials(self._denoise, self._trials)
        finally:
            for net, trains in zip(networks, training, strict=True):
                net.train(trains)

    @cached_property
    def _predictor(self) -> Predictor:
        job = self.job
        return Predictor(job.method, job.normalizer, job.noisy.channels)

    def _denoise(self, planes: FloatArray) -> FloatArray:
        made = self._predictor.predict(planes.astype(np.float32))
        return made.astype(np.float64)


def plan_review(
    job: Job,
    done: int,
    plan: Plan,
    keep: Callable[[], None],
    earlier: Mapping[str, Tensor] | None = None,
) -> Review | None:
    """What is to be compared; None where a run is short, has no start, or the error cannot tell.

    With clean images of other scenes the brightness may be meant to change, which the error takes for a
    fault.

    Parameters
    ----------
    job
        Of the run.
    done
        Steps.
    plan
        Of all steps. One of several stages is looked at in the end alone: not each trains the denoiser.
    keep, earlier
        See ``Review``; ``earlier`` is what was kept before a run was stopped.
    """
    method = job.method
    apart = method.needs.clean or method.needs.target or processes.count() > 1
    if apart or plan.total < FEWEST_STEPS or job.noisy.reading.slices_around:
        return None
    start = read_start(method)
    if start is None:
        return None
    looked = LOOKS * done // plan.total if len(plan.stages) == 1 else LOOKS
    return Review(job, start, keep, looked, earlier)


def _choose_planes(job: Job) -> list[FloatArray]:
    """Middles of a few images."""
    found = []
    for index in spaced_indices(len(job.noisy.planes), IMAGES):
        plane = job.noisy.planes[index]
        rows, columns = centre_of(plane.shape[1], plane.shape[2], SIDE_PX)
        part = np.asarray(plane[:, rows, columns], np.float64)
        if min(part.shape[1:]) >= LEAST_PX:
            found.append(part)
    return found
