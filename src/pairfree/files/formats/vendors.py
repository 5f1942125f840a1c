"""Files of microscope makers, read only.

CZI, ND2 and LIF are read through bioio and its plug-ins, DM3, DM4 and EMD through RosettaSciIO. All
are optional packages (``pip install 'pairfree[vendors]'``). The first image of a file is read;
results are OME-TIFF with pixel size, time step and channel names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.tiff_meta import unit_name
from pairfree.files.image import AXES, Image, Index, Spacing, Stored, check_dtype
from pairfree.files.limits import ZSTD, Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import Kept

LIGHT = (".czi", ".nd2", ".lif")
"""Of light microscopes."""
ELECTRON = (".dm3", ".dm4", ".emd")
"""Of electron microscopes."""
KEPT_BYTES = 2**27
"""Of computed planes, for the next region."""
AXIS_NAMES = {"z": "Z", "t": "T", "time": "T"}
"""Axes in front of Y that electron microscopes' files name."""
LENGTHS = ("m", "cm", "mm", "µm", "nm", "Å", "pm")


class Lazy(Stored):
    """A dask array whose planes are computed as they are asked for, and kept for their next region.

    Parameters
    ----------
    array
        Of dask.
    label
        The file, as messages name it.
    plane_axes
        2, or 3 where the last axis is S.
    """

    def __init__(self, array: Any, label: str, plane_axes: int) -> None:
        self.array = array
        self.label = label
        self.plane_axes = plane_axes
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self._kept = Kept(KEPT_BYTES)

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``."""
        plane = self._kept.get(index)
        if plane is None:
            plane = self._computed(index)
            self._kept.put(index, plane)
        return plane[rows, columns]

    def whole(self) -> np.ndarray:
        """All pixels as one array."""
        return self._computed(())

    def _computed(self, index: Index) -> np.ndarray:
        try:
            values = self.array[index].compute(scheduler="synchronous")
            return np.asarray(values).astype(self.dtype, copy=False)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise what they like on damaged files
            words = " ".join(str(error).split())[:200]
            raise InputError(
                f"{self.label}: plane {index} cannot be read ({words}); "
                "copy or export the file again"
            ) from error


def read_vendor(path: Path, limits: Limits) -> Image:
    """Read the first image of a maker's file.

    Parameters
    ----------
    path
        The file.
    limits
        What it may declare.

    Raises
    ------
    InputError
        For what holds no image, or is damaged.
    ImportError
        For an optional package that is missing.
    """
    if path.suffix.lower() in LIGHT:
        return _light(path, limits)
    return _electron(path, limits)


def _light(path: Path, limits: Limits) -> Image:
    from bioio import BioImage

    suffix = path.suffix.lower()
    # Without them a region of one plane decodes its whole stack.
    planes: dict[str, Any] = {"chunk_dims": ["Y", "X", "S"]}
    if suffix == ".nd2":
        planes = {}
    opened: Any = BioImage(path, reader=_plug_in(suffix), **planes)
    order = str(opened.dims.order)
    array = opened.dask_data
    names = tuple(map(str, opened.channel_names or ()))
    spacing: Spacing = {}
    for axis in "ZYX":
        step = getattr(opened.physical_pixel_sizes, axis)
        if step is not None and step > 0:
            spacing[axis] = (float(step), "µm")
    interval = opened.time_interval
    seconds = interval.total_seconds() if hasattr(interval, "total_seconds") else interval
    if isinstance(seconds, int | float) and seconds > 0:
        spacing["T"] = (float(seconds), "s")
    lines = []
    scenes = len(opened.scenes)
    if scenes > 1:
        lines.append(f"{path.name}: holds {scenes} scenes; only the first is used")
    return _image(path, limits, array, order, spacing, names, lines)


def _plug_in(suffix: str) -> Any:
    if suffix == ".czi":
        import bioio_czi

        return bioio_czi.Reader
    if suffix == ".nd2":
        import bioio_nd2

        return bioio_nd2.Reader
    import bioio_lif

    return bioio_lif.Reader


def _electron(path: Path, limits: Limits) -> Image:
    if path.suffix.lower() == ".emd":
        from rsciio.emd import file_reader
    else:
        from rsciio.digitalmicrograph import file_reader
    signals = file_reader(path, lazy=True)
    found = [one for one in signals if len(one["axes"]) >= 2]
    if not found:
        raise InputError(f"{shown(path)}: holds no image of two or more dimensions")
    largest = max(found, key=_number_of_values)
    axes = sorted(largest["axes"], key=lambda axis: axis.get("index_in_array", 0))
    unit = str(axes[-1].get("units", ""))
    if unit.endswith("eV"):
        raise InputError(
            f"{shown(path)}: holds spectra (an axis in {unit}), no images; "
            "export the image that you mean"
        )
    letters = _letters(axes)
    lines = []
    if len(found) > 1:
        lines.append(f"{path.name}: holds {len(found)} images; only the largest is used")
    spacing = _spacing(letters, axes)
    return _image(path, limits, largest["data"], letters, spacing, (), lines)


def _number_of_values(signal: dict[str, Any]) -> int:
    return math.prod(axis["size"] for axis in signal["axes"])


def _letters(axes: Sequence[dict[str, Any]]) -> str:
    """All axes by their names: Q for those without a letter, or with that of another."""
    names = [str(axis.get("name", "")) for axis in axes[:-2]]
    named = [_letter(name) for name in names]
    letters = ""
    for letter in named:
        letters += letter if named.count(letter) == 1 else "Q"
    return letters + "YX"


def _letter(name: str) -> str:
    """An axis by its name: z, time, and whatever else."""
    return AXIS_NAMES.get(name.lower(), "Q")


def _spacing(letters: str, axes: Sequence[dict[str, Any]]) -> Spacing:
    """Steps along Z, Y and X that are stated in a unit of length."""
    spacing: Spacing = {}
    for letter, axis in zip(letters, axes, strict=True):
        unit = unit_name(str(axis.get("units", "")))
        step = float(axis.get("scale", 0.0))
        is_step = math.isfinite(step) and step > 0
        if letter in "ZYX" and unit in LENGTHS and is_step:
            spacing[letter] = (step, unit)
    return spacing


def _image(
    path: Path,
    limits: Limits,
    array: Any,
    order: str,
    spacing: Spacing,
    names: Sequence[str],
    lines: list[str],
) -> Image:
    """Without the axes of length 1 in front of Y; pixels stay in the file where they are many."""
    dtype = np.dtype(array.dtype)
    check_dtype(dtype, shown(path))
    letters = ""
    places: list[slice | int] = []
    for letter, size in zip(order, array.shape, strict=True):
        if letter in "YXS" or size > 1:
            letters += letter if letter in AXES else "Q"
            places.append(slice(None))
        else:
            places.append(0)
    array = array[tuple(places)]
    in_file = path.stat().st_size
    n_bytes = check_declared(path, array.shape, dtype, limits, in_file, ZSTD, may_stay=True)
    plane_axes = 3 if letters.endswith("S") else 2
    lazy = Lazy(array, shown(path), plane_axes)
    channels = array.shape[letters.index("C")] if "C" in letters else 1
    return Image(
        lazy if n_bytes > limits.resident_bytes else lazy.whole(),
        letters,
        {axis: step for axis, step in spacing.items() if axis in letters},
        tuple(names) if len(names) == channels else (),
        source=path,
        family="vendor",
        metadata={"warnings": lines},
    )
