"""What pairfree needs of zarr that zarr does not publish, each asked for here and nowhere else.

A release of zarr may move or change it. tests/files/formats/test_formats_zarr_internals.py says
which, and what to look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pairfree.errors import InputError

if TYPE_CHECKING:
    from zarr.core.codec_pipeline import BatchedCodecPipeline as BatchedCodecPipeline


def batched_pipeline() -> Any:
    """The class of zarr's own codec pipeline: what an array decodes its chunks with.

    Used of it: ``decode_batch``, ``from_codecs``, ``array_array_codecs``, ``array_bytes_codec``,
    ``bytes_bytes_codecs``.
    """
    try:
        from zarr.core.codec_pipeline import BatchedCodecPipeline
    except ImportError:
        raise _moved("zarr.core.codec_pipeline.BatchedCodecPipeline") from None
    return BatchedCodecPipeline


def zarr_2_codec() -> Any:
    """The class of the one codec that stands for filters and compressor of an array of format 2.

    Used of it: ``decode``, and its fields ``filters`` and ``compressor``; it is a dataclass.
    """
    try:
        from zarr.codecs._v2 import V2Codec
    except ImportError:
        raise _moved("zarr.codecs._v2.V2Codec") from None
    return V2Codec


def bytes_of_chunk(spec: Any) -> int:
    """Bytes that a chunk holds once decoded, by the ``ArraySpec`` that zarr gives to codecs."""
    values = 1
    for length in spec.shape:
        values *= int(length)
    return values * int(spec.dtype.to_native_dtype().itemsize)


def name_of_chunk(array: Any, number: tuple[int, ...]) -> str:
    """The file of a chunk, or of a shard, within the folder of its array."""
    return str(array.metadata.encode_chunk_key(number))


def _moved(name: str) -> InputError:
    import zarr

    return InputError(
        f"zarr {zarr.__version__} has no {name}, with which pairfree bounds what chunks inflate to; "
        "install an earlier zarr, such as 3.1.6, and tell pairfree's authors"
    )
