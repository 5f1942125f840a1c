"""The container of Zeiss' CZI files: its directory of subblocks, its metadata, its stored pixels.

After Zeiss' "ZISRAW (CZI) File Format" specification. Nothing is decoded beyond the size that a
subblock declares.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.codec_headers import XR_MARK, is_whole_jpeg_xr, size_of_xr_stream
from pairfree.files.formats.quiet import quiet_library
from pairfree.files.formats.tiff_codecs import decompress
from pairfree.files.image import DType
from pairfree.files.limits import JPEG, LZW, UNCOMPRESSED, ZSTD
from pairfree.files.messages import reason, shown

SEGMENT = struct.Struct("<16sqq")
"""Head of every segment: name, bytes allocated, bytes used."""
FILE = struct.Struct("<48xiqqiq")
"""The first segment's content behind its head: file part, directory, metadata, ..."""
SUBBLOCK = struct.Struct("<iiq")
"""Bytes of a subblock's metadata, attachment and pixels."""
ENTRY = struct.Struct("<2siqiiB5xi")
"""Of the directory: schema, pixel type, place, file part, compression, pyramid, dimensions."""
DIMENSION = struct.Struct("<4siifi")
"""Of an entry: name, start, size, coordinate, stored size."""
LEAST_ENTRY = 240
"""Bytes that are kept free for the entry of a subblock."""
MOST_DIMENSIONS = 40
PIXEL_TYPES: dict[int, tuple[str, int]] = {
    0: ("uint8", 1),
    1: ("uint16", 1),
    2: ("float32", 1),
    3: ("uint8", 3),
    4: ("uint16", 3),
    8: ("float32", 3),
    9: ("uint8", 4),
    12: ("int32", 1),
    13: ("float64", 1),
}
"""Type and samples a pixel, by the codes of the specification."""
RAW, PACKED_LZW, JPEG_XR, ZSTD_0, ZSTD_1 = 0, 2, 4, 5, 6
RATIOS = {
    RAW: UNCOMPRESSED,
    PACKED_LZW: LZW,
    JPEG_XR: JPEG,
    ZSTD_0: ZSTD,
    ZSTD_1: ZSTD,
}
"""Largest ratio of decoded to stored bytes, by the codes of compression that can be read."""


@dataclass(frozen=True)
class Subblock:
    """A part of a plane, as the directory declares it."""

    place: int
    """Of its segment, bytes."""
    pixel_type: int
    compression: int
    start: dict[str, int]
    """First place along each dimension, by its letter."""
    size: dict[str, int]
    """Places along each dimension."""
    stored: dict[str, int]
    """Pixels that are stored along each dimension: fewer in a lower resolution."""

    @property
    def full(self) -> bool:
        """Whether it has the full resolution."""
        return all(self.stored[axis] == self.size[axis] for axis in "XY")


@dataclass(frozen=True)
class Directory:
    """Where things lie in a file."""

    subblocks: list[Subblock]
    metadata: int
    """Place of the segment with the XML; 0 for none."""


def read_directory(file: BinaryIO, path: Path) -> Directory:
    """All subblocks that a file declares.

    Parameters
    ----------
    file
        Open for reading.
    path
        Of the file, for messages.

    Raises
    ------
    InputError
        For other files, and for damaged ones.
    """
    name, content = _read_segment(file, 0, FILE.size)
    if name != b"ZISRAWFILE":
        raise InputError(f"{shown(path)}: is no CZI file; its name should end otherwise")
    part, directory, metadata, _, _ = FILE.unpack(content)
    if part != 0:
        raise InputError(
            f"{shown(path)}: is part {part} of a set of files; export it as a single file"
        )
    name, content = _read_segment(file, directory)
    if directory <= 0 or name != b"ZISRAWDIRECTORY" or len(content) < 128:
        raise InputError(
            f"{shown(path)}: has no directory of its planes, it was not written completely; "
            "copy or export it again"
        )
    (count,) = struct.unpack_from("<i", content)
    at, found = 128, []
    for _ in range(count):
        one, at = _parse_entry(content, at, path)
        found.append(one)
    return Directory(found, metadata)


def _read_segment(file: BinaryIO, place: int, most: int = -1) -> tuple[bytes, bytes]:
    """Name and content of the segment at ``place``; empty where there is none."""
    file.seek(max(place, 0))
    head = file.read(SEGMENT.size)
    if len(head) < SEGMENT.size:
        return b"", b""
    name, allocated, used = SEGMENT.unpack(head)
    size = used if used > 0 else allocated
    here = file.tell()
    left = file.seek(0, os.SEEK_END) - here
    file.seek(here)
    content = file.read(min(max(size, 0) if most < 0 else most, left))
    return name.rstrip(b"\0"), content


def _parse_entry(content: bytes, at: int, path: Path) -> tuple[Subblock, int]:
    """One entry of the directory, and where the next one begins."""
    damaged = InputError(
        f"{shown(path)}: the directory of its planes is damaged at byte {at}; "
        "copy or export it again"
    )
    if at + ENTRY.size > len(content):
        raise damaged
    schema, pixel_type, place, part, compression, _, dimensions = ENTRY.unpack_from(content, at)
    at += ENTRY.size
    stop = at + dimensions * DIMENSION.size
    if schema != b"DV" or part != 0 or not 0 < dimensions <= MOST_DIMENSIONS:
        raise damaged
    if stop > len(content):
        raise damaged
    start, size, stored = {}, {}, {}
    for name, first, places, _, pixels in DIMENSION.iter_unpack(content[at:stop]):
        axis = name.rstrip(b"\0").decode("ascii", "replace")
        start[axis], size[axis] = first, places
        stored[axis] = pixels or places
    if not {"X", "Y"} <= size.keys() or min(size.values()) < 1 or min(stored.values()) < 1:
        raise damaged
    return Subblock(place, pixel_type, compression, start, size, stored), stop


