"""Whether the lower resolutions of a result are those of its pixels: what writing makes of the full ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from pairfree.files.checks import Check
from pairfree.files.formats.pyramid import Reduced
from pairfree.files.formats.quiet import quiet_readers
from pairfree.files.formats.tiff import lower_levels
from pairfree.files.formats.tiff_carried import Carried as CarriedTiff
from pairfree.files.formats.zarr_files import ZarrFiles, join
from pairfree.files.formats.zarr_layout import Carried as CarriedZarr
from pairfree.files.image import Image
from pairfree.files.limits import Limits
from pairfree.files.spans import split_into_spans

NAME = "lower resolutions"
"""Of the check."""
EXPECTED = "means of the full one"
ROUNDING = 1.0
"""Whole numbers may differ by so much: programs round halves in several ways."""
SHARE = 1e-3
"""Of the range of values that they may differ by: codecs of some chunks lose digits."""
ROWS_PX = 2**22
"""Pixels of the full image that are read at a time."""
Pair = tuple[np.ndarray, np.ndarray]
"""What is stored and what is expected there."""


def check_resolutions(given: Image, result: Image, limits: Limits) -> list[Check]:
    """Compare each lower resolution with the means that writing would make; empty for files without any.

    Parameters
    ----------
    given, result
        As they were opened; of a copy with the very levels that were given they are stated.
    limits
        What its file may declare.

    Raises
    ------
    InputError
        For lower resolutions that cannot be read.
    """
    wrong = _find_wrong(result, limits)
    if wrong is None:
        return []
    if not wrong:
        return [Check(NAME, EXPECTED, EXPECTED, True)]
    is_copy = have_same_pixels(given, result) and _find_wrong(given, limits) == wrong
    return [Check(NAME, EXPECTED, wrong, None if is_copy else False)]


def _find_wrong(image: Image, limits: Limits) -> str | None:
    """What is wrong with which resolution, in words; None where there is only one resolution."""
    found: list[str] = []
    carried = image.metadata.get("tiff")
    if isinstance(carried, CarriedTiff) and carried.levels:
        found = [_judge(pairs) for pairs in _levels_of_tiff(image, limits)]
    carried = image.metadata.get("zarr")
    if isinstance(carried, CarriedZarr) and len(carried.levels) > 1 and carried.files is not None:
        found = [_judge(pairs) for pairs in _levels_of_zarr(carried, carried.files)]
    if not found:
        return None
    return "; ".join(f"number {number} {words}" for number, words in enumerate(found, 1) if words)


def have_same_pixels(a: Image, b: Image) -> bool:
    """Whether two images have equal values everywhere; NaN is equal to itself."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    missing = a.dtype.kind == "f"
    pairs = zip(a.parts(), b.parts(), strict=True)
    return all(np.array_equal(one, other, equal_nan=missing) for one, other in pairs)


def _judge(pairs: Iterator[Pair] | None) -> str:
    """What is wrong with a resolution, in words; empty where nothing is."""
    if pairs is None:
        return "has other frames"
    farthest, low, high = 0.0, np.inf, -np.inf
    whole = False
    for stored, expected in pairs:
        whole = stored.dtype.kind in "iu"
        apart = np.abs(stored.astype(np.float64) - expected.astype(np.float64))
        known = np.isfinite(stored) & np.isfinite(expected)
        if not np.array_equal(np.isfinite(stored), np.isfinite(expected)):
            return "has missing values elsewhere"
        if known.any():
            farthest = max(farthest, float(apart[known].max()))
            low = min(low, float(expected[known].min()))
            high = max(high, float(expected[known].max()))
    allowed = ROUNDING * whole + SHARE * max(0.0, high - low)
    if farthest <= allowed + np.finfo(np.float32).eps * max(abs(low), abs(high)):
        return ""
    return f"is off by up to {farthest:.4g}"


def _levels_of_tiff(result: Image, limits: Limits) -> Iterator[Iterator[Pair] | None]:
    if result.source is None:
        return
    with quiet_readers():
        levels = lower_levels(result.source, limits)
    for level in levels:
        yield _pairs_of_planes(level, result)


def _pairs_of_planes(level: Image, result: Image) -> Iterator[Pair] | None:
    """Bands of rows of a lower resolution, plane by plane; None where it has not the planes of the result."""
    expected = Reduced(result, level.height, level.width)
    same_planes = [n for n in level.leading if n > 1] == [n for n in result.leading if n > 1]
    if not same_planes or level.samples != result.samples:
        return None
    rows = max(1, ROWS_PX // (result.width * max(1, result.height // level.height)))
    columns = slice(0, level.width)
    smaller = replace(result, data=expected)

    def pairs() -> Iterator[Pair]:
        for here, there in zip(level.planes(), smaller.planes(), strict=True):
            for band in split_into_spans(level.height, rows):
                yield level.region(here, band, columns), smaller.region(there, band, columns)

    return pairs()


def _levels_of_zarr(carried: CarriedZarr, files: ZarrFiles) -> Iterator[Iterator[Pair]]:
    import zarr

    from pairfree.files.formats.zarr_bounds import quiet_and_bounded

    try:
        with quiet_and_bounded():
            arrays: list[Any] = []
            for level in carried.levels:
                place = join(carried.place, level.path)
                arrays.append(zarr.open_array(files.store, path=place, mode="r"))
            for fine, coarse in pairwise(arrays):
                yield _pairs_of_parts(fine, coarse)
    finally:
        files.close()


def _pairs_of_parts(fine: Any, coarse: Any) -> Iterator[Pair]:
    from pairfree.files.formats.zarr_write import parts_of, shrunk_part

    for part in parts_of(coarse):
        yield np.asarray(coarse[part]), shrunk_part(fine, coarse, part)
