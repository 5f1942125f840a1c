"""A plane of an image as the network sees it: with the slices around it, and with missing pixels filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pairfree.data.missing import REACH_PX, check_range, fill_missing
from pairfree.data.sets import check_finite, to_channels_first
from pairfree.data.slices import stack_axis, stack_slices
from pairfree.engine.planes import Plane
from pairfree.files.image import Image, Index


@dataclass(frozen=True)
class PlaneView:
    """One plane of an image."""

    image: Image
    index: Index
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
        read = self._read_stack(image) if self.around else self._read_alone
        return Plane(image.height, image.width, read, slow=image.stored)

    def _read_alone(self, rows: slice, columns: slice) -> np.ndarray:
        """(C, h, w) of the plane without slices around it."""
        return self._read_one(self.index, rows, columns)

    def _read_stack(self, image: Image) -> Callable[[slice, slice], np.ndarray]:
        """What reads the plane with the slices around it."""
        axis = stack_axis(image, self.around, label_of(image, ()))

        def read(rows: slice, columns: slice) -> np.ndarray:
            def read_slice(index: Index) -> np.ndarray:
                return self._read_one(index, rows, columns)

            return stack_slices(read_slice, image, self.index, axis, self.around)

        return read

    def restore_missing(self, values: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """``values`` (C, h, w), but what is missing in this part of the image."""
        if not self._fills:
            return values
        region = self.image.region(self.index, rows, columns)
        given = to_channels_first(region, self.image.colours)
        return np.where(np.isfinite(given), values, given)

    @property
    def _fills(self) -> bool:
        """Whether anything can be missing that comes back."""
        return self.masked and self.image.dtype.kind == "f"

    def _read_one(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """(C, h, w) of one slice."""
        image = self.image
        if self._fills:
            return self._read_filled(index, rows, columns)
        region = image.region(index, rows, columns)
        part = to_channels_first(region, image.colours)
        if image.stored:
            corner = (rows.start, columns.start)
            check_finite(part, label_of(image, index), corner)
        return part

    def _read_filled(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """(C, h, w) whose missing pixels are filled.

        They are filled from those around them, also from beyond the part that is asked for.
        """
        image = self.image
        wide_rows = _widen(rows, image.height)
        wide_columns = _widen(columns, image.width)
        region = image.region(index, wide_rows, wide_columns)
        wide = to_channels_first(region, image.colours)
        check_range(wide, label_of(image, index))
        whole = fill_missing(wide, self.otherwise)
        inner_rows = slice(rows.start - wide_rows.start, rows.stop - wide_rows.start)
        inner_columns = slice(
            columns.start - wide_columns.start,
            columns.stop - wide_columns.start,
        )
        return whole[:, inner_rows, inner_columns]


class OpenPlane(NamedTuple):
    """A plane of an image, opened once for all its tiles."""

    view: PlaneView
    plane: Plane

    @classmethod
    def of(cls, view: PlaneView) -> OpenPlane:
        """The plane of a view."""
        return cls(view, view.open())


def _widen(part: slice, length: int) -> slice:
    """A part of a line with what missing pixels in it are filled from."""
    start = max(0, part.start - REACH_PX)
    stop = min(part.stop + REACH_PX, length)
    return slice(start, stop)


def label_of(image: Image, index: Index) -> str:
    """A plane by the name of its file and its place there."""
    source = image.source or "array"
    place = list(index) if index else ""
    return f"{source}{place}"
