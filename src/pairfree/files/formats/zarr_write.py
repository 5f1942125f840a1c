"""Writing of Zarr images with the layout that they had; other images become OME-Zarr 0.5.

An image of several resolutions comes back with as many, each made anew from the denoised one before it. Every
chunk is written, also an empty one, and the attributes say so: of such an image, a missing chunk is an error
and not a black square. Flipped bits are noticed: in format 3 by a codec, in format 2, whose readers know few
codecs, by checksums in a file beside the chunks. zarr is imported when an image is written.
"""

from __future__ import annotations

import json
import math
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import OutputError
from pairfree.files.atomic import require_space, temporary_name
from pairfree.files.formats.pyramid import block_means, covered_span, find_edges, round_to
from pairfree.files.formats.zarr_beside import bytes_beside, copy_beside
from pairfree.files.formats.zarr_files import (
    ARRAY,
    ATTRIBUTES,
    CONSOLIDATED,
    GROUP,
    OF_FORMAT_3,
    SUMS,
    FolderFiles,
)
from pairfree.files.formats.zarr_images import OME_GROUP, OME_XML
from pairfree.files.formats.zarr_internals import name_of_chunk
from pairfree.files.formats.zarr_layout import (
    ALL_WRITTEN,
    OURS,
    Attributes,
    Carried,
    Level,
    describe_new_level,
    with_checksum,
)
from pairfree.files.image import Image
from pairfree.files.spans import Place, count_chunks, length_of, split_into_blocks
from pairfree.files.wide_integers import type_in_file

WRITTEN_BYTES = 2**24
"""Of an array, written at a time."""
CHUNK_PX = 512
IN_ARCHIVE = 2
"""Copies of what is written to an archive: one in a folder before."""
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


def write_zarr(image: Image, path: Path) -> None:
    """Write ``image`` as the folder ``path``.

    Parameters
    ----------
    image
        Written with the layout that it had, where it was read from a Zarr.
    path
        Is made.

    Raises
    ------
    OutputError
        For an image with samples that was no Zarr.
    """
    from pairfree.files.formats.zarr_bounds import quiet_and_bounded

    carried = _layout_of(image) or _lay_out_anew(image)
    derivation = image.metadata.get("derivation", "written with pairfree")
    said = {"derivation": str(derivation), "chunks": ALL_WRITTEN}
    mark = {OURS: said}
    path.mkdir()
    with quiet_and_bounded():
        for number, name in enumerate(sorted(carried.groups)):
            attributes = carried.groups[name]
            _write_group(
                path / name, carried.zarr_format, attributes if number else attributes | mark
            )
        _write_arrays(image, path, carried, {} if carried.groups else mark)
        if carried.files is not None:
            copy_beside(carried.files, carried.beside, path)
        if carried.ome_xml:
            _write_ome_xml(path, carried)
        for name in carried.consolidated:
            _consolidate(path, name, carried.zarr_format)


def _layout_of(image: Image) -> Carried | None:
    """The layout that an image had; None for one that was no Zarr, or another image."""
    carried = image.metadata.get("zarr")
    if isinstance(carried, Carried) and carried.kind == (image.shape, type_in_file(image)):
        return carried
    return None


def rehearse_zarr(image: Image, path: Path) -> None:
    """Look at what lies beside an image before a pixel is computed.

    Parameters
    ----------
    image
        As it will be written.
    path
        Of the output.

    Raises
    ------
    InputError
        For a link in the place of a chunk beside the image.
    OutputError
        Where there is no space for what lies beside it.
    """
    carried = _layout_of(image)
    if carried is None or carried.files is None or not carried.files.has_links:
        return
    copies = IN_ARCHIVE if image.family == "ozx" else 1
    n_bytes = copies * bytes_beside(carried.files, carried.beside)
    if n_bytes:
        require_space(path.parent, n_bytes)


