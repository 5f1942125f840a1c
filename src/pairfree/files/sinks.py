"""Where results are written region by region: in memory, or, where they are large, in a journal that outlives
a killed process."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shutil
import zlib
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pairfree.errors import InputError, OutputError
from pairfree.files.atomic import output_error, require_space
from pairfree.files.formats.table import check_output, save_image, written_to
from pairfree.files.image import Image, Stored, check_index
from pairfree.files.lock import Lock
from pairfree.files.messages import shown

JOURNALED_PX = 2**24
"""Results of more pixels are journalled: that many take a minute or more on two cores."""
FORMAT = 1


class Sink(ABC):
    """Where a result is written. Nothing has the final name before ``commit``.

    As a context manager it aborts when its block raises or ends without ``commit``.
    """

    def __init__(self, like: Image, path: Path, overwrite: bool) -> None:
        self.like, self.path, self.overwrite = like, path, overwrite
        self.clipped = 0
        """Pixels that ``write`` was told of, those of an earlier process too."""
        self._open = True

    def write(
        self,
        index: tuple[int, ...],
        block: np.ndarray,
        rows: slice | None = None,
        columns: slice | None = None,
        clipped: int = 0,
    ) -> None:
        """A part of a plane, (h, w) or (h, w, S) of the output's type (see ``to_dtype``); the whole plane
        without ``rows`` and ``columns``.

        clipped   how many of its pixels were clipped
        Raises    InputError for a plane that does not exist or does not fit, OutputError for a sink that was closed
        """
        if not self._open:
            raise OutputError(f"{shown(self.path)}: this output was committed or aborted already")
        check_index(index, self.like.leading)
        rows, columns = rows or slice(0, self.like.height), columns or slice(0, self.like.width)
        shape, dtype = (
            (
                rows.stop - rows.start,
                columns.stop - columns.start,
                *self.like.shape[len(index) + 2 :],
            ),
            self.like.dtype,
        )
        if block.shape != shape or block.dtype != dtype:
            raise InputError(
                f"plane {tuple(index)} is {block.dtype} {block.shape}, expected {dtype} {shape}; convert it first"
            )
        self._store(
            Block(
                tuple(int(i) for i in index),
                rows.start,
                rows.stop,
                columns.start,
                columns.stop,
                clipped,
            ),
            block,
        )
        self.clipped += clipped

    @abstractmethod
    def _store(self, block: Block, pixels: np.ndarray) -> None: ...

    @abstractmethod
    def _written(self) -> dict[tuple[int, ...], int]:
        """Pixels that were written, by plane."""

    @abstractmethod
    def _result(self) -> Image: ...

    def finished(self, index: tuple[int, ...], rows: slice, columns: slice) -> bool:
        """Whether exactly this part was written before, perhaps by another process."""
        return False

    @abstractmethod
    def forget(self, index: tuple[int, ...]) -> None:
        """What was written of a plane is to be written anew."""

    def commit(self) -> None:
        """Write the file; every plane must have been written."""
        if not self._open:
            raise OutputError(f"{shown(self.path)}: this output was committed or aborted already")
        plane_px, total = self.like.height * self.like.width, math.prod(self.like.leading)
        done = sum(pixels >= plane_px for pixels in self._written().values())
        if done != total:
            raise OutputError(
                f"{shown(self.path)}: {done} of {total} planes were written; nothing is saved"
            )
        save_image(self._result(), self.path, self.overwrite)
        self._close(done=True)

    def abort(self) -> None:
        """Write no file."""
        if self._open:
            self._close(done=False)

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


@dataclass(frozen=True)
class Block:
    """A part of a plane: rows top..bottom, columns left..right;  clipped   how many of its pixels were."""

    index: tuple[int, ...]
    top: int
    bottom: int
    left: int
    right: int
    clipped: int = 0

    @classmethod
    def of(cls, words: dict[str, Any]) -> Block:
        """From a line of a journal."""
        return cls(
            tuple(words["index"]),
            words["top"],
            words["bottom"],
            words["left"],
            words["right"],
            words["clipped"],
        )

    @property
    def pixels(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    @property
    def place(self) -> tuple[Any, ...]:
        return (self.index, self.top, self.bottom, self.left, self.right)


class MemorySink(Sink):
    """Holds the output in memory and writes it in one piece."""

    def __init__(self, like: Image, path: Path, overwrite: bool) -> None:
        super().__init__(like, path, overwrite)
        self._pixels: np.ndarray | None = np.empty(like.shape, like.dtype)
        self._blocks: dict[tuple[Any, ...], Block] = {}

    def _store(self, block: Block, pixels: np.ndarray) -> None:
        assert self._pixels is not None
        self._pixels[block.index][block.top : block.bottom, block.left : block.right] = pixels
        self._blocks[block.place] = block

    def _written(self) -> dict[tuple[int, ...], int]:
        return _pixels_by_plane(self._blocks.values())

    def _result(self) -> Image:
        assert self._pixels is not None
        return self.like.with_pixels(self._pixels)

    def forget(self, index: tuple[int, ...]) -> None:
        self._blocks = {
            place: block for place, block in self._blocks.items() if block.index != tuple(index)
        }
        self.clipped = sum(block.clipped for block in self._blocks.values())

    def _close(self, done: bool) -> None:
        super()._close(done)
        self._pixels = None


class JournalSink(Sink):
    """Appends finished parts to a file beside the output, and a line about each to a journal; a later process
    goes on from there.

    .NAME.unfinished/blocks         pixels of the parts, one after the other
    .NAME.unfinished/journal.jsonl  what they are a part of, then where each lies, with its checksum
    """

    def __init__(self, like: Image, path: Path, overwrite: bool, of_what: dict[str, Any]) -> None:
        """of_what   what decides the result; parts of anything else are dropped.

        Raises OutputError, BusyError.
        """
        super().__init__(like, path, overwrite)
        self.folder = unfinished(path)
        self._head = {
            "format": FORMAT,
            "shape": list(like.shape),
            "dtype": like.dtype.name,
            **of_what,
        }
        self._places: dict[tuple[Any, ...], tuple[Block, int]] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.folder / "lock", path)
        except OSError as error:
            raise output_error(error, path, like.nbytes) from error
        try:
            if not self._take_over():
                self._begin()
            self._blocks, self._journal = (
                (self.folder / "blocks").open("ab"),
                (self.folder / "journal.jsonl").open("ab"),
            )
        except OSError as error:
            self._leave()
            raise output_error(error, path, like.nbytes) from error
        except BaseException:
            self._leave()
            raise

    def _take_over(self) -> bool:
        """Parts that an earlier process left, as far as their pixels are whole; the rest is cut off."""
        try:
            lines = (self.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
            if not lines or json.loads(lines[0]) != self._head:
                return False
        except (OSError, ValueError):
            return False
        end, kept = 0, [lines[0]]
        with (self.folder / "blocks").open("rb") as file:
            for line in lines[1:]:
                try:
                    words = json.loads(line)
                    if "forget" in words:
                        self._drop(tuple(words["forget"]))
                        kept.append(line)
                        continue
                    block = Block.of(words)
                    data = file.read(block.pixels * self._bytes_per_px)
                    whole = (
                        len(data) == block.pixels * self._bytes_per_px
                        and zlib.crc32(data) == words["crc32"]
                    )
                except (ValueError, TypeError, KeyError):
                    break
                if not whole:
                    break
                self._places[block.place] = (block, end)
                end += len(data)
                kept.append(line)
        os.truncate(self.folder / "blocks", end)
        (self.folder / "journal.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
        self.clipped = sum(block.clipped for block, _ in self._places.values())
        return True

    def _begin(self) -> None:
        require_space(self.path.parent, 2 * self.like.nbytes)
        (self.folder / "blocks").write_bytes(b"")
        (self.folder / "journal.jsonl").write_text(json.dumps(self._head) + "\n", encoding="utf-8")

    @property
    def _bytes_per_px(self) -> int:
        return self.like.samples * self.like.dtype.itemsize

    def _store(self, block: Block, pixels: np.ndarray) -> None:
        data = np.ascontiguousarray(pixels).tobytes()
        try:
            place = self._blocks.tell()
            self._blocks.write(data)
            self._blocks.flush()
            self._note({**asdict(block), "crc32": zlib.crc32(data)})
        except OSError as error:
            raise output_error(error, self.path, self.like.nbytes) from error
        self._places[block.place] = (block, place)

    def _written(self) -> dict[tuple[int, ...], int]:
        return _pixels_by_plane([block for block, _ in self._places.values()])

    def _result(self) -> Image:
        return replace(
            self.like, data=_Blocks(self.folder / "blocks", self.like, list(self._places.values()))
        )

    def finished(self, index: tuple[int, ...], rows: slice, columns: slice) -> bool:
        return (
            Block(tuple(index), rows.start, rows.stop, columns.start, columns.stop).place
            in self._places
        )

    def forget(self, index: tuple[int, ...]) -> None:
        self._drop(tuple(index))
        self._note({"forget": list(index)})

    def _drop(self, index: tuple[int, ...]) -> None:
        self._places = {
            place: found for place, found in self._places.items() if found[0].index != index
        }
        self.clipped = sum(block.clipped for block, _ in self._places.values())

    def _note(self, words: dict[str, Any]) -> None:
        self._journal.write(json.dumps(words).encode() + b"\n")
        self._journal.flush()

    def _close(self, done: bool) -> None:
        super()._close(done)
        for file in (self._blocks, self._journal):
            with contextlib.suppress(OSError):
                file.close()
        self._leave(done)

    def _leave(self, done: bool = False) -> None:
        """Let others in; what is of no more use is removed."""
        self._lock.release()
        if done or not self._places:
            shutil.rmtree(self.folder, ignore_errors=True)


class _Blocks(Stored):
    """Planes put together from the parts of a journal."""

    def __init__(self, path: Path, like: Image, places: list[tuple[Block, int]]) -> None:
        self.path, self.shape, self.dtype, self.plane_axes = (
            path,
            like.shape,
            like.dtype,
            3 if like.axes.endswith("S") else 2,
        )
        self._of_plane: dict[tuple[int, ...], dict[tuple[int, int], list[tuple[Block, int]]]] = {}
        """Blocks of a plane by their rows: a plane may have a hundred thousand, of which a region needs a
        few."""
        for block, place in places:
            self._of_plane.setdefault(block.index, {}).setdefault(
                (block.top, block.bottom), []
            ).append((block, place))

    def region(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        samples = self.shape[len(index) + 2 :]
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start, *samples), self.dtype)
        with self.path.open("rb") as file:
            bands = self._of_plane[tuple(index)].items()
            for block, place in itertools.chain.from_iterable(
                band for (top, bottom), band in bands if top < rows.stop and bottom > rows.start
            ):
                y = max(rows.start, block.top), min(rows.stop, block.bottom)
                x = max(columns.start, block.left), min(columns.stop, block.right)
                if y[0] >= y[1] or x[0] >= x[1]:
                    continue
                row_px = block.right - block.left
                row_bytes = row_px * math.prod(samples) * self.dtype.itemsize
                file.seek(place + (y[0] - block.top) * row_bytes)
                data = np.frombuffer(file.read((y[1] - y[0]) * row_bytes), self.dtype).reshape(
                    y[1] - y[0], row_px, *samples
                )
                inside = data[:, x[0] - block.left : x[1] - block.left]
                out[
                    y[0] - rows.start : y[1] - rows.start,
                    x[0] - columns.start : x[1] - columns.start,
                ] = inside
        return out


def _pixels_by_plane(blocks: Any) -> dict[tuple[int, ...], int]:
    found: dict[tuple[int, ...], int] = {}
    for block in blocks:
        found[block.index] = found.get(block.index, 0) + block.pixels
    return found


def unfinished(path: Path) -> Path:
    """Folder of what a killed process leaves of an output."""
    return path.with_name(
        f".{path.name[:40]}-{zlib.crc32(path.name.encode('utf-8', 'surrogatepass')):08x}.unfinished"
    )


def is_journalled(stored: bool, values: int) -> bool:
    """Whether an output of so many values, of an image that stays in its file or not, is kept on the disk
    while it is made."""
    return stored or values > JOURNALED_PX


def journalled_bytes(path: Path) -> int:
    """What of an output lies in the journal of an earlier process already."""
    try:
        return (unfinished(path) / "blocks").stat().st_size
    except OSError:
        return 0


def open_sink(
    like: Image, path: str | Path, overwrite: bool = False, of_what: dict[str, Any] | None = None
) -> Sink:
    """A sink for an output with the shape, type and metadata of ``like``.

    Refuses what cannot be written before any work.

    of_what   what decides the result, as JSON: large outputs are then journalled, and a killed process's work is gone on with
    """
    path = Path(path)
    check_output(like, path)
    there = next((file for file in written_to(path) if os.path.lexists(file)), None)
    if there is not None and not overwrite:
        raise OutputError(
            f"{shown(there)} exists already; pass overwrite (--overwrite) to replace it, or choose another folder"
        )
    if of_what is not None and (is_journalled(like.stored, like.size) or unfinished(path).is_dir()):
        return JournalSink(like, path, overwrite, of_what)
    require_space(path.parent, like.nbytes)
    return MemorySink(like, path, overwrite)
