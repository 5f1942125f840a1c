"""What lies beside a Zarr image and is no part of it, such as labels: found, copied, compared."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from pairfree.files.atomic import make_folder
from pairfree.files.formats.zarr_files import METADATA_FILES, SUMS, ZarrFiles, is_array, join

_CHUNK = re.compile(r"(c[./])?\d+([./]\d+)*|c")
"""Name of a chunk, or of a folder of them."""


def find_others(
    files: ZarrFiles, arrays: Iterable[str], groups: Iterable[str], left_out: Container[str]
) -> list[str]:
    """Names of the links, pipes and devices in an image's groups, and in the groups beside it.

    They are left out. Those in the place of chunks are looked for where the chunks are read or copied: there
    may be a million.

    Parameters
    ----------
    files
        Of the image.
    arrays
        Names of its resolutions.
    groups
        Names of the groups on the way to them.
    left_out
        Names of other images.
    """
    if not files.has_links:
        return []
    own = {*arrays, *groups}
    found: list[str] = []
    for group in sorted(groups):
        found += [join(group, name) for name in files.others(group)]
        folders, _ = files.members(group)
        for name in (join(group, folder) for folder in folders):
            if name not in own and name not in left_out:
                found += _others_below(files, name)
    return found


def _others_below(files: ZarrFiles, folder: str) -> Iterator[str]:
    waiting = [folder]
    while waiting:
        at = waiting.pop()
        folders, names = files.members(at)
        if is_array(files, at, names):
            continue
        for name in files.others(at):
            yield join(at, name)
        waiting += [join(at, name) for name in reversed(folders)]


def find_beside(files: ZarrFiles, arrays: Iterable[str], groups: Iterable[str]) -> list[str]:
    """What an image's groups and arrays hold that is no part of it.

    Parameters
    ----------
    files
        Of the image.
    arrays
        Names of its resolutions.
    groups
        Names of the groups on the way to them.

    Returns
    -------
    list of str
        Files and whole folders (whose names end with ``/``), to be copied as they are.
    """
    own = {*arrays, *groups}
    beside: list[str] = []
    for group in sorted(groups):
        beside += [name for name in _members_of_group(files, group) if name.rstrip("/") not in own]
    for array in sorted(arrays):
        beside += _strangers_in_array(files, array)
    return beside


def _members_of_group(files: ZarrFiles, group: str) -> list[str]:
    """Folders, and files that are no metadata."""
    folders, names = files.members(group)
    found = [f"{join(group, name)}/" for name in folders]
    return found + [join(group, name) for name in names if name not in METADATA_FILES]


def _strangers_in_array(files: ZarrFiles, array: str) -> list[str]:
    """Folders and files that are no chunks and no metadata; InputError for a link."""
    others = files.others(array)
    if others:
        raise files.refusal(join(array, others[0]))
    folders, names = files.members(array)
    found = [f"{join(array, name)}/" for name in folders if not _CHUNK.fullmatch(name)]
    others = [name for name in names if name not in (*METADATA_FILES, SUMS)]
    return found + [join(array, name) for name in others if not _CHUNK.fullmatch(name)]


def copy_beside(files: ZarrFiles, names: Iterable[str], target: Path) -> None:
    """Copy files and whole folders of an image, as ``find_beside`` names them, to the folder ``target``."""
    for file in _each_file(files, names):
        path = target / file
        make_folder(path.parent)
        files.copy(file, path)


def digest_beside(files: ZarrFiles, names: Iterable[str]) -> dict[str, int]:
    """Checksum of each file beside an image, by its name."""
    return {file: files.checksum(file) for file in _each_file(files, names)}


def bytes_beside(files: ZarrFiles, names: Iterable[str]) -> int:
    """Bytes of all files beside an image; InputError for a link in the place of one of a chunk."""
    return sum(files.size(file) or 0 for file in _each_file(files, names))


def _each_file(files: ZarrFiles, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name.endswith("/"):
            yield from files.below(name.rstrip("/"))
        else:
            yield name
