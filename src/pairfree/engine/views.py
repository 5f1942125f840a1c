"""A plane of an image as the network sees it: with the slices around it, and with missing pixels filled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pairfree.data.missing import REACH_PX, fill_missing
from pairfree.data.sets import check_finite, to_channels_first
from pairfree.data.slices import stack_axis, stack_slices
from pairfree.engine.planes import Plane
from pairfree.files.image import Image


@dataclass(frozen=True)
class PlaneView:
    """One plane of an image."""

    image: Image
    index: tuple[int, ...]
    """Where in the image the plane lies."""
    around: int = 0
    """Slices of a stack on each side that the network sees with it."""
    masked: bool = False
    """Whether pixels that are NaN or Inf are filled for the network, and come back as they were; else they
    are refused."""
    otherwise: float = 0.0
    """What missing pixels are filled with that have no neighbours, intensity units."""

    @property
    def label(self) -> str:
        """The plane by the name of its file and its place there."""
        return label_of(self.image, self.index)

    def open(self) -> Plane:
        """The plane to read from.

        Raises
        ------
        InputError
            With slices around it, for an image that is no stack of enough grey slices.
        """
        image = self.image
        if not self.around:
            return Plane(
                image.height,
                image.width,
                lambda rows, columns: self._read_one(self.index, rows, columns),
                slow=image.stored,
            )
        axis = stack_axis(image, self.around, label_of(image, ()))

        def read_stack(rows: slice, columns: slice) -> np.ndarray:
            return stack_slices(
                lambda index: self._read_one(index, rows, columns),
                image,
                self.index,
                axis,
                self.around,
            )

        return Plane(image.height, image.width, read_stack, slow=image.stored)

    def restore_missing(self, values: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """``values`` (C, h, w), but what is missing in this part of the image."""
        if not self._fills:
            return values
        given = to_channels_first(self.image.region(self.index, rows, columns), self.image.colours)
        return np.where(np.isfinite(given), values, given)

    @property
    def _fills(self) -> bool:
        """Whether anything can be missing that comes back."""
        return self.masked and self.image.dtype.kind == "f"

    def _read_one(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        """(C, h, w) of one slice."""
        image = self.image
        if self._fills:
            return self._read_filled(index, rows, columns)
        part = to_channels_first(image.region(index, rows, columns), image.colours)
        if image.stored:
            check_finite(part, label_of(image, index), (rows.start, columns.start))
        return part

    def _read_filled(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        """(C, h, w) whose missing pixels are filled.

        They are filled from those around them, also from beyond the part that is asked for.
        """
        image = self.image
        top, left = max(0, rows.start - REACH_PX), max(0, columns.start - REACH_PX)
        bottom = min(rows.stop + REACH_PX, image.height)
        right = min(columns.stop + REACH_PX, image.width)
        wide = image.region(index, slice(top, bottom), slice(left, right))
        whole = fill_missing(to_channels_first(wide, image.colours), self.otherwise)
        part = whole[:, rows.start - top :, columns.start - left :]
        return part[:, : rows.stop - rows.start, : columns.stop - columns.start]


def label_of(image: Image, index: tuple[int, ...]) -> str:
    """A plane by the name of its file and its place there."""
    return f"{image.source or 'array'}{list(index) if index else ''}"
