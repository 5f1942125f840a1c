"""Two denoisers on the same images, by the error that needs no truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairfree.data.sets import array_set
from pairfree.diagnosis.set_facts import measure_set
from pairfree.examination.laws import ImageLaws, find_laws
from pairfree.examination.probe import (
    ALPHA,
    Denoise,
    Disturbance,
    Probe,
    disturb,
    pass_twice,
    standard_error,
)
from pairfree.examination.refusal import find_clipping, find_refusal
from pairfree.files.intensity import UNKNOWN_UNIT

FloatArray = NDArray[np.float64]

BETTER_DB, SURE = 0.05, 3.0
"""By which a denoiser must be nearer, and standard errors of it."""


@dataclass(frozen=True)
class Comparison:
    """Which of two denoisers is nearer to the truth."""

    decibels: float
    """By which the second is nearer; below 0 where the first is."""
    significance: float
    """Of that, standard errors."""

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
    planes = [plane for plane in planes if all(len(np.unique(one[::4, ::4])) > 2 for one in plane)]
    if not planes:
        return []
    facts = measure_set(array_set([plane.astype(np.float32) for plane in planes], "image"))
    refused = find_refusal(facts, UNKNOWN_UNIT) or find_clipping(facts)
    found = find_laws(planes, bool(facts.signs["differ"]))
    if refused is not None or any(law.correlated for one in found for law in one.laws):
        return []
    rng = np.random.default_rng(0)
    trials = []
    for plane, laws in zip(planes, found, strict=True):
        trials.append(Trial(plane, disturb(plane, laws.laws, rng), laws))
    return trials


def probe_trials(denoise: Denoise, trials: Sequence[Trial]) -> list[Probe]:
    """What a denoiser makes of all of them."""
    probes = []
    for one in trials:
        probes.append(pass_twice(denoise, one.noisy, one.disturbance, one.noisy))
    return probes


def compare_probes(first: Sequence[Probe], second: Sequence[Probe], law_error: float) -> Comparison:
    """Two denoisers, by the same added noise, so that most chance cancels."""
    apart, chance, moved, errors = [], [], [], []
    for one, other in zip(first, second, strict=True):
        farther = one.square_errors - other.square_errors
        apart.append(float(farther.mean()))
        chance.append(standard_error(farther))
        errors.append(float(one.square_errors.mean()))
        crossed = (one.above - one.below - other.above + other.below) * one.disturbance.noise
        moved.append(float(crossed.mean()) / ALPHA)
    mean = float(np.mean(apart))
    mse = max(float(np.mean(errors)), abs(mean), 1e-300)
    error = math.hypot(math.hypot(*chance) / len(chance), law_error * float(np.mean(moved)))
    decibels = -10.0 * math.log10(max(1.0 - mean / mse, 0.1))  # more than 10 dB is not told
    return Comparison(decibels, mean / error if error > 0 else 0.0)
