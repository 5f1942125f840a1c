"""TIFF files: plain, multi-page, ImageJ and OME-TIFF.

What a file states beside its pixels is carried and written back unchanged.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from pairfree.errors import InputError
from pairfree.files.formats import tiff_meta
from pairfree.files.formats.tiff_carried import carry, rational, tag_int
from pairfree.files.formats.tiff_codecs import PICTURES, RATIOS, can_pack, check_colours
from pairfree.files.formats.tiff_directories import COLOURS_TAG, count_pages
from pairfree.files.formats.tiff_meta import Stated
from pairfree.files.formats.tiff_order import present_pages
from pairfree.files.formats.tiff_pages import PageDecoder, Places, TiffPages
from pairfree.files.formats.tiff_series import (
    choose_scene,
    find_companions,
    find_scenes,
    name_axes,
    open_tiff,
)
from pairfree.files.image import AXES, Image, Shape, Stored, check_dtype
from pairfree.files.limits import Limits, check_declared, check_pages
from pairfree.files.messages import shown
from pairfree.files.stored import RawFile
from pairfree.files.wide_integers import is_wide, narrow

PALETTE = 3
"""Of PhotometricInterpretation: pixels that are indices of a table of colours."""
ALPHA = (1, 2)
"""Values of ExtraSamples that mean transparency, premultiplied or not.

