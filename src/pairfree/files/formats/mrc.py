"""MRC / CCP4 maps, stacks and volumes (MRC2014): what electron microscopes and cryo-EM programs write.

Kept: type, axes, cell and voxel size, origin, start indices, extended header, labels (one is added), and
every other header word but the statistics, which are those of the new pixels. Big-endian files come back
little-endian. mrcfile is imported when one is met.
"""

from __future__ import annotations

import math
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError, OutputError
from pairfree.files.image import DType, Image, Spacing
from pairfree.files.limits import Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import RawFile

HEADER_BYTES = 1024
MODES = {
    0: "int8",
    1: "int16",
    2: "float32",
    6: "uint16",
    12: "float16",
}
"""NumPy's types by the format's numbers of them."""
REFUSED = {
    3: "complex integers",
    4: "complex numbers: they are a transform, not an image",
    101: "4-bit integers",
}
"""What is not read, by its number."""
STACK_SUFFIXES = (".mrcs", ".st")
"""Of files whose sections are images of their own, whatever the header says."""
IMOD_STAMP = 1146047817
"""Word that IMOD leaves in the header."""
IMOD_SIGNED = 1
"""IMOD's flag for bytes that are signed."""
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
ORDERS = ((1, 2, 3), (0, 0, 0))
"""Of the axes X, Y, Z, as the header numbers them; not stated is the usual one."""
LABEL_CHARACTERS = 80
UNDETERMINED = {"dmin": 0.0, "dmax": -1.0, "dmean": -2.0, "rms": -1.0}
"""Statistics that are not known, as MRC2014 says it."""


@dataclass(frozen=True)
class Carried:
    """What writing an MRC file back needs."""

    header: Any
    """As mrcfile reads it."""
    extended: bytes
    """What follows it."""
    unsigned: bool
    """8-bit values are unsigned, by IMOD's flag."""


def read_mrc(path: Path, limits: Limits) -> Image:
    """Read a map, stack or volume. Raises InputError."""
    import mrcfile

    unsigned, stays = _check_header(path, limits)
    open_mrc = mrcfile.mmap if stays else mrcfile.open
    with warnings.catch_warnings(record=True) as odd:
        warnings.simplefilter("always")
        with open_mrc(path, mode="r", permissive=True) as mrc:
            if mrc.data is None:
                told = "; ".join(str(one.message) for one in odd)
                raise InputError(f"{shown(path)}: holds no pixels ({told}); export it again")
            extended = np.asarray(mrc.extended_header).tobytes()
            carried = Carried(mrc.header.copy(), extended, unsigned)
            axes = _axes(mrc, path)
            voxel_size = mrc.voxel_size.copy()
            pixels: np.ndarray | RawFile
            if stays:
                kind = np.dtype(np.uint8) if unsigned else mrc.data.dtype
                offset = HEADER_BYTES + len(extended)
                pixels = RawFile(path, offset, mrc.data.shape, kind)
            else:
                pixels = np.array(mrc.data, dtype=mrc.data.dtype.newbyteorder("="))
                if unsigned:
                    pixels = pixels.view(np.uint8)
    lines = []
    for one in odd:
        if issubclass(one.category, RuntimeWarning):
            lines.append(f"{path.name}: {one.message}")
    order = tuple(int(carried.header[name]) for name in ("mapc", "mapr", "maps"))
    spacing: Spacing = {}
    if order in ORDERS:
        spacing = _spacing(voxel_size, axes)
    else:
        lines.append(
            f"{path.name}: its axes are in another order than X, Y, Z; they are kept, "
            "and no pixel size is reported"
        )
    metadata = {"mrc": carried, "warnings": lines}
    return Image(pixels, axes, spacing, source=path, family="mrc", metadata=metadata)


