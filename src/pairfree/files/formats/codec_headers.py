"""The size that compressed pictures declare, read from their own headers without decoding them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pairfree.files.formats.jpeg_header import SIZ_OF_JPEG2000, declared_size

Size = tuple[int, int]
"""Rows and columns."""
MOST_COMPONENTS = 16
"""Of a picture of JPEG 2000; LERC has one value a pixel and sample."""
XR_MARK = b"WMPHOTO\0"
"""Begins every code stream of JPEG XR."""
WIDTH_OF_XR, HEIGHT_OF_XR, STREAM_OF_XR, BYTES_OF_XR = 0xBC80, 0xBC81, 0xBCC0, 0xBCC1
"""Codes of JPEG XR's container."""
MOST_BOXES = 64
"""Of a container, so many are looked at."""


def size_of_jpeg_2000(data: bytes) -> Size | None:
    """Of a code stream, or of one in the boxes of a JP2 file; None where no size is found."""
    stream = data if data[:2] == b"\xff\x4f" else _find_box(data, (b"jp2c",))
    if len(stream) < 42 or int.from_bytes(stream[40:42], "big") > MOST_COMPONENTS:
        return None
    return declared_size(stream, SIZ_OF_JPEG2000, SIZ_OF_JPEG2000)


def size_of_jpeg_xl(data: bytes) -> Size | None:
    """Of a code stream, or of one in boxes; None where no size is found."""
    stream = data if data[:2] == b"\xff\x0a" else _find_box(data, (b"jxlc", b"jxlp"))
    if stream[:2] != b"\xff\x0a":
        stream = stream[4:]  # the number of a partial code stream stands before it
    if stream[:2] != b"\xff\x0a":
        return None
    bits = _Bits(stream[2:14])
    in_eights = bits.take(1)
    rows = _side_of_jpeg_xl(bits, in_eights)
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS_OF_JPEG_XL[ratio - 1]
        return rows, rows * across // down
    return rows, _side_of_jpeg_xl(bits, in_eights)


_RATIOS_OF_JPEG_XL = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width to height."""


def _side_of_jpeg_xl(bits: _Bits, in_eights: int) -> int:
    if in_eights:
        return (bits.take(5) + 1) * 8
    count = (9, 13, 18, 30)[bits.take(2)]
    return bits.take(count) + 1


class _Bits:
    """Numbers of so many bits, least significant bit first; zero beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        found = self._value & ((1 << count) - 1)
        self._value >>= count
        return found


def _find_box(data: bytes, names: tuple[bytes, ...]) -> bytes:
    """Content of the first box of one of the names; empty without one."""
    for name, content in _boxes(data):
        if name in names:
            return content
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    for _ in range(MOST_BOXES):
        if at + 8 > len(data):
            return
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        end = len(data) if size == 0 else at + size
        if end < at + head:
            return
        yield name, data[at + head : end]
        at = end


def size_of_webp(data: bytes) -> Size | None:
    """Of the canvas, or of the one frame; None where no size is found."""
    kind = data[12:16]
    if data[:4] != b"RIFF" or len(data) < 30:
        return None
    if kind == b"VP8X":
        columns = int.from_bytes(data[24:27], "little") + 1
        rows = int.from_bytes(data[27:30], "little") + 1
        return rows, columns
    if kind == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        return (packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1
    if kind == b"VP8 ":
        columns, rows = struct.unpack_from("<HH", data, 26)
        return rows & 0x3FFF, columns & 0x3FFF
    return None


def size_of_lerc(data: bytes) -> Size | None:
    """Of LERC 2; None for LERC 1 and where no size is found."""
    if data[:6] != b"Lerc2 " or len(data) < 22:
        return None
    (version,) = struct.unpack_from("<i", data, 6)
    at = 14 if version >= 3 else 10
    rows, columns = struct.unpack_from("<ii", data, at)
    if version >= 4 and (len(data) < 26 or int.from_bytes(data[22:26], "little") > MOST_COMPONENTS):
        return None
    return rows, columns


def size_of_jpeg_xr(data: bytes) -> Size | None:
    """The larger of what the container and the code stream state; None where either states none."""
    found = _fields_of_xr(data)
    if not {WIDTH_OF_XR, HEIGHT_OF_XR, STREAM_OF_XR} <= found.keys():
        return None
    inside = size_of_xr_stream(data[found[STREAM_OF_XR] :])
    if inside is None:
        return None
    return max(inside[0], found[HEIGHT_OF_XR]), max(inside[1], found[WIDTH_OF_XR])


def is_whole_jpeg_xr(data: bytes) -> bool:
    """Whether all bytes are there that the container states; decoders go on without them."""
    found = _fields_of_xr(data)
    return found.get(STREAM_OF_XR, 0) + found.get(BYTES_OF_XR, 0) <= len(data)


def _fields_of_xr(data: bytes) -> dict[int, int]:
    """What the container of a JPEG XR states, by code; empty where it is none, or cut off."""
    if data[:3] != b"II\xbc" or len(data) < 10:
        return {}
    (place,) = struct.unpack_from("<I", data, 4)
    if place + 2 > len(data):
        return {}
    (count,) = struct.unpack_from("<H", data, place)
    if place + 2 + 12 * count > len(data):
        return {}
    fields = struct.iter_unpack("<HHII", data[place + 2 : place + 2 + 12 * count])
    return {code: value for code, _, _, value in fields}


def size_of_xr_stream(data: bytes) -> Size | None:
    """Of a code stream of JPEG XR (ITU-T T.832, 8.3); None where no size is found."""
    if not data.startswith(XR_MARK) or len(data) < 20:
        return None
    has_short_sizes = data[10] & 0x80
    columns, rows = struct.unpack_from(">HH" if has_short_sizes else ">II", data, 12)
    return rows + 1, columns + 1


def size_of_png(data: bytes) -> Size | None:
    """Of the header chunk; None where there is none."""
    if data[12:16] != b"IHDR" or len(data) < 24:
        return None
    columns, rows = struct.unpack_from(">II", data, 16)
    return rows, columns


def size_of_jpeg(data: bytes) -> Size | None:
    """Of the first frame header; None where there is none."""
    return declared_size(data)
