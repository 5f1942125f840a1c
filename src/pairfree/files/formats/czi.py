"""Zeiss' CZI files, read only: the tiles of a scene as one image, read where they are asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.czi_container import (
    RATIOS,
    Directory,
    Subblock,
    layout_of,
    read_directory,
    read_metadata,
    read_subblock,
)
from pairfree.files.formats.czi_metadata import read_stated
from pairfree.files.formats.vendor_parts import (
    KEPT_BYTES,
    choose_scene,
    make_image,
    name_axes,
)
from pairfree.files.image import DType, Image, Index, Stored
from pairfree.files.limits import Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import Kept

LEADING = "VHIRBTCZ"
"""Dimensions in front of Y, slowest first: view, phase, illumination, rotation, block, then as elsewhere."""
KNOWN = {"T": "T", "Z": "Z", "C": "C"}
SPARSE = 100.0
"""Largest ratio of a scene's pixels to those of its tiles: the corners between them are empty."""


@dataclass(frozen=True)
class Layout:
    """Where the tiles of a scene lie."""

    axes: str
    """Dimensions of CZI, slowest first, without those of length 1."""
    shape: tuple[int, ...]
    dtype: DType
    corner: tuple[int, int]
    """Row and column, of the whole slide, that the image begins at."""
    tiles: dict[Index, list[Subblock]]
    """Of each plane, those first that others cover."""


class Tiles(Stored):
    """A scene whose tiles are decoded as they are asked for; no tile is zero.

    Parameters
    ----------
    path
        Of the file.
    layout
        Of the scene.
    samples
        Of a pixel.
    """

    def __init__(self, path: Path, layout: Layout, samples: int) -> None:
        self.path, self.layout = path, layout
        self.shape, self.dtype = layout.shape, layout.dtype
        self.plane_axes = 3 if samples > 1 else 2
        self._kept = Kept(KEPT_BYTES)

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``."""
        top, left = self.layout.corner
        rest = self.shape[len(self.shape) - self.plane_axes + 2 :]
        out = np.zeros((rows.stop - rows.start, columns.stop - columns.start, *rest), self.dtype)
        for tile in self.layout.tiles.get(index, ()):
            first_row = tile.start["Y"] - top
            first_column = tile.start["X"] - left
            high = slice(max(rows.start, first_row), min(rows.stop, first_row + tile.size["Y"]))
            wide = slice(
                max(columns.start, first_column),
                min(columns.stop, first_column + tile.size["X"]),
            )
            if high.start >= high.stop or wide.start >= wide.stop:
                continue
            pixels = self._decoded(tile)
            part = pixels[_moved(high, first_row), _moved(wide, first_column)]
            out[_moved(high, rows.start), _moved(wide, columns.start)] = part
        return out

    def _decoded(self, tile: Subblock) -> np.ndarray:
        pixels = self._kept.get(tile.place)
        if pixels is None:
            with self.path.open("rb") as file:
                pixels = read_subblock(file, tile, self.path)
            self._kept.put(tile.place, pixels)
        return pixels


def _moved(places: slice, by: int) -> slice:
    return slice(places.start - by, places.stop - by)


def read_czi(path: Path, limits: Limits, scene: int | None = None) -> Image:
    """Read one scene of a CZI file in its full resolution.

    Parameters
    ----------
    path
        The file.
    limits
        What it may declare.
    scene
        Its number, from 0; None for the first.

    Raises
    ------
    InputError
        For what cannot be read, and for a scene that does not exist.
    """
    with path.open("rb") as file:
        directory = read_directory(file, path)
        xml = read_metadata(file, directory.metadata)
    scenes = _scenes(directory)
    scene, lines = choose_scene(path, scene, len(scenes), "scenes")
    blocks = scenes[sorted(scenes)[scene]]
    dtype, samples = _common_layout(blocks, path)
    sizes = {axis: _extent(blocks, axis) for axis in "YX"}
    starts = {axis: sorted({one.start.get(axis, 0) for one in blocks}) for axis in LEADING}
    axes = "".join(axis for axis in LEADING if len(starts[axis]) > 1)
    leading = tuple(len(starts[axis]) for axis in axes)
    rest = (samples,) if samples > 1 else ()
    shape = (*leading, *(stop - start for start, stop in sizes.values()), *rest)
    ratio = SPARSE * max(RATIOS[one.compression] for one in blocks)
    check_declared(path, shape, dtype, limits, path.stat().st_size, ratio, may_stay=True)
    tiles = _tiles_of_planes(blocks, axes, starts)
    planes = math.prod(leading)
    if len(tiles) < planes:
        lines.append(
            f"{planes - len(tiles)} of {planes} planes were never recorded; their pixels are zero"
        )
    corner = (sizes["Y"][0], sizes["X"][0])
    layout = Layout(axes, shape, dtype, corner, tiles)
    stated = read_stated(xml, starts["C"], lines)
    letters = name_axes(axes, KNOWN) + ("YXS" if samples > 1 else "YX")
    return make_image(path, Tiles(path, layout, samples), letters, stated, lines, limits)


def count_scenes_of_czi(path: Path) -> int:
    """How many scenes a CZI file holds; InputError where it cannot be read."""
    with path.open("rb") as file:
        return len(_scenes(read_directory(file, path)))


def _scenes(directory: Directory) -> dict[int, list[Subblock]]:
    """Subblocks of full resolution, by the scene that they are of."""
    found: dict[int, list[Subblock]] = {}
    for one in directory.subblocks:
        if one.full:
            found.setdefault(one.start.get("S", 0), []).append(one)
    return found


def _common_layout(blocks: Sequence[Subblock], path: Path) -> tuple[DType, int]:
    """Type that holds the pixels of all tiles, and samples of a pixel."""
    layouts = {layout_of(one, path) for one in blocks}
    samples = {count for _, count in layouts}
    deep = any(one.size[axis] > 1 for one in blocks for axis in one.size if axis not in "YX")
    if len(samples) > 1 or deep:
        what = "planes that are stored together" if deep else "grey and colour in one scene"
        raise InputError(f"{shown(path)}: {what} are not supported; export it as OME-TIFF")
    return np.result_type(*(dtype for dtype, _ in layouts)), samples.pop()


def _extent(blocks: Sequence[Subblock], axis: str) -> tuple[int, int]:
    """Where the tiles begin along X or Y, and where they end."""
    first = min(one.start[axis] for one in blocks)
    stop = max(one.start[axis] + one.size[axis] for one in blocks)
    return first, stop


def _tiles_of_planes(
    blocks: Sequence[Subblock], axes: str, starts: dict[str, list[int]]
) -> dict[Index, list[Subblock]]:
    """Tiles of each plane in the order of their numbers: a later one covers those before it."""
    places = {axis: {start: i for i, start in enumerate(starts[axis])} for axis in axes}
    found: dict[Index, list[Subblock]] = {}
    for one in sorted(blocks, key=lambda block: block.start.get("M", 0)):
        index = tuple(places[axis][one.start.get(axis, 0)] for axis in axes)
        found.setdefault(index, []).append(one)
    return found
