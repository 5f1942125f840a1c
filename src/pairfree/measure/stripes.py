"""Noise that whole rows or columns share, as scanning and cameras leave it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.local_moments import NORMAL_MAD

FloatArray = NDArray[np.float64]

PARTS = 6
"""Of each line; what they share beyond a part's length is the line's own."""
MOST_DEVIATIONS = 4.0
"""Differences of lines are cut off at so many robust deviations: beyond are edges."""
POWER = 1.5
"""Of the difference of a line and the mean of its neighbours, for lines of unit variance."""
CALMEST = 0.6
"""Share of the lines that are looked at: those that vary least along themselves."""
MIN_SIDE_PX = 48


class Stripes(NamedTuple):
    """Deviation of what whole lines share, intensity units, and how many standard errors it is above none."""

    rows: float
    rows_significance: float
    columns: float
    columns_significance: float


def measure_stripes(plane: FloatArray) -> Stripes:
    """Noise of rows and of columns of a plane (H, W), intensity units; NaN of planes under 48 px a side."""
    if min(plane.shape) < MIN_SIDE_PX:
        return Stripes(np.nan, np.nan, np.nan, np.nan)
    return Stripes(*_measure_rows(plane), *_measure_rows(plane.T))


def _measure_rows(plane: FloatArray) -> tuple[float, float]:
    """Deviation of what each row shares, and its significance.

    A row less the mean of its neighbours is averaged over six parts; parts that do not touch have in common
    what the whole row shares. The median over the pairs leaves out structure, which few pairs share.
    """
    steps = plane[1:-1] - (plane[:-2] + plane[2:]) / 2.0
    deviation = NORMAL_MAD * float(np.median(np.abs(steps)))
    if deviation > 0:
        steps = np.clip(steps, -MOST_DEVIATIONS * deviation, MOST_DEVIATIONS * deviation)
    parts = np.array_split(steps, PARTS, axis=1)
    variances = np.mean([part.var(axis=1) for part in parts], axis=0)
    calm = np.argsort(variances, kind="stable")[: max(1, int(CALMEST * len(steps)))]
    means = [part[calm].mean(axis=1) for part in parts]
    pairs = [(i, j) for i in range(PARTS) for j in range(i + 2, PARTS)]
    products = [float(np.mean(means[i] * means[j])) for i, j in pairs]
    shared = float(np.median(products))
    power = float(np.mean([part.var() for part in means]))
    if power <= 0:
        return 0.0, 0.0
    error = power / np.sqrt(len(calm) * len(pairs) / 2.0)
    return float(np.sqrt(max(shared, 0.0) / POWER)), shared / float(error)
