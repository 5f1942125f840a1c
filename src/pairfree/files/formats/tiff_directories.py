"""The chain of image file directories in a TIFF, walked before tifffile sees the file."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from pairfree.errors import InputError
from pairfree.files.limits import Limits, check_pages
from pairfree.files.messages import shown
from pairfree.files.spans import length_of

DESCRIPTION_TAG, COLOURS_TAG = 270, 320
"""ImageDescription and ColorMap."""


@dataclass(frozen=True)
class Kind:
    """How numbers are stored."""

    byteorder: str
    big: bool
    """Of 8 bytes where others have 4."""

    @cached_property
    def count(self) -> struct.Struct:
        """Number of entries, at the beginning of a directory."""
        return struct.Struct(self.byteorder + ("Q" if self.big else "H"))

    @cached_property
    def offset(self) -> struct.Struct:
        """Place of a directory; 0 after the last one."""
        return struct.Struct(self.byteorder + ("Q" if self.big else "I"))

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
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise InputError(
                f"{shown(path)}: damaged TIFF, page {len(seen)} points back to an earlier page; "
                "export it again"
            )
        seen.add(offset)
        check_pages(path, len(seen), limits)
        entries = _span_of_entries(file, size, offset, kind)
        if entries is None:
            raise InputError(
                f"{shown(path)}: truncated TIFF, the directory of page {len(seen)} "
                "lies beyond the end; copy or export it again"
            )
        if len(seen) == 1:
            file.seek(entries.start)
            first = file.read(length_of(entries))
            _check_description(first, kind, size, path)
        offset = _number_at(file, entries.stop, kind.offset)
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
    if end + kind.offset.size > size:
        return None
    return slice(start, end)


def _check_description(entries: bytes, kind: Kind, file_size: int, path: Path) -> None:
    """InputError when the text that describes the file lies beyond its end.

    Pixel size and axes would be lost without a word.
    """
    inside = 8 if kind.big else 4
    for code, _, length, place in kind.entry.iter_unpack(entries):
        if code == DESCRIPTION_TAG and length > inside and place + length > file_size:
            raise InputError(
                f"{shown(path)}: truncated TIFF, its description lies beyond the end; "
                "copy or export it again"
            )
