"""Pixels that stay in their file: raw arrays, of which no more is read than a region needs."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pairfree.errors import InputError
from pairfree.files.image import DType, Index, Shape, Stored
from pairfree.files.messages import shown
from pairfree.files.spans import length_of
from pairfree.regular import fill


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
        # Not mapped into memory: where another program cuts the file meanwhile, that would end the process.
        samples = self.shape[-1] if self.plane_axes == 3 else 1
        height, width = self.shape[len(index) : len(index) + 2]
        number = 0
        if index:
            number = int(np.ravel_multi_index(index, self.shape[: len(index)]))
        first = number * samples
        with self.path.open("rb", buffering=0) as file:
            end = self.offset + math.prod(self.shape) * self.in_file.itemsize
            if os.fstat(file.fileno()).st_size < end:
                raise self._too_short()
            if not self.samples_first:
                grid = _Grid(height, width * samples, self.in_file, self.offset)
                across = slice(columns.start * samples, columns.stop * samples)
                part = self._read(file, grid, number, rows, across)
            else:
                grid = _Grid(height, width, self.in_file, self.offset)
                planes = range(first, first + samples)
                part = np.stack([self._read(file, grid, i, rows, columns) for i in planes], axis=-1)
        if self.plane_axes == 3:
            part = part.reshape(len(part), -1, samples)
        return part.astype(self.dtype, copy=False)

    def _read(
        self, file: FileIO, grid: _Grid, number: int, rows: slice, columns: slice
    ) -> np.ndarray:
        """(h, w) of one of the file's planes of ``grid``."""
        part = np.empty((length_of(rows), length_of(columns)), grid.dtype)
        at_once = part.reshape(1, -1) if length_of(columns) == grid.width else part
        for line, values in enumerate(at_once):
            file.seek(grid.place(number, rows.start + line, columns.start))
            room = values.view(np.uint8).data
            if fill(room, file) < len(room):
                raise self._too_short()
        return part

    def _too_short(self) -> InputError:
        return InputError(
            f"{shown(self.path)}: has become shorter than its pixels; copy or export it again"
        )


class _Grid(NamedTuple):
    """Planes of values that lie one after the other in a file."""

    height: int
    width: int
    dtype: DType
    offset: int
    """Of the first value, bytes."""

    def place(self, number: int, row: int, column: int) -> int:
        """Where a value of a plane lies, bytes."""
        values = (number * self.height + row) * self.width + column
        return self.offset + values * self.dtype.itemsize


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
