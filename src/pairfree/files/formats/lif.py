"""Leica's LIF files, read only, through liffile (``pip install 'pairfree[vendors]'``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.tiff_meta import Stated
from pairfree.files.formats.vendor_parts import (
    LENGTHS,
    TIMES,
    choose_scene,
    make_image,
    name_axes,
    step_of,
)
from pairfree.files.image import Image, Spacing, Step, Stored
from pairfree.files.limits import Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import RawFile

LABELS = {"1": "X", "2": "Y", "3": "Z", "4": "T", "5": "λ", "9": "Λ"}
"""liffile's names of dimensions, by Leica's numbers."""
WORDS = {
    "X": "x",
    "Y": "y",
    "Z": "z",
    "T": "time",
    "λ": "emission wavelength",
    "Λ": "excitation wavelength",
}
"""For messages."""
LEADING = {"T": "T", "Z": "Z", "Y": "Z", "C": "C"}
"""Axes in front of the plane: y is the depth of a stack of xz scans."""
WAVELENGTHS = "λΛ"
CHANNELS = "./Data/Image/ImageDescription/Channels/ChannelDescription"
"""Where the XML of an image describes its channels."""
PLANE = "XYZT"
"""What rows and columns may lie along."""


class Loaded(Stored):
    """Pixels that liffile has put in order, in memory."""

    def __init__(self, pixels: np.ndarray, plane_axes: int) -> None:
        self.pixels, self.plane_axes = pixels, plane_axes
        self.shape, self.dtype = pixels.shape, pixels.dtype.newbyteorder("=")

    def region(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``."""
        plane: np.ndarray = self.pixels[index]
        return plane[rows, columns]

    def whole(self) -> np.ndarray:
        """All pixels as one array."""
        return self.pixels


@dataclass(frozen=True)
class Dimension:
    """What the file says about one axis."""

    step: float
    unit: str
    origin: float


def read_lif(path: Path, limits: Limits, scene: int | None = None) -> Image:
    """Read one image of a LIF file.

    Parameters
    ----------
    path
        The file.
    limits
        What it may declare.
    scene
        Number of the image, from 0; None for the first.

    Raises
    ------
    InputError
        For what cannot be read, and for an image that does not exist.
    ImportError
        Where liffile is missing.
    """
    from liffile import LifFile

    with LifFile(path) as file:
        if file.type.name != "LIF":
            raise InputError(f"{shown(path)}: is no LIF file but a {file.type.name} file of Leica")
        images = list(file.images)
        scene, lines = choose_scene(path, scene, len(images), "images")
        _tell_left_out(path, file.xml_element, len(images), lines)
        return _read_image(path, limits, images[scene], lines)


def count_images_of_lif(path: Path) -> int:
    """How many images a LIF file holds; errors as of ``read_lif``."""
    from liffile import LifFile

    with LifFile(path) as file:
        return len(file.images)


def _tell_left_out(path: Path, root: ElementTree.Element, found: int, lines: list[str]) -> None:
    """A warning about images that liffile does not tell from those of the same name."""
    declared = len(root.findall(".//Data/Image"))
    if declared > found:
        lines.append(
            f"{declared - found} images have the name of another one and cannot "
            "be read; give each its own name"
        )


def _read_image(path: Path, limits: Limits, image: Any, lines: list[str]) -> Image:
    if image.is_flim:
        raise InputError(
            f"{shown(path)}: holds lifetimes (FLIM) in a format that only Leica reads; "
            "export the image of intensities"
        )
    names = [str(name) for name in image.dims]
    shape = tuple(int(size) for size in image.shape)
    dtype = np.dtype(image.dtype)
    is_colour = names[-1:] == ["S"]
    planar = names[: len(names) - is_colour]
    _check_plane(path, planar)
    block = image.memory_block
    check_declared(path, shape, dtype, limits, int(block.size), may_stay=not is_colour)
    dimensions = _dimensions(image.xml_element)
    letters = _letters(planar, lines)
    spacing = _spacing(planar, letters, dimensions, lines)
    channels = _channel_names(planar, letters, shape, image.xml_element, dimensions)
    stated = Stated(spacing, channels, _bit_depth(image.xml_element, dtype))
    axes = letters + ("S" if is_colour else "")
    packed = math.prod(shape) * dtype.itemsize == int(block.size)
    pixels: Stored
    if packed and not is_colour:
        pixels = RawFile(path, int(block.offset), shape, dtype)
    else:
        pixels = Loaded(image.asarray(), 3 if is_colour else 2)
    return make_image(path, pixels, axes, stated, lines, limits)


