"""Values in the pixel type of a file: rounded and clipped, never wrapped."""

from __future__ import annotations

from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.image import DType


def to_dtype(
    values: np.ndarray, dtype: np.dtype[Any] | type | str, within: tuple[float, float] | None = None
) -> tuple[np.ndarray, int]:
    """Values in an image's type: rounded to even and clipped, never wrapped.

    Parameters
    ----------
    values
        Any shape; numbers of any type.
    dtype
        An integer or float type. Float types keep NaN and infinity; finite values beyond their
        range are clipped.
    within
        Narrower bounds, of a file that cannot hold the whole range of its type (``Image.limits``).

    Returns
    -------
    tuple
        The values, and how many of them had to be clipped.

    Raises
    ------
    InputError
        For another type, and for NaN in integers.
    """
    values = np.asarray(values)
    target = np.dtype(dtype)
    if within is not None:
        # What is rounded back into the bounds is not clipped.
        half = 0.5 * step_of(target)
        outside = (values < within[0] - half) | (values > within[1] + half)
        found, _ = to_dtype(np.clip(values, *within), target)
        return found, int(np.count_nonzero(outside))
    if target.kind == "f":
        return _to_floats(values, target)
    if target.kind not in "iu":
        raise InputError(f"cannot write pixels as {target.name}; use an integer or float type")
    if values.dtype.kind in "iu":
        return _integers_to_integers(values, target)
    return _floats_to_integers(values, target)


def step_of(dtype: DType) -> float:
    """Between two values of a type: 1 for whole numbers, 0 for floats."""
    return 1.0 if dtype.kind in "iu" else 0.0


def _to_floats(values: np.ndarray, target: DType) -> tuple[np.ndarray, int]:
    largest = float(np.finfo(target).max)
    with np.errstate(over="ignore", invalid="ignore"):
        outside = (np.abs(values) > largest) & np.isfinite(values)
    clipped = int(np.count_nonzero(outside))
    if clipped:
        values = np.where(outside, np.sign(values) * largest, values)
    return values.astype(target), clipped


def _integers_to_integers(values: np.ndarray, target: DType) -> tuple[np.ndarray, int]:
    bounds = np.iinfo(target)
    own = np.iinfo(values.dtype)
    outside = (values < bounds.min) | (values > bounds.max)
    inside = np.clip(values, max(bounds.min, own.min), min(bounds.max, own.max))
    return inside.astype(target), int(np.count_nonzero(outside))


def _floats_to_integers(values: np.ndarray, target: DType) -> tuple[np.ndarray, int]:
    missing = 0
    if values.dtype.kind == "f":
        missing = int(np.count_nonzero(np.isnan(values)))
    if missing:
        raise InputError(
            f"{missing} pixels are NaN and cannot be written as {target.name}; "
            "look for NaN in the input, or write floats"
        )
    # float32 cannot hold the bounds of 32-bit integers; float64 can.
    wide = np.dtype(np.float64)
    if target.itemsize <= 2:
        wide = np.promote_types(values.dtype, np.float32)
    rounded = np.rint(values.astype(wide))
    bounds = np.iinfo(target)
    outside = (rounded < bounds.min) | (rounded > bounds.max)
    inside = np.clip(rounded, bounds.min, bounds.max)
    return inside.astype(target), int(np.count_nonzero(outside))