def write_zipped_zarr(image: Image, path: Path) -> None:
    """Write ``image`` as a zip archive: not compressed, as its chunks are, and metadata first.

    Parameters
    ----------
    image, path
        As of ``write_zarr``.
    """
    folder = temporary_name(path)
    try:
        write_zarr(image, folder)
        names = sorted(FolderFiles(folder).below(""), key=_order_in_archive)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            carried = image.metadata.get("zarr")
            archive.comment = carried.comment if isinstance(carried, Carried) else b""
            for name in names:
                _add_member(archive, folder / name, name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _add_member(archive: zipfile.ZipFile, file: Path, name: str) -> None:
    """Without the time, so that the same image makes the same archive."""
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o644 << 16
    with file.open("rb") as source, archive.open(member, "w", force_zip64=True) as target:
        shutil.copyfileobj(source, target)


def _order_in_archive(name: str) -> tuple[bool, int, str]:
    """Metadata first, those of the whole before those of its parts."""
    is_metadata = name.rpartition("/")[2] in (OF_FORMAT_3, GROUP, ATTRIBUTES, ARRAY, CONSOLIDATED)
    return not is_metadata, name.count("/"), name


def _write_json(path: Path, words: Attributes) -> None:
    path.write_text(json.dumps(words, indent=2), encoding="utf-8")


def _write_group(folder: Path, zarr_format: int, attributes: Attributes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if zarr_format == 3:
        words = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        _write_json(folder / OF_FORMAT_3, words)
        return
    _write_json(folder / GROUP, {"zarr_format": 2})
    if attributes:
        _write_json(folder / ATTRIBUTES, attributes)


def _write_ome_xml(path: Path, carried: Carried) -> None:
    """Where bioformats2raw puts it, unless the image has something there itself."""
    target = path / OME_XML
    if not target.exists():
        _write_group(path / OME_GROUP, carried.zarr_format, {})
        target.write_bytes(carried.ome_xml)


def _write_arrays(image: Image, path: Path, carried: Carried, mark: Attributes) -> None:
    """All resolutions, each made of the one before it."""
    finer = None
    for level in carried.levels:
        folder = path / carried.place / level.path
        array = _make_array(folder, level, carried.zarr_format, mark)
        if finer is None:
            _fill_array(array, image)
        else:
            _shrink(finer, array)
        finer = array
        if carried.zarr_format == 2:
            _write_sums(folder, array)


def _make_array(folder: Path, level: Level, zarr_format: int, mark: Attributes) -> Any:
    """An array with the metadata of one that was read."""
    import zarr

    folder.mkdir(parents=True, exist_ok=True)
    attributes = level.attributes | mark
    if zarr_format == 3:
        metadata = with_checksum(level.metadata)
        _write_json(folder / OF_FORMAT_3, metadata | {"attributes": attributes})
    else:
        _write_json(folder / ARRAY, level.metadata)
        if attributes:
            _write_json(folder / ATTRIBUTES, attributes)
    format_of_array: Any = zarr_format
    with zarr.config.set({"array.write_empty_chunks": True}):
        return zarr.open_array(str(folder), mode="r+", zarr_format=format_of_array)


def _write_sums(folder: Path, array: Any) -> None:
    """Checksums of the files of all chunks."""
    grid = count_chunks(array.shape, array.chunks)
    sums = np.empty(grid, "<u4")
    for number in np.ndindex(*grid):
        stored = (folder / name_of_chunk(array, number)).read_bytes()
        sums[number] = zlib.crc32(stored)
    (folder / SUMS).write_bytes(sums.tobytes())


def _consolidate(path: Path, name: str, zarr_format: int) -> None:
    """A copy of the metadata of all that lies in a group, where its readers look for it."""
    if zarr_format == 3:
        import zarr

        zarr.consolidate_metadata(str(path / name), zarr_format=3)
        return
    files = FolderFiles(path / name)
    found = {}
    for file in files.below(""):
        if file.rpartition("/")[2] in (ARRAY, GROUP, ATTRIBUTES):
            found[file] = files.read_json(file)
    words = {"metadata": found, "zarr_consolidated_format": 1}
    _write_json(path / name / CONSOLIDATED, words)


def parts_of(array: Any) -> Iterator[Place]:
    """An array of zarr's in pieces of whole chunks, or shards, up to ``WRITTEN_BYTES``.

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
    for part in parts_of(array):
        *leading, rows, columns = part
        sizes = [length_of(span) for span in part]
        block = np.empty(sizes, image.dtype)
        for place in np.ndindex(*sizes[:-2]):
            along = zip(leading, place, strict=True)
            index = tuple(span.start + i for span, i in along)
            block[place] = image.region(index, rows, columns)
        array[part] = block


def _shrink(fine: Any, coarse: Any) -> None:
    for part in parts_of(coarse):
        coarse[part] = shrunk_part(fine, coarse, part)


def shrunk_part(fine: Any, coarse: Any, part: Place) -> np.ndarray:
    """A part of ``coarse`` made anew: each value is the mean of those of ``fine`` that it covers, rounded.

    Parameters
    ----------
    fine, coarse
        Arrays of zarr's: a resolution and the next lower one.
    part
        Of ``coarse``.
    """
    wanted = []
    covered = []
    for span, size, length in zip(part, fine.shape, coarse.shape, strict=True):
        edges = find_edges(size, length)
        within = edges[span.start : span.stop + 1]
        wanted.append(within)
        covered.append(covered_span(within, size))
    block = np.asarray(fine[tuple(covered)])
    for axis, span in enumerate(covered):
        block = block_means(block, axis, wanted[axis] - span.start)
    return round_to(coarse.dtype, block)


def _lay_out_anew(image: Image) -> Carried:
    """The layout of an image that was no Zarr: one resolution, chunks of a plane."""
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
    level = describe_new_level(
        image.shape, image.dtype, (*one_plane, *of_plane), [axis["name"] for axis in axes]
    )
    return Carried(3, {"": {"ome": ome}}, "", (level,))


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
