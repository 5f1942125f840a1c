"""Structure in what was removed: places where the residual has more power than noise has."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pairfree.measure.local_moments import window_moments
from pairfree.measure.noise_law import NoiseLaw

FloatArray = NDArray[np.float64]

WINDOW_PX, STRIDE_PX = 32, 16
"""Side of the windows, and their distance."""
SCALES_PX = (0.0, 1.0, 2.0)
"""Gaussians through which the residual is looked at: structure is smoother than noise."""
LEAST = 0.1
"""Of the median variance: nowhere is less noise expected."""
NORMAL_MAD = 1.4826
"""Deviation over median absolute deviation of normal values."""


class Place(NamedTuple):
    """A window that stands out."""

    row: int
    column: int
    """Of its upper left corner."""
    excess: float
    """Power above the typical one, in deviations over all windows."""
    scale_px: float
    """Gaussian through which it stands out most."""


def measure_excess(noisy: FloatArray, denoised: FloatArray, law: NoiseLaw) -> FloatArray:
    """Power of the residual over that of the noise, above the typical, in deviations over all windows.

    Parameters
    ----------
    noisy, denoised
        (H, W), intensity units; both sides at least 32.
    law
        Of the noise.

    Returns
    -------
    array
        (scales, rows, columns) of windows of 32 px, one each 16 px: about standard normal where nothing but
        noise was removed, or the same everywhere.
    """
    variance = law.noise.variance(denoised)
    positive = variance[variance > 0]
    least = LEAST * float(np.median(positive)) if positive.size else 1.0
    even = (noisy - denoised) / np.sqrt(np.maximum(variance, least))
    found = []
    for scale in SCALES_PX:
        shown = gaussian_filter(even, scale) if scale else even
        power, _ = window_moments(shown**2, WINDOW_PX, STRIDE_PX)
        typical = max(float(np.median(power)), 1e-300)
        excess = power / typical - 1.0
        deviation = NORMAL_MAD * float(np.median(np.abs(excess)))
        found.append(excess / max(deviation, 1e-300))
    return np.stack(found)


def find_places(excess: FloatArray, limit: float, most: int = 8) -> list[Place]:
    """Windows that stand out by more than a limit, the most first; of overlapping ones the strongest."""
    strongest = excess.max(axis=0)
    scale = excess.argmax(axis=0)
    places: list[Place] = []
    for index in np.argsort(strongest, axis=None)[::-1].tolist():
        row, column = divmod(index, strongest.shape[1])
        value = float(strongest[row, column])
        if value <= limit or len(places) == most:
            break
        corner = row * STRIDE_PX, column * STRIDE_PX
        if all(
            max(abs(corner[0] - one.row), abs(corner[1] - one.column)) >= WINDOW_PX
            for one in places
        ):
            places.append(Place(*corner, value, SCALES_PX[int(scale[row, column])]))
    return places
