"""A grid that a network leaves: places of its cells that are brighter or darker than others for ever."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

FloatArray = NDArray[np.float64]

PERIODS_PX = (4, 8)
"""Of the cells in which our networks work; that of 2 px shows in both."""
ROUNDING = 1e-9
"""Of the intensities: smaller differences are none."""
SMOOTH_PX = 9
"""Side of the window whose mean is taken off first."""


def measure_grid(image: FloatArray) -> tuple[float, float]:
    """How much the places of cells differ, against chance.

    Parameters
    ----------
    image
        (H, W), intensity units.

    Returns
    -------
    tuple of float
        Deviation of the places' means over what independent pixels give, the largest of all periods: 1 for
        noise, less for a smooth scene, above 2 for a pattern; and how far the means are apart, peak to peak,
        intensity units. NaN of images under four cells a side.

    Notes
    -----
    The mean over 9 x 9 px is taken off; what is left is averaged for each of the P x P places of a cell.
    """
    detail = image - uniform_filter(image, SMOOTH_PX, mode="reflect")
    detail[np.abs(detail) <= ROUNDING * np.abs(image).max(initial=0.0)] = 0.0
    found = [_measure_period(detail, period) for period in PERIODS_PX]
    known = [one for one in found if math.isfinite(one[0])]
    return max(known, default=(math.nan, math.nan))


def _measure_period(detail: FloatArray, period: int) -> tuple[float, float]:
    down, across = detail.shape[0] // period, detail.shape[1] // period
    if min(down, across) < 4:
        return math.nan, math.nan
    used = detail[: down * period, : across * period]
    places = used.reshape(down, period, across, period).mean(axis=(0, 2))
    deviation = float(used.std())
    if deviation == 0.0:
        return 0.0, 0.0
    by_chance = deviation / math.sqrt(down * across)
    return float(places.std() / by_chance), float(np.ptp(places))
