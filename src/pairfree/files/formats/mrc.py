"""MRC / CCP4 maps, stacks and volumes (MRC2014): what electron microscopes and cryo-EM programs write.

Kept: type, axes, cell and voxel size, origin, start indices, extended header, labels (one is added), how the
file is packed (gzip, bzip2), and every other header word but the statistics, which are those of the new
pixels. Big-endian files come back little-endian. mrcfile is imported when one is met.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import OutputError
from pairfree.files.formats.mrc_header import (
    AXIS_ORDERS,
    FOUR_BITS,
    HEADER_BYTES,
    MODES,
    MOST_OF_FOUR_BITS,
    OF_THE_PIXELS,
    Carried,
    axes_of,
    check_header,
    check_sizes,
    packed_shape,
    read_header,
    shape_of,
    spacing_of,
)
from pairfree.files.formats.packing import (
    create_packed,
    find_end,
    open_packed,
    packing_of,
    read_up_to,
    read_values,
)
from pairfree.files.image import DType, Image, Index, Spacing, Stored
from pairfree.files.limits import Limits
from pairfree.files.messages import shown
from pairfree.files.stored import RawFile

LABEL_CHARACTERS = 80
UNDETERMINED = {"dmin": 0.0, "dmax": -1.0, "dmean": -2.0, "rms": -1.0}
"""Statistics that are not known, as MRC2014 says it."""


class Nibbles(Stored):
    """Pixels of 4 bits that stay in their file."""

    def __init__(self, packed: RawFile, columns: int) -> None:
        self.packed = packed
        self.shape = (*packed.shape[:-1], columns)
        self.dtype = packed.dtype

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``."""
        whole_bytes = slice(columns.start // 2, (columns.stop + 1) // 2)
        values = unpack_nibbles(self.packed.region(index, rows, whole_bytes))
        skipped = columns.start % 2
        return values[:, skipped : skipped + columns.stop - columns.start]


def unpack_nibbles(packed: np.ndarray) -> np.ndarray:
    """Two values of each byte, that of the low bits first: (..., n) -> (..., 2 n)."""
    values = np.empty((*packed.shape[:-1], 2 * packed.shape[-1]), np.uint8)
    values[..., 0::2] = packed & MOST_OF_FOUR_BITS
    values[..., 1::2] = packed >> 4
    return values


def pack_nibbles(values: np.ndarray) -> np.ndarray:
    """Rows of values 0 to 15 as bytes, an odd row with a 0 at its end: (h, w) -> (h, (w + 1) // 2)."""
    odd = values.shape[-1] % 2
    even = np.pad(values, ((0, 0), (0, odd)))
    packed: np.ndarray = even[:, 0::2] | even[:, 1::2] << 4
    return packed


def read_mrc(path: Path, limits: Limits) -> Image:
    """Read a map, stack or volume, packed or not. Raises InputError."""
    packing = packing_of(path)
    with open_packed(path, packing) as file:
        head = file.read(HEADER_BYTES)
        declared = check_header(head, path)
        stays = check_sizes(declared, path, packing, limits)
        extended = read_up_to(file, declared.extended)
        header, voxel_size, lines = read_header(head + extended, declared, path)
        shape = shape_of(header, declared, path)
        in_file = packed_shape(shape) if declared.four_bits else shape
        pixels: np.ndarray | Stored
        if stays:
            raw = RawFile(path, HEADER_BYTES + declared.extended, in_file, declared.dtype)
            pixels = Nibbles(raw, shape[-1]) if declared.four_bits else raw
            file.seek(math.prod(in_file) * declared.dtype.itemsize, os.SEEK_CUR)
        else:
            pixels = read_values(file, in_file, declared.dtype, path)
            if declared.four_bits:
                pixels = unpack_nibbles(pixels)[..., : shape[-1]]
        if find_end(file):
            lines.append("bytes after the pixels are not used")
    axes = axes_of(header, shape, path)
    carried = Carried(header, extended, declared.unsigned)
    order = tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))
    spacing: Spacing = {}
    if order in AXIS_ORDERS:
        spacing = spacing_of(voxel_size, axes)
    else:
        lines.append(
            "its axes are in another order than X, Y, Z; they are kept, "
            "and no pixel size is reported"
        )
    return Image(
        pixels,
        axes,
        spacing,
        bit_depth=4 if carried.four_bits else None,
        source=path,
        family="mrc",
        metadata={"mrc": carried, "warnings": lines},
        limits=(0.0, float(MOST_OF_FOUR_BITS)) if carried.four_bits else None,
    )


