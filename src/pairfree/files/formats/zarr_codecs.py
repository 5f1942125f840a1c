"""Which filters and codecs of Zarr arrays are decoded, and how many bytes each may make.

What is not listed here is refused when an array is opened: a filter may run code (pickle), or make a number
a text of a million letters (astype). Each that is listed changes the number of bytes by a law of its own, so
that no more comes out of it than the chunk that the array declares.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

from pairfree.errors import InputError
from pairfree.files.formats.zarr_inflate import INFLATE
from pairfree.files.formats.zarr_internals import bytes_of_chunk
from pairfree.files.messages import shown

SLACK = 1.01
"""What a compressor may add to bytes that do not compress."""
SLACK_BYTES = 2**11
"""And this besides."""
WIDEST = 8
"""So many times the bytes of a chunk may lie between two filters: one byte made eight."""
MOST_CODECS = 16
MOST_INNER = 2**17
"""Chunks of a shard: the index of all is read for each of them."""
MOST_NESTED = 2
"""Shards in shards."""
MOST_ITEM_BYTES = 16
PLAIN, TRANSPOSE, SHARDS, PACKBITS, BASE64 = (
    "bytes",
    "transpose",
    "sharding_indexed",
    "packbits",
    "base64",
)
SAME_SIZE = ("bitround", "shuffle", PLAIN, TRANSPOSE)
CHECKSUMS = ("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3")
CHECKSUM_BYTES = 4
CONVERSIONS = {
    "astype": ("decode_dtype", "encode_dtype"),
    "delta": ("dtype", "astype"),
    "fixedscaleoffset": ("dtype", "astype"),
    "quantize": ("dtype", "astype"),
}
"""Filters that change the type of numbers, with the settings that name it on either side."""
INDEX_CODECS = (PLAIN, "crc32c")
"""Of the index of a shard, whose size must be known before it is read."""
_OF_ZARR = (
    (BloscCodec, "blosc"),
    (GzipCodec, "gzip"),
    (ZstdCodec, "zstd"),
    (Crc32cCodec, "crc32c"),
    (BytesCodec, PLAIN),
    (TransposeCodec, TRANSPOSE),
    (ShardingCodec, SHARDS),
)


def name_of(codec: Any) -> str:
    """Name of a codec of zarr or numcodecs, without the prefix that format 3 gives those of numcodecs."""
    for kind, name in _OF_ZARR:
        if isinstance(codec, kind):
            return name
    stated = getattr(codec, "codec_id", None) or getattr(codec, "codec_name", "")
    return str(stated).removeprefix("numcodecs.") or type(codec).__name__


def settings_of(codec: Any) -> dict[str, Any]:
    """Settings of a codec of numcodecs, in either format; none for those of zarr."""
    if hasattr(codec, "get_config"):
        return dict(codec.get_config())
    return dict(getattr(codec, "codec_config", {}))


def most_encoded(codec: Any, decoded: int) -> int:
    """The most bytes that a codec may make of ``decoded`` bytes when it encodes.

    Raises
    ------
    ValueError
        For a codec that is not decoded, and one that makes numbers something else.
    """
    name = name_of(codec)
    if name in INFLATE:
        return int(decoded * SLACK) + SLACK_BYTES
    if name in CHECKSUMS:
        return decoded + CHECKSUM_BYTES
    if name in SAME_SIZE:
        return decoded
    if name == PACKBITS:
        return 1 + -(-decoded // 8)
    if name == BASE64:
        return 4 * -(-decoded // 3)
    if name in CONVERSIONS:
        settings = settings_of(codec)
        before, after = CONVERSIONS[name]
        numbers = -(-decoded // _item_bytes(settings.get(before), name))
        return numbers * _item_bytes(settings.get(after) or settings.get(before), name)
    raise ValueError(f"codec {name} is not decoded")


def _item_bytes(stated: Any, codec: str) -> int:
    """Bytes of a number of a type that a codec names; ValueError for what is no number."""
    try:
        dtype = np.dtype(stated)
    except TypeError:
        raise ValueError(f"codec {codec} names the type {stated!s:.40}") from None
    is_number = stated is not None and dtype.kind in "biuf" and dtype.itemsize <= MOST_ITEM_BYTES
    if not is_number:
        raise ValueError(f"codec {codec} makes {stated!s:.40}, which is no number")
    return int(dtype.itemsize)


def bounds_between(codecs: Sequence[Any], chunk_bytes: int) -> list[int]:
    """The most bytes in front of each codec, in the order of encoding, and behind the last one."""
    bounds = [chunk_bytes]
    for one in codecs:
        bounds.append(most_encoded(one, bounds[-1]))
    return bounds


def most_in_file(array: Any) -> int:
    """The most bytes that the file of a chunk, or of a shard, can have."""
    metadata = array.metadata
    held = math.prod(array.shards or array.chunks) * np.dtype(array.dtype).itemsize
    if metadata.zarr_format == 2:
        return bounds_between(_codecs_of_format_2(metadata), held)[-1]
    return _most_of_format_3(metadata.codecs, array.shards or array.chunks, held)


def most_of_inner(shards: Any, spec: Any) -> int:
    """The most bytes that a chunk within a shard, or the index of the shard, can have.

    ``spec`` is zarr's of the shard.
    """
    of_shard = bytes_of_chunk(spec)
    inner = math.prod(shards.chunk_shape) * of_shard // math.prod(spec.shape)
    of_chunk = _most_of_format_3(shards.codecs, shards.chunk_shape, inner)
    return max(of_chunk, _index_bytes(shards, spec.shape))


def most_encoded_array(codec: Any, spec: Any) -> int:
    """The most bytes that a chunk has behind the codec that makes bytes of it, by zarr's ``spec`` of it."""
    decoded = bytes_of_chunk(spec)
    return _most_of_shard(codec, spec.shape, decoded) if name_of(codec) == SHARDS else decoded


