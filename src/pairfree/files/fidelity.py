"""What a result kept of its input and what it lost: file against file, from the files alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats import metaimage, mrc, ome_zarr, tiff
from pairfree.files.formats.table import is_supported, open_image
from pairfree.files.image import Image, spacing_differences, spacing_text
from pairfree.files.limits import DEFAULT
from pairfree.files.listing import find_images, output_path
from pairfree.files.messages import shown
from pairfree.files.scale import Check, intensities, same, words

BECOMES = (("jpeg", "png"), ("bmp", "png"), ("vendor", "tiff"))
"""Formats that are read and not written, and what their results are."""
STREAMED = replace(DEFAULT, resident_bytes=2**27)


def verify(before: str | Path, after: str | Path, any_scale: bool = False) -> dict[str, list[Check]]:
    """Checks of each result by the name of its input: of two files, or of two folders, where results lie as ``pairfree denoise`` puts them.

    any_scale   gains are stated and not judged: of methods that restore brightness and contrast

    A result that is missing is a check of its own. Raises InputError for what does not exist or cannot be read.
    """
    first, second = Path(before), Path(after)
    entries = find_images([first])
    if (
        len(entries) == 1
        and entries[0].path == first
        and second.exists()
        and (second.is_file() or is_supported(second))
    ):
        return {str(entries[0].relative): compare(first, second, any_scale)}
    if not second.is_dir():
        raise InputError(
            f"{shown(second)}: no such {'file' if len(entries) == 1 else 'folder of results'}; name what was written"
        )
    found = {}
    for entry in entries:
        path = output_path(entry, second)
        found[str(entry.relative)] = (
            compare(entry.path, path, any_scale)
            if path.exists()
            else [Check("file", path.name, "missing", False)]
        )
    return found


def compare(first: Path, second: Path, any_scale: bool = False) -> list[Check]:
    """All checks of a result against its input, those that apply to their format. Raises InputError for what cannot be read."""
    a, b = (open_image(path, STREAMED) for path in (first, second))
    found = [
        Check("format", a.family, b.family, a.family == b.family or (a.family, b.family) in BECOMES),
        Check("pixel type", a.dtype.name, b.dtype.name, a.dtype == b.dtype),
        Check("axes", a.axes, b.axes, a.axes == b.axes),
        Check("shape", _shape(a), _shape(b), a.shape == b.shape),
        Check("frames", str(math.prod(a.leading)), str(math.prod(b.leading)), a.leading == b.leading),
        Check("pixel size", spacing_text(a.spacing), spacing_text(b.spacing), not spacing_differences(a, b)),
        same("channel names", ", ".join(a.channel_names), ", ".join(b.channel_names)),
        same("bit depth", a.bit_depth or "not stated", b.bit_depth or "not stated"),
    ]
    if a.family == b.family:
        found += METADATA.get(a.family, lambda a, b: [])(a, b)
    if a.shape == b.shape:
        found += intensities(a, b, any_scale)
    return found


def _shape(image: Image) -> str:
    return " x ".join(map(str, image.shape))


# -- metadata of each format --------------------------------------------------------------------------------------------


def _gone(name: str, before: Mapping[Any, Any], after: Mapping[Any, Any]) -> Check:
    """Entries of a mapping that are missing or changed."""
    lost = [str(key) for key, value in before.items() if key not in after or after[key] != value]
    return Check(
        name,
        f"{len(before)} entries",
        f"lost or changed: {', '.join(lost[:4])}" if lost else f"{len(after)} entries",
        not lost,
    )


def _tiff(a: Image, b: Image) -> list[Check]:
    first, second = (image.metadata["tiff"] for image in (a, b))
    found = [
        same("kind of TIFF", first.kind, second.kind),
        same("byte order", first.byteorder, second.byteorder),
        same("resolutions", first.resolutions, second.resolutions),
        _gone(
            "tags",
            {tag[0]: _tag(tag, first) for tag in first.tags},
            {tag[0]: _tag(tag, second) for tag in second.tags},
        ),
        same("resolution", _resolution(first), _resolution(second)),
    ]
    later = [
        {(page, tag[0]): _tag(tag, one) for page, tags in enumerate(one.page_tags) for tag in tags}
        for one in (first, second)
    ]
    if any(later):
        found.append(_gone("tags of later pages", *later))
    before, after = (_described(one) for one in (first, second))
    found.append(_gone("description", before, after))
    times = [
        {key: value for key, value in one.items() if any(word in str(key) for word in TIMES)}
        for one in (before, after)
    ]
    if times[0]:
        found.append(_gone("time stamps", *times))
    return found


def _resolution(carried: tiff.Carried) -> tuple[Any, ...]:
    """Pixels per unit along x and y, and the unit's number; 0 where the file does not say."""
    values = [a / b if b else 0.0 for a, b in carried.resolution or ((0, 1), (0, 1))]
    return (*(float(f"{value:.9g}") for value in values), carried.resolution_unit)


