"""Where results are written region by region: in memory, or, where they are large, in a journal."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pairfree.errors import InputError, OutputError
from pairfree.files.atomic import require_space
from pairfree.files.formats.table import written_to
from pairfree.files.image import Image, Index, check_index
from pairfree.files.journal import Block, Journal, unfinished
from pairfree.files.messages import shown
from pairfree.files.opening import check_output, save_image
from pairfree.files.spans import length_of

JOURNALED_PX = 2**24
"""Results of more pixels are journalled: that many take a minute or more on two cores."""


class Sink(ABC):
    """Where a result is written. Nothing has the final name before ``commit``.

    As a context manager it aborts when its block raises or ends without ``commit``.

    Parameters
    ----------
    like
        An image with the shape, type and metadata of the result.
    path
        Of the result.
    overwrite
        A file that is there is replaced.
    """

    def __init__(self, like: Image, path: Path, overwrite: bool) -> None:
        self.like, self.path, self.overwrite = like, path, overwrite
        self.clipped = 0
        """Pixels that ``write`` was told of, those of an earlier process too."""
        self._open = True

    def write(
        self,
        index: Index,
        block: np.ndarray,
        rows: slice | None = None,
        columns: slice | None = None,
        clipped: int = 0,
    ) -> None:
        """Take a part of a plane, or a whole one.

        Parameters
        ----------
        index
            Of the plane.
        block
            Its pixels, (h, w) or (h, w, S) of the output's type; see ``to_dtype``.
        rows, columns
            Where it lies, with a start and a stop; None for all of them.
        clipped
            How many of its pixels were clipped.

        Raises
        ------
        InputError
            For a plane that does not exist or does not fit.
        OutputError
            For a sink that was closed.
        """
        self._check_open()
        check_index(index, self.like.leading)
        if rows is None:
            rows = slice(0, self.like.height)
        if columns is None:
            columns = slice(0, self.like.width)
        samples = self.like.shape[len(index) + 2 :]
        shape = (length_of(rows), length_of(columns), *samples)
        dtype = self.like.dtype
        if block.shape != shape or block.dtype != dtype:
            raise InputError(
                f"plane {tuple(index)} is {block.dtype} {block.shape}, expected {dtype} {shape}; "
                "convert it first"
            )
        self._store(Block.at(index, rows, columns, clipped), block)
        self.clipped += clipped

    def _check_open(self) -> None:
        if not self._open:
            raise OutputError(f"{shown(self.path)}: this output was committed or aborted already")

    @abstractmethod
    def _store(self, block: Block, pixels: np.ndarray) -> None: ...

    @abstractmethod
    def _written(self) -> Iterable[Block]:
        """All parts that were written."""

    @abstractmethod
    def _result(self) -> Image: ...

    def finished(self, index: Index, rows: slice, columns: slice) -> bool:
        """Whether exactly this part was written before, perhaps by another process."""
        return False

    @abstractmethod
    def forget(self, index: Index) -> None:
        """What was written of a plane is to be written anew."""

    def commit(self) -> None:
        """Write the file; every plane must have been written."""
        self._check_open()
        done = self._count_planes()
        total = math.prod(self.like.leading)
        if done != total:
            raise OutputError(
                f"{shown(self.path)}: {done} of {total} planes were written; nothing is saved"
            )
        save_image(self._result(), self.path, self.overwrite)
        self._close(done=True)

    def _count_planes(self) -> int:
        """Planes of which every pixel was written."""
        written: dict[Index, int] = {}
        for block in self._written():
            written[block.index] = written.get(block.index, 0) + block.pixels
        plane_px = self.like.height * self.like.width
        return sum(pixels >= plane_px for pixels in written.values())

    def abort(self) -> None:
        """Write no file."""
        if self._open:
            self._close(done=False)

    def discard(self) -> None:
        """Write no file, and keep nothing for a later process to go on with."""
        if self._open:
            self._close(done=True)

    def _close(self, done: bool) -> None:
        self._open = False

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()


class MemorySink(Sink):
    """Holds the output in memory and writes it in one piece."""

    def __init__(self, like: Image, path: Path, overwrite: bool) -> None:
        super().__init__(like, path, overwrite)
        self._pixels: np.ndarray | None = np.empty(like.shape, like.dtype)
        self._blocks: dict[tuple[Any, ...], Block] = {}

    def _store(self, block: Block, pixels: np.ndarray) -> None:
        assert self._pixels is not None
        plane = self._pixels[block.index]
        plane[block.rows, block.columns] = pixels
        self._blocks[block.place] = block

    def _written(self) -> Iterable[Block]:
        return self._blocks.values()

    def _result(self) -> Image:
        assert self._pixels is not None
        return self.like.with_pixels(self._pixels)

    def forget(self, index: Index) -> None:
        """As ``Sink.forget``."""
        others = []
        for block in self._blocks.values():
            if block.index != tuple(index):
                others.append(block)
        self._blocks = {block.place: block for block in others}
        self.clipped = sum(block.clipped for block in others)

    def _close(self, done: bool) -> None:
        super()._close(done)
        self._pixels = None


class JournalSink(Sink):
    """Keeps finished parts in a journal beside the output; a later process goes on from there.

    Parameters
    ----------
    like, path, overwrite
        As ``Sink``.
    of_what
        What decides the result, as JSON; parts of anything else are dropped.

    Raises
    ------
    OutputError, BusyError
        As ``Journal``.
    """

    def __init__(self, like: Image, path: Path, overwrite: bool, of_what: dict[str, Any]) -> None:
        super().__init__(like, path, overwrite)
        self._journal = Journal(path, like, of_what)
        self._count_clipped()

    def _count_clipped(self) -> None:
        self.clipped = sum(block.clipped for block in self._journal.blocks)

    def _store(self, block: Block, pixels: np.ndarray) -> None:
        self._journal.add(block, pixels)

    def _written(self) -> Iterable[Block]:
        return self._journal.blocks

    def _result(self) -> Image:
        return replace(self.like, data=self._journal.whole())

    def finished(self, index: Index, rows: slice, columns: slice) -> bool:
        """As ``Sink.finished``."""
        return self._journal.holds(Block.at(index, rows, columns))

    def forget(self, index: Index) -> None:
        """As ``Sink.forget``; OutputError where that cannot be written."""
        self._journal.forget(tuple(index))
        self._count_clipped()

    def _close(self, done: bool) -> None:
        super()._close(done)
        self._journal.close(done)


def is_journalled(stored: bool, values: int) -> bool:
    """Whether an output of so many values is kept on the disk while it is made.

    Parameters
    ----------
    stored
        Its input stays in its file.
    values
        Samples of a pixel counted each.
    """
    return stored or values > JOURNALED_PX


def open_sink(
    like: Image, path: str | Path, overwrite: bool = False, of_what: dict[str, Any] | None = None
) -> Sink:
    """A sink for an output; what cannot be written is refused before any work.

    Parameters
    ----------
    like
        An image with the shape, type and metadata of the output.
    path
        Of the output.
    overwrite
        A file that is there is replaced.
    of_what
        What decides the result, as JSON: large outputs are then journalled, and a killed process's work is
        gone on with.

    Raises
    ------
    OutputError
        For what the format cannot hold, what exists already, and too little space.
    BusyError
        While another process writes the same output.
    """
    path = Path(path)
    check_output(like, path)
    there = [file for file in written_to(path) if os.path.lexists(file)]
    if there and not overwrite:
        raise OutputError(
            f"{shown(there[0])} exists already; "
            "pass `overwrite` to replace it, or choose another folder"
        )
    if of_what is not None:
        begun = unfinished(path).is_dir()
        if begun or is_journalled(like.stored, like.size):
            return JournalSink(like, path, overwrite, of_what)
    require_space(path.parent, like.nbytes)
    return MemorySink(like, path, overwrite)
