"""Limits on what a file may declare, applied to its header before a byte of pixels is decoded.

What is bounded: the pixels, bytes and pages that a header declares; the ratio of declared bytes to file size
(an uncompressed file can never be smaller than its pixels, and a codec has a largest possible ratio); and, in
the readers, what each compressed strip, tile or PNG stream inflates to: deflate, LZW, PackBits, zstd and LZMA
stop at the declared size of the strip; pictures in strips and tiles (JPEG, JPEG 2000, WebP, LERC, ...) are
measured by their own headers first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.messages import shown, size_text

# Largest ratio of decoded to stored bytes that each kind of data can reach, rounded up. Beyond it, a header
# lies.
UNCOMPRESSED = 1.0
PACKBITS = 65.0
DEFLATE = 1100.0
LZW = 2800.0
JPEG = 5000.0
ZSTD = 60000.0
BZIP2 = 1.4e6
# Where the codec allows more than this many bytes from a small file, the ratio says nothing; a page of
# headers is not pixels either.
_RATIO_FLOOR_BYTES = 2**20


@dataclass(frozen=True)
class Limits:
    """The most a file may declare."""

    max_pixels: int = 2**34
    """Values, samples of a pixel counted each."""
    max_bytes: int = 2**34
    """Decoded size."""
    max_pages: int = 2**17
    """Pages (TIFF image file directories) in one file."""
    resident_bytes: int = 2**34
    """An image of more bytes stays in its file, where its format allows that.

    Regions are read when asked for, and ``max_pixels`` and ``max_bytes`` do not hold for it.
    """
    piece_bytes: int = 2**31
    """Of a part of an image that is decoded, or encoded, in one piece, such as a chunk of a Zarr."""


DEFAULT = Limits()


def check_declared(
    path: Path,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    limits: Limits,
    file_size: int,
    max_ratio: float = UNCOMPRESSED,
    may_stay: bool = False,
) -> int:
    """Bytes that an image needs once decoded, after checking that what its header declares can be true.

    Parameters
    ----------
    path
        Of the file, for messages.
    shape
        As the header declares it.
    dtype
        As the header declares it.
    limits
        Of what may be declared.
    file_size
        Bytes of the stored pixels, or of the whole file.
    max_ratio
        Largest decoded / stored ratio of the codec; 1 for uncompressed data.
    may_stay
        The reader leaves what exceeds ``limits.resident_bytes`` in the file.

    Raises
    ------
    InputError
        Naming the file, what it declares, the limit and a remedy.
    """
    sizes = tuple(int(n) for n in shape)
    if any(n <= 0 for n in sizes):
        raise InputError(
            f"{shown(path)}: declares shape {sizes}, which holds no pixels; "
            "the file is damaged or was not written completely"
        )
    pixels = math.prod(sizes)
    n_bytes = pixels * dtype.itemsize
    size = "x".join(map(str, sizes))
    declared = f"{shown(path)}: declares {size} {dtype.name} = {size_text(n_bytes)}"
    possible, kind = file_size * max_ratio, "truncated"
    if max_ratio != UNCOMPRESSED:
        possible, kind = max(possible, _RATIO_FLOOR_BYTES), "damaged or truncated"
    if n_bytes > possible:
        raise InputError(
            f"{declared}, but the file has only {size_text(file_size)}: it is {kind}; "
            "copy or export it again"
        )
    if may_stay and n_bytes > limits.resident_bytes:
        return n_bytes
    if pixels > limits.max_pixels:
        raise InputError(
            f"{declared}, more than the limit of {limits.max_pixels} pixels; "
            "crop or split the file, or raise max_pixels"
        )
    if n_bytes > limits.max_bytes:
        raise InputError(
            f"{declared}, more than the {size_text(limits.max_bytes)} that may be read whole; "
            "crop or split the file, or convert it to OME-Zarr, which is read tile by tile"
        )
    return n_bytes


def check_pages(path: Path, pages: int, limits: Limits) -> None:
    """InputError when a file declares more pages than ``limits`` allow."""
    if pages > limits.max_pages:
        raise InputError(
            f"{shown(path)}: declares at least {pages} pages, "
            f"more than the limit of {limits.max_pages}; split the file"
        )


def check_scene(scene: int, count: int, path: Path) -> None:
    """InputError for an image of a file that it does not have."""
    if not 0 <= scene < count:
        held = "one image, number 0" if count == 1 else f"{count} images, numbers 0 to {count - 1}"
        raise InputError(f"{shown(path)}: has no image of number {scene}; it holds {held}")
