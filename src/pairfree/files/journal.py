"""Finished parts of a large output, kept beside it: a later process goes on where one was killed."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from pairfree.errors import OutputError
from pairfree.facts import (
    WHOLE,
    Unreadable,
    check,
    is_cut_off,
    list_of,
    open_file,
    parse_json,
    read_lines,
)
from pairfree.files.atomic import hidden_name, output_error, require_space
from pairfree.files.damaged import make_way, set_aside
from pairfree.files.image import Image, Index, Shape, Stored
from pairfree.files.lock import Lock
from pairfree.files.messages import reason, shown
from pairfree.files.spans import is_empty, length_of, overlap, relative_to
from pairfree.regular import open_regular, overwrite_regular

FORMAT = 1
_NUMBERS = ("top", "bottom", "left", "right", "clipped", "crc32")
PART = {"index": list_of(WHOLE), **dict.fromkeys(_NUMBERS, WHOLE)}
"""What a line about a part says."""
FORGET = {"forget": list_of(WHOLE)}
"""What a line says after which the parts of a plane are none any more."""
READ_BYTES = 2**24
ANEW = "this result is begun anew"
_say = logging.getLogger("pairfree")


@dataclass(frozen=True)
class Block:
    """A part of a plane."""

    index: Index
    """Of the plane."""
    top: int
    bottom: int
    """The row after its last one."""
    left: int
    right: int
    """The column after its last one."""
    clipped: int = 0
    """How many of its pixels were clipped."""

    @classmethod
    def at(cls, index: Index, rows: slice, columns: slice, clipped: int = 0) -> Block:
        """The block with these rows and columns of a plane.

        Parameters
        ----------
        index
            Of the plane.
        rows, columns
            With a start and a stop.
        clipped
            How many of its pixels were clipped.
        """
        plane = tuple(int(place) for place in index)
        return cls(plane, rows.start, rows.stop, columns.start, columns.stop, clipped)

    @classmethod
    def from_json(cls, words: dict[str, Any]) -> Block:
        """The block that a line of a journal tells of."""
        rows = words["top"], words["bottom"]
        columns = words["left"], words["right"]
        return cls(tuple(words["index"]), *rows, *columns, words["clipped"])

    @property
    def rows(self) -> slice:
        """Of the plane."""
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        """Of the plane."""
        return slice(self.left, self.right)

    @property
    def pixels(self) -> int:
        """How many it has."""
        return (self.bottom - self.top) * (self.right - self.left)

    @property
    def place(self) -> tuple[Any, ...]:
        """What tells it from all other blocks of an output."""
        return (self.index, self.top, self.bottom, self.left, self.right)


class Part(NamedTuple):
    """A block that is in a journal."""

    block: Block
    offset: int
    """Of its pixels among those of all parts, bytes."""


class Journal:
    """The parts of one output, appended to a file as they are finished, and a line about each.

    ``.NAME.unfinished/blocks`` holds their pixels, one part after the other; ``journal.jsonl`` says what they
    are parts of and then, line by line, which part comes next, with its checksum. One process at a time.

    Parameters
    ----------
    path
        Of the output.
    like
        An image with its shape and type.
    of_what
        What decides the result, as JSON; parts of anything else are dropped.

    Raises
    ------
    OutputError
        Where the journal cannot be written, or there is no space for it and the output.
    BusyError
        While another process has it.
    """

    def __init__(self, path: Path, like: Image, of_what: dict[str, Any]) -> None:
        self.path, self.like = path, like
        self.folder = unfinished(path)
        self._blocks_path = self.folder / "blocks"
        self._lines_path = self.folder / "journal.jsonl"
        self._head = {
            "format": FORMAT,
            "shape": list(like.shape),
            "dtype": like.dtype.name,
            **of_what,
        }
        self._bytes_per_px = like.samples * like.dtype.itemsize
        self._parts: dict[tuple[Any, ...], Part] = {}
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            make_way(self.folder, ANEW, folder=True)
            self.folder.mkdir(exist_ok=True)
            self._lock = Lock(self.folder / "lock", path)
        except OSError as error:
            raise self._failed(error) from error
        try:
            for file in (self._blocks_path, self._lines_path):
                make_way(file, ANEW)
            if not self._take_over():
                self._begin()
            self._blocks = open_regular(self._blocks_path, "ab", follow=False)
            self._lines = open_regular(self._lines_path, "ab", follow=False)
        except OSError as error:
            self._leave()
            raise self._failed(error) from error
        except BaseException:
            self._leave()
            raise

    def _failed(self, error: OSError) -> OutputError:
        return output_error(error, self.path, self.like.nbytes)

    def _take_over(self) -> bool:
        """Whether an earlier process left parts of the same result.

        They are taken as far as their pixels are whole; the rest is cut off.
        """
        try:
            with contextlib.closing(read_lines(self._lines_path)) as lines:
                head = next(lines, b"")
                if not head or is_cut_off(head) or parse_json(head) != self._head:
                    return False
                kept, end = self._take_lines(lines)
        except FileNotFoundError:
            return False
        except Unreadable as error:
            self._parts = {}
            set_aside(self._lines_path, str(error), ANEW)
            return False
        os.truncate(self._blocks_path, end)
        os.truncate(self._lines_path, len(head) + kept)
        return True

    def _take_lines(self, lines: Iterator[bytes]) -> tuple[int, int]:
        """Do again what lines tell of; bytes of those that are whole, and of the pixels that they tell of."""
        kept = end = 0
        with open_file(self._blocks_path) as blocks:
            size = self._blocks_path.stat().st_size
            for line in lines:
                if not self._take_line(line, blocks, size):
                    if line.endswith(b"\n"):  # a killed process leaves half a line
                        self._tell_loss()
                    break
                kept += len(line)
                end = blocks.tell()
        return kept, end

    def _tell_loss(self) -> None:
        count = len(self._parts)
        _say.warning(
            "%s: what was begun of it is damaged behind part %d; the rest is done anew",
            shown(self.path),
            count,
        )

    def _take_line(self, line: bytes, blocks: IO[bytes], size: int) -> bool:
        """Do again what a line tells of; False where it, or the pixels that come next, are not whole."""
        try:
            words = parse_json(line)
            if isinstance(words, dict) and "forget" in words:
                self._drop(tuple(check(words, FORGET)["forget"]))
                return line.endswith(b"\n")
            crc32 = check(words, PART)["crc32"]
        except Unreadable:
            return False
        part = Part(Block.from_json(words), blocks.tell())
        expected = part.block.pixels * self._bytes_per_px
        whole = (
            line.endswith(b"\n")
            and self._lies_within(part.block)
            and part.offset + expected <= size
            and _checksum(blocks, expected) == crc32
        )
        if whole:
            self._parts[part.block.place] = part
        return whole

    def _lies_within(self, block: Block) -> bool:
        """Whether it is a part of this output."""
        leading = self.like.leading
        if len(block.index) != len(leading) or block.clipped > block.pixels * self.like.samples:
            return False
        within = all(place < count for place, count in zip(block.index, leading, strict=True))
        rows = block.top < block.bottom <= self.like.height
        return within and rows and block.left < block.right <= self.like.width

    def _begin(self) -> None:
        require_space(self.path.parent, 2 * self.like.nbytes)
        head = json.dumps(self._head)
        overwrite_regular(self._blocks_path, b"")
        overwrite_regular(self._lines_path, f"{head}\n".encode())

    @property
    def blocks(self) -> list[Block]:
        """All parts."""
        return [part.block for part in self._parts.values()]

    def holds(self, block: Block) -> bool:
        """Whether exactly this part is there."""
        return block.place in self._parts

    def add(self, block: Block, pixels: np.ndarray) -> None:
        """One more part, (h, w) or (h, w, S) of the output's type; OutputError where it cannot be written."""
        data = np.ascontiguousarray(pixels).tobytes()
        try:
            offset = self._blocks.tell()
            self._blocks.write(data)
            self._blocks.flush()
            self._note({**asdict(block), "crc32": zlib.crc32(data)})
        except OSError as error:
            raise self._failed(error) from error
        self._parts[block.place] = Part(block, offset)

    def forget(self, index: Index) -> None:
        """Drop all parts of a plane, for later processes too; OutputError where that cannot be written."""
        self._drop(index)
        try:
            self._note({"forget": list(index)})
        except OSError as error:
            raise self._failed(error) from error

    def _drop(self, index: Index) -> None:
        others = {}
        for place, part in self._parts.items():
            if part.block.index != index:
                others[place] = part
        self._parts = others

    def _note(self, words: dict[str, Any]) -> None:
        line = json.dumps(words)
        self._lines.write(f"{line}\n".encode())
        self._lines.flush()

    def whole(self) -> Stored:
        """The output's pixels, put together from its parts as they are asked for."""
        return _Assembled(self.path, self._blocks_path, self.like, self._parts.values())

    def close(self, done: bool) -> None:
        """Let others in; what is of no more use, such as the parts of what is ``done``, is removed."""
        for file in (self._blocks, self._lines):
            with contextlib.suppress(OSError):
                file.close()
        self._leave(done)

    def _leave(self, done: bool = False) -> None:
        self._lock.release()
        if done or not self._parts:
            with contextlib.suppress(RecursionError):  # of folders that someone put there
                shutil.rmtree(self.folder, ignore_errors=True)


