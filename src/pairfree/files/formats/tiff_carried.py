"""What a TIFF states beside its pixels, kept as stored so that it can be written back unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import tifffile

from pairfree.files.formats.tiff_directories import Kind
from pairfree.files.formats.tiff_meta import Stated
from pairfree.files.formats.tiff_order import cut_to_images, pages_in_order, present_pages
from pairfree.files.formats.tiff_series import Scene
from pairfree.files.image import Stored

# Tags that the writer makes itself, or whose value is a place in the old file (directories of EXIF,
# GPS, sub-images, thumbnails).
_LAYOUT_TAGS = (
    *(256, 257, 258, 259, 262, 266, 270, 273, 277, 278, 279, 282, 283, 284, 288, 289),
    *(296, 317, 320, 322, 323, 324, 325, 330),
)
_PLACE_TAGS = (
    *(338, 339, 347, 400, 512, 513, 514, 519, 520, 521, 530, 531, 532),
    *(32997, 32998, 34665, 34853, 40965),
)
_METAMORPH_TAGS = (33628, 33629, 33630, 33631)  # tables of planes in another page layout
_NOT_CARRIED = frozenset((*_LAYOUT_TAGS, *_PLACE_TAGS, *_METAMORPH_TAGS))
# Orientation, software and date on each page are noise; anything more makes the pages worth
# describing one by one.
_ON_EVERY_PAGE = {274, 305, 306}
_DIRECTORY_TYPES = (13, 18)
_MAX_PAGES_WITH_TAGS = 2**17
BYTES_OF_VALUE = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11), 4),
    **dict.fromkeys((5, 10, 12, 16, 17), 8),
}
"""By the types of values of TIFF and BigTIFF, but for places of directories."""
_FULL_IMAGE = {254: 0, 255: 1}
"""Codes of NewSubfileType and SubfileType, and what they say of an image that is nothing more."""
RESOLUTION_TAGS = (282, 283, 296)
"""Of pixels along x, along y, and their unit."""
MOST_DESCRIPTIONS = 16
"""Of a page, so many are kept."""
EXTRA_SAMPLES = 338
"""Code of the tag that says what samples beyond grey or colours are."""
RawTag = tuple[int, int, int, bytes]
"""Code, type, count, and the value as the file stores it."""


@dataclass(frozen=True)
class Carried:
    """What writing a TIFF back as it was needs."""

    kind: str
    """imagej, ome, shaped (tifffile), or plain."""
    byteorder: Literal["<", ">"]
    big: bool
    """Offsets have 64 bits."""
    compression: int
    predictor: int
    photometric: int
    planar: bool
    """Samples are stored as separate planes."""
    slices: int
    """Samples of a page, where each is a plane of the image; else 0."""
    extrasamples: tuple[int, ...]
    tile: tuple[int, int] | None
    """Height and width, None for strips."""
    colormap: np.ndarray | None
    resolution: tuple[tuple[int, int], tuple[int, int]] | None
    """x and y as (numerator, denominator), None without these tags."""
    resolution_unit: int
    """Number of the unit, 0 without a tag."""
    description: bytes
    """ImageDescription of the first page, as stored."""
    tags: tuple[RawTag, ...]
    """The first page's further tags, values in ``byteorder``."""
    page_tags: tuple[tuple[RawTag, ...], ...]
    """The same of each later page, empty where they have none."""
    page_descriptions: tuple[bytes, ...]
    in_order: bool
    """Pages lie in the order of the axes, so the description stays true for the output."""
    images: int
    """Images that OME-XML describes the pages as; 1 for all other kinds."""
    bits: int
    """Of a stored value."""
    packed: bool
    """Stored values are no whole bytes."""
    extra_tag: RawTag | None
    """ExtraSamples as stored; None where the file has none, whatever its samples."""
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stated: Stated = field(default_factory=Stated)
    """Spacing, names and bit depth as read: a changed image is described anew."""
    levels: tuple[tuple[int, int], ...] = ()
    """Height and width of the lower resolutions that each page carries (SubIFDs), or that follow a
    single one as pages.
    """
    resolutions: int = 1
    """How many the file has, those included that are left out."""
    levels_apart: bool = False
    """The lower resolutions follow as pages."""

    @property
    def planes_of_page(self) -> int:
        """Planes of the image that a page holds."""
        return self.slices or 1


def tag_int(page: tifffile.TiffPage, code: int, default: int) -> int:
    """A tag's value as a whole number; ``default`` where it is none."""
    tag = page.tags.get(code)
    if tag is None:
        return default
    try:
        return int(tag.value)
    except (TypeError, ValueError):
        return default


def rational(page: tifffile.TiffPage, code: int) -> tuple[int, int] | None:
    """Numerator and denominator of a tag, None where it has none."""
    tag = page.tags.get(code)
    value = None if tag is None else tag.value
    if not isinstance(value, tuple) or len(value) != 2:
        return None
    numerator, denominator = value
    return int(numerator), int(denominator)


