"""NumPy ``.npy`` files: the header is checked before memory is asked for, and no object is ever unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pairfree.errors import InputError
from pairfree.files.image import Image, check_dtype
from pairfree.files.limits import Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import RawFile


def read_npy(path: Path, limits: Limits) -> Image:
    """Read one array.

    Byte order is kept in the metadata and written back; Fortran order is read and becomes C order.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        shape, fortran, dtype = _header(file, path)
        check_dtype(dtype, shown(path))
        start = file.tell()
        axes = guess_axes(shape, path)
        n_bytes = check_declared(path, shape, dtype, limits, size - start, may_stay=not fortran)
        if size - start > n_bytes:
            extra = size - start - n_bytes
            raise InputError(
                f"{shown(path)}: {extra} bytes follow the array; the header is damaged, or save one array per file"
            )
        metadata: dict[str, Any] = {
            "byteorder": ">" if dtype.str.startswith(">") else "=",
            "warnings": [],
        }
        if n_bytes > limits.resident_bytes and not fortran:
            data = RawFile(path, start, shape, dtype, plane_axes=3 if axes.endswith("S") else 2)
            return Image(data, axes, source=path, family="npy", metadata=metadata)
        pixels = np.fromfile(file, dtype, count=int(np.prod(shape, dtype=object)))
    pixels = pixels.reshape(shape[::-1]).T if fortran else pixels.reshape(shape)
    return Image(np.ascontiguousarray(pixels), axes, source=path, family="npy", metadata=metadata)


def _header(file: BinaryIO, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version in ((2, 0), (3, 0)):
        # Version 3 differs from 2 in the encoding of field names only, and arrays with fields are refused.
        return np.lib.format.read_array_header_2_0(file)
    raise InputError(
        f"{shown(path)}: .npy version {version} is not known (1.0 to 3.0 are); save it with numpy.save"
    )


def guess_axes(shape: tuple[int, ...], path: Path | None = None) -> str:
    """Axes of an array that does not name them: (H, W), (H, W, 3 or 4) as colour when H and W are larger than
    4, else stacks QYX, QQYX."""
    if len(shape) < 2:
        where = shown(path) if path is not None else "array"
        raise InputError(
            f"{where}: has {len(shape)} dimension(s) {shape}; an image needs at least height and width"
        )
    colour = len(shape) >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > 4
    return "Q" * (len(shape) - 3) + "YXS" if colour else "Q" * (len(shape) - 2) + "YX"


def write_npy(image: Image, path: Path) -> None:
    """Write the pixels in the byte order that the file had, part by part.

    Spacing and names have no place in this format.
    """
    dtype = image.dtype.newbyteorder(image.metadata.get("byteorder", "="))
    with path.open("wb") as file:
        head = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": image.shape,
        }
        np.lib.format.write_array_header_1_0(file, head)
        for part in image.parts():
            file.write(np.ascontiguousarray(part, dtype=dtype).data)
