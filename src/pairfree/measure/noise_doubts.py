"""What noise patches say against noise that is zero-mean and independent of the image."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.noise_patches import NoisePatches, Passed
from pairfree.sampling import spaced_indices

FloatArray = NDArray[np.float64]

FEWEST_APART = 8
"""Squares of the patches' size, side by side, that must hold some of them."""
STRONG = 1.6
"""Ratio of the sub-bands' proportions from which it is told; 1 for white noise, 1.3 for GAN2GAN's correlated
one."""
DEPENDENCE = 0.25
"""Relative change of the variance over the smooth areas from which it is told."""
CLEAR = 3.0
"""Standard errors that such a change has at least."""
SPREAD = 0.1
"""Relative spread of the patches' deviations from which it is told."""
SKEWNESS = 0.5
"""Median skewness of a patch from which it is told: film noise on photographs 0.8; Gaussian, correlated and
mixture noise below 0.3."""
SKEWED_PATCHES = 500
"""Patches whose skewness is looked at, spread over all."""


def list_doubts(found: NoisePatches, grown: bool = False) -> list[str]:
    """What the patches say against noise that is zero-mean and independent of the image: a line each.

    Parameters
    ----------
    found
        Patches that were cut out of smooth areas.
    grown
        That its level follows the brightness is met already, and not told.
    """
    change = growth_with_brightness(found.passed, found.pixels.shape[-1])
    ratio = found.gains.max() / found.gains.min()
    shared = found.gains.max() > STRONG * found.gains.min()
    lines = []
    if change and not grown:
        remedy = "iscl, with a clean set, allows it" if shared else "iddp and nb2nb allow it"
        lines.append(
            f"the noise depends on the brightness (its variance changes by {100 * change:+.0f} % over that "
            "of the smooth areas), which this method assumes it does not: areas of more noise keep some of "
            f"it; {remedy}"
        )
    if found.passed.count_apart(found.pixels.shape[-1]) < FEWEST_APART:
        lines.append(
            "the noise was measured on the same few smooth spots again and again: give more or larger images"
        )
    if shared:
        lines.append(
            f"the noise found is strongly correlated (its sub-bands differ by a factor of {ratio:.1f}): if "
            "neighbouring pixels of your instrument do not share noise, this is texture of the specimen and "
            "would be taken off with it; look at the noise patches in the report"
        )
    if change or grown:
        return lines  # which also spreads the levels and skews the values
    spread = _relative_spread(found.passed.deviations)
    if spread > SPREAD:
        lines.append(
            f"the noise patches differ in level (by {100 * spread:.0f} %): they may carry structure, or "
            "images differ in noise"
        )
    skewness = _median_skewness(found.pixels)
    if abs(skewness) > SKEWNESS:
        lines.append(
            f"the noise is lopsided (skewness {skewness:+.2f}): film, charging and clipped pixels make such "
            "noise, and shift the brightness too, which this method assumes it does not; iscl with a clean "
            "set restores that"
        )
    return lines


def growth_with_brightness(passed: Passed, side: int) -> float:
    """Relative change of the variance over the brightness of the smooth areas (5th to 95th percentile).

    Of either sign, and 0 where it is small or unsure. Patches of ``side`` that overlap count once.
    """
    variances = passed.deviations**2
    slope, error = fit_slope(passed.means, variances)
    error *= math.sqrt(len(passed.means) / passed.count_apart(side))
    high, low = np.percentile(passed.means, [95, 5])
    change = slope * float(high - low) / float(np.median(variances))
    if abs(change) > DEPENDENCE and abs(slope) > CLEAR * error:
        return change
    return 0.0


def fit_slope(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Least squares slope of y on x and its standard error; 0 and infinity where x has no range."""
    centred = x - x.mean()
    power = float(np.sum(centred**2))
    if power == 0 or len(x) < 3:
        return 0.0, math.inf
    slope = float(np.sum(centred * y) / power)
    residual = y - y.mean() - slope * centred
    return slope, math.sqrt(float(np.sum(residual**2)) / (len(x) - 2) / power)


def _relative_spread(deviations: FloatArray) -> float:
    """Half the distance of the 16th and 84th percentile, relative to the median."""
    high, low = np.percentile(deviations, [84, 16])
    return float((high - low) / 2.0 / np.median(deviations))


def _median_skewness(pixels: NDArray[np.float32]) -> float:
    some = pixels[spaced_indices(len(pixels), SKEWED_PATCHES)]
    centred = some.reshape(len(some), -1).astype(np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.mean(centred**2, axis=1))
    there = spread > 0
    if not there.any():
        return 0.0
    cubes = np.mean(centred[there] ** 3, axis=1)
    return float(np.median(cubes / spread[there] ** 3))
