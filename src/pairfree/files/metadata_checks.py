"""What ``verify`` compares beside pixels, axes and pixel size: a row for each format, in a literal table."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np

from pairfree.files.checks import Check, check_entries, check_items, check_same, in_words
from pairfree.files.dicom_checks import check_dicom
from pairfree.files.formats import metaimage_header, mgh, mrc_header, nifti, zarr_layout
from pairfree.files.formats.zarr_beside import digest_beside
from pairfree.files.formats.zarr_images import OME_XML
from pairfree.files.image import Image
from pairfree.files.tiff_checks import check_tiff


def _check_mrc(a: Image, b: Image) -> list[Check]:
    first: mrc_header.Carried = a.metadata["mrc"]
    second: mrc_header.Carried = b.metadata["mrc"]
    names = first.header.dtype.names
    left_out = (*mrc_header.OF_THE_PIXELS, "label", "nlabl")
    before = _header_fields(first.header, names, left_out)
    after = _header_fields(second.header, names, left_out)
    return [
        check_entries("header", before, after),
        _check_labels(_labels(first), _labels(second)),
        _check_bytes("extended header", first.extended, second.extended),
        check_same("values of 4 bits", first.four_bits, second.four_bits),
    ]


def _check_labels(before: list[bytes], after: list[bytes]) -> Check:
    """Those that there were come first still."""
    had, has = len(before), len(after)
    return Check("labels", str(had), str(has), after[:had] == before)


def _labels(carried: mrc_header.Carried) -> list[bytes]:
    used = int(carried.header.nlabl)
    labels = carried.header.label[:used]
    return [bytes(label).rstrip() for label in labels]


def _check_nifti(a: Image, b: Image) -> list[Check]:
    first: nifti.Carried = a.metadata["nifti"]
    second: nifti.Carried = b.metadata["nifti"]
    left_out = ("scl_slope", "scl_inter", "cal_max", "cal_min")
    before = _header_fields(first.header, first.header.keys(), left_out)
    after = _header_fields(second.header, second.header.keys(), left_out)
    same_affine = _are_close(first.affine, second.affine)
    return [
        Check("affine", _affine_text(first), _affine_text(second), same_affine),
        check_same("intensity scale", first.scaling, second.scaling),
        check_entries("header", before, after),
        check_items("extensions", _extensions(first), _extensions(second)),
        _check_bytes("header file", first.raw, second.raw),
    ]


def _extensions(carried: nifti.Carried) -> list[Any]:
    found = []
    for one in getattr(carried.header, "extensions", []):  # Analyze has none
        code, content = one.get_code(), one.get_content()
        found.append((code, content))
    return found


def _affine_text(carried: nifti.Carried) -> str:
    rounded = np.round(carried.affine[:3], 4)
    return in_words(rounded.tolist())


def _are_close(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return False
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-6))


def _header_fields(header: Any, names: Iterable[str], left_out: Collection[str]) -> dict[str, str]:
    """Fields in words: NaN is equal to itself there."""
    found = {}
    for name in names:
        if name in left_out:
            continue
        value = np.asarray(header[name])
        found[name] = repr(value.tolist())
    return found


def _check_mgh(a: Image, b: Image) -> list[Check]:
    first: mgh.Carried = a.metadata["mgh"]
    second: mgh.Carried = b.metadata["mgh"]
    return [
        _check_bytes("header", first.header, second.header),
        _check_bytes("scan parameters and tags", first.tail, second.tail),
    ]


def _check_bytes(name: str, before: bytes, after: bytes) -> Check:
    """Bytes that are kept as they are, of which words tell the number."""
    return Check(name, f"{len(before)} bytes", f"{len(after)} bytes", before == after)


def _check_metaimage(a: Image, b: Image) -> list[Check]:
    first: metaimage_header.Header = a.metadata["metaimage"]
    second: metaimage_header.Header = b.metadata["metaimage"]
    before, after = dict(first.kept), dict(second.kept)
    types = metaimage_header.TYPES
    return [
        check_same("type in the file", types[first.kind], types[second.kind]),
        check_same("byte order", first.order, second.order),
        check_same("compressed", first.compressed, second.compressed),
        check_entries("header", before, after),
    ]


def _check_zarr(a: Image, b: Image) -> list[Check]:
    first: zarr_layout.Carried = a.metadata["zarr"]
    second: zarr_layout.Carried = b.metadata["zarr"]
    of_collection = []
    if first.ome_xml:
        of_collection.append(_check_bytes("OME-XML", first.ome_xml, _ome_xml(second)))
    return [
        *of_collection,
        check_same("Zarr format", first.zarr_format, second.zarr_format),
        check_entries("beside the image", _beside(first, first), _beside(second, first)),
        check_entries("attributes", _attributes(first), _attributes(second)),
        check_items("resolutions", _layouts(first), _layouts(second)),
        check_entries("chunks and codecs", _encodings(first, second), _encodings(second, first)),
        check_items("consolidated metadata", first.consolidated, second.consolidated),
    ]


def _ome_xml(carried: zarr_layout.Carried) -> bytes:
    """That which lies in the image's folder; empty where there is none."""
    files = carried.files
    if files is None or files.size(OME_XML) is None:
        return b""
    return files.read(OME_XML)


