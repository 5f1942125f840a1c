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
from pairfree.files.formats.tiff_carried import carry, present_pages, rational, tag_int
from pairfree.files.formats.tiff_codecs import JPEG_CODE, RATIOS
from pairfree.files.formats.tiff_directories import COLOURS_TAG, count_pages
from pairfree.files.formats.tiff_meta import Stated
from pairfree.files.formats.tiff_pages import PageDecoder, Places, TiffPages
from pairfree.files.image import AXES, Image, Shape, Stored, check_dtype
from pairfree.files.limits import Limits, check_declared, check_pages
from pairfree.files.messages import shown
from pairfree.files.stored import RawFile

RGB, PALETTE = 2, 3
"""Of PhotometricInterpretation: colours; pixels that are indices of a table of colours."""
UNASSOCIATED = (2,)
"""ExtraSamples of what is taken for colours and transparency because there are four."""
ALPHA = (1, 2)
"""Values of ExtraSamples that mean transparency, premultiplied or not.

0 is "unspecified": an intensity of its own.
"""
SEPARATE = 2
"""Of PlanarConfiguration: samples are stored one after the other."""
UNIT_TAG = 296
"""ResolutionUnit."""


def read_tiff(path: Path, limits: Limits) -> Image:
    """Read the first image series of a TIFF.

    Parameters
    ----------
    path
        The file.
    limits
        What it may declare.

    Returns
    -------
    Image
        Further series are named in its ``metadata["warnings"]``.

    Raises
    ------
    InputError
        For what is no TIFF, is damaged, or is not supported.
    """
    pages = count_pages(path, limits)
    warnings: list[str] = []
    tiff, beside = _opened(path, warnings)
    with tiff:
        first = tiff.pages[0].aspage()
        _check_page(first, path, limits, tiff.filehandle.size)
        kind, stated = _stated(tiff, path, limits, pages)
        one = _first_series(tiff, path, kind, pages, warnings)
        _check_series(one, tiff, path, limits)
        named = _name_axes(one, first)
        pixels = _pixels(one, named, tiff, path, limits)
        pixels, axes = _axes(pixels, named, path)
        channels = pixels.shape[axes.index("C")] if "C" in axes else 1
        if len(stated.channel_names) != channels:
            stated = replace(stated, channel_names=())
        carried = carry(tiff, one, kind, stated, axes, pixels, warnings)
    if carried.compression == JPEG_CODE:
        warnings.append(
            "JPEG compression is replaced by deflate, so that the result gains no new artefacts"
        )
    return Image(
        pixels,
        axes,
        dict(stated.spacing),
        stated.channel_names,
        stated.bit_depth,
        path,
        family="tiff",
        metadata={"tiff": carried, "warnings": warnings, "beside": _companions(path, beside)},
        alpha=any(kind in ALPHA for kind in carried.extrasamples),
    )


def _name_axes(series: tifffile.TiffPageSeries, first: tifffile.TiffPage) -> str:
    """Axes of a series, Q for S where samples are slices.

    tifffile, scikit-image and imageio store three or four slices as the samples of one page; their text says
    that the first axis has this size, and not the last, as it does of colours.
    """
    planar = int(first.planarconfig) == SEPARATE and int(first.photometric) == RGB
    by_itself = tuple(int(kind) for kind in first.extrasamples) in ((), UNASSOCIATED)
    named = '"axes"' in (first.description or "")
    axes: str = series.axes
    slices = first.is_shaped and planar and by_itself and not named
    return axes.replace("S", "Q") if slices else axes


