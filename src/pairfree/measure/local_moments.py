"""Means and variances of all windows of an image at once, by running sums; and its Haar sub-bands.

The cost a pixel depends neither on the window nor on how densely windows lie.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


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
    height, width = (side // 2 * 2 for side in image.shape[1:])
    upper, lower = image[:, 0:height:2], image[:, 1:height:2]
    a, b = upper[:, :, 0:width:2], upper[:, :, 1:width:2]
    c, d = lower[:, :, 0:width:2], lower[:, :, 1:width:2]
    bands = [
        a + b + c + d,
        a - b + c - d,
        a + b - c - d,
        a - b - c + d,
    ]
    return np.stack(bands, axis=1) / 2.0


def window_moments(values: FloatArray, side: int, stride: int) -> tuple[FloatArray, FloatArray]:
    """Means and variances (divided by n) over windows of ``side`` at multiples of ``stride``, on the last two
    axes.
    """
    centre = values.mean(axis=(-2, -1), keepdims=True)  # a large mean would cost digits
    shifted = values - centre
    mean = sum_windows(shifted, side, stride) / side**2
    mean_square = sum_windows(shifted**2, side, stride) / side**2
    variance = np.maximum(mean_square - mean**2, 0.0)
    return mean + centre, variance


def plane_variance(values: FloatArray, side: int, stride: int) -> FloatArray:
    """Of the variance of each window, the part that a plane explains: slow shading, which is no noise."""
    shifted = values - values.mean(axis=(-2, -1), keepdims=True)
    sums = sum_windows(shifted, side, stride)
    of_ramp = side * (side**2 - 1) / 12.0  # sum of squares of a centred ramp of ``side`` values
    explained = np.zeros(sums.shape)
    for axis in (-2, -1):
        shape = [1] * values.ndim
        shape[axis] = -1
        length = values.shape[axis]
        ramp = np.arange(length, dtype=np.float64).reshape(shape)
        centres = np.arange(0, length - side + 1, stride).reshape(shape) + (side - 1) / 2.0
        slope_sum = sum_windows(shifted * ramp, side, stride) - centres * sums
        explained += slope_sum**2 / (side * of_ramp)
    return np.asarray(explained / side**2)


def sum_windows(values: FloatArray, side: int, stride: int) -> FloatArray:
    """Sums over all windows of ``side`` at multiples of ``stride`` on the last two axes."""
    height, width = values.shape[-2:]
    total = np.zeros((*values.shape[:-2], height + 1, width + 1))
    np.cumsum(np.cumsum(values, axis=-2), axis=-1, out=total[..., 1:, 1:])
    top = np.arange(0, height - side + 1, stride)[:, None]
    left = np.arange(0, width - side + 1, stride)[None, :]
    return np.asarray(
        total[..., top + side, left + side]
        - total[..., top, left + side]
        - total[..., top + side, left]
        + total[..., top, left]
    )
