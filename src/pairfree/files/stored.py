"""Pixels that stay in their file: raw arrays, read region by region through a map that lives no longer than the reading."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.image import Stored
from pairfree.files.messages import shown


class RawFile(Stored):
    """An uncompressed array at a place of a file.

    path, offset    where its first value lies, bytes
    shape, dtype    as the image has them; ``dtype`` in the file's byte order
    plane_axes      2, or 3 where the last axis is S
    samples_first   the file has S before Y and X
    """

    def __init__(
        self,
        path: Path,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        plane_axes: int = 2,
        samples_first: bool = False,
    ) -> None:
        self.path, self.offset, self.shape, self.plane_axes, self.samples_first = (
            path,
            offset,
            tuple(shape),
            plane_axes,
            samples_first,
        )
        self.in_file = np.dtype(dtype)
        self.dtype = self.in_file.newbyteorder("=")

    def region(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
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
        return np.array(
            np.moveaxis(plane, 0, -1)[rows, columns] if self.samples_first else plane[rows, columns],
            self.dtype,
        )


@dataclass
class Mapped(Stored):
    """Stored pixels seen through a function of their values: ``change`` (any shape, values in the file) -> intensities of ``dtype``."""

    inner: Stored
    change: Callable[[np.ndarray], np.ndarray]
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        self.shape, self.plane_axes, self.deep = self.inner.shape, self.inner.plane_axes, self.inner.deep

    def region(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        return self.change(self.inner.region(index, rows, columns))


class Kept:
    """The last decoded parts of a file, up to so many bytes: a region seldom needs the whole of one."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._parts: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> np.ndarray | None:
        with self._lock:
            if key in self._parts:
                self._parts.move_to_end(key)
            return self._parts.get(key)

    def put(self, key: Hashable, part: np.ndarray) -> None:
        with self._lock:
            if key not in self._parts:
                self._parts[key], self.bytes = part, self.bytes + part.nbytes
            while self.bytes > self.max_bytes and len(self._parts) > 1:
                self.bytes -= self._parts.popitem(last=False)[1].nbytes