def write_mrc(image: Image, path: Path, packing: str) -> None:
    """Write the pixels under the header that the file had, packed alike.

    An image of another origin gets a plain header with its pixel size. OutputError for pixels that MRC has
    no type for.

    Parameters
    ----------
    image
        Of any origin.
    path
        Of the file, which says nothing.
    packing
        A key of ``packing.RATIOS``.
    """
    carried: Carried | None = image.metadata.get("mrc")
    dtype, extended = image.dtype, b""
    four_bits = False
    if carried is not None:
        extended, four_bits = carried.extended, carried.four_bits
        if carried.unsigned:
            dtype = np.dtype(np.int8)
    numbers = {name: number for number, name in MODES.items() if number != FOUR_BITS}
    if dtype.name not in numbers and not four_bits:
        raise OutputError(
            f"cannot write {shown(path)}: MRC has no {dtype.name} pixels; "
            f"use {', '.join(numbers)}, or TIFF"
        )
    statistics = _statistics(image, dtype)
    if four_bits and (dtype != np.uint8 or statistics["dmax"] > MOST_OF_FOUR_BITS):
        raise OutputError(
            f"cannot write {shown(path)}: it is an MRC file of 4 bits, whose values are "
            f"0 to {MOST_OF_FOUR_BITS} as uint8, and the greatest of these {dtype.name} is "
            f"{statistics['dmax']:g}; clip them, or write TIFF"
        )
    mode = FOUR_BITS if four_bits else numbers[dtype.name]
    header = _make_header(image, path, carried, mode)
    header.nsymbt = len(extended)
    for name, value in statistics.items():
        header[name] = value
    in_file = dtype.newbyteorder("<")
    with create_packed(path, packing) as file:
        file.write(header.tobytes())
        file.write(extended)
        for part in image.parts():
            stored = pack_nibbles(part) if four_bits else np.ascontiguousarray(part).view(dtype)
            file.write(np.ascontiguousarray(stored, dtype=in_file).data)


def _make_header(image: Image, path: Path, carried: Carried | None, mode: int) -> Any:
    """Words and labels that the file had, or plain ones, and one label more.

    mrcfile writes a file of one pixel, whose header gets the sizes of the image.
    """
    import mrcfile

    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.zeros((1,) * len(image.shape), np.int8))
        header = mrc.header
        header.mode = mode
        header.nx, header.ny = image.width, image.height
        header.nz = math.prod(image.leading)
        if carried is not None:
            for name in carried.header.dtype.names:
                if name not in OF_THE_PIXELS:
                    header[name] = carried.header[name]
        else:
            header.mx, header.my = header.nx, header.ny
            header.mz = image.leading[-1] if image.leading else 1
            if "X" in image.spacing:
                steps = [image.spacing.get(axis, (0.0, "")) for axis in "XYZ"]
                mrc.voxel_size = tuple(size for size, _ in steps)
        if int(header.nlabl) < len(header.label):
            text = str(image.metadata.get("derivation", "processed with pairfree"))
            plain = text.encode("ascii", "replace").decode("ascii")
            mrc.add_label(plain[:LABEL_CHARACTERS])
        return header.copy()


def _statistics(image: Image, dtype: DType) -> dict[str, float]:
    """The header's dmin, dmax, dmean and rms (standard deviation) of the pixels as they are stored.

    Of those that are numbers. Part by part: means and squares of parts are put together by their sizes.
    """
    count = 0
    mean, squares = 0.0, 0.0
    low, high = math.inf, -math.inf
    for pixels in image.parts():
        stored = np.ascontiguousarray(pixels).view(dtype)
        part = stored[np.isfinite(stored)]
        if not part.size:
            continue
        apart = float(part.mean(dtype=np.float64)) - mean
        share = part.size / (count + part.size)
        squares += part.size * float(part.var(dtype=np.float64)) + apart**2 * count * share
        mean += apart * share
        count += part.size
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    if not count:
        return dict(UNDETERMINED)
    rms = math.sqrt(squares / count)
    return {"dmin": low, "dmax": high, "dmean": mean, "rms": rms}
