"""FreeSurfer's volumes (.mgz, .mgh): a header of 284 bytes, big-endian pixels, scan parameters and tags.

Kept: all bytes of the header, with the position in the scanner, and all bytes after the pixels.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError, OutputError
from pairfree.files.formats.packing import (
    GZIP,
    PLAIN,
    RATIOS,
    create_packed,
    find_end,
    open_packed,
    packing_of,
    read_up_to,
    read_values,
)
from pairfree.files.image import DType, Image, Shape, Spacing, Stored
from pairfree.files.limits import Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import RawFile

HEADER_BYTES = 284
VERSION = 1
TYPES = {
    0: "uint8",
    1: "int32",
    3: "float32",
    4: "int16",
}
"""NumPy's types by the format's numbers of them."""
REPETITION_BYTES = 4
"""What follows the pixels begins with the repetition time, ms."""
MOST_TAIL_BYTES = 2**26
"""Of what follows the pixels."""


@dataclass(frozen=True)
class Carried:
    """What writing a file back needs."""

    header: bytes
    """In front of the pixels."""
    tail: bytes
    """After the pixels."""

    @property
    def shape(self) -> Shape:
        """(frames, z, y, x)."""
        sizes = struct.unpack_from(">4i", self.header, 4)
        return sizes[::-1]

    @property
    def dtype(self) -> DType:
        """In the file's byte order; KeyError for a type that is not known."""
        (number,) = struct.unpack_from(">i", self.header, 20)
        return np.dtype(TYPES[number]).newbyteorder(">")

    @property
    def repetition_ms(self) -> float:
        """Time from one frame to the next; 0 where it is not stated."""
        if len(self.tail) < REPETITION_BYTES:
            return 0.0
        (found,) = struct.unpack_from(">f", self.tail)
        return float(found) if math.isfinite(found) and found > 0 else 0.0

    @property
    def steps_mm(self) -> list[float]:
        """Size of a voxel along x, y and z, as far as the header states it."""
        (stated,) = struct.unpack_from(">h", self.header, 28)
        return list(struct.unpack_from(">3f", self.header, 30)) if stated else []


def packing_of_mgh(path: Path) -> str:
    """How a file of that name is packed: .mgz with gzip."""
    return GZIP if path.suffix.lower() == ".mgz" else packing_of(path)


def read_mgh(path: Path, limits: Limits) -> Image:
    """Read a volume, or frames of it: (x, y, z, frame) of the file is (frame, z, y, x).

    Raises InputError.
    """
    packing = packing_of_mgh(path)
    with open_packed(path, packing) as file:
        header = file.read(HEADER_BYTES)
        _check_header(header, path)
        declared = Carried(header, b"")
        dtype, shape = declared.dtype, declared.shape
        if shape[0] == 1:
            shape = shape[1:]
        stored, may_stay = path.stat().st_size, packing == PLAIN
        if may_stay:
            stored -= HEADER_BYTES
        n_bytes = check_declared(path, shape, dtype, limits, stored, RATIOS[packing], may_stay)
        pixels: np.ndarray | Stored
        if may_stay and n_bytes > limits.resident_bytes:
            pixels = RawFile(path, HEADER_BYTES, shape, dtype)
            file.seek(HEADER_BYTES + n_bytes)
        else:
            pixels = read_values(file, shape, dtype, path)
        carried = Carried(header, _read_tail(file, path))
        find_end(file)
    axes = "ZYX"
    if len(shape) > len(axes):
        axes = ("T" if carried.repetition_ms else "Q") + axes
    metadata = {"mgh": carried, "warnings": []}
    return Image(
        pixels, axes, _spacing(carried, axes), source=path, family="mgh", metadata=metadata
    )


def _check_header(header: bytes, path: Path) -> None:
    """InputError for what is no header, and for a type that is not known."""
    version, number = -1, -1
    if len(header) == HEADER_BYTES:
        (version,) = struct.unpack_from(">i", header)
        (number,) = struct.unpack_from(">i", header, 20)
    if version != VERSION:
        raise InputError(
            f"{shown(path)}: does not begin with FreeSurfer's header of {HEADER_BYTES} bytes, version "
            f"{VERSION}; it is damaged or another format, export it again"
        )
    if number not in TYPES:
        raise InputError(
            f"{shown(path)}: its pixel type is number {number}, expected one of "
            f"{', '.join(f'{known} ({name})' for known, name in TYPES.items())}; "
            "convert it with FreeSurfer's mri_convert -odt float"
        )


def _read_tail(file: Any, path: Path) -> bytes:
    """What follows the pixels."""
    tail = read_up_to(file, MOST_TAIL_BYTES + 1)
    if len(tail) > MOST_TAIL_BYTES:
        raise InputError(
            f"{shown(path)}: has more than {MOST_TAIL_BYTES} bytes after its pixels; "
            "it is damaged, export it again"
        )
    return tail


def _spacing(carried: Carried, axes: str) -> Spacing:
    found: Spacing = {}
    for axis, step in zip("XYZ", carried.steps_mm):
        if math.isfinite(step) and step > 0:
            found[axis] = (step, "mm")
    if "T" in axes:
        found["T"] = (carried.repetition_ms, "ms")
    return found


def write_mgh(image: Image, path: Path, packing: str) -> None:
    """Write the pixels between header and tail of the file that they came from.

    Parameters
    ----------
    image
        Read by ``read_mgh``, perhaps with other pixels.
    path
        Of the file, which says nothing.
    packing
        A key of ``packing.RATIOS``.

    Raises
    ------
    OutputError
        For an image that was no such file, or is of another type.
    """
    carried = image.metadata.get("mgh")
    if not isinstance(carried, Carried):
        raise OutputError(
            f"{shown(path)}: a FreeSurfer volume can only be written from one; write TIFF instead"
        )
    dtype = carried.dtype
    if image.dtype != dtype.newbyteorder("=") or image.size != math.prod(carried.shape):
        raise OutputError(
            f"{shown(path)}: {image.dtype} {image.shape} is not what its header describes; "
            "write TIFF instead"
        )
    with create_packed(path, packing) as file:
        file.write(carried.header)
        for part in image.parts():
            file.write(np.ascontiguousarray(part, dtype=dtype).data)
        file.write(carried.tail)
