"""Pixels of a Zarr array that stay in their folder.

Chunks are decoded as regions need them, and the last ones kept.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.zarr_bounds import quiet_and_bounded
from pairfree.files.formats.zarr_codecs import most_in_file
from pairfree.files.formats.zarr_files import MOST_METADATA_BYTES, SUMS, ZarrFiles, join
from pairfree.files.formats.zarr_internals import name_of_chunk
from pairfree.files.image import Index, Stored
from pairfree.files.messages import reason, shown, size_text
from pairfree.files.spans import (
    Place,
    count_chunks,
    length_of,
    numbers_of_chunks,
    overlap,
    relative_to,
    span_at,
)
from pairfree.files.stored import Kept

SPARE_BYTES = 2**20
"""What the file of a chunk may hold beside its pixels."""
KEPT_BYTES = 2**27
"""Of decoded chunks: tiles overlap, and a chunk may hold parts of many tiles and planes."""
AT_ONCE_BYTES = 2**25
"""Chunks up to so many bytes together are asked for in one call."""
Number = tuple[int, ...]
"""Of a chunk along each axis."""
Chunks = dict[Number, np.ndarray]


class ZarrPixels(Stored):
    """An array of chunks; those that were decoded last are kept.

    Parameters
    ----------
    array
        zarr's, open for reading.
    files
        Of the image.
    all_written
        A missing chunk is an error, and not all fill value.
    """

    def __init__(self, array: Any, files: ZarrFiles, all_written: bool = False) -> None:
        self.array = array
        self.files = files
        self.all_written = all_written
        self.label = shown(files.path)
        self.shape = tuple(array.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self.deep = tuple(array.chunks[:-2])
        held = array.shards or array.chunks
        self.piece_bytes = math.prod(held) * self.dtype.itemsize
        self._kept = Kept(KEPT_BYTES)
        self._sums = self._read_sums()

    def _read_sums(self) -> np.ndarray | None:
        """Checksums of the files of chunks, by the number of the chunk; None where none are stored."""
        name = join(str(self.array.path), SUMS)
        size = self.files.size(name)
        grid = count_chunks(self.shape, self.array.chunks)
        if size is None or size != 4 * math.prod(grid):
            return None
        if size > MOST_METADATA_BYTES:
            raise InputError(
                f"{self.label}: {name} has {size_text(size)} of checksums, more than are read; "
                "remove it, or write the image with larger chunks"
            )
        return np.frombuffer(self.files.read(name), "<u4").reshape(grid)

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``."""
        shape = (length_of(rows), length_of(columns))
        out = np.empty(shape, self.dtype)
        numbers = self._numbers(index, rows, columns)
        for number, chunk in self._decoded(numbers):
            *leading, down, across = self._place(number)
            along = zip(index, leading, strict=True)
            plane = chunk[tuple(i - span.start for i, span in along)]
            y = overlap(down, rows)
            x = overlap(across, columns)
            inside = plane[relative_to(y, down.start), relative_to(x, across.start)]
            out[relative_to(y, rows.start), relative_to(x, columns.start)] = inside
        return out

    def _numbers(self, index: Index, rows: slice, columns: slice) -> list[Number]:
        """Of the chunks that hold a part of a plane."""
        wanted = [slice(i, i + 1) for i in index]
        wanted += [rows, columns]
        along = []
        for span, length in zip(wanted, self.array.chunks, strict=True):
            along.append(numbers_of_chunks(span, length))
        return list(itertools.product(*along))

    def _place(self, number: Number) -> Place:
        """Where a chunk lies in the array."""
        place = []
        for i, length, size in zip(number, self.array.chunks, self.shape, strict=True):
            span = span_at(i * length, length, size)
            place.append(span)
        return tuple(place)

    def _decoded(self, numbers: list[Number]) -> Iterator[tuple[Number, np.ndarray]]:
        """Chunks by their numbers: those that are kept, then the others, large ones one after the other."""
        missing = []
        for number in numbers:
            chunk = self._kept.get(number)
            if chunk is None:
                missing.append(number)
            else:
                yield number, chunk
        if missing:
            yield from self._fetch(missing)

    def _fetch(self, missing: list[Number]) -> Iterator[tuple[Number, np.ndarray]]:
        """Decode chunks, together where they are small, and keep them."""
        self._check_files(missing)
        along = list(zip(*missing, strict=True))
        first = tuple(min(numbers) for numbers in along)
        last = tuple(max(numbers) for numbers in along)
        count = 1
        for a, b in zip(first, last, strict=True):
            count *= b - a + 1
        each_bytes = math.prod(self.array.chunks) * self.dtype.itemsize
        if count * each_bytes <= AT_ONCE_BYTES:
            for number, chunk in self._read_together(missing, first, last).items():
                self._kept.put(number, chunk)
                yield number, chunk
            return
        for number in missing:
            self._kept.make_room(each_bytes)
            chunk = self._read(self._place(number))
            self._kept.put(number, chunk)
            yield number, chunk

    def _read_together(self, missing: list[Number], first: Number, last: Number) -> Chunks:
        """All chunks from ``first`` to ``last`` in one call, and copies of those that are missing."""
        begin = [span.start for span in self._place(first)]
        end = [span.stop for span in self._place(last)]
        sides = zip(begin, end, strict=True)
        place = tuple(slice(a, b) for a, b in sides)
        block = self._read(place)
        found = {}
        for number in missing:
            along = zip(self._place(number), begin, strict=True)
            inside = tuple(relative_to(span, start) for span, start in along)
            found[number] = block[inside].copy()
        return found

    def _check_files(self, missing: list[Number]) -> None:
        """InputError for a file that is larger than its chunk or shard can be, or not what was written.

        It would be read whole, and may be mostly a hole.
        """
        held = self.array.shards or self.array.chunks
        most = most_in_file(self.array) + SPARE_BYTES
        numbers = {self._number_of_file(one, held) for one in missing}
        for number in numbers:
            key = name_of_chunk(self.array, number)
            name = join(str(self.array.path), key)
            size = self.files.size(name)
            if size is None and self.all_written:
                raise InputError(
                    f"{self.label}: its chunk {shown(name)} is missing; copy or write it again"
                )
            if size is None:  # a chunk without a file is all fill value
                continue
            if size > most:
                raise InputError(
                    f"{self.label}: chunk {key} takes {size} bytes, its array allows {most}; "
                    "copy or export the folder again"
                )
            if self._sums is not None and zlib.crc32(self.files.read(name)) != self._sums[number]:
                raise InputError(
                    f"{self.label}: chunk {key} is not what pairfree wrote; copy it again, or, where another "
                    f"program changed it on purpose, remove {SUMS} beside it"
                )

    def _number_of_file(self, number: Number, held: tuple[int, ...]) -> Number:
        """Of the chunk itself, or of the shard that holds it."""
        sides = zip(number, self.array.chunks, held, strict=True)
        return tuple(i * length // side for i, length, side in sides)

    def _read(self, place: Place) -> np.ndarray:
        try:
            with quiet_and_bounded():
                values = np.asarray(self.array[place])
                return values.astype(self.dtype, copy=False)
        except (MemoryError, InputError):
            raise
        except Exception as error:  # codecs raise what they like on damaged chunks
            raise InputError(
                f"{self.label}: a chunk of {place} cannot be read ({reason(error)}); "
                "copy or export the folder again"
            ) from error
