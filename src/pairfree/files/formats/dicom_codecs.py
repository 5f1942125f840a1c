"""Decoding of compressed DICOM frames, by imagecodecs.

JPEG, lossless JPEG, JPEG-LS, JPEG 2000 and its high-throughput kind. The size that a frame's own header
declares is compared with that of the data set before it is decoded, so that a few bytes cannot ask for
gigabytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.jpeg_header import declared_components, declared_size, has_end
from pairfree.files.image import DType, Shape
from pairfree.files.messages import reason, shown

_JPEG = ("jpeg", 0xC0, 0xCF)
_LOSSLESS = ("ljpeg", 0xC0, 0xCF)
_LS = ("jpegls", 0xF7, 0xF7)
_2000 = ("jpeg2k", 0x51, 0x51)
CODECS = {
    "1.2.840.10008.1.2.4.50": _JPEG,
    "1.2.840.10008.1.2.4.51": _JPEG,
    "1.2.840.10008.1.2.4.57": _LOSSLESS,
    "1.2.840.10008.1.2.4.70": _LOSSLESS,
    "1.2.840.10008.1.2.4.80": _LS,
    "1.2.840.10008.1.2.4.81": _LS,
    "1.2.840.10008.1.2.4.90": _2000,
    "1.2.840.10008.1.2.4.91": _2000,
    "1.2.840.10008.1.2.4.201": _2000,
    "1.2.840.10008.1.2.4.202": _2000,
    "1.2.840.10008.1.2.4.203": _2000,
}
"""Transfer syntax UID -> decoder of imagecodecs, and the first and last marker that state a frame's size."""
WITH_END = ("jpeg", "ljpeg")
"""Decoders that make an image of what is cut off, too."""
RATIO = 5000.0
"""Largest ratio of decoded to stored bytes that is believed."""


def decode(dataset: Any, shape: Shape, dtype: DType, path: Path) -> np.ndarray:
    """The stored values of all frames.

    Parameters
    ----------
    dataset
        With its pixels.
    shape
        (frames, rows, columns) as the data set states them.
    dtype
        Of the stored values.
    path
        Of the file, for messages.

    Raises
    ------
    InputError
        For frames that are missing, damaged, or of another size.
    """
    from pydicom.encaps import generate_frames

    out = np.empty(shape, dtype)
    stated, *frame_shape = shape
    found = 0
    for number, frame in enumerate(generate_frames(dataset.PixelData, number_of_frames=stated)):
        if number < stated:
            where = f"{shown(path)}: frame {number + 1}"
            values = _decode_frame(frame, dataset, tuple(frame_shape), where)
            if dtype.kind == "i":
                values = _signed(values, int(dataset.BitsStored))
            out[number] = values.astype(dtype)
        found = number + 1
    if found != stated:
        raise InputError(
            f"{shown(path)}: holds {found} compressed frames, states {stated}; export it again"
        )
    return out


def _decode_frame(data: bytes, dataset: Any, shape: Shape, where: str) -> np.ndarray:
    """Whole numbers, (rows, columns), of the type that the codec gives them."""
    import imagecodecs

    syntax = str(dataset.file_meta.TransferSyntaxUID)
    name, first, last = CODECS[syntax]
    declared = declared_size(data, first, last)
    components = declared_components(data, first, last)
    if declared != shape or components != 1:
        raise InputError(
            f"{where} is compressed as an image of {declared} with {components} values a pixel, the object "
            f"states {shape} with 1; export it again"
        )
    if name in WITH_END and not has_end(data):
        raise InputError(
            f"{where} cannot be decoded (a picture whose end is missing); copy or export it again"
        )
    try:
        values = np.asarray(getattr(imagecodecs, f"{name}_decode")(data))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{where} cannot be decoded ({reason(error)}); copy or export it again"
        ) from error
    if values.shape != shape or values.dtype.kind not in "iu":
        raise InputError(
            f"{where} decodes to {values.dtype} {values.shape}, expected {shape}; export it again"
        )
    return values


def _signed(values: np.ndarray, bits: int) -> np.ndarray:
    """Two's complement of so many bits, where the codec knows no sign.

    Words with more bits are left as they are: something else lies beside the values.
    """
    if values.dtype.kind == "i" or (values >> bits).any():
        return values
    unsigned = values.astype(np.int64) & (2**bits - 1)
    sign = unsigned >> (bits - 1)
    return np.asarray(unsigned - (sign << bits))
