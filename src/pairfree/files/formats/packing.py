"""Files that are packed as a whole, with gzip or bzip2: opened for reading and for writing by their names.

What is read is bounded by what a header declares: no more is unpacked than was asked for. What is written is
the same each time, without a name or a time in it.
"""

from __future__ import annotations

import bz2
import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.image import Shape
from pairfree.files.limits import BZIP2, DEFLATE, UNCOMPRESSED
from pairfree.files.messages import shown
from pairfree.regular import fill

PLAIN, GZIP, BZIP = "", ".gz", ".bz2"
"""How a file is packed, by the end of its name."""
RATIOS = {PLAIN: UNCOMPRESSED, GZIP: DEFLATE, BZIP: BZIP2}
"""Largest ratio of what is in a file to its size."""
GZIP_LEVEL = 6
SMALL_BYTES = 2**16
"""What is unpacked at once of headers."""
END_BYTES = 2**24
"""What is unpacked behind the last byte that is used: more is left packed."""


def packing_of(path: Path) -> str:
    """How a file is packed, by its name: one of ``RATIOS``."""
    suffix = path.suffix.lower()
    return suffix if suffix in RATIOS else PLAIN


def bare_name(path: Path) -> str:
    """The name without the suffix that says how the file is packed, in lower case."""
    return path.name.lower().removesuffix(packing_of(path))


@contextmanager
def open_packed(path: Path, packing: str) -> Iterator[Any]:
    """A file to read from, unpacked as far as it is read.

    Parameters
    ----------
    path
        Of the file.
    packing
        One of ``RATIOS``.
    """
    with path.open("rb") as file:
        if packing == GZIP:
            with gzip.GzipFile(fileobj=file, mode="rb") as inside:
                yield inside
        elif packing == BZIP:
            with bz2.BZ2File(file, "rb") as unpacked:
                yield unpacked
        else:
            yield file


@contextmanager
def create_packed(path: Path, packing: str) -> Iterator[Any]:
    """A new file to write to, one part after the other.

    Parameters
    ----------
    path
        Of the file, which says nothing.
    packing
        One of ``RATIOS``.
    """
    with path.open("wb") as file:
        if packing == GZIP:
            with gzip.GzipFile("", "wb", GZIP_LEVEL, fileobj=file, mtime=0) as inside:
                yield inside
        elif packing == BZIP:
            with bz2.BZ2File(file, "wb") as packed:
                yield packed
        else:
            yield file


def read_up_to(file: Any, most: int) -> bytes:
    """What comes next in a file: ``most`` bytes, or all that there are where those are less.

    Memory is taken for what is there, not for what was asked for.
    """
    pieces = []
    there = 0
    while there < most:
        piece: bytes = file.read(min(SMALL_BYTES, most - there))
        if not piece:
            break
        pieces.append(piece)
        there += len(piece)
    return b"".join(pieces)


def find_end(file: Any) -> bool:
    """Whether bytes follow in a file.

    They are unpacked, up to ``END_BYTES``: checksums stand at the end, and whoever looks at them finds damage
    in what was read.
    """
    there = 0
    while there < END_BYTES:
        piece = file.read(SMALL_BYTES)
        if not piece:
            break
        there += len(piece)
    return there > 0


def read_values(file: Any, shape: Shape, dtype: np.dtype[Any], path: Path) -> np.ndarray:
    """The values that come next in a file.

    Parameters
    ----------
    file
        At their first byte.
    shape
        Of the values, the last axis fastest, as it was checked against the limits.
    dtype
        In the file's byte order.
    path
        Of the file, for the message.

    Returns
    -------
    ndarray
        In the file's byte order.

    Raises
    ------
    InputError
        Where there are less.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    values = np.empty(n_bytes, np.uint8)  # takes memory as it is filled
    there = fill(values.data, file)
    if there < n_bytes:
        raise InputError(
            f"{shown(path)}: holds {there} bytes of pixels, {n_bytes} are declared; "
            "it is truncated, copy or export it again"
        )
    return values.view(dtype).reshape(shape)