def _raw_tags(
    page: tifffile.TiffPage, tiff: tifffile.TiffFile, also: tuple[int, ...] = ()
) -> tuple[RawTag, ...]:
    found: list[RawTag] = []
    for tag in page.tags:
        kind = int(tag.dtype)
        if tag.code not in also and (kind in _DIRECTORY_TYPES or tag.code in _NOT_CARRIED):
            continue
        if tag.code in _FULL_IMAGE and tag.value == _FULL_IMAGE[tag.code]:
            continue
        to_the_end = tiff.filehandle.size - tag.valueoffset
        if 0 < tag.valuebytecount <= to_the_end:
            value = _raw(tiff, tag)
            found.append((int(tag.code), kind, int(tag.count), value))
    found += _further_descriptions(page, tiff)
    if not tiff.is_ndpi:
        unread = _NOT_CARRIED | {tag.code for tag in page.tags} | _FULL_IMAGE.keys()
        found += [tag for tag in _small_tags(page, tiff) if tag[0] not in unread]
    return tuple(found)


def _small_tags(page: tifffile.TiffPage, tiff: tifffile.TiffFile) -> list[RawTag]:
    """Those whose values stand in the directory: tifffile leaves out some that it expects elsewhere."""
    kind = Kind(tiff.byteorder, tiff.is_bigtiff)
    tiff.filehandle.seek(page.offset)
    (count,) = kind.count.unpack(tiff.filehandle.read(kind.count.size))
    entries = tiff.filehandle.read(count * kind.entry.size)
    found: list[RawTag] = []
    for code, of_type, values, inside in kind.entry.iter_unpack(entries):
        size = values * BYTES_OF_VALUE.get(of_type, 0)
        if 0 < size <= kind.offset.size:
            found.append((code, of_type, values, kind.offset.pack(inside)[:size]))
    return found


def _further_descriptions(page: tifffile.TiffPage, tiff: tifffile.TiffFile) -> list[RawTag]:
    """Some programs describe a page twice, in OME-XML and in a JSON of the shape."""
    found: list[RawTag] = []
    for number in range(1, MOST_DESCRIPTIONS):
        tag = page.tags.get(270, index=number)
        if tag is None or tag.valuebytecount > tiff.filehandle.size - tag.valueoffset:
            break
        found.append((270, int(tag.dtype), int(tag.count), _raw(tiff, tag)))
    return found


def _raw(tiff: tifffile.TiffFile, tag: tifffile.TiffTag) -> bytes:
    """The value, which tifffile looks for elsewhere where it stands in the directory in some tags."""
    room = tiff.tiff.tagoffsetthreshold
    is_small = tag.valuebytecount <= room
    place = tag.offset + tiff.tiff.tagsize - room if is_small else tag.valueoffset
    tiff.filehandle.seek(place)
    return tiff.filehandle.read(tag.valuebytecount)


def _description(page: tifffile.TiffPage, tiff: tifffile.TiffFile) -> bytes:
    tag = page.tags.get(270)
    if tag is None or int(tag.dtype) not in (1, 2, 7):
        return b""
    return _raw(tiff, tag).rstrip(b"\0")


def _later_pages(
    series: tifffile.TiffPageSeries, tiff: tifffile.TiffFile, warnings: list[str]
) -> tuple[tuple[tuple[RawTag, ...], ...], tuple[bytes, ...]]:
    """Tags and descriptions of each page after the first; empty tuples where no page has any."""
    first, *later = present_pages(series)
    of_first = _raw_resolution(first.aspage(), tiff)
    if len(later) > _MAX_PAGES_WITH_TAGS:
        warnings.append(f"tags of the {len(later)} pages after the first are not kept")
        return (), ()
    tags = []
    descriptions = []
    codes: set[int] = set()
    for page in later:
        full = page.aspage()
        apart = _differing(full, of_first, tiff)
        found = _raw_tags(full, tiff, apart)
        tags.append(found)
        describes_all = tiff.is_ome and page.index == 0
        descriptions.append(b"" if describes_all else _description(full, tiff))
        codes.update(code for code, *_ in found)
    alike = all(found in (tags[0], ()) for found in tags)
    if codes <= _ON_EVERY_PAGE and alike and not any(descriptions):
        return (), ()
    return tuple(tags), tuple(descriptions)


def _raw_resolution(page: tifffile.TiffPage, tiff: tifffile.TiffFile) -> dict[int, bytes]:
    """Values of the tags of a resolution, as stored, by code."""
    found = {}
    for code in RESOLUTION_TAGS:
        tag = page.tags.get(code)
        if tag is not None:
            found[code] = _raw(tiff, tag)
    return found


def _differing(
    page: tifffile.TiffPage, of_first: dict[int, bytes], tiff: tifffile.TiffFile
) -> tuple[int, ...]:
    """Codes of the tags of its resolution, where that is not the first page's."""
    own = _raw_resolution(page, tiff)
    return RESOLUTION_TAGS if own and own != of_first else ()


