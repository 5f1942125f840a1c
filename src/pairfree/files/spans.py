"""Stretches of pixels along one axis, as slices with a start and a stop: tiles, chunks and what they share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

Place = tuple[slice, ...]
"""A block of an array: a span along each axis."""


def span_at(start: int, length: int, size: int) -> slice:
    """``length`` pixels from ``start``, or as many as there are of ``size``."""
    return slice(start, min(start + length, size))


def split_into_spans(size: int, length: int) -> list[slice]:
    """``size`` pixels in stretches of ``length``; the last one may be shorter."""
    return [span_at(start, length, size) for start in range(0, size, length)]


def overlap(a: slice, b: slice) -> slice:
    """What two spans share; its stop lies at or before its start where that is nothing."""
    return slice(max(a.start, b.start), min(a.stop, b.stop))


def is_empty(span: slice) -> bool:
    """Whether a span holds no pixel."""
    return bool(span.stop <= span.start)


def relative_to(span: slice, start: int) -> slice:
    """The span as counted from ``start``."""
    return slice(span.start - start, span.stop - start)


def length_of(span: slice) -> int:
    """Pixels of a span."""
    return int(span.stop - span.start)


def numbers_of_chunks(span: slice, length: int) -> range:
    """Which chunks of ``length`` pixels a span touches, the first one being 0."""
    return range(span.start // length, -(-span.stop // length))


def split_into_blocks(shape: Sequence[int], sides: Sequence[int]) -> Iterator[Place]:
    """An array in blocks with so long ``sides``, the last axis fastest; none is held."""
    starts = [range(0, size, side) for size, side in zip(shape, sides, strict=True)]
    for corner in itertools.product(*starts):
        along = zip(corner, sides, shape, strict=True)
        yield tuple(span_at(start, side, size) for start, side, size in along)
