"""Lower resolutions of an image, as viewers want them: means over blocks, computed as they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from pairfree.files.image import Image, Stored

READ_PX = 2**22
"""Pixels of the full image that are read at a time."""


def edges(size: int, length: int) -> np.ndarray:
    """Where the blocks begin that ``length`` pixels are the means of, and where the last one ends, (length + 1,).

    Blocks have one size, and the last one what is left, where ``length`` is ``size`` divided by a whole number, rounded either way; else
    they share ``size`` out.
    """
    factor = max(1, round(size / length))
    if abs(size - factor * length) < factor:
        return np.minimum(np.arange(length + 1) * factor, size)
    return np.arange(length + 1) * size // length


def block_means(values: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    """Means along ``axis`` between successive ``places``; float64. An empty block has the value that it begins with."""
    starts = np.minimum(places[:-1], values.shape[axis] - 1)
    counts = np.maximum(np.diff(places), 1)
    end = max(int(places[-1]), int(starts[-1]) + 1)
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
        self.rows, self.columns = edges(image.height, height), edges(image.width, width)

    def region(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        y, x = self.rows[rows.start : rows.stop + 1], self.columns[columns.start : columns.stop + 1]
        high, wide = int(y[-1] - y[0]), int(x[-1] - x[0])
        if high * wide * self.image.samples > READ_PX and max(len(y), len(x)) > 2:  # in two parts
            if len(y) > 2 and (high >= wide or len(x) == 2):
                middle = (rows.start + rows.stop) // 2
                parts = [slice(rows.start, middle), slice(middle, rows.stop)]
                return np.concatenate([self.region(index, part, columns) for part in parts])
            middle = (columns.start + columns.stop) // 2
            parts = [slice(columns.start, middle), slice(middle, columns.stop)]
            return np.concatenate([self.region(index, rows, part) for part in parts], axis=1)
        top, left = min(int(y[0]), self.image.height - 1), min(int(x[0]), self.image.width - 1)
        block = self.image.region(
            index, slice(top, max(top + 1, int(y[-1]))), slice(left, max(left + 1, int(x[-1])))
        )
        return rounded(block_means(block_means(block, 0, y - top), 1, x - left), self.dtype)
