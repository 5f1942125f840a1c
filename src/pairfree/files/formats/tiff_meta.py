"""Pixel size, units and channel names that TIFF files state: OME-XML, ImageJ descriptions, resolution tags,
SEM makers' tags."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from pairfree.files.formats.pictures import COARSEST_PIXEL_UM

Spacing = dict[str, tuple[float, str]]

# Names of one unit that files use, and the one that pairfree shows. What is written back is what the file
# said.
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


@dataclass(frozen=True)
class Stated:
    """What a file states about its pixels beside their values."""

    spacing: Spacing = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    bit_depth: int | None = None
    planes: int = 1


def unit_name(unit: str) -> str | None:
    """The one spelling of a unit that pairfree uses; None for no unit."""
    text = unit.strip()
    return None if text.lower() in _NO_UNITS else _UNITS.get(text.lower(), text)


def _step(value: object, unit: str | None) -> tuple[float, str] | None:
    """(size, unit) where both make sense, else None: a nonsense pixel size in a file is no pixel size."""
    try:
        size = float(str(value))
    except ValueError:
        return None
    return (size, unit) if unit and math.isfinite(size) and size > 0 else None


def _only_known(steps: dict[str, tuple[float, str] | None]) -> Spacing:
    return {axis: step for axis, step in steps.items() if step is not None}


def from_ome(xml: str) -> Stated:
    """First image of an OME-XML document.

    Raises ValueError (ElementTree.ParseError is one) where it is no OME-XML.

    ``planes`` is the greatest number of planes that SizeZ, SizeC and SizeT of any image declare (samples of a
    pixel are counted in SizeC), or TiffData elements or modulo annotations do.
    """
    root = ElementTree.fromstring(xml.strip().rstrip("\0"))
    pixels = root.find("./{*}Image/{*}Pixels")
    if pixels is None:
        return Stated()
    get = pixels.attrib.get
    steps = {
        a: _step(get(f"PhysicalSize{a}"), unit_name(get(f"PhysicalSize{a}Unit", "µm")))
        for a in "ZYX"
    }
    steps["T"] = _step(get("TimeIncrement"), unit_name(get("TimeIncrementUnit", "s")))
    names = [channel.attrib.get("Name", "") for channel in pixels.findall("./{*}Channel")]
    planes = max(_declared_planes(root), default=1)
    depth = get("SignificantBits", "")
    return Stated(
        _only_known(steps),
        tuple(names) if any(names) else (),
        int(depth) if depth.isdigit() else None,
        planes,
    )


def files_of_ome(xml: str) -> set[str]:
    """Names of the files that share the planes or the metadata of an OME-XML document; none where one file,
    whatever its name is now, holds all. Raises ValueError as ``from_ome``."""
    root = ElementTree.fromstring(xml.strip().rstrip("\0"))
    planes = {one.attrib.get("FileName", "") for one in root.iterfind(".//{*}TiffData/{*}UUID")}
    metadata = {one.attrib.get("MetadataFile", "") for one in root.iterfind(".//{*}BinaryOnly")}
    return ((planes if len(planes - {""}) > 1 else set()) | metadata) - {""}


def _declared_planes(root: ElementTree.Element) -> Iterator[int]:
    """Every number of planes, or index of one, that an OME-XML document declares: a reader may make a list of
    that length."""
    for pixels in root.iterfind(".//{*}Pixels"):
        yield math.prod(max(int(pixels.attrib.get(f"Size{a}", "1")), 1) for a in "ZCT")
    for data in root.iterfind(".//{*}TiffData"):
        yield sum(
            int(data.attrib.get(name, "0"))
            for name in ("IFD", "PlaneCount", "NumPlanes", "FirstZ", "FirstC", "FirstT")
        )
    for along in root.iterfind(".//{*}Modulo/*"):
        start, end, step = (
            float(along.attrib.get(name, default))
            for name, default in (("Start", "0"), ("End", "0"), ("Step", "1"))
        )
        yield round(min(abs(end - start) / max(abs(step), 1e-9), 1e18))


def _imagej_pairs(description: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in description.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def from_imagej(description: str, resolution: tuple[float, float]) -> Stated:
    """ImageJ's description text and the x and y resolution tags (pixels per unit, 0 where missing)."""
    pairs = _imagej_pairs(description)
    unit = unit_name(pairs.get("unit", ""))
    of_axis = {
        axis: unit_name(pairs[f"{axis.lower()}unit"]) if f"{axis.lower()}unit" in pairs else unit
        for axis in "XYZ"
    }
    x, y = resolution
    steps = {
        "X": _step(1 / x if x > 0 else 0, of_axis["X"]),
        "Y": _step(1 / y if y > 0 else 0, of_axis["Y"]),
        # ImageJ writes a negative spacing for stacks whose first slice is the top one
        "Z": _step(pairs.get("spacing", "0").lstrip("-"), of_axis["Z"]),
        "T": _step(pairs.get("finterval", "0"), unit_name(pairs.get("tunit", "s"))),
    }
    images = re.fullmatch(r"\d{1,18}", pairs.get("images", "1"))
    return Stated(_only_known(steps), planes=max(int(images[0]), 1) if images else 1)


def from_resolution(resolution: tuple[float, float], unit: int) -> Spacing:
    """Pixel size in µm from plain resolution tags (unit 2 inch, 3 cm) where it is fine enough to be one, not
    a print density."""
    unit_um = {2: 25400.0, 3: 10000.0}.get(unit)
    x, y = resolution
    if (
        unit_um is None
        or not (x > 0 and y > 0)
        or max(unit_um / x, unit_um / y) > COARSEST_PIXEL_UM
    ):
        return {}
    return {"Y": (unit_um / y, "µm"), "X": (unit_um / x, "µm")}


def from_sem(sem: dict[str, Any] | None, fei: dict[str, Any] | None) -> Spacing:
    """Pixel size from the tags of Zeiss (CZ_SEM) and Thermo Fisher (FEI) electron microscopes."""
    if sem:
        for key in ("ap_image_pixel_size", "ap_pixel_size"):
            entry = sem.get(key)
            if isinstance(entry, tuple) and len(entry) >= 3:
                step = _step(entry[1], unit_name(str(entry[2])))
                if step:
                    return {"Y": step, "X": step}
    scan = (fei or {}).get("Scan")
    if isinstance(scan, dict):
        # FEI states metres; micrometres are what people read
        steps = {
            axis: _step(scan.get(key), "m")
            for axis, key in (("Y", "PixelHeight"), ("X", "PixelWidth"))
        }
        return {axis: (step[0] * 1e6, "µm") for axis, step in steps.items() if step}
    return {}


GATAN = {"Y": (65010, 65013), "X": (65009, 65012)}
"""Private tags of DigitalMicrograph's TIFFs: size of a step and its unit."""


def from_gatan(tags: Any) -> Spacing:
    """Pixel size from the tags that DigitalMicrograph writes.   tags   tifffile's, of the first page"""
    stated = {axis: [tags.get(code) for code in codes] for axis, codes in GATAN.items()}
    if any(tag is None for pair in stated.values() for tag in pair):
        return {}
    steps = {
        axis: _step(size.value, unit_name(str(unit.value))) for axis, (size, unit) in stated.items()
    }
    return {axis: step for axis, step in steps.items() if step}
