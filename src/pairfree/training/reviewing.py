"""Whether training came nearer to the truth than its start, by the error that needs no truth."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pairfree.data import processes
from pairfree.engine.predictor import Predictor
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
_say = logging.getLogger("pairfree")


@dataclass
class Review:
    """Compares a run with its start, half way and at the end."""

    job: Job
    start: dict[str, Tensor]
    """Weights of the denoiser as the run began."""
    half: int
    """The step at which it is compared on the way."""
    looked: bool = False
    """Whether that was done."""

    def ends(self, done: int, total: int) -> bool:
        """Whether training should end here, half way, as nothing is gained."""
        if self.looked or done < self.half or done >= total:
            return False
        self.looked = True
        found = self.compare()
        if found is None or not found.second_is_better:
            return False
        _say.log(
            NOTE,
            "training ends half way: it moved away from the truth, by %.2f dB as estimated, from the network "
            "that it began from",
            found.decibels,
        )
        return True

    def keep_better(self) -> bool:
        """Put the start back where it is nearer to the truth than what training made of it."""
        found = self.compare()
        if found is None or not found.second_is_better:
            return False
        restore_start(self.job.method, self.start)
        _say.log(
            NOTE,
            "the network that training began from is kept: it is nearer to the truth, by about %.2f dB",
            found.decibels,
        )
        return True

    def compare(self) -> Comparison | None:
        """The run as it is against its start; None where the noise does not allow it."""
        if not self._trials:
            return None
        variances = [float(one.disturbance.variance.sum()) for one in self._trials]
        error = pool_errors([one.laws for one in self._trials], variances)
        return compare_probes(self._probe(), self._probes_of_start, error)

    @cached_property
    def _trials(self) -> list[Trial]:
        return prepare_trials(_choose_planes(self.job))

    @cached_property
    def _probes_of_start(self) -> list[Passes]:
        net = self.job.method.denoiser
        now = {name: value.detach().clone() for name, value in net.state_dict().items()}
        net.load_state_dict(self.start)
        try:
            return self._probe()
        finally:
            net.load_state_dict(now)

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


def plan_review(job: Job, done: int, total: int) -> Review | None:
    """What is to be compared; None where a run is short, has no start, or the error cannot tell.

    With clean images of other scenes the brightness may be meant to change, which the error takes for a
    fault.
    """
    method = job.method
    apart = method.needs.clean or method.needs.target or processes.count() > 1
    if apart or total < FEWEST_STEPS or job.noisy.reading.slices_around:
        return None
    start = read_start(method)
    if start is None:
        return None
    half = total // 2
    return Review(job, start, half, looked=done >= half)


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