def _index_bytes(shards: ShardingCodec, shape: Sequence[int]) -> int:
    return 16 * _count_inner(shards, shape) + CHECKSUM_BYTES


def _count_inner(shards: ShardingCodec, shape: Sequence[int]) -> int:
    return -(-math.prod(shape) // math.prod(shards.chunk_shape))


def _most_of_format_3(codecs: Iterable[Any], shape: Sequence[int], decoded: int) -> int:
    most = decoded
    for one in codecs:
        is_shards = name_of(one) == SHARDS
        most = _most_of_shard(one, shape, most) if is_shards else most_encoded(one, most)
    return most


def _most_of_shard(shards: ShardingCodec, shape: Sequence[int], decoded: int) -> int:
    count = _count_inner(shards, shape)
    inner = _most_of_format_3(shards.codecs, shards.chunk_shape, -(-decoded // count))
    return count * inner + _index_bytes(shards, shape)


def _codecs_of_format_2(metadata: Any) -> list[Any]:
    """Filters and compressor of an array, in the order of encoding."""
    found = list(metadata.filters or ())
    return found if metadata.compressor is None else [*found, metadata.compressor]


def check_codecs(array: Any, label: str) -> None:
    """InputError for an array with a codec that is not decoded, or that makes more than a chunk may be.

    Parameters
    ----------
    array
        zarr's.
    label
        What to call it.
    """
    metadata = array.metadata
    try:
        if metadata.zarr_format == 2:
            _check_chain(_codecs_of_format_2(metadata), np.dtype(array.dtype).itemsize)
        else:
            shape = array.shards or array.chunks
            _check_format_3(metadata.codecs, shape, np.dtype(array.dtype).itemsize)
    except ValueError as error:
        raise InputError(
            f"{label}: {shown(str(error))}; "
            "export it again with zstd and no further filter, in chunks of some megabytes"
        ) from None


def _check_format_3(
    codecs: Sequence[Any], shape: Sequence[int], item_bytes: int, depth: int = 0
) -> None:
    chain = [one for one in codecs if name_of(one) != SHARDS]
    _check_chain(chain, item_bytes)
    for shards in codecs:
        if name_of(shards) == SHARDS:
            _check_shards(shards, shape, item_bytes, depth)


def _check_shards(shards: ShardingCodec, shape: Sequence[int], item_bytes: int, depth: int) -> None:
    if depth >= MOST_NESTED:
        raise ValueError("it nests shards in shards too deeply")
    if len(shape) != len(shards.chunk_shape) or not all(shards.chunk_shape):
        raise ValueError(f"its shards hold chunks of {shards.chunk_shape}")
    count = _count_inner(shards, shape)
    if count > MOST_INNER:
        raise ValueError(
            f"its shards hold {count} chunks of {shards.chunk_shape}, more than {MOST_INNER}"
        )
    for one in shards.index_codecs:
        if name_of(one) not in INDEX_CODECS:
            raise ValueError(f"codec {name_of(one)} is not decoded in the index of a shard")
    _check_format_3(shards.codecs, shards.chunk_shape, item_bytes, depth + 1)


def _check_chain(codecs: Sequence[Any], item_bytes: int) -> None:
    """ValueError for what is not decoded; the law of each codec is looked at on a few numbers."""
    if len(codecs) > MOST_CODECS:
        raise ValueError(f"it has {len(codecs)} codecs, more than {MOST_CODECS}")
    few = 2**20 * item_bytes
    spare = MOST_CODECS * SLACK_BYTES
    if max(bounds_between(codecs, few)) > WIDEST * few * SLACK + spare:
        raise ValueError("its filters make more of a chunk than eight times its bytes")
