"""What ``verify`` compares beside pixels, axes and pixel size: a row for each format, in a literal table."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable
from typing import Any
from xml.etree import ElementTree

import numpy as np

from pairfree.files.checks import Check, check_entries, check_same, in_words
from pairfree.files.formats import metaimage_header, mrc, tiff_carried, zarr_layout
from pairfree.files.image import Image

# -- TIFF ----------------------------------------------------------------------------------------------------

TIMES = ("DeltaT", "Exposure", "AcquisitionDate", "finterval", "fps", "306", "TimeIncrement")
"""Words in the names of what descriptions state about time; 306 is the tag DateTime."""
DATE_TIME = 306
TEXT = 2
"""Number of TIFF's type for text."""
BYTES_OF_TYPE = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 16: 8, 17: 8}
"""Bytes of a number by TIFF's type: a rational is two of them. All others have one."""


def _check_tiff(a: Image, b: Image) -> list[Check]:
    first: tiff_carried.Carried = a.metadata["tiff"]
    second: tiff_carried.Carried = b.metadata["tiff"]
    found = [
        check_same("kind of TIFF", first.kind, second.kind),
        check_same("byte order", first.byteorder, second.byteorder),
        check_same("resolutions", first.resolutions, second.resolutions),
        check_entries("tags", _tags_of_first_page(first), _tags_of_first_page(second)),
        check_same("resolution", _resolution(first), _resolution(second)),
    ]
    later = _tags_of_later_pages(first), _tags_of_later_pages(second)
    if any(later):
        found.append(check_entries("tags of later pages", *later))
    described = _described(first), _described(second)
    found.append(check_entries("description", *described))
    times = _only_times(described[0]), _only_times(described[1])
    if times[0]:
        found.append(check_entries("time stamps", *times))
    return found


def _tags_of_first_page(carried: tiff_carried.Carried) -> dict[int, tuple[int, int, bytes]]:
    return {tag[0]: _tag_value(tag, carried) for tag in carried.tags}


def _tags_of_later_pages(
    carried: tiff_carried.Carried,
) -> dict[tuple[int, int], tuple[int, int, bytes]]:
    found = {}
    for page, tags in enumerate(carried.page_tags):
        for tag in tags:
            found[page, tag[0]] = _tag_value(tag, carried)
    return found


def _tag_value(tag: tiff_carried.RawTag, carried: tiff_carried.Carried) -> tuple[int, int, bytes]:
    """Type, count and value in one byte order."""
    _, kind, count, value = tag
    if kind == TEXT:  # text that lacked its final NUL has it now
        return kind, 0, value.rstrip(b"\0")
    size = BYTES_OF_TYPE.get(kind, 1)
    if carried.byteorder == ">" and size > 1:
        value = np.frombuffer(value, f">u{size}").astype(f"<u{size}").tobytes()
    return kind, count, value


def _resolution(carried: tiff_carried.Carried) -> tuple[Any, ...]:
    """Pixels per unit along x and y, and the unit's number; 0 where the file does not say."""
    steps = []
    for numerator, denominator in carried.resolution or ((0, 1), (0, 1)):
        value = numerator / denominator if denominator else 0.0
        steps.append(float(f"{value:.9g}"))
    return (*steps, carried.resolution_unit)


def _described(carried: tiff_carried.Carried) -> dict[str, str]:
    """What descriptions state: the attributes of OME-XML, the lines of ImageJ, else the text."""
    found: dict[str, str] = {}
    for page, text in enumerate((carried.description, *carried.page_descriptions)):
        words = text.decode("utf-8", "replace").strip("\0 ")
        if carried.kind == "ome" and page == 0:
            found.update(_described_by_ome(words))
        elif carried.kind == "imagej" and page == 0:
            found.update(_described_by_imagej(words))
        elif words:
            found[f"page {page + 1}"] = words
    for code, _, _, data in carried.tags:
        if code == DATE_TIME:
            found[str(code)] = data.decode("ascii", "replace").strip("\0")
    return found


def _described_by_ome(xml: str) -> dict[str, str]:
    """Attributes and texts of all elements, those of one name counted; not names of files, which are new."""
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for element in ElementTree.fromstring(xml).iter():
        tag = element.tag.rpartition("}")[2]
        counts[tag] = counts.get(tag, 0) + 1
        for key, value in element.attrib.items():
            if key not in ("UUID", "FileName") and not key.endswith("schemaLocation"):
                found[f"{tag} {counts[tag]} {key}"] = value
        inside = (element.text or "").strip()
        if inside and tag != "UUID":
            found[f"{tag} {counts[tag]}"] = inside
    return found


