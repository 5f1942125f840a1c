"""Pixel size, units and channel names that TIFF files state.

They stand in OME-XML, in ImageJ's descriptions, in resolution tags, and in tags of SEM makers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from pairfree.files.formats.png_chunks import COARSEST_PIXEL_UM
from pairfree.files.image import Spacing, Step

# Names of one unit that files use, and the one that pairfree shows. What is written back is what
# the file said.
_UNITS = {
    "micron": "µm",
    "microns": "µm",
    "um": "µm",
    "μm": "µm",
    "\\u00b5m": "µm",
    "micrometer": "µm",
    "micrometre": "µm",
    "nanometer": "nm",
    "nanometre": "nm",
    "angstrom": "Å",
    "millimeter": "mm",
    "millimetre": "mm",
    "centimeter": "cm",
    "centimetre": "cm",
    "sec": "s",
    "second": "s",
    "seconds": "s",
}
_NO_UNITS = ("", "pixel", "pixels", "null", "none")
# Attributes of TiffData in OME-XML that are a number of planes or the index of one.
_PLANE_NUMBERS = ("IFD", "PlaneCount", "NumPlanes", "FirstZ", "FirstC", "FirstT")


@dataclass(frozen=True)
class Stated:
    """What a file states about its pixels beside their values."""

    spacing: Spacing = field(default_factory=dict)
    """Size of one step along each axis, and its unit."""
    channel_names: tuple[str, ...] = ()
    """One name a channel, or empty."""
    bit_depth: int | None = None
    """Bits that carry signal."""
    planes: int = 1
    """Planes that the file declares."""
    plane: tuple[int, int] | None = field(default=None, compare=False)
    """Height and width by OME-XML."""


def unit_name(unit: str) -> str | None:
    """The one spelling of a unit that pairfree uses; None for no unit."""
    text = unit.strip()
    if text.lower() in _NO_UNITS:
        return None
    return _UNITS.get(text.lower(), text)


def _step(value: object, unit: str | None) -> Step | None:
    """(size, unit) where both make sense, else None.

    A nonsense pixel size in a file is no pixel size.
    """
    try:
        size = float(str(value))
    except ValueError:
        return None
    if unit and math.isfinite(size) and size > 0:
        return size, unit
    return None


def number_in(text: str) -> float:
    """What a text states; 0 where that is no number."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


def _only_known(steps: dict[str, Step | None]) -> Spacing:
    return {axis: step for axis, step in steps.items() if step is not None}


def _parse(xml: str) -> ElementTree.Element:
    """The root of an XML document, of which zero bytes may follow."""
    text = xml.strip().rstrip("\0")
    return ElementTree.fromstring(text)


def from_ome(xml: str, number: int = 0) -> Stated:
    """What an OME-XML document says of one image.

    Parameters
    ----------
    xml
        The description of the first page.
    number
        Of the image, from 0.

    Returns
    -------
    Stated
        ``planes`` is the greatest number of planes that SizeZ, SizeC and SizeT of any image declare
        (samples of a pixel are counted in SizeC), or TiffData elements or modulo annotations do.

    Raises
    ------
    ValueError
        Where it is no OME-XML (ElementTree.ParseError is one).
    """
    images = images_from_ome(xml)
    return images[number] if number < len(images) else Stated()


def images_from_ome(xml: str) -> list[Stated]:
    """What an OME-XML document says of each of its images; errors as of ``from_ome``."""
    root = _parse(xml)
    planes = max(_declared_planes(root), default=1)
    return [_from_pixels(pixels, planes) for pixels in root.findall("./{*}Image/{*}Pixels")]


def _from_pixels(pixels: ElementTree.Element, planes: int) -> Stated:
    get = pixels.attrib.get
    steps = {}
    for axis in "ZYX":
        unit = get(f"PhysicalSize{axis}Unit", "µm")
        steps[axis] = _step(get(f"PhysicalSize{axis}"), unit_name(unit))
    unit = get("TimeIncrementUnit", "s")
    steps["T"] = _step(get("TimeIncrement"), unit_name(unit))
    channels = pixels.findall("./{*}Channel")
    names = [one.attrib.get("Name", "") for one in channels]
    depth = get("SignificantBits", "")
    return Stated(
        spacing=_only_known(steps),
        channel_names=tuple(names) if any(names) else (),
        bit_depth=int(depth) if depth.isdigit() else None,
        planes=planes,
        plane=(int(get("SizeY", "0")), int(get("SizeX", "0"))),
    )


def files_of_ome(xml: str) -> set[str]:
    """Names of the files that share the planes or the metadata of an OME-XML document.

    Parameters
    ----------
    xml
        The description of the first page.

    Returns
    -------
    set
        Empty where one file, whatever its name is now, holds all.

    Raises
    ------
    ValueError
        As ``from_ome``.
    """
    root = _parse(xml)
    found = {one.attrib.get("FileName", "") for one in root.iterfind(".//{*}TiffData/{*}UUID")}
    found.discard("")
    if len(found) < 2:
        found = set()
    for one in root.iterfind(".//{*}BinaryOnly"):
        found.add(one.attrib.get("MetadataFile", ""))
    found.discard("")
    return found