def carry(
    tiff: tifffile.TiffFile,
    scene: Scene,
    kind: str,
    stated: Stated,
    axes: str,
    pixels: np.ndarray | Stored,
    warnings: list[str],
) -> Carried:
    """What a result must give back of a file that is open.

    Parameters
    ----------
    tiff
        The file.
    scene
        The image of it that is read.
    kind
        As in ``Carried``.
    stated
        As in ``Carried``.
    axes
        Of ``pixels``.
    pixels
        As read.
    warnings
        Gets a line for what is left out.
    """
    series = scene.series
    pages = present_pages(series)
    first = pages[0].aspage()
    key = series.keyframe
    levels = _levels(series, first, warnings)
    below_page = len(first.subifds or ())
    numbers = [page.index for page in pages]
    resolution = _resolution(first)
    page_tags, page_descriptions = _later_pages(series, tiff, warnings)
    return Carried(
        kind=kind,
        byteorder=tiff.byteorder,
        big=tiff.is_bigtiff,
        compression=int(key.compression),
        predictor=int(key.predictor),
        photometric=_photometric(key),
        planar=key.shaped[0] > 1,
        slices=0 if "S" in axes or int(key.samplesperpixel) < 2 else int(key.samplesperpixel),
        extrasamples=tuple(int(e) for e in key.extrasamples),
        tile=_tile(key),
        colormap=_colormap(first),
        resolution=resolution,
        resolution_unit=tag_int(first, 296, 0) if resolution else 0,
        description=_description_of(scene, first, tiff),
        tags=_raw_tags(first, tiff, () if resolution else RESOLUTION_TAGS),
        page_tags=page_tags,
        page_descriptions=page_descriptions,
        in_order=pages_in_order(numbers, kind),
        images=len(scene.images),
        bits=int(key.bitspersample),
        packed=int(key.bitspersample) != np.dtype(series.dtype).itemsize * 8,
        extra_tag=_extra_tag(first, tiff),
        axes=axes,
        shape=pixels.shape,
        dtype=pixels.dtype,
        stated=stated,
        levels=levels,
        resolutions=len(series.levels),
        levels_apart=below_page < len(levels),
    )


def _resolution(page: tifffile.TiffPage) -> tuple[tuple[int, int], tuple[int, int]] | None:
    x, y = rational(page, 282), rational(page, 283)
    if x is None or y is None or not (x[1] and y[1]):
        return None
    return x, y


def _description_of(scene: Scene, first: tifffile.TiffPage, tiff: tifffile.TiffFile) -> bytes:
    """Of OME-TIFF that of the file's first page, which describes all, whichever plane it holds."""
    if not tiff.is_ome:
        return _description(first, tiff)
    return cut_to_images(_description(tiff.pages[0].aspage(), tiff), scene.images)


def _extra_tag(page: tifffile.TiffPage, tiff: tifffile.TiffFile) -> RawTag | None:
    tag = page.tags.get(EXTRA_SAMPLES)
    if tag is None:
        return None
    return EXTRA_SAMPLES, int(tag.dtype), int(tag.count), _raw(tiff, tag)


def _photometric(key: tifffile.TiffPage) -> int:
    """As the file says, but RGB for YCbCr in JPEG, which is decoded to it."""
    photometric = int(key.photometric)
    is_jpeg = int(key.compression) == 7
    return 2 if is_jpeg and photometric == 6 else photometric


def _tile(key: tifffile.TiffPage) -> tuple[int, int] | None:
    if not key.is_tiled:
        return None
    return int(key.tilelength), int(key.tilewidth)


def _colormap(page: tifffile.TiffPage) -> np.ndarray | None:
    tag = page.tags.get(320)
    return None if tag is None else np.array(tag.value, np.uint16)


def _levels(
    series: tifffile.TiffPageSeries, first: tifffile.TiffPage, warnings: list[str]
) -> tuple[tuple[int, int], ...]:
    """Height and width of the lower resolutions in SubIFDs, or of a single plane, in later pages.

    Others are told and left out.
    """
    lower = series.levels[1:]
    below_page = len(first.subifds or ())
    if below_page < len(lower) and len(present_pages(series)) > 1:
        warnings.append(f"{len(lower)} lower resolutions beside the image are left out")
        return ()
    found = []
    beyond: set[int] = set()
    for level in lower:
        sizes = dict(zip(level.axes, level.shape, strict=True))
        height = int(sizes["Y"])
        width = int(sizes["X"])
        found.append((height, width))
        beyond |= {tag.code for tag in level.keyframe.tags}
        beyond -= _NOT_CARRIED | _ON_EVERY_PAGE | _FULL_IMAGE.keys()
    if beyond:
        named = ", ".join(map(str, sorted(beyond)))
        warnings.append(f"tags of the lower resolutions are left out ({named})")
    return tuple(found)
