"""The header of an MRC file: what it states, and whether that can be true."""

from __future__ import annotations

import io
import math
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.packing import PLAIN, RATIOS, bare_name
from pairfree.files.image import DType, Shape, Spacing
from pairfree.files.limits import Limits, check_declared
from pairfree.files.messages import shown

Order = Literal["<", ">"]

HEADER_BYTES = 1024
FOUR_BITS = 101
"""Number of the type whose values are 0 to 15, two a byte; rows begin with a byte of their own."""
MOST_OF_FOUR_BITS = 15
MODES = {
    0: "int8",
    1: "int16",
    2: "float32",
    6: "uint16",
    12: "float16",
    FOUR_BITS: "uint8",
}
"""NumPy's types by the format's numbers of them."""
REFUSED = {
    3: "complex integers: they are a transform, not an image",
    4: "complex numbers: they are a transform, not an image",
}
"""What is not read, by its number."""
PLAIN_SUFFIXES = (
    ".mrc",
    ".mrcs",
    ".map",
    ".ccp4",
    ".rec",
    ".st",
    ".ali",
    ".preali",
)
STACK_SUFFIXES = (".mrcs", ".st")
"""Of files whose sections are images of their own, whatever the header says."""
STAMPS: dict[bytes, Order] = {b"DD": "<", b"DA": "<", b"\x11\x11": ">"}
"""Byte orders by the machine stamp."""
IMOD_STAMP = 1146047817
"""Word that IMOD leaves in the header."""
IMOD_SIGNED = 1
"""IMOD's flag for bytes that are signed."""
IMOD_NIBBLES = 16
"""IMOD's flag for bytes with two values each."""
OF_THE_PIXELS = (
    "nx",
    "ny",
    "nz",
    "mode",
    "nsymbt",
    "dmin",
    "dmax",
    "dmean",
    "rms",
    "machst",
    "map",
)
"""Words of the header that are written anew."""
AXIS_ORDERS = ((1, 2, 3), (0, 0, 0))
"""Of the axes X, Y, Z, as the header numbers them; not stated is the usual one."""
MOST_EXTENDED_BYTES = 2**28
"""Of a packed file, where its size says little."""


@dataclass(frozen=True)
class Carried:
    """What writing an MRC file back needs."""

    header: Any
    """As mrcfile reads it."""
    extended: bytes
    """What follows it."""
    unsigned: bool
    """8-bit values are unsigned, by IMOD's flag."""

    @property
    def four_bits(self) -> bool:
        """Two values share a byte."""
        return int(self.header.mode) == FOUR_BITS


class Declared(NamedTuple):
    """What a header says of the pixels, before any are read."""

    order: Order
    """Of the bytes, as NumPy spells it."""
    shape: Shape
    """(sections, rows, columns)."""
    mode: int
    """A key of ``MODES``."""
    extended: int
    """Bytes between header and pixels."""
    unsigned: bool
    """8-bit values are unsigned."""

    @property
    def four_bits(self) -> bool:
        """Two values share a byte."""
        return self.mode == FOUR_BITS

    @property
    def dtype(self) -> DType:
        """Of the pixels, in the file's byte order; of 4 bits, that of their bytes."""
        kind = "uint8" if self.unsigned else MODES[self.mode]
        return np.dtype(kind).newbyteorder(self.order)


def check_header(head: bytes, path: Path) -> Declared:
    """Look at the first 1024 bytes before mrcfile does; InputError for what is no header, or no image's."""
    if len(head) < HEADER_BYTES:
        raise InputError(
            f"{shown(path)}: has {len(head)} bytes, less than an MRC header ({HEADER_BYTES}); "
            "it is truncated, copy it again"
        )
    order = _byte_order(head)
    if order is None:
        raise InputError(
            f"{shown(path)}: states no pixel type of MRC; "
            "it is damaged or another format, export it again"
        )
    columns, rows, sections, mode = struct.unpack_from(f"{order}4i", head)
    (extended,) = struct.unpack_from(f"{order}i", head, 92)
    stamp, flags = struct.unpack_from(f"{order}2i", head, 152)
    if mode in REFUSED:
        raise InputError(
            f"{shown(path)}: holds {REFUSED[mode]}; convert it to 16-bit integers or 32-bit floats"
        )
    bytes_by_imod = mode == 0 and stamp == IMOD_STAMP
    if bytes_by_imod and flags & IMOD_NIBBLES:
        raise InputError(
            f"{shown(path)}: its bytes hold two 4-bit values each, by IMOD's flag; "
            "convert it with IMOD's newstack -mode 1"
        )
    unsigned = bytes_by_imod and not flags & IMOD_SIGNED
    return Declared(order, (sections, rows, columns), mode, extended, unsigned)


