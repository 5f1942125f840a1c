"""What undoes compression and prediction in strips and tiles of a TIFF, within bounds."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pairfree.errors import InputError
from pairfree.files.formats.codec_headers import (
    Size,
    is_whole_jpeg_xr,
    size_of_jpeg,
    size_of_jpeg_2000,
    size_of_jpeg_xl,
    size_of_jpeg_xr,
    size_of_lerc,
    size_of_png,
    size_of_webp,
)
from pairfree.files.formats.jpeg_header import has_end
from pairfree.files.formats.quiet import quiet_library
from pairfree.files.image import DType
from pairfree.files.limits import DEFLATE, JPEG, LZW, PACKBITS, UNCOMPRESSED, ZSTD
from pairfree.files.messages import shown

PICTURES: dict[int, Callable[[bytes], Size | None]] = {
    7: size_of_jpeg,
    22610: size_of_jpeg_xr,
    33003: size_of_jpeg_2000,
    33004: size_of_jpeg_2000,
    33005: size_of_jpeg_2000,
    34712: size_of_jpeg_2000,
    34887: size_of_lerc,
    34927: size_of_webp,
    34933: size_of_png,
    34934: size_of_jpeg_xr,
    50001: size_of_webp,
    50002: size_of_jpeg_xl,
    52546: size_of_jpeg_xl,
}
"""Codes of Compression whose strips and tiles are pictures with headers of their own, and what reads their
size.
"""
WHOLE: dict[int, Callable[[bytes], bool]] = {
    7: has_end,
    22610: is_whole_jpeg_xr,
    34934: is_whole_jpeg_xr,
}
"""Those whose decoders make a picture of what is cut off, too, and what tells that it is not."""
RATIOS = {
    1: UNCOMPRESSED,
    5: LZW,
    7: JPEG,
    8: DEFLATE,
    32946: DEFLATE,
    50013: DEFLATE,
    32773: PACKBITS,
    34925: ZSTD,
    50000: ZSTD,
    **{code: ZSTD for code in PICTURES if code != 7},
}
"""Largest ratio of decoded to stored bytes, by the codes of Compression that can be read."""
UNCOMPRESSED_CODE, JPEG_CODE, LZMA_CODE, ZSTD_CODE = 1, 7, 34925, 50000
"""Of Compression."""
DEFLATE_CODES = (8, 32946, 50013)
"""Of Compression: one stream by three names."""
COMPLEX = 5
"""Of SampleFormat."""
YCBCR, MOSAIC = 6, 32803
"""Of PhotometricInterpretation."""
Bytes = bytes | bytearray | memoryview


def quiet_decoder(compression: int, decode: Callable[..., Any]) -> Callable[..., Any]:
    """A decoder of pictures that prints nothing: that of JPEG XR tells of tags that it does not know."""
    if PICTURES[compression] is not size_of_jpeg_xr:
        return decode
    return quiet_library()(decode)


def decompress(compression: int, data: bytes, bound: int) -> Bytes:
    """Decode a strip or tile.

    Parameters
    ----------
    compression
        A key of ``RATIOS`` that is neither in ``PICTURES`` nor "uncompressed".
    data
        As stored.
    bound
        Bytes that may come out: at most one more is made, or the codec raises.

    Raises
    ------
    ImportError
        Where imagecodecs is missing.
    RuntimeError, ValueError, EOFError
        As the libraries raise them on damaged data; zlib.error and lzma.LZMAError, too.
    """
    if compression == LZMA_CODE:
        return lzma.LZMADecompressor().decompress(data, bound + 1)
    if compression in DEFLATE_CODES:
        return _inflate(data, bound)
    import imagecodecs

    raw: Bytes
    if compression == 5:
        raw = imagecodecs.lzw_decode(data, out=bound + 1)
    elif compression == 32773:
        raw = imagecodecs.packbits_decode(data, out=bound)
    else:
        raw = imagecodecs.zstd_decode(data, out=bound)
    return raw


def _inflate(data: bytes, bound: int) -> Bytes:
    """By libdeflate, which is about twice as fast as zlib, where imagecodecs has it."""
    try:
        import imagecodecs
    except ImportError:
        return zlib.decompressobj().decompress(data, bound + 1)
    try:
        raw: Bytes = imagecodecs.deflate_decode(data, out=bound)
    except imagecodecs.DelayedImportError:  # built without libdeflate
        return zlib.decompressobj().decompress(data, bound + 1)
    return raw


def check_colours(page: tifffile.TiffPage, path: Path) -> None:
    """InputError for pixels that are no intensities of one kind: complex, mosaics, brightness beside hues."""
    if page.sampleformat == COMPLEX:
        raise InputError(f"{shown(path)}: its pixels are complex numbers; save their magnitude")
    if int(page.photometric) == MOSAIC:
        raise InputError(
            f"{shown(path)}: its pixels are a mosaic of colours (CFA), neighbours show different ones; "
            "split it into an image for each colour, or convert it to RGB"
        )
    if int(page.photometric) not in set(tifffile.PHOTOMETRIC):
        raise InputError(
            f"{shown(path)}: its kind of pixels, PhotometricInterpretation {int(page.photometric)}, "
            "is not known; save it as grey or RGB"
        )
    as_ycbcr = int(page.photometric) == YCBCR or page.is_subsampled
    if as_ycbcr and int(page.compression) != JPEG_CODE:
        raise InputError(
            f"{shown(path)}: its colours are stored as YCbCr, which is read in JPEG alone; save it as RGB"
        )


def unpack_bits(raw: Bytes, rows: int, values: int, bits: int, dtype: DType) -> np.ndarray:
    """Values of a number of bits that is no whole number of bytes, packed along each row.

    Parameters
    ----------
    raw
        Rows of whole bytes, most significant bit first.
    rows, values
        Rows, and values in each.
    bits
        Of a value.
    dtype
        Of the result, unsigned.

    Returns
    -------
    ndarray
        (rows, values).

    Raises
    ------
    ImportError
        Where imagecodecs is missing.
    """
    import imagecodecs

    unpacked = imagecodecs.packints_decode(bytes(raw), dtype, bits, runlen=values)
    return np.asarray(unpacked).reshape(-1, values)[:rows]


@cache
def can_pack() -> bool:
    """Whether values can be written with bits that are no whole bytes: imagecodecs learnt it in 2026."""
    try:
        import imagecodecs

        imagecodecs.packints_encode(np.zeros(2, np.uint16), 12)
    except (ImportError, AttributeError, NotImplementedError):
        return False
    return True


def undo_prediction(block: np.ndarray, dtype: DType) -> np.ndarray:
    """TIFF predictor 2: values are differences along the row.

    Parameters
    ----------
    block
        (rows, columns, samples), in any byte order.
    dtype
        Of the values, in native byte order.
    """
    unsigned: np.ndarray = block.astype(dtype).view(f"u{dtype.itemsize}")
    summed: np.ndarray = np.add.accumulate(unsigned, axis=1, dtype=unsigned.dtype)
    return summed.view(dtype)


def undo_float_prediction(raw: np.ndarray, width: int, samples: int, dtype: DType) -> np.ndarray:
    """TIFF predictor 3: bytes are differences along the row, most significant ones of all first.

    Parameters
    ----------
    raw
        (rows, bytes of a row).
    width
        Pixels of a row.
    samples
        Of a pixel.
    dtype
        Of the values, in native byte order.

    Returns
    -------
    ndarray
        (rows, width, samples).
    """
    rows = len(raw)
    differences = raw.reshape(rows, -1, samples)
    summed: np.ndarray = np.add.accumulate(differences, axis=1, dtype=np.uint8)
    by_significance = summed.reshape(rows, dtype.itemsize, width * samples)
    big_endian = np.ascontiguousarray(by_significance.transpose(0, 2, 1))
    values = big_endian.view(dtype.newbyteorder(">"))
    return values.reshape(rows, width, samples).astype(dtype)