0 is "unspecified": an intensity of its own.
"""
LUMA = np.array([0.299, 0.587, 0.114])
"""Brightness of red, green and blue (ITU-R BT.601)."""
UNIT_TAG = 296
"""ResolutionUnit."""


def read_tiff(path: Path, limits: Limits, scene: int | None = None) -> Image:
    """Read an image of a TIFF.

    Parameters
    ----------
    path
        The file.
    limits
        What it may declare.
    scene
        Number of the image, from 0, as ``count_scenes`` counts them; None for the first.

    Returns
    -------
    Image
        What is left out is named in its ``metadata["warnings"]``.

    Raises
    ------
    InputError
        For what is no TIFF, is damaged, or is not supported.
    """
    pages = count_pages(path, limits)
    warnings: list[str] = []
    tiff, beside = open_tiff(path, warnings)
    with tiff:
        first = tiff.pages[0].aspage()
        _check_page(first, path, limits, tiff.filehandle.size)
        kind, stated = _stated(tiff, path, limits, pages)
        chosen = choose_scene(tiff, path, scene, pages, warnings)
        one = chosen.series
        if scene or (kind == "ome" and chosen.images[0]):
            stated = _stated_of_scene(tiff, one, kind, chosen.images[0])
        _check_series(one, tiff, path, limits)
        named = name_axes(one, first)
        pixels = _pixels(one, named, tiff, path, limits)
        of_wide: dict[str, str] = {}
        if isinstance(pixels, np.ndarray):
            pixels, of_wide = narrow(pixels, shown(path))
        pixels, axes = _axes(pixels, named, path)
        stated, most = _complete(stated, one, pixels, axes, warnings)
        carried = carry(tiff, chosen, kind, stated, axes, pixels, warnings)
        if tiff.is_micromanager and tiff.micromanager_metadata:
            warnings.append(
                "Micro-Manager's summary, display settings and comments, which lie outside the tags, "
                "are left out"
            )
    if carried.compression in PICTURES:
        name = getattr(one.keyframe.compression, "name", str(carried.compression))
        warnings.append(
            f"{name} compression is replaced by deflate, so that the result gains no new artefacts"
        )
    return Image(
        pixels,
        axes,
        dict(stated.spacing),
        stated.channel_names,
        stated.bit_depth,
        path,
        family="tiff",
        metadata={
            "tiff": carried,
            "warnings": warnings,
            "beside": find_companions(path, beside),
            **of_wide,
        },
        alpha=any(kind in ALPHA for kind in carried.extrasamples),
        limits=None if most is None else (0.0, most),
    )


def _complete(
    stated: Stated,
    series: tifffile.TiffPageSeries,
    pixels: np.ndarray | Stored,
    axes: str,
    warnings: list[str],
) -> tuple[Stated, float | None]:
    """What the file states, as its pixels bear it out, and the greatest value of packed bits."""
    channels = pixels.shape[axes.index("C")] if "C" in axes else 1
    if len(stated.channel_names) != channels:
        stated = replace(stated, channel_names=())
    bits = int(series.keyframe.bitspersample)
    if bits == np.dtype(series.dtype).itemsize * 8:
        return stated, None
    if not can_pack():
        warnings.append(
            f"values of {bits} bits come back in whole bytes; a newer imagecodecs packs them"
        )
    elif int(series.keyframe.compression) != 1:
        warnings.append(f"values of {bits} bits come back packed and not compressed")
    return replace(stated, bit_depth=stated.bit_depth or bits), 2.0**bits - 1


def lower_levels(path: Path, limits: Limits) -> list[Image]:
    """The lower resolutions of the first image, from fine to coarse; InputError as of ``read_tiff``."""
    pages = count_pages(path, limits)
    tiff, _ = open_tiff(path, [])
    found = []
    with tiff:
        for level in choose_scene(tiff, path, None, pages, []).series.levels[1:]:
            _check_series(level, tiff, path, limits)
            named = name_axes(level, level.keyframe)
            pixels = _pixels(level, named, tiff, path, limits)
            if isinstance(pixels, np.ndarray):
                pixels, _ = narrow(pixels, shown(path))
            pixels, axes = _axes(pixels, named, path)
            found.append(Image(pixels, axes, source=path))
    return found


def count_scenes(path: Path, limits: Limits) -> int:
    """Number of the images of a TIFF; positions that are alike are one.

    Parameters
    ----------
    path
        The file.
    limits
        How many pages it may have.

    Raises
    ------
    InputError
        For what is no TIFF.
    """
    count_pages(path, limits)
    tiff, _ = open_tiff(path, [])
    with tiff:
        return len(find_scenes(tiff))


def _check_page(page: tifffile.TiffPage, path: Path, limits: Limits, file_size: int) -> None:
    """Type and size of one page against the limits, from its tags alone."""
    if page.dtype is None:
        detail = f"sample format {page.sampleformat}, {page.bitspersample} bits"
        raise InputError(
            f"{shown(path)}: TIFF pixel type is not supported ({detail}); "
            "save it as 8-, 16- or 32-bit TIFF"
        )
    if page.bitspersample == 1:
        raise InputError(
            f"{shown(path)}: is a 1-bit mask; convert it to 8-bit grey if you mean to denoise it"
        )
    check_colours(page, path)
    check_dtype(page.dtype, shown(path), wide=True)
    if int(page.photometric) == PALETTE and not page.is_imagej and not _shows_intensities(page):
        raise InputError(
            f"{shown(path)}: its pixels are indices of a colour table, not intensities; "
            "convert it to grey or RGB"
        )
    check_declared(path, page.shaped, page.dtype, limits, file_size, _ratio(page), _may_stay(page))


def _ratio(page: tifffile.TiffPage) -> float:
    """Largest ratio of decoded to stored bytes."""
    ratio = RATIOS.get(int(page.compression), 1e6)
    # A value of so many bits takes less room than one of the type that holds it.
    bits = np.dtype(page.dtype).itemsize * 8
    return ratio * bits / max(1, page.bitspersample)


def _shows_intensities(page: tifffile.TiffPage) -> bool:
    """A colour table along which brightness only grows, or only falls: the display of intensities."""
    tag = page.tags.get(COLOURS_TAG)
    if tag is None:
        return False
    table = np.array(tag.value, np.float64).reshape(3, -1)
    brightness = LUMA @ table
    steps = np.diff(brightness)
    return bool(np.all(steps >= 0)) or bool(np.all(steps <= 0))


def _stated(tiff: tifffile.TiffFile, path: Path, limits: Limits, pages: int) -> tuple[str, Stated]:
    """(kind, what the file states).

    The declared number of planes is checked before tifffile builds lists of that length.
    """
    first = tiff.pages[0].aspage()
    resolution = _resolution(first)
    described = first.description or ""
    if first.is_ome:
        stated = tiff_meta.from_ome(described)
        check_pages(path, stated.planes, limits)
        return "ome", stated
    if first.is_imagej:
        stated = tiff_meta.from_imagej(described, resolution)
        # One page may stand for a whole stack (ImageJ above 4 GB): then its pixels, not its pages,
        # are in the file.
        if stated.planes > max(pages, 1) and stated.planes * first.nbytes > tiff.filehandle.size:
            raise InputError(
                f"{shown(path)}: ImageJ text declares {stated.planes} planes, "
                f"the file has {pages} pages; it is truncated"
            )
        return "imagej", stated
    kind = "shaped" if first.is_shaped else "plain"
    return kind, _stated_by_tags(tiff, first)


def _stated_of_scene(
    tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries, kind: str, scene: int
) -> Stated:
    """What the file states of an image that is not its first."""
    if kind == "ome":
        return tiff_meta.from_ome(tiff.pages[0].aspage().description or "", scene)
    return _stated_by_tags(tiff, present_pages(series)[0].aspage())


def _stated_by_tags(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> Stated:
    spacing = tiff_meta.from_sem(tiff.sem_metadata, tiff.fei_metadata)
    if not spacing:
        spacing = tiff_meta.from_gatan(page.tags)
    if not spacing:
        unit = tag_int(page, UNIT_TAG, 2)
        spacing = tiff_meta.from_resolution(_resolution(page), unit)
    return Stated(spacing)


def _resolution(page: tifffile.TiffPage) -> tuple[float, float]:
    """Pixels per unit along x and y; 0 where the file does not say."""
    found = []
    for code in (282, 283):
        numerator, denominator = rational(page, code) or (0, 0)
        found.append(numerator / denominator if denominator else 0.0)
    x, y = found
    return x, y


def _check_series(
    series: tifffile.TiffPageSeries, tiff: tifffile.TiffFile, path: Path, limits: Limits
) -> None:
    if series.dtype is None:
        raise InputError(f"{shown(path)}: TIFF series without a pixel type; export it again")
    check_dtype(series.dtype, shown(path), wide=True)
    key = series.keyframe
    size = tiff.filehandle.size
    if key is not tiff.pages[0]:
        _check_page(key, path, limits, size)
    check_declared(path, series.shape, series.dtype, limits, size, _ratio(key), _may_stay(key))
    if any(page is None for page in series.pages):
        raise InputError(
            f"{shown(path)}: some planes that the file declares are missing; "
            "export it again as one file"
        )
    if any(page.parent is not tiff for page in present_pages(series)):
        raise InputError(
            f"{shown(path)}: its planes are spread over several files that it does not name; "
            "convert the set to one OME-TIFF"
        )


def _pixels(
    series: tifffile.TiffPageSeries, axes: str, tiff: tifffile.TiffFile, path: Path, limits: Limits
) -> np.ndarray | Stored:
    """Pixels of a series, whose axes are named, in native byte order.

    An array has ``series.shape``; where pixels are many they come as ``Stored``, with S last.
    """
    key = series.keyframe
    n_bytes = math.prod(series.shape) * np.dtype(series.dtype).itemsize
    large = n_bytes > limits.resident_bytes and _may_stay(key)
    offset = series.dataoffset
    if offset is not None and series.transform is None and int(key.fillorder) == 1:
        return _contiguous(series, axes, offset, tiff, path, large)
    in_pages = len(series.pages) * math.prod(key.shaped)
    if in_pages != math.prod(series.shape) or series.transform is not None:
        raise InputError(
            f"{shown(path)}: {len(series.pages)} pages of {key.shape} "
            f"do not make the declared {series.shape}; export it again"
        )
    decoder = PageDecoder(key, path, limits, tiff.filehandle.size)
    places = _places(series, decoder, path)
    if large and axes == series.axes:
        return TiffPages(decoder, places, _samples_last(series.shape, axes), _plane_axes(axes))
    out = np.empty((len(places), *key.shaped), np.dtype(series.dtype))
    rows = slice(0, key.shaped[2])
    columns = slice(0, key.shaped[3])
    with path.open("rb") as file:
        for i, place in enumerate(places):
            out[i, :, 0] = decoder.region(file, place, rows, columns)
    return out.reshape(series.shape)


def _contiguous(
    series: tifffile.TiffPageSeries,
    axes: str,
    offset: int,
    tiff: tifffile.TiffFile,
    path: Path,
    large: bool,
) -> np.ndarray | Stored:
    """Pixels that lie in one piece from ``offset``, uncompressed."""
    dtype = np.dtype(series.dtype)
    in_file = dtype.newbyteorder(tiff.byteorder)
    count = math.prod(series.shape)
    if offset + count * dtype.itemsize > tiff.filehandle.size:
        raise InputError(
            f"{shown(path)}: truncated TIFF, pixel data end early; copy or export it again"
        )
    counts = sum(series.keyframe.databytecounts)
    if 0 < counts < series.keyframe.nbytes:
        raise InputError(
            f"{shown(path)}: its first page holds {counts} of {series.keyframe.nbytes} bytes; "
            "the file is truncated or damaged, copy or export it again"
        )
    if large:
        shape = _samples_last(series.shape, axes)
        moved = shape != series.shape
        return RawFile(path, offset, shape, in_file, _plane_axes(axes), samples_first=moved)
    stored = np.fromfile(path, in_file, count=count, offset=offset)
    return stored.astype(dtype, copy=False).reshape(series.shape)


def _places(series: tifffile.TiffPageSeries, decoder: PageDecoder, path: Path) -> list[Places]:
    """Where the strips or tiles of each page lie; InputError for pages of several sizes."""
    key = series.keyframe
    found = []
    for number, page in enumerate(present_pages(series), start=1):
        own = page.keyframe
        if own is None or own.shaped != key.shaped or own.dtype != key.dtype:
            raise InputError(
                f"{shown(path)}: page {number} has shape {page.shape}, expected {key.shape}; "
                "save pages of one size"
            )
        found.append(decoder.places(page, number))
    return found


def _may_stay(key: tifffile.TiffPage) -> bool:
    """Whether pages can be decoded region by region later: 64 bits need a look at all values."""
    return not is_wide(np.dtype(key.dtype))


def _plane_axes(axes: str) -> int:
    return 3 if "S" in axes else 2


def _samples_last(shape: Shape, axes: str) -> Shape:
    """The shape with S moved to the end."""
    sizes = list(shape)
    if "S" in axes:
        samples = sizes.pop(axes.index("S"))
        sizes.append(samples)
    return tuple(sizes)


def _axes(pixels: np.ndarray | Stored, axes: str, path: Path) -> tuple[np.ndarray | Stored, str]:
    """Pixels with S moved to the end, and axes in pairfree's letters.

    Q stands for what it has no letter for.
    """
    body = axes.replace("S", "")
    if not body.endswith("YX"):
        named = body + "S" if "S" in axes else body
        raise InputError(
            f"{shown(path)}: its axes {named} do not end with height and width; "
            "save it as a stack of pages"
        )
    ours = ""
    for letter in body[:-2]:
        ours += letter if letter in AXES and body.count(letter) == 1 else "Q"
    ours += "YX"
    if isinstance(pixels, np.ndarray):
        if "S" in axes:
            pixels = np.moveaxis(pixels, axes.index("S"), -1)
        pixels = np.ascontiguousarray(pixels)
    if "S" in axes:
        ours += "S"
    return pixels, ours
