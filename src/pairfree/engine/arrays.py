"""Axes of arrays that are given to a model."""

from __future__ import annotations

import numpy as np

from pairfree.data.sets import check_channels_first
from pairfree.errors import InputError


def guess_axes(values: np.ndarray) -> str:
    """Of an array that does not name them: (H, W) or (C, H, W)."""
    check_channels_first(values, "array")
    if values.ndim not in (2, 3):
        raise InputError(
            f"array has shape {values.shape}; say what its {values.ndim} dimensions are, for example "
            "axes='TZYX'"
        )
    return "YX" if values.ndim == 2 else "CYX"


def check_letters(axes: object) -> str:
    """Axes in capitals; InputError for what is no text."""
    if not isinstance(axes, str):
        raise InputError(f"axes {axes!r}: expected one letter for each dimension, such as 'TZYX'")
    return axes.upper()


def planes_last(axes: str) -> list[int]:
    """Places of the axes in an order that ends with Y and X, and S behind them; others stay in theirs."""
    return sorted(range(len(axes)), key=lambda place: "YXS".find(axes[place]))
