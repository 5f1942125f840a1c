"""NIfTI-1 and NIfTI-2 volumes (.nii, .nii.gz): what MR, PET and CT researchers exchange. nibabel is imported
when one is met.

Intensities are stored values times scl_slope plus scl_inter, and go back by the inverse. Kept: stored type,
shape, both affines and their codes, voxel size, time step, units, extensions and every other header field.
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError, OutputError
from pairfree.files.image import Image, Stored, check_dtype, rescaled_dtype
from pairfree.files.limits import DEFLATE, UNCOMPRESSED, Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import Mapped, RawFile

UNITS = {"meter": "m", "mm": "mm", "micron": "µm", "sec": "s", "msec": "ms", "usec": "µs"}
COMPRESSED = ".nii.gz"


@dataclass(frozen=True)
class Carried:
    """kind     nibabel's class of the image;  header, affine   as it reads them
    slope, intercept   intensity = stored * slope + intercept; None where stored values are intensities
    """

    kind: type
    header: Any
    affine: np.ndarray
    scaling: tuple[float, float] | None


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
            f"{shown(path)}: its voxels are {dtype.names} records (colour); convert it to one intensity a voxel"
        )
    check_dtype(dtype, shown(path))
    shape = tuple(int(n) for n in found.shape)
    if not 2 <= len(shape) <= 7:
        raise InputError(
            f"{shown(path)}: has {len(shape)} dimension(s) {shape}; an image needs 2 to 7"
        )
    packed = path.name.lower().endswith(COMPRESSED)
    ratio = DEFLATE if packed else UNCOMPRESSED
    n_bytes = check_declared(
        path, shape, dtype, limits, path.stat().st_size, ratio, may_stay=not packed
    )
    scaling = _scaling(found.dataobj.slope, found.dataobj.inter, path)
    axes = ("Q" * (len(shape) - 4) + "TZYX")[-len(shape) :]
    data: np.ndarray | Stored
    if n_bytes > limits.resident_bytes and not packed:
        data = RawFile(path, int(found.dataobj.offset), shape[::-1], dtype)
    else:
        data = np.ascontiguousarray(found.dataobj.get_unscaled().T)
    bounds = None
    if scaling is not None:
        slope, intercept = scaling
        if dtype.kind in "iu":
            ends = sorted(
                end * slope + intercept for end in (np.iinfo(dtype).min, np.iinfo(dtype).max)
            )
            bounds = ends[0], ends[1]
        wide = rescaled_dtype(dtype, slope, intercept)

        def intensities(stored: np.ndarray) -> np.ndarray:
            with np.errstate(over="ignore", invalid="ignore"):  # a damaged scale shows as infinity
                return (stored.astype(np.float64) * slope + intercept).astype(wide)

        data = Mapped(data, intensities, wide) if isinstance(data, Stored) else intensities(data)
    carried = Carried(type(found), header.copy(), np.array(found.affine), scaling)
    return Image(
        data,
        axes,
        _spacing(header, axes),
        source=path,
        family="nifti",
        metadata={"nifti": carried, "warnings": []},
        limits=bounds,
    )


def _scaling(slope: float, intercept: float, path: Path) -> tuple[float, float] | None:
    slope, intercept = float(slope), float(intercept)
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise InputError(
            f"{shown(path)}: its intensity scale ({slope} and {intercept}) is no number; export it again"
        )
    return None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)


def _spacing(header: Any, axes: str) -> dict[str, tuple[float, str]]:
    """Voxel size and time step, where the header states them and their unit."""
    space, time = header.get_xyzt_units()
    found = {}
    for axis, step in zip(reversed(axes), header.get_zooms()):
        unit = UNITS.get(time if axis == "T" else space)
        if axis in "TZYX" and unit is not None and math.isfinite(step) and step > 0:
            found[axis] = (float(step), unit)
    return found


def write_nifti(image: Image, path: Path) -> None:
    """Write ``image`` under the header that its file had, plane by plane; .nii.gz is packed."""
    carried = image.metadata.get("nifti")
    if not isinstance(carried, Carried):
        raise OutputError(
            f"{shown(path)}: a NIfTI file can only be written from a NIfTI file; write TIFF instead"
        )
    nothing = np.broadcast_to(
        np.zeros((), carried.header.get_data_dtype()), image.shape[::-1]
    )  # shape and type, no memory
    made = carried.kind(nothing, carried.affine, carried.header.copy())
    made.update_header()
    made.header.set_slope_inter(*(carried.scaling or (1.0, 0.0)))
    with path.open("wb") as file:
        if COMPRESSED in path.name.lower():  # the temporary name of an output contains its own
            with gzip.GzipFile(
                filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6
            ) as packed:
                _write(image, made.header, carried.scaling, packed)
        else:
            _write(image, made.header, carried.scaling, file)


def _write(image: Image, header: Any, scaling: tuple[float, float] | None, file: Any) -> None:
    """Header, then the stored values of all planes; C order of (Z, Y, X) is the file's order of (x, y, z)."""
    header.write_to(file)
    file.write(b"\0" * (int(header.get_data_offset()) - file.tell()))
    dtype = header.get_data_dtype()
    for stored in image.parts():
        if scaling is not None:
            stored = (stored.astype(np.float64) - scaling[1]) / scaling[0]
            if dtype.kind in "iu":
                stored = np.clip(np.rint(stored), np.iinfo(dtype).min, np.iinfo(dtype).max)
        file.write(np.ascontiguousarray(stored, dtype=dtype).data)