def _byte_order(head: bytes) -> Order | None:
    """The one in which the header states a pixel type that is known, first that of the machine stamp."""
    stated = STAMPS.get(head[212:214], "<")
    others: tuple[Order, Order] = ("<", ">")
    for order in (stated, *others):
        (mode,) = struct.unpack_from(f"{order}i", head, 12)
        if mode in MODES or mode in REFUSED:
            return order
    return None


def check_sizes(declared: Declared, path: Path, packing: str, limits: Limits) -> bool:
    """InputError where what a header declares cannot be true.

    Returns
    -------
    bool
        Whether the pixels are so many that they stay in the file.
    """
    size = path.stat().st_size
    most = size - HEADER_BYTES if packing == PLAIN else MOST_EXTENDED_BYTES
    if not 0 <= declared.extended <= most:
        raise InputError(
            f"{shown(path)}: declares {declared.extended} bytes of extended header in a file of {size}; "
            "it is damaged, export it again"
        )
    stored, ratio = size, RATIOS[packing]
    if packing == PLAIN:
        stored = size - HEADER_BYTES - declared.extended
    dtype, may_stay = declared.dtype, packing == PLAIN
    if declared.four_bits:
        packed = packed_shape(declared.shape)
        check_declared(path, packed, dtype, limits, stored, ratio, may_stay)
        ratio = 2 * ratio
    n_bytes = check_declared(path, declared.shape, dtype, limits, stored, ratio, may_stay)
    return may_stay and n_bytes > limits.resident_bytes


def packed_shape(shape: Shape) -> Shape:
    """Of the bytes that hold values of 4 bits: (..., w) -> (..., (w + 1) // 2)."""
    return (*shape[:-1], (shape[-1] + 1) // 2)


def read_header(head: bytes, declared: Declared, path: Path) -> tuple[Any, Any, list[str]]:
    """Header and voxel size as mrcfile reads them, and a line about each thing that is odd.

    ``head`` is all that is in front of the pixels.
    """
    import mrcfile

    with warnings.catch_warnings(record=True) as odd, io.BytesIO(head) as stream:
        warnings.simplefilter("always")
        mrc = mrcfile.mrcinterpreter.MrcInterpreter(stream, permissive=True, header_only=True)
        mrc.header.dtype = mrc.header.dtype.newbyteorder(declared.order)
        header, voxel_size = mrc.header.copy(), mrc.voxel_size.copy()
    lines = []
    for one in odd:
        if issubclass(one.category, RuntimeWarning):
            lines.append(str(one.message))
    return header, voxel_size, lines


def shape_of(header: Any, declared: Declared, path: Path) -> Shape:
    """Of the array: an image, sections, or volumes of sections."""
    import mrcfile

    sections, in_volume = declared.shape[0], int(header.mz)
    if mrcfile.utils.spacegroup_is_volume_stack(header.ispg) and (
        in_volume < 1 or sections % in_volume
    ):
        raise InputError(
            f"{shown(path)}: declares {sections} sections in volumes of {in_volume}; "
            "it is damaged, export it again"
        )
    return tuple(mrcfile.utils.data_shape_from_header(header))


def axes_of(header: Any, shape: Shape, path: Path) -> str:
    """A letter for each dimension of the array."""
    if len(shape) == 2:
        return "YX"
    if len(shape) == 4:
        return "QZYX"
    stack = int(header.ispg) == 0 or bare_name(path).endswith(STACK_SUFFIXES)
    return "QYX" if stack else "ZYX"


def spacing_of(voxel_size: Any, axes: str) -> Spacing:
    """Ångström, where they are stated."""
    found: Spacing = {}
    for axis in "ZYX":
        step = float(voxel_size[axis.lower()])
        if axis in axes and math.isfinite(step) and step > 0:  # cells of 0 columns state none
            found[axis] = (step, "Å")
    return found
