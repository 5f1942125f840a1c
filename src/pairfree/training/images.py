"""The image sets of a run: read, matched with one another, and looked at for what would spoil training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairfree.data.given import Images, read_images
from pairfree.data.sets import (
    ImageSet,
    Reading,
    match_partners,
)
from pairfree.data.unpaired import shared_scenes
from pairfree.errors import InputError
from pairfree.measure.level import MIN_SIDE_PX, estimate_sigma
from pairfree.measure.two_sets import fine_excess

NOISE_SAMPLES = 8
"""Planes of a set whose noise level is estimated."""
FIELDS = {"target": "target", "clean": "clean", "noise": "noise_images"}
"""Sets beside the noisy one, and the fields of an order that name them."""


@dataclass(frozen=True)
class ImageSets:
    """All images of a run."""

    noisy: ImageSet
    """What is to be denoised."""

    others: Mapping[str, ImageSet]
    """Sets beside it, by the keys of ``FIELDS``."""

    inputs: Mapping[str, Any]
    """What config.toml says of where they came from."""

    @property
    def clean(self) -> ImageSet | None:
        """The unpaired clean set, where there is one."""
        return self.others.get("clean")

    @property
    def warnings(self) -> list[str]:
        """What was noticed about them, one line each. InputError where the sets must not be used together."""
        lines = [line for one in (self.noisy, *self.others.values()) for line in one.warnings]
        lines += compare_types(self.noisy, self.others)
        if self.clean is not None:
            lines += check_unpaired(self.noisy, self.clean)
        return lines


def read_image_sets(given: Mapping[str, Images | None], reading: Reading) -> ImageSets:
    """Read the noisy set and those beside it; ``given`` by the fields of an order."""
    wanted = {name: given.get(field) for name, field in FIELDS.items()}
    beside = {name: images for name, images in wanted.items() if images is not None}
    most_bytes = reading.set_bytes(1 + len(beside))
    noisy_images = given["noisy"]
    noisy, paths = read_images(
        [] if noisy_images is None else noisy_images, "noisy image", reading, most_bytes
    )
    inputs: dict[str, Any] = {"noisy": paths, **reading.changes()}
    others: dict[str, ImageSet] = {}
    for name, images in beside.items():
        others[name], inputs[FIELDS[name]] = _read_beside(noisy, images, name, reading, most_bytes)
    return ImageSets(noisy, others, inputs)


def _read_beside(
    noisy: ImageSet, given: Images, name: str, reading: Reading, most_bytes: int
) -> tuple[ImageSet, list[str]]:
    """The set called ``name``, a target matched to the noisy one, and its paths."""
    other, paths = read_images(given, f"{name} image", reading, most_bytes)
    if name == "target":
        other = match_partners(noisy, other)
    if other.channels != noisy.channels:
        raise InputError(
            f"{other.names[0]}: has {other.channels} channels, the noisy images {noisy.channels}"
        )
    return other, paths


def check_unpaired(noisy: ImageSet, clean: ImageSet) -> list[str]:
    """Warnings about a clean set.

    Raises
    ------
    InputError
        Where it shows scenes of the noisy set: what is learned from them could not be trusted.
    """
    shared = shared_scenes(noisy, clean)
    if shared:
        first, second, alike = shared[0]
        more = f", and {len(shared) - 1} more such pairs" if len(shared) > 1 else ""
        raise InputError(
            f"{second}: shows the same scene as {first} (correlation {alike:.2f}{more}); an unpaired method "
            "must "
            "not see both: leave one of them out, or train on pairs with `method` n2c and `target`"
        )
    of_noisy, of_clean = noise_level(noisy), noise_level(clean)
    if of_noisy is None or of_clean is None or of_clean <= of_noisy:
        return []
    if set(noisy.dtypes) != set(clean.dtypes):
        return []
    if fine_excess(noisy.planes, clean.planes) >= 1.0:
        return []  # noise that takes contrast away, film's, lowers the estimate
    return [
        f"the clean set looks noisier than the noisy one (estimated sigma {of_clean:.3g} against "
        f"{of_noisy:.3g}): "
        "are they swapped?"
    ]


def compare_types(noisy: ImageSet, others: Mapping[str, ImageSet]) -> list[str]:
    """Warnings where files of several pixel types are taken to share one intensity scale."""
    lines = []
    first_of = {kind: index for index, kind in reversed(list(enumerate(map(str, noisy.dtypes))))}
    if len(first_of) > 1:
        by_place = sorted(first_of.items(), key=lambda item: item[1])
        examples = " and ".join(f"{kind} ({noisy.names[index]})" for kind, index in by_place[:3])
        lines.append(
            f"noisy images are {examples}: one intensity scale is assumed for all; train them apart if that "
            "is wrong"
        )
    for name, other in others.items():
        if name != "clean" and set(other.dtypes) != set(noisy.dtypes):
            kinds = f"{name} images are {other.dtypes[0]} ({other.names[0]}), noisy ones {noisy.dtypes[0]}"
            lines.append(
                f"{kinds}: one intensity scale is assumed for both; convert them if that is wrong"
            )
    return lines


def noise_level(images: ImageSet) -> float | None:
    """Median estimated sigma of a few planes spread over the set, intensity units.

    None where all are too small to tell.
    """
    step = max(1, len(images.planes) // NOISE_SAMPLES)
    levels = []
    for plane in images.planes[::step][:NOISE_SAMPLES]:
        if min(plane.shape[1:]) >= MIN_SIDE_PX:
            levels.append(estimate_sigma(np.moveaxis(plane, 0, -1)))
    return float(np.median(levels)) if levels else None
