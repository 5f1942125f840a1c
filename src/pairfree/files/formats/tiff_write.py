"""Writing of TIFF: a file that was read is written back tag for tag.

An image that changed, or was never a file, is described anew.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

from pairfree.errors import OutputError
from pairfree.files.formats.pyramid import Reduced
from pairfree.files.formats.tiff_anew import COARSEST_UM, in_um, ome_metadata
from pairfree.files.formats.tiff_carried import (
    EXTRA_SAMPLES,
    RESOLUTION_TAGS,
    Carried,
    RawTag,
)
from pairfree.files.formats.tiff_codecs import can_pack
from pairfree.files.formats.tiff_directories import COLOURS_TAG, DESCRIPTION_TAG
from pairfree.files.formats.tiff_order import can_reorder, reorder_planes
from pairfree.files.formats.tiff_tags import Edit, edit_tags
from pairfree.files.image import Image, Index
from pairfree.files.messages import shown
from pairfree.files.spans import split_into_spans
from pairfree.files.wide_integers import type_in_file

NO_UNIT = 1
_COMPRESSIONS = {
    1: None,
    5: "lzw",
    8: "zlib",
    32946: "zlib",
    32773: "packbits",
    50000: "zstd",
    34925: "lzma",
}
_NEEDS_IMAGECODECS = (5, 32773, 50000, 34925)
_OME_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
_WITH_PREDICTOR = ("lzw", "zlib", "zstd")
# Above this, offsets may not fit 32 bits; the margin leaves room for tags.
_BIG_FROM_BYTES = 2**32 - 2**25
_MOST_PLANES = 2**17
STREAMED_PLANE_BYTES = 2**28
"""Planes of more bytes that stay in a file are written in tiles."""
STREAMED_TILE = (512, 512)
"""Height and width of those tiles, in pixels."""
NATIVE: Literal["<", ">"] = "<" if sys.byteorder == "little" else ">"
KNOWN_EXTRAS = tuple(int(kind) for kind in tifffile.EXTRASAMPLE)
"""Values of ExtraSamples that have a meaning."""
COLOURS = {2: 3, 5: 4, 8: 3}
"""Samples that are no extra ones, by PhotometricInterpretation: RGB, CMYK and CIELab; 1 for others."""


def write_tiff(image: Image, path: Path) -> None:
    """Write ``image`` to ``path`` with what its file stated.

    Parameters
    ----------
    image
        Of any origin.
    path
        Is made.

    Raises
    ------
    OutputError
        For what TIFF cannot hold.
    """
    carried = image.metadata.get("tiff")
    if not isinstance(carried, Carried):
        _write_anew(image, path, None)
    elif _still_true(image, carried):
        _write_back(image, path, carried)
    else:
        _write_anew(image, path, carried)


def check_planes(image: Image, path: Path) -> None:
    """OutputError for more planes than one TIFF holds."""
    planes = math.prod(image.leading)
    if planes > _MOST_PLANES:
        raise OutputError(
            f"{shown(path)}: {planes} planes are too many for one TIFF; split the stack"
        )


def _still_true(image: Image, carried: Carried) -> bool:
    """Whether the carried description still describes ``image``."""
    before = (carried.axes, carried.shape, carried.dtype)
    same_pixels = before == (image.axes, image.shape, image.dtype)
    stated = carried.stated
    meant = (stated.spacing, stated.channel_names, stated.bit_depth)
    same_meaning = meant == (image.spacing, image.channel_names, image.bit_depth)
    ordered = carried.in_order or can_reorder(carried.kind, carried.axes, carried.images)
    return ordered and same_pixels and same_meaning


def _big(image: Image, carried: Carried | None) -> bool:
    """Whether offsets of 64 bits are needed, or the file had them."""
    if carried is None:
        return image.nbytes > _BIG_FROM_BYTES
    of_levels = sum(height * width for height, width in carried.levels)
    share = of_levels / (image.height * image.width)
    return carried.big or image.nbytes * (1 + share) > _BIG_FROM_BYTES


def _has_imagecodecs() -> bool:
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        return False
    return True


def _layout(image: Image, carried: Carried) -> dict[str, Any]:
    """Arguments of TiffWriter.write for the layout that the file had."""
    compression = _COMPRESSIONS.get(carried.compression, "zlib")
    if carried.compression in _NEEDS_IMAGECODECS and not _has_imagecodecs():
        compression = "zlib"
    packs = carried.packed and can_pack()
    if packs:  # tifffile packs or compresses
        compression = None
    layout: dict[str, Any] = {
        "photometric": carried.photometric,
        "compression": compression,
        "predictor": _predictor(image, carried, compression),
        "tile": _tile(carried),
        "software": False,
        "metadata": None,
        "resolutionunit": carried.resolution_unit if _knows_unit(carried) else NO_UNIT,
    }
    if image.samples > 1 or carried.slices:
        layout["planarconfig"] = "separate" if carried.planar else "contig"
        layout["extrasamples"] = _extra_samples(carried.slices or image.samples, carried)
    if packs:
        layout["bitspersample"] = carried.bits
    if carried.resolution is not None:
        layout["resolution"] = carried.resolution
    if carried.photometric == 3:
        layout["colormap"] = carried.colormap
    return layout


def _knows_unit(carried: Carried) -> bool:
    """Whether tifffile writes the unit of the resolution."""
    return carried.resolution_unit in set(tifffile.RESUNIT)


def _extra_samples(samples: int, carried: Carried) -> tuple[int, ...]:
    """Kinds of the samples beyond grey or colours, as many as tifffile asks for.

    It takes the known ones alone; the tag is put back as it was.
    """
    extra = samples - COLOURS.get(carried.photometric, 1)
    kinds = carried.extrasamples[:extra] if extra > 0 else ()
    kinds = tuple(kind if kind in KNOWN_EXTRAS else 0 for kind in kinds)
    return (*kinds, *[0] * (extra - len(kinds)))


def _predictor(image: Image, carried: Carried, compression: str | None) -> int | None:
    """2 for differences of integers, 3 for those of floats, where the file had either."""
    if compression not in _WITH_PREDICTOR or carried.predictor not in (2, 3):
        return None
    return 3 if image.dtype.kind == "f" else 2


def _tile(carried: Carried) -> tuple[int, int] | None:
    """The tiles of the file, where they have sides that TIFF allows."""
    if carried.tile is None:
        return None
    height, width = carried.tile
    if height % 16 or width % 16:
        return None
    return carried.tile


def _tags_to_add(tags: tuple[RawTag, ...], carried: Carried, description: bytes) -> Edit:
    """Tags of a page as the file had them; those of a resolution go where it had none."""
    added = list(tags)
    dropped = _absent_tags(carried)
    if carried.extra_tag is None:
        dropped |= {EXTRA_SAMPLES}
    else:
        added.append(carried.extra_tag)
    if carried.resolution_unit and not _knows_unit(carried):
        in_file = np.dtype(np.uint16).newbyteorder(carried.byteorder)
        unit = np.array(carried.resolution_unit, in_file).tobytes()
        added.append((RESOLUTION_TAGS[2], 3, 1, unit))
    if description:
        stored = description + b"\0"
        added.insert(0, (DESCRIPTION_TAG, 2, len(stored), stored))
    # ImageJ keeps its lookup table beside grey pixels.
    if carried.colormap is not None and carried.photometric != 3:
        in_file = np.dtype(np.uint16).newbyteorder(carried.byteorder)
        values = carried.colormap.astype(in_file).tobytes()
        added.append((COLOURS_TAG, 3, carried.colormap.size, values))
    return Edit(dropped, tuple(added))


def _absent_tags(carried: Carried | None) -> frozenset[int]:
    """Of the resolution, which tifffile writes always, those that a file did not have."""
    if carried is None or carried.resolution is None:
        return frozenset(RESOLUTION_TAGS)
    return frozenset() if carried.resolution_unit else frozenset(RESOLUTION_TAGS[2:])


def _write_back(image: Image, path: Path, carried: Carried) -> None:
    big = _big(image, carried)
    with tifffile.TiffWriter(path, bigtiff=big, byteorder=carried.byteorder, ome=False) as writer:
        if carried.page_tags and not _lies_in_a_row(carried):
            _write_pages(writer, image, carried)
        else:
            _write_series(writer, image, carried)
    description = carried.description
    if not carried.in_order:
        description = reorder_planes(description, image)
    first = _tags_to_add(carried.tags, carried, description)
    pairs = zip(carried.page_tags, carried.page_descriptions, strict=True)
    edit_tags(path, first, [_tags_to_add(tags, carried, text) for tags, text in pairs])


def _lies_in_a_row(carried: Carried) -> bool:
    """Whether readers take the pixels of all pages from where those of the first begin."""
    return carried.kind in {"imagej", "shaped"} and not carried.levels


def _write_series(writer: tifffile.TiffWriter, image: Image, carried: Carried) -> None:
    """All planes at once: only the first page says more than its layout."""
    layout = _layout(image, carried)
    planes = list(image.planes())
    content = _content(image, planes, carried, layout)
    below = 0 if carried.levels_apart else len(carried.levels)
    writer.write(**content, subifds=below)
    _write_levels(writer, image, planes, carried, layout)


def _write_pages(writer: tifffile.TiffWriter, image: Image, carried: Carried) -> None:
    """Page after page, each with tags of its own."""
    layout = _layout(image, carried)
    below = len(carried.levels)
    planes = list(image.planes())
    of_page = carried.planes_of_page
    for first in range(0, len(planes), of_page):
        page = planes[first : first + of_page]
        content = _content(image, page, carried, layout)
        writer.write(**content, subifds=below, contiguous=False)
        _write_levels(writer, image, page, carried, layout)


def _write_levels(
    writer: tifffile.TiffWriter,
    image: Image,
    planes: Sequence[Index],
    carried: Carried,
    layout: dict[str, Any],
) -> None:
    """The lower resolutions of the pages just written, made anew from them."""
    plain = dict(layout)
    for name in ("resolution", "resolutionunit", "colormap"):
        plain.pop(name, None)
    for height, width in carried.levels:
        smaller = replace(image, data=Reduced(image, height, width))
        content = _content(smaller, planes, carried, plain)
        writer.write(**content, subfiletype=1, contiguous=False)


def _content(
    image: Image, planes: Sequence[Index], carried: Carried | None, layout: dict[str, Any]
) -> dict[str, Any]:
    """``layout`` with the pixels of some planes.

    They are an array; of what stays in its file a stream of pages, or of tiles where pages are
    large.
    """
    planar = carried is not None and carried.planar
    page = _page_shape(image, carried)
    if not image.stored:
        stack = _stack(image, planes, planar).reshape(-1, *page)
        if len(stack) == 1:
            stack = stack[0]
        return {"data": stack.byteswap() if _swapped(image, carried) else stack, **layout}
    tile = layout.get("tile")
    if not tile and math.prod(page) * image.dtype.itemsize > STREAMED_PLANE_BYTES:
        tile = STREAMED_TILE
    of_page = 1 if carried is None else carried.planes_of_page
    parts = _pages(image, planes, planar, of_page)
    if tile:
        parts = _tiles(image, planes, planar, tile)
    if _swapped(image, carried):
        parts = (part.byteswap() for part in parts)
    return {
        **layout,
        "data": parts,
        "shape": (len(planes) // of_page, *page),
        "dtype": type_in_file(image),
        "tile": tile or None,
    }


def _page_shape(image: Image, carried: Carried | None) -> tuple[int, ...]:
    """Of a page in the file: samples first where they are stored apart."""
    page: tuple[int, ...] = (image.height, image.width)
    if carried is not None and carried.slices:
        return (carried.slices, *page)
    if carried is not None and carried.planar:
        return (image.samples, *page)
    return (*page, image.samples) if image.samples > 1 else page


def _swapped(image: Image, carried: Carried | None) -> bool:
    """Whether tifffile would pack the bytes of values in the wrong order: it packs them as they lie."""
    if carried is None or not carried.packed or not can_pack():
        return False
    return carried.byteorder != NATIVE and image.dtype.itemsize > 1


def _stack(image: Image, planes: Sequence[Index], planar: bool) -> np.ndarray:
    """Some planes of an image in memory, one after the other; samples first where ``planar``."""
    pixels = image.pixels
    if len(planes) < math.prod(image.leading):
        pixels = np.stack([image.plane(index) for index in planes])
    if planar and image.samples > 1:
        pixels = np.moveaxis(pixels, -1, -3)
    return np.ascontiguousarray(pixels, type_in_file(image))


def _pages(
    image: Image, planes: Sequence[Index], planar: bool, of_page: int
) -> Iterator[np.ndarray]:
    """Pages, each of one plane or of several."""
    for first in range(0, len(planes), of_page):
        some = [image.plane(index) for index in planes[first : first + of_page]]
        page = some[0] if of_page == 1 else np.stack(some)
        if planar and image.samples > 1:
            page = np.moveaxis(page, -1, 0)
        yield np.ascontiguousarray(page, type_in_file(image))


def _tiles(
    image: Image, planes: Sequence[Index], planar: bool, tile: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Tiles in the order of the file, full ones: what lies beyond the image is zero."""
    apart = planar and image.samples > 1
    samples = range(image.samples if apart else 1)
    all_rows = split_into_spans(image.height, tile[0])
    all_columns = split_into_spans(image.width, tile[1])
    for index, sample in itertools.product(planes, samples):
        for rows, columns in itertools.product(all_rows, all_columns):
            block = image.region(index, rows, columns)
            if apart:
                block = block[..., sample]
            high, wide, *samples_of_block = block.shape
            full = np.zeros((*tile, *samples_of_block), type_in_file(image))
            full[:high, :wide] = block
            yield full


