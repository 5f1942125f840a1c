"""NIfTI-1 and NIfTI-2 volumes (.nii, .nii.gz, .hdr with .img): what MR, PET and CT researchers exchange.

Analyze 7.5, from which NIfTI was made, is the same pair with an older header. Intensities are stored values
times scl_slope plus scl_inter, and go back by the inverse. Kept: stored type, shape, both affines and their
codes, voxel size, time step, units, extensions and every other header field; of pairs the header as it is.
nibabel is imported when one is met.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError, OutputError
from pairfree.files.formats.nifti_files import (
    HEAD_BYTES,
    MOST_HEADER_BYTES,
    Head,
    check_head,
    files_of,
    pair_of,
    positions_beside,
)
from pairfree.files.formats.packing import (
    PLAIN,
    RATIOS,
    create_packed,
    find_end,
    open_packed,
    packing_of,
    read_up_to,
    read_values,
)
from pairfree.files.image import (
    DType,
    Image,
    Shape,
    Spacing,
    Stored,
    check_dtype,
    rescaled_dtype,
    volume_axes,
)
from pairfree.files.limits import Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import Mapped, RawFile
from pairfree.files.wide_integers import is_wide, narrow

UNITS = {
    "meter": "m",
    "mm": "mm",
    "micron": "µm",
    "sec": "s",
    "msec": "ms",
    "usec": "µs",
}
"""By the names that nibabel has for them."""
Scaling = tuple[float, float]
"""Slope and intercept: intensity = stored * slope + intercept."""


@dataclass(frozen=True)
class Carried:
    """What writing a NIfTI file back needs."""

    kind: type
    """nibabel's class of the image."""
    header: Any
    """As nibabel reads it."""
    affine: np.ndarray
    """As nibabel reads it."""
    scaling: Scaling | None
    """None where stored values are intensities."""
    raw: bytes = b""
    """Of a pair, the file of the header; empty where header and pixels are in one file."""


def read_nifti(path: Path, limits: Limits) -> Image:
    """Read one volume or series: (x, y, z, t, ...) of the file is the array (..., T, Z, Y, X).

    Raises InputError.
    """
    head = check_head(path)
    found, raw = _open_by_nibabel(path, head)
    header = found.header
    dtype = header.get_data_dtype()
    if dtype.fields is not None:
        raise InputError(
            f"{shown(path)}: its voxels are {dtype.names} records (colour); "
            "convert it to one intensity a voxel"
        )
    check_dtype(dtype, shown(path), wide=True)
    shape = tuple(int(n) for n in found.shape)
    if not 2 <= len(shape) <= 7:
        raise InputError(
            f"{shown(path)}: has {len(shape)} dimension(s) {shape}; an image needs 2 to 7"
        )
    pixels = files_of(path)[-1]
    packing, offset = packing_of(path), int(found.dataobj.offset)
    size, may_stay = pixels.stat().st_size, packing == PLAIN and not is_wide(dtype)
    stored = size - offset if packing == PLAIN else size
    n_bytes = check_declared(path, shape, dtype, limits, stored, RATIOS[packing], may_stay)
    scaling = _scaling(found.dataobj, path)
    data: np.ndarray | Stored
    of_wide: dict[str, str] = {}
    if may_stay and n_bytes > limits.resident_bytes:
        data = RawFile(pixels, offset, shape[::-1], dtype)
    else:
        data, of_wide = narrow(_read_stored(pixels, offset, shape[::-1], dtype), shown(path))
    bounds = None
    if scaling is not None:
        data = _scaled(data, scaling)
        bounds = _bounds(dtype, scaling)
    carried = Carried(type(found), header.copy(), np.array(found.affine), scaling, raw)
    lines = []
    if positions_beside(path).exists():
        lines.append(
            "the .mat file beside it, which may state positions of SPM, is not read; "
            "copy it beside the result"
        )
    axes = volume_axes(len(shape))
    return Image(
        data,
        axes,
        _spacing(header, axes),
        source=path,
        family="nifti",
        metadata={"nifti": carried, "warnings": lines, **of_wide},
        limits=bounds,
    )


def _read_stored(path: Path, offset: int, shape: Shape, dtype: DType) -> np.ndarray:
    """The stored values of a file, and a look at the checksum of a packed one."""
    with open_packed(path, packing_of(path)) as file:
        file.seek(offset)
        values = read_values(file, shape, dtype, path)
        find_end(file)
    return values


def _open_by_nibabel(path: Path, head: Head | None) -> tuple[Any, bytes]:
    """What nibabel makes of a file, or of a pair with the bytes of its header; no pixels are read."""
    import nibabel

    pair = pair_of(path)
    if pair is None or head is None:
        return nibabel.load(path), b""
    header, pixels = pair
    with open_packed(header, packing_of(header)) as file:
        raw = read_up_to(file, MOST_HEADER_BYTES)
        if file.read(1):
            raise InputError(
                f"{shown(path)}: its header {shown(header.name)} has more than {MOST_HEADER_BYTES} bytes; "
                "it is damaged, export it again"
            )
    kind: Any = nibabel.Nifti2Pair if head.size == HEAD_BYTES else nibabel.Nifti1Pair
    if head.is_analyze:
        kind = nibabel.Spm2AnalyzeImage
    files = {
        "header": nibabel.FileHolder(fileobj=io.BytesIO(raw)),
        "image": nibabel.FileHolder(str(pixels)),
        "mat": nibabel.FileHolder(fileobj=io.BytesIO()),
    }
    return kind.from_file_map(files), raw


