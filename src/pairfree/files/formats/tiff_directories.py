"""The chain of image file directories in a TIFF, walked before tifffile sees the file."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

from pairfree.errors import InputError
from pairfree.files.limits import Limits, check_pages
from pairfree.files.messages import shown
from pairfree.files.spans import length_of

DESCRIPTION_TAG, COLOURS_TAG = 270, 320
"""ImageDescription and ColorMap."""
FORMAT_OF_SLIDE = 65420
"""Code of a tag of Hamamatsu's slides."""
OF_HAMAMATSU = {271, FORMAT_OF_SLIDE}
"""Codes of tags that tell them: the maker, and the file's format."""
FIRST_TILES = {65426: 2**16, 65432: 0}
"""Codes of the tags that list where its tiles begin within the JPEG of a page: McuStarts (the lower 4 bytes)
and McuStartsHighBytes; and the most that the first may be.
"""
LONG = 4
"""Type of values: whole numbers of 4 bytes."""
Entry = tuple[int, int, int, int]
"""Code, type, number of values, and the values or their place."""


@dataclass(frozen=True)
class Kind:
    """How numbers are stored."""

    byteorder: str
    big: bool
    """Of 8 bytes where others have 4."""
    wide_places: bool = False
    """Hamamatsu's own: places of directories have 8 bytes, and the upper 4 bytes of what entries hold follow
    behind each directory."""

    @cached_property
    def count(self) -> struct.Struct:
        """Number of entries, at the beginning of a directory."""
        return struct.Struct(self.byteorder + ("Q" if self.big else "H"))

    @cached_property
    def offset(self) -> struct.Struct:
        """Place of a directory; 0 after the last one."""
        is_wide = self.big or self.wide_places
        return struct.Struct(self.byteorder + ("Q" if is_wide else "I"))

    @cached_property
    def entry(self) -> struct.Struct:
        """Code, type, number of values, and the values or their place."""
        return struct.Struct(self.byteorder + ("HHQQ" if self.big else "HHII"))


KINDS = {
    b"II*\0": Kind("<", False),
    b"MM\0*": Kind(">", False),
    b"II+\0": Kind("<", True),
    b"MM\0+": Kind(">", True),
}
NDPI = ".ndpi"
"""Suffix of Hamamatsu's slides, which begin as a TIFF of 32 bits and have places of 64."""


def count_pages(path: Path, limits: Limits) -> int:
    """Number of pages in the chain of image file directories.

    Parameters
    ----------
    path
        The file.
    limits
        How many pages it may have.

    Raises
    ------
    InputError
        For no TIFF, a loop, a broken chain, or too many.
    """
    with path.open("rb") as file:
        head = file.read(16)
        kind = KINDS.get(head[:4])
        if path.suffix.lower() == NDPI and kind == KINDS[b"II*\0"]:
            kind = replace(kind, wide_places=True)
        if kind is not None and len(head) < 16:
            raise InputError(
                f"{shown(path)}: truncated TIFF, it has {len(head)} bytes; copy or export it again"
            )
        if kind is None:
            raise InputError(
                f"{shown(path)}: is no TIFF file (it begins with {head[:4]!r}); "
                "copy it again, or give it the suffix of its format"
            )
        return _walk(file, path, limits, kind)


def _walk(file: BinaryIO, path: Path, limits: Limits, kind: Kind) -> int:
    size = os.fstat(file.fileno()).st_size
    offset = _number_at(file, 8 if kind.big else 4, kind.offset)
    of_slide = struct.pack(kind.byteorder + "H", FORMAT_OF_SLIDE)
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise InputError(
                f"{shown(path)}: damaged TIFF, page {len(seen)} points back to an earlier page; "
                "export it again"
            )
        seen.add(offset)
        check_pages(path, len(seen), limits)
        span = _span_of_entries(file, size, offset, kind)
        if span is None:
            raise InputError(
                f"{shown(path)}: truncated TIFF, the directory of page {len(seen)} "
                "lies beyond the end; copy or export it again"
            )
        raw = _bytes_at(file, span)
        if len(seen) == 1:
            _check_description(_unpack_entries(raw, file, span.stop, kind), kind, size, path)
        if of_slide in raw:  # most are of none, and each of many pages takes its time
            where = f"{shown(path)}: damaged slide, page {len(seen)}"
            _check_first_tile(_unpack_entries(raw, file, span.stop, kind), kind, file, where)
        offset = _number_at(file, span.stop, kind.offset)
    if not seen:
        raise InputError(f"{shown(path)}: TIFF without any page; was it written completely?")
    return len(seen)


def _number_at(file: BinaryIO, place: int, kind: struct.Struct) -> int:
    """The number at a place; struct.error where the file has become shorter meanwhile."""
    file.seek(place)
    (number,) = kind.unpack(file.read(kind.size))
    return int(number)


def _span_of_entries(file: BinaryIO, size: int, offset: int, kind: Kind) -> slice | None:
    """Where the entries of a directory lie; None where it ends beyond the file of so many bytes."""
    start = offset + kind.count.size
    if start > size:
        return None
    entries = _number_at(file, offset, kind.count)
    end = start + entries * kind.entry.size
    behind = kind.offset.size + (4 * entries if kind.wide_places else 0)
    if end + behind > size:
        return None
    return slice(start, end)


def _bytes_at(file: BinaryIO, span: slice) -> bytes:
    file.seek(span.start)
    return file.read(length_of(span))


def _unpack_entries(raw: bytes, file: BinaryIO, end: int, kind: Kind) -> list[Entry]:
    """Entries of a directory whose bytes end there, each with its whole value or place."""
    found = list(kind.entry.iter_unpack(raw))
    if not kind.wide_places:
        return found
    start = end + kind.offset.size
    behind = _bytes_at(file, slice(start, start + 4 * len(found)))
    upper = struct.unpack(f"<{len(found)}I", behind)
    return [
        (code, of_type, count, value | high << 32)
        for (code, of_type, count, value), high in zip(found, upper, strict=True)
    ]


def _check_description(entries: list[Entry], kind: Kind, file_size: int, path: Path) -> None:
    """InputError when the text that describes the file lies beyond its end.

    Pixel size and axes would be lost without a word.
    """
    inside = 8 if kind.big else 4
    for code, _, length, place in entries:
        if code == DESCRIPTION_TAG and length > inside and place + length > file_size:
            raise InputError(
                f"{shown(path)}: truncated TIFF, its description lies beyond the end; "
                "copy or export it again"
            )


def _check_first_tile(entries: list[Entry], kind: Kind, file: BinaryIO, where: str) -> None:
    """InputError when the tiles of a page of Hamamatsu's are no list, or begin too far within its JPEG.

    tifffile reads all that stands before the first.
    """
    if not {code for code, *_ in entries} >= OF_HAMAMATSU:
        return
    order: Literal["little", "big"] = "little" if kind.byteorder == "<" else "big"
    for code, of_type, count, place in entries:
        if code not in FIRST_TILES:
            continue
        first = _bytes_at(file, slice(place, place + 4))
        is_list = of_type == LONG and count > 2 and len(first) == 4
        if not is_list or int.from_bytes(first, order) > FIRST_TILES[code]:
            raise InputError(
                f"{where} does not say where its tiles begin (tag {code}); copy or export it again"
            )
