"""What the stored values of an image say: their step, and how many lie at the ends of the range."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MOST_VALUES = 1 << 18
"""Pixels that the step is looked for in."""
WHOLE = 1e-3
"""Distance from whole steps, in steps, that counts as none."""
NEXT_STEPS = 4
"""Grey levels beside an end that it is compared with."""


class GreyLevels(NamedTuple):
    """Of one plane, intensity units."""

    step: float
    """Distance of neighbouring values; 0 where values lie anywhere."""
    at_least: float
    """Share of the pixels at the least value."""
    at_greatest: float
    """Share of the pixels at the greatest value."""
    pile_at_least: float
    """That share over the mean share of the next values: far above 1 where values were cut off."""
    pile_at_greatest: float


def measure_grey_levels(plane: FloatArray) -> GreyLevels:
    """Step and ends of the values of a plane (H, W)."""
    step = find_step(plane)
    low, high = float(plane.min()), float(plane.max())
    at_least, at_greatest = float(np.mean(plane == low)), float(np.mean(plane == high))
    if low == high:
        return GreyLevels(step, at_least, at_greatest, 1.0, 1.0)
    return GreyLevels(
        step,
        at_least,
        at_greatest,
        at_least / _share_beside(plane, low, step),
        at_greatest / _share_beside(plane, high, -step),
    )


def find_step(plane: FloatArray) -> float:
    """What all differences of values are multiples of; 0 where there is no such step."""
    values = np.unique(plane.ravel()[:: max(1, plane.size // MOST_VALUES)])
    if len(values) < 3:
        return 0.0
    gaps = np.diff(values)
    step = float(gaps.min())
    multiples = (values - values[0]) / step
    return step if np.abs(multiples - np.round(multiples)).max() < WHOLE else 0.0


def _share_beside(plane: FloatArray, end: float, step: float) -> float:
    """Mean share of the pixels at the next values, at least that of one pixel."""
    if step == 0:
        return 1.0 / plane.size
    places = np.round((plane - end) / step).astype(np.int64)
    beside = np.count_nonzero((places >= 1) & (places <= NEXT_STEPS)) / NEXT_STEPS
    return max(beside, 1.0) / plane.size