def _beside(carried: zarr_layout.Carried, wanted: zarr_layout.Carried) -> dict[str, int]:
    """Checksums of those files that ``wanted`` has beside its image."""
    if carried.files is None:
        return {}
    there = [name for name in wanted.beside if name in carried.beside]
    return digest_beside(carried.files, there)


def _attributes(carried: zarr_layout.Carried) -> dict[str, Any]:
    """Those of all groups and arrays, without our mark."""
    found = {}
    everything = dict(carried.groups)
    for level in carried.levels:
        everything[f"{carried.place}/{level.path}"] = level.attributes
    for name, attributes in everything.items():
        for key, value in attributes.items():
            if key != zarr_layout.OURS:
                found[f"{name}:{key}".removeprefix(":")] = value
    return found


def _layouts(carried: zarr_layout.Carried) -> list[Any]:
    found = []
    for level in carried.levels:
        layout = (level.shape, level.chunks, level.shards)
        found.append(layout)
    return found


def _encodings(carried: zarr_layout.Carried, other: zarr_layout.Carried) -> dict[str, str]:
    """How each array that both have is stored, without the codec that pairfree adds."""
    names = {level.path for level in other.levels}
    found = {}
    for level in carried.levels:
        if level.path in names:
            for key, value in zarr_layout.without_checksum(level.metadata).items():
                found[f"{level.path} {key}"] = repr(value)
    return found


def _check_chunks(a: Image, b: Image) -> list[Check]:
    """PNG's chunks; of JPEG and BMP, those that density, comment, EXIF and colour profile become."""
    return [check_entries("chunks", _chunks(a), _chunks(b))]


def _chunks(image: Image) -> dict[str, bytes]:
    """Content by name; those of one name are counted, such as several lines of text."""
    found: dict[str, bytes] = {}
    counts: dict[bytes, int] = {}
    for name, content in image.metadata["chunks"]:
        counts[name] = counts.get(name, 0) + 1
        if name == b"iCCP":
            content = _profile(content)
        found[f"{name.decode('ascii')} {counts[name]}"] = content
    return found


def _profile(content: bytes) -> bytes:
    """A colour profile itself: two programs deflate it to different bytes."""
    _, _, packed = content.partition(b"\0")
    try:
        return zlib.decompress(packed[1:])
    except zlib.error:
        return content


def _check_npy(a: Image, b: Image) -> list[Check]:
    orders = [
        "first axis fastest" if one.metadata["fortran"] else "last axis fastest" for one in (a, b)
    ]
    return [
        check_same("byte order", a.metadata["byteorder"], b.metadata["byteorder"]),
        check_same("order of axes", *orders),
    ]


def _check_nothing_more(a: Image, b: Image) -> list[Check]:
    """Of readers that carry no more than pixel size, axes and names, which are compared for all."""
    return []


Compare = Callable[[Image, Image], list[Check]]
METADATA: dict[str, Compare] = {
    "tiff": check_tiff,
    "png": _check_chunks,
    "jpeg": _check_chunks,
    "bmp": _check_chunks,
    "npy": _check_npy,
    "dicom": check_dicom,
    "mrc": _check_mrc,
    "metaimage": _check_metaimage,
    "zarr": _check_zarr,
    "ozx": _check_zarr,
    "vendor": _check_nothing_more,
    "electron": _check_nothing_more,
    "makers_tiff": _check_nothing_more,
    "nifti": _check_nifti,
    "mgh": _check_mgh,
}
"""By the family of the input; a test asks for a row of every format in ``formats.table.FORMATS``.

Results are of the same family, or of the one that inputs of a family that is only read are written as.
"""
