"""Tiles: a partition of the image into cores, each read with a halo. Pure arithmetic, no pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """read    (top, bottom, left, right) of the pixels to give the network, core + halo, inside the padded image
    core    (top, bottom, left, right) of the pixels that this tile alone writes; the cores of a plan are a partition of the image
    """

    read: tuple[int, int, int, int]
    core: tuple[int, int, int, int]


def plan_tiles(
    height: int,
    width: int,
    core_px: int,
    halo_px: int,
    stride_px: int,
    within: tuple[slice, slice] | None = None,
) -> Iterator[Tile]:
    """Tiles of a padded image whose sides are multiples of ``stride_px``; of a part of it, rows and columns that tiles begin and end with.

    Cores start at multiples of the stride and the halo is rounded up to one, so that every tile meets the network's down-sampling grid
    where the whole image would. At the image's border a tile ends where the image ends: the network's own padding acts there in both.
    """
    core = max(stride_px, core_px // stride_px * stride_px)
    halo = whole_strides(halo_px, stride_px)
    rows, columns = within or (slice(0, height), slice(0, width))
    for top in range(rows.start, rows.stop, core):
        bottom = min(top + core, rows.stop)
        for left in range(columns.start, columns.stop, core):
            right = min(left + core, columns.stop)
            read = (
                max(0, top - halo),
                min(height, bottom + halo),
                max(0, left - halo),
                min(width, right + halo),
            )
            yield Tile(read, (top, bottom, left, right))


def whole_strides(length_px: int, stride_px: int) -> int:
    """``length_px`` rounded up to a multiple of the stride."""
    return math.ceil(length_px / stride_px) * stride_px


def bytes_for_core(core_px: int, bytes_per_px: float, halo_px: int, stride_px: int) -> int:
    """Bytes that a tile of such a core takes, with its halo."""
    return math.ceil((core_px + 2 * whole_strides(halo_px, stride_px)) ** 2 * bytes_per_px)


def core_for_memory(
    max_bytes: float, bytes_per_px: float, halo_px: int, stride_px: int, largest_px: int
) -> int:
    """Largest core side, at most ``largest_px``, whose tile with halo needs at most ``max_bytes``; at least one stride."""
    side = math.isqrt(max(0, int(max_bytes / bytes_per_px)))
    core = side - 2 * whole_strides(halo_px, stride_px)
    return max(stride_px, min(largest_px, core) // stride_px * stride_px)
