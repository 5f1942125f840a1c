"""How the variance of noise grows with the brightness, from smooth areas of noisy images.

Correlation between pixels does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.noise_patches import Images, NoisePatches, Places, cut_patches
from pairfree.measure.variance_line import PoissonGaussian, fit_robust_line
from pairfree.sampling import spaced_indices

FloatArray = NDArray[np.float64]

MEASURED = 1500
"""Patches that are measured, spread over all that are smooth."""
SAMPLED = 10_000
"""Pixels of each image that tell its brightness."""
SURE = 20.0
"""A gain of fewer standard errors, which assume normal scatter, counts as none.

Noise on BSD400 that does not grow gives up to 13 of either sign, since structure is left in some patches;
that of cameras 40 and more.
"""
LEAST_GROWTH = 0.5
"""So does a gain that changes the variance by less than this over the brightness of the images.

From its 5th to its 95th percentile.
"""


@dataclass(frozen=True)
class Growth:
    """How noise grows, and over which brightness; of each channel, intensity units."""

    noise: list[PoissonGaussian]
    """Gain and floor, gain 0 for noise that does not grow, or not surely."""
    dark: FloatArray
    """(C,) brightness of dark smooth areas, the 5th percentile."""
    typical: FloatArray
    """(C,) brightness of typical ones, the median."""
    ends: tuple[float, float]
    """Least and greatest value of the images, over all channels."""


def measure_growth(images: Images, found: NoisePatches) -> Growth:
    r"""How the noise of smooth areas grows with their brightness.

    Parameters
    ----------
    images
        (C, H, W), those that ``found`` was cut out of, intensity units.
    found
        Their noise patches.

    Notes
    -----
    Noise model: Z = x + N, E[N | x] = 0, var(N | x) = gain x + floor; the correlation of N is the same
    everywhere.

    How: a line through means and variances of patches, whatever the level of their noise, by
    ``fit_robust_line``; patches that overlap count once in its standard error.
    """
    side = found.pixels.shape[-1]
    places = found.passed.places
    places = places[spaced_indices(len(places), MEASURED)]
    means = _patch_means(images, places, side)
    patches = cut_patches(images, places, side)
    variances = patches.var(axis=(2, 3), dtype=np.float64)
    times = len(places) / found.passed.count_apart(side)
    overlap = math.sqrt(max(1.0, times))
    reaches = _brightness_range(images)
    noise = []
    for channel, reach in enumerate(reaches.tolist()):
        of_channel = _fit_channel(means[:, channel], variances[:, channel], overlap, reach)
        noise.append(of_channel)
    dark, typical = np.percentile(means, [5, 50], axis=0)
    least = float(min(image.min() for image in images))
    greatest = float(max(image.max() for image in images))
    return Growth(noise, dark, typical, (least, greatest))


def _patch_means(images: Images, places: Places, side: int) -> FloatArray:
    """(N, C) of the images' pixels."""
    means = []
    for index, top, left in places.tolist():
        rows = slice(top, top + side)
        columns = slice(left, left + side)
        patch = images[index][:, rows, columns]
        means.append(patch.mean(axis=(1, 2)))
    return np.array(means)


def _brightness_range(images: Images) -> FloatArray:
    """(C,) from the 5th to the 95th percentile of all images."""
    samples = []
    for image in images:
        step = max(1, image[0].size // SAMPLED)
        flat = image.reshape(len(image), -1)
        samples.append(flat[:, ::step])
    pooled = np.concatenate(samples, axis=1)
    high, low = np.percentile(pooled, [95, 5], axis=1)
    return np.asarray(high - low)


def _fit_channel(
    means: FloatArray, variances: FloatArray, overlap: float, reach: float
) -> PoissonGaussian:
    """Gain and floor from patches of one channel.

    Parameters
    ----------
    means, variances
        (N,) of the patches.
    overlap
        By how much their overlap makes the standard error larger.
    reach
        Range of the images' brightness.
    """
    level = float(np.median(variances))
    if np.ptp(means) <= 0 or level <= 0:
        return PoissonGaussian(0.0, level)
    line = fit_robust_line(means, variances)
    sure = line.slope > SURE * line.error * overlap
    strong = line.slope * reach >= LEAST_GROWTH * level
    typical = line.slope * float(np.median(means)) + line.intercept
    if not sure or not strong or typical <= 0:
        return PoissonGaussian(0.0, level)
    return PoissonGaussian(line.slope, line.intercept)