TIMES = ("DeltaT", "Exposure", "AcquisitionDate", "finterval", "fps", "306", "TimeIncrement")


def _tag(tag: tiff.RawTag, carried: tiff.Carried) -> tuple[int, int, bytes]:
    """Type, count and value in one byte order."""
    _, kind, count, value = tag
    size = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 16: 8, 17: 8}.get(kind, 1)
    if carried.byteorder == ">" and size > 1:
        value = np.frombuffer(value, f">u{size}").astype(f"<u{size}").tobytes()
    return (
        (kind, 0, value.rstrip(b"\0")) if kind == 2 else (kind, count, value)
    )  # text that lacked its final NUL has it now


def _described(carried: tiff.Carried) -> dict[Any, str]:
    """What descriptions state: the attributes of OME-XML, the lines of ImageJ, else the text."""
    found: dict[Any, str] = {}
    for page, text in enumerate((carried.description, *carried.page_descriptions)):
        line = text.decode("utf-8", "replace").strip("\0 ")
        if carried.kind == "ome" and page == 0:
            counts: dict[str, int] = {}
            for element in ElementTree.fromstring(line).iter():
                tag = element.tag.rpartition("}")[2]
                counts[tag] = counts.get(tag, 0) + 1
                for key, value in element.attrib.items():
                    if key not in ("UUID", "FileName") and not key.endswith("schemaLocation"):
                        found[f"{tag} {counts[tag]} {key}"] = value
                if element.text and element.text.strip() and tag != "UUID":
                    found[f"{tag} {counts[tag]}"] = element.text.strip()
        elif carried.kind == "imagej" and page == 0:
            found.update(
                {one.partition("=")[0]: one.partition("=")[2] for one in line.splitlines() if one.strip()}
            )
        elif line:
            found[f"page {page + 1}"] = line
    for code, _, _, data in carried.tags:
        if code == 306:
            found["306"] = data.decode("ascii", "replace").strip("\0")
    return found


