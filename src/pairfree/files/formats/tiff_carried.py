"""What a TIFF states beside its pixels, kept as stored so that it can be written back unchanged."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import tifffile

from pairfree.files.formats.tiff_meta import Stated
from pairfree.files.image import Stored

# Tags that the writer makes itself, or whose value is a place in the old file (directories of EXIF, GPS,
# sub-images, thumbnails).
_LAYOUT_TAGS = (
    254, 255, 256, 257, 258, 259, 262, 266, 270, 273, 277, 278, 279, 282, 283, 284, 288, 289, 296, 317,
    320, 322, 323, 324, 325, 330,
)  # fmt: skip
_PLACE_TAGS = (
    338, 339, 347, 400, 512, 513, 514, 519, 520, 521, 530, 531, 532, 32997, 32998, 34665, 34853, 40965,
)  # fmt: skip
_METAMORPH_TAGS = (33628, 33629, 33630, 33631)  # tables of planes in another page layout
_NOT_CARRIED = frozenset((*_LAYOUT_TAGS, *_PLACE_TAGS, *_METAMORPH_TAGS))
_DIRECTORY_TYPES = (13, 18)
_MAX_PAGES_WITH_TAGS = 2**17
_OME_IMAGE = re.compile(rb"<(?:\w+:)?Image\b.*?</(?:\w+:)?Image\s*>", re.DOTALL)
RawTag = tuple[int, int, int, bytes]


@dataclass(frozen=True)
class Carried:
    """What writing a TIFF back as it was needs.

    kind              imagej, ome, shaped (tifffile), or plain
    description       ImageDescription of the first page, bytes as stored
    tags              (code, type, count, value as stored in ``byteorder``) of the first page's further tags
    page_tags         the same of each later page, empty where they have none
    resolution        x and y as (numerator, denominator), None without these tags
    planar            samples are stored as separate planes
    levels            height and width of the lower resolutions that each page carries (SubIFDs), or that follow a single one as pages
    levels_apart      they follow as pages
    resolutions       how many the file has, those included that are left out
    in_order          pages lie in the order of the axes, so the description stays true for the output
    stated            spacing, names and bit depth as read: a changed image is described anew
    """

    kind: str
    byteorder: Literal["<", ">"]
    big: bool
    compression: int
    predictor: int
    photometric: int
    planar: bool
    extrasamples: tuple[int, ...]
    tile: tuple[int, int] | None
    colormap: np.ndarray | None
    resolution: tuple[tuple[int, int], tuple[int, int]] | None
    resolution_unit: int
    description: bytes
    tags: tuple[RawTag, ...]
    page_tags: tuple[tuple[RawTag, ...], ...]
    page_descriptions: tuple[bytes, ...]
    in_order: bool
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stated: Stated = field(default_factory=Stated)
    levels: tuple[tuple[int, int], ...] = ()
    resolutions: int = 1
    levels_apart: bool = False


def tag_int(page: tifffile.TiffPage, code: int, default: int) -> int:
    tag = page.tags.get(code)
    try:
        return default if tag is None else int(tag.value)
    except (TypeError, ValueError):
        return default


def rational(page: tifffile.TiffPage, code: int) -> tuple[int, int] | None:
    tag = page.tags.get(code)
    value = None if tag is None else tag.value
    return (int(value[0]), int(value[1])) if isinstance(value, tuple) and len(value) == 2 else None


def present_pages(series: tifffile.TiffPageSeries) -> list[tifffile.TiffPage | tifffile.TiffFrame]:
    """Pages of a series; ``_check_series`` has refused missing ones."""
    return [page for page in series.pages if page is not None]


def _raw_tags(page: tifffile.TiffPage, tiff: tifffile.TiffFile) -> tuple[RawTag, ...]:
    tags = []
    for tag in page.tags:
        known = int(tag.dtype) not in _DIRECTORY_TYPES and tag.code not in _NOT_CARRIED
        if known and 0 < tag.valuebytecount <= tiff.filehandle.size - tag.valueoffset:
            tags.append((int(tag.code), int(tag.dtype), int(tag.count), _raw(tiff, tag)))
    return tuple(tags)


def _raw(tiff: tifffile.TiffFile, tag: tifffile.TiffTag) -> bytes:
    tiff.filehandle.seek(tag.valueoffset)
    return tiff.filehandle.read(tag.valuebytecount)


def _description(page: tifffile.TiffPage, tiff: tifffile.TiffFile) -> bytes:
    tag = page.tags.get(270)
    return b"" if tag is None or int(tag.dtype) not in (1, 2, 7) else _raw(tiff, tag).rstrip(b"\0")


def _of_first_image(xml: bytes) -> bytes:
    """OME-XML without the images after the first: those are not read, and must not be described."""
    images = list(_OME_IMAGE.finditer(xml))
    return xml[: images[0].end()] + xml[images[-1].end() :] if len(images) > 1 else xml


def _later_pages(
    series: tifffile.TiffPageSeries, tiff: tifffile.TiffFile, warnings: list[str]
) -> tuple[tuple[tuple[RawTag, ...], ...], tuple[bytes, ...]]:
    """Tags and descriptions of each page after the first; empty tuples where no page has any."""
    pages = present_pages(series)[1:]
    if len(pages) > _MAX_PAGES_WITH_TAGS:
        warnings.append(f"tags of the {len(pages)} pages after the first are not kept")
        return (), ()
    full = [page.aspage() for page in pages]
    tags = tuple(_raw_tags(page, tiff) for page in full)
    descriptions = tuple(_description(page, tiff) for page in full)
    # Software and date on each page are noise; anything more makes the pages worth describing one by one.
    worth = any(code not in (305, 306, 274) for page in tags for code, *_ in page) or any(
        descriptions
    )
    return (tags, descriptions) if worth else ((), ())


def carry(
    tiff: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    kind: str,
    stated: Stated,
    axes: str,
    pixels: np.ndarray | Stored,
    warnings: list[str],
) -> Carried:
    pages = present_pages(series)
    first, key = pages[0].aspage(), series.keyframe
    levels = _levels(series, first, warnings)
    in_order = [page.index for page in pages] == list(range(len(pages)))
    x, y = rational(first, 282), rational(first, 283)
    page_tags, page_descriptions = _later_pages(series, tiff, warnings)
    colormap = first.tags.get(320)
    compression = int(key.compression)
    return Carried(
        kind=kind,
        byteorder=tiff.byteorder,
        big=tiff.is_bigtiff,
        compression=compression,
        predictor=int(key.predictor),
        photometric=2 if compression == 7 and int(key.photometric) == 6 else int(key.photometric),
        planar=key.shaped[0] > 1,
        extrasamples=tuple(int(e) for e in key.extrasamples),
        tile=(int(key.tilelength), int(key.tilewidth)) if key.is_tiled else None,
        colormap=np.array(colormap.value, np.uint16) if colormap is not None else None,
        resolution=(x, y) if x is not None and y is not None else None,
        resolution_unit=tag_int(first, 296, 2),
        description=_of_first_image(_description(first, tiff))
        if tiff.is_ome
        else _description(first, tiff),
        tags=_raw_tags(first, tiff),
        page_tags=page_tags,
        page_descriptions=page_descriptions,
        in_order=in_order,
        axes=axes,
        shape=pixels.shape,
        dtype=pixels.dtype,
        stated=stated,
        levels=levels,
        resolutions=len(series.levels),
        levels_apart=bool(levels) and len(first.subifds or ()) < len(levels),
    )


def _levels(
    series: tifffile.TiffPageSeries, first: tifffile.TiffPage, warnings: list[str]
) -> tuple[tuple[int, int], ...]:
    """Height and width of the lower resolutions in SubIFDs, or of a single plane, in later pages; others are
    told and left out."""
    lower = series.levels[1:]
    if not lower:
        return ()
    if (not first.subifds or len(first.subifds) < len(lower)) and len(present_pages(series)) > 1:
        warnings.append(f"{len(lower)} lower resolutions beside the image are left out")
        return ()
    return tuple(
        (int(one.shape[one.axes.index("Y")]), int(one.shape[one.axes.index("X")])) for one in lower
    )