def _check_plane(path: Path, names: Sequence[str]) -> None:
    """InputError, with the axes, for what has no plane of two axes."""
    plane = names[-2:]
    if len(plane) == 2 and all(name in PLANE for name in plane):
        return
    along = ", ".join(WORDS.get(name, name) for name in names)
    raise InputError(
        f"{shown(path)}: holds values along {along or 'no axis'}, whose last two make no image; "
        "export it as TIFF"
    )


def _letters(names: Sequence[str], lines: list[str]) -> str:
    """Axes of pairfree; a warning where rows and columns are not y and x."""
    *leading, rows, columns = names
    if (rows, columns) != ("Y", "X"):
        lines.append(f"its rows lie along {WORDS[rows]}, its columns along {WORDS[columns]}")
    known = dict(LEADING)
    if "C" not in leading:
        known |= dict.fromkeys(WAVELENGTHS, "C")
    return name_axes(leading, known) + "YX"


def _dimensions(element: ElementTree.Element) -> dict[str, Dimension]:
    """Step, unit and origin by liffile's names of dimensions."""
    found = {}
    for one in element.iterfind("./Data/Image/ImageDescription/Dimensions/DimensionDescription"):
        label = LABELS.get(one.get("DimID", ""))
        count = int(one.get("NumberOfElements", "1"))
        if label is not None and count > 1:
            step = float(one.get("Length", "0")) / (count - 1)
            found[label] = Dimension(abs(step), one.get("Unit", ""), float(one.get("Origin", "0")))
    return found


def _spacing(
    names: Sequence[str],
    letters: str,
    dimensions: dict[str, Dimension],
    lines: list[str],
) -> Spacing:
    spacing = {}
    for name, letter in zip(names, letters, strict=True):
        one = dimensions.get(name)
        if one is None or one.step == 0:
            continue
        step = _step(one, TIMES if letter == "T" else LENGTHS)
        if letter in "TZYX" and step is not None:
            spacing[letter] = step
        elif name not in WAVELENGTHS or letter != "C":
            size = f"{one.step:.6g} {one.unit}".strip()
            lines.append(
                f"its steps along {WORDS.get(name, name)} ({size}) are left out: "
                "OME-TIFF has no place for them"
            )
    return spacing


def _step(one: Dimension, units: Sequence[str]) -> Step | None:
    """Leica states metres; micrometres are what people read."""
    if one.unit == "m" and "m" in units:
        return step_of(one.step * 1e6, "µm", units)
    return step_of(one.step, one.unit, units)


def _channel_names(
    names: Sequence[str],
    letters: str,
    shape: Sequence[int],
    element: ElementTree.Element,
    dimensions: dict[str, Dimension],
) -> tuple[str, ...]:
    """Dyes, or colours, of channels; of a scan over wavelengths these."""
    if "C" not in letters:
        return ()
    place = letters.index("C")
    if names[place] in WAVELENGTHS:
        one = dimensions.get(names[place])
        if one is None or one.unit != "m":
            return ()
        values = [(one.origin + i * one.step) * 1e9 for i in range(shape[place])]
        return tuple(f"{value:.6g} nm" for value in values)
    found = []
    for channel in element.iterfind(CHANNELS):
        found.append(_dye(channel) or channel.get("LUTName", ""))
    return tuple(found) if all(found) else ()


def _dye(channel: ElementTree.Element) -> str:
    for entry in channel.iterfind("./ChannelProperty"):
        if entry.findtext("Key") == "DyeName":
            return entry.findtext("Value") or ""
    return ""


def _bit_depth(element: ElementTree.Element, dtype: np.dtype[Any]) -> int | None:
    """Bits that carry signal, where all channels have as many, and fewer than the type."""
    depths = {one.get("Resolution", "") for one in element.iterfind(CHANNELS)}
    text = depths.pop() if len(depths) == 1 else ""
    depth = int(text) if text.isdigit() else 0
    return depth if dtype.kind == "u" and 0 < depth < 8 * dtype.itemsize else None
