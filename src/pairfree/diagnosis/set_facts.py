"""What the noise of a set of files is like: each file, all together, and how they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairfree.data.place import Place
from pairfree.data.sets import ImageSet
from pairfree.diagnosis.file_facts import FileFacts, gather_planes, vote
from pairfree.diagnosis.plane_facts import PlaneFacts, measure_plane
from pairfree.errors import InputError
from pairfree.files.intensity import UNKNOWN_UNIT
from pairfree.measure.colour_law import measure_colour_laws
from pairfree.measure.fixed_pattern import measure_fixed_pattern
from pairfree.measure.level import MIN_SIDE_PX
from pairfree.measure.noise_law import NoiseLaw
from pairfree.sampling import spaced_indices

FloatArray = NDArray[np.float64]

MOST_PLANES = 8
"""Of a file or channel that are looked at."""
MOST_FILES = 64
"""Files and channels that are looked at."""
WHOLE_PX = 1 << 20
"""Pixels of a plane, up to which it is looked at as a whole."""
PART_PX = 512
"""Side of the parts that stand for a larger plane."""
LOOKED_AT_PX = 16
"""Pixels along each axis that are looked at first for whether a plane is a mask."""
GRID_PX = 8
"""Parts begin at its multiples, so that blocks of JPEG stay whole."""
DIFFERENT, ERRORS = 1.25, 4.0
"""Largest over smallest of the files' levels (or gains), and standard errors between them, from which they
differ."""
SLOW, NOT_SLOW, NEARLY_WHITE = 1.6, 1.2, 1.1
"""Slowest changes over fine ones where they are least in all files: above the first noise has slow blotches,
if it is nearly white at middle frequencies; below the second it has none."""
UNSURE = 0.1
"""Relative error of what has none of its own."""
FLATTEST = 0.15
"""Quantile of the files at which they show least: one odd file does not decide."""
FEWEST_SLOW, FEWEST_STREAKS = 8, 4
"""Files that are needed to tell blotches from structure, and planes to tell weak streaks."""
WEAK_STREAKS = 0.07
"""As ``signs.STREAKS``, of the mean of several files: structure along one axis makes 0.05 at most."""
PATTERN, PATTERN_SURE = 0.02, 5.0
"""Share of the variance that frames have in common, and its standard errors, from which it counts."""
PATTERN_FRAMES = 16
CT_AIR = 0.03
"""Share of pixels like air from which values are taken for Hounsfield units."""


@dataclass(frozen=True)
class SetFacts:
    """What was measured of the noise of a set of images."""

    files: tuple[FileFacts, ...]
    """Of each file, or of each channel where there are several."""
    signs: dict[str, bool | None]
    """What holds of the set, by name: what most files that can tell say, and how files differ."""
    unit: str
    """What intensities count, in the plural."""
    left_out: tuple[str, ...] = ()
    """What was not looked at, one line each."""

    @cached_property
    def typical(self) -> FileFacts:
        """The file of middle level."""
        order = np.argsort([one.level.value for one in self.files], kind="stable")
        return self.files[int(order[len(order) // 2])]

    @property
    def law(self) -> NoiseLaw:
        """That of the file of middle level."""
        return self.typical.law

    def as_dict(self) -> dict[str, Any]:
        """All numbers by name."""
        return {
            "unit": self.unit,
            "signs": self.signs,
            "law": self.law.as_dict(),
            "files": [one.as_dict() for one in self.files],
            "left_out": list(self.left_out),
        }


def measure_set(
    images: ImageSet, most_files: int = MOST_FILES, most_planes: int = MOST_PLANES
) -> SetFacts:
    """Measure the noise of a set of images.

    Parameters
    ----------
    images
        At least one plane of 16 px a side.
    most_files, most_planes
        Files that are looked at, spread over all, and planes of each.

    Raises
    ------
    InputError
        Where all planes are smaller.
    """
    groups = list(_group_planes(images, most_planes))
    usable = [group for group in groups if group.numbers]
    if not usable:
        raise InputError(
            f"{images.names[0]}: noise cannot be measured in images of fewer than {MIN_SIDE_PX} x "
            f"{MIN_SIDE_PX} px, in constant ones, and in masks of two values; give others"
        )
    chosen = [usable[index] for index in spaced_indices(len(usable), most_files)]
    files = []
    facts: list[PlaneFacts] = []
    slow: dict[str, list[PlaneFacts]] = {}
    for group in chosen:
        of_file, of_planes = _measure_group(images, group)
        files.append(of_file)
        facts += of_planes
        slow.setdefault(group.image, []).extend(of_planes)
    signs = vote([one.signs for one in files])
    signs["streaks"] = signs["streaks"] or _share_streaks(facts, signs)
    signs["slow"] = _read_slow(slow)
    signs["differ"] = _read_differ(files, bool(signs["grows"]))
    signs["drift"] = any("level" in one.trends for one in files)
    signs["fixed_pattern"] = _read_fixed_pattern(images, chosen)
    signs["ct"] = images.unit == "HU" or float(np.mean([fact.air for fact in facts])) > CT_AIR
    unit = "HU" if signs["ct"] and images.unit == UNKNOWN_UNIT else images.unit
    left_out = _list_left_out(groups, chosen, most_planes)
    return SetFacts(tuple(files), signs, unit, tuple(left_out))


@dataclass(frozen=True)
class _Group:
    """Planes of one file, or of one of its channels."""

    name: str
    image: str
    """Name of the file."""
    numbers: tuple[int, ...]
    """Of those planes that are looked at."""
    total: int
    in_order: bool
    """Whether they are frames of a series, or slices of a stack."""


def _group_planes(images: ImageSet, most: int) -> Iterator[_Group]:
    """Files and channels, in their order."""
    members: dict[tuple[str, int], list[int]] = {}
    channels: dict[str, set[int]] = {}
    for number, place in enumerate(images.places):
        channel = _channel(place)
        members.setdefault((place.image, channel), []).append(number)
        channels.setdefault(place.image, set()).add(channel)
    for (name, channel), numbers in members.items():
        large = [one for one in numbers if _may_have_noise(images.planes[one])]
        looked_at = tuple(large[index] for index in spaced_indices(len(large), most))
        several = len(channels[name]) > 1
        label = f"{name}, channel {channel + 1}" if several else name
        whole = all(images.places[one].origin == (0, 0) for one in numbers)
        yield _Group(label, name, looked_at, len(numbers), whole and len(numbers) > 1)


def _may_have_noise(plane: NDArray[Any]) -> bool:
    """Whether it is large enough, and neither constant nor a mask of two values."""
    if min(plane.shape[1:]) < MIN_SIDE_PX:
        return False
    some = plane[
        :, :: max(1, plane.shape[1] // LOOKED_AT_PX), :: max(1, plane.shape[2] // LOOKED_AT_PX)
    ]
    return len(np.unique(some)) > 2 or len(np.unique(plane)) > 2


def _channel(place: Place) -> int:
    """Along the axis of channels; 0 where there is none."""
    if "C" not in place.axes:
        return 0
    return place.index[place.axes.index("C")]


def _measure_group(images: ImageSet, group: _Group) -> tuple[FileFacts, list[PlaneFacts]]:
    """What is measured of a file, and of each of its planes that are looked at."""
    facts: list[PlaneFacts] = []
    counts = set()
    for number in group.numbers:
        plane = images.planes[number]
        around = images.reading.slices_around
        if around:  # its neighbours are planes of their own
            plane = plane[around : around + 1]
        of_plane = _measure(plane, images.places[number])
        counts.add(len(of_plane))
        facts += of_plane
    follow = group.in_order and len(counts) == 1
    return gather_planes(group.name, facts, counts.pop() if follow else 0), facts


def _list_left_out(groups: Sequence[_Group], chosen: Sequence[_Group], most: int) -> list[str]:
    """What is not looked at, a line each."""
    lines = []
    small = sum(not group.numbers for group in groups)
    if small:
        lines.append(
            f"{small} of {len(groups)} files are left out: smaller than {MIN_SIDE_PX} px, constant, or masks"
        )
    usable = len(groups) - small
    if len(chosen) < usable:
        lines.append(f"{len(chosen)} of {usable} files are looked at, spread over all")
    longest = max(chosen, key=lambda group: group.total)
    if longest.total > most:
        lines.append(
            f"of longer stacks {most} planes are looked at ({longest.name}: {longest.total})"
        )
    return lines


def _measure(plane: NDArray[Any], place: Place) -> list[PlaneFacts]:
    """Of each channel, and of each part of a larger plane."""
    found = []
    for part in _cut_parts(plane, place.origin):
        values = part.astype(np.float64)
        laws = measure_colour_laws(values) or (None,) * len(values)
        for channel, law in zip(values, laws, strict=True):
            found.append(measure_plane(channel, law))
    return found


def _cut_parts(plane: NDArray[Any], origin: tuple[int, int]) -> list[NDArray[Any]]:
    """The plane (C, H, W), or parts in the middle of its quarters."""
    top, left = (-start % GRID_PX for start in origin)
    plane = plane[:, top:, left:]
    _, height, width = plane.shape
    if height * width <= WHOLE_PX:
        return [plane]
    parts = []
    for row in _starts(height):
        for column in _starts(width):
            parts.append(plane[:, row : row + PART_PX, column : column + PART_PX])
    return parts


def _starts(length: int) -> list[int]:
    """Where parts begin along an axis."""
    if length < 2 * PART_PX:
        return [0]
    starts = []
    for middle in (length // 4, 3 * length // 4):
        first = min(max(0, middle - PART_PX // 2), length - PART_PX)
        starts.append(first // GRID_PX * GRID_PX)
    return starts


def _share_streaks(facts: Sequence[PlaneFacts], signs: dict[str, bool | None]) -> bool:
    """Whether all files have weak streaks along the same axis, but no lines."""
    apart = np.array([fact.shared.streaks for fact in facts])
    if (
        len(apart) < FEWEST_STREAKS
        or not np.isfinite(apart).all()
        or signs["rows"]
        or signs["columns"]
    ):
        return False
    mean = abs(float(apart.mean()))
    error = float(apart.std()) / math.sqrt(len(apart))
    return mean > WEAK_STREAKS and mean > ERRORS * error


def _read_slow(by_image: Mapping[str, Sequence[PlaneFacts]]) -> bool | None:
    """Whether noise has blotches wider than fine detail: in what all files show where they show least.

    Channels and slices of one file are one scene, or alike.
    """
    slow = np.array([min(fact.shared.slow for fact in facts) for facts in by_image.values()])
    middle = np.array([min(fact.shared.middle for fact in facts) for facts in by_image.values()])
    known = np.isfinite(slow)
    if not known.any():
        return None
    least = float(np.quantile(slow[known], FLATTEST))
    if least < NOT_SLOW:
        return False
    if known.sum() >= FEWEST_SLOW and least > SLOW and middle[known].min() < NEARLY_WHITE:
        return True
    return None


def _read_differ(files: Sequence[FileFacts], grows: bool) -> bool | None:
    """Whether files differ in gain, or in level where noise does not grow."""
    told = [one for one in files if not one.signs["faint"]]
    quantities = [one.gain if grows else one.level for one in told]
    values = np.array([one.value for one in quantities])
    errors = np.array([one.error for one in quantities])
    errors = np.where(np.isfinite(errors), errors, UNSURE * values)
    good = values > 0
    if good.sum() < 2:
        return None if len(files) > 1 else False
    least, most = int(np.argmin(values[good])), int(np.argmax(values[good]))
    apart = values[good][most] - values[good][least]
    error = math.hypot(errors[good][most], errors[good][least])
    return bool(values[good][most] > DIFFERENT * values[good][least] and apart > ERRORS * error)


def _read_fixed_pattern(images: ImageSet, groups: Sequence[_Group]) -> bool | None:
    """Whether all frames have something in common at each pixel; None where they show one scene."""
    numbers = [number for group in groups for number in group.numbers]
    shapes = [images.planes[number].shape for number in numbers]
    common = max(set(shapes), key=shapes.count)
    alike = [number for number, shape in zip(numbers, shapes, strict=True) if shape == common]
    whole = [number for number in alike if images.places[number].origin == (0, 0)]
    if len(whole) < 2 or min(common[1:]) < MIN_SIDE_PX:
        return None
    chosen = [whole[index] for index in spaced_indices(len(whole), PATTERN_FRAMES)]
    parts = [_cut_parts(images.planes[number], (0, 0))[0] for number in chosen]
    found = measure_fixed_pattern([part[len(part) // 2].astype(np.float64) for part in parts])
    if found is None:
        return None
    return found.share > max(PATTERN, PATTERN_SURE * found.error)
