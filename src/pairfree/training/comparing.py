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

FloatArray = NDArray[np.float64]

MOST_COMPARED = 1 << 22
"""Values of an image that is denoised again."""
ALIKE = 0.01
"""Of what was removed, on average, by which a file may differ: another processor's sums do by far less."""
FOREIGN = 0.1
"""Likewise, from which a file was made by something else. Symmetries and corrections change less."""
BLOCK_PX = 32
"""Side of the places that are named."""
NAME, TESTS = "same files", "Whether the denoised files are what this run makes of the noisy ones"


@dataclass(frozen=True)
class _Difference:
    """How a file differs from what the run makes."""

    name: str
    share: float
    """Of what was removed."""
    place: str
    """Where most."""
    how: str = ""
    """With which option the run makes it; empty for none."""


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
    found: list[_Difference] = []
    for name, (first, second) in partners(noisy, denoised).items():
        before, after = open_image(first), open_image(second)
        if before.size > MOST_COMPARED or before.shape != after.shape:
            continue
        try:
            found.append(_find_difference(model, change, name, before, after))
        except PairfreeError:
            continue
        if len(found) == MOST_IMAGES:
            break
    return _judge(found)


def _find_difference(
    model: Model, change: Change | None, name: str, before: Image, after: Image
) -> _Difference:
    """From what the run makes, by whichever of its options is nearest."""
    differences = []
    for how, one in _list_ways(model, change):
        made = one.denoise_image(before).image.pixels.astype(np.float64)
        apart = _measure_distance(made, after.pixels)
        removed = float(_measure_distance(made, before.pixels).mean())
        share = float(apart.mean()) / removed if removed > 0 else float(apart.any())
        differences.append(_Difference(name, share, _find_place(name, apart, after), how))
        if not share > ALIKE or share > FOREIGN:  # a foreign one is not tried in other ways
            break
    return min(differences, key=lambda one: one.share)


def _measure_distance(first: NDArray[np.generic], second: NDArray[np.generic]) -> FloatArray:
    """Of each pixel; none where both are missing, beyond all measure where one is."""
    one, other = first.astype(np.float64), second.astype(np.float64)
    missing = ~np.isfinite(one), ~np.isfinite(other)
    apart = np.abs(np.where(missing[0], 0.0, one) - np.where(missing[1], 0.0, other))
    return np.where(missing[0] == missing[1], np.where(missing[0], 0.0, apart), np.inf)


def _list_ways(model: Model, change: Change | None) -> Iterator[tuple[str, Model]]:
    """The model as it is, and as the options of ``denoise`` change it."""
    yield "", model
    if change is not None and model.predictor.change is None:
        yield "`correct`", model.corrected(change)
    if not (model.predictor.symmetries or model.predictor.instance_layers):
        predictor = copy.copy(model.predictor)
        predictor.symmetries = True
        yield "`symmetries`", Model(predictor, model.record, model.masked)


def _find_place(name: str, apart: FloatArray, image: Image) -> str:
    """Where a file differs most, in words; ``apart`` has the shape of the image."""
    others = tuple(place for place, axis in enumerate(image.axes) if axis not in "YX")
    plane = apart.mean(axis=others)
    if min(plane.shape) < BLOCK_PX:
        return name
    blocks = block_means(plane, BLOCK_PX)
    row, column = np.unravel_index(int(np.argmax(blocks)), blocks.shape)
    return f"{name}, row {row * BLOCK_PX}, column {column * BLOCK_PX}"


def _judge(found: list[_Difference]) -> Row:
    if not found:
        return Row(NAME, TESTS, "untold", "No file could be compared with what this run makes.")
    foreign = [one for one in found if not one.share <= FOREIGN]
    if foreign:
        return Row(
            NAME,
            TESTS,
            "warning",
            f"{len(foreign)} of {len(found)} files that were compared are not what this run makes.",
            float(len(foreign)),
            advice="What is said of the run does not hold for them: give the run that made them.",
            places=tuple(one.name for one in foreign[:3]),
        )
    changed = [one for one in found if one.share > ALIKE]
    if changed:
        worst = max(changed, key=lambda one: one.share)
        return Row(
            NAME,
            TESTS,
            "warning",
            f"{len(changed)} of {len(found)} files that were compared are nearly what this run makes, but "
            f"were changed by {format_number(100 * worst.share, 2)} % of what it removes.",
            float(len(changed)),
            advice="Denoise again, or look there: what is said of the run does not hold for the change.",
            places=tuple(one.place for one in changed[:3]),
        )
    hows = sorted({one.how for one in found if one.how})
    ways = f", with {' or '.join(hows)}" if hows else ""
    return Row(NAME, TESTS, "ok", f"The files are what this run makes{ways}.")
