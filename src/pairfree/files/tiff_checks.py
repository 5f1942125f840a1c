"""What ``verify`` compares of TIFF beside pixels, axes and pixel size."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np
from tifffile import COMPRESSION

from pairfree.files.checks import Check, check_entries, check_same
from pairfree.files.formats.tiff_carried import Carried, RawTag
from pairfree.files.formats.tiff_codecs import DEFLATE_CODES, PICTURES
from pairfree.files.image import Image

TIMES = ("DeltaT", "Exposure", "AcquisitionDate", "finterval", "fps", "306", "TimeIncrement")
"""Words in the names of what descriptions state about time; 306 is the tag DateTime."""
UNCOMPRESSED = "NONE"
"""Name of no compression."""
DATE_TIME = 306
TEXT = 2
"""Number of TIFF's type for text."""
BYTES_OF_TYPE = {
    3: 2,
    4: 4,
    5: 4,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 8,
    16: 8,
    17: 8,
}
"""Bytes of a number by TIFF's type: a rational is two of them. All others have one."""
TagValue = tuple[int, int, bytes]
"""Type, count and value of a tag, in one byte order."""


def check_tiff(a: Image, b: Image) -> list[Check]:
    """Tags, descriptions and how the file is laid out."""
    first: Carried = a.metadata["tiff"]
    second: Carried = b.metadata["tiff"]
    found = [
        check_same("kind of TIFF", first.kind, second.kind),
        check_same("byte order", first.byteorder, second.byteorder),
        _check_compression(first, second),
        check_same("resolutions", first.resolutions, second.resolutions),
        check_entries("tags", _tags_of_first_page(first), _tags_of_first_page(second)),
        check_same("resolution", _resolution(first), _resolution(second)),
    ]
    later = _tags_of_later_pages(first), _tags_of_later_pages(second)
    if any(later):
        found.append(check_entries("tags of later pages", *later))
    before, after = _described(first), _described(second)
    found.append(check_entries("description", before, after))
    times = _only_times(before)
    if times:
        found.append(check_entries("time stamps", times, _only_times(after)))
    return found


def _check_compression(first: Carried, second: Carried) -> Check:
    """Stated and not judged where reading told that it would be another."""
    before, after = [_compression(one) for one in (first, second)]
    told = first.compression in PICTURES or (first.packed and before != UNCOMPRESSED)
    return Check("compression", before, after, None if told else before == after)


def _compression(carried: Carried) -> str:
    if carried.compression in DEFLATE_CODES:
        return "DEFLATE"
    return str(COMPRESSION(carried.compression).name)


def _tags_of_first_page(carried: Carried) -> dict[int, TagValue]:
    found = {}
    for tag in carried.tags:
        found[tag[0]] = _tag_value(tag, carried)
    return found


def _tags_of_later_pages(carried: Carried) -> dict[tuple[int, int], TagValue]:
    """By page and number of the tag."""
    found = {}
    for page, tags in enumerate(carried.page_tags):
        for tag in tags:
            found[page, tag[0]] = _tag_value(tag, carried)
    return found


def _tag_value(tag: RawTag, carried: Carried) -> TagValue:
    _, kind, count, value = tag
    if kind == TEXT:  # text that lacked its final NUL has it now
        return kind, 0, value.rstrip(b"\0")
    size = BYTES_OF_TYPE.get(kind, 1)
    if carried.byteorder == ">" and size > 1:
        numbers = np.frombuffer(value, f">u{size}")
        value = numbers.astype(f"<u{size}").tobytes()
    return kind, count, value


def _resolution(carried: Carried) -> tuple[Any, ...]:
    """Pixels per unit along x and y, and the unit's number; 0 where the file does not say."""
    resolution = carried.resolution or ((0, 1), (0, 1))
    steps = []
    for numerator, denominator in resolution:
        value = numerator / denominator if denominator else 0.0
        steps.append(float(f"{value:.9g}"))
    return (*steps, carried.resolution_unit)


def _described(carried: Carried) -> dict[str, str]:
    """What descriptions state: the attributes of OME-XML, the lines of ImageJ, else the text."""
    found: dict[str, str] = {}
    texts = (carried.description, *carried.page_descriptions)
    for page, text in enumerate(texts):
        words = text.decode("utf-8", "replace").strip("\0 ")
        if carried.kind == "ome" and page == 0:
            found.update(_described_by_ome(words))
        elif carried.kind == "imagej" and page == 0:
            found.update(_described_by_imagej(words))
        elif words:
            found[f"page {page + 1}"] = words
    for code, _, _, data in carried.tags:
        if code == DATE_TIME:
            date = data.decode("ascii", "replace")
            found[str(code)] = date.strip("\0")
    return found


def _described_by_ome(xml: str) -> dict[str, str]:
    """Attributes and texts of all elements, those of one name counted.

    Not names of files, which are new, nor which page holds which plane, which the frames themselves tell.
    """
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for element in ElementTree.fromstring(xml).iter():
        tag = element.tag.rpartition("}")[2]
        if tag == "TiffData":
            continue
        counts[tag] = counts.get(tag, 0) + 1
        name = f"{tag} {counts[tag]}"
        for key, value in element.attrib.items():
            new = key in ("UUID", "FileName")
            if not new and not key.endswith("schemaLocation"):
                found[f"{name} {key}"] = value
        inside = (element.text or "").strip()
        if inside and tag != "UUID":
            found[name] = inside
    return found


def _described_by_imagej(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        if line.strip():
            key, _, value = line.partition("=")
            found[key] = value
    return found


def _only_times(described: dict[str, str]) -> dict[str, str]:
    found = {}
    for key, value in described.items():
        if any(word in key for word in TIMES):
            found[key] = value
    return found
