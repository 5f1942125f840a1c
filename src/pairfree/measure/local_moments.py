"""Means and variances of all windows of an image at once, by running sums; and its Haar sub-bands.

The cost a pixel depends neither on the window nor on how densely windows lie.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

NORMAL_MAD = 1.4826
"""Deviation over median absolute deviation of normal values."""

SPACE = (-2, -1)
"""Axes of rows and columns."""


def haar(image: FloatArray) -> FloatArray:
    """One-level orthonormal Haar transform: mean, then horizontal, vertical, diagonal differences.

    Parameters
    ----------
    image
        (C, H, W); an odd last row or column is left out.

    Returns
    -------
    array
        (C, 4, H // 2, W // 2)
    """
    _, height, width = image.shape
    rows = height // 2 * 2
    columns = width // 2 * 2
    even = image[:, :rows, :columns]
    a = even[:, ::2, ::2]
    b = even[:, ::2, 1::2]
    c = even[:, 1::2, ::2]
    d = even[:, 1::2, 1::2]
    bands = [
        a + b + c + d,
        a - b + c - d,
        a + b - c - d,
        a - b - c + d,
    ]
    return np.stack(bands, axis=1) / 2.0


def window_moments(
    values: FloatArray,
    side: int,
    stride: int,
) -> tuple[FloatArray, FloatArray]:
    """Means and variances (divided by n) over windows on the last two axes.

    Parameters
    ----------
    values
        (..., H, W).
    side
        Of the windows, pixels.
    stride
        Windows begin at its multiples.

    Returns
    -------
    tuple
        Of arrays (..., rows, columns), a value a window.
    """
    # a large mean would cost digits
    centre = values.mean(axis=SPACE, keepdims=True)
    shifted = values - centre
    mean = sum_windows(shifted, side, stride) / side**2
    mean_square = sum_windows(shifted**2, side, stride) / side**2
    variance = mean_square - mean**2
    return mean + centre, np.maximum(variance, 0.0)


def plane_variance(values: FloatArray, side: int, stride: int) -> FloatArray:
    """Of the variance of each window, the part that a plane explains: slow shading, which is no noise."""
    centre = values.mean(axis=SPACE, keepdims=True)
    shifted = values - centre
    sums = sum_windows(shifted, side, stride)
    of_ramp = side * (side**2 - 1) / 12.0  # sum of squares of a centred ramp of ``side`` values
    explained = np.zeros_like(sums)
    for axis in SPACE:
        shape = [1] * values.ndim
        shape[axis] = -1
        length = values.shape[axis]
        ramp = np.arange(length, dtype=np.float64).reshape(shape)
        starts = window_starts(length, side, stride).reshape(shape)
        centres = starts + (side - 1) / 2.0
        weighted = sum_windows(shifted * ramp, side, stride)
        slope_sum = weighted - centres * sums
        explained += slope_sum**2 / (side * of_ramp)
    return np.asarray(explained / side**2)


def sum_windows(values: FloatArray, side: int, stride: int) -> FloatArray:
    """Sums over all windows of ``side`` at multiples of ``stride`` on the last two axes."""
    *others, height, width = values.shape
    total = np.zeros((*others, height + 1, width + 1))
    inner = total[..., 1:, 1:]
    down = np.cumsum(values, axis=-2)
    np.cumsum(down, axis=-1, out=inner)
    top = window_starts(height, side, stride)
    top = top[:, None]
    left = window_starts(width, side, stride)
    bottom = top + side
    right = left + side
    return np.asarray(
        total[..., bottom, right]
        - total[..., top, right]
        - total[..., bottom, left]
        + total[..., top, left]
    )


def window_starts(length: int, side: int, stride: int) -> NDArray[np.int64]:
    """Where windows of ``side`` begin along an axis."""
    last = length - side
    return np.arange(0, last + 1, stride)


def block_means(values: FloatArray, side: int) -> FloatArray:
    """Means of blocks of ``side`` that lie side by side from the first corner, (rows, columns) of them."""
    down, across = values.shape[0] // side, values.shape[1] // side
    whole = values[: down * side, : across * side]
    return np.asarray(whole.reshape(down, side, across, side).mean(axis=(1, 3)))


def cut_level_windows(values: FloatArray, side: int) -> FloatArray:
    """Windows (N, side, side) side by side, less the plane through each."""
    down, across = values.shape[0] // side, values.shape[1] // side
    rows = values[: down * side, : across * side].reshape(down, side, across, side)
    windows = rows.swapaxes(1, 2).reshape(-1, side, side)
    windows = windows - windows.mean((1, 2), keepdims=True)
    ramp = np.arange(side) - (side - 1) / 2.0
    slopes = windows.mean(2) @ ramp / np.sum(ramp**2), windows.mean(1) @ ramp / np.sum(ramp**2)
    windows -= slopes[0][:, None, None] * ramp[:, None]
    windows -= slopes[1][:, None, None] * ramp
    return np.asarray(windows)
