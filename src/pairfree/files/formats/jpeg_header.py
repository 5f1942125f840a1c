"""The size that data of the JPEG family declare, without decoding them."""

from __future__ import annotations

import struct

NO_FRAME = (0xC4, 0xC8, 0xCC)
"""Markers between 0xC0 and 0xCF that state no size."""


def declared_size(data: bytes, first: int = 0xC0, last: int = 0xCF) -> tuple[int, int] | None:
    """(rows, columns) by the first header with a marker from ``first`` to ``last``; None where there is none."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        (length,) = struct.unpack_from(">H", data, at + 2)
        if first <= marker <= last and marker not in NO_FRAME:
            if marker == 0x51 and at + 22 <= len(data):
                right, bottom, left, top = struct.unpack_from(">4I", data, at + 6)
                return bottom - top, right - left
            if marker != 0x51 and at + 9 <= len(data):
                rows, columns = struct.unpack_from(">HH", data, at + 5)
                return rows, columns
            return None
        at += 2 + length
    return None
