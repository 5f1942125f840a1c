"""Tags of a TIFF that was written, changed byte for byte: a library's own ideas of a tag are not asked.

tifffile takes values, not bytes, and writes a resolution whether there is one or not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from pairfree.files.formats.tiff_carried import RawTag
from pairfree.files.formats.tiff_directories import KINDS, Kind

SUBIFDS = 330
"""Code of the tag that holds the places of directories below a page."""
ALIGNED = 8
"""What is added begins at a multiple of so many bytes; TIFF asks for two, BigTIFF for eight."""


@dataclass(frozen=True)
class Edit:
    """What is changed in the tags of a page."""

    drop: frozenset[int] = frozenset()
    """Codes of tags that go, also of the directories below the page."""
    add: tuple[RawTag, ...] = ()
    """Tags that come, in place of those of the same code; values in the byte order of the file."""


def edit_tags(path: Path, first: Edit, later: Sequence[Edit] = ()) -> None:
    """Change the tags of all pages of a TIFF file in place.

    Parameters
    ----------
    path
        Of a file that is whole: what is added is written behind its end.
    first
        For the first page.
    later
        For each page after it; of those beyond, what ``first`` drops is dropped.
    """
    with path.open("r+b") as file:
        kind = KINDS[file.read(4)]
        pointer = 8 if kind.big else 4
        for edit in chain([first], later, repeat(Edit(first.drop))):
            place = _read_place(file, kind, pointer)
            if not place:
                return
            pointer = _edit_directory(file, kind, pointer, place, edit)


Entry = tuple[int, int, int, int]
"""Code, type, number of values, and the values or their place."""


def _read_place(file: BinaryIO, kind: Kind, pointer: int) -> int:
    """The place that stands at ``pointer``."""
    file.seek(pointer)
    (place,) = kind.offset.unpack(file.read(kind.offset.size))
    return int(place)


def _edit_directory(file: BinaryIO, kind: Kind, pointer: int, place: int, edit: Edit) -> int:
    """Change a directory, and say where the place of the next one stands.

    Without additions it becomes shorter where it is; else it moves to the end of the file.
    """
    entries = _read_entries(file, kind, place)
    following = _read_place(file, kind, file.tell())
    for below in _places_below(file, kind, entries):
        _edit_directory(file, kind, 0, below, Edit(edit.drop))
    gone = edit.drop | {tag[0] for tag in edit.add}
    kept = [entry for entry in entries if entry[0] not in gone]
    added = [_store(file, kind, tag) for tag in edit.add]
    if added:
        place = _seek_to_end(file)
        file.seek(pointer)
        file.write(kind.offset.pack(place))
    file.seek(place)
    file.write(kind.count.pack(len(kept) + len(added)))
    for entry in sorted(kept + added, key=itemgetter(0)):  # those of one code stay in their order
        file.write(kind.entry.pack(*entry))
    end = file.tell()
    file.write(kind.offset.pack(following))
    return end


def _read_entries(file: BinaryIO, kind: Kind, place: int) -> list[Entry]:
    """All entries of a directory; the file stands behind them then."""
    file.seek(place)
    (count,) = kind.count.unpack(file.read(kind.count.size))
    return list(kind.entry.iter_unpack(file.read(count * kind.entry.size)))


def _places_below(file: BinaryIO, kind: Kind, entries: list[Entry]) -> list[int]:
    """Of directories below a page."""
    for code, _, count, value in entries:
        if code == SUBIFDS:
            if count == 1:
                return [value]
            size = kind.offset.size
            return [_read_place(file, kind, value + size * index) for index in range(count)]
    return []


def _store(file: BinaryIO, kind: Kind, tag: RawTag) -> Entry:
    """The entry of a tag, whose value is written to the end of the file where an entry is too small."""
    code, of_type, count, value = tag
    size = kind.offset.size
    if len(value) <= size:
        (inside,) = kind.offset.unpack(value.ljust(size, b"\0"))
        return code, of_type, count, int(inside)
    place = _seek_to_end(file)
    file.write(value)
    return code, of_type, count, place


def _seek_to_end(file: BinaryIO) -> int:
    """Behind the end of the file, where something may begin."""
    end = file.seek(0, os.SEEK_END)
    file.write(b"\0" * (-end % ALIGNED))
    return file.tell()
