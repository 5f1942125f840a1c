"""Which files of a folder are done, kept there until all are: a later process goes on from there."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairfree.files.atomic import output_error
from pairfree.files.listing import Entry
from pairfree.files.messages import address_of
from pairfree.files.regular import NO_FILES, open_regular, overwrite_regular, read_regular
from pairfree.files.servers import is_sent
from pairfree.files.unchanged import fingerprint, fingerprint_elsewhere

LEDGER = ".unfinished.jsonl"
"""Its name in the output folder: a line with what decides all results, then a line for each file."""
Words = dict[str, Any]


@dataclass(frozen=True)
class FileResult:
    """A file that was denoised."""

    source: Path
    written: Path
    pixels: int
    """Of the input, samples of a pixel counted once."""
    clipped: int
    """Values that lay outside the pixel type's range."""
    warnings: tuple[str, ...]
    """One line each."""
    before: bool = False
    """It was done by an earlier process."""
    scene: int | None = None
    """Number of the image in a source that holds several."""


class Ledger:
    """Lines about the files that are done, and about those that are about to get their name."""

    def __init__(self, out: Path, folder: Path) -> None:
        """Read what an earlier process left.

        Parameters
        ----------
        out
            Folder of the results, which need not exist.
        folder
            Where results are made, and the ledger lies: ``out``, or one on a disk where that is on a server.

        Raises
        ------
        OutputError
            Where its file cannot be used, such as a link.
        """
        self.out, self.folder = out, folder
        self.path = self.folder / LEDGER
        self._head: Words | None = None
        self._stored: Words | None = None
        self._lines: dict[Path, Words] = {}
        self._unsent: dict[Path, Words] = {}
        self._expected: dict[Path, int] = {}
        try:
            head, *lines = read_regular(self.path, follow=False).decode().splitlines()
            self._stored = json.loads(head)
        except OSError as error:
            if error.errno in NO_FILES:  # told now, and not when the first image is done
                raise output_error(error, self.path) from error
            return
        except ValueError:
            return
        self._read_lines(lines)

    def _read_lines(self, lines: list[str]) -> None:
        """The last line of a killed process may be cut off."""
        with contextlib.suppress(ValueError, TypeError, KeyError):
            for line in lines:
                self._read_line(json.loads(line))

    def _read_line(self, words: Words) -> None:
        if "expected" in words:
            self._expected[Path(words["expected"])] = int(words["inode"])
            return
        path = self.out / words["output"]
        if words.get("unsent"):
            local = self.folder / words["output"]
            if local.exists() and fingerprint_elsewhere(local) == words["result"]:
                self._unsent[path] = words
        elif result_exists(path) and fingerprint_elsewhere(path) == words["result"]:
            self._lines[path] = words

    @property
    def paths(self) -> set[Path]:
        """Outputs that stand as an earlier process left them, their maps, and those it was killed over."""
        found = set(self._lines)
        for path, inode in self._expected.items():
            if path.exists() and path.stat().st_ino == inode:
                found.add(path)
        for words in (*self._lines.values(), *self._unsent.values()):
            if words["map"]:
                found.add(Path(words["map"]))
        return found

    def belongs_to(self, head: Words) -> bool:
        """Whether what was done was done under ``head``, which decides all results; else it is forgotten."""
        self._head = json.loads(json.dumps(head))
        if self._stored == self._head:
            return True
        self._lines, self._unsent, self._expected = {}, {}, {}
        return False

    def result(self, entry: Entry, path: Path, map_path: Path | None) -> FileResult | None:
        """What an earlier process made of a file; None for nothing, and where input or map have changed."""
        return _result_of(self._lines.get(path), entry, path, map_path, before=True)

    def unsent(self, entry: Entry, path: Path, map_path: Path | None) -> FileResult | None:
        """What an earlier process made of a file and did not send to its server; else None, as ``result``."""
        return _result_of(self._unsent.get(path), entry, path, map_path, before=False)

    def add(
        self,
        done: FileResult,
        map_path: Path | None,
        source: str,
        unsent: Path | None = None,
    ) -> None:
        """A file is done.

        Parameters
        ----------
        done, map_path
            Its result, and its map.
        source
            Fingerprint of what that was made of.
        unsent
            Where the result waits that is made and not sent to its server yet.

        Raises
        ------
        OutputError
            Where the line cannot be written.
        """
        words = {
            "output": str(done.written.relative_to(self.out)),
            "unsent": unsent is not None,
            "source": source,
            "result": fingerprint_elsewhere(unsent or done.written),
            "pixels": done.pixels,
            "clipped": done.clipped,
            "warnings": done.warnings,
            "map": _map_text(map_path),
        }
        self._write(words)

    def expect(self, temporary: Path, final: Path) -> None:
        """An output is about to get its name.

        Should the process be killed before ``add``, its inode tells that it may be replaced.
        """
        self._write({"expected": str(final.absolute()), "inode": temporary.stat().st_ino})

    def _write(self, words: Words) -> None:
        try:
            if self._stored != self._head:
                head = json.dumps(self._head)
                overwrite_regular(self.path, f"{head}\n".encode())
                self._stored = self._head
            with open_regular(self.path, "a", follow=False) as file:
                file.write(json.dumps(words) + "\n")
        except OSError as error:
            raise output_error(error, self.path) from error

    def close(self) -> None:
        """All is done: nothing is left to go on with."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def result_exists(path: Path) -> bool:
    """Whether a result is there, on a disk or on a server: it has its name only when it is complete."""
    return path.exists() if address_of(path) is None else is_sent(path)


def _result_of(
    words: Words | None, entry: Entry, path: Path, map_path: Path | None, before: bool
) -> FileResult | None:
    """What a line says of a file; None without one, and where input or map have changed."""
    if (
        words is None
        or words["source"] != fingerprint(entry.path)
        or words["map"] != _map_text(map_path)
    ):
        return None
    return FileResult(
        entry.path,
        path,
        words["pixels"],
        words["clipped"],
        tuple(words["warnings"]),
        before=before,
        scene=entry.scene,
    )


def _map_text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