def _scaling(pixels: Any, path: Path) -> Scaling | None:
    """Of what nibabel calls an array proxy."""
    slope, intercept = float(pixels.slope), float(pixels.inter)
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise InputError(
            f"{shown(path)}: its intensity scale ({slope} and {intercept}) is no number; "
            "export it again"
        )
    return None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)


def _scaled(data: np.ndarray | Stored, scaling: Scaling) -> np.ndarray | Stored:
    """Stored values as intensities."""
    slope, intercept = scaling
    wide = rescaled_dtype(data.dtype, slope, intercept)

    def intensities(stored: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # a damaged scale shows as infinity
            return (stored.astype(np.float64) * slope + intercept).astype(wide)

    if isinstance(data, Stored):
        return Mapped(data, intensities, wide)
    return intensities(data)


def _bounds(dtype: DType, scaling: Scaling) -> tuple[float, float] | None:
    """Least and greatest intensity that whole numbers of a type can stand for; None for floats."""
    if dtype.kind not in "iu":
        return None
    slope, intercept = scaling
    bounds = np.iinfo(dtype)
    least, greatest = sorted(end * slope + intercept for end in (bounds.min, bounds.max))
    return least, greatest


def _spacing(header: Any, axes: str) -> Spacing:
    """Voxel size and time step, where the header states them and their unit."""
    space, time = "mm", "unknown"
    if hasattr(header, "get_xyzt_units"):  # Analyze has millimetres
        space, time = header.get_xyzt_units()
    found: Spacing = {}
    for axis, step in zip(reversed(axes), header.get_zooms()):
        unit = UNITS.get(time if axis == "T" else space)
        if axis not in "TZYX" or unit is None:
            continue
        if math.isfinite(step) and step > 0:
            found[axis] = (float(step), unit)
    return found


def write_nifti(
    image: Image, path: Path, second: Path | None = None, *, packing: str, names_pixels: bool
) -> None:
    """Write ``image`` under the header that its file had, plane by plane, as a file or as a pair.

    Parameters
    ----------
    image
        Read by ``read_nifti``, perhaps with other pixels.
    path, second
        The file that the image is named by, and of a pair the other one; they say nothing.
    packing
        A key of ``packing.RATIOS``.
    names_pixels
        Of a pair, ``path`` is the file of the pixels.

    Raises
    ------
    OutputError
        For an image that was no NIfTI file, or a pair and no more, or the other way round.
    """
    carried = image.metadata.get("nifti")
    if not isinstance(carried, Carried):
        raise OutputError(
            f"{shown(path)}: a NIfTI file can only be written from a NIfTI file; write TIFF instead"
        )
    if bool(carried.raw) != (second is not None):
        suffix = ".hdr or .img" if carried.raw else ".nii or .nii.gz"
        raise OutputError(f"{shown(path)}: it was read from {suffix}; give that suffix")
    if second is not None:
        header, pixels = (second, path) if names_pixels else (path, second)
        with create_packed(header, packing) as file:
            file.write(carried.raw)
        with create_packed(pixels, packing) as file:
            _write_pixels(image, carried.header, carried.scaling, file, 0)
        return
    zero = np.zeros((), carried.header.get_data_dtype())
    nothing = np.broadcast_to(zero, image.shape[::-1])  # shape and type, no memory
    made = carried.kind(nothing, carried.affine, carried.header.copy())
    made.update_header()
    made.header.set_slope_inter(*(carried.scaling or (1.0, 0.0)))
    with create_packed(path, packing) as file:
        made.header.write_to(file)
        _write_pixels(image, made.header, carried.scaling, file, file.tell())


def _write_pixels(image: Image, header: Any, scaling: Scaling | None, file: Any, at: int) -> None:
    """The stored values of all planes; C order of (Z, Y, X) is the file's order of (x, y, z).

    ``at`` bytes are in the file already.
    """
    gap = int(header.get_data_offset()) - at
    file.write(b"\0" * gap)
    dtype = header.get_data_dtype()
    for stored in image.parts():
        if scaling is not None:
            stored = _unscaled(stored, dtype, scaling)
        file.write(np.ascontiguousarray(stored, dtype=dtype).data)


def _unscaled(intensities: np.ndarray, dtype: DType, scaling: Scaling) -> np.ndarray:
    """Intensities as stored values, which whole numbers of a type can hold."""
    slope, intercept = scaling
    stored = (intensities.astype(np.float64) - intercept) / slope
    if dtype.kind not in "iu":
        return np.asarray(stored)
    bounds = np.iinfo(dtype)
    return np.clip(np.rint(stored), bounds.min, bounds.max)
