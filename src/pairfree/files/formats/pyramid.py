"""Lower resolutions of an image, as viewers want them: means over blocks, computed as they are asked for."""

from __future__ import annotations

import numpy as np

from pairfree.files.image import DType, Image, Index, Stored
from pairfree.files.spans import length_of

READ_PX = 2**22
"""Pixels of the full image that are read at a time."""


def find_edges(size: int, length: int) -> np.ndarray:
    """Where the blocks begin that ``length`` pixels are the means of, and where the last one ends.

    Blocks have one size, and the last one what is left, where ``length`` is ``size`` divided by a whole
    number, rounded either way; else they share ``size`` out.

    Returns
    -------
    ndarray
        (length + 1,), in pixels of the full image.
    """
    factor = max(1, round(size / length))
    numbers = np.arange(length + 1)
    if abs(size - factor * length) < factor:
        return np.minimum(numbers * factor, size)
    return numbers * size // length


def block_means(values: np.ndarray, axis: int, edges: np.ndarray) -> np.ndarray:
    """Means along ``axis`` between successive ``edges``; an empty block has the value that it begins with.

    Returns
    -------
    ndarray
        float64, with ``len(edges) - 1`` values along ``axis``.
    """
    starts = np.minimum(edges[:-1], values.shape[axis] - 1)
    end = max(int(edges[-1]), int(starts[-1]) + 1)
    covered = np.take(values, range(end), axis).astype(np.float64)
    sums: np.ndarray = np.add.reduceat(covered, starts, axis=axis)
    counts = np.maximum(np.diff(edges), 1)
    along = [1] * values.ndim
    along[axis] = -1
    return sums / counts.reshape(along)


def round_to(dtype: DType, values: np.ndarray) -> np.ndarray:
    """Means as values of an image's type."""
    whole = np.rint(values) if dtype.kind in "iu" else values
    return whole.astype(dtype)


class Reduced(Stored):
    """An image at a lower resolution: each pixel is the mean of the block that it covers."""

    def __init__(self, image: Image, height: int, width: int) -> None:
        self.image, self.dtype = image, image.dtype
        self.plane_axes = 3 if image.axes.endswith("S") else 2
        samples = image.shape[len(image.leading) + 2 :]
        self.shape = (*image.leading, height, width, *samples)
        self.row_edges = find_edges(image.height, height)
        self.column_edges = find_edges(image.width, width)

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``; of a large one, each half by itself."""
        y = self.row_edges[rows.start : rows.stop + 1]
        x = self.column_edges[columns.start : columns.stop + 1]
        high, wide = int(y[-1] - y[0]), int(x[-1] - x[0])
        too_large = high * wide * self.image.samples > READ_PX
        several_rows, several_columns = length_of(rows) > 1, length_of(columns) > 1
        if too_large and several_rows and (high >= wide or not several_columns):
            return np.concatenate([self.region(index, half, columns) for half in _halves(rows)])
        if too_large and several_columns:
            return np.concatenate(
                [self.region(index, rows, half) for half in _halves(columns)], axis=1
            )
        return self._means(index, y, x)

    def _means(self, index: Index, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Means of the blocks between the edges ``y`` and ``x``."""
        top = min(int(y[0]), self.image.height - 1)
        left = min(int(x[0]), self.image.width - 1)
        rows = slice(top, max(top + 1, int(y[-1])))
        columns = slice(left, max(left + 1, int(x[-1])))
        block = self.image.region(index, rows, columns)
        means = block_means(block_means(block, 0, y - top), 1, x - left)
        return round_to(self.dtype, means)


def _halves(span: slice) -> list[slice]:
    middle = (span.start + span.stop) // 2
    return [slice(span.start, middle), slice(middle, span.stop)]
