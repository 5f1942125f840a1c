"""TIFF files: plain, multi-page, ImageJ and OME-TIFF.

What a file states beside its pixels is carried and written back unchanged.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pairfree.errors import InputError
from pairfree.files.formats import tiff_meta
from pairfree.files.formats.tiff_carried import carry, present_pages, rational, tag_int
from pairfree.files.formats.tiff_meta import Stated
from pairfree.files.formats.tiff_pages import RATIOS, PageDecoder, TiffPages, count_pages
from pairfree.files.image import AXES, Image, Stored, check_dtype
from pairfree.files.limits import Limits, check_declared, check_pages
from pairfree.files.messages import shown
from pairfree.files.stored import RawFile

PALETTE = 3
"""Of PhotometricInterpretation: pixels are indices of a table of colours."""
ALPHA = (1, 2)
"""Values of ExtraSamples that mean transparency, premultiplied or not; 0 is "unspecified": an intensity of
its own."""


def read_tiff(path: Path, limits: Limits) -> Image:
    """Read the first image series of a TIFF.

    Further series are named in ``metadata["warnings"]``. Raises InputError.
    """
    pages = count_pages(path, limits)
    warnings: list[str] = []
    tiff, beside = _opened(path, warnings)
    with tiff:
        first = tiff.pages[0].aspage()
        _check_page(first, path, limits, tiff.filehandle.size)
        kind, stated = _stated(tiff, path, limits, pages)
        series = tiff.series
        if not series:
            raise InputError(f"{shown(path)}: TIFF without any image; was it written completely?")
        one = series[0]
        if len(series) > 1:
            others = ", ".join("x".join(map(str, s.shape)) for s in series[1:4])
            warnings.append(
                f"the file holds {len(series)} images; only the first is used ({others}{', ...' if len(series) > 4 else ''} left out)"
            )
        elif pages > len(one.pages) and kind not in ("imagej", "ome"):
            warnings.append(
                f"the file holds {pages} pages; only the first {len(one.pages)} of one size and type are used"
            )
        _check_series(one, tiff, path, limits)
        pixels = _pixels(one, tiff, path, limits)
        pixels, axes = _axes(pixels, one.axes, path)
        channels = pixels.shape[axes.index("C")] if "C" in axes else 1
        names = stated.channel_names if len(stated.channel_names) == channels else ()
        stated = Stated(stated.spacing, names, stated.bit_depth, stated.planes)
        carried = carry(tiff, one, kind, stated, axes, pixels, warnings)
    if carried.compression == 7:
        warnings.append(
            "JPEG compression is replaced by deflate, so that the result gains no new artefacts"
        )
    metadata: dict[str, Any] = {
        "tiff": carried,
        "warnings": warnings,
        "beside": _companions(path, beside),
    }
    alpha = any(kind in ALPHA for kind in carried.extrasamples)
    return Image(
        pixels, axes, dict(stated.spacing), names, stated.bit_depth, path, "tiff", metadata, alpha
    )


def _opened(path: Path, warnings: list[str]) -> tuple[tifffile.TiffFile, set[str]]:
    """The file alone, and the names of the others of its set: of an OME-TIFF that is one of several, its own
    pages, in their order."""
    tiff = tifffile.TiffFile(path)
    first = tiff.pages[0].aspage()
    beside = (
        tiff_meta.files_of_ome(first.description or "") - {path.name} if first.is_ome else set()
    )
    if not beside:
        return tiff, beside
    tiff.close()
    warnings.append(
        f"is one file of a set ({', '.join(sorted(beside)[:3])}{', ...' if len(beside) > 3 else ''}): keep their results together"
    )
    return tifffile.TiffFile(path, is_ome=False), beside


def _companions(path: Path, beside: set[str]) -> list[Path]:
    """Those files of a set that hold metadata and no pixels."""
    named = [
        path.parent / name
        for name in sorted(beside)
        if name.lower().endswith(".ome") and Path(name).name == name
    ]
    return [one for one in named if one.is_file()]


def _check_page(page: tifffile.TiffPage, path: Path, limits: Limits, file_size: int) -> None:
    """Type and size of one page against the limits, from its tags alone."""
    if page.dtype is None:
        detail = f"sample format {page.sampleformat}, {page.bitspersample} bits"
        raise InputError(
            f"{shown(path)}: TIFF pixel type is not supported ({detail}); save it as 8-, 16- or 32-bit TIFF"
        )
    if page.bitspersample == 1:
        raise InputError(
            f"{shown(path)}: is a 1-bit mask; convert it to 8-bit grey if you mean to denoise it"
        )
    check_dtype(page.dtype, shown(path))
    if int(page.photometric) == PALETTE and not page.is_imagej and not _is_grey_ramp(page):
        raise InputError(
            f"{shown(path)}: its pixels are indices of a colour table, not intensities; convert it to grey or RGB"
        )
    packed = (
        page.bitspersample != page.dtype.itemsize * 8
    )  # refused by the decoder, with a better message than "truncated"
    ratio = RATIOS.get(int(page.compression), 1e6) * (16 if packed else 1)
    check_declared(path, page.shaped, page.dtype, limits, file_size, ratio, _may_stay(page))


def _is_grey_ramp(page: tifffile.TiffPage) -> bool:
    """A colour table that only shows intensities as greys, black to white."""
    tag = page.tags.get(320)
    table = None if tag is None else np.array(tag.value).reshape(3, -1)
    return (
        table is not None
        and bool(np.all(table == table[0]))
        and bool(np.all(np.diff(table[0].astype(np.int64)) >= 0))
    )


def _stated(tiff: tifffile.TiffFile, path: Path, limits: Limits, pages: int) -> tuple[str, Stated]:
    """(kind, what the file states), with the declared plane count checked before tifffile builds lists of
    that length."""
    first = tiff.pages[0].aspage()
    resolution, unit = _resolution(first), tag_int(first, 296, 2)
    described = first.description or ""
    if first.is_ome:
        stated = tiff_meta.from_ome(described)
        check_pages(path, stated.planes, limits)
        return "ome", stated
    if first.is_imagej:
        stated = tiff_meta.from_imagej(described, resolution)
        # One page may stand for a whole stack (ImageJ above 4 GB): then its pixels, not its pages, are in the
        # file.
        if stated.planes > max(pages, 1) and stated.planes * first.nbytes > tiff.filehandle.size:
            raise InputError(
                f"{shown(path)}: ImageJ text declares {stated.planes} planes, the file has {pages} pages; it is truncated"
            )
        return "imagej", stated
    maker = tiff_meta.from_sem(tiff.sem_metadata, tiff.fei_metadata) or tiff_meta.from_gatan(
        first.tags
    )
    spacing = maker or tiff_meta.from_resolution(resolution, unit)
    return ("shaped" if first.is_shaped else "plain"), Stated(spacing)


def _resolution(page: tifffile.TiffPage) -> tuple[float, float]:
    """Pixels per unit along x and y; 0 where the file does not say."""
    x, y = (
        (r[0] / r[1] if r is not None and r[1] else 0.0)
        for r in (rational(page, 282), rational(page, 283))
    )
    return x, y


def _check_series(
    series: tifffile.TiffPageSeries, tiff: tifffile.TiffFile, path: Path, limits: Limits
) -> None:
    if series.dtype is None:
        raise InputError(f"{shown(path)}: TIFF series without a pixel type; export it again")
    check_dtype(series.dtype, shown(path))
    key = series.keyframe
    ratio = RATIOS.get(int(key.compression), 1e6)
    check_declared(
        path, series.shape, series.dtype, limits, tiff.filehandle.size, ratio, _may_stay(key)
    )
    if any(page is None for page in series.pages):
        raise InputError(
            f"{shown(path)}: some planes that the file declares are missing; export it again as one file"
        )
    if any(page.parent is not tiff for page in series.pages if page is not None):
        raise InputError(
            f"{shown(path)}: its planes are spread over several files that it does not name; convert the set to one OME-TIFF"
        )


def _pixels(
    series: tifffile.TiffPageSeries, tiff: tifffile.TiffFile, path: Path, limits: Limits
) -> np.ndarray | Stored:
    """Pixels of a series in native byte order, shape ``series.shape``; as ``Stored``, with S last, where they
    are many."""
    size = tiff.filehandle.size
    dtype, stored_dtype = (
        np.dtype(series.dtype),
        np.dtype(series.dtype).newbyteorder(tiff.byteorder),
    )
    key = series.keyframe
    large = math.prod(series.shape) * dtype.itemsize > limits.resident_bytes and _may_stay(key)
    shape, plane_axes = _samples_last(series.shape, series.axes), 3 if "S" in series.axes else 2
    if series.dataoffset is not None and series.transform is None and int(key.fillorder) == 1:
        count = math.prod(series.shape)
        if series.dataoffset + count * dtype.itemsize > size:
            raise InputError(
                f"{shown(path)}: truncated TIFF, pixel data end early; copy or export it again"
            )
        if large:
            return RawFile(
                path, series.dataoffset, shape, stored_dtype, plane_axes, shape != series.shape
            )
        stored = np.fromfile(path, stored_dtype, count=count, offset=series.dataoffset)
        return stored.astype(dtype, copy=False).reshape(series.shape)
    if (
        len(series.pages) * math.prod(key.shaped) != math.prod(series.shape)
        or series.transform is not None
    ):
        raise InputError(
            f"{shown(path)}: {len(series.pages)} pages of {key.shape} do not make the declared {series.shape}; export it again"
        )
    decoder = PageDecoder(key, path, limits, size)
    places = []
    for i, page in enumerate(present_pages(series)):
        own = page.keyframe
        if own is None or own.shaped != key.shaped or own.dtype != key.dtype:
            raise InputError(
                f"{shown(path)}: page {i + 1} has shape {page.shape}, expected {key.shape}; save pages of one size"
            )
        places.append(decoder.places(page, i + 1))
    if large:
        return TiffPages(decoder, places, shape, plane_axes)
    out = np.empty((len(places), *key.shaped), dtype)
    rows, columns = slice(0, key.shaped[2]), slice(0, key.shaped[3])
    with path.open("rb") as file:
        for i, place in enumerate(places):
            out[i, :, 0] = decoder.region(file, place, rows, columns)
    return out.reshape(series.shape)


def _may_stay(key: tifffile.TiffPage) -> bool:
    """Whether pages can be decoded region by region later: JPEG needs the reader's tables."""
    return int(key.compression) != 7


def _samples_last(shape: tuple[int, ...], axes: str) -> tuple[int, ...]:
    """The shape with S moved to the end."""
    if "S" not in axes:
        return tuple(shape)
    at = axes.index("S")
    return (*shape[:at], *shape[at + 1 :], shape[at])


def _axes(pixels: np.ndarray | Stored, axes: str, path: Path) -> tuple[np.ndarray | Stored, str]:
    """Pixels with S moved to the end, and axes in pairfree's letters (Q for what it has no letter for)."""
    if "S" in axes and not axes.endswith("S"):
        at = axes.index("S")
        pixels = np.moveaxis(pixels, at, -1) if isinstance(pixels, np.ndarray) else pixels
        axes = axes[:at] + axes[at + 1 :] + "S"
    body = axes.removesuffix("S")
    if not body.endswith("YX"):
        raise InputError(
            f"{shown(path)}: its axes {axes} do not end with height and width; save it as a stack of pages"
        )
    leading = "".join(c if c in AXES and body.count(c) == 1 else "Q" for c in body[:-2])
    return np.ascontiguousarray(pixels) if isinstance(
        pixels, np.ndarray
    ) else pixels, leading + "YX" + axes[len(body) :]