def _first_series(
    tiff: tifffile.TiffFile, path: Path, kind: str, pages: int, warnings: list[str]
) -> tifffile.TiffPageSeries:
    """The series that is read; a line in ``warnings`` says what is not."""
    series = tiff.series
    if not series:
        raise InputError(f"{shown(path)}: TIFF without any image; was it written completely?")
    one = series[0]
    if len(series) > 1:
        others = ", ".join("x".join(map(str, other.shape)) for other in series[1:4])
        more = ", ..." if len(series) > 4 else ""
        warnings.append(
            f"the file holds {len(series)} images; only the first is used ({others}{more} left out)"
        )
        return one
    below_pages = bool(tiff.pages[0].aspage().subifds)
    lower = [] if below_pages else [page for level in one.levels[1:] for page in level.pages]
    pages -= sum(page is not None and page.aspage().is_reduced for page in lower)
    if pages > len(one.pages) and kind not in ("imagej", "ome"):
        warnings.append(
            f"the file holds {pages} pages; "
            f"only the first {len(one.pages)} of one size and type are used"
        )
    elif pages > len(one.pages) and kind == "ome":
        warnings.append(f"{pages - len(one.pages)} pages that are no planes of it are left out")
    return one


def _opened(path: Path, warnings: list[str]) -> tuple[tifffile.TiffFile, set[str]]:
    """The file alone, and the names of the others of its set.

    Of an OME-TIFF that is one of several: its own pages, in their order.
    """
    tiff = tifffile.TiffFile(path)
    first = tiff.pages[0].aspage()
    beside: set[str] = set()
    if first.is_ome:
        beside = tiff_meta.files_of_ome(first.description or "")
        beside.discard(path.name)
    if not beside:
        return tiff, beside
    tiff.close()
    named = ", ".join(sorted(beside)[:3])
    more = ", ..." if len(beside) > 3 else ""
    warnings.append(f"is one file of a set ({named}{more}): keep their results together")
    return tifffile.TiffFile(path, is_ome=False), beside


def _companions(path: Path, beside: set[str]) -> list[Path]:
    """Those files of a set that hold metadata and no pixels."""
    found = []
    for name in sorted(beside):
        is_plain = Path(name).name == name
        if name.lower().endswith(".ome") and is_plain and (path.parent / name).is_file():
            found.append(path.parent / name)
    return found


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
    check_dtype(page.dtype, shown(path))
    if int(page.photometric) == PALETTE and not page.is_imagej and not _is_grey_ramp(page):
        raise InputError(
            f"{shown(path)}: its pixels are indices of a colour table, not intensities; "
            "convert it to grey or RGB"
        )
    ratio = RATIOS.get(int(page.compression), 1e6)
    # Packed bits are refused by the decoder, with a better message than "truncated".
    if page.bitspersample != page.dtype.itemsize * 8:
        ratio *= 16
    check_declared(path, page.shaped, page.dtype, limits, file_size, ratio, _may_stay(page))


def _is_grey_ramp(page: tifffile.TiffPage) -> bool:
    """A colour table that only shows intensities as greys, black to white."""
    tag = page.tags.get(COLOURS_TAG)
    if tag is None:
        return False
    table = np.array(tag.value).reshape(3, -1)
    red = table[0]
    steps = np.diff(red.astype(np.int64))
    return bool(np.all(table == red)) and bool(np.all(steps >= 0))


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
    spacing = tiff_meta.from_sem(tiff.sem_metadata, tiff.fei_metadata)
    if not spacing:
        spacing = tiff_meta.from_gatan(first.tags)
    if not spacing:
        unit = tag_int(first, UNIT_TAG, 2)
        spacing = tiff_meta.from_resolution(resolution, unit)
    kind = "shaped" if first.is_shaped else "plain"
    return kind, Stated(spacing)


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
    check_dtype(series.dtype, shown(path))
    key = series.keyframe
    ratio = RATIOS.get(int(key.compression), 1e6)
    size = tiff.filehandle.size
    check_declared(path, series.shape, series.dtype, limits, size, ratio, _may_stay(key))
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
    """Whether pages can be decoded region by region later: JPEG needs the reader's tables."""
    return int(key.compression) != JPEG_CODE


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
