"""Seams: steps of the output at the borders of tiles, which neither scene nor noise has there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

FloatArray = NDArray[np.float64]

BESIDE_PX = 5
"""Distance at which the roughness around a line is looked at."""
AROUND_PX = 5
"""Side of the squares that it is averaged over."""
MARGIN_PX = 7
"""Lines nearer to the image's border are left out."""
LEAST = 0.1
"""Of the median roughness: flat areas count no more than this."""
OF_SCENE = 3.0
"""Standard errors of a step of the noisy image, from which it is the scene's."""
NORMAL_MAD = 1.4826
"""Deviation over median absolute deviation of normal values."""


def measure_seams(
    denoised: FloatArray, noisy: FloatArray, rows: Sequence[int], columns: Sequence[int]
) -> FloatArray:
    """Steps across the borders of tiles, in deviations of such steps elsewhere in the image.

    Parameters
    ----------
    denoised, noisy
        (H, W), intensity units.
    rows, columns
        Where tiles begin, apart from 0.

    Returns
    -------
    array
        (N,), one a border that lies far enough inside, and where the noisy image has no such step; about
        standard normal without seams.
    """
    down = _measure_columns(denoised.T, noisy.T, rows)
    across = _measure_columns(denoised, noisy, columns)
    return np.concatenate([down, across])


def _measure_columns(denoised: FloatArray, noisy: FloatArray, starts: Sequence[int]) -> FloatArray:
    steps, elsewhere = _steps(denoised)
    of_noisy, _ = _steps(noisy)
    found = []
    for start in starts:
        place = start - 1
        inside = MARGIN_PX <= place < len(steps) - MARGIN_PX
        if inside and abs(of_noisy[place]) < OF_SCENE:
            found.append(steps[place] / elsewhere)
    return np.array(found)


def _steps(image: FloatArray) -> tuple[FloatArray, float]:
    """Of each pair of neighbouring columns, how far they are apart, beyond what the pairs beside them are.

    Over the roughness beside it; and the deviation of this over all columns.
    """
    apart = np.diff(image, axis=1)
    beyond = np.zeros_like(apart)
    beyond[:, 1:-1] = apart[:, 1:-1] - (apart[:, :-2] + apart[:, 2:]) / 2.0
    roughness = uniform_filter(beyond**2, AROUND_PX)
    beside = np.maximum(np.roll(roughness, BESIDE_PX, 1), np.roll(roughness, -BESIDE_PX, 1))
    weight = 1.0 / (beside + LEAST * float(np.median(roughness)) + 1e-300)
    error = np.sqrt(np.sum(weight**2 * beside, axis=0)) + 1e-300
    steps = np.sum(weight * beyond, axis=0) / error
    inner = steps[MARGIN_PX:-MARGIN_PX]
    deviation = NORMAL_MAD * float(np.median(np.abs(inner)))
    return steps, max(deviation, 1e-300)
