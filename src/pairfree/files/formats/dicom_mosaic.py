"""Mosaics of Siemens MR: the slices of a volume as tiles of one plane, row by row, the last tiles empty."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

MARK = "MOSAIC"
"""A value of ImageType."""
NUMBER = "NumberOfImagesInMosaic"
HEADER = (0x0019, "SIEMENS MR HEADER", 0x0A)
"""Group, creator and element of a private number of slices."""
CSA = (0x0029, "SIEMENS CSA HEADER", 0x10)
"""The same of a private header that has the number under its name."""
ONE_PLANE = "it is treated as one plane, across the edges of neighbouring slices"


@dataclass(frozen=True)
class Mosaic:
    """What joining slices to their mosaic needs."""

    side: int
    """Tiles a side."""
    spare: np.ndarray
    """Words of the tiles behind the last slice: (tiles, rows, columns)."""

    def join(self, slices: np.ndarray) -> np.ndarray:
        """Words of slices, (slices, rows, columns), as one plane: (1, rows, columns)."""
        tiles = np.concatenate([slices, self.spare.astype(slices.dtype, copy=False)])
        _, rows, columns = tiles.shape
        grid = tiles.reshape(self.side, self.side, rows, columns)
        plane = grid.transpose(0, 2, 1, 3)
        return plane.reshape(1, self.side * rows, self.side * columns)


def split_mosaic(dataset: Any, words: np.ndarray) -> tuple[np.ndarray, Mosaic | None, list[str]]:
    """Slices of a mosaic, what joins them again, and what is to be told; other images as they are.

    Parameters
    ----------
    dataset
        With its private elements.
    words
        (frames, rows, columns), or with samples.
    """
    kinds = [str(kind) for kind in _listed(dataset.get("ImageType"))]
    if MARK not in kinds:
        return words, None, []
    count = _number_of_slices(dataset)
    if count < 1:
        told = f"is a mosaic of slices and does not state how many; {ONE_PLANE}"
        return words, None, [told]
    side = math.isqrt(count - 1) + 1
    frames, rows, columns, *samples = words.shape
    if frames > 1 or samples or rows % side or columns % side:
        told = f"is a mosaic of {count} slices, which do not fit its pixels; {ONE_PLANE}"
        return words, None, [told]
    grid = words.reshape(side, rows // side, side, columns // side)
    tiles = grid.transpose(0, 2, 1, 3).reshape(side * side, rows // side, columns // side)
    return tiles[:count], Mosaic(side, tiles[count:].copy()), []


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _number_of_slices(dataset: Any) -> int:
    """As the object states it; 0 where it does not, or not in a way that is understood."""
    stated = _private(dataset, *HEADER)
    if isinstance(stated, bytes):
        stated = int.from_bytes(stated[:2], "little")
    if not stated:
        stated = _number_of_csa(_private(dataset, *CSA))
    try:
        return int(stated)
    except (TypeError, ValueError):
        return 0


def _private(dataset: Any, group: int, creator: str, element: int) -> Any:
    try:
        return dataset.private_block(group, creator)[element].value
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def _number_of_csa(header: Any) -> Any:
    """The number in a CSA header; 0 where there is none, and for one that is damaged."""
    if not isinstance(header, bytes):
        return 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its readers of DICOM experimental
        from nibabel.nicom import csareader
    reader: Any = csareader
    try:
        found = reader.get_scalar(reader.read(header), NUMBER)
    except Exception:
        # A private format that was never published: what cannot be parsed states nothing.
        return 0
    return found or 0