def _described_by_imagej(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        if line.strip():
            key, _, value = line.partition("=")
            found[key] = value
    return found


def _only_times(described: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in described.items() if any(word in key for word in TIMES)}


# -- DICOM ---------------------------------------------------------------------------------------------------

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


def _check_dicom(a: Image, b: Image) -> list[Check]:
    first, second = a.metadata["dicom"], b.metadata["dicom"]
    before, after = _elements(first), _elements(second)
    kind = str((after.get("ImageType") or [""])[0])
    return [
        check_entries("geometry", _only(before, GEOMETRY), _only(after, GEOMETRY)),
        check_entries("patient and study", _only(before, IDENTITY), _only(after, IDENTITY)),
        check_entries("time stamps", _times_of_dicom(before), _times_of_dicom(after)),
        check_same("rescale", (first.slope, first.intercept), (second.slope, second.intercept)),
        check_same("bits stored", (first.low, first.high), (second.low, second.high)),
        _check_uids(before, after),
        Check("image type", "DERIVED", kind or "none", kind == "DERIVED"),
        check_same("padding pixels", _padded_pixels(first), _padded_pixels(second)),
        check_entries("other elements", _other_elements(before), _other_elements(after)),
    ]


def _elements(carried: Any) -> dict[str, Any]:
    """Values by keyword; group lengths are no content, and no longer written."""
    found = {}
    for element in carried.dataset:
        if element.tag.element:
            found[element.keyword or str(element.tag)] = element.value
    return found


def _only(elements: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: elements[name] for name in names if name in elements}


def _times_of_dicom(elements: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in elements.items() if _is_time(key)}


def _other_elements(elements: dict[str, Any]) -> dict[str, Any]:
    looked_at = (*GEOMETRY, *IDENTITY, *OF_THE_RESULT)
    return {
        key: value for key, value in elements.items() if key not in looked_at and not _is_time(key)
    }


def _is_time(keyword: str) -> bool:
    return keyword.endswith(("Time", "Date", "DateTime"))


def _check_uids(before: dict[str, Any], after: dict[str, Any]) -> Check:
    old = [name for name in NEW if name in before and before[name] == after.get(name)]
    told = f"the same as before: {', '.join(old)}" if old else "new"
    return Check("UIDs of image and series", "new ones", told, not old)


def _padded_pixels(carried: Any) -> int:
    if carried.padding is None:
        return 0
    _, mask = carried.padding
    return int(mask.sum())


# -- volumes -------------------------------------------------------------------------------------------------


def _check_mrc(a: Image, b: Image) -> list[Check]:
    first: mrc.Carried = a.metadata["mrc"]
    second: mrc.Carried = b.metadata["mrc"]
    left_out = (*mrc.OF_THE_PIXELS, "label", "nlabl")
    names = first.header.dtype.names
    header = (
        _header_fields(first.header, names, left_out),
        _header_fields(second.header, names, left_out),
    )
    labels = _labels(first), _labels(second)
    extended = first.extended, second.extended
    still_there = labels[1][: len(labels[0])] == labels[0]
    return [
        check_entries("header", *header),
        Check("labels", f"{len(labels[0])}", f"{len(labels[1])}", still_there),
        Check(
            "extended header",
            f"{len(extended[0])} bytes",
            f"{len(extended[1])} bytes",
            extended[0] == extended[1],
        ),
    ]


def _labels(carried: mrc.Carried) -> list[bytes]:
    used = int(carried.header.nlabl)
    return [bytes(label).rstrip() for label in carried.header.label[:used]]


def _check_nifti(a: Image, b: Image) -> list[Check]:
    first, second = a.metadata["nifti"], b.metadata["nifti"]
    left_out = ("scl_slope", "scl_inter", "cal_max", "cal_min")
    before = _header_fields(first.header, first.header.keys(), left_out)
    after = _header_fields(second.header, second.header.keys(), left_out)
    extensions = _extensions(first), _extensions(second)
    return [
        Check(
            "affine",
            _affine_text(first),
            _affine_text(second),
            _same_affine(first.affine, second.affine),
        ),
        check_same("intensity scale", first.scaling, second.scaling),
        check_entries("header", before, after),
        Check(
            "extensions",
            str(len(extensions[0])),
            str(len(extensions[1])),
            extensions[0] == extensions[1],
        ),
    ]


def _extensions(carried: Any) -> list[tuple[Any, Any]]:
    return [(one.get_code(), one.get_content()) for one in carried.header.extensions]


def _affine_text(carried: Any) -> str:
    return in_words(np.round(carried.affine[:3], 4).tolist())


def _same_affine(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-6, atol=1e-6))


