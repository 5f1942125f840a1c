"""Examine a denoiser on noisy images: everything is measured here, and judged in ``judge``."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairfree.data.directions import Change
from pairfree.errors import ConfigError, InputError
from pairfree.evidence.interpretation import SHARING_NOISE, TOLD_BETTER
from pairfree.evidence.report import CurveSet
from pairfree.evidence.rows import Row
from pairfree.examination.error_map import map_errors
from pairfree.examination.judge import PLACE, judge
from pairfree.examination.judge_corrections import find_change
from pairfree.examination.judge_trials import judge_trials
from pairfree.examination.laws import (
    ImageLaws,
    find_laws,
    measure_planes,
    pool_errors,
    shows_something,
)
from pairfree.examination.null_run import NullRun, run_null
from pairfree.examination.places import Place, find_places, measure_places
from pairfree.examination.plain_filter import AgainstFilter, compare_filters, pool_filters
from pairfree.examination.planted import Planted, plant_spots, pool_planted
from pairfree.examination.pooled import Pooled
from pairfree.examination.probe import Denoise, probe_denoiser
from pairfree.examination.refusal import find_clipping, find_refusal
from pairfree.examination.risk import Risk, estimate_risk, pool_risks
from pairfree.examination.shown import draw_curves, list_curves
from pairfree.examination.transfer import Rings, measure_rings, pool_rings
from pairfree.files.intensity import UNKNOWN_UNIT
from pairfree.files.spans import centre_of
from pairfree.sampling import spaced_indices

FloatArray = NDArray[np.float64]

MOST_IMAGES = 4
"""That are examined, of a set."""
SIDE_PX, LEAST_PX = 512, 96
"""Of the middle of an image that is examined, at most and at least."""


@dataclass(frozen=True)
class Subject:
    """A noisy image, and what denoises it."""

    name: str
    noisy: FloatArray
    """(C, H, W), intensity units, finite."""
    denoise: Denoise
    in_tiles: Denoise | None = None
    """The same in small tiles, as large images are done, so that seams would show; None without tiles."""
    origin: tuple[int, int] = (0, 0)
    """Row and column of its first pixel in the image."""


@dataclass(frozen=True)
class ImageMeasures:
    """All that was measured on one image."""

    name: str
    risk: Risk
    filters: list[AgainstFilter]
    rings: Rings
    places: tuple[Place, ...]
    null: NullRun | None
    """None of a quick examination."""
    planted: Planted | None
    """Likewise."""
    error_map: FloatArray
    """(C, H, W), standard error of each pixel of the output, intensity units."""
    output: FloatArray
    """What was made of the image."""


@dataclass(frozen=True)
class Examination:
    """What a denoiser was found to do.

    Examples
    --------
    >>> found = pairfree.examine(model, "my_noisy_folder")
    >>> print(found)
    >>> found.rows[0].value, found.rows[0].low, found.rows[0].high
    """

    rows: tuple[Row, ...]
    """One thing that was tested each."""
    images: tuple[ImageMeasures, ...] = ()
    """What was measured on each image; empty where the noise does not allow it."""
    risk: Risk | None = None
    """Of all images together."""
    change: Change | None = None
    """The correction that would gain most; None where none is worth it."""
    curves: tuple[CurveSet, ...] = ()
    """Which planted spots survive, and what the output keeps of each fineness, as reports show it."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """The same by name."""

    @property
    def replaces(self) -> tuple[str, ...]:
        """Rows that are made from files alone, and that this tells better."""
        if self.risk is not None:
            return TOLD_BETTER
        return SHARING_NOISE if len(self.rows) > 1 else ()

    @property
    def warnings(self) -> list[Row]:
        """Rows that ask for attention."""
        return [row for row in self.rows if row.level == "warning"]

    def __str__(self) -> str:
        return "\n".join(row.sentence for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """The rows, as ``pairfree evaluate --json`` writes them."""
        found: dict[str, Any] = {"rows": [row.as_dict() for row in self.rows]}
        if self.change is not None:
            found["change"] = self.change.as_dict()
        return {**found, **self.numbers}


def examine_subjects(
    subjects: Sequence[Subject],
    unit: str = UNKNOWN_UNIT,
    pixel: tuple[float, str] | None = None,
    data_range: float | None = None,
    quick: bool = False,
    seed: int = 0,
) -> Examination:
    """Examine a denoiser on a few images.

    Parameters
    ----------
    subjects
        Of larger sets, four that are spread over it are taken, and of each the middle 512 x 512 px; those of
        other channels than the first are left out.
    unit
        What intensities count, in the plural.
    pixel
        Size and unit of a pixel, so that resolution is told in it.
    data_range
        White minus black, for PSNR; None for the range of what is made of them, 0.1 % left out at each end.
    quick
        Leaves out noise alone and planted spots.
    seed
        For the noise that is added.

    Raises
    ------
    InputError
        Where all images are smaller than 96 px a side or constant, and for a denoiser that gives no image
        back.
    """
    if data_range is not None and not 0.0 < data_range < math.inf:
        raise ConfigError(f"`data_range` {data_range:g}: must be above 0")
    chosen = _choose(subjects)
    planes = [one.noisy for one in chosen]
    facts = measure_planes(planes)
    refusal = find_refusal(facts, unit)
    if refusal is not None:
        return Examination((refusal,))
    clipping = find_clipping(facts)
    laws = find_laws(planes, bool(facts.signs["differ"]))
    images = []
    for one, law in zip(chosen, laws, strict=True):
        images.append(_measure(one, law, quick, seed))
    if data_range is None:
        data_range = _take_range([one.output for one in images])
    pooled = _pool(images, laws, unit, pixel, data_range)
    clipped = clipping is not None
    curves, numbers = tuple(draw_curves(pooled, clipped)), list_curves(pooled, clipped)
    if clipping is not None:
        return Examination((clipping, *judge_trials(pooled)), curves=curves, numbers=numbers)
    change = find_change(pooled)
    rows = tuple(judge(pooled, change))
    return Examination(rows, tuple(images), pooled.risk, change, curves, numbers)


def _choose(subjects: Sequence[Subject]) -> list[Subject]:
    """A few that tell something, spread over all, the middle of each."""
    usable = [one for one in subjects if _may_tell(one.noisy)]
    usable = [one for one in usable if len(one.noisy) == len(usable[0].noisy)]
    if not usable:
        raise InputError(
            f"no image of at least {LEAST_PX} px a side that is not constant in its middle: give others to "
            "examine a denoiser on"
        )
    return [_cut(usable[index]) for index in spaced_indices(len(usable), MOST_IMAGES)]


def _may_tell(noisy: FloatArray) -> bool:
    """Whether an image is large enough, and its middle neither constant nor a mask."""
    if min(noisy.shape[1:]) < LEAST_PX:
        return False
    rows, columns = centre_of(noisy.shape[1], noisy.shape[2], SIDE_PX)
    return shows_something(noisy[:, rows, columns])


def _cut(subject: Subject) -> Subject:
    """Its middle; what denoises it is checked from now on."""
    rows, columns = centre_of(subject.noisy.shape[1], subject.noisy.shape[2], SIDE_PX)
    part = np.array(subject.noisy[:, rows, columns], np.float64)
    top, left = subject.origin
    return replace(
        subject,
        noisy=part,
        denoise=_check_output(subject.denoise),
        origin=(top + rows.start, left + columns.start),
    )


def _check_output(denoise: Denoise) -> Denoise:
    """The same, given an array of its own, with a clear line where it gives back no image."""

    def checked(planes: FloatArray) -> FloatArray:
        made = np.asarray(denoise(planes.copy()))
        if made.shape != planes.shape:
            raise InputError(
                f"the denoiser made {made.shape} of an array {planes.shape}: it must give back (C, H, W) as "
                "it gets it"
            )
        if made.dtype.kind not in "biuf" or not np.isfinite(made).all():
            raise InputError("the denoiser gave pixels that are NaN, infinite or no real numbers")
        return made.astype(np.float64)

    return checked


def _take_range(planes: Sequence[FloatArray]) -> float:
    pixels = np.concatenate([plane[:, ::2, ::2].ravel() for plane in planes])
    low, high = np.quantile(pixels, (0.001, 0.999))
    return float(high - low) or 1.0


def _measure(subject: Subject, laws: ImageLaws, quick: bool, seed: int) -> ImageMeasures:
    """Everything about one image; what is drawn follows from the seed and its name."""
    rng = np.random.default_rng((seed, zlib.crc32(subject.name.encode())))
    probe = probe_denoiser(subject.denoise, subject.noisy, laws.laws, rng)
    null, planted = None, None
    if not (quick or probe.blind):
        null = run_null(subject.in_tiles or subject.denoise, subject.noisy, laws.laws, rng)
        planted = plant_spots(
            subject.denoise, probe.noisy, probe.output, probe.disturbance, laws.laws, rng
        )
    return ImageMeasures(
        name=subject.name,
        risk=estimate_risk(probe, laws.error),
        filters=compare_filters(probe),
        rings=measure_rings(probe),
        places=tuple(find_places(measure_places(probe, laws.laws), PLACE, subject.origin)),
        null=null,
        planted=planted,
        error_map=map_errors(probe, laws.error),
        output=probe.output,
    )


def _pool(
    images: Sequence[ImageMeasures],
    laws: Sequence[ImageLaws],
    unit: str,
    pixel: tuple[float, str] | None,
    data_range: float,
) -> Pooled:
    """What the images say together."""
    error = pool_errors(laws, [one.risk.variance * one.risk.pixels for one in images])
    places = [(one.name, place) for one in images for place in one.places]
    places.sort(key=lambda pair: abs(pair[1].z), reverse=True)
    typical = [float(np.median(one.error_map)) for one in images]
    greatest = [float(np.quantile(one.error_map, 0.99)) for one in images]
    return Pooled(
        risk=pool_risks([one.risk for one in images], error),
        risks=tuple((one.name, one.risk) for one in images),
        plain=pool_filters([one.filters for one in images], [one.risk.pixels for one in images]),
        rings=pool_rings([one.rings for one in images]),
        places=tuple(places),
        nulls=tuple((one.name, one.null) for one in images if one.null is not None),
        planted=pool_planted([one.planted for one in images if one.planted is not None]),
        median_error=float(np.median(typical)),
        greatest_error=max(greatest),
        law_error=error,
        unit=unit,
        pixel=pixel,
        data_range=data_range,
    )
