"""Writing of Zarr folders with the layout that they had; other images become OME-Zarr 0.5.

An image of several resolutions comes back with as many, each made anew from the denoised one
before it. Every chunk is written, also an empty one, under a codec that notices a flipped bit, and
the attributes say so: of such a folder, a missing chunk is an error and not a black square. zarr is
imported when a folder is written.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import OutputError
from pairfree.files.formats.pyramid import block_means, covered_span, find_edges, round_to
from pairfree.files.formats.zarr_layout import ALL_WRITTEN, OURS, Attributes, Carried, Level
from pairfree.files.image import Image
from pairfree.files.spans import Place, length_of, split_into_blocks

WRITTEN_BYTES = 2**24
"""Of an array, written at a time."""
CHUNK_PX = 512
UNITS = {
    "µm": "micrometer",
    "nm": "nanometer",
    "Å": "angstrom",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "s": "second",
}
KINDS = {"T": "time", "C": "channel", "Q": "other"}
"""OME's types of axes by their letter; all others are "space"."""
SERIES = "OME"
"""Where bioformats2raw keeps the OME-XML of the file it converted."""


def write_zarr(image: Image, path: Path) -> None:
    """Write ``image`` as the folder ``path``.

    Parameters
    ----------
    image
        Written with the layout that its folder had, where it was read from one.
    path
        Is made.

    Raises
    ------
    OutputError
        For an image with samples that was no Zarr.
    """
    from pairfree.files.formats.zarr_bounds import quiet_and_bounded

    carried = image.metadata.get("zarr")
    if not isinstance(carried, Carried) or carried.kind != (image.shape, image.dtype):
        carried = _lay_out_anew(image)
    derivation = image.metadata.get("derivation", "written with pairfree")
    said = {"derivation": str(derivation), "chunks": ALL_WRITTEN}
    mark = {OURS: said}
    with quiet_and_bounded():
        if carried.group or carried.place:
            _write_group(image, path, carried, mark)
        else:
            _write_array(image, path, carried, mark)


def _write_array(image: Image, path: Path, carried: Carried, mark: Attributes) -> None:
    level = carried.levels[0]
    array = _create_array(str(path), level, carried.zarr_format)
    _fill_array(array, image)
    attributes = level.attributes | mark
    array.attrs.put(attributes)


def _write_group(image: Image, path: Path, carried: Carried, mark: Attributes) -> None:
    import zarr

    zarr_format: Any = carried.zarr_format
    root: Any = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    node = root
    if carried.place:
        node = root.require_group(carried.place)
    finer = None
    for level in carried.levels:
        array = _create_array(node.store_path, level, zarr_format)
        if finer is None:
            _fill_array(array, image)
        else:
            _shrink(finer, array)
        finer = array
    if carried.place:
        node.attrs.put(carried.group)
        root.attrs.put(carried.root | mark)
    else:
        root.attrs.put(carried.group | mark)
    if image.source is not None:
        _copy_beside(image.source, path, carried)


def _copy_beside(source: Path, path: Path, carried: Carried) -> None:
    """What the folder holds beside the image, as it is."""
    series = source / SERIES
    if carried.place and series.is_dir():
        shutil.copytree(series, path / SERIES)
    old_group = source / carried.place
    new_group = path / carried.place
    for name in carried.beside:
        shutil.copytree(old_group / name, new_group / name)


def _create_array(store: Any, level: Level, zarr_format: Any) -> Any:
    """An array like one that was read, with a codec that notices damage."""
    import zarr

    of_format_3 = {}
    if zarr_format == 3:
        of_format_3["serializer"] = level.serializer
        of_format_3["dimension_names"] = level.names
    encoding: Any = level.encoding
    return zarr.create_array(
        store,
        name=level.path or None,
        shape=level.shape,
        dtype=level.dtype,
        chunks=level.chunks,
        shards=level.shards,
        filters=level.filters or None,
        compressors=_with_checksum(level.compressors, zarr_format),
        fill_value=level.fill,
        chunk_key_encoding=encoding,
        attributes=level.attributes,
        zarr_format=zarr_format,
        config={"write_empty_chunks": True},
        overwrite=True,
        **of_format_3,
    )


def _with_checksum(compressors: Sequence[Any], zarr_format: int) -> Sequence[Any]:
    """The compressors of an array, and one that notices a flipped bit where none of them does."""
    if zarr_format == 3:
        from zarr.codecs import Crc32cCodec

        if any(isinstance(one, Crc32cCodec) for one in compressors):
            return compressors
        return (*compressors, Crc32cCodec())
    if any(_has_checksum(one) for one in compressors):
        return compressors
    from numcodecs import Zstd

    return (Zstd(level=3, checksum=True),)