def _write_anew(image: Image, path: Path, carried: Carried | None) -> None:
    """OME-TIFF where there is anything to describe, else a plain TIFF."""
    check_planes(image, path)
    described = bool(image.spacing or image.channel_names or image.leading)
    # OME-XML has room for one axis beside T, Z and C.
    as_ome = described and type_in_file(image).name in _OME_DTYPES and image.axes.count("Q") < 2
    metadata: dict[str, Any] | None = None
    if as_ome:
        metadata = ome_metadata(image)
    elif described:
        metadata = {"axes": image.axes}
    arguments = _layout_anew(image, carried)
    if image.stored:
        content = _content(image, list(image.planes()), None, arguments)
        content["shape"] = image.shape
    else:
        content = {"data": image.pixels.astype(type_in_file(image), copy=False), **arguments}
    big = _big(image, carried)
    byteorder = NATIVE if carried is None else carried.byteorder
    with tifffile.TiffWriter(path, bigtiff=big, byteorder=byteorder, ome=as_ome) as writer:
        writer.write(**content, metadata=metadata)
    if "resolution" not in arguments:
        edit_tags(path, Edit(_absent_tags(None)))


def _layout_anew(image: Image, carried: Carried | None) -> dict[str, Any]:
    """Arguments of TiffWriter.write for an image that is described anew; its compression stays."""
    samples = image.samples
    photometric = "rgb" if samples in (3, 4) else "minisblack"
    arguments: dict[str, Any] = {"photometric": photometric}
    if samples > 1:
        arguments["planarconfig"] = "contig"
    if samples in (2, 4):
        arguments["extrasamples"] = ("unassalpha",)
    elif samples > 4:
        arguments["extrasamples"] = ("unspecified",) * (samples - 1)
    if carried is not None:
        compression = None
        if _has_imagecodecs():
            compression = _COMPRESSIONS.get(carried.compression, "zlib")
        arguments["compression"] = compression
    pixel_um = in_um(image)
    if pixel_um is not None and max(pixel_um) < COARSEST_UM:
        per_cm = (1e4 / pixel_um[0], 1e4 / pixel_um[1])
        if max(per_cm) < 2**32:
            arguments["resolution"] = per_cm
            arguments["resolutionunit"] = "CENTIMETER"
    return arguments
