"""Which files of two folders belong together, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pairfree.errors import InputError
from pairfree.files.listing import Entry, find_images


def partners(first: str | Path, second: str | Path) -> dict[str, tuple[Path, Path]]:
    """Files of two folders that belong together, by the name that they share.

    That is the relative path without suffix, or, where folders are nested differently, the stem alone.

    Raises
    ------
    InputError
        When one of the first has no partner or two share a name.
    """
    found = [find_images([folder]) for folder in (first, second)]
    ours, theirs = (_by_name(entries, nested=True) for entries in found)
    if not ours.keys() <= theirs.keys():
        ours, theirs = (_by_name(entries, nested=False) for entries in found)
    missing = [name for name in ours if name not in theirs]
    if missing:
        raise InputError(
            f"{ours[missing[0]]}: no partner in {second} "
            f"({len(missing)} of {len(ours)} files lack one)"
        )
    return {name: (path, theirs[name]) for name, path in ours.items()}


def _by_name(entries: Sequence[Entry], nested: bool) -> dict[str, Path]:
    table: dict[str, Path] = {}
    for entry in entries:
        name = entry.stem if nested else entry.stem.rpartition("/")[2]
        if name in table:
            raise InputError(
                f"{entry.path}: shares the name {name!r} with {table[name]}; "
                "names must be unique to be matched"
            )
        table[name] = entry.path
    return table
