"""Pixels that are not there: NaN and Inf, as masks, dead detectors and stitching leave them."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from pairfree.config import choose
from pairfree.errors import InputError

REACH_PX = 8
"""A missing pixel is filled from those no more than so many rows and columns away.

They are the same ones whatever tile it is read in.
"""
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
LARGEST = float(np.finfo(np.float32).max)
"""The largest intensity of an image lies between them, whatever its type: those of single precision."""
TREATMENTS = {
    "error": "an image with them is refused",
    "mask": "the network sees their neighbours' mean; they come back as they were",
}


def check_treatment(nan: str) -> None:
    """Refuse a word that is none of ``TREATMENTS``.

    Raises
    ------
    ConfigError
        With a suggestion.
    """
    choose(nan, TREATMENTS, "treatment of NaN")


def check_range(values: np.ndarray, label: str) -> None:
    """Refuse intensities that are too large or too small to be computed with.

    Networks work in single precision, and squares of intensities must fit into double precision.

    Parameters
    ----------
    values
        Of any shape and dtype; NaN and Inf are passed over.
    label
        What they are called in messages.

    Raises
    ------
    InputError
        With the largest of them.
    """
    if values.dtype != np.float64 or not values.size:
        return
    sizes = np.abs(values)
    largest = float(np.max(sizes, initial=0.0, where=np.isfinite(values)))
    if largest == 0.0 or SMALLEST <= largest <= LARGEST:
        return
    raise InputError(
        f"{label}: intensities reach {largest:.3g} in size, outside {SMALLEST:.1e} .. {LARGEST:.1e}; "
        "multiply all images by one number that brings them near 1"
    )


def fill_missing(values: np.ndarray, otherwise: float) -> np.ndarray:
    """Floats whose missing pixels are the mean of those around them.

    Parameters
    ----------
    values
        (C, H, W) floats; NaN and Inf are missing.
    otherwise
        What missing pixels are where there are none within ``REACH_PX``.

    Returns
    -------
    ndarray
        ``values`` themselves where nothing is missing, else of the same shape and dtype.
    """
    there = np.isfinite(values)
    if there.all():
        return values
    count = _sum_around(there.astype(np.float64))
    total = _sum_around(np.where(there, values, 0.0).astype(np.float64))
    made = np.where(count > 0.5, total / np.maximum(count, 1.0), otherwise)
    return np.where(there, values, made).astype(values.dtype)


def _sum_around(values: np.ndarray) -> np.ndarray:
    """Sums over a square around each pixel of (C, H, W).

    Each by itself, because a running sum never forgets one huge value.
    """
    ones = np.ones(2 * REACH_PX + 1)
    for axis in (1, 2):
        values = correlate1d(values, ones, axis, mode="constant")
    return values


def complete_plane(plane: np.ndarray, label: str) -> tuple[np.ndarray, str]:
    """A plane for training, with what is missing filled.

    Parameters
    ----------
    plane
        (C, H, W) of any dtype.
    label
        What it is called in messages.

    Returns
    -------
    tuple
        The plane, and a line about what was missing; "" where nothing was.

    Raises
    ------
    InputError
        Where nothing is there.
    """
    check_range(plane, label)
    there = np.isfinite(plane)
    if plane.dtype.kind != "f" or there.all():
        return plane, ""
    if not there.any():
        raise InputError(f"{label}: all its pixels are NaN or Inf; remove it")
    missing = int((~there).sum())
    line = (
        f"{label}: {missing} of {there.size} pixels are NaN or Inf; training sees their neighbours' mean, "
        "or the median"
    )
    return fill_missing(plane, float(np.median(plane[there]))), line