def _spacing(voxel_size: Any, axes: str) -> Spacing:
    """Ångström, where they are stated."""
    found: Spacing = {}
    for axis in "ZYX":
        step = float(voxel_size[axis.lower()])
        if axis in axes and math.isfinite(step) and step > 0:  # cells of 0 columns state none
            found[axis] = (step, "Å")
    return found


def _check_header(path: Path, limits: Limits) -> tuple[bool, bool]:
    """Look at a header before mrcfile does; InputError where what it declares cannot be true.

    Returns
    -------
    tuple
        Whether 8-bit values are unsigned, and whether the pixels are too many to be loaded.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        raise InputError(
            f"{shown(path)}: has {size} bytes, less than an MRC header ({HEADER_BYTES}); "
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
    stored = size - HEADER_BYTES - extended
    if extended < 0 or stored < 0:
        raise InputError(
            f"{shown(path)}: declares {extended} bytes of extended header in a file of {size}; "
            "it is damaged, export it again"
        )
    shape, dtype = (sections, rows, columns), np.dtype(MODES[mode])
    n_bytes = check_declared(path, shape, dtype, limits, stored, may_stay=True)
    unsigned = mode == 0 and stamp == IMOD_STAMP and not flags & IMOD_SIGNED
    return unsigned, n_bytes > limits.resident_bytes


def _byte_order(head: bytes) -> str | None:
    """The one in which the header states a pixel type that is known."""
    for order in "<>":
        (mode,) = struct.unpack_from(f"{order}i", head, 12)
        if mode in MODES or mode in REFUSED:
            return order
    return None


def _axes(mrc: Any, path: Path) -> str:
    if mrc.data.ndim == 2:
        return "YX"
    if mrc.data.ndim == 4:
        return "QZYX"
    stack = mrc.is_image_stack() or path.suffix.lower() in STACK_SUFFIXES
    return "QYX" if stack else "ZYX"


def write_mrc(image: Image, path: Path) -> None:
    """Write the pixels under the header that the file had.

    An image of another origin gets a plain header with its pixel size. OutputError for pixels that MRC has
    no type for.
    """
    import mrcfile

    carried: Carried | None = image.metadata.get("mrc")
    dtype, extended = image.dtype, None
    if carried is not None:
        extended = np.frombuffer(carried.extended, dtype="V1")
        if carried.unsigned:
            dtype = np.dtype(np.int8)
    numbers = {name: number for number, name in MODES.items()}
    if dtype.name not in numbers:
        raise OutputError(
            f"cannot write {shown(path)}: MRC has no {dtype.name} pixels; "
            f"use {', '.join(numbers)}, or TIFF"
        )
    mode = numbers[dtype.name]
    with mrcfile.new_mmap(
        path, image.shape, mrc_mode=mode, overwrite=True, extended_header=extended
    ) as mrc:
        _fill_header(mrc, image, carried)
        for name, value in _statistics(image, dtype).items():
            mrc.header[name] = value
        start, written = HEADER_BYTES + int(mrc.header.nsymbt), mrc.data.dtype
    # Not through the map: what was written there would count as memory in use.
    with path.open("r+b") as file:
        file.seek(start)
        for part in image.parts():
            stored = np.ascontiguousarray(part).view(dtype)
            file.write(stored.astype(written, copy=False).data)


def _fill_header(mrc: Any, image: Image, carried: Carried | None) -> None:
    """Words and labels that the file had, and one label more."""
    if carried is not None:
        for name in carried.header.dtype.names:
            if name not in OF_THE_PIXELS:
                mrc.header[name] = carried.header[name]
    elif "X" in image.spacing:
        steps = [image.spacing.get(axis, (0.0, "")) for axis in "XYZ"]
        mrc.voxel_size = tuple(size for size, _ in steps)
    if int(mrc.header.nlabl) < len(mrc.header.label):
        text = str(image.metadata.get("derivation", "processed with pairfree"))
        plain = text.encode("ascii", "replace").decode("ascii")
        mrc.add_label(plain[:LABEL_CHARACTERS])


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
