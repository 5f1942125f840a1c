"""Chunks of PNG files, walked and checked before anything is decoded.

Sizes, checksums, and what the pixel stream inflates to are looked at, so that a bomb stops at its
declared size. Ancillary chunks (density, text, colour profile, EXIF) are kept byte for byte.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.image import Spacing
from pairfree.files.limits import DEFLATE, Limits, check_declared
from pairfree.files.messages import shown

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Values of a pixel by colour type."""
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits of a value by colour type."""
KEPT = (
    b"pHYs",
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"iCCP",
    b"eXIf",
    b"tIME",
    b"sBIT",
    b"sCAL",
    b"pCAL",
    b"oFFs",
    b"sTER",
    b"cICP",
    b"mDCV",
    b"cLLI",
)
"""Names of the chunks that are written back."""
COARSEST_PIXEL_UM = 20.0
"""A finer density than this is a pixel size.

A coarser one (72, 96, 300 dpi: 350 to 85 µm) is how large to print the picture.
"""
HEADER_BYTES = 13
BEFORE_CHUNKS_BYTES = 33
"""Signature and header of a file: after them is a valid place for every kept chunk."""
INFLATED_BYTES = 2**20
"""Of pixels, held at a time."""
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Passes of an interlaced file: x, y, step along x, step along y."""
Chunk = tuple[bytes, bytes]
"""Name and content."""


