"""Examine a denoiser on noisy images: everything is measured here, and judged in ``judge``."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairfree.data.directions import Change
from pairfree.data.sets import array_set
from pairfree.diagnosis.set_facts import measure_set
from pairfree.errors import InputError
from pairfree.evidence.rows import Row
from pairfree.examination.error_map import map_errors
from pairfree.examination.judge import PLACE, judge
from pairfree.examination.judge_corrections import find_change
from pairfree.examination.judge_trials import judge_trials
from pairfree.examination.laws import ImageLaws, find_laws, pool_errors
from pairfree.examination.null_run import NullRun, run_null
from pairfree.examination.places import Place, find_places, measure_places
from pairfree.examination.plain_filter import AgainstFilter, compare_filters, pool_filters
from pairfree.examination.planted import Planted, plant_spots, pool_planted
from pairfree.examination.pooled import Pooled
from pairfree.examination.probe import Denoise, probe_denoiser
from pairfree.examination.refusal import find_clipping, find_refusal
from pairfree.examination.risk import Risk, estimate_risk, pool_risks
from pairfree.examination.transfer import Rings, measure_rings, pool_rings
from pairfree.files.intensity import UNKNOWN_UNIT

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
        return found


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
        White minus black, for PSNR; None for the range of the noisy images, 0.1 % left out at each end.
    quick
        Leaves out the null run and planted detail.
    seed
        For the noise that is added.

    Raises
    ------
    InputError
        Where all images are smaller than 96 px a side.
    """
    large = [one for one in subjects if min(one.noisy.shape[1:]) >= LEAST_PX]
    large = [one for one in large if len(one.noisy) == len(large[0].noisy)]
    if not large:
        raise InputError(
            f"no image of at least {LEAST_PX} px a side: too small to examine a denoiser on; give larger ones"
        )
    step = max(1, len(large) // MOST_IMAGES)
    chosen = [_cut(one) for one in large[::step][:MOST_IMAGES]]
    planes = [one.noisy for one in chosen]
    facts = measure_set(array_set([plane.astype(np.float32) for plane in planes], "image"))
    refusal = find_refusal(facts, unit)
    if refusal is not None:
        return Examination((refusal,))
    clipping = find_clipping(facts)
    laws = find_laws(planes, bool(facts.signs["differ"]))
    images = []
    for one, law in zip(chosen, laws, strict=True):
        images.append(_measure(one, law, quick, seed))
    pooled = _pool(images, laws, unit, pixel, data_range or _take_range(planes))
    if clipping is not None:
        return Examination((clipping, *judge_trials(pooled)))
    return Examination(tuple(judge(pooled)), tuple(images), pooled.risk, find_change(pooled))


def _cut(subject: Subject) -> Subject:
    """Its middle, on whole cells of 8 px."""
    _, height, width = subject.noisy.shape
    top = max(0, (height - SIDE_PX) // 2 // 8 * 8)
    left = max(0, (width - SIDE_PX) // 2 // 8 * 8)
    part = subject.noisy[:, top : top + SIDE_PX, left : left + SIDE_PX]
    return Subject(subject.name, np.ascontiguousarray(part, dtype=np.float64), subject.denoise)


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
        null = run_null(subject.denoise, subject.noisy, laws.laws, rng)
        planted = plant_spots(subject.denoise, probe.noisy, probe.output, probe.disturbance, rng)
    return ImageMeasures(
        name=subject.name,
        risk=estimate_risk(probe, laws.error),
        filters=compare_filters(probe),
        rings=measure_rings(probe),
        places=tuple(find_places(measure_places(probe), PLACE)),
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
    error = pool_errors(laws)
    places = [(one.name, place) for one in images for place in one.places]
    places.sort(key=lambda pair: abs(pair[1].z), reverse=True)
    typical = [float(np.median(one.error_map)) for one in images]
    greatest = [float(np.quantile(one.error_map, 0.99)) for one in images]
    return Pooled(
        risk=pool_risks([one.risk for one in images], error),
        risks=tuple((one.name, one.risk) for one in images),
        plain=pool_filters([one.filters for one in images]),
        rings=pool_rings([one.rings for one in images]),
        places=tuple(places),
        nulls=tuple((one.name, one.null) for one in images if one.null is not None),
        planted=pool_planted([one.planted for one in images if one.planted is not None]),
        median_error=float(np.median(typical)),
        greatest_error=max(greatest),
        brightness=float(np.mean([one.output.mean() for one in images])),
        law_error=error,
        unit=unit,
        pixel=pixel,
        data_range=data_range,
    )
