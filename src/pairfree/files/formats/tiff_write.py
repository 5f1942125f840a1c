"""Writing of TIFF: a file that was read is written back tag for tag; an image that changed, or was never a
file, is described anew."""

from __future__ import annotations

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
from pairfree.files.formats.tiff_carried import Carried, RawTag
from pairfree.files.image import Image
from pairfree.files.messages import shown

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
# Above this, offsets may not fit 32 bits; the margin leaves room for tags.
_BIG_FROM_BYTES = 2**32 - 2**25
STREAMED_TILE, STREAMED_PLANE_BYTES = (512, 512), 2**28
"""Planes of more bytes that stay in a file are written in tiles."""


def write_tiff(image: Image, path: Path) -> None:
    """Write ``image`` to ``path`` with what its file stated. Raises OutputError for what TIFF cannot hold."""
    carried = image.metadata.get("tiff")
    carried = carried if isinstance(carried, Carried) else None
    if carried is not None and _still_true(image, carried):
        _write_back(image, path, carried)
    else:
        _write_anew(image, path, carried)


def _still_true(image: Image, carried: Carried) -> bool:
    """Whether the carried description still describes ``image``."""
    same_pixels = (carried.axes, carried.shape, carried.dtype) == (
        image.axes,
        image.shape,
        image.dtype,
    )
    stated = carried.stated
    same_meaning = (stated.spacing, stated.channel_names, stated.bit_depth) == (
        image.spacing,
        image.channel_names,
        image.bit_depth,
    )
    return carried.in_order and same_pixels and same_meaning


def _big(image: Image, carried: Carried | None) -> bool:
    levels = carried.levels if carried is not None else ()
    with_levels = image.nbytes * (
        1 + sum(height * width for height, width in levels) / (image.height * image.width)
    )
    return (carried is not None and carried.big) or with_levels > _BIG_FROM_BYTES


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
    predictor = (
        carried.predictor
        if compression in ("lzw", "zlib", "zstd") and carried.predictor in (2, 3)
        else None
    )
    if predictor is not None:  # differences of floats and of integers are stored in different ways
        predictor = 3 if image.dtype.kind == "f" else 2
    layout: dict[str, Any] = {
        "photometric": carried.photometric,
        "compression": compression,
        "predictor": predictor,
        "tile": carried.tile
        if carried.tile is not None and not any(side % 16 for side in carried.tile)
        else None,
        "software": False,
        "metadata": None,
        "resolutionunit": carried.resolution_unit,
    }
    if image.samples > 1:
        layout["planarconfig"] = "separate" if carried.planar else "contig"
        layout["extrasamples"] = carried.extrasamples
    if carried.resolution is not None:
        layout["resolution"] = carried.resolution
    if carried.photometric == 3:
        layout["colormap"] = carried.colormap
    return layout


def _extratags(
    tags: tuple[RawTag, ...], carried: Carried, description: bytes
) -> list[tuple[Any, ...]]:
    """Carried tags in the form tifffile takes.

    The description goes here too, as bytes: tifffile takes only ASCII for its own.
    """
    extra: list[tuple[Any, ...]] = [
        (code, kind, count, value, True) for code, kind, count, value in tags
    ]
    if description:
        stored = description + b"\0"
        extra.append((270, 2, len(stored), stored, True))
    if (
        carried.colormap is not None and carried.photometric != 3
    ):  # ImageJ keeps its lookup table beside grey pixels
        values = carried.colormap.astype(
            np.dtype(np.uint16).newbyteorder(carried.byteorder)
        ).tobytes()
        extra.append((320, 3, carried.colormap.size, values, True))
    return extra


def _write_back(image: Image, path: Path, carried: Carried) -> None:
    layout, planes = _layout(image, carried), list(image.planes())
    with tifffile.TiffWriter(
        path, bigtiff=_big(image, carried), byteorder=carried.byteorder
    ) as writer:
        if not carried.page_tags:
            extra = _extratags(carried.tags, carried, carried.description)
            writer.write(
                **_content(image, planes, carried.planar, layout),
                extratags=extra,
                subifds=0 if carried.levels_apart else len(carried.levels),
            )
            _write_levels(writer, image, planes, carried, layout)
            return
        for i, index in enumerate(planes):
            tags = carried.tags if i == 0 else carried.page_tags[i - 1]
            description = carried.description if i == 0 else carried.page_descriptions[i - 1]
            content = _content(image, [index], carried.planar, layout)
            extra = _extratags(tags, carried, description)
            writer.write(**content, extratags=extra, subifds=len(carried.levels), contiguous=False)
            _write_levels(writer, image, [index], carried, layout)


def _write_levels(
    writer: tifffile.TiffWriter,
    image: Image,
    planes: Sequence[tuple[int, ...]],
    carried: Carried,
    layout: dict[str, Any],
) -> None:
    """The lower resolutions of the pages just written, made anew from them."""
    plain = {
        key: value
        for key, value in layout.items()
        if key not in ("resolution", "resolutionunit", "colormap")
    }
    for height, width in carried.levels:
        smaller = replace(image, data=Reduced(image, height, width))
        writer.write(
            **_content(smaller, planes, carried.planar, plain), subfiletype=1, contiguous=False
        )


