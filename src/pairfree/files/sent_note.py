"""What was sent of a folder to a server, noted beside it: a later process goes on from there."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path

from pairfree.facts import TEXT, Unreadable, list_of, parse_json, read_lines
from pairfree.files.atomic import hidden_name
from pairfree.files.damaged import make_way
from pairfree.regular import open_regular

NAMES = list_of(TEXT)


class SentNote:
    """A line with the mark on the server, then a line with the names of each batch.

    Parameters
    ----------
    source
        The folder that is sent.
    """

    def __init__(self, source: Path) -> None:
        self.path = hidden_name(source, "sent")
        self.mark = b""
        """What the mark on the server says while the folder is sent; empty where that is not known."""

    def read(self) -> set[str]:
        """Names of what an earlier process sent, and its mark; nothing without a note, or of a damaged one.

        A line that a killed process left cut off is removed.
        """
        self.mark = b""
        try:
            with contextlib.closing(read_lines(self.path)) as lines:
                whole = [line for line in lines if line.endswith(b"\n")]
            os.truncate(self.path, sum(map(len, whole)))
            mark, *batches = map(parse_json, whole)
        except (OSError, Unreadable, ValueError):  # ValueError: not even the mark
            return set()
        if not TEXT.fits(mark) or not all(map(NAMES.fits, batches)):
            return set()
        self.mark = mark.encode("utf-8", "surrogatepass")
        return set(itertools.chain.from_iterable(batches))

    def begin(self, mark: str) -> None:
        """Note the mark alone; OSError where that cannot be done."""
        make_way(self.path, "all of it is sent anew")
        self.path.unlink(missing_ok=True)
        self._add(mark)
        self.mark = mark.encode("utf-8", "surrogatepass")

    def add(self, names: Sequence[str]) -> None:
        """Note a batch; OSError where that cannot be done."""
        self._add(names)

    def _add(self, words: str | Sequence[str]) -> None:
        with open_regular(self.path, "a", follow=False) as note:
            note.write(json.dumps(words) + "\n")

    def forget(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
