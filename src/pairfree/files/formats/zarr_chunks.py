"""Pixels of a Zarr array, chunk by chunk, each decoded into no more bytes than it may hold: a forged one costs an error, not the memory.

zarr asks a codec pipeline to decode; ours is zarr's own with the decompressors replaced by bounded ones. It is zarr's setting only while
pairfree opens or reads an array.
"""

from __future__ import annotations

import bz2
import itertools
import lzma
import math
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from zarr import config
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.codecs._v2 import V2Codec
from zarr.core.buffer import Buffer, NDBuffer, default_buffer_prototype
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_pipeline

from pairfree.errors import InputError
from pairfree.files.image import Stored
from pairfree.files.stored import Kept

SLACK, SLACK_BYTES = 1.01, 2**16
"""What a compressor may add to bytes that do not compress, where another one follows it."""
FILTERED = 8
"""Filters of Zarr 2 may widen numbers by as much: one byte to eight."""
SPARE_BYTES = 2**20
"""What the file of a chunk may hold beside that."""
KEPT_BYTES = 2**27
"""Of decoded chunks: tiles overlap, and a chunk may hold parts of many tiles and planes."""
AT_ONCE_BYTES = 2**25
"""Chunks up to so many bytes together are asked for in one call."""


class ZarrPixels(Stored):
    """An array of chunks; those that were decoded last are kept."""

    def __init__(self, array: Any, label: str) -> None:
        self.array, self.label = array, label
        self.shape, self.dtype = tuple(array.shape), np.dtype(array.dtype).newbyteorder("=")
        self.deep = tuple(array.chunks[:-2])
        self._kept = Kept(KEPT_BYTES)

    def region(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        wanted = (*(slice(i, i + 1) for i in index), rows, columns)
        grid = [
            range(one.start // step, -(-one.stop // step))
            for one, step in zip(wanted, self.array.chunks, strict=True)
        ]
        known = {number: self._kept.get(number) for number in itertools.product(*grid)}
        chunks = {number: found for number, found in known.items() if found is not None}
        chunks |= self._fetched([number for number in known if number not in chunks])
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        for number, found in chunks.items():
            place = self._place(number)
            plane = found[tuple(i - one.start for i, one in zip(index, place, strict=False))]
            (top, bottom), (left, right) = (
                (max(one.start, part.start), min(one.stop, part.stop))
                for one, part in zip(place[-2:], (rows, columns), strict=True)
            )
            inside = plane[
                top - place[-2].start : bottom - place[-2].start,
                left - place[-1].start : right - place[-1].start,
            ]
            out[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] = inside
        return out

    def _place(self, number: tuple[int, ...]) -> tuple[slice, ...]:
        """Where a chunk lies in the array."""
        steps, shape = self.array.chunks, self.shape
        return tuple(
            slice(i * step, min((i + 1) * step, size))
            for i, step, size in zip(number, steps, shape, strict=True)
        )

    def _fetched(self, missing: list[tuple[int, ...]]) -> dict[tuple[int, ...], np.ndarray]:
        """Chunks decoded, together where they are small, and kept."""
        if not missing:
            return {}
        self._check_files(missing)
        first, last = (tuple(map(end, zip(*missing, strict=True))) for end in (min, max))
        each = math.prod(self.array.chunks) * self.dtype.itemsize
        if math.prod(b - a + 1 for a, b in zip(first, last, strict=True)) * each > AT_ONCE_BYTES:
            found = {number: self._read(self._place(number)) for number in missing}
        else:
            corner = [one.start for one in self._place(first)]
            together = self._read(
                tuple(slice(a, one.stop) for a, one in zip(corner, self._place(last), strict=True))
            )
            found = {}
            for number in missing:
                inside = (
                    slice(one.start - a, one.stop - a)
                    for one, a in zip(self._place(number), corner, strict=True)
                )
                found[number] = together[tuple(inside)].copy()
        for number, chunk in found.items():
            self._kept.put(number, chunk)
        return found

    def _check_files(self, missing: list[tuple[int, ...]]) -> None:
        """InputError for a file that is larger than its chunk or shard can be: it would be read whole, and may be mostly a hole."""
        held = self.array.shards or self.array.chunks
        most = FILTERED * math.prod(held) * self.dtype.itemsize + SPARE_BYTES
        numbers = {
            tuple(i * step // size for i, step, size in zip(one, self.array.chunks, held, strict=True))
            for one in missing
        }
        for number in numbers:
            key = self.array.metadata.encode_chunk_key(number)
            try:
                size = Path(self.array.store.root, self.array.path, key).stat().st_size
            except (OSError, ValueError):  # a chunk without a file is all fill value
                continue
            if size > most:
                raise InputError(
                    f"{self.label}: chunk {key} takes {size} bytes, its array allows {most}; copy or export the folder again"
                )

    def _read(self, place: tuple[slice, ...]) -> np.ndarray:
        try:
            with quiet():
                return np.asarray(self.array[place]).astype(self.dtype, copy=False)
        except MemoryError:
            raise
        except Exception as error:  # codecs raise what they like on damaged chunks
            words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise InputError(
                f"{self.label}: a chunk of {place} cannot be read ({words}); copy or export the folder again"
            ) from error


class BoundedPipeline(BatchedCodecPipeline):
    """zarr's pipeline, with a bound for what each chunk inflates to."""

    async def decode_batch(
        self, chunk_bytes_and_specs: Iterable[tuple[Buffer | None, Any]]
    ) -> Iterable[NDBuffer | None]:
        """As zarr's. Raises ValueError for a chunk that holds more than its array says."""
        given = list(chunk_bytes_and_specs)
        if isinstance(self.array_bytes_codec, V2Codec):
            return [
                None if data is None else await _of_zarr_2(self.array_bytes_codec, data, spec)
                for data, spec in given
            ]
        codecs = list(self.bytes_bytes_codecs)
        if not any(_kind(codec) for codec in codecs):
            return await super().decode_batch(given)
        inflated: list[tuple[Buffer | None, Any]] = []
        for data, spec in given:
            part, inner = data, spec
            for reshaping in self.array_array_codecs:
                inner = reshaping.resolve_metadata(inner)
            bound = math.prod(inner.shape) * inner.dtype.to_native_dtype().itemsize
            for place, codec in reversed(list(enumerate(codecs))):
                if part is not None:
                    most = bound if place == 0 else int(bound * SLACK) + SLACK_BYTES
                    part = await _inflated(codec, part, inner, most)
            inflated.append((part, spec))
        plain = type(self).from_codecs([*self.array_array_codecs, self.array_bytes_codec])
        return await BatchedCodecPipeline.decode_batch(plain, inflated)


register_pipeline(BoundedPipeline)
_PATH = f"{BoundedPipeline.__module__}.{BoundedPipeline.__qualname__}"
_lock, _users, _held = threading.Lock(), 0, None


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
def quiet() -> Iterator[None]:
    """zarr without its warnings about what is not in its specification yet, and with bounds for what chunks inflate to."""
    with warnings.catch_warnings(), bounded_chunks():
        warnings.simplefilter("ignore")
        yield


async def _inflated(codec: Any, data: Buffer, spec: Any, most: int) -> Buffer:
    kind = _kind(codec)
    if kind is None:
        found: Buffer = next(iter(await codec.decode([(data, spec)])))
        return found
    raw = inflate(kind, data.to_bytes(), most, getattr(codec, "codec_config", {}))
    return default_buffer_prototype().buffer.from_bytes(raw)


async def _of_zarr_2(codec: V2Codec, data: Buffer, spec: Any) -> NDBuffer:
    compressor: Any = codec.compressor
    kind = None if compressor is None else _kind(compressor)
    if kind is not None:
        bound = (
            math.prod(spec.shape) * spec.dtype.to_native_dtype().itemsize * (FILTERED if codec.filters else 1)
        )
        raw = inflate(kind, data.to_bytes(), bound, compressor.get_config())
        data, codec = (
            default_buffer_prototype().buffer.from_bytes(raw),
            V2Codec(filters=codec.filters, compressor=None),
        )
    return await codec._decode_single(data, spec)  # what zarr's own batch calls


def _kind(codec: Any) -> str | None:
    """Name in ``INFLATE`` of a compressor of zarr or numcodecs; None for what does not compress."""
    for cls, name in ((BloscCodec, "blosc"), (GzipCodec, "gzip"), (ZstdCodec, "zstd")):
        if isinstance(codec, cls):
            return name
    name = str(getattr(codec, "codec_id", None) or getattr(codec, "codec_name", "")).rpartition(".")[2]
    return name if name in INFLATE else None


def inflate(kind: str, data: bytes, most: int, settings: dict[str, Any]) -> bytes:
    """``data`` decompressed, at most ``most`` bytes. Raises ValueError for more, and what the library raises for damaged data."""
    found = INFLATE[kind](data, most, settings)
    if len(found) > most:
        raise ValueError(f"a chunk inflates to more than the {most} bytes that its array allows")
    return found


def _deflated(data: bytes, most: int, settings: dict[str, Any]) -> bytes:
    """gzip or zlib, of one or several members."""
    parts, left = [], most + 1
    while data and left > 0:
        stream = zlib.decompressobj(47)
        parts.append(stream.decompress(data, left))
        left -= len(parts[-1])
        if not stream.eof and not stream.unconsumed_tail:
            raise ValueError("a compressed chunk ends too early")
        data = stream.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _lzma(data: bytes, most: int, settings: dict[str, Any]) -> bytes:
    form, filters = settings.get("format", lzma.FORMAT_XZ), settings.get("filters")
    return lzma.LZMADecompressor(
        format=form, filters=filters if form == lzma.FORMAT_RAW else None
    ).decompress(data, max_length=most + 1)


INFLATE: dict[str, Callable[[bytes, int, dict[str, Any]], bytes]] = {
    "blosc": lambda data, most, settings: bytes(imagecodecs.blosc_decode(data, out=most)),
    "zstd": lambda data, most, settings: bytes(imagecodecs.zstd_decode(data, out=most)),
    "lz4": lambda data, most, settings: bytes(imagecodecs.lz4_decode(data, header=True, out=most)),
    "gzip": _deflated,
    "zlib": _deflated,
    "bz2": lambda data, most, settings: bz2.BZ2Decompressor().decompress(data, max_length=most + 1),
    "lzma": _lzma,
}
"""Decompressors with a bound, by numcodecs' names."""
