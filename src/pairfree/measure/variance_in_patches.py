"""How the variance of noise grows with the brightness, from smooth areas of noisy images; correlation between pixels does not matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.smooth_areas import NoisePatches, cut
from pairfree.measure.variance_line import PoissonGaussian, robust_line
from pairfree.sampling import spaced_indices

FloatArray = NDArray[np.float64]
MEASURED, SAMPLED = 1500, 10_000
"""Patches that are measured, spread over all that are smooth; pixels of each image that tell its brightness."""
SURE = 20.0
"""A gain of fewer standard errors, which assume normal scatter, counts as none: noise on BSD400 that does not grow gives up to
13 of either sign, since structure is left in some patches; that of cameras 40 and more."""
LEAST_GROWTH = 0.5
"""So does one that changes the variance by less than this, over the brightness of the images (5th to 95th percentile)."""


@dataclass(frozen=True)
class Growth:
    """Of each channel: gain and floor, gain 0 for noise that does not grow, or not surely; brightness of dark and of typical smooth areas
    (5th and 50th percentile); least and greatest value of the images. Intensity units."""

    noise: list[PoissonGaussian]
    dark: FloatArray
    typical: FloatArray
    ends: tuple[float, float]


def growth(images: Sequence[np.ndarray], found: NoisePatches) -> Growth:
    r"""How the noise of smooth areas grows with their brightness.

    Noise model   Z = x + N, E[N | x] = 0, var(N | x) = gain x + floor; the correlation of N is the same everywhere
    images        (C, H, W), those that ``found`` was cut out of, intensity units
    How           a line through means and variances of patches, whatever the level of their noise, by ``robust_line``; patches that
                  overlap count once in its standard error
    """
    places, side = found.passed.places, found.pixels.shape[-1]
    places = places[spaced_indices(len(places), MEASURED)]
    means = np.array(
        [
            images[i][:, top : top + side, left : left + side].mean(axis=(1, 2))
            for i, top, left in places.tolist()
        ]
    )
    variances = cut(images, places, side).var(axis=(2, 3), dtype=np.float64)
    overlap = math.sqrt(max(1.0, len(places) / found.passed.apart(side)))
    sample = np.concatenate(
        [image.reshape(len(image), -1)[:, :: max(1, image[0].size // SAMPLED)] for image in images], axis=1
    )
    reach = np.subtract(*np.percentile(sample, [95, 5], axis=1))
    noise = [
        _of_channel(means[:, c], variances[:, c], overlap, float(reach[c])) for c in range(means.shape[1])
    ]
    ends = float(min(image.min() for image in images)), float(max(image.max() for image in images))
    dark, typical = np.percentile(means, [5, 50], axis=0)
    return Growth(noise, dark, typical, ends)


def _of_channel(means: FloatArray, variances: FloatArray, overlap: float, reach: float) -> PoissonGaussian:
    level = float(np.median(variances))
    if np.ptp(means) <= 0 or level <= 0:
        return PoissonGaussian(0.0, level)
    gain, floor, error = robust_line(means, variances)
    sure = gain > SURE * error * overlap and gain * reach >= LEAST_GROWTH * level
    if not sure or gain * float(np.median(means)) + floor <= 0:
        return PoissonGaussian(0.0, level)
    return PoissonGaussian(gain, floor)
