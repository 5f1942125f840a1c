"""Stretches of pixels along one axis, as slices with a start and a stop: tiles, chunks, what they share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

Place = tuple[slice, ...]
"""A block of an array: a span along each axis."""


def span_at(start: int, length: int, size: int) -> slice:
    """``length`` pixels from ``start``, or as many as there are of ``size``."""
    stop = min(start + length, size)
    return slice(start, stop)


def centre_of(height: int, width: int, side: int) -> tuple[slice, slice]:
    """Rows and columns of the middle of a plane, at most ``side`` pixels each."""
    top, left = (max(0, (size - side) // 2) for size in (height, width))
    return span_at(top, side, height), span_at(left, side, width)


def split_into_spans(size: int, length: int) -> list[slice]:
    """``size`` pixels in stretches of ``length``; the last one may be shorter."""
    spans = []
    for start in range(0, size, length):
        spans.append(span_at(start, length, size))
    return spans


def spread_spans(size: int, length: int, count: int) -> list[slice]:
    """``count`` stretches of ``length`` pixels, the first and the last at the ends."""
    last = max(0, size - length)
    starts = np.linspace(0, last, count).astype(int)
    return [span_at(start, length, size) for start in starts.tolist()]


def overlap(a: slice, b: slice) -> slice:
    """What two spans share; its stop lies at or before its start where that is nothing."""
    start = max(a.start, b.start)
    stop = min(a.stop, b.stop)
    return slice(start, stop)


def is_empty(span: slice) -> bool:
    """Whether a span holds no pixel."""
    return length_of(span) <= 0


def relative_to(span: slice, start: int) -> slice:
    """The span as counted from ``start``."""
    first = span.start - start
    stop = span.stop - start
    return slice(first, stop)


def length_of(span: slice) -> int:
    """Pixels of a span."""
    return int(span.stop - span.start)


def numbers_of_chunks(span: slice, length: int) -> range:
    """Which chunks of ``length`` pixels a span touches, the first one being 0."""
    first = span.start // length
    end = -(-span.stop // length)
    return range(first, end)


def count_chunks(shape: Sequence[int], sides: Sequence[int]) -> tuple[int, ...]:
    """How many chunks with such sides a shape takes along each axis; the last ones may be cut."""
    along = zip(shape, sides, strict=True)
    return tuple(-(-size // side) for size, side in along)


def split_into_blocks(shape: Sequence[int], sides: Sequence[int]) -> Iterator[Place]:
    """An array in blocks with so long ``sides``, the last axis fastest."""
    along = []
    for size, side in zip(shape, sides, strict=True):
        along.append(split_into_spans(size, side))
    return itertools.product(*along)
