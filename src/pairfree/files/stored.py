"""Pixels that stay in their file: raw arrays, mapped for no longer than a region is read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pairfree.errors import InputError
from pairfree.files.image import DType, Index, Shape, Stored
from pairfree.files.messages import shown


class RawFile(Stored):
    """An uncompressed array at a place of a file.

    Parameters
    ----------
    path, offset
        Where its first value lies, bytes.
    shape
        As the image has it.
    dtype
        In the file's byte order.
    plane_axes
        2, or 3 where the last axis is S.
    samples_first
        The file has S before Y and X.
    """

    def __init__(
        self,
        path: Path,
        offset: int,
        shape: Shape,
        dtype: DType,
        plane_axes: int = 2,
        samples_first: bool = False,
    ) -> None:
        self.path, self.offset = path, offset
        self.shape, self.plane_axes = tuple(shape), plane_axes
        self.samples_first = samples_first
        self.in_file = np.dtype(dtype)
        self.dtype = self.in_file.newbyteorder("=")

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``."""
        shape = self.shape
        if self.samples_first:
            shape = (*shape[:-3], shape[-1], *shape[-3:-1])
        try:
            mapped = np.memmap(self.path, self.in_file, "r", self.offset, shape)
        except ValueError as error:
            raise InputError(
                f"{shown(self.path)}: has become shorter than its pixels; copy or export it again"
            ) from error
        plane = mapped[index]
        if self.samples_first:
            plane = np.moveaxis(plane, 0, -1)
        return np.array(plane[rows, columns], self.dtype)


@dataclass
class Mapped(Stored):
    """Stored pixels seen through a function of their values."""

    inner: Stored
    """As they lie in the file."""
    change: Callable[[np.ndarray], np.ndarray]
    """Makes values of the file, of any shape, intensities of ``dtype``."""
    dtype: DType

    def __post_init__(self) -> None:
        self.shape = self.inner.shape
        self.plane_axes = self.inner.plane_axes
        self.deep = self.inner.deep
        self.piece_bytes = self.inner.piece_bytes

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``."""
        return self.change(self.inner.region(index, rows, columns))


class Kept:
    """The last decoded parts of a file, up to so many bytes: a region seldom needs the whole of one."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._parts: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> np.ndarray | None:
        """A part, or None where it is not held any more."""
        with self._lock:
            if key in self._parts:
                self._parts.move_to_end(key)
            return self._parts.get(key)

    def make_room(self, n_bytes: int) -> None:
        """Let go of parts, so that one of so many bytes can be decoded beside the rest."""
        with self._lock:
            while self._parts and self.bytes + n_bytes > self.max_bytes:
                _, oldest = self._parts.popitem(last=False)
                self.bytes -= oldest.nbytes

    def put(self, key: Hashable, part: np.ndarray) -> None:
        """Hold a part; those that were asked for longest ago make room for it."""
        with self._lock:
            if key not in self._parts:
                self._parts[key] = part
                self.bytes += part.nbytes
            while self.bytes > self.max_bytes and len(self._parts) > 1:
                _, oldest = self._parts.popitem(last=False)
                self.bytes -= oldest.nbytes
