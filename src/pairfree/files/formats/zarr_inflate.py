"""Decompressors of Zarr's chunks, each with a bound for the bytes that come out."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs

PIECE_BYTES = 2**14
"""Of a stream, inflated at a time."""
Packed = Any
"""A chunk as stored: bytes, or a view of them."""


def inflate(kind: str, data: Packed, most: int, settings: dict[str, Any]) -> bytes:
    """Decompress a chunk.

    Parameters
    ----------
    kind
        Key of ``INFLATE``.
    data
        As stored.
    most
        Bytes that may come out.
    settings
        Of the compressor.

    Raises
    ------
    ValueError
        For more bytes than that; for damaged data, whatever the library raises.
    """
    found = INFLATE[kind](data, most, settings)
    if len(found) > most:
        raise ValueError(f"a chunk inflates to more than the {most} bytes that its array allows")
    return found


def _inflate_zlib(data: Packed, most: int, settings: dict[str, Any]) -> bytes:
    """A stream of gzip or zlib, of one or several members; zeros may lie between them."""
    packed = memoryview(data)
    parts: list[bytes] = []
    left = most + 1
    at = 0
    while at < len(packed) and left > 0:
        stream = zlib.decompressobj(47)
        while not stream.eof and left > 0:
            # a piece: what lies behind a member is copied, and there may be a million members
            piece = packed[at : at + PIECE_BYTES]
            if not piece:
                raise ValueError("a compressed chunk ends too early")
            part = stream.decompress(piece, left)
            parts.append(part)
            left -= len(part)
            at += len(piece) - len(stream.unused_data) - len(stream.unconsumed_tail)
        at = _skip_zeros(packed, at)
    return b"".join(parts)


def _skip_zeros(packed: memoryview, at: int) -> int:
    """The place of the next byte that is not 0."""
    while at < len(packed):
        piece = bytes(packed[at : at + PIECE_BYTES])
        rest = piece.lstrip(b"\0")
        at += len(piece) - len(rest)
        if rest:
            break
    return at


def _inflate_bz2(data: Packed, most: int, settings: dict[str, Any]) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, max_length=most + 1)


def _inflate_lzma(data: Packed, most: int, settings: dict[str, Any]) -> bytes:
    form = settings.get("format", lzma.FORMAT_XZ)
    filters = settings.get("filters") if form == lzma.FORMAT_RAW else None
    return lzma.LZMADecompressor(format=form, filters=filters).decompress(data, max_length=most + 1)


def _inflate_blosc(data: Packed, most: int, settings: dict[str, Any]) -> bytes:
    return bytes(imagecodecs.blosc_decode(data, out=most))


def _inflate_zstd(data: Packed, most: int, settings: dict[str, Any]) -> bytes:
    return bytes(imagecodecs.zstd_decode(data, out=most))


def _inflate_lz4(data: Packed, most: int, settings: dict[str, Any]) -> bytes:
    return bytes(imagecodecs.lz4_decode(data, header=True, out=most))


INFLATE: dict[str, Callable[[Packed, int, dict[str, Any]], bytes]] = {
    "blosc": _inflate_blosc,
    "zstd": _inflate_zstd,
    "lz4": _inflate_lz4,
    "gzip": _inflate_zlib,
    "zlib": _inflate_zlib,
    "bz2": _inflate_bz2,
    "lzma": _inflate_lzma,
}
"""Decompressors with a bound, by numcodecs' names."""
