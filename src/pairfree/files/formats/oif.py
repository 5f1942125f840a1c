"""Olympus' OIF and OIB files, read only: the planes that the parts of an image make."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.oif_files import Compound, Folder, Settings
from pairfree.files.formats.tiff import read_tiff
from pairfree.files.formats.tiff_meta import Stated, number_in, unit_name
from pairfree.files.formats.vendor_parts import Planes, choose_scene, make_image, name_axes, step_of
from pairfree.files.image import DType, Image, Index, Spacing, Step
from pairfree.files.limits import LZW, Limits, check_declared
from pairfree.files.messages import reason, shown

PLANE_NAME = re.compile(r"(.*?_)((?:[A-Z]\d{3,9})+)\.tiff?", re.IGNORECASE)
"""Such as s_C001Z002.tif."""
AXIS = re.compile(r"Axis \d+ Parameters Common")
"""Sections of settings."""
PLACE = re.compile(r"([A-Z])(\d+)")
KNOWN = {"C": "C", "Z": "Z", "T": "T", "Y": "Z"}
IN_UNIT: dict[str, tuple[float, str]] = {
    "nm": (1e-3, "µm"),
    "µm": (1.0, "µm"),
    "mm": (1e3, "µm"),
    "ms": (1e-3, "s"),
    "s": (1.0, "s"),
}
"""What people read, by what the settings say."""


@dataclass(frozen=True)
class Listing:
    """The planes of an image, by the numbers in their names."""

    letters: str
    """Of all axes in front of a plane."""
    names: dict[Index, str]
    numbers: list[list[int]]
    """That there are along each axis."""

    @property
    def long(self) -> list[int]:
        """Those axes that have more than one number."""
        return [i for i, numbers in enumerate(self.numbers) if len(numbers) > 1]

    @property
    def axes(self) -> list[str]:
        """Letters of those."""
        return [self.letters[i] for i in self.long]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of those."""
        return tuple(len(self.numbers[i]) for i in self.long)

    @property
    def channels(self) -> list[int]:
        """Numbers of the channels."""
        return self.numbers[self.letters.index("C")] if "C" in self.letters else []

    def by_place(self) -> dict[Index, str]:
        """Names by the place of their plane in the image."""
        long = self.long
        places = [{number: k for k, number in enumerate(one)} for one in self.numbers]
        return {
            tuple(places[i][index[i]] for i in long): name for index, name in self.names.items()
        }


class TiffPlanes(Planes):
    """Planes of one TIFF each.

    Parameters
    ----------
    files
        Where they are.
    names
        By the place of their plane.
    shape
        Of the image.
    dtype
        As the first of them has it.
    limits
        What each may declare.
    """

    def __init__(
        self,
        files: Folder | Compound,
        names: dict[Index, str],
        shape: tuple[int, ...],
        dtype: DType,
        limits: Limits,
    ) -> None:
        super().__init__()
        self.files, self.names, self.limits = files, names, limits
        self.shape, self.dtype = shape, dtype

    def plane(self, index: Index) -> np.ndarray:
        """A plane, which must be as large as the first."""
        name = self.names[index]
        image = open_plane(self.files, name, self.limits)
        if image.shape != self.shape[-2:] or image.dtype != self.dtype:
            raise InputError(
                f"{shown(self.files.path)}: plane {shown(name)} is {image.shape} {image.dtype}, "
                f"{self.shape[-2:]} {self.dtype} expected; copy or export the file again"
            )
        return image.pixels


def open_plane(files: Folder | Compound, name: str, limits: Limits) -> Image:
    """The TIFF of a plane, in memory, with all checks that TIFFs are given.

    Raises
    ------
    InputError
        Where it is none; in the words of the file that was asked for.
    """
    with files.file(name) as path:
        try:
            image = read_tiff(path, limits)
            return Image(image.pixels, image.axes)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise what they like on damaged files
            words = reason(error).replace(shown(path), shown(name))
            raise InputError(
                f"{shown(files.path)}: plane {shown(name)} cannot be read ({words})"
            ) from error


def read_oif(path: Path, limits: Limits, scene: int | None = None) -> Image:
    """Read an OIF or OIB file.

    Parameters
    ----------
    path
        The file.
    limits
        What it may declare.
    scene
        None or 0: such a file holds one image.

    Raises
    ------
    InputError
        For what cannot be read, and for another scene.
    ImportError
        For OIB, where olefile is missing.
    """
    _, lines = choose_scene(path, scene, 1, "image")
    files = Compound(path) if path.suffix.lower() == ".oib" else Folder(path)
    settings = files.settings()
    listing = _list_planes(path, files.names())
    first = open_plane(files, listing.names[min(listing.names)], limits)
    if first.axes != "YX":
        raise InputError(
            f"{shown(path)}: its planes have axes {first.axes}, YX expected; export it as OME-TIFF"
        )
    shape = (*listing.shape, *first.shape)
    check_declared(path, shape, first.dtype, limits, files.size(), LZW, may_stay=True)
    rows, columns = _rows_and_columns(settings, lines)
    _tell_missing(settings, listing, (rows, columns), lines)
    axes = name_axes(listing.axes, KNOWN) + "YX"
    spacing = _spacing(settings, dict(zip(axes, (*listing.axes, rows, columns))), lines)
    depth = _bit_depth(settings, first.dtype)
    stated = Stated(spacing, _dyes(settings, listing.channels), depth)
    pixels = TiffPlanes(files, listing.by_place(), shape, first.dtype, limits)
    return make_image(path, pixels, axes, stated, lines, limits)


