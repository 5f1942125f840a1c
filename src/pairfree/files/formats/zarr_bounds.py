"""Chunks of Zarr arrays are decoded into no more bytes than they may hold.

A forged one costs an error, not the memory.

zarr asks a codec pipeline to decode; ours is zarr's own with the decompressors replaced by bounded
ones. It is zarr's setting only while pairfree opens or reads an array.
"""

from __future__ import annotations

import bz2
import lzma
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import imagecodecs
from zarr import config
from zarr.abc.buffer import Buffer, NDBuffer
from zarr.buffer import default_buffer_prototype
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.registry import register_pipeline

from pairfree.files.formats.zarr_internals import batched_pipeline, bytes_of_chunk, zarr_2_codec

SLACK = 1.01
"""What a compressor may add to bytes that do not compress, where another one follows it."""
SLACK_BYTES = 2**16
"""And this besides."""
FILTERED = 8
"""Filters of Zarr 2 may widen numbers by as much: one byte to eight."""
COMPRESSORS = ((BloscCodec, "blosc"), (GzipCodec, "gzip"), (ZstdCodec, "zstd"))
"""zarr's own, with their keys in ``INFLATE``."""
if TYPE_CHECKING:
    from pairfree.files.formats.zarr_internals import BatchedCodecPipeline as ZarrPipeline
else:
    ZarrPipeline = batched_pipeline()
Zarr2Codec: Any = zarr_2_codec()
Chunk = tuple[Buffer | None, Any]
"""Stored bytes of a chunk, None where it is not stored, and zarr's specification of it."""


class BoundedPipeline(ZarrPipeline):
    """zarr's pipeline, with a bound for what each chunk inflates to."""

    async def decode_batch(
        self, chunk_bytes_and_specs: Iterable[Chunk]
    ) -> Iterable[NDBuffer | None]:
        """As zarr's.

        Parameters
        ----------
        chunk_bytes_and_specs
            Of each chunk.

        Raises
        ------
        ValueError
            For a chunk that holds more than its array says.
        """
        given = list(chunk_bytes_and_specs)
        if isinstance(self.array_bytes_codec, Zarr2Codec):
            codec = self.array_bytes_codec
            return [await _decode_zarr_2(codec, data, spec) for data, spec in given]
        if not any(_kind_of(codec) for codec in self.bytes_bytes_codecs):
            return await super().decode_batch(given)
        inflated = []
        for data, spec in given:
            raw = await self._inflate(data, spec)
            inflated.append((raw, spec))
        plain = type(self).from_codecs([*self.array_array_codecs, self.array_bytes_codec])
        return await ZarrPipeline.decode_batch(plain, inflated)

    async def _inflate(self, data: Buffer | None, spec: Any) -> Buffer | None:
        """Undo all compressors of a chunk, the last one first."""
        for reshaping in self.array_array_codecs:
            spec = reshaping.resolve_metadata(spec)
        bound = bytes_of_chunk(spec)
        first, *later = self.bytes_bytes_codecs
        for codec in reversed(later):
            if data is not None:
                data = await _undo(codec, data, spec, int(bound * SLACK) + SLACK_BYTES)
        if data is not None:
            data = await _undo(first, data, spec, bound)
        return data


register_pipeline(BoundedPipeline)
_PATH = f"{BoundedPipeline.__module__}.{BoundedPipeline.__qualname__}"
_lock = threading.Lock()
_users = 0
_held: Any = None


@contextmanager
def bounded_chunks() -> Iterator[None]:
    """Let zarr decode with ``BoundedPipeline`` meanwhile, in any number of threads."""
    global _users, _held
    with _lock:
        if _users == 0:
            _held = config.set({"codec_pipeline.path": _PATH})
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _held is not None:
                _held.__exit__(None, None, None)
                _held = None


@contextmanager
def quiet_and_bounded() -> Iterator[None]:
    """Use zarr with bounds for chunks, and without warnings about what its specification lacks."""
    with warnings.catch_warnings(), bounded_chunks():
        warnings.simplefilter("ignore")
        yield


async def _undo(codec: Any, data: Buffer, spec: Any, most: int) -> Buffer:
    """Undo one codec: a compressor within a bound, any other by itself."""
    kind = _kind_of(codec)
    if kind is None:
        (decoded,) = await codec.decode([(data, spec)])
        assert isinstance(decoded, Buffer)
        return decoded
    settings = getattr(codec, "codec_config", {})
    return _as_buffer(inflate(kind, data.to_bytes(), most, settings))


async def _decode_zarr_2(codec: Any, data: Buffer | None, spec: Any) -> NDBuffer | None:
    """Undo compressor and filters of an array of format 2."""
    if data is None:
        return None
    compressor = codec.compressor
    kind = None if compressor is None else _kind_of(compressor)
    if kind is not None:
        bound = bytes_of_chunk(spec)
        if codec.filters:
            bound *= FILTERED
        raw = inflate(kind, data.to_bytes(), bound, compressor.get_config())
        data = _as_buffer(raw)
        codec = replace(codec, compressor=None)
    (decoded,) = await codec.decode([(data, spec)])
    assert isinstance(decoded, NDBuffer)
    return decoded


def _as_buffer(raw: bytes) -> Buffer:
    return default_buffer_prototype().buffer.from_bytes(raw)


def _kind_of(codec: Any) -> str | None:
    """Name in ``INFLATE`` of a compressor of zarr or numcodecs; None for what does not compress."""
    for kind, name in COMPRESSORS:
        if isinstance(codec, kind):
            return name
    stated = getattr(codec, "codec_id", None) or getattr(codec, "codec_name", "")
    name = str(stated).rpartition(".")[2]
    return name if name in INFLATE else None


def inflate(kind: str, data: bytes, most: int, settings: dict[str, Any]) -> bytes:
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


def _inflate_zlib(data: bytes, most: int, settings: dict[str, Any]) -> bytes:
    """A stream of gzip or zlib, of one or several members."""
    parts = []
    left = most + 1
    while data and left > 0:
        stream = zlib.decompressobj(47)
        part = stream.decompress(data, left)
        parts.append(part)
        left -= len(part)
        if not stream.eof and not stream.unconsumed_tail:
            raise ValueError("a compressed chunk ends too early")
        data = stream.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _inflate_bz2(data: bytes, most: int, settings: dict[str, Any]) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, max_length=most + 1)


def _inflate_lzma(data: bytes, most: int, settings: dict[str, Any]) -> bytes:
    form = settings.get("format", lzma.FORMAT_XZ)
    filters = settings.get("filters") if form == lzma.FORMAT_RAW else None
    return lzma.LZMADecompressor(format=form, filters=filters).decompress(data, max_length=most + 1)


def _inflate_blosc(data: bytes, most: int, settings: dict[str, Any]) -> bytes:
    return bytes(imagecodecs.blosc_decode(data, out=most))


def _inflate_zstd(data: bytes, most: int, settings: dict[str, Any]) -> bytes:
    return bytes(imagecodecs.zstd_decode(data, out=most))


def _inflate_lz4(data: bytes, most: int, settings: dict[str, Any]) -> bytes:
    return bytes(imagecodecs.lz4_decode(data, header=True, out=most))


INFLATE: dict[str, Callable[[bytes, int, dict[str, Any]], bytes]] = {
    "blosc": _inflate_blosc,
    "zstd": _inflate_zstd,
    "lz4": _inflate_lz4,
    "gzip": _inflate_zlib,
    "zlib": _inflate_zlib,
    "bz2": _inflate_bz2,
    "lzma": _inflate_lzma,
}
"""Decompressors with a bound, by numcodecs' names."""
