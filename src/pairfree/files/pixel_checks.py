"""Whether the pixels of a result may be a denoiser's: in place, of the input everywhere, at its level.

All three hold for every denoiser, and none is judged beyond what the noise explains. Where an image is too
small or too faint to tell it from its mirror image, that is said instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from pairfree.files.checks import Check
from pairfree.files.dtypes import step_of
from pairfree.files.image import Image, Index
from pairfree.files.placement import FloatArray, block_sums, find_placement
from pairfree.files.regions import find_foreign
from pairfree.files.spans import Place, split_into_blocks

PLACE, REGIONS, OFFSET = "place", "regions", "offset"
"""Names of the checks."""
NOT_JUDGED = "not judged: too small or too little contrast"
AS_GIVEN = "as in the input"
TILE_PX = 2048
"""Planes are read in tiles of so many pixels a side."""
PLACED_PX = 2**20
"""A plane's place is found in means of blocks that are no more than so many."""
OFFSET_SHARE = 0.15
"""Of the noise, that the level may move by beyond mean and median."""
OFFSET_SIGMAS = 6.0
"""Standard errors that it may move by, too."""


@dataclass
class _Found:
    """What was found so far, in words."""

    misplaced: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    offsets: list[float] = field(default_factory=list)
    unsure: int = 0
    """Planes whose place could not be judged."""


def check_pixels(a: Image, b: Image, any_scale: bool = False) -> list[Check]:
    """Compare place, regions and level of each plane, sample by sample.

    Parameters
    ----------
    a, b
        The input and its result, of one shape.
    any_scale
        The level is stated and not judged.
    """
    found = _Found()
    for index in a.planes():
        for sample in range(a.colours):
            name = f"frame {list(index)}" if index else "image"
            if a.colours > 1:
                name = f"{name}, sample {sample}"
            _judge_plane(_Plane(a, b, index, sample), name, found)
    return [
        _check_place(found),
        _check(REGIONS, found.foreign),
        _check_offset(found, any_scale),
    ]


def _check(name: str, wrong: list[str]) -> Check:
    if not wrong:
        return Check(name, AS_GIVEN, AS_GIVEN, True)
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return Check(name, AS_GIVEN, wrong[0] + more, False)


def _check_place(found: _Found) -> Check:
    if found.misplaced or not found.unsure:
        return _check(PLACE, found.misplaced)
    planes = len(found.offsets)
    which = "" if found.unsure == planes else f" in {found.unsure} of {planes} frames"
    return Check(PLACE, AS_GIVEN, NOT_JUDGED + which, None)


def _check_offset(found: _Found, any_scale: bool) -> Check:
    low, high = min(found.offsets), max(found.offsets)
    told = f"{low:.4g}" if low == high else f"{low:.4g} .. {high:.4g}"
    told = f"{told} intensity units"
    if any_scale:
        return Check(OFFSET, "0", told, None)
    if found.moved:
        return Check(OFFSET, "0", f"{told} ({found.moved[0]})", False)
    return Check(OFFSET, "0", told, True)


@dataclass(frozen=True)
class _Plane:
    """A sample of a plane of the input and of the result."""

    a: Image
    b: Image
    index: Index
    sample: int

    def tiles(self) -> Iterator[tuple[Place, FloatArray, FloatArray]]:
        """Both, finite, tile by tile: what is missing on either side says nothing on both."""
        for place in split_into_blocks((self.a.height, self.a.width), (TILE_PX, TILE_PX)):
            x, y = self._values(self.a, place), self._values(self.b, place)
            known = np.isfinite(x) & np.isfinite(y)
            if not known.all():
                x, y = (
                    np.where(known, one, one[known].mean() if known.any() else 0) for one in (x, y)
                )
            yield place, x, y

    def _values(self, image: Image, place: Place) -> FloatArray:
        values = image.region(self.index, *place)
        if values.ndim > 2:
            values = values[..., self.sample]
        return values.astype(np.float64)

    @property
    def step(self) -> float:
        """Between two values: 1 for whole numbers."""
        return step_of(self.a.dtype)


def _judge_plane(plane: _Plane, name: str, found: _Found) -> None:
    side = 1
    while plane.a.height * plane.a.width > PLACED_PX * side**2:
        side *= 2
    shape = -(-plane.a.height // side), -(-plane.a.width // side)
    small_x, small_y = np.zeros(shape), np.zeros(shape)
    levels = []
    is_copy = True
    for place, x, y in plane.tiles():
        rows, columns = (slice(span.start // side, -(-span.stop // side)) for span in place)
        small_x[rows, columns] = block_sums(x, side)
        small_y[rows, columns] = block_sums(y, side)
        levels.append(_level(x - y))
        if np.array_equal(x, y):
            continue
        is_copy = False
        at = find_foreign(x, y, plane.step)
        if at is not None:
            row, column = place[0].start + at[0], place[1].start + at[1]
            found.foreign.append(f"row {row}, column {column} of {name} shows something else")
    _judge_level(np.array(levels), plane.step, name, found)
    if is_copy:
        return
    placement = find_placement(small_x, small_y)
    if placement.wrong:
        found.misplaced.append(f"{placement.wrong} ({name})")
    found.unsure += not placement.sure


def _level(apart: FloatArray) -> tuple[float, float, float, int]:
    """Mean, median, deviation and number of what was taken away."""
    return float(apart.mean()), float(np.median(apart)), float(apart.std()), apart.size


def _judge_level(levels: FloatArray, step: float, name: str, found: _Found) -> None:
    """Whether the level moved by more than lies between the mean and the median of the noise.

    Some denoisers keep the mean of skewed noise, others its median.
    """
    mean, median, deviation, _ = (
        float(one) for one in np.average(levels, axis=0, weights=levels[:, 3])
    )
    count = float(levels[:, 3].sum())
    allowed = step + deviation * (OFFSET_SHARE + OFFSET_SIGMAS / np.sqrt(count))
    allowed += np.finfo(np.float32).eps * abs(mean)
    found.offsets.append(-mean + 0.0)
    if min(mean, median) > allowed or max(mean, median) < -allowed:
        found.moved.append(f"{name} has another level")
