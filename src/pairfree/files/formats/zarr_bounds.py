"""Chunks of Zarr arrays are decoded into no more bytes than they may hold.

A forged one costs an error, not the memory.

zarr asks a codec pipeline to decode; ours is zarr's own with the decompressors replaced by bounded
ones. It is zarr's setting only while pairfree opens or reads an array.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr import config
from zarr.abc.buffer import Buffer, NDBuffer
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.registry import register_pipeline

from pairfree.files.formats.zarr_codecs import (
    bounds_between,
    most_encoded,
    most_encoded_array,
    most_of_inner,
    name_of,
    settings_of,
)
from pairfree.files.formats.zarr_inflate import INFLATE, inflate
from pairfree.files.formats.zarr_internals import batched_pipeline, bytes_of_chunk, zarr_2_codec

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
        if not self.bytes_bytes_codecs:
            return await super().decode_batch(given)
        inflated = []
        for data, spec in given:
            raw = await self._inflate(data, spec)
            inflated.append((raw, spec))
        plain = type(self).from_codecs([*self.array_array_codecs, self.array_bytes_codec])
        return await ZarrPipeline.decode_batch(plain, inflated)

    async def decode_partial_batch(self, batch_info: Iterable[Any]) -> Iterable[NDBuffer | None]:
        """As zarr's: chunks within a shard, each and the index no longer than it can be.

        Parameters
        ----------
        batch_info
            Of each shard: what reads of it, what is wanted, its specification.
        """
        bounded = []
        for getter, wanted, spec in batch_info:
            most = most_of_inner(self.array_bytes_codec, spec)
            bounded.append((BoundedGetter(getter, most), wanted, spec))
        return await super().decode_partial_batch(bounded)

    async def _inflate(self, data: Buffer | None, spec: Any) -> Buffer | None:
        """Undo all codecs that make bytes of bytes, the last one first."""
        for reshaping in self.array_array_codecs:
            spec = reshaping.resolve_metadata(spec)
        codecs = self.bytes_bytes_codecs
        bounds = bounds_between(codecs, most_encoded_array(self.array_bytes_codec, spec))
        for codec, most in zip(reversed(codecs), reversed(bounds[:-1]), strict=True):
            if data is not None:
                data = await _undo(codec, data, spec, most)
        return data


class BoundedGetter:
    """Reads parts of a shard, none longer than ``most`` bytes.

    Parameters
    ----------
    getter
        zarr's.
    most
        Bytes.
    """

    def __init__(self, getter: Any, most: int) -> None:
        self.getter, self.most = getter, most

    async def get(self, prototype: Any, byte_range: Any = None) -> Buffer | None:
        """As zarr's; ValueError for a longer part."""
        length = _length_of(byte_range)
        if not 0 <= length <= self.most:
            raise ValueError(f"a chunk of {length} bytes in a shard, which allows {self.most}")
        found: Buffer | None = await self.getter.get(prototype=prototype, byte_range=byte_range)
        return found


def _length_of(byte_range: Any) -> int:
    """Bytes that are asked for; 0 for all, whose number was looked at before."""
    if isinstance(byte_range, RangeByteRequest):
        return byte_range.end - byte_range.start
    if isinstance(byte_range, SuffixByteRequest):
        return byte_range.suffix
    if isinstance(byte_range, OffsetByteRequest):
        raise TypeError("zarr asks for the rest of a shard, whose length is not known")
    return 0


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
    """Undo one codec that makes bytes of bytes."""
    name = name_of(codec)
    if name in INFLATE:
        return _as_buffer(inflate(name, _view_of(data), most, settings_of(codec)))
    _check_length(codec, len(data), most)
    (decoded,) = await codec.decode([(data, spec)])
    assert isinstance(decoded, Buffer)
    return decoded


def _check_length(codec: Any, n_bytes: int, most: int) -> None:
    """ValueError for more bytes than a codec made, where it makes a certain number of each one."""
    allowed = most_encoded(codec, most)
    if n_bytes > allowed:
        raise ValueError(f"a chunk holds {n_bytes} bytes, its array allows {allowed}")


async def _decode_zarr_2(codec: Any, data: Buffer | None, spec: Any) -> NDBuffer | None:
    """Undo compressor and filters of an array of format 2."""
    if data is None:
        return None
    chain = list(codec.filters or ())
    if codec.compressor is not None:
        chain.append(codec.compressor)
    bounds = bounds_between(chain, bytes_of_chunk(spec))
    part = _view_of(data)
    for one, most in zip(reversed(chain), reversed(bounds[:-1]), strict=True):
        part = _undo_of_numcodecs(one, part, most)
    plain = replace(codec, filters=None, compressor=None)
    (decoded,) = await plain.decode([(_as_buffer(part), spec)])
    assert isinstance(decoded, NDBuffer)
    return decoded


def _undo_of_numcodecs(codec: Any, data: memoryview, most: int) -> memoryview:
    name = name_of(codec)
    if name in INFLATE:
        return memoryview(inflate(name, data, most, settings_of(codec)))
    _check_length(codec, data.nbytes, most)
    decoded: Any = np.ascontiguousarray(codec.decode(data))
    return memoryview(decoded.reshape(-1).view(np.uint8))


def _view_of(data: Buffer) -> memoryview:
    raw: Any = data.as_numpy_array()
    return memoryview(raw)


def _as_buffer(raw: bytes | memoryview) -> Buffer:
    return default_buffer_prototype().buffer.from_array_like(np.frombuffer(raw, np.uint8))
