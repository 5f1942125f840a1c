"""Writing of Zarr folders with the layout that they had; an image of another origin becomes OME-Zarr 0.5.

An image of several resolutions comes back with as many, each made anew from the denoised one before it. Every
chunk is written, also an empty one, under a codec that notices a flipped bit, and the attributes say so: of
such a folder, a missing chunk is an error and not a black square. zarr is imported when a folder is written.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import OutputError
from pairfree.files.formats.pyramid import block_means, find_edges, round_to
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

    Raises
    ------
    OutputError
        For an image with samples that was no Zarr.
    """
    from pairfree.files.formats.zarr_bounds import quiet_and_bounded

    carried = image.metadata.get("zarr")
    if not isinstance(carried, Carried) or carried.kind != (image.shape, image.dtype):
        carried = _lay_out_anew(image)
    derivation = str(image.metadata.get("derivation", "written with pairfree"))
    mark = {OURS: {"derivation": derivation, "chunks": ALL_WRITTEN}}
    with quiet_and_bounded():
        if carried.group or carried.place:
            _write_group(image, path, carried, mark)
        else:
            _write_array(image, path, carried, mark)


def _write_array(image: Image, path: Path, carried: Carried, mark: Attributes) -> None:
    level = carried.levels[0]
    array = _create_array(str(path), level, carried.zarr_format)
    _fill_array(array, image)
    array.attrs.put({**level.attributes, **mark})


def _write_group(image: Image, path: Path, carried: Carried, mark: Attributes) -> None:
    import zarr

    root: Any = zarr.open_group(str(path), mode="w", zarr_format=carried.zarr_format)  # type: ignore[arg-type]
    node = root.require_group(carried.place) if carried.place else root
    finer = None
    for level in carried.levels:
        array = _create_array(node.store_path, level, carried.zarr_format)
        if finer is None:
            _fill_array(array, image)
        else:
            _shrink(finer, array)
        finer = array
    if carried.place:
        node.attrs.put(carried.group)
        root.attrs.put({**carried.root, **mark})
    else:
        root.attrs.put({**carried.group, **mark})
    if image.source is not None:
        _copy_beside(image.source, path, carried)


def _copy_beside(source: Path, path: Path, carried: Carried) -> None:
    """What the folder holds beside the image, as it is."""
    if carried.place and (source / SERIES).is_dir():
        shutil.copytree(source / SERIES, path / SERIES)
    for name in carried.beside:
        shutil.copytree(source / carried.place / name, path / carried.place / name)


def _create_array(store: Any, level: Level, zarr_format: Any) -> Any:
    """An array like one that was read, with a codec that notices damage."""
    import zarr

    of_format_3 = {}
    if zarr_format == 3:
        of_format_3 = {"serializer": level.serializer, "dimension_names": level.names}
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
    words = codec.get_config()
    return words["id"] in ("zlib", "gzip") or (
        words["id"] == "zstd" and bool(words.get("checksum"))
    )


def _parts(array: Any) -> Iterator[Place]:
    """The array in pieces of whole chunks, or shards, up to ``WRITTEN_BYTES``; zarr encodes several at once."""
    sides = list(array.shards or array.chunks)
    for axis in reversed(range(len(sides))):
        room = WRITTEN_BYTES // (math.prod(sides) * array.dtype.itemsize)
        chunks = -(-array.shape[axis] // sides[axis])
        sides[axis] *= max(1, min(room, chunks))
    return split_into_blocks(array.shape, sides)


def _fill_array(array: Any, image: Image) -> None:
    for part in _parts(array):
        *leading, rows, columns = part
        block = np.empty([length_of(span) for span in part], image.dtype)
        for place in np.ndindex(*block.shape[:-2]):
            index = tuple(span.start + i for span, i in zip(leading, place, strict=True))
            block[place] = image.region(index, rows, columns)
        array[part] = block


def _shrink(fine: Any, coarse: Any) -> None:
    """Each value of ``coarse`` is the mean of those of ``fine`` that it covers, rounded."""
    edges = [
        find_edges(size, length) for size, length in zip(fine.shape, coarse.shape, strict=True)
    ]
    for part in _parts(coarse):
        wanted = [
            along[span.start : span.stop + 1] for span, along in zip(part, edges, strict=True)
        ]
        covered = [_covered(along, size) for along, size in zip(wanted, fine.shape, strict=True)]
        block = np.asarray(fine[tuple(covered)])
        for axis, (span, along) in enumerate(zip(covered, wanted, strict=True)):
            block = block_means(block, axis, along - span.start)
        coarse[part] = round_to(coarse.dtype, block)


def _covered(edges: np.ndarray, size: int) -> slice:
    """What blocks with these edges cover of ``size`` pixels, at least one."""
    begin = min(int(edges[0]), size - 1)
    return slice(begin, max(begin + 1, int(edges[-1])))


def _lay_out_anew(image: Image) -> Carried:
    """The layout of an image that was no Zarr: one resolution, chunks of a plane."""
    from zarr.codecs import ZstdCodec

    if image.axes.endswith("S"):
        raise OutputError(
            "an image with samples (RGB) cannot be written as OME-Zarr, which has channels; write TIFF"
        )
    axes = [_describe_axis(number, image) for number in range(len(image.axes))]
    scale = [image.spacing.get(letter, (1.0, ""))[0] for letter in image.axes]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    ome: Attributes = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [dataset]}]}
    if image.channel_names:
        ome["omero"] = {"channels": [{"label": name} for name in image.channel_names]}
    of_plane = min(CHUNK_PX, image.height), min(CHUNK_PX, image.width)
    level = Level(
        path="0",
        shape=image.shape,
        dtype=image.dtype,
        chunks=(*(1,) * len(image.leading), *of_plane),
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


def _describe_axis(number: int, image: Image) -> dict[str, str]:
    """Name, type and, where it is known, unit of an axis, as OME has them."""
    letter = image.axes[number]
    name = f"q{number}" if letter == "Q" else letter.lower()
    axis = {"name": name, "type": KINDS.get(letter, "space")}
    if letter in image.spacing:
        _, unit = image.spacing[letter]
        axis["unit"] = UNITS.get(unit, unit)
    return axis
