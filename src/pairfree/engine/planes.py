"""Planes that may be larger than memory: read part by part, mirrored at their edges, written part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

SAMPLE_TILE_PX = 256
"""Side of the tiles that stand for an image which does not fit into memory as a whole."""

Write = Callable[[slice, slice, np.ndarray], None]
"""Takes the rows, columns and values (C, h, w) float64 of a finished tile."""


@dataclass(frozen=True)
class Plane:
    """A plane that may be larger than memory.

    read   rows and columns within the plane -> intensities (C, h, w) of any supported dtype; finite
    slow   reading takes time, as from a file: the next tile is read while one is worked on
    """

    height: int
    width: int
    read: Callable[[slice, slice], np.ndarray]
    slow: bool = False

    @classmethod
    def of(cls, intensity: np.ndarray) -> Plane:
        """Of an array (C, H, W)."""
        return cls(intensity.shape[1], intensity.shape[2], lambda rows, columns: intensity[:, rows, columns])

    def padded(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """(C, bottom - top, right - left) of the plane mirrored at its bottom and right edges; any size from 1 x 1 up."""
        rows, columns = _mirrored(top, bottom, self.height), _mirrored(left, right, self.width)
        found = self.read(slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        if bottom > self.height:
            found = found[:, rows - rows.min()]
        return found if right <= self.width else found[:, :, columns - columns.min()]


class Work:
    """What is known of a plane's tiles before they are done: nothing. A journal knows more."""

    def finished(self, rows: slice, columns: slice) -> bool:
        """Whether this tile was done before, and its result stands."""
        return False

    def restart(self) -> None:
        """Tiles of another size follow: what was done so far is done anew."""


def read_ahead(plane: Plane, places: Sequence[tuple[int, int, int, int]]) -> Iterator[np.ndarray]:
    """``plane.padded`` of each place in turn."""
    if not plane.slow:
        yield from (plane.padded(*place) for place in places)
        return
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(plane.padded, *places[0])
        for place in places[1:]:
            now, waiting = waiting.result(), reader.submit(plane.padded, *place)
            yield now
        yield waiting.result()


def sample_places(height: int, width: int, max_px: float, stride_px: int) -> list[tuple[int, int, int, int]]:
    """What stands for a whole plane, as (top, bottom, left, right): the plane up to ``max_px`` pixels, else as many square tiles as that
    allows. Their places are a function of the plane's shape alone.
    """
    if height * width <= max_px:
        return [(0, height, 0, width)]
    side = max(stride_px, int(min(SAMPLE_TILE_PX, height, width, max_px**0.5)) // stride_px * stride_px)
    rng = np.random.default_rng((height, width))
    rows, columns = (
        stride_px * rng.integers(0, (length - side) // stride_px + 1, max(1, int(max_px // side**2)))
        for length in (height, width)
    )
    return [
        (int(top), int(top) + side, int(left), int(left) + side)
        for top, left in zip(rows, columns, strict=True)
    ]


def _mirrored(start: int, stop: int, length: int) -> np.ndarray:
    """Where the places start..stop lie in a line of ``length`` that is mirrored at its ends, edge values twice."""
    place = np.arange(start, stop) % (2 * length)
    return np.minimum(place, 2 * length - 1 - place)


def write_into(out: np.ndarray) -> Write:
    def write(rows: slice, columns: slice, values: np.ndarray) -> None:
        out[:, rows, columns] = values

    return write
