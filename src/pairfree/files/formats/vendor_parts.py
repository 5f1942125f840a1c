"""What the readers of makers' files share: the choice of an image, its axes, and the Image itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.tiff_meta import Stated
from pairfree.files.image import Image, Index, Step, Stored
from pairfree.files.limits import Limits, check_scene
from pairfree.files.messages import shown
from pairfree.files.stored import Kept

KEPT_BYTES = 2**27
"""Of decoded planes or tiles, for the next region."""
LENGTHS = ("m", "cm", "mm", "µm", "nm", "Å", "pm")
"""Units that OME-TIFF can state along Z, Y and X."""
TIMES = ("s", "ms", "µs", "ns", "min", "h")
"""Units that OME-TIFF can state along T."""


class Planes(Stored):
    """Pixels that are decoded by whole planes, of which the last ones are kept."""

    def __init__(self) -> None:
        self._kept = Kept(KEPT_BYTES)

    def plane(self, index: Index) -> np.ndarray:
        """A whole plane, (H, W) or (H, W, S), read from the file."""
        raise NotImplementedError

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``."""
        plane = self._kept.get(index)
        if plane is None:
            plane = self.plane(index)
            self._kept.put(index, plane)
        return plane[rows, columns]


def choose_scene(path: Path, scene: int | None, count: int, what: str) -> tuple[int, list[str]]:
    """The number of the image to read, and a warning where others are left out unasked.

    Parameters
    ----------
    path
        Of the file, for messages.
    scene
        Number of the image that is wanted, from 0; None for the first.
    count
        How many there are.
    what
        They are called, such as "scenes".

    Raises
    ------
    InputError
        Where there is no such image.
    """
    if count == 0:
        raise InputError(f"{shown(path)}: holds no {what}; export the one that you mean")
    check_scene(scene or 0, count, path)
    if scene is None and count > 1:
        line = f"holds {count} {what}; only the first is used (choose with `scene`)"
        return 0, [line]
    return scene or 0, []


def name_axes(names: Sequence[str], known: dict[str, str]) -> str:
    """Axes of pairfree for those in front of Y.

    Parameters
    ----------
    names
        As the maker calls them, slowest first.
    known
        Letters by such names.

    Returns
    -------
    str
        A letter each: Q for names that are not known, and for a letter that several would have.
    """
    wanted = [known.get(name, "Q") for name in names]
    letters = ""
    for letter in wanted:
        letters += letter if wanted.count(letter) == 1 else "Q"
    return letters


def step_of(size: float, unit: str, units: Sequence[str]) -> Step | None:
    """A step where its size is one and its unit is among ``units``, else None."""
    if unit in units and math.isfinite(size) and size > 0:
        return float(f"{size:.12g}"), unit
    return None


def make_image(
    path: Path, pixels: Stored, axes: str, stated: Stated, lines: list[str], limits: Limits
) -> Image:
    """The image of a maker's file, whose declared size has been checked.

    Parameters
    ----------
    path
        Of the file.
    pixels
        Stay in the file where they are more than ``limits.resident_bytes``.
    axes
        Of ``pixels``.
    stated
        What the file says about them; names are left out where they are not one a channel.
    lines
        Warnings.
    limits
        As the reader was given.
    """
    n_bytes = math.prod(pixels.shape) * pixels.dtype.itemsize
    channels = pixels.shape[axes.index("C")] if "C" in axes else 1
    names = stated.channel_names
    return Image(
        pixels if n_bytes > limits.resident_bytes else pixels.whole(),
        axes,
        {axis: step for axis, step in stated.spacing.items() if axis in axes},
        names if len(names) == channels else (),
        stated.bit_depth,
        source=path,
        family="vendor",
        metadata={"warnings": lines},
    )
