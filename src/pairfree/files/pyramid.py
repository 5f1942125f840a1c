"""Lower resolutions of an image, as viewers want them: means over blocks, computed as they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from pairfree.files.image import Image, Stored

READ_PX = 2**22
"""Pixels of the full image that are read at a time."""


def block_means(values: np.ndarray, axis: int, factor: int, length: int) -> np.ndarray:
    """``length`` means along ``axis``, each of ``factor`` values or of what is left of them; float64."""
    size = values.shape[axis]
    starts = np.minimum(np.arange(length) * factor, size - 1)
    end = min(int(starts[-1]) + factor, size)
    counts = np.maximum(np.diff(np.append(starts, end)), 1)
    sums = np.add.reduceat(np.take(values, range(end), axis).astype(np.float64), starts, axis=axis)
    return sums / counts.reshape([-1 if a == axis else 1 for a in range(values.ndim)])


def rounded(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Means as values of an image's type."""
    return (np.rint(values) if dtype.kind in "iu" else values).astype(dtype)


class Reduced(Stored):
    """An image at a lower resolution: each pixel is the mean of the block that it covers."""

    def __init__(self, image: Image, height: int, width: int) -> None:
        self.image, self.dtype, self.plane_axes = image, image.dtype, 3 if image.axes.endswith("S") else 2
        self.shape = (*image.leading, height, width, *image.shape[len(image.leading) + 2 :])
        self.factors = max(1, round(image.height / height)), max(1, round(image.width / width))

    def region(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        (high, wide), image = self.factors, self.image
        left, right = min(columns.start * wide, image.width - 1), min(columns.stop * wide, image.width)
        step = max(1, READ_PX // (high * max(1, right - left)))
        parts = []
        for start in range(rows.start, rows.stop, step):
            stop = min(start + step, rows.stop)
            top = min(start * high, image.height - 1)
            block = image.region(index, slice(top, max(top + 1, min(stop * high, image.height))), slice(left, max(left + 1, right)))
            means = block_means(block_means(block, 0, high, stop - start), 1, wide, columns.stop - columns.start)
            parts.append(rounded(means, self.dtype))
        return np.concatenate(parts)
