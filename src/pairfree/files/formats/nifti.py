"""NIfTI-1 and NIfTI-2 volumes (.nii, .nii.gz): what MR, PET and CT researchers exchange.

Intensities are stored values times scl_slope plus scl_inter, and go back by the inverse. Kept: stored type,
shape, both affines and their codes, voxel size, time step, units, extensions and every other header field.
nibabel is imported when one is met.
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError, OutputError
from pairfree.files.image import (
    DType,
    Image,
    Spacing,
    Stored,
    check_dtype,
    rescaled_dtype,
    volume_axes,
)
from pairfree.files.limits import DEFLATE, UNCOMPRESSED, Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import Mapped, RawFile

UNITS = {
    "meter": "m",
    "mm": "mm",
    "micron": "µm",
    "sec": "s",
    "msec": "ms",
    "usec": "µs",
}
"""By the names that nibabel has for them."""
COMPRESSED = ".nii.gz"
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


def read_nifti(path: Path, limits: Limits) -> Image:
    """Read one volume or series: (x, y, z, t, ...) of the file is the array (..., T, Z, Y, X).

    Raises InputError.
    """
    import nibabel

    found: Any = nibabel.load(path)
    header = found.header
    dtype = header.get_data_dtype()
    if dtype.fields is not None:
        raise InputError(
            f"{shown(path)}: its voxels are {dtype.names} records (colour); "
            "convert it to one intensity a voxel"
        )
    check_dtype(dtype, shown(path))
    shape = tuple(int(n) for n in found.shape)
    if not 2 <= len(shape) <= 7:
        raise InputError(
            f"{shown(path)}: has {len(shape)} dimension(s) {shape}; an image needs 2 to 7"
        )
    packed = is_packed(path)
    ratio = DEFLATE if packed else UNCOMPRESSED
    size = path.stat().st_size
    n_bytes = check_declared(path, shape, dtype, limits, size, ratio, may_stay=not packed)
    scaling = _scaling(found.dataobj, path)
    data: np.ndarray | Stored
    if n_bytes > limits.resident_bytes and not packed:
        data = RawFile(path, int(found.dataobj.offset), shape[::-1], dtype)
    else:
        data = np.ascontiguousarray(found.dataobj.get_unscaled().T)
    bounds = None
    if scaling is not None:
        data = _scaled(data, scaling)
        bounds = _bounds(dtype, scaling)
    carried = Carried(type(found), header.copy(), np.array(found.affine), scaling)
    axes = volume_axes(len(shape))
    return Image(
        data,
        axes,
        _spacing(header, axes),
        source=path,
        family="nifti",
        metadata={"nifti": carried, "warnings": []},
        limits=bounds,
    )


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
    space, time = header.get_xyzt_units()
    found: Spacing = {}
    for axis, step in zip(reversed(axes), header.get_zooms()):
        unit = UNITS.get(time if axis == "T" else space)
        if axis not in "TZYX" or unit is None:
            continue
        if math.isfinite(step) and step > 0:
            found[axis] = (float(step), unit)
    return found


def is_packed(path: Path) -> bool:
    """Whether a file of that name is packed."""
    return path.name.lower().endswith(COMPRESSED)


def write_nifti(image: Image, path: Path, packed: bool) -> None:
    """Write ``image`` under the header that its file had, plane by plane, packed with gzip or not.

    OutputError for an image that was no NIfTI file.
    """
    carried = image.metadata.get("nifti")
    if not isinstance(carried, Carried):
        raise OutputError(
            f"{shown(path)}: a NIfTI file can only be written from a NIfTI file; write TIFF instead"
        )
    zero = np.zeros((), carried.header.get_data_dtype())
    nothing = np.broadcast_to(zero, image.shape[::-1])  # shape and type, no memory
    made = carried.kind(nothing, carried.affine, carried.header.copy())
    made.update_header()
    made.header.set_slope_inter(*(carried.scaling or (1.0, 0.0)))
    with path.open("wb") as file:
        if not packed:
            _write(image, made.header, carried.scaling, file)
            return
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as inside:
            _write(image, made.header, carried.scaling, inside)


def _write(image: Image, header: Any, scaling: Scaling | None, file: Any) -> None:
    """Header, then the stored values of all planes; C order of (Z, Y, X) is the file's order of (x, y, z)."""
    header.write_to(file)
    gap = int(header.get_data_offset()) - file.tell()
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
