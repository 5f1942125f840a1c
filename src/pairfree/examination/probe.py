"""One image through a denoiser, three times: as it is, and a little noisier in two opposite ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pairfree.measure.local_moments import block_means
from pairfree.measure.noise_law import NoiseLaw

FloatArray = NDArray[np.float64]
Denoise = Callable[[FloatArray], FloatArray]
"""(C, H, W) -> (C, H, W), intensity units."""

ALPHA = 0.15
"""Size of what is added, in deviations of the noise: with 0.25 the network sees 6 % more noise than it
should, and its error seems 0.15 dB larger."""
BLOCK_PX = 32
"""Side of the blocks whose scatter gives standard errors."""
BRIGHTNESS_PX = 2.0
"""Gaussian through which an image tells the brightness that its noise follows, pixels."""
LEAST_VARIANCE = 1e-3
"""Of the mean: no part of an image is taken for free of noise."""


@dataclass(frozen=True)
class Disturbance:
    """Noise of an image's own law, to be added to it."""

    noise: FloatArray
    """(C, H, W), intensity units."""
    variance: FloatArray
    """Of the noise in each pixel."""


@dataclass(frozen=True)
class Passes:
    """What a denoiser makes of two noisier versions of an image. All arrays (C, H, W), intensity units."""

    noisy: FloatArray
    disturbance: Disturbance
    above: FloatArray
    """Of the noisy image plus ``ALPHA`` times the disturbance."""
    below: FloatArray
    """Minus it."""

    @property
    def blind(self) -> bool:
        """Whether the output has nothing to do with the input."""
        return bool(np.array_equal(self.above, self.below))

    @property
    def inputs(self) -> tuple[FloatArray, FloatArray]:
        """What ``above`` and ``below`` were made of."""
        step = ALPHA * self.disturbance.noise
        return self.noisy + step, self.noisy - step

    @property
    def square_errors(self) -> FloatArray:
        """An unbiased estimate of each pixel's square error, which scatters widely."""
        apart = ((self.above - self.noisy) ** 2 + (self.below - self.noisy) ** 2) / 2.0
        shared = (self.above - self.below) * self.disturbance.noise / ALPHA
        return apart + shared - self.disturbance.variance


@dataclass(frozen=True)
class Probe(Passes):
    """The same, and what it makes of the image itself."""

    output: FloatArray


@dataclass(frozen=True)
class Difference:
    """By how much one denoiser's mean square error is larger than another's, intensity units squared."""

    mean: float
    chance_se: float
    """Its standard error by chance."""
    law_part: float
    """How far it moves when the noise's variance is taken for twice as large."""


def compare_errors(first: Passes, second: Passes) -> Difference:
    """The first denoiser's error less the second's, by the same added noise, so that most chance cancels."""
    apart = first.square_errors - second.square_errors
    moved = (first.above - first.below) - (second.above - second.below)
    law_part = float((moved * first.disturbance.noise).mean()) / ALPHA
    return Difference(float(apart.mean()), standard_error(apart), law_part)


def disturb(image: FloatArray, laws: Sequence[NoiseLaw], rng: Generator) -> Disturbance:
    """Noise as it is in an image (C, H, W), noisy or not, of the law of each channel.

    The image is blurred for that: the denoiser under examination has no say in it.
    """
    variances, noises = [], []
    for law, plane in zip(laws, image, strict=True):
        variance = law.noise.variance(gaussian_filter(plane, BRIGHTNESS_PX))
        variance = np.maximum(variance, LEAST_VARIANCE * float(variance.mean()))
        variances.append(variance)
        noises.append(np.sqrt(variance) * law.draw((plane.shape[0], plane.shape[1]), rng))
    return Disturbance(np.stack(noises), np.stack(variances))


def probe_denoiser(
    denoise: Denoise, noisy: FloatArray, laws: Sequence[NoiseLaw], rng: Generator
) -> Probe:
    """Denoise an image and two noisier versions of it.

    Parameters
    ----------
    denoise
        What is examined; called three times.
    noisy
        (C, H, W), intensity units.
    laws
        Of the noise of each channel.
    rng
        For the noise that is added.
    """
    output = denoise(noisy)
    passes = pass_twice(denoise, noisy, disturb(noisy, laws, rng))
    return Probe(noisy, passes.disturbance, passes.above, passes.below, output)


def pass_twice(denoise: Denoise, noisy: FloatArray, disturbance: Disturbance) -> Passes:
    """Denoise the two noisier versions, by noise that was drawn before: two denoisers are compared by it."""
    step = ALPHA * disturbance.noise
    return Passes(noisy, disturbance, denoise(noisy + step), denoise(noisy - step))


def standard_error(values: FloatArray) -> float:
    """Of the mean of (C, H, W), from the scatter of blocks; channels show the same scene."""
    means = block_means(values.mean(axis=0), BLOCK_PX)
    return float(means.std(ddof=1) / np.sqrt(means.size)) if means.size > 1 else float("inf")