def _header_fields(header: Any, names: Iterable[str], left_out: Collection[str]) -> dict[str, str]:
    """Fields in words: NaN is equal to itself there."""
    return {name: repr(np.asarray(header[name]).tolist()) for name in names if name not in left_out}


def _check_metaimage(a: Image, b: Image) -> list[Check]:
    first: metaimage_header.Header = a.metadata["metaimage"]
    second: metaimage_header.Header = b.metadata["metaimage"]
    types = metaimage_header.TYPES
    return [
        check_same("type in the file", types[first.kind], types[second.kind]),
        check_same("byte order", first.order, second.order),
        check_same("compressed", first.compressed, second.compressed),
        check_entries("header", dict(first.kept), dict(second.kept)),
    ]


def _check_zarr(a: Image, b: Image) -> list[Check]:
    first: zarr_layout.Carried = a.metadata["zarr"]
    second: zarr_layout.Carried = b.metadata["zarr"]
    layouts = _layouts(first), _layouts(second)
    return [
        check_same("Zarr format", first.zarr_format, second.zarr_format),
        check_same("groups beside the image", ", ".join(first.beside), ", ".join(second.beside)),
        check_entries("attributes", _attributes(first), _attributes(second)),
        Check("resolutions", f"{len(layouts[0])}", f"{len(layouts[1])}", layouts[0] == layouts[1]),
    ]


def _attributes(carried: zarr_layout.Carried) -> dict[str, Any]:
    """Those of the folder and of the image in it, without our mark."""
    everything = {**carried.root, **carried.group}
    return {key: value for key, value in everything.items() if key != zarr_layout.OURS}


def _layouts(carried: zarr_layout.Carried) -> list[tuple[Any, ...]]:
    return [(level.shape, level.chunks, level.shards) for level in carried.levels]


# -- pictures and arrays -------------------------------------------------------------------------------------


def _check_chunks(a: Image, b: Image) -> list[Check]:
    """PNG's chunks; of JPEG and BMP, those that density, comment, EXIF and colour profile become."""
    return [check_entries("chunks", _chunks(a), _chunks(b))]


def _chunks(image: Image) -> dict[str, bytes]:
    """Content by name; those of one name are counted, such as several lines of text."""
    found: dict[str, bytes] = {}
    counts: dict[bytes, int] = {}
    for name, content in image.metadata["chunks"]:
        counts[name] = counts.get(name, 0) + 1
        found[f"{name.decode('ascii')} {counts[name]}"] = (
            _profile(content) if name == b"iCCP" else content
        )
    return found


def _profile(content: bytes) -> bytes:
    """A colour profile itself: two programs deflate it to different bytes."""
    _, _, packed = content.partition(b"\0")
    try:
        return zlib.decompress(packed[1:])
    except zlib.error:
        return content


def _check_npy(a: Image, b: Image) -> list[Check]:
    return [check_same("byte order", a.metadata["byteorder"], b.metadata["byteorder"])]


def _check_nothing_more(a: Image, b: Image) -> list[Check]:
    """Of readers that carry no more than pixel size, axes and names, which are compared for all."""
    return []


METADATA: dict[str, Callable[[Image, Image], list[Check]]] = {
    "tiff": _check_tiff,
    "png": _check_chunks,
    "jpeg": _check_chunks,
    "bmp": _check_chunks,
    "npy": _check_npy,
    "dicom": _check_dicom,
    "mrc": _check_mrc,
    "metaimage": _check_metaimage,
    "zarr": _check_zarr,
    "vendor": _check_nothing_more,
    "nifti": _check_nifti,
}
"""By the family of the input; a test asks for a row of every format in ``formats.table.FORMATS``.

Results are of the same family, or of the one that inputs of a family that is only read are written as.
"""
