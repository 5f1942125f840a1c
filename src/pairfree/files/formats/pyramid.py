"""Lower resolutions of an image, as viewers want them: means over blocks, computed as they are asked for."""

from __future__ import annotations

import numpy as np

from pairfree.files.image import DType, Image, Index, Stored

READ_PX = 2**22
"""Pixels of the full image that are read at a time."""


def find_edges(size: int, length: int) -> np.ndarray:
    """Where the blocks begin that ``length`` pixels are the means of, and where the last one ends.

    Where ``length`` is ``size`` divided by a whole number, rounded either way, blocks have one size
    and the last one what is left; else they share ``size`` out.

    Parameters
    ----------
    size
        Pixels of the full image along one axis.
    length
        Pixels of the smaller image along it.

    Returns
    -------
    ndarray
        (length + 1,), in pixels of the full image.
    """
    factor = max(1, round(size / length))
    left_over = size - factor * length
    numbers = np.arange(length + 1)
    if abs(left_over) < factor:
        return np.minimum(numbers * factor, size)
    return numbers * size // length


def block_means(values: np.ndarray, axis: int, edges: np.ndarray) -> np.ndarray:
    """Means along an axis between successive edges; an empty block has the value it begins with.

    Parameters
    ----------
    values
        Any shape and type.
    axis
        Along which to take means.
    edges
        As from ``find_edges``, counted from the first of the ``values``.

    Returns
    -------
    ndarray
        float64, with ``len(edges) - 1`` values along ``axis``.
    """
    size = values.shape[axis]
    starts = np.minimum(edges[:-1], size - 1)
    last_start = int(starts[-1])
    end = int(edges[-1])
    end = max(end, last_start + 1)
    covered = np.take(values, range(end), axis)
    covered = covered.astype(np.float64)
    sums = np.add.reduceat(covered, starts, axis=axis)
    counts = np.diff(edges)
    counts = np.maximum(counts, 1)
    along = [1] * values.ndim
    along[axis] = -1
    counts = counts.reshape(along)
    means: np.ndarray = sums / counts
    return means


def covered_span(edges: np.ndarray, size: int) -> slice:
    """What blocks with these edges cover of ``size`` pixels, at least one."""
    begin = int(edges[0])
    begin = min(begin, size - 1)
    end = int(edges[-1])
    end = max(end, begin + 1)
    return slice(begin, end)


def round_to(dtype: DType, values: np.ndarray) -> np.ndarray:
    """Means as values of an image's type."""
    if dtype.kind in "iu":
        values = np.rint(values)
    return values.astype(dtype)


class Reduced(Stored):
    """An image at a lower resolution: each pixel is the mean of the block that it covers.

    Parameters
    ----------
    image
        The image in full.
    height, width
        Of the lower resolution, in pixels.
    """

    def __init__(self, image: Image, height: int, width: int) -> None:
        self.image = image
        self.dtype = image.dtype
        self.shape = (*image.leading, height, width)
        if image.axes.endswith("S"):
            self.plane_axes = 3
            self.shape = (*self.shape, image.samples)
        self.row_edges = find_edges(image.height, height)
        self.column_edges = find_edges(image.width, width)

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``; of a large one, each half by itself."""
        y = _edges_within(rows, self.row_edges)
        x = _edges_within(columns, self.column_edges)
        axis = self._axis_to_halve(y, x)
        if axis is None:
            return self._means(index, y, x)
        halves = []
        if axis == 0:
            for half in _halves(rows):
                part = self.region(index, half, columns)
                halves.append(part)
        else:
            for half in _halves(columns):
                part = self.region(index, rows, half)
                halves.append(part)
        return np.concatenate(halves, axis)

    def _axis_to_halve(self, y: np.ndarray, x: np.ndarray) -> int | None:
        """Along which to divide the blocks between these edges; None where they are few enough."""
        high = int(y[-1] - y[0])
        wide = int(x[-1] - x[0])
        values = high * wide * self.image.samples
        if values <= READ_PX:
            return None
        has_rows = len(y) > 2
        has_columns = len(x) > 2
        if has_rows and has_columns:
            return 0 if high >= wide else 1
        if has_rows:
            return 0
        if has_columns:
            return 1
        return None

    def _means(self, index: Index, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Means of the blocks between the edges ``y`` and ``x``."""
        rows = covered_span(y, self.image.height)
        columns = covered_span(x, self.image.width)
        block = self.image.region(index, rows, columns)
        down = block_means(block, 0, y - rows.start)
        means = block_means(down, 1, x - columns.start)
        return round_to(self.dtype, means)


def _edges_within(span: slice, edges: np.ndarray) -> np.ndarray:
    """Of all edges along an axis, those of the blocks of a span."""
    return edges[span.start : span.stop + 1]


def _halves(span: slice) -> tuple[slice, slice]:
    middle = (span.start + span.stop) // 2
    first = slice(span.start, middle)
    second = slice(middle, span.stop)
    return first, second