GEOMETRY = (
    *(
        "PixelSpacing",
        "ImagerPixelSpacing",
        "SliceThickness",
        "SpacingBetweenSlices",
        "ImagePositionPatient",
        "ImageOrientationPatient",
    ),
    *(
        "SliceLocation",
        "FrameOfReferenceUID",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
    ),
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
OF_THE_RESULT = (
    *(
        "ImageType",
        "DerivationDescription",
        "SourceImageSequence",
        "SeriesDescription",
        "SmallestImagePixelValue",
    ),
    *("LargestImagePixelValue", "PlanarConfiguration", "PixelData", *NEW),
)


def _dicom(a: Image, b: Image) -> list[Check]:
    first, second = (image.metadata["dicom"] for image in (a, b))
    elements = [  # group lengths are no content, and no longer written
        {element.keyword or str(element.tag): element.value for element in one.dataset if element.tag.element}
        for one in (first, second)
    ]
    rest = [
        {
            key: value
            for key, value in one.items()
            if key not in (*GEOMETRY, *IDENTITY, *OF_THE_RESULT) and not _is_time(key)
        }
        for one in elements
    ]
    found = [_gone(name, *({key: one[key] for key in keys if key in one} for one in elements)) for name, keys in
             (("geometry", GEOMETRY), ("patient and study", IDENTITY))]  # fmt: skip
    found.append(
        _gone(
            "time stamps", *({key: value for key, value in one.items() if _is_time(key)} for one in elements)
        )
    )
    found.append(same("rescale", (first.slope, first.intercept), (second.slope, second.intercept)))
    found.append(same("bits stored", (first.low, first.high), (second.low, second.high)))
    kept = [name for name in NEW if name in elements[0] and elements[0][name] == elements[1].get(name)]
    after = f"the same as before: {', '.join(kept)}" if kept else "new"
    found.append(Check("UIDs of image and series", "new ones", after, not kept))
    kind = str((elements[1].get("ImageType") or [""])[0])
    found.append(Check("image type", "DERIVED", kind or "none", kind == "DERIVED"))
    paddings = [0 if one.padding is None else int(one.padding[1].sum()) for one in (first, second)]
    found.append(same("padding pixels", *paddings))
    return [*found, _gone("other elements", *rest)]


def _is_time(keyword: str) -> bool:
    return keyword.endswith(("Time", "Date", "DateTime"))


def _mrc(a: Image, b: Image) -> list[Check]:
    first, second = (image.metadata["mrc"] for image in (a, b))
    of_the_pixels = (*mrc.OF_THE_PIXELS, "label", "nlabl")
    headers = [_header(one.header, one.header.dtype.names, of_the_pixels) for one in (first, second)]
    labels = [
        [bytes(label).rstrip() for label in one.header.label[: int(one.header.nlabl)]]
        for one in (first, second)
    ]
    return [
        _gone("header", *headers),
        Check("labels", f"{len(labels[0])}", f"{len(labels[1])}", labels[1][: len(labels[0])] == labels[0]),
        Check(
            "extended header",
            f"{len(first.extended)} bytes",
            f"{len(second.extended)} bytes",
            first.extended == second.extended,
        ),
    ]


def _nifti(a: Image, b: Image) -> list[Check]:
    first, second = (image.metadata["nifti"] for image in (a, b))
    scales = ("scl_slope", "scl_inter", "cal_max", "cal_min")
    headers = [_header(one.header, one.header.keys(), scales) for one in (first, second)]
    extensions = [
        [(one.get_code(), one.get_content()) for one in carried.header.extensions]
        for carried in (first, second)
    ]
    close = first.affine.shape == second.affine.shape and np.allclose(
        first.affine, second.affine, rtol=1e-6, atol=1e-6
    )
    rows = [words(np.round(carried.affine[:3], 4).tolist()) for carried in (first, second)]
    return [
        Check("affine", rows[0], rows[1], bool(close)),
        same("intensity scale", first.scaling, second.scaling),
        _gone("header", *headers),
        Check("extensions", str(len(extensions[0])), str(len(extensions[1])), extensions[0] == extensions[1]),
    ]


def _header(header: Any, names: Iterable[str], but: Collection[str]) -> dict[str, str]:
    """Fields in words: NaN is equal to itself there."""
    return {name: repr(np.asarray(header[name]).tolist()) for name in names if name not in but}


def _metaimage(a: Image, b: Image) -> list[Check]:
    first, second = (image.metadata["metaimage"] for image in (a, b))
    return [
        same("type in the file", *(metaimage.TYPES[one.kind] for one in (first, second))),
        same("byte order", first.order, second.order),
        same("compressed", first.compressed, second.compressed),
        _gone("header", dict(first.kept), dict(second.kept)),
    ]


def _zarr(a: Image, b: Image) -> list[Check]:
    first, second = (image.metadata["zarr"] for image in (a, b))
    attributes = [
        {key: value for key, value in {**one.root, **one.group}.items() if key != ome_zarr.OURS}
        for one in (first, second)
    ]
    layouts = [[(level.shape, level.chunks, level.shards) for level in one.levels] for one in (first, second)]
    return [
        same("Zarr format", first.zarr_format, second.zarr_format),
        same("groups beside the image", ", ".join(first.beside), ", ".join(second.beside)),
        _gone("attributes", *attributes),
        Check("resolutions", f"{len(layouts[0])}", f"{len(layouts[1])}", layouts[0] == layouts[1]),
    ]


def _png(a: Image, b: Image) -> list[Check]:
    chunks = [dict(image.metadata.get("chunks", [])) for image in (a, b)]
    return [_gone("chunks", *chunks)]


def _npy(a: Image, b: Image) -> list[Check]:
    return [same("byte order", a.metadata.get("byteorder"), b.metadata.get("byteorder"))]


METADATA: dict[str, Callable[[Image, Image], list[Check]]] = {
    "tiff": _tiff, "dicom": _dicom, "mrc": _mrc, "nifti": _nifti, "zarr": _zarr, "metaimage": _metaimage, "png": _png, "npy": _npy,
}  # fmt: skip
