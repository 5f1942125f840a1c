"""Noise that stays in its place from frame to frame: the pattern of a camera."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.local_moments import NORMAL_MAD, block_means, haar

FloatArray = NDArray[np.float64]

MOST_DEVIATIONS = 4.0
"""Detail is cut off at so many robust deviations: beyond are edges."""
BLOCK_PX = 16
"""What scenes are compared by: the means of such blocks."""
UNLIKE = 0.25
"""Correlation of two frames' brightness, up to which they show different scenes."""
FEWEST_PAIRS = 3
"""Of frames of different scenes."""


class FixedPattern(NamedTuple):
    """What frames have in common, apart from their scenes."""

    share: float
    """Of the variance of the finest detail: what frames of different scenes have at the same pixel."""
    error: float
    """Its standard error."""


def measure_fixed_pattern(planes: Sequence[FloatArray]) -> FixedPattern | None:
    """What planes (H, W) of one shape have in common at each pixel.

    Returns
    -------
    FixedPattern or None
        None where too few of them show different scenes: the detail of one scene stays in its place, too.
    """
    details = [_cut_off(haar(plane[None])[0, 3]) for plane in planes]
    blocks = [_level_blocks(plane) for plane in planes]
    shared = []
    for first in range(len(planes)):
        for second in range(first + 1, len(planes)):
            alike = float(np.mean(blocks[first] * blocks[second]))
            if abs(alike) < UNLIKE:
                shared.append(float(np.mean(details[first] * details[second])))
    if len(shared) < FEWEST_PAIRS:
        return None
    error = 1.0 / math.sqrt(len(shared) * details[0].size)
    return FixedPattern(float(np.mean(shared)), error)


def _cut_off(detail: FloatArray) -> FloatArray:
    """Detail of unit variance, without edges."""
    deviation = NORMAL_MAD * float(np.median(np.abs(detail)))
    if deviation <= 0:
        return np.zeros_like(detail)
    cut = np.clip(detail / deviation, -MOST_DEVIATIONS, MOST_DEVIATIONS)
    return np.asarray(cut / max(float(cut.std()), 1e-12))


def _level_blocks(plane: FloatArray) -> FloatArray:
    """Means of blocks, of mean 0 and unit variance."""
    means = block_means(plane, BLOCK_PX)
    means = means - means.mean()
    return np.asarray(means / max(float(means.std()), 1e-12))
