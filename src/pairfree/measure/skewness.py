"""How lopsided noise is: counts of few photons, and plates whose densities add up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.local_moments import block_means, cut_level_windows

FloatArray = NDArray[np.float64]

BLOCK_PX = 8
BRIGHTNESSES = 6
CALMEST = 0.3
FEWEST = 8
CLEAR = 4.0
"""Deviations of the noise that a block's mean lies from the image's extremes: nearer it may be cut off."""


class Skewness(NamedTuple):
    """Of the noise in the calmest blocks that lie clear of the image's extremes; NaN where there are few."""

    measured: float
    """Mean third power of the noise in deviations of each block.

    0 for symmetric noise, less than 0.2 for counts whose zero is the least value: they are 16 and more then.
    """
    error: float
    """Standard error, of noise that is independent from block to block."""
    of_unit_counts: float
    """What counts of a gain of 1 would have in the same blocks; that of another gain is in proportion."""


UNKNOWN = Skewness(np.nan, np.nan, np.nan)


def measure_skewness(plane: FloatArray) -> Skewness:
    """How lopsided the noise of a plane (H, W) is, intensity units, finite."""
    blocks = cut_level_windows(plane, BLOCK_PX)
    brightness = block_means(plane, BLOCK_PX).ravel()
    deviations = np.sqrt(np.mean(blocks**2, axis=(1, 2)))
    nearest = np.minimum(brightness - plane.min(), plane.max() - brightness)
    usable = np.flatnonzero((deviations > 0) & (nearest > CLEAR * deviations))
    if len(usable) < FEWEST * BRIGHTNESSES:
        return UNKNOWN
    cubes, expected = [], []
    for group in np.array_split(usable[np.argsort(brightness[usable])], BRIGHTNESSES):
        count = max(FEWEST, int(CALMEST * len(group)))
        calm = group[np.argsort(deviations[group], kind="stable")[:count]]
        typical = float(np.sqrt(np.mean(deviations[calm] ** 2)))
        cubes.append(np.mean((blocks[calm] / typical) ** 3, axis=(1, 2)))
        expected.append(np.full(len(calm), 1.0 / typical))
    each = np.concatenate(cubes)
    error = float(each.std() / np.sqrt(len(each)))
    return Skewness(float(each.mean()), error, float(np.concatenate(expected).mean()))
