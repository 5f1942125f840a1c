"""Pixels that are not there: NaN and Inf, as masks, dead detectors and stitching leave them."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from pairfree.config import choose
from pairfree.errors import InputError

REACH_PX = 8
"""A missing pixel is made up from those no more than so many rows and columns away: the same ones whatever tile it is read in."""
TREATMENTS = {
    "error": "an image with them is refused",
    "mask": "the network sees their neighbours' mean; they come back as they were",
}


def check_treatment(nan: str) -> None:
    """ConfigError for a word that is none of ``TREATMENTS``."""
    choose(nan, TREATMENTS, "treatment of NaN")


def filled(values: np.ndarray, otherwise: float) -> np.ndarray:
    """(C, H, W) floats whose missing pixels are the mean of those around them.

    otherwise   what they are where there are none within ``REACH_PX``
    Returns     ``values`` themselves where nothing is missing
    """
    there = np.isfinite(values)
    if there.all():
        return values
    count, total = (_around(one.astype(np.float64)) for one in (there, np.where(there, values, 0.0)))
    made = np.where(count > 0.5, total / np.maximum(count, 1.0), otherwise)
    return np.where(there, values, made).astype(values.dtype)


def _around(values: np.ndarray) -> np.ndarray:
    """Sums over a square around each pixel of (C, H, W); each by itself, because a running sum never forgets one huge value."""
    for axis in (1, 2):
        values = correlate1d(values, np.ones(2 * REACH_PX + 1), axis, mode="constant")
    return values


def usable(plane: np.ndarray, label: str) -> tuple[np.ndarray, str]:
    """A plane (C, H, W) for training, what is missing made up, and a line about it. InputError where nothing is there."""
    there = np.isfinite(plane)
    if plane.dtype.kind != "f" or there.all():
        return plane, ""
    if not there.any():
        raise InputError(f"{label}: all its pixels are NaN or Inf; remove it")
    line = f"{label}: {int((~there).sum())} of {there.size} pixels are NaN or Inf; training sees their neighbours' mean, or the median"
    return filled(plane, float(np.median(plane[there]))), line