def _has_checksum(codec: Any) -> bool:
    """Whether a codec of Zarr format 2 notices a flipped bit: those with a checksum in their stream."""
    settings = codec.get_config()
    kind = settings["id"]
    if kind == "zstd":
        return bool(settings.get("checksum"))
    return kind in ("zlib", "gzip")


def _parts(array: Any) -> Iterator[Place]:
    """The array in pieces of whole chunks, or shards, up to ``WRITTEN_BYTES``.

    zarr encodes the chunks of a piece at once.
    """
    sides = list(array.shards or array.chunks)
    for axis in reversed(range(len(sides))):
        piece_bytes = math.prod(sides) * array.dtype.itemsize
        room = WRITTEN_BYTES // piece_bytes
        size = array.shape[axis]
        chunks = -(-size // sides[axis])
        factor = min(room, chunks)
        sides[axis] *= max(1, factor)
    return split_into_blocks(array.shape, sides)


def _fill_array(array: Any, image: Image) -> None:
    for part in _parts(array):
        *leading, rows, columns = part
        sizes = [length_of(span) for span in part]
        block = np.empty(sizes, image.dtype)
        for place in np.ndindex(*sizes[:-2]):
            along = zip(leading, place, strict=True)
            index = tuple(span.start + i for span, i in along)
            block[place] = image.region(index, rows, columns)
        array[part] = block


def _shrink(fine: Any, coarse: Any) -> None:
    """Each value of ``coarse`` is the mean of those of ``fine`` that it covers, rounded."""
    edges = []
    for size, length in zip(fine.shape, coarse.shape, strict=True):
        edges.append(find_edges(size, length))
    for part in _parts(coarse):
        wanted = []
        covered = []
        for span, along, size in zip(part, edges, fine.shape, strict=True):
            within = along[span.start : span.stop + 1]
            wanted.append(within)
            covered.append(covered_span(within, size))
        block = np.asarray(fine[tuple(covered)])
        for axis, span in enumerate(covered):
            block = block_means(block, axis, wanted[axis] - span.start)
        coarse[part] = round_to(coarse.dtype, block)


def _lay_out_anew(image: Image) -> Carried:
    """The layout of an image that was no Zarr: one resolution, chunks of a plane."""
    from zarr.codecs import ZstdCodec

    if image.axes.endswith("S"):
        raise OutputError(
            "an image with samples (RGB) cannot be written as OME-Zarr, which has channels; "
            "write TIFF"
        )
    axes = [_describe_axis(number, image) for number in range(len(image.axes))]
    ome: Attributes = {"version": "0.5", "multiscales": [_describe_image(image, axes)]}
    if image.channel_names:
        channels = [{"label": name} for name in image.channel_names]
        ome["omero"] = {"channels": channels}
    of_plane = min(CHUNK_PX, image.height), min(CHUNK_PX, image.width)
    one_plane = (1,) * len(image.leading)
    level = Level(
        path="0",
        shape=image.shape,
        dtype=image.dtype,
        chunks=(*one_plane, *of_plane),
        shards=None,
        fill=0,
        filters=(),
        serializer="auto",
        compressors=(ZstdCodec(level=3, checksum=True),),
        encoding={"name": "default", "separator": "/"},
        names=tuple(axis["name"] for axis in axes),
        attributes={},
    )
    return Carried(3, {}, "", {"ome": ome}, (level,))


def _describe_image(image: Image, axes: list[dict[str, str]]) -> Attributes:
    """OME's words for an image of one resolution."""
    scale = []
    for letter in image.axes:
        step, _ = image.spacing.get(letter, (1.0, ""))
        scale.append(step)
    change = {"type": "scale", "scale": scale}
    dataset = {"path": "0", "coordinateTransformations": [change]}
    return {"axes": axes, "datasets": [dataset]}


def _describe_axis(number: int, image: Image) -> dict[str, str]:
    """Name, type and, where it is known, unit of an axis, as OME has them."""
    letter = image.axes[number]
    name = letter.lower()
    if letter == "Q":
        name = f"q{number}"
    kind = KINDS.get(letter, "space")
    axis = {"name": name, "type": kind}
    if letter in image.spacing:
        _, unit = image.spacing[letter]
        axis["unit"] = UNITS.get(unit, unit)
    return axis
