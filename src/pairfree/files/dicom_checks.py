"""What ``verify`` compares of DICOM beside pixels, axes and pixel size."""

from __future__ import annotations

import math
from collections.abc import Iterable, MutableSequence
from typing import Any

import numpy as np

from pairfree.files.checks import Check, check_entries, check_same
from pairfree.files.formats.dicom import Carried
from pairfree.files.formats.dicom_rescale import Rescale
from pairfree.files.formats.dicom_words import Words, bits_in_use
from pairfree.files.formats.quiet import quiet_readers
from pairfree.files.image import Image

GEOMETRY = (
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceLocation",
    "FrameOfReferenceUID",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
IDENTITY = (
    "PatientID",
    "PatientName",
    "StudyInstanceUID",
    "StudyID",
    "Modality",
    "SOPClassUID",
    "InstanceNumber",
    "AccessionNumber",
)
NEW = ("SOPInstanceUID", "SeriesInstanceUID")
"""A derived object must not bear those of the original."""
OF_THE_RESULT = (
    "ImageType",
    "DerivationDescription",
    "SourceImageSequence",
    "SeriesDescription",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "PlanarConfiguration",
    *NEW,
)
"""Elements that differ in a derived object."""
Elements = dict[str, Any]
"""Values by keyword."""


def check_dicom(a: Image, b: Image) -> list[Check]:
    """Elements of the data set, how values are stored, and whether the result is marked as one."""
    first: Carried = a.metadata["dicom"]
    second: Carried = b.metadata["dicom"]
    with quiet_readers():
        before, after = _elements(first), _elements(second)
    return [
        _check_part("geometry", GEOMETRY, before, after),
        _check_part("patient and study", IDENTITY, before, after),
        check_entries("time stamps", _times_of_dicom(before), _times_of_dicom(after)),
        _check_rescale(first.rescale, second.rescale),
        check_same("stored as", _kind(first), _kind(second)),
        check_same("bits stored", first.words.stored_range, second.words.stored_range),
        _check_bits_beside(first.words, second.words),
        _check_mosaic(first, second),
        _check_uids(before, after),
        _check_image_type(after),
        check_same("padding pixels", _padded_pixels(first), _padded_pixels(second)),
        check_entries("other elements", _other_elements(before), _other_elements(after)),
    ]


def _elements(carried: Carried) -> Elements:
    """Values by keyword; group lengths are no content, and no longer written."""
    found: Elements = {}
    for tag in sorted(carried.dataset.keys()):
        if tag.element:
            keyword, value = _value_of(carried.dataset, tag)
            # Groups that repeat, such as those of overlays, share their keywords.
            name = keyword if keyword and keyword not in found else str(tag)
            found[name] = value
    return found


def _value_of(dataset: Any, tag: Any) -> tuple[str, Any]:
    """Keyword and value of an element; its bytes where they are none that pydicom understands.

    Those of private elements of unknown kind it may take for a text.
    """
    raw = dataset.get_item(tag)
    if tag.is_private and raw.VR == "UN":
        return "", _comparable(raw.value)
    try:
        element = dataset[tag]
    except Exception:
        return "", _comparable(raw.value)
    if element.VR == "SQ":
        return element.keyword, [_values_of(item) for item in element.value]
    return element.keyword, _comparable(element.value)


def _comparable(value: Any) -> Any:
    """A value that equals itself: NaN in words, and bytes with the one that makes them even."""
    if isinstance(value, bytes):
        return value + b"\0" * (len(value) % 2)
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, MutableSequence):
        return [_comparable(one) for one in value]
    return value


def _values_of(item: Any) -> Elements:
    """Values by tag, of an item of a sequence."""
    tags = [tag for tag in sorted(item.keys()) if tag.element]
    return {str(tag): _value_of(item, tag)[1] for tag in tags}


def _kind(carried: Carried) -> str:
    return f"{carried.keyword}, {carried.words.dtype.name}"


def _check_rescale(before: Rescale, after: Rescale) -> Check:
    return Check("rescale", _rescale_text(before), _rescale_text(after), before == after)


def _rescale_text(rescale: Rescale) -> str:
    pairs = list(zip(rescale.slopes, rescale.intercepts, strict=True))
    if rescale.by_frame:
        return f"one for each of {len(pairs)} frames, first {pairs[0]}"
    return str(pairs[0])


def _check_bits_beside(before: Words, after: Words) -> Check:
    """Overlays lie in the bits of a word that are no part of its value."""
    had, has = bits_in_use(before), bits_in_use(after)
    same = had == has == 0
    if before.beside is not None and after.beside is not None:
        same = np.array_equal(before.beside, after.beside)
    told = f"{has} pixels" if had != has or same else f"others of {has} pixels"
    return Check("bits beside the values", f"{had} pixels", told, same)


def _check_mosaic(before: Carried, after: Carried) -> Check:
    """Whether tiles that are no slices are as they were."""
    a, b = before.mosaic, after.mosaic
    if a is None or b is None:
        return check_same("mosaic", _tiles(before), _tiles(after))
    same = a.side == b.side and np.array_equal(a.spare, b.spare)
    return Check("mosaic", _tiles(before), _tiles(after), same)


def _tiles(carried: Carried) -> str:
    mosaic = carried.mosaic
    if mosaic is None:
        return "none"
    return f"{mosaic.side} x {mosaic.side} tiles, {len(mosaic.spare)} spare"


def _check_part(name: str, keys: Iterable[str], before: Elements, after: Elements) -> Check:
    """Those elements that have one of the keys."""
    first = {key: before[key] for key in keys if key in before}
    second = {key: after[key] for key in keys if key in after}
    return check_entries(name, first, second)


def _times_of_dicom(elements: Elements) -> Elements:
    return {key: value for key, value in elements.items() if _is_time(key)}


def _other_elements(elements: Elements) -> Elements:
    looked_at = (*GEOMETRY, *IDENTITY, *OF_THE_RESULT)
    found = {}
    for key, value in elements.items():
        if key not in looked_at and not _is_time(key):
            found[key] = value
    return found


def _is_time(keyword: str) -> bool:
    return keyword.endswith(("Time", "Date", "DateTime"))


def _check_uids(before: Elements, after: Elements) -> Check:
    old = []
    for name in NEW:
        if name in before and before[name] == after.get(name):
            old.append(name)
    told = f"the same as before: {', '.join(old)}" if old else "new"
    return Check("UIDs of image and series", "new ones", told, not old)


def _check_image_type(after: Elements) -> Check:
    kinds = after.get("ImageType") or [""]
    kind = str(kinds[0])
    return Check("image type", "DERIVED", kind or "none", kind == "DERIVED")


def _padded_pixels(carried: Carried) -> int:
    if carried.padding is None:
        return 0
    _, mask = carried.padding
    return int(mask.sum())
