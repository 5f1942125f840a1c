"""Whether denoised files are what a run makes of the noisy ones: a few small ones are done again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairfree.data.directions import Change
from pairfree.engine.model import Model
from pairfree.errors import PairfreeError
from pairfree.evidence.numbers import format_number
from pairfree.evidence.rows import Row
from pairfree.examination.examine import MOST_IMAGES
from pairfree.files.image import Image
from pairfree.files.opening import open_image
from pairfree.files.partners import partners
from pairfree.measure.local_moments import block_means
from pairfree.sampling import spaced_indices

FloatArray = NDArray[np.float64]

MOST_COMPARED = 1 << 22
"""Values of an image that is denoised again."""
ALIKE = 0.01
"""Of what was removed, on average, by which a file may differ: another processor's sums do by far less."""
PLACE_ALIKE = 0.1
"""Likewise in one place: a rounded pixel here and there is no change."""
MAYBE = 0.5
"""Likewise of a file, up to which the options of ``denoise`` are tried: they take eight times as long."""
MOST_PLACES = 0.5
"""Share of the places, from which a file was made by something else; in fewer it was changed."""
PLACE_PX = 8
"""Side of the places."""
NAME, TESTS = "same files", "Whether the denoised files are what this run makes of the noisy ones"


@dataclass(frozen=True)
class _Difference:
    """How a file differs from what the run makes."""

    share: float
    """Of what was removed."""
    most: float
    """The same in the place where it is greatest."""
    places: float
    """Share of the places that differ."""
    where: str
    """The file, and where it differs most."""
    how: str = ""
    """With which option the run makes it; empty for none."""

    @property
    def alike(self) -> bool:
        """Whether it is what the run makes."""
        return self.share <= ALIKE and self.most <= PLACE_ALIKE


def compare_results(
    model: Model, noisy: str | Path, denoised: str | Path, change: Change | None = None
) -> Row:
    """Whether denoised files are what a model makes of the noisy ones.

    Parameters
    ----------
    model
        The run's.
    noisy, denoised
        Folders, or files.
    change
        The correction that these files would be denoised with, if one was asked for.
    """
    if model.predictor.whole_image:
        text = "This method takes its time for each image: no file is made again to be compared."
        return Row(NAME, TESTS, "untold", text)
    model = Model(model.predictor, model.record, masked=True)
    pairs = partners(noisy, denoised)
    small = [name for name, (first, second) in pairs.items() if _can_compare(first, second)]
    found: list[_Difference] = []
    for index in spaced_indices(len(small), MOST_IMAGES):
        before, after = (open_image(path) for path in pairs[small[index]])
        try:
            found.append(_find_difference(model, change, small[index], before, after))
        except PairfreeError:
            continue
    return _judge(found, len(pairs))


def _can_compare(first: Path, second: Path) -> bool:
    before, after = open_image(first), open_image(second)
    return before.size <= MOST_COMPARED and before.shape == after.shape


def _find_difference(
    model: Model, change: Change | None, name: str, before: Image, after: Image
) -> _Difference:
    """From what the run makes, by whichever of its options is nearest."""
    differences = []
    for how, one in _list_ways(model, change):
        made = one.denoise_image(before).image.pixels
        removed = float(_measure_distance(made, before.pixels).mean())
        apart = _measure_distance(made, after.pixels)
        differences.append(_describe_difference(name, how, apart, removed, after.axes))
        if differences[-1].alike or differences[0].share > MAYBE:
            break
    return min(differences, key=lambda one: (not one.alike, one.share))


def _list_ways(model: Model, change: Change | None) -> Iterator[tuple[str, Model]]:
    """The model as it is, and as the options of ``denoise`` change it."""
    predictor = model.predictor
    corrected = change if predictor.change is None else None
    yield "", model
    if corrected is not None:
        yield "`correct`", model.corrected(corrected)
    if predictor.symmetries or predictor.instance_layers:
        return
    turned = copy.copy(predictor)
    turned.symmetries = True
    symmetric = Model(turned, model.record, model.masked)
    yield "`symmetries`", symmetric
    if corrected is not None:
        yield "`symmetries` and `correct`", symmetric.corrected(corrected)


def _measure_distance(first: NDArray[np.generic], second: NDArray[np.generic]) -> FloatArray:
    """Of each pixel; none where both are missing, beyond all measure where one is."""
    one, other = first.astype(np.float64), second.astype(np.float64)
    missing = ~np.isfinite(one), ~np.isfinite(other)
    apart = np.abs(np.where(missing[0], 0.0, one) - np.where(missing[1], 0.0, other))
    return np.where(missing[0] == missing[1], np.where(missing[0], 0.0, apart), np.inf)


def _describe_difference(
    name: str, how: str, apart: FloatArray, removed: float, axes: str
) -> _Difference:
    """By distances in the shape of the image, whose axes are named."""
    scale = max(removed, np.finfo(np.float64).tiny)
    height, width = (apart.shape[axes.index(axis)] for axis in "YX")
    planes = np.moveaxis(apart, [axes.index("Y"), axes.index("X")], [-2, -1])
    planes = planes.reshape(-1, height, width)
    beyond = (0, 0), (0, -height % PLACE_PX), (0, -width % PLACE_PX)
    blocks = np.stack([block_means(one, PLACE_PX) for one in np.pad(planes, beyond)]) / scale
    plane, row, column = np.unravel_index(int(np.argmax(blocks)), blocks.shape)
    where = f"{name}, row {row * PLACE_PX}, column {column * PLACE_PX}"
    if len(planes) > 1:
        where += f", plane {plane}"
    share = float(apart.mean()) / scale
    return _Difference(share, float(blocks.max()), float(np.mean(blocks > ALIKE)), where, how)


def _judge(found: list[_Difference], files: int) -> Row:
    if not found:
        return Row(NAME, TESTS, "untold", "No file could be compared with what this run makes.")
    compared = f"{len(found)} of {files} files that were compared"
    other = [one for one in found if not one.alike]
    foreign = [one for one in other if one.places > MOST_PLACES]
    if foreign:
        return Row(
            NAME,
            TESTS,
            "warning",
            f"{len(foreign)} of the {compared} are not what this run makes.",
            float(len(foreign)),
            advice="What is said of the run does not hold for them: give the run that made them.",
            places=tuple(one.where for one in foreign[:3]),
        )
    if other:
        return Row(
            NAME,
            TESTS,
            "warning",
            f"{len(other)} of the {compared} were changed after this run, in "
            f"{format_number(100 * max(one.places for one in other), 2)} % of their places of "
            f"{PLACE_PX} × {PLACE_PX} px at most.",
            float(len(other)),
            advice="Denoise again, or look there: what is said of the run does not hold for the change.",
            places=tuple(one.where for one in other[:3]),
        )
    hows = sorted({one.how for one in found if one.how})
    ways = f", with {' or '.join(hows)}" if hows else ""
    return Row(NAME, TESTS, "ok", f"The {compared} are what this run makes{ways}.")
