"""Small ND2 files of version 2.1, whose metadata are XML."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = 0x0ABECEDA
Loop = tuple[int, dict[str, Any]]
"""Nikon's number of a kind of loop, and its parameters."""


def times(count: int, milliseconds: float) -> Loop:
    """A loop over time."""
    return 1, {"uiCount": count, "dStart": 0.0, "dPeriod": milliseconds, "dDuration": 0.0}


def positions(count: int) -> Loop:
    """A loop over positions of the stage."""
    points = {f"i{i:010}": {"dPosX": float(i), "dPosY": 0.5} for i in range(count)}
    return 2, {"Points": points}


def depths(count: int, micrometres: float) -> Loop:
    """A loop over planes."""
    return 4, {"uiCount": count, "dZStep": micrometres}


def write_nd2(
    path: Path,
    frames: np.ndarray,
    loops: Sequence[Loop] = (),
    channels: Sequence[str] = ("a",),
    packed: bool = False,
    left_out: Collection[int] = (),
    unused: int = 0,
) -> Path:
    """A file of frames (n, H, W, C), whose pixels are 0.25 µm wide and have 12 bits.

    Rows end with so many unused pixels.
    """
    count, height, width, components = frames.shape
    attributes = {
        "uiWidth": width,
        "uiWidthBytes": (width + unused) * components * frames.itemsize,
        "uiHeight": height,
        "uiComp": components,
        "uiBpcInMemory": 8 * frames.itemsize,
        "uiBpcSignificant": 12,
        "uiSequenceCount": count,
        "eCompression": 0 if packed else 2,
    }
    planes = {f"a{i}": {"uiCompCount": 1, "sDescription": name} for i, name in enumerate(channels)}
    pictures = {"uiCount": len(channels), "sPlaneNew": planes}
    metadata = {"bCalibrated": True, "dCalibration": 0.25, "sPicturePlanes": pictures}
    chunks = {b"ImageAttributes!": _xml(attributes), b"ImageMetadataSeq|0!": _xml(metadata)}
    nested: dict[str, Any] = {}
    for kind, parameters in reversed(loops):
        inner = {"ppNextLevelEx": {"i0000000000": nested}} if nested else {}
        nested = {"eType": kind, "uLoopPars": parameters, **inner}
    if nested:
        chunks[b"ImageMetadata!"] = _xml(nested)
    for number, frame in enumerate(frames):
        if number not in left_out:
            data = np.pad(frame, ((0, 0), (0, unused), (0, 0))).tobytes()
            data = zlib.compress(data) if packed else data
            chunks[b"ImageDataSeq|%d!" % number] = struct.pack("<d", 0.0) + data
    path.write_bytes(_assemble(chunks))
    return path


def _assemble(chunks: dict[bytes, bytes]) -> bytes:
    """Chunks at whole pages, and the map of them."""
    out = bytearray(_chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver2.1".ljust(64, b"\0")))
    places = b""
    for name, data in chunks.items():
        out += bytes(-len(out) % 4096)
        places += name + struct.pack("<QQ", len(out), len(data))
        padded = name.ljust(4072, b"\0") if name.startswith(b"ImageDataSeq|") else name
        out += _chunk(padded, data)
    out += bytes(-len(out) % 4096)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", len(out))
    return bytes(out + _chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", places + end))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack("<IIQ", MAGIC, len(name), len(data)) + name + data


def _xml(value: dict[str, Any]) -> bytes:
    return f'<variant version="1.0">{_node("no_name", value)}</variant>'.encode()


def _node(name: str, value: Any) -> str:
    if isinstance(value, dict):
        inner = "".join(_node(key, one) for key, one in value.items())
        return f'<{name} runtype="CLxListVariant">{inner}</{name}>'
    kinds = {bool: "bool", int: "lx_uint32", float: "double", str: "CLxStringW"}
    text = str(value).lower() if value is True else str(value)
    return f'<{name} runtype="{kinds[type(value)]}" value="{text}"/>'