def _declared_planes(root: ElementTree.Element) -> Iterator[int]:
    """Every number of planes, or index of one, that an OME-XML document declares.

    A reader may make a list of that length.
    """
    for pixels in root.iterfind(".//{*}Pixels"):
        planes = 1
        for axis in "ZCT":
            size = int(pixels.attrib.get(f"Size{axis}", "1"))
            planes *= max(size, 1)
        yield planes
    for data in root.iterfind(".//{*}TiffData"):
        yield sum(int(data.attrib.get(name, "0")) for name in _PLANE_NUMBERS)
    for along in root.iterfind(".//{*}Modulo/*"):
        start = float(along.attrib.get("Start", "0"))
        end = float(along.attrib.get("End", "0"))
        step = float(along.attrib.get("Step", "1"))
        steps = abs(end - start) / max(abs(step), 1e-9)
        yield round(min(steps, 1e18))


def _imagej_pairs(description: str) -> dict[str, str]:
    pairs = {}
    for line in description.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            pairs[key.strip()] = value.strip()
    return pairs


def from_imagej(description: str, resolution: tuple[float, float]) -> Stated:
    """What ImageJ's description says.

    Parameters
    ----------
    description
        The text.
    resolution
        Of the tags beside it, along x and y: pixels per unit, 0 where missing.
    """
    pairs = _imagej_pairs(description)
    unit = pairs.get("unit", "")
    units = {axis: unit_name(pairs.get(f"{axis.lower()}unit", unit)) for axis in "XYZ"}
    x, y = resolution
    width = 1 / x if x > 0 else 0
    height = 1 / y if y > 0 else 0
    # ImageJ writes a negative spacing for stacks whose first slice is the top one.
    depth = pairs.get("spacing", "0").lstrip("-")
    interval = number_in(pairs.get("finterval", "0"))
    frames_per_second = number_in(pairs.get("fps", "0"))
    if not interval and frames_per_second > 0:
        interval = 1.0 / frames_per_second
    unit_of_time = pairs.get("tunit", "s")
    steps = {
        "X": _step(width, units["X"]),
        "Y": _step(height, units["Y"]),
        "Z": _step(depth, units["Z"]),
        "T": _step(interval, unit_name(unit_of_time)),
    }
    planes = 1
    images = pairs.get("images", "1")
    if re.fullmatch(r"\d{1,18}", images):
        planes = max(int(images), 1)
    return Stated(_only_known(steps), planes=planes)


def from_resolution(resolution: tuple[float, float], unit: int) -> Spacing:
    """Pixel size in µm from plain resolution tags.

    Parameters
    ----------
    resolution
        Along x and y: pixels per unit, 0 where missing.
    unit
        2 inch, 3 cm.

    Returns
    -------
    dict
        Empty where a pixel would be so large that the tags mean a print density.
    """
    unit_um = {2: 25400.0, 3: 10000.0}.get(unit)
    x, y = resolution
    if unit_um is None or not (x > 0 and y > 0):
        return {}
    width = unit_um / x
    height = unit_um / y
    if max(width, height) > COARSEST_PIXEL_UM:
        return {}
    return {"Y": (height, "µm"), "X": (width, "µm")}


def from_sem(sem: dict[str, Any] | None, fei: dict[str, Any] | None) -> Spacing:
    """Pixel size from the tags of electron microscopes.

    Parameters
    ----------
    sem
        Of Zeiss (CZ_SEM).
    fei
        Of Thermo Fisher (FEI).
    """
    step = _step_of_zeiss(sem or {})
    if step is not None:
        return {"Y": step, "X": step}
    scan = (fei or {}).get("Scan")
    if not isinstance(scan, dict):
        return {}
    spacing: Spacing = {}
    for axis, key in (("Y", "PixelHeight"), ("X", "PixelWidth")):
        found = _step(scan.get(key), "m")
        if found is not None:
            # FEI states metres; micrometres are what people read.
            spacing[axis] = (found[0] * 1e6, "µm")
    return spacing


def _step_of_zeiss(sem: dict[str, Any]) -> Step | None:
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = sem.get(key)
        if isinstance(entry, tuple) and len(entry) >= 3:
            _, size, unit, *_ = entry
            step = _step(size, unit_name(str(unit)))
            if step is not None:
                return step
    return None


GATAN = {"Y": (65010, 65013), "X": (65009, 65012)}
"""Private tags of DigitalMicrograph's TIFFs: size of a step and its unit."""


def from_gatan(tags: Any) -> Spacing:
    """Pixel size from the tags that DigitalMicrograph writes.

    Parameters
    ----------
    tags
        tifffile's, of the first page.
    """
    steps = {}
    for axis, codes in GATAN.items():
        size, unit = [tags.get(code) for code in codes]
        if size is None or unit is None:
            return {}
        steps[axis] = _step(size.value, unit_name(str(unit.value)))
    return _only_known(steps)
