"""Examine a trained model on its own images: what the report and ``evaluate`` show of it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairfree.data.given import Images, read_images
from pairfree.data.sets import ImageSet, Reading, read_set
from pairfree.diagnosis.diagnose import MOST_BYTES
from pairfree.engine.model import Model
from pairfree.engine.predictor import Predictor
from pairfree.errors import ConfigError, InputError, PairfreeError
from pairfree.evidence.examples import Example
from pairfree.evidence.interpretation import warn_of_invention
from pairfree.evidence.noref import pool
from pairfree.evidence.report import ReportData
from pairfree.evidence.sites import Box
from pairfree.examination.examine import (
    LEAST_PX,
    MOST_IMAGES,
    SIDE_PX,
    Examination,
    Subject,
    examine_subjects,
)
from pairfree.examination.places import WINDOW_PX, Place
from pairfree.examination.refusal import leave_out
from pairfree.files.image import Spacing
from pairfree.files.intensity import UNKNOWN_UNIT, common_unit
from pairfree.files.listing import find_images
from pairfree.files.named import named_inputs
from pairfree.files.opening import open_image
from pairfree.files.spans import centre_of
from pairfree.plain import NOTE
from pairfree.sampling import spaced_indices

FloatArray = NDArray[np.float64]

MOST_PLANES = 16
"""That are read for a correction."""
TILE_PX = 192
"""Side of the tiles in which noise alone is denoised: their borders would show as seams."""
NOT_EXAMINED = Examination(())
_say = logging.getLogger("pairfree")


def examine_set(
    model: Model,
    images: ImageSet,
    pixel: tuple[float, str] | None = None,
    data_range: float | None = None,
    quick: bool = False,
) -> Examination:
    """Examine a model on up to four planes of a set, spread over it."""
    planes = list(zip(images.names, images.planes, strict=True))
    return examine_model(model, planes, images.unit, pixel, data_range, quick)


def correct_model(
    model: Model,
    inputs: Sequence[str | Path] | str | Path,
    scene: int | str | None,
    out: str | Path,
) -> Model:
    """The model, with the correction that it needs on these files; itself where it needs none.

    Parameters
    ----------
    model
        What will denoise them.
    inputs, scene
        The files.
    out
        Where results go: what lies there is no input.

    Raises
    ------
    ConfigError
        For a model that is corrected already.
    """
    if model.predictor.change is not None:
        raise ConfigError(
            "`correct`: this Model is corrected already; give the one it was made from"
        )
    reading = Reading(nan="mask", slices_around=model.around)
    planes: list[tuple[str, NDArray[np.generic]]] = []
    entries = find_images(named_inputs(inputs), scene, [], without=Path(out))
    units = []
    for entry in entries:
        try:
            read = read_set([entry], MOST_BYTES, reading)
        except PairfreeError:
            continue  # what is wrong with it is said when it is its turn
        planes += zip(read.names, read.planes, strict=True)
        units.append(read.unit)
        if len(planes) >= MOST_PLANES:
            break
    if not planes:
        return model
    examined = examine_model(model, planes, common_unit(units), quick=True)
    if examined.change is None:
        why = (
            examined.rows[0].text
            if examined.risk is None
            else "nothing would be gained for certain"
        )
        _say.log(NOTE, "not corrected: %s", why)
        return model
    _say.log(NOTE, "correction: %s", examined.change)
    return model.corrected(examined.change)


def read_noisy(noisy: Images, reading: Reading) -> tuple[ImageSet, tuple[float, str] | None]:
    """Noisy images, of which a few are to be examined, and the size of their pixels."""
    images, paths = read_images(noisy, "noisy image", reading, MOST_BYTES)
    for line in images.warnings:
        _say.warning("%s", line)
    return images, find_pixel_size(paths)


def find_pixel_size(paths: Sequence[str]) -> tuple[float, str] | None:
    """Size and unit of a pixel, as the first file says; None where it says none, or pixels are no squares."""
    for path in paths[:1]:
        try:
            first = next(iter(find_images([path])))
            return pixel_size(open_image(first.path).spacing)
        except (PairfreeError, StopIteration):
            return None
    return None


def pixel_size(spacing: Spacing) -> tuple[float, str] | None:
    """The step along X, where that along Y is the same."""
    across, down = spacing.get("X"), spacing.get("Y")
    return across if across is not None and across == down else None


def examine_model(
    model: Model,
    planes: Sequence[tuple[str, NDArray[np.generic]]],
    unit: str = UNKNOWN_UNIT,
    pixel: tuple[float, str] | None = None,
    data_range: float | None = None,
    quick: bool = False,
) -> Examination:
    """Examine a model on planes (C, H, W) as its network takes them, the middle of each.

    Parameters
    ----------
    model
        What is examined.
    planes
        Names and noisy intensities, finite.
    unit, pixel, data_range, quick
        See ``examine_subjects``.
    """
    if model.predictor.whole_image:
        return tell_unexamined(
            "this method works on whole images, one by one, for seconds or minutes each"
        )
    fitting = [(name, plane) for name, plane in planes if _fits(model, len(plane))]
    if not fitting:
        return tell_unexamined(
            "its network sees other channels, or slices around each, than these images have"
        )
    large = [(name, plane) for name, plane in fitting if min(plane.shape[1:]) >= LEAST_PX]
    chosen = [large[index] for index in spaced_indices(len(large), MOST_IMAGES)]
    try:
        subjects = [_make_subject(model, name, plane) for name, plane in chosen]
        return examine_subjects(subjects, unit, pixel, data_range, quick)
    except InputError as error:
        return tell_unexamined(f"{error}")


def _fits(model: Model, channels: int) -> bool:
    return channels == model.channels or model.method.any_channels


def _make_subject(model: Model, name: str, plane: NDArray[np.generic]) -> Subject:
    """The middle of a plane. Of slices around each, only the own one is made noisier."""
    rows, columns = centre_of(plane.shape[1], plane.shape[2], SIDE_PX)
    given = np.array(plane[:, rows, columns], np.float32)
    own = model.own_channels
    small = copy.copy(model.predictor)
    small.core_px = min(small.core_px, TILE_PX)

    def apply(predictor: Predictor, planes: FloatArray) -> FloatArray:
        whole = given.copy()
        whole[own] = planes
        return predictor.predict(whole)[own].astype(np.float64)

    return Subject(
        name,
        given[own].astype(np.float64),
        partial(apply, model.predictor),
        partial(apply, small),
        (rows.start, columns.start),
    )


def tell_unexamined(why: str) -> Examination:
    """That the denoiser was not examined."""
    return Examination((leave_out(f"The denoiser was not examined: {why}.", advice=""),))


def show_errors(
    examples: Sequence[Example],
    planes: Sequence[tuple[str, NDArray[np.generic]]],
    examined: Examination,
    side: int,
) -> list[Example]:
    """Examples with maps of how sure their pixels are, and places to look at, where they were examined.

    Parameters
    ----------
    examples
        Middles of planes, ``side`` pixels at most.
    planes
        Names and whole planes.
    examined
        What was found on some of them.
    side
        Of the examples, pixels.
    """
    measured = {one.name: one for one in examined.images}
    shapes = {name: plane.shape[1:] for name, plane in planes}
    shown = []
    for one in examples:
        if one.name in measured and one.name in shapes:
            found, shape = measured[one.name], shapes[one.name]
            part = _cut_middle(found.error_map, shape, side)
            boxes = _shift_places(found.places, shape, side)
            one = replace(one, uncertainty=part.mean(axis=0), places=boxes)
        shown.append(one)
    return shown


def _shift_places(places: Sequence[Place], shape: tuple[int, ...], side: int) -> list[Box]:
    """Places of a plane of that shape as boxes of its middle, those that lie in it at least in part."""
    rows, columns = centre_of(shape[0], shape[1], side)
    boxes = []
    for one in places:
        top, left = max(one.row, rows.start), max(one.column, columns.start)
        bottom = min(one.row + WINDOW_PX, rows.stop)
        right = min(one.column + WINDOW_PX, columns.stop)
        if bottom > top and right > left:
            boxes.append((top - rows.start, left - columns.start, bottom - top, right - left))
    return boxes


def _cut_middle(values: FloatArray, shape: tuple[int, ...], side: int) -> FloatArray:
    """The middle of a plane of that shape, of values (C, h, w) in its larger middle."""
    rows, columns = centre_of(shape[0], shape[1], side)
    around = centre_of(shape[0], shape[1], SIDE_PX)
    top, left = rows.start - around[0].start, columns.start - around[1].start
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return values[:, top : top + height, left : left + width].copy()


def list_alarms(data: ReportData) -> list[str]:
    """What a user must hear of without opening the report, one line each."""
    alarms = [row for row in data.rows if row.level == "warning"]
    found = [row.sentence.removeprefix("Warning: ") for row in alarms]
    if data.evidence:
        pooled = pool([one for _, one in data.evidence])
        found += warn_of_invention(pooled, bool(data.replaced))
    return found
