"""Planes that may be larger than memory: read part by part, mirrored at their edges, written part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from pairfree.data.directions import Change
from pairfree.data.normalize import Normalizer, PlaneMap
from pairfree.engine.tiles import Box, Region

SAMPLE_TILE_PX = 256
"""Side of the tiles that stand for an image which does not fit into memory as a whole."""
Write = Callable[[slice, slice, np.ndarray], None]
"""Takes the rows, columns and values (C, h, w) float64 of a finished tile."""


@dataclass(frozen=True)
class Plane:
    """A plane that may be larger than memory."""

    height: int
    width: int
    read: Callable[[slice, slice], np.ndarray]
    """Rows and columns within the plane -> intensities (C, h, w) of any supported dtype; finite."""
    slow: bool = False
    """Whether reading takes time, as from a file: the next tile is then read while one is worked on."""
    measured: dict[Normalizer, PlaneMap] = field(default_factory=dict, compare=False, repr=False)
    """Maps of the plane that were measured already: its tiles share them."""

    def map_by(self, normalizer: Normalizer) -> PlaneMap:
        """How the plane's intensities become network units."""
        if normalizer not in self.measured:
            made = normalizer.map_plane(self.read, self.height, self.width)
            self.measured[normalizer] = made
        return self.measured[normalizer]

    @classmethod
    def of(cls, intensity: np.ndarray) -> Plane:
        """Of an array (C, H, W)."""
        _, height, width = intensity.shape

        def read(rows: slice, columns: slice) -> np.ndarray:
            return intensity[:, rows, columns]

        return cls(height, width, read)

    def read_padded(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """A part (C, h, w) of the plane, which is mirrored at its bottom and right edges.

        Also a plane of 1 x 1 px.
        """
        rows = _mirror_places(top, bottom, self.height)
        columns = _mirror_places(left, right, self.width)
        first_row = rows.min()
        first_column = columns.min()
        part = self.read(
            slice(first_row, rows.max() + 1),
            slice(first_column, columns.max() + 1),
        )
        if bottom > self.height:
            part = part[:, rows - first_row]
        if right > self.width:
            part = part[:, :, columns - first_column]
        return part


@dataclass(frozen=True)
class TileJob:
    """What is made of a plane, tile by tile."""

    plane: Plane
    apply: Callable[[Tensor], Tensor]
    """(1, C, h, w) network units -> same shape."""
    mapped: PlaneMap
    """How the plane's intensities become network units."""
    combine: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Intensities of a tile, and what ``apply`` gave for it -> what is written."""
    write: Write
    is_finished: Callable[[slice, slice], bool]
    """Whether the tile of these rows and columns was done before, and its result stands."""
    within: Region | None = None
    """Rows and columns of tiles that are asked for; None for all."""
    change: Change | None = None
    """By which the result is corrected."""

    def finish(self, intensity: np.ndarray, made: np.ndarray, inside: Region) -> np.ndarray:
        """What is written of a tile (C, h, w): all of it was read, and only the inside is written."""
        rows, columns = inside
        if self.change is None:
            return self.combine(
                intensity[:, rows, columns], made[:, rows, columns].astype(np.float64)
            )
        whole = self.combine(intensity, made.astype(np.float64))
        return self.change.apply(whole, intensity.astype(np.float64))[:, rows, columns]


def _mirror_places(start: int, stop: int, length: int) -> np.ndarray:
    """Where start..stop lie in a line of ``length`` that is mirrored at its ends, edge values twice."""
    place = np.arange(start, stop) % (2 * length)
    return np.minimum(place, 2 * length - 1 - place)


def read_ahead(plane: Plane, places: Sequence[Box]) -> Iterator[np.ndarray]:
    """``plane.read_padded`` of each place in turn."""
    if not plane.slow:
        for place in places:
            yield plane.read_padded(*place)
        return
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(plane.read_padded, *places[0])
        for place in places[1:]:
            part = waiting.result()
            waiting = reader.submit(plane.read_padded, *place)
            yield part
        yield waiting.result()


def sample_places(height: int, width: int, max_px: float, stride_px: int) -> list[Box]:
    """What stands for a whole plane where statistics of it are taken.

    Parameters
    ----------
    height, width
        Of the plane, multiples of the stride.
    max_px
        Pixels that may be taken of it.
    stride_px
        Of the network; tiles begin and end with multiples of it.

    Returns
    -------
    list
        (top, bottom, left, right) of the plane itself up to ``max_px`` pixels, else of as many square tiles
        as that allows. Their places are a function of the plane's shape alone.
    """
    if height * width <= max_px:
        return [(0, height, 0, width)]
    side = int(min(SAMPLE_TILE_PX, height, width, max_px**0.5))
    side = max(stride_px, side // stride_px * stride_px)
    count = max(1, int(max_px // side**2))
    rng = np.random.default_rng((height, width))
    last_row = (height - side) // stride_px
    last_column = (width - side) // stride_px
    tops = stride_px * rng.integers(0, last_row + 1, count)
    lefts = stride_px * rng.integers(0, last_column + 1, count)
    places = []
    for top, left in zip(tops.tolist(), lefts.tolist(), strict=True):
        places.append((top, top + side, left, left + side))
    return places


def write_into(out: np.ndarray) -> Write:
    """What writes finished tiles into an array (C, H, W)."""

    def write(rows: slice, columns: slice, values: np.ndarray) -> None:
        out[:, rows, columns] = values

    return write