def read_metadata(file: BinaryIO, place: int) -> bytes:
    """The XML of a file; empty where it has none."""
    name, content = _read_segment(file, place)
    if place <= 0 or name != b"ZISRAWMETADATA" or len(content) < 256:
        return b""
    (size,) = struct.unpack_from("<i", content)
    return content[256 : 256 + max(size, 0)]


def layout_of(block: Subblock, path: Path) -> tuple[DType, int]:
    """Type of a subblock's pixels, and samples of each.

    Raises
    ------
    InputError
        For pixels and compressions that cannot be read.
    """
    if block.pixel_type not in PIXEL_TYPES:
        raise InputError(
            f"{shown(path)}: pixel type {block.pixel_type} of CZI is not supported; "
            "export it as 8-bit, 16-bit or float"
        )
    if block.compression not in RATIOS:
        raise InputError(
            f"{shown(path)}: compression {block.compression} of CZI is not supported; "
            "export it uncompressed or with Zstd"
        )
    name, samples = PIXEL_TYPES[block.pixel_type]
    return np.dtype(name), samples


def read_subblock(file: BinaryIO, block: Subblock, path: Path) -> np.ndarray:
    """Pixels of a subblock of full resolution.

    Parameters
    ----------
    file
        Open for reading.
    block
        Whose ``layout_of`` is known to be supported.
    path
        Of the file, for messages.

    Returns
    -------
    ndarray
        (h, w) or (h, w, S), red first.

    Raises
    ------
    InputError
        Where the file does not hold what it declares.
    """
    dtype, samples = layout_of(block, path)
    shape = (block.size["Y"], block.size["X"], samples)
    bound = math.prod(shape) * dtype.itemsize
    data = _read_data(file, block)
    try:
        if bound > len(data) * RATIOS[block.compression] + 4096:
            raise ValueError(f"{len(data)} bytes are stored of {bound}")
        pixels = _decode(block.compression, data, shape, dtype)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like on damaged data
        raise InputError(
            f"{shown(path)}: the subblock at byte {block.place} cannot be decoded ({reason(error)}); "
            "copy or export the file again"
        ) from error
    return pixels if samples > 1 else pixels[..., 0]


def _read_data(file: BinaryIO, block: Subblock) -> bytes:
    """The stored pixels of a subblock; empty where it is none."""
    file.seek(max(block.place, 0))
    head = file.read(SEGMENT.size + SUBBLOCK.size + ENTRY.size)
    if len(head) < SEGMENT.size + SUBBLOCK.size + ENTRY.size:
        return b""
    name, *_ = SEGMENT.unpack_from(head)
    metadata, _, size = SUBBLOCK.unpack_from(head, SEGMENT.size)
    *_, dimensions = ENTRY.unpack_from(head, SEGMENT.size + SUBBLOCK.size)
    sound = metadata >= 0 and size >= 0 and 0 <= dimensions <= MOST_DIMENSIONS
    if name.rstrip(b"\0") != b"ZISRAWSUBBLOCK" or not sound:
        return b""
    entry = max(ENTRY.size + dimensions * DIMENSION.size, LEAST_ENTRY)
    file.seek(block.place + SEGMENT.size + SUBBLOCK.size + entry + metadata)
    return file.read(size)


def _decode(compression: int, data: bytes, shape: tuple[int, int, int], dtype: DType) -> np.ndarray:
    """(h, w, S) pixels out of stored bytes."""
    if compression == JPEG_XR:
        return _decode_jpeg_xr(data, shape, dtype)
    bound = math.prod(shape) * dtype.itemsize
    raw = data
    if compression == PACKED_LZW:
        raw = bytes(decompress(5, data, bound))
    elif compression == ZSTD_0:
        raw = bytes(decompress(50000, data, bound))
    elif compression == ZSTD_1:
        raw = _undo_zstd_1(data, bound)
    if len(raw) < bound:
        raise ValueError(f"{len(raw)} bytes of {bound}")
    values = np.frombuffer(raw, dtype.newbyteorder("<"), math.prod(shape))
    pixels = values.reshape(shape).astype(dtype)
    if shape[-1] > 1:  # blue first, in the file
        pixels[..., :3] = pixels[..., 2::-1].copy()
    return pixels


def _undo_zstd_1(data: bytes, bound: int) -> bytes:
    """Zstandard behind a head, which may say that low bytes of all values come before the high ones."""
    head = data[0]
    apart = head >= 3 and data[1] == 1 and bool(data[2] & 1)
    raw = bytes(decompress(50000, data[head:], bound))
    if not apart:
        return raw
    halves = np.frombuffer(raw, np.uint8).reshape(2, -1)
    return halves.T.tobytes()


def _decode_jpeg_xr(data: bytes, shape: tuple[int, int, int], dtype: DType) -> np.ndarray:
    """The decoder makes what the data declare, so that this is compared before."""
    import imagecodecs

    place = data.find(XR_MARK)
    if place < 0:
        raise ValueError("no JPEG XR data")
    while place >= 0:
        size = size_of_xr_stream(data[place : place + 20])
        if size != shape[:2]:
            raise ValueError(f"a picture of size {size}, {shape[:2]} expected")
        place = data.find(XR_MARK, place + 1)
    if not is_whole_jpeg_xr(data):
        raise ValueError("a picture whose end is missing")
    with quiet_library():
        decoded = np.asarray(imagecodecs.jpegxr_decode(data))
    return decoded.reshape(shape).astype(dtype, casting="safe")
