"""NumPy ``.npy`` files: the header is checked before memory is asked for, and no object is ever unpickled."""

from __future__ import annotations

import functools
import io
import math
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from pairfree.errors import InputError
from pairfree.files.image import DType, Image, Shape, Stored, check_dtype
from pairfree.files.limits import Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import RawFile
from pairfree.files.wide_integers import is_wide, narrow, type_in_file

LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
"""Of the length of the header, by the version of the format."""
MOST_HEADER_BYTES = 10_000
"""NumPy's own limit."""


class Header(NamedTuple):
    """What a file says of its array."""

    shape: Shape
    fortran: bool
    """The first axis is the fastest."""
    dtype: DType


def read_npy(path: Path, limits: Limits) -> Image:
    """Read one array.

    Byte order, and Fortran order of the axes, are kept in the metadata and written back.
    """
    file_size = path.stat().st_size
    with path.open("rb") as file:
        header = _read_header(file, path)
        shape, fortran, dtype = header
        check_dtype(dtype, shown(path), wide=True)
        start = file.tell()
        axes = guess_axes(shape, path)
        stored = file_size - start
        may_stay = not fortran and not is_wide(dtype)
        n_bytes = check_declared(path, shape, dtype, limits, stored, may_stay=may_stay)
        if stored > n_bytes:
            raise InputError(
                f"{shown(path)}: {stored - n_bytes} bytes follow the array; "
                "the header is damaged, or save one array per file"
            )
        data: np.ndarray | Stored
        of_wide: dict[str, str] = {}
        if may_stay and n_bytes > limits.resident_bytes:
            plane_axes = 3 if axes.endswith("S") else 2
            data = RawFile(path, start, shape, dtype, plane_axes)
        else:
            data, of_wide = narrow(_read_values(file, header), shown(path))
    byteorder = ">" if dtype.str.startswith(">") else "="
    metadata: dict[str, Any] = {
        "byteorder": byteorder,
        "fortran": fortran,
        "warnings": [],
        **of_wide,
    }
    return Image(data, axes, source=path, family="npy", metadata=metadata, alpha=False)


def _read_header(file: BinaryIO, path: Path) -> Header:
    version = npy_format.read_magic(file)
    if version in LENGTH_BYTES:
        length = file.read(LENGTH_BYTES[version])
        words = file.read(min(int.from_bytes(length, "little"), MOST_HEADER_BYTES + 1))
        return _parse_header(version, length + words)
    raise InputError(
        f"{shown(path)}: .npy version {version} is not known (1.0 to 3.0 are); "
        "save it with numpy.save"
    )


@functools.lru_cache(maxsize=64)
def _parse_header(version: tuple[int, int], data: bytes) -> Header:
    """What follows the magic word: in a series of images it is the same for each."""
    file = io.BytesIO(data)
    if version == (1, 0):
        return Header(*npy_format.read_array_header_1_0(file, MOST_HEADER_BYTES))
    # Version 3 differs from 2 in the encoding of field names only, and arrays with fields are refused.
    return Header(*npy_format.read_array_header_2_0(file, MOST_HEADER_BYTES))


def _read_values(file: BinaryIO, header: Header) -> np.ndarray:
    """What follows the header, in C order."""
    values = np.fromfile(file, header.dtype, count=math.prod(header.shape))
    if not header.fortran:
        return values.reshape(header.shape)
    turned = values.reshape(header.shape[::-1])
    return np.ascontiguousarray(turned.T)


def guess_axes(shape: Shape, path: Path | None = None) -> str:
    """Axes of an array that does not name them; InputError for less than two.

    (H, W), (H, W, 3 or 4) as colour when H and W are larger than 4, else stacks QYX, QQYX.

    Parameters
    ----------
    shape
        Of the array.
    path
        Its file, for the message.
    """
    dimensions = len(shape)
    if dimensions < 2:
        where = shown(path) if path is not None else "array"
        raise InputError(
            f"{where}: has {dimensions} dimension(s) {shape}; "
            "an image needs at least height and width"
        )
    if dimensions >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > 4:
        return "Q" * (dimensions - 3) + "YXS"
    return "Q" * (dimensions - 2) + "YX"


def write_npy(image: Image, path: Path) -> None:
    """Write the pixels in the byte order and the order of axes that the file had, part by part.

    Spacing and names have no place in this format.
    """
    dtype = type_in_file(image).newbyteorder(image.metadata.get("byteorder", "="))
    fortran = bool(image.metadata.get("fortran", False))
    header = {
        "descr": npy_format.dtype_to_descr(dtype),
        "fortran_order": fortran,
        "shape": image.shape,
    }
    with path.open("wb") as file:
        npy_format.write_array_header_1_0(file, header)
        for part in image.pixels.T if fortran else image.parts():
            file.write(np.ascontiguousarray(part, dtype=dtype).data)
