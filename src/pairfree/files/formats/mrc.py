"""MRC / CCP4 maps, stacks and volumes (MRC2014): what electron microscopes and cryo-EM programs write.
mrcfile is imported when one is met.

Kept: type, axes, cell and voxel size, origin, start indices, extended header, labels (one is added), and
every other header word but the statistics, which are those of the new pixels. Big-endian files come back
little-endian.
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
from pairfree.files.image import Image
from pairfree.files.limits import Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import RawFile

HEADER_BYTES = 1024
MODES = {0: "int8", 1: "int16", 2: "float32", 6: "uint16", 12: "float16"}
REFUSED = {
    3: "complex integers",
    4: "complex numbers: they are a transform, not an image",
    101: "4-bit integers",
}
STACK_SUFFIXES = (".mrcs", ".st")
"""Of files whose sections are images of their own, whatever the header says."""
IMOD_STAMP, IMOD_SIGNED = 1146047817, 1
"""Word that IMOD leaves in the header, and its flag for bytes that are signed."""
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
LABEL_CHARACTERS = 80


@dataclass(frozen=True)
class Carried:
    """header     as mrcfile reads it;  extended   the bytes after it;  unsigned   8-bit values are unsigned,
    by IMOD's flag"""

    header: Any
    extended: bytes
    unsigned: bool


def read_mrc(path: Path, limits: Limits) -> Image:
    """Read a map, stack or volume. Raises InputError."""
    import mrcfile

    unsigned, stays = _check_header(path, limits)
    with warnings.catch_warnings(record=True) as odd:
        warnings.simplefilter("always")
        with (mrcfile.mmap if stays else mrcfile.open)(path, mode="r", permissive=True) as mrc:
            if mrc.data is None:
                raise InputError(
                    f"{shown(path)}: holds no pixels ({'; '.join(str(one.message) for one in odd)}); export it again"
                )
            kind = np.dtype(np.uint8) if unsigned else mrc.data.dtype
            carried = Carried(
                mrc.header.copy(), np.asarray(mrc.extended_header).tobytes(), unsigned
            )
            axes = _axes(mrc, path)
            size = mrc.voxel_size.copy()
            pixels: np.ndarray | RawFile
            if stays:
                pixels = RawFile(path, HEADER_BYTES + len(carried.extended), mrc.data.shape, kind)
            else:
                pixels = np.array(mrc.data, dtype=mrc.data.dtype.newbyteorder("=")).view(
                    kind.newbyteorder("=")
                )
    header = carried.header
    lines = [
        f"{path.name}: {one.message}" for one in odd if issubclass(one.category, RuntimeWarning)
    ]
    usual = tuple(int(header[name]) for name in ("mapc", "mapr", "maps")) in ((1, 2, 3), (0, 0, 0))
    if not usual:
        lines.append(
            f"{path.name}: its axes are in another order than X, Y, Z; they are kept, and no pixel size is reported"
        )
    spacing = {
        axis: (float(size[axis.lower()]), "Å")
        for axis in "ZYX"
        if axis in axes and usual and float(size[axis.lower()]) > 0
    }
    return Image(
        pixels,
        axes,
        spacing,
        source=path,
        family="mrc",
        metadata={"mrc": carried, "warnings": lines},
    )


