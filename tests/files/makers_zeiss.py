"""Small CZI files, written after Zeiss' specification ("ZISRAW (CZI) File Format")."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np

PIXEL_TYPES = {
    ("uint8", 1): 0,
    ("uint16", 1): 1,
    ("float32", 1): 2,
    ("uint8", 3): 3,
    ("uint16", 3): 4,
}


def hi_lo(data: bytes) -> bytes:
    """Low bytes of all 16-bit values before their high ones, as ZEN packs them for Zstandard."""
    return np.frombuffer(data, np.uint8).reshape(-1, 2).T.tobytes()


PACKERS: dict[int, Callable[[np.ndarray], bytes]] = {
    0: lambda pixels: pixels.tobytes(),
    2: lambda pixels: imagecodecs.lzw_encode(pixels.tobytes()),
    4: lambda pixels: imagecodecs.jpegxr_encode(pixels.squeeze(), level=1.0),
    5: lambda pixels: imagecodecs.zstd_encode(pixels.tobytes()),
    6: lambda pixels: b"\3\1\1" + imagecodecs.zstd_encode(hi_lo(pixels.tobytes())),
}
"""By the codes of compression."""


@dataclass
class Tile:
    """A subblock: (H, W) or (H, W, 3), blue first, at places along T, C, Z, S, M, X, Y."""

    pixels: np.ndarray
    places: dict[str, int]
    compression: int = 0
    times: int = 1
    """Of a lower resolution: how many pixels of the full one each is wide."""
    data: bytes | None = None
    """Stored in place of the pixels."""


def xml_of(steps: dict[str, float], names: Sequence[str] = (), seconds: float | None = None) -> str:
    """Metadata with steps in metres and names of channels of 12 bits."""
    scaling = "".join(
        f'<Distance Id="{axis}"><Value>{step}</Value></Distance>' for axis, step in steps.items()
    )
    channels = "".join(
        f'<Channel Name="{name}"><ComponentBitCount>12</ComponentBitCount></Channel>'
        for name in names
    )
    interval = ""
    if seconds is not None:
        interval = (
            f"<T><Positions><Interval><Increment>{seconds}</Increment></Interval></Positions></T>"
        )
    return (
        "<ImageDocument><Metadata><Information><Image><Dimensions>"
        f"<Channels>{channels}</Channels>{interval}</Dimensions></Image></Information>"
        f"<Scaling><Items>{scaling}</Items></Scaling></Metadata></ImageDocument>"
    )


def write_czi(path: Path, tiles: Sequence[Tile], xml: str | bytes = "") -> Path:
    """A file of these tiles."""
    out = bytearray(_segment(b"ZISRAWFILE", bytes(512)))
    entries = []
    for tile in tiles:
        entry = _entry(tile, len(out))
        entries.append(entry)
        data = PACKERS[tile.compression](tile.pixels) if tile.data is None else tile.data
        head = struct.pack("<iiq", 0, 0, len(data)) + entry
        out += _segment(b"ZISRAWSUBBLOCK", head.ljust(256, b"\0") + data)
    metadata = len(out)
    text = xml.encode() if isinstance(xml, str) else xml
    out += _segment(b"ZISRAWMETADATA", struct.pack("<ii", len(text), 0).ljust(256, b"\0") + text)
    directory = len(out)
    count = struct.pack("<i", len(entries)).ljust(128, b"\0")
    out += _segment(b"ZISRAWDIRECTORY", count + b"".join(entries))
    head = struct.pack(
        "<iiii16s16siqqiq", 1, 0, 0, 0, b"a" * 16, b"a" * 16, 0, directory, metadata, 0, 0
    )
    out[32 : 32 + len(head)] = head
    path.write_bytes(out)
    return path


def _segment(name: bytes, content: bytes) -> bytes:
    size = -(-len(content) // 32) * 32
    return struct.pack("<16sqq", name, size, len(content)) + content.ljust(size, b"\0")


def _entry(tile: Tile, place: int) -> bytes:
    height, width, *samples = tile.pixels.shape
    kind = PIXEL_TYPES[tile.pixels.dtype.name, *(samples or [1])]
    dimensions = {"X": (width * tile.times, width), "Y": (height * tile.times, height)}
    packed = b""
    for axis, first in {"X": 0, "Y": 0, **tile.places}.items():
        size, stored = dimensions.get(axis, (1, 1))
        packed += struct.pack("<4siifi", axis.encode(), first, size, 0.0, stored)
    pyramid = 2 if tile.times > 1 else 0
    count = len(packed) // 20
    head = struct.pack(
        "<2siqiiBB4si", b"DV", kind, place, 0, tile.compression, pyramid, 0, b"", count
    )
    return head + packed


def planes_of(pixels: np.ndarray, axes: str, compression: int = 0) -> list[Tile]:
    """A tile for each plane of (..., H, W)."""
    found = []
    for index in np.ndindex(pixels.shape[: len(axes)]):
        places = dict(zip(axes, index, strict=True))
        found.append(Tile(pixels[index], places, compression))
    return found
