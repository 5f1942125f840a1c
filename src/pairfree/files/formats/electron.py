"""DM3, DM4 and EMD files of electron microscopes, read only, through RosettaSciIO.

It is under GPL-3 and optional (``pip install 'pairfree[vendors-gpl]'``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.tiff_anew import MICROMETRES
from pairfree.files.formats.tiff_meta import Stated, unit_name
from pairfree.files.formats.vendor_parts import (
    LENGTHS,
    TIMES,
    Planes,
    choose_scene,
    make_image,
    name_axes,
    step_of,
)
from pairfree.files.image import Image, Index, Spacing, check_dtype
from pairfree.files.limits import UNCOMPRESSED, ZSTD, Limits, check_declared
from pairfree.files.messages import reason, shown, size_text

KNOWN = {"z": "Z", "t": "T", "time": "T"}
"""Letters of axes in front of Y by their name."""
UNSTORED_BYTES = 2**20
"""Of an array, that need not be in the file: they have one value."""
SPECTRA = ("eV", "keV", "meV")
"""Units of an axis that makes its image a spectrum."""
COLOURS = ("R", "G", "B", "A")
"""Fields of a pixel in colour."""

Signal = dict[str, Any]
"""What RosettaSciIO tells about an image: data, axes, metadata."""


class Computed(Planes):
    """Planes of a dask array, computed as they are asked for.

    Parameters
    ----------
    array
        Of dask.
    label
        The file, as messages name it.
    """

    def __init__(self, array: Any, label: str) -> None:
        super().__init__()
        self.array, self.label = array, label
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")

    def plane(self, index: Index) -> np.ndarray:
        """A plane, or all pixels for ``()``."""
        try:
            values = self.array[index]
            if hasattr(values, "compute"):  # not where a colour picture beside it was read, too
                values = values.compute(scheduler="synchronous")
            return np.asarray(values).astype(self.dtype, copy=False)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise what they like on damaged files
            raise InputError(
                f"{self.label}: plane {index} cannot be read ({reason(error)}); "
                "copy or export the file again"
            ) from error

    def whole(self) -> np.ndarray:
        """All pixels as one array."""
        return self.plane(())


class InColour(Planes):
    """A picture whose colours RosettaSciIO gives as fields, in memory."""

    def __init__(self, fields: np.ndarray) -> None:
        super().__init__()
        names = list(COLOURS)
        alpha = fields["A"]
        if alpha.size == 0 or (alpha == alpha.flat[0]).all():
            names.remove("A")  # means nothing
        self.pixels = np.stack([fields[name] for name in names], axis=-1)
        self.shape, self.dtype, self.plane_axes = self.pixels.shape, self.pixels.dtype, 3

    def plane(self, index: Index) -> np.ndarray:
        """A plane of the pixels."""
        found: np.ndarray = self.pixels[index]
        return found


def read_electron(path: Path, limits: Limits, scene: int | None = None) -> Image:
    """Read one image of a DM3, DM4 or EMD file.

    Parameters
    ----------
    path
        The file.
    limits
        What it may declare.
    scene
        Number of the image, from 0 for the largest; None for that one.

    Raises
    ------
    InputError
        For what cannot be read, for spectra, and for an image that does not exist.
    ImportError
        Where RosettaSciIO is missing.
    """
    images = _images(path)
    scene, lines = choose_scene(path, scene, len(images), "images")
    lines = [line.replace("the first", "the largest") for line in lines]
    chosen = images[scene]
    axes = _sorted_axes(chosen)
    array = chosen["data"]
    in_colour = np.dtype(array.dtype).names == COLOURS
    if not in_colour:
        check_dtype(np.dtype(array.dtype), shown(path))
    ratio = ZSTD if path.suffix.lower() == ".emd" else UNCOMPRESSED
    dtype = np.dtype(array.dtype)
    in_file = path.stat().st_size
    check_declared(path, array.shape, dtype, limits, in_file, ratio, may_stay=not in_colour)
    long = [place for place, axis in enumerate(axes[:-2]) if axis["size"] > 1]
    kept = [axes[place] for place in long] + axes[-2:]
    letters = name_axes([_name(axis) for axis in kept[:-2]], KNOWN) + "YX"
    spacing = _spacing(letters, kept, lines)
    if letters.count("Q") > 1:
        spacing = _in_plain_tiff(spacing, lines)
    stated = Stated(spacing)
    places = tuple(slice(None) if place in long else 0 for place in range(len(axes) - 2))
    array = array[places]
    pixels: Planes = InColour(array) if in_colour else Computed(array, shown(path))
    letters += "S" if in_colour else ""
    image = make_image(path, pixels, letters, stated, lines, limits)
    return replace(image, family="electron")


def count_images_of_electron(path: Path) -> int:
    """How many images a file holds; errors as of ``read_electron``."""
    return len(_images(path))


def _images(path: Path) -> list[Signal]:
    """All images of a file, the largest first; InputError where it holds none."""
    found = [one for one in _signals(path) if len(one["axes"]) >= 2]
    images = [one for one in found if not _spectral_unit(one)]
    if found and not images:
        raise InputError(
            f"{shown(path)}: holds spectra (an axis in {_spectral_unit(found[0])}), no images; "
            "export the image that you mean"
        )
    if not found:
        raise InputError(f"{shown(path)}: holds no image of two or more dimensions")
    return sorted(images, key=_number_of_values, reverse=True)


def _signals(path: Path) -> list[Signal]:
    if path.suffix.lower() == ".emd":
        from rsciio.emd import file_reader

        _check_datasets(path)
    else:
        from rsciio.digitalmicrograph import file_reader
    try:
        signals: list[Signal] = file_reader(path, lazy=True)
    except ValueError as error:
        if "RGB" not in str(error):
            raise
        signals = file_reader(path, lazy=False)  # uncompressed: no larger than the file
    return signals


def _check_datasets(path: Path) -> None:
    """InputError for arrays of HDF5 that declare more than their stored bytes can hold.

    RosettaSciIO reads those of one dimension as it opens a file.
    """
    import h5py

    def check(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset) and (found.external or found.is_virtual):
            raise InputError(
                f"{shown(path)}: its array {shown(name)} lies in another file, which is not opened; "
                "export it as one file"
            )
        if isinstance(found, h5py.Dataset) and found.nbytes > UNSTORED_BYTES:
            stored = found.id.get_storage_size()
            if found.nbytes > ZSTD * stored:
                raise InputError(
                    f"{shown(path)}: its array {shown(name)} declares {size_text(found.nbytes)}, "
                    f"{size_text(stored)} are stored; the file is damaged, copy or export it again"
                )

    with h5py.File(path, "r") as file:
        file.visititems(check)


def _spectral_unit(signal: Signal) -> str:
    """The unit of an axis of spectra among the last two; empty where there is none."""
    for axis in _sorted_axes(signal)[-2:]:
        unit = str(axis.get("units", ""))
        if unit in SPECTRA or "wavelength" in str(axis.get("name", "")).lower():
            return unit or "wavelengths"
    return ""


def _sorted_axes(signal: Signal) -> list[dict[str, Any]]:
    """In the order of the array."""
    return sorted(signal["axes"], key=lambda axis: axis.get("index_in_array", 0))


def _number_of_values(signal: Signal) -> int:
    return math.prod(axis["size"] for axis in signal["axes"])


def _name(axis: dict[str, Any]) -> str:
    """What an axis in front of Y is: DigitalMicrograph calls the third one z, also in seconds."""
    if unit_name(str(axis.get("units", ""))) in TIMES:
        return "time"
    return str(axis.get("name", "")).lower()


def _spacing(letters: str, axes: Sequence[dict[str, Any]], lines: list[str]) -> Spacing:
    """Steps that OME-TIFF can state; a warning about the others."""
    spacing: Spacing = {}
    others: dict[str, list[str]] = {}
    for letter, axis in zip(letters, axes, strict=True):
        unit = unit_name(str(axis.get("units", ""))) or ""
        size = _shortest(float(axis.get("scale", 0.0)))
        step = step_of(size, unit, TIMES if letter == "T" else LENGTHS)
        if letter in "TZYX" and step is not None:
            spacing[letter] = step
        elif unit and math.isfinite(size) and size != 0:
            name = str(axis.get("name", "")) or letter.lower()
            others.setdefault(f"{size:g} {unit}", []).append(name)
    for words, names in others.items():
        lines.append(
            f"its steps along {' and '.join(names)} ({words}) are left out: "
            "OME-TIFF has no place for them"
        )
    return spacing


def _shortest(size: float) -> float:
    """A number that was stored with single precision, as it was meant: 0.8, not 0.800000011920929."""
    single = np.float32(size)
    return float(str(single)) if float(single) == size else size


def _in_plain_tiff(spacing: Spacing, lines: list[str]) -> Spacing:
    """Steps of an image that has more axes than OME-TIFF: those of its pixels, in µm."""
    found = {}
    for letter, (size, unit) in spacing.items():
        if letter in "YX":
            found[letter] = (float(f"{size * MICROMETRES[unit]:.12g}"), "µm")
        else:
            lines.append(f"its steps along {letter} ({size:g} {unit}) are left out")
    return found