def _check_header(path: Path, limits: Limits) -> tuple[bool, bool]:
    """Whether 8-bit values are unsigned, and whether the pixels are too many to be loaded; after checking
    that what the header declares can be true. InputError where it cannot."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        raise InputError(
            f"{shown(path)}: has {size} bytes, less than an MRC header ({HEADER_BYTES}); it is truncated, copy it again"
        )
    order = next(
        (o for o in "<>" if struct.unpack(f"{o}i", head[12:16])[0] in (*MODES, *REFUSED)), None
    )
    if order is None:
        raise InputError(
            f"{shown(path)}: states no pixel type of MRC; it is damaged or another format, export it again"
        )
    columns, rows, sections, mode = struct.unpack(f"{order}4i", head[:16])
    extended = struct.unpack(f"{order}i", head[92:96])[0]
    if mode in REFUSED:
        raise InputError(
            f"{shown(path)}: holds {REFUSED[mode]}; convert it to 16-bit integers or 32-bit floats"
        )
    if not 0 <= extended <= size - HEADER_BYTES:
        raise InputError(
            f"{shown(path)}: declares {extended} bytes of extended header in a file of {size}; it is damaged, export it again"
        )
    n_bytes = check_declared(
        path,
        (sections, rows, columns),
        np.dtype(MODES[mode]),
        limits,
        size - HEADER_BYTES - extended,
        may_stay=True,
    )
    stamp, flags = struct.unpack(f"{order}2i", head[152:160])
    return (
        mode == 0 and stamp == IMOD_STAMP and not flags & IMOD_SIGNED,
        n_bytes > limits.resident_bytes,
    )


def _axes(mrc: Any, path: Path) -> str:
    if mrc.data.ndim == 2:
        return "YX"
    if mrc.data.ndim == 4:
        return "QZYX"
    return "QYX" if mrc.is_image_stack() or path.suffix.lower() in STACK_SUFFIXES else "ZYX"


def write_mrc(image: Image, path: Path) -> None:
    """Write the pixels under the header that the file had; an image of another origin gets a plain one with
    its pixel size."""
    import mrcfile

    carried: Carried | None = image.metadata.get("mrc")
    dtype = np.dtype(np.int8) if carried is not None and carried.unsigned else image.dtype
    if dtype.name not in MODES.values():
        raise OutputError(
            f"cannot write {shown(path)}: MRC has no {dtype.name} pixels; use {', '.join(MODES.values())}, or TIFF"
        )
    mode = next(number for number, name in MODES.items() if name == dtype.name)
    extended = None if carried is None else np.frombuffer(carried.extended, dtype="V1")
    with mrcfile.new_mmap(
        path, image.shape, mrc_mode=mode, overwrite=True, extended_header=extended
    ) as mrc:
        if carried is not None:
            for name in carried.header.dtype.names:
                if name not in OF_THE_PIXELS:
                    mrc.header[name] = carried.header[name]
        elif "X" in image.spacing:
            mrc.voxel_size = tuple(image.spacing.get(axis, (0.0, ""))[0] for axis in "XYZ")
        for name, value in _statistics(image, dtype).items():
            mrc.header[name] = value
        if int(mrc.header.nlabl) < len(mrc.header.label):
            text = str(image.metadata.get("derivation", "processed with pairfree"))
            mrc.add_label(text.encode("ascii", "replace").decode("ascii")[:LABEL_CHARACTERS])
        start, written = HEADER_BYTES + int(mrc.header.nsymbt), mrc.data.dtype
    with path.open(
        "r+b"
    ) as file:  # not through the map: what was written there would count as memory in use
        file.seek(start)
        for part in image.parts():
            file.write(np.ascontiguousarray(part).view(dtype).astype(written, copy=False).data)


def _statistics(image: Image, dtype: np.dtype[Any]) -> dict[str, float]:
    """The header's dmin, dmax, dmean and rms (standard deviation) of the pixels as they are stored, part by
    part."""
    count, mean, squares, low, high = 0, 0.0, 0.0, math.inf, -math.inf
    for pixels in image.parts():
        part = np.ascontiguousarray(pixels).view(dtype)
        own, apart = float(part.mean(dtype=np.float64)), part.size / (count + part.size)
        squares += part.size * float(part.var(dtype=np.float64)) + (own - mean) ** 2 * count * apart
        mean, count = mean + (own - mean) * apart, count + part.size
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    return {"dmin": low, "dmax": high, "dmean": mean, "rms": math.sqrt(squares / count)}
