"""What takes a result part by part: an array here, a file's sink in ``files.sinks``."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from pairfree.files.image import Index


class Receiver(Protocol):
    """Takes a result part by part: a ``files.sinks.Sink``."""

    def write(
        self,
        index: Index,
        block: np.ndarray,
        rows: slice,
        columns: slice,
        clipped: int = 0,
    ) -> None:
        """A part of the plane at ``index``, of whose pixels so many were clipped."""

    def finished(self, index: Index, rows: slice, columns: slice) -> bool:
        """Whether exactly this part was written before, and stands."""

    def forget(self, index: Index) -> None:
        """What was written of a plane is written anew."""


class ArrayReceiver:
    """A receiver that is an array."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self._clipped: dict[Index, int] = {}

    @property
    def clipped(self) -> int:
        """Pixels that were clipped, of all planes."""
        return sum(self._clipped.values())

    def write(
        self,
        index: Index,
        block: np.ndarray,
        rows: slice,
        columns: slice,
        clipped: int = 0,
    ) -> None:
        """A part of the plane at ``index``."""
        self.pixels[index][rows, columns] = block
        self._clipped[index] = self._clipped.get(index, 0) + clipped

    def finished(self, index: Index, rows: slice, columns: slice) -> bool:
        """Never: an array begins empty."""
        return False

    def forget(self, index: Index) -> None:
        """Its pixels are written over; what was clipped does not count."""
        self._clipped.pop(index, None)
