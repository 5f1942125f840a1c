"""Files of microscope makers, read only: CZI, ND2 and LIF through bioio and its plug-ins, DM3, DM4 and EMD
through RosettaSciIO.

All are optional packages (``pip install 'pairfree[vendors]'``). The first image of a file is read; results
are OME-TIFF with pixel size, time step and channel names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.tiff_meta import unit_name
from pairfree.files.image import AXES, Image, Stored, check_dtype
from pairfree.files.limits import ZSTD, Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import Kept

LIGHT, ELECTRON = (".czi", ".nd2", ".lif"), (".dm3", ".dm4", ".emd")
KEPT_BYTES = 2**27
LENGTHS = ("m", "cm", "mm", "µm", "nm", "Å", "pm")


class Lazy(Stored):
    """A dask array whose planes are computed as they are asked for, and kept for the next region of them."""

    def __init__(self, array: Any, label: str, plane_axes: int) -> None:
        self.array, self.label, self.plane_axes = array, label, plane_axes
        self._kept = Kept(KEPT_BYTES)
        self.shape, self.dtype = (
            tuple(int(n) for n in array.shape),
            np.dtype(array.dtype).newbyteorder("="),
        )

    def region(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        plane = self._kept.get(index)
        if plane is None:
            plane = self._computed(index)
            self._kept.put(index, plane)
        return plane[rows, columns]

    def whole(self) -> np.ndarray:
        return self._computed(())

    def _computed(self, index: tuple[int, ...]) -> np.ndarray:
        try:
            return np.asarray(self.array[index].compute(scheduler="synchronous")).astype(
                self.dtype, copy=False
            )
        except MemoryError:
            raise
        except Exception as error:  # decoders raise what they like on damaged files
            words = " ".join(str(error).split())[:200]
            raise InputError(
                f"{self.label}: plane {index} cannot be read ({words}); copy or export the file again"
            ) from error


def read_vendor(path: Path, limits: Limits) -> Image:
    """Read the first image of a maker's file.

    Raises InputError, and ImportError for an optional package that is missing.
    """
    return _light(path, limits) if path.suffix.lower() in LIGHT else _electron(path, limits)


def _light(path: Path, limits: Limits) -> Image:
    from bioio import BioImage

    suffix = path.suffix.lower()
    planes: Any = (
        {} if suffix == ".nd2" else {"chunk_dims": ["Y", "X", "S"]}
    )  # else a region of one plane decodes its whole stack
    opened: Any = BioImage(path, reader=_plug_in(suffix), **planes)
    order, array = str(opened.dims.order), opened.dask_data
    names = tuple(map(str, opened.channel_names or ()))
    sizes = opened.physical_pixel_sizes
    spacing = {
        axis: (float(step), "µm")
        for axis in "ZYX"
        if (step := getattr(sizes, axis)) is not None and step > 0
    }
    interval = opened.time_interval
    seconds = interval.total_seconds() if hasattr(interval, "total_seconds") else interval
    if isinstance(seconds, int | float) and seconds > 0:
        spacing["T"] = (float(seconds), "s")
    lines = (
        [f"{path.name}: holds {len(opened.scenes)} scenes; only the first is used"]
        if len(opened.scenes) > 1
        else []
    )
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
    found = [one for one in file_reader(path, lazy=True) if len(one["axes"]) >= 2]
    if not found:
        raise InputError(f"{shown(path)}: holds no image of two or more dimensions")
    one = max(found, key=lambda signal: math.prod(axis["size"] for axis in signal["axes"]))
    axes = sorted(one["axes"], key=lambda axis: axis.get("index_in_array", 0))
    units = [str(axis.get("units", "")) for axis in axes]
    if units[-1].endswith("eV"):
        raise InputError(
            f"{shown(path)}: holds spectra (an axis in {units[-1]}), no images; export the image that you mean"
        )
    letters = "".join(_letter(str(axis.get("name", ""))) for axis in axes[:-2])
    letters = "".join(one if letters.count(one) == 1 else "Q" for one in letters) + "YX"
    spacing = {}
    for letter, axis, unit in zip(letters, axes, units, strict=True):
        known, step = unit_name(unit), float(axis.get("scale", 0.0))
        if letter in "ZYX" and known in LENGTHS and math.isfinite(step) and step > 0:
            spacing[letter] = (step, known)
    lines = (
        [f"{path.name}: holds {len(found)} images; only the largest is used"]
        if len(found) > 1
        else []
    )
    return _image(path, limits, one["data"], letters, spacing, (), lines)


def _letter(name: str) -> str:
    """An axis by its name: z, time, and whatever else."""
    return (
        {"z": "Z", "t": "T"}.get(name.lower()[:1], "Q")
        if name.lower() in ("z", "t", "time", "depth")
        else "Q"
    )


def _image(
    path: Path,
    limits: Limits,
    array: Any,
    order: str,
    spacing: dict[str, tuple[float, str]],
    names: Sequence[str],
    lines: list[str],
) -> Image:
    """Without the axes of length 1 in front of Y; pixels stay in the file where they are many."""
    check_dtype(np.dtype(array.dtype), shown(path))
    kept = [
        place for place, letter in enumerate(order) if letter in "YXS" or array.shape[place] > 1
    ]
    letters = "".join(order[place] if order[place] in AXES else "Q" for place in kept)
    array = array[tuple(slice(None) if place in kept else 0 for place in range(len(order)))]
    n_bytes = check_declared(
        path, array.shape, np.dtype(array.dtype), limits, path.stat().st_size, ZSTD, may_stay=True
    )
    lazy = Lazy(array, shown(path), 3 if letters.endswith("S") else 2)
    data = lazy if n_bytes > limits.resident_bytes else lazy.whole()
    channels = array.shape[letters.index("C")] if "C" in letters else 1
    return Image(
        data, letters, {axis: step for axis, step in spacing.items() if axis in letters}, tuple(names) if len(names) == channels else (),
        source=path, family="vendor", metadata={"warnings": lines},
    )  # fmt: skip