Bands = dict[tuple[int, int], list[Part]]
"""Parts by their first row and the row after their last."""


class _Assembled(Stored):
    """Planes put together from the parts of a journal."""

    def __init__(self, path: Path, blocks_path: Path, like: Image, parts: Iterable[Part]) -> None:
        self.path, self.blocks_path = path, blocks_path
        self.shape, self.dtype = like.shape, like.dtype
        self.plane_axes = 3 if like.axes.endswith("S") else 2
        self._bands: dict[Index, Bands] = {}
        """Parts of a plane by their rows: it may have a hundred thousand, of which a region needs a few."""
        for part in parts:
            block = part.block
            bands = self._bands.setdefault(block.index, {})
            band = bands.setdefault((block.top, block.bottom), [])
            band.append(part)

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``; OutputError where its journal cannot be read any more."""
        samples = self.shape[len(index) + 2 :]
        size = length_of(rows), length_of(columns)
        out = np.empty((*size, *samples), self.dtype)
        try:
            self._read_into(out, index, rows, columns)
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{shown(self.path)}: its journal {shown(self.blocks_path)} cannot be read back "
                f"({reason(error)}); run the same command again"
            ) from error
        return out

    def _read_into(self, out: np.ndarray, index: Index, rows: slice, columns: slice) -> None:
        samples = out.shape[2:]
        with open_regular(self.blocks_path, follow=False) as file:
            for part in self._parts_of(tuple(index), rows):
                down = overlap(rows, part.block.rows)
                across = overlap(columns, part.block.columns)
                if is_empty(down) or is_empty(across):
                    continue
                band = self._read_rows(file, part, down, samples)
                inside = band[:, relative_to(across, part.block.left)]
                y = relative_to(down, rows.start)
                x = relative_to(across, columns.start)
                out[y, x] = inside

    def _parts_of(self, index: Index, rows: slice) -> Iterator[Part]:
        """Those of a plane that have any of the rows."""
        touched = []
        for (top, bottom), band in self._bands[index].items():
            if top < rows.stop and bottom > rows.start:
                touched.append(band)
        return itertools.chain.from_iterable(touched)

    def _read_rows(self, file: IO[bytes], part: Part, rows: slice, samples: Shape) -> np.ndarray:
        """Whole rows of a part; ``rows`` are those of the plane."""
        shape = (length_of(rows), length_of(part.block.columns), *samples)
        row_bytes = math.prod(shape[1:]) * self.dtype.itemsize
        above = rows.start - part.block.top
        file.seek(part.offset + above * row_bytes)
        data = file.read(length_of(rows) * row_bytes)
        return np.frombuffer(data, self.dtype).reshape(shape)


def _checksum(file: IO[bytes], nbytes: int) -> int:
    """CRC-32 of the bytes that come next."""
    found = 0
    while nbytes > 0:
        data = file.read(min(nbytes, READ_BYTES))
        if not data:
            return -1
        found = zlib.crc32(data, found)
        nbytes -= len(data)
    return found


def unfinished(path: Path) -> Path:
    """Folder of what a killed process leaves of an output."""
    return hidden_name(path, "unfinished")


def journalled_bytes(path: Path) -> int:
    """What of an output lies in the journal of an earlier process already."""
    try:
        return (unfinished(path) / "blocks").stat().st_size
    except OSError:
        return 0