@dataclass(frozen=True)
class Header:
    """What a file says first."""

    width: int
    height: int
    depth: int
    """Bits of a value."""
    colour: int
    """Colour type: 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA."""
    interlaced: bool

    @property
    def stream_bytes(self) -> int:
        """Length of the inflated pixel stream: rows with their filter byte, of each pass."""
        if not self.interlaced:
            return self._pass_bytes(self.height, self.width)
        total = 0
        for x, y, step_x, step_y in ADAM7:
            columns = -(-(self.width - x) // step_x)
            rows = -(-(self.height - y) // step_y)
            if columns > 0 and rows > 0:
                total += self._pass_bytes(rows, columns)
        return total

    def _pass_bytes(self, rows: int, columns: int) -> int:
        bits = columns * self.depth * SAMPLES[self.colour]
        return rows * (1 + (bits + 7) // 8)


@dataclass
class Scan:
    """What a walk over the chunks found."""

    header: Header
    kept: list[Chunk] = field(default_factory=list)
    """Chunks that a result gives back."""
    transparent: bool = False
    """One colour, or some of a palette, are transparent."""
    animated: bool = False
    warnings: list[str] = field(default_factory=list)


def scan_chunks(data: bytes, path: Path, limits: Limits) -> Scan:
    """Walk and check all chunks; inflate the pixel stream without keeping it.

    Parameters
    ----------
    data
        The whole file.
    path
        Its name, for messages.
    limits
        What it may declare.

    Raises
    ------
    InputError
        For what is no PNG, is cut off, damaged, or larger than it says.
    """
    if not data.startswith(SIGNATURE):
        raise InputError(
            f"{shown(path)}: is no PNG file (it begins with {data[:8]!r}); "
            "give it the suffix of its real format"
        )
    scan: Scan | None = None
    inflater = zlib.decompressobj()
    produced = 0
    for name, content in _walk(data, path):
        if scan is None:
            header = _first_chunk(name, content, path)
            _check_size(header, path, limits, len(data))
            scan = Scan(header)
        elif name == b"IDAT":
            room = scan.header.stream_bytes - produced
            produced += _inflated(inflater, content, room, path)
        elif name in KEPT or _may_be_copied(name):
            scan.kept.append((name, bytes(content)))
        elif name == b"tRNS":
            scan.transparent = True
        elif name == b"acTL":
            scan.animated = True
        elif name[:1].islower():
            scan.warnings.append(f"chunk {shown(name.decode('latin-1'))} is left out")
    if scan is None or produced < scan.header.stream_bytes:
        raise InputError(
            f"{shown(path)}: truncated PNG, pixel data end early ({produced} bytes); "
            "copy or export it again"
        )
    return scan


def _walk(data: bytes, path: Path) -> Iterator[tuple[bytes, memoryview]]:
    """(name, content) of each chunk up to IEND.

    InputError where a chunk is cut off or its checksum is wrong.
    """
    view = memoryview(data)
    at = len(SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise InputError(
                f"{shown(path)}: truncated PNG, it ends without an end mark; copy or export it again"
            )
        length, name = struct.unpack_from(">I4s", data, at)
        named = shown(name.decode("latin-1"))
        begin = at + 8
        end = begin + length
        if end + 4 > len(data):
            raise InputError(
                f"{shown(path)}: truncated PNG, chunk {named} is cut off; copy or export it again"
            )
        (checksum,) = struct.unpack_from(">I", data, end)
        if checksum != zlib.crc32(view[at + 4 : end]):
            raise InputError(
                f"{shown(path)}: damaged PNG, wrong checksum in chunk {named}; "
                "copy or export it again"
            )
        yield name, view[begin:end]
        if name == b"IEND":
            return
        at = end + 4


def _first_chunk(name: bytes, content: memoryview, path: Path) -> Header:
    if name != b"IHDR":
        raise InputError(
            f"{shown(path)}: damaged PNG, its first chunk is not the header; export it again"
        )
    if len(content) != HEADER_BYTES:
        raise InputError(
            f"{shown(path)}: damaged PNG header ({len(content)} bytes, expected {HEADER_BYTES}); "
            "export it again"
        )
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", content)
    if colour not in SAMPLES or depth not in DEPTHS[colour] or interlace > 1:
        raise InputError(
            f"{shown(path)}: damaged PNG header "
            f"(colour type {colour}, {depth} bits, interlace {interlace}); export it again"
        )
    return Header(width, height, depth, colour, interlace == 1)


def _check_size(header: Header, path: Path, limits: Limits, file_size: int) -> None:
    shape = (header.height, header.width, SAMPLES[header.colour])
    dtype = np.dtype(np.uint16 if header.depth == 16 else np.uint8)
    ratio = DEFLATE * 8 / min(header.depth, 8)
    check_declared(path, shape, dtype, limits, file_size, ratio)


def _inflated(inflater: Any, content: memoryview, room: int, path: Path) -> int:
    """Bytes that ``content`` inflates to, at most ``room``; InputError beyond."""
    produced = 0
    pending = bytes(content)
    while pending:
        piece = inflater.decompress(pending, INFLATED_BYTES)
        produced += len(piece)
        if produced > room:
            raise InputError(
                f"{shown(path)}: damaged PNG, pixel data inflate beyond the declared size; "
                "export it again"
            )
        pending = inflater.unconsumed_tail
        if not piece and inflater.eof:
            break
    return produced


def density_spacing(chunks: Sequence[Chunk]) -> Spacing:
    """Pixel size in µm from pHYs where it is fine enough to be one."""
    for name, content in chunks:
        if name != b"pHYs" or len(content) != 9:
            continue
        x, y, unit = struct.unpack(">IIB", content)
        if unit != 1 or x == 0 or y == 0:
            continue
        width = 1e6 / x
        height = 1e6 / y
        if max(width, height) <= COARSEST_PIXEL_UM:
            return {"Y": (height, "µm"), "X": (width, "µm")}
    return {}


def density_chunk(x: int, y: int) -> Chunk:
    """The chunk of a density in pixels per metre."""
    return b"pHYs", struct.pack(">IIB", x, y, 1)


def _may_be_copied(name: bytes) -> bool:
    """Whether a chunk that is not known says that it stays true whatever becomes of the pixels."""
    ancillary, private, _, safe_to_copy = [bytes([letter]).islower() for letter in name]
    return ancillary and private and safe_to_copy


def insert_chunks(encoded: bytes, chunks: Sequence[Chunk]) -> bytes:
    """A PNG file with more chunks, before its palette and its pixels."""
    parts = [encoded[:BEFORE_CHUNKS_BYTES]]
    for name, content in chunks:
        length = struct.pack(">I", len(content))
        checksum = struct.pack(">I", zlib.crc32(name + content))
        parts += [length, name, content, checksum]
    parts.append(encoded[BEFORE_CHUNKS_BYTES:])
    return b"".join(parts)