def _content(
    image: Image, planes: Sequence[tuple[int, ...]], planar: bool, layout: dict[str, Any]
) -> dict[str, Any]:
    """``layout`` with the pixels of some planes: an array; of what stays in its file a stream of planes, or
    of tiles where planes are large ."""
    page = (
        (image.height, image.width)
        if image.samples == 1
        else (image.height, image.width, image.samples)
    )
    page = (image.samples, *page[:2]) if planar else page
    if not image.stored:
        pixels = (
            np.stack([image.plane(index) for index in planes])
            if len(planes) < math.prod(image.leading)
            else image.pixels
        )
        pixels = np.moveaxis(pixels, -1, -3) if planar else pixels
        stack = np.ascontiguousarray(pixels).reshape(-1, *page)
        return {"data": stack if len(stack) > 1 else stack[0], **layout}
    tile = layout.get("tile") or (
        STREAMED_TILE if math.prod(page) * image.dtype.itemsize > STREAMED_PLANE_BYTES else None
    )
    parts = (
        _tiles(image, planes, planar, tile)
        if tile is not None
        else (_planar(image.plane(index), planar) for index in planes)
    )
    return {
        "data": parts,
        "shape": (len(planes), *page),
        "dtype": image.dtype,
        **layout,
        "tile": tile,
    }


def _planar(plane: np.ndarray, planar: bool) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(plane, -1, 0) if planar else plane)


def _tiles(
    image: Image, planes: Sequence[tuple[int, ...]], planar: bool, tile: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Tiles in the order of the file, full ones: what lies beyond the image is zero."""
    for index in planes:
        for sample in range(image.samples if planar else 1):
            for top in range(0, image.height, tile[0]):
                for left in range(0, image.width, tile[1]):
                    rows = slice(top, min(top + tile[0], image.height))
                    columns = slice(left, min(left + tile[1], image.width))
                    block = image.region(index, rows, columns)
                    block = block[..., sample] if planar else block
                    lack = [
                        (0, tile[0] - block.shape[0]),
                        (0, tile[1] - block.shape[1]),
                        *[(0, 0)] * (block.ndim - 2),
                    ]
                    yield np.ascontiguousarray(np.pad(block, lack))


def _write_anew(image: Image, path: Path, carried: Carried | None) -> None:
    """OME-TIFF where there is anything to describe, else a plain TIFF."""
    byteorder: Literal["<", ">"] = (
        carried.byteorder if carried is not None else "<" if sys.byteorder == "little" else ">"
    )
    described = bool(image.spacing or image.channel_names or image.leading)
    as_ome = described and image.dtype.name in _OME_DTYPES
    if image.leading.count(1) != len(image.leading) and np.prod(image.leading) > 2**17:
        raise OutputError(
            f"{shown(path)}: {int(np.prod(image.leading))} planes are too many for one TIFF; split the stack"
        )
    metadata = _ome_metadata(image) if as_ome else {"axes": image.axes} if described else None
    arguments = _layout_anew(image, carried)
    with tifffile.TiffWriter(
        path, bigtiff=_big(image, carried), byteorder=byteorder, ome=as_ome
    ) as writer:
        if image.stored:
            content = _content(image, list(image.planes()), False, arguments) | {
                "shape": image.shape
            }
        else:
            content = {"data": image.pixels, **arguments}
        writer.write(**content, metadata=metadata)


def _layout_anew(image: Image, carried: Carried | None) -> dict[str, Any]:
    """Arguments of TiffWriter.write for an image that is described anew; its compression stays."""
    arguments: dict[str, Any] = {"photometric": "rgb" if image.samples in (3, 4) else "minisblack"}
    if image.samples > 1:
        arguments["planarconfig"] = "contig"
    if image.samples in (2, 4):
        arguments["extrasamples"] = ("unassalpha",)
    elif image.samples > 4:
        arguments["extrasamples"] = ("unspecified",) * (image.samples - 1)
    if carried is not None:
        arguments["compression"] = (
            _COMPRESSIONS.get(carried.compression, "zlib") if _has_imagecodecs() else None
        )
    in_um = _in_um(image)
    if (
        in_um is not None and max(1e4 / in_um[0], 1e4 / in_um[1]) < 2**32 and max(in_um) < 1e9
    ):  # what the tag's integers can hold
        arguments |= {
            "resolution": (1e4 / in_um[0], 1e4 / in_um[1]),
            "resolutionunit": "CENTIMETER",
        }
    return arguments


def _in_um(image: Image) -> tuple[float, float] | None:
    """Pixel width and height in µm where both are known lengths."""
    factors = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "Å": 1e-4, "pm": 1e-6}
    x, y = image.spacing.get("X"), image.spacing.get("Y")
    if x is None or y is None or x[1] not in factors or y[1] not in factors:
        return None
    return x[0] * factors[x[1]], y[0] * factors[y[1]]


def _ome_metadata(image: Image) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": image.axes}
    for axis in "XYZ":
        if axis in image.spacing:
            metadata[f"PhysicalSize{axis}"], metadata[f"PhysicalSize{axis}Unit"] = image.spacing[
                axis
            ]
    if "T" in image.spacing:
        metadata["TimeIncrement"], metadata["TimeIncrementUnit"] = image.spacing["T"]
    if image.bit_depth is not None:
        metadata["SignificantBits"] = image.bit_depth
    if image.channel_names:
        metadata["Channel"] = {"Name": list(image.channel_names)}
    return metadata
