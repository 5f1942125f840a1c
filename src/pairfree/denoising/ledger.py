"""Which files of a folder are done, kept there until all are: a later process goes on from there."""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairfree.facts import (
    TEXT,
    WHOLE,
    Kind,
    Unreadable,
    check,
    is_cut_off,
    list_of,
    or_none,
    parse_json,
    read_lines,
)
from pairfree.files.atomic import output_error, temporary_name
from pairfree.files.damaged import set_aside, set_aside_name
from pairfree.files.listing import Entry
from pairfree.files.messages import address_of, shown
from pairfree.files.servers import is_sent
from pairfree.files.unchanged import fingerprint, fingerprint_elsewhere
from pairfree.regular import open_regular, overwrite_regular

LEDGER = ".unfinished.jsonl"
"""Its name in the output folder: a line with what decides all results, then a line for each file."""
DONE = {
    **dict.fromkeys(("output", "source", "result"), TEXT),
    **dict.fromkeys(("pixels", "clipped"), WHOLE),
    "warnings": list_of(TEXT),
    "map": or_none(TEXT),
}
"""What a line about a file that is done says."""
EXPECTED = {
    "expected": TEXT,
    "inode": Kind("a number of a file", lambda value: isinstance(value, int) and value >= 0),
}
"""What a line about one that is about to get its name says."""
Words = dict[str, Any]
_say = logging.getLogger("pairfree")


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
        self._expected: dict[Path, Words] = {}
        self._damage = ""
        """What is wrong with the file; it is set aside before the first line is written."""
        self._sources: dict[Path, str] = {}
        """Fingerprints of inputs that were looked at: a folder may hold a thousand images."""
        self._is_cut_off = False
        """Its last line has no end; no other may be written behind it."""
        try:
            self._read()
        except OSError:  # there is none, or no such name can be
            return
        except Unreadable as error:
            self._damage = str(error)
        if self._damage:
            _say.warning(
                "%s: damaged, %s; what it tells of %d files is used, the rest is done anew and the file kept "
                "as %s",
                shown(self.path),
                self._damage,
                len(self._lines) if self._stored is not None else 0,
                shown(set_aside_name(self.path).name),
            )

    def _read(self) -> None:
        """What an earlier process left; Unreadable where that cannot be told."""
        if self.path.is_symlink():
            raise Unreadable("is a link")
        with contextlib.closing(read_lines(self.path)) as lines:
            head = next(lines, b"")
            if not head or is_cut_off(head):
                return
            stored = parse_json(head)
            if not isinstance(stored, dict):
                raise Unreadable("has no first line of pairfree")
            self._stored = stored
            for number, line in enumerate(lines, 2):
                # the last of a killed process may be
                self._is_cut_off = not line.endswith(b"\n")
                try:
                    self._read_line(parse_json(line))
                except Unreadable as error:
                    if not self._is_cut_off:
                        self._damage = self._damage or f"line {number} {error}"

    def _read_line(self, words: Any) -> None:
        if isinstance(words, dict) and "expected" in words:
            path = Path(check(words, EXPECTED)["expected"])
            if _inode(path) == words["inode"]:
                self._expected[path] = words
            return
        output = Path(check(words, DONE)["output"])
        if output.is_absolute() or ".." in output.parts or not output.parts:
            raise Unreadable("names no file of this folder")
        path = self.out / output
        if words.get("unsent"):
            local = self.folder / output
            if local.exists() and fingerprint_elsewhere(local) == words["result"]:
                self._unsent[path] = words
        elif result_exists(path) and fingerprint_elsewhere(path) == words["result"]:
            self._lines[path] = words

    @property
    def paths(self) -> set[Path]:
        """Outputs that stand as an earlier process left them, their maps, and those it was killed over."""
        found = set(self._lines)
        for path, words in self._expected.items():
            if _inode(path) == words["inode"]:
                found |= {path, self._as_given(path)}
        for words in (*self._lines.values(), *self._unsent.values()):
            if words["map"]:
                found.add(Path(words["map"]))
        return found

    def _as_given(self, path: Path) -> Path:
        """An absolute path as the user's folder leads to it, where it lies there."""
        here = self.out.absolute()
        return self.out / path.relative_to(here) if path.is_relative_to(here) else path

    def belongs_to(self, head: Words) -> bool:
        """Whether what was done was done under ``head``, which decides all results; else it is forgotten."""
        self._head = json.loads(json.dumps(head))
        if self._stored == self._head:
            return True
        self._lines, self._unsent, self._expected = {}, {}, {}
        return False

    def result(self, entry: Entry, path: Path, map_path: Path | None) -> FileResult | None:
        """What an earlier process made of a file; None for nothing, and where input or map have changed."""
        return self._result_of(self._lines.get(path), entry, path, map_path, before=True)

    def unsent(self, entry: Entry, path: Path, map_path: Path | None) -> FileResult | None:
        """What an earlier process made of a file and did not send to its server; else None, as ``result``."""
        return self._result_of(self._unsent.get(path), entry, path, map_path, before=False)

    def source_of_unsent(self, path: Path) -> str:
        """Fingerprint of what a result was made of that is made and not sent."""
        return str(self._unsent[path]["source"])

    def _result_of(
        self, words: Words | None, entry: Entry, path: Path, map_path: Path | None, before: bool
    ) -> FileResult | None:
        """What a line says of a file; None without one, and where input or map have changed."""
        if words is None or words["map"] != _map_text(map_path):
            return None
        if entry.path not in self._sources:
            self._sources[entry.path] = fingerprint(entry.path)
        if words["source"] != self._sources[entry.path]:
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
            if self._damage or self._is_cut_off or self._stored != self._head:
                self._begin()
            with open_regular(self.path, "a", follow=False) as file:
                file.write(json.dumps(words) + "\n")
        except OSError as error:
            raise output_error(error, self.path) from error

    def _begin(self) -> None:
        """Write what is known so far into a new file; the older one stands until it is whole."""
        self._clear()
        done = (*self._lines.values(), *self._unsent.values())
        known = [self._head, *self._expected.values(), *done]
        text = "".join(f"{json.dumps(words)}\n" for words in known)
        temporary = temporary_name(self.path)
        try:
            overwrite_regular(temporary, text.encode())
            temporary.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        self._stored, self._is_cut_off = self._head, False

    def _clear(self) -> None:
        """Set a damaged file aside."""
        if self._damage:
            set_aside(self.path)
            self._damage = ""

    def close(self) -> None:
        """All is done: nothing is left to go on with."""
        self._clear()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def result_exists(path: Path) -> bool:
    """Whether a result is there, on a disk or on a server: it has its name only when it is complete."""
    return path.exists() if address_of(path) is None else is_sent(path)


def _inode(path: Path) -> int | None:
    """Number of a file; None where there is none."""
    try:
        return path.stat().st_ino
    except (OSError, ValueError):
        return None


def _map_text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