def _rows_and_columns(settings: Settings, lines: list[str]) -> tuple[str, str]:
    """Axes of a plane; a warning where they are not y and x."""
    order = settings.get("Axis Parameter Common", {}).get("AxisOrder", "")
    columns, rows = (order[0], order[1]) if len(order) > 1 else ("X", "Y")
    if (rows, columns) != ("Y", "X"):
        lines.append(f"its rows lie along {rows.lower()}, its columns along {columns.lower()}")
    return rows, columns


def _tell_missing(
    settings: Settings, listing: Listing, plane: Sequence[str], lines: list[str]
) -> None:
    """A warning about each axis in front of the planes that has fewer of them than was planned."""
    found = {letter: len(one) for letter, one in zip(listing.letters, listing.numbers)}
    for section, values in settings.items():
        name = values.get("AxisCode", "")
        planned = number_in(values.get("MaxSize", ""))
        there = found.get(name, 1)
        if AXIS.fullmatch(section) and name not in plane and planned > there:
            lines.append(
                f"its settings declare {planned:.0f} planes along {name.lower()}, {there} are there"
            )


def _list_planes(path: Path, names: Sequence[str]) -> Listing:
    """The planes among the files of an image: most of its TIFFs are; InputError where some are missing."""
    by_kind: dict[tuple[str, str], dict[Index, str]] = {}
    for name in names:
        match = PLANE_NAME.fullmatch(name)
        if match is not None:
            places = PLACE.findall(match[2].upper())
            letters = "".join(letter for letter, _ in places)
            index = tuple(int(number) for _, number in places)
            by_kind.setdefault((match[1], letters), {})[index] = name
    if not by_kind:
        raise InputError(f"{shown(path)}: holds no planes such as s_C001.tif; export it again")
    (_, letters), found = max(by_kind.items(), key=lambda item: len(item[1]))
    numbers = [sorted({index[i] for index in found}) for i in range(len(letters))]
    planes = math.prod(len(one) for one in numbers)
    if len(found) != planes:
        raise InputError(
            f"{shown(path)}: {planes - len(found)} of {planes} planes are missing; "
            "copy or export it again"
        )
    return Listing(letters, found, numbers)


def _spacing(settings: Settings, named: dict[str, str], lines: list[str]) -> Spacing:
    """Steps by pairfree's letter, of the axes by Olympus' letter."""
    spacing = {}
    for letter, name in named.items():
        one = _step(settings, name)
        if one is None or letter == "C":
            continue
        size, unit = one
        if unit == ("s" if letter == "T" else "µm") and letter in "TZYX":
            spacing[letter] = one
        else:
            lines.append(
                f"its steps along {name.lower()} ({size:g} {unit}) are left out: "
                "OME-TIFF has no place for them"
            )
    return spacing


def _step(settings: Settings, name: str) -> Step | None:
    """The step along one of Olympus' axes."""
    converted = {"X": "Width", "Y": "Height"}.get(name)
    reference = settings.get("Reference Image Parameter", {})
    if converted is not None and f"{converted}ConvertValue" in reference:
        size = number_in(reference[f"{converted}ConvertValue"])
        return _in_unit(size, reference.get(f"{converted}Unit", ""))
    for section, values in settings.items():
        if AXIS.fullmatch(section) and values.get("AxisCode") == name:
            count = number_in(values.get("MaxSize", ""))
            unit = values.get("UnitName", "")
            extent = number_in(values.get("EndPosition", "")) - number_in(
                values.get("StartPosition", "")
            )
            size = number_in(values.get("Interval", ""))
            if size <= 0 and count > 1:
                size = abs(extent) / (count - 1)
            return _in_unit(size, unit)
    return None


def _in_unit(size: float, unit: str) -> Step | None:
    factor, name = IN_UNIT.get(unit_name(unit) or "", (0.0, ""))
    return step_of(size * factor, name, ("µm", "s"))


def _dyes(settings: Settings, numbers: Sequence[int]) -> tuple[str, ...]:
    found = []
    for number in numbers:
        found.append(settings.get(f"Channel {number} Parameters", {}).get("DyeName", ""))
    return tuple(found) if all(found) else ()


def _bit_depth(settings: Settings, dtype: DType) -> int | None:
    text = settings.get("Reference Image Parameter", {}).get("ValidBitCounts", "")
    depth = int(text) if text.isdigit() and len(text) < 3 else 0
    return depth if 0 < depth < 8 * dtype.itemsize else None
