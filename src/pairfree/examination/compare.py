"""Two denoisers on the same images, by the error that needs no truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairfree.examination.laws import ImageLaws, find_laws, measure_planes, shows_something
from pairfree.examination.probe import (
    Denoise,
    Disturbance,
    Passes,
    compare_errors,
    disturb,
    pass_twice,
)
from pairfree.examination.refusal import find_clipping, find_refusal
from pairfree.files.intensity import UNKNOWN_UNIT

FloatArray = NDArray[np.float64]

MOST_DB = 10.0
"""That are told."""
BETTER_DB, SURE = 0.05, 3.0
"""By which a denoiser must be nearer, and standard errors of it."""


@dataclass(frozen=True)
class Comparison:
    """Which of two denoisers is nearer to the truth."""

    decibels: float
    """By which the second is nearer; below 0 where the first is."""
    significance: float
    """Of that, standard errors."""
    error: float
    """Standard error of ``decibels``."""

    @property
    def gain(self) -> str:
        """The decibels, for reading."""
        return f"{MOST_DB:g} dB or more" if self.decibels >= MOST_DB else f"{self.decibels:.2f} dB"

    @property
    def alike(self) -> bool:
        """Whether both make the same of everything."""
        return self.decibels == 0 and self.error == 0

    @property
    def second_is_better(self) -> bool:
        """Whether it is nearer by enough, and surely."""
        return self.decibels > BETTER_DB and self.significance > SURE


@dataclass(frozen=True)
class Trial:
    """A noisy image, the noise that is added to it, and how well its law is known."""

    noisy: FloatArray
    disturbance: Disturbance
    laws: ImageLaws


def prepare_trials(planes: Sequence[FloatArray]) -> list[Trial]:
    """What denoisers are compared on; none where the noise is of no known law, or neighbours share it.

    Parameters
    ----------
    planes
        Images (C, H, W) of the same channels, intensity units.
    """
    planes = [plane for plane in planes if shows_something(plane)]
    if not planes:
        return []
    facts = measure_planes(planes)
    refused = find_refusal(facts, UNKNOWN_UNIT) or find_clipping(facts)
    found = find_laws(planes, bool(facts.signs["differ"]))
    if refused is not None or any(law.correlated for one in found for law in one.laws):
        return []
    rng = np.random.default_rng(0)
    trials = []
    for plane, laws in zip(planes, found, strict=True):
        trials.append(Trial(plane, disturb(plane, laws.laws, rng), laws))
    return trials


def probe_trials(denoise: Denoise, trials: Sequence[Trial]) -> list[Passes]:
    """What a denoiser makes of all of them."""
    probes = []
    for one in trials:
        probes.append(pass_twice(denoise, one.noisy, one.disturbance))
    return probes


def compare_probes(
    first: Sequence[Passes], second: Sequence[Passes], law_error: float
) -> Comparison:
    """Two denoisers, by the same added noise, so that most chance cancels."""
    apart = [compare_errors(one, other) for one, other in zip(first, second, strict=True)]
    mean = float(np.mean([one.mean for one in apart]))
    chance = math.hypot(*(one.chance_se for one in apart)) / len(apart)
    law_part = float(np.mean([one.law_part for one in apart]))
    error = math.hypot(chance, law_error * law_part)
    errors = [float(one.square_errors.mean()) for one in first]
    mse = max(float(np.mean(errors)), abs(mean), 1e-300)
    decibels = -10.0 * math.log10(max(1.0 - mean / mse, 10.0 ** (-MOST_DB / 10.0)))
    error_db = 10.0 / math.log(10.0) * error / mse
    return Comparison(decibels, mean / error if error > 0 else 0.0, error_db)
