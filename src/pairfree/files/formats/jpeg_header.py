"""The size that data of the JPEG family declare, and whether they are whole, without decoding them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

NO_FRAME = (0xC4, 0xC8, 0xCC)
"""Markers between 0xC0 and 0xCF that state no size."""
SIZ_OF_JPEG2000 = 0x51
"""JPEG 2000's marker of a size."""
RESTART_INTERVAL = 0xDD
"""JPEG's marker of so many blocks."""
SCAN, END = 0xDA, 0xD9
"""JPEG's markers of what precedes coded values, and of its end."""
_AFTER_VALUES = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The next marker that is no restart: a byte 0xFF among coded values is followed by 0."""
_AFTER_TILE = re.compile(rb"\xff[\xd0-\xd7\xd9]")


def declared_size(data: bytes, first: int = 0xC0, last: int = 0xCF) -> tuple[int, int] | None:
    """The (rows, columns) that data of the JPEG family state.

    Parameters
    ----------
    data
        From their first byte.
    first, last
        The size is that of the first header with a marker from ``first`` to ``last``.

    Returns
    -------
    tuple or None
        None where there is no such header.
    """
    found = _find_frame(data, first, last)
    return None if found is None else _size_at(data, *found)


def declared_components(data: bytes, first: int, last: int) -> int:
    """How many values a pixel has, by the same header; 0 where there is none."""
    found = _find_frame(data, first, last)
    if found is None:
        return 0
    at, marker = found
    if marker == SIZ_OF_JPEG2000:
        return int.from_bytes(data[at + 38 : at + 40], "big")
    return int.from_bytes(data[at + 9 : at + 10], "big")


def restart_interval(data: bytes) -> int:
    """Blocks of a JPEG from one restart mark to the next; 0 where it states none before its scan."""
    for marker, at in _headers(data):
        if marker == RESTART_INTERVAL and at + 6 <= len(data):
            return int.from_bytes(data[at + 4 : at + 6], "big")
    return 0


def has_end(data: bytes) -> bool:
    """Whether a JPEG goes on to its end mark: decoders fill with grey what is missing before it."""
    at = next((at for marker, at in _headers(data) if marker == SCAN), len(data))
    while at + 4 <= len(data):
        (length,) = struct.unpack_from(">H", data, at + 2)
        found = _AFTER_VALUES.search(data, at + 2 + length)
        if found is None:
            return False
        at = found.start()
        if data[at + 1] == END:
            return True
    return False


def has_restart_or_end(data: bytes) -> bool:
    """Whether the coded values of one restart interval go on to the mark behind it."""
    return _AFTER_TILE.search(data) is not None


def _find_frame(data: bytes, first: int, last: int) -> tuple[int, int] | None:
    """Where the first header with such a marker begins, and its marker."""
    for marker, at in _headers(data):
        if first <= marker <= last and marker not in NO_FRAME:
            return at, marker
    return None


def _headers(data: bytes) -> Iterator[tuple[int, int]]:
    """Markers with a length, and their places, as long as one follows the other."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        yield data[at + 1], at
        (length,) = struct.unpack_from(">H", data, at + 2)
        at += 2 + length


def _size_at(data: bytes, at: int, marker: int) -> tuple[int, int] | None:
    """What a header states; None where it is cut off."""
    if marker == SIZ_OF_JPEG2000:
        if at + 22 > len(data):
            return None
        right, bottom, left, top = struct.unpack_from(">4I", data, at + 6)
        return bottom - top, right - left
    if at + 9 > len(data):
        return None
    rows, columns = struct.unpack_from(">HH", data, at + 5)
    return rows, columns
