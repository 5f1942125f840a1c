"""The size that data of the JPEG family declare, without decoding them."""

from __future__ import annotations

import struct

NO_FRAME = (0xC4, 0xC8, 0xCC)
"""Markers between 0xC0 and 0xCF that state no size."""
SIZ_OF_JPEG2000 = 0x51
"""JPEG 2000's marker of a size."""


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
    found = _find_header(data, first, last)
    return None if found is None else _size_at(data, *found)


def declared_components(data: bytes, first: int, last: int) -> int:
    """How many values a pixel has, by the same header; 0 where there is none."""
    found = _find_header(data, first, last)
    if found is None:
        return 0
    at, marker = found
    if marker == SIZ_OF_JPEG2000:
        return int.from_bytes(data[at + 38 : at + 40], "big")
    return int.from_bytes(data[at + 9 : at + 10], "big")


def _find_header(data: bytes, first: int, last: int) -> tuple[int, int] | None:
    """Where the first header with such a marker begins, and its marker."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if first <= marker <= last and marker not in NO_FRAME:
            return at, marker
        (length,) = struct.unpack_from(">H", data, at + 2)
        at += 2 + length
    return None


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
