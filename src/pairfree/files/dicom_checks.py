"""What ``verify`` compares of DICOM beside pixels, axes and pixel size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pairfree.files.checks import Check, check_entries, check_same
from pairfree.files.formats.dicom import Carried
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
    "PixelData",
    *NEW,
)
"""Elements that differ in a derived object."""
Elements = dict[str, Any]
"""Values by keyword."""


def check_dicom(a: Image, b: Image) -> list[Check]:
    """Elements of the data set, how values are stored, and whether the result is marked as one."""
    first: Carried = a.metadata["dicom"]
    second: Carried = b.metadata["dicom"]
    before, after = _elements(first), _elements(second)
    return [
        _check_part("geometry", GEOMETRY, before, after),
        _check_part("patient and study", IDENTITY, before, after),
        check_entries("time stamps", _times_of_dicom(before), _times_of_dicom(after)),
        check_same("rescale", first.rescale, second.rescale),
        check_same("bits stored", first.stored_range, second.stored_range),
        _check_uids(before, after),
        _check_image_type(after),
        check_same("padding pixels", _padded_pixels(first), _padded_pixels(second)),
        check_entries("other elements", _other_elements(before), _other_elements(after)),
    ]


def _elements(carried: Carried) -> Elements:
    """Values by keyword; group lengths are no content, and no longer written."""
    found = {}
    for element in carried.dataset:
        if element.tag.element:
            found[element.keyword or str(element.tag)] = element.value
    return found


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
