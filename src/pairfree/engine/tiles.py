"""Tiles: a partition of the image into cores, each read with a halo. Pure arithmetic, no pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

Box = tuple[int, int, int, int]
"""(top, bottom, left, right) of a part of an image, pixels."""
Region = tuple[slice, slice]
"""Rows and columns of a part of an image."""


@dataclass(frozen=True)
class Tile:
    """A part of an image that the network is applied to at once."""

    read: Box
    """Of the pixels to give the network, core + halo, inside the padded image."""
    core: Box
    """Of the pixels that this tile alone writes; the cores of a plan are a partition of the image."""


def plan_tiles(
    height: int,
    width: int,
    core_px: int,
    halo_px: int,
    stride_px: int,
    within: Region | None = None,
) -> Iterator[Tile]:
    """Tiles of a padded image, or of a part of it.

    Parameters
    ----------
    height, width
        Of the padded image, multiples of ``stride_px``.
    core_px
        Side of a core, rounded down to a multiple of the stride.
    halo_px
        What is read around it, rounded up to one.
    stride_px
        Of the network.
    within
        Rows and columns that tiles begin and end with; None: all.

    Notes
    -----
    Cores start at multiples of the stride, so that every tile meets the network's down-sampling grid where
    the whole image would. At the image's border a tile ends where the image ends: the network's own padding
    acts there in both.
    """
    core = max(stride_px, core_px // stride_px * stride_px)
    halo = whole_strides(halo_px, stride_px)
    rows, columns = within or (slice(0, height), slice(0, width))
    for top in range(rows.start, rows.stop, core):
        bottom = min(top + core, rows.stop)
        read_top = max(0, top - halo)
        read_bottom = min(height, bottom + halo)
        for left in range(columns.start, columns.stop, core):
            right = min(left + core, columns.stop)
            read_left = max(0, left - halo)
            read_right = min(width, right + halo)
            read = (read_top, read_bottom, read_left, read_right)
            yield Tile(read, (top, bottom, left, right))


@dataclass(frozen=True)
class PlacedTile:
    """A tile of an image whose sides need be no multiples of the stride.

    It writes what of its core lies in the image.
    """

    read: Box
    """Of the pixels to give the network, in the padded image."""
    rows: slice
    """Of the image, that it writes."""
    columns: slice

    @property
    def pixels(self) -> int:
        """How many it writes."""
        high: int = self.rows.stop - self.rows.start
        wide: int = self.columns.stop - self.columns.start
        return high * wide

    @property
    def inside(self) -> Region:
        """Where in what is read lies what is written."""
        top, _, left, _ = self.read
        rows = slice(self.rows.start - top, self.rows.stop - top)
        columns = slice(self.columns.start - left, self.columns.stop - left)
        return rows, columns


def place_tiles(
    height: int,
    width: int,
    core_px: int,
    halo_px: int,
    stride_px: int,
    within: Region | None = None,
) -> Iterator[PlacedTile]:
    """Tiles of an image of any size, or of a part of it.

    A part is rows and columns that tiles of such an image begin and end with; parameters are those of
    ``plan_tiles``.
    """
    high = whole_strides(height, stride_px)
    wide = whole_strides(width, stride_px)
    if within is not None:
        rows, columns = within
        last_row = whole_strides(rows.stop, stride_px)
        last_column = whole_strides(columns.stop, stride_px)
        within = slice(rows.start, last_row), slice(columns.start, last_column)
    for tile in plan_tiles(high, wide, core_px, halo_px, stride_px, within):
        top, bottom, left, right = tile.core
        rows = slice(top, min(bottom, height))
        columns = slice(left, min(right, width))
        yield PlacedTile(tile.read, rows, columns)


def whole_strides(length_px: int, stride_px: int) -> int:
    """``length_px`` rounded up to a multiple of the stride."""
    return math.ceil(length_px / stride_px) * stride_px


def bytes_for_core(core_px: int, bytes_per_px: float, halo_px: int, stride_px: int) -> int:
    """Bytes that a tile of such a core takes, with its halo."""
    side = core_px + 2 * whole_strides(halo_px, stride_px)
    return math.ceil(side**2 * bytes_per_px)


def core_for_memory(
    max_bytes: float, bytes_per_px: float, halo_px: int, stride_px: int, largest_px: int
) -> int:
    """Largest core side whose tile with halo needs at most ``max_bytes``.

    At most ``largest_px``, at least one stride.
    """
    side = math.isqrt(max(0, int(max_bytes / bytes_per_px)))
    core = side - 2 * whole_strides(halo_px, stride_px)
    return max(stride_px, min(largest_px, core) // stride_px * stride_px)
