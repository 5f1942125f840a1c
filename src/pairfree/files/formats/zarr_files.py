"""The files of a Zarr image by their names within it: of a folder, or of a zip archive of one."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pairfree.errors import InputError
from pairfree.files.limits import Limits
from pairfree.files.messages import address_of, shown, size_text

ARRAY, GROUP, ATTRIBUTES, CONSOLIDATED = ".zarray", ".zgroup", ".zattrs", ".zmetadata"
"""Metadata of format 2."""
OF_FORMAT_3 = "zarr.json"
"""Metadata of an array or a group in format 3."""
MARKS = (OF_FORMAT_3, GROUP, ARRAY, ATTRIBUTES)
"""Files that make a folder a Zarr group or array."""
METADATA_FILES = (*MARKS, CONSOLIDATED)
MOST_METADATA_BYTES = 2**26
SUMS = ".pairfree-crc32"
"""Beside the chunks of an array of format 2 that pairfree wrote: their checksums, four bytes each, least
significant first, in the order of the grid. Other readers pass over it.
"""
_CHUNK = re.compile(r"(c[./])?\d+([./]\d+)*|c")
"""Name of a chunk, or of a folder of them."""


class ZarrFiles(ABC):
    """Names are relative, with ``/`` between folders; "" is the whole."""

    path: Path
    """The folder or the archive."""
    store: Any
    """What zarr opens."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Content of a file that is there."""

    @abstractmethod
    def members(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the folders and the files directly in a folder, sorted; those of links are left out."""

    @abstractmethod
    def links(self, folder: str) -> list[str]:
        """Names of the links directly in a folder: what they lead to is no part of the image."""

    @abstractmethod
    def copy(self, name: str, target: Path) -> None:
        """Copy a file to a path whose folder is there."""

    @property
    def lists(self) -> bool:
        """Whether it can tell what lies in a folder."""
        return True

    def close(self) -> None:
        """Let go of what is open; it is opened again when it is asked for."""
        return

    def below(self, folder: str) -> Iterator[str]:
        """All files in a folder and its sub-folders, sorted folder by folder."""
        folders, files = self.members(folder)
        for name in files:
            yield join(folder, name)
        for name in folders:
            yield from self.below(join(folder, name))

    def read_json(self, name: str) -> dict[str, Any]:
        """A metadata file; empty where there is none, or it holds no JSON object."""
        if self.size(name) is None:
            return {}
        self.check_metadata(name)
        try:
            found = json.loads(self.read(name))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def check_metadata(self, name: str) -> None:
        """InputError for a metadata file that is too large to be one."""
        if (self.size(name) or 0) > MOST_METADATA_BYTES:
            raise InputError(
                f"{shown(self.path)}: {name} has more than {size_text(MOST_METADATA_BYTES)}; "
                "it is damaged, export the image again"
            )


class FolderFiles(ZarrFiles):
    """Of a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = str(path)

    def size(self, name: str) -> int | None:
        """As ``ZarrFiles.size``."""
        try:
            file = self.path / name
            return file.stat().st_size if file.is_file() else None
        except (OSError, ValueError):
            return None

    def read(self, name: str) -> bytes:
        """As ``ZarrFiles.read``."""
        return (self.path / name).read_bytes()

    def members(self, folder: str) -> tuple[list[str], list[str]]:
        """As ``ZarrFiles.members``."""
        folders, files = [], []
        for one in self._scan(folder):
            if one.is_dir(follow_symlinks=False):
                folders.append(one.name)
            elif one.is_file(follow_symlinks=False):
                files.append(one.name)
        return sorted(folders), sorted(files)

    def links(self, folder: str) -> list[str]:
        """As ``ZarrFiles.links``."""
        return sorted(one.name for one in self._scan(folder) if one.is_symlink())

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        with os.scandir(self.path / folder) as found:
            return list(found)

    def copy(self, name: str, target: Path) -> None:
        """As ``ZarrFiles.copy``."""
        shutil.copyfile(self.path / name, target)


class ZipFiles(ZarrFiles):
    """Of a zip archive, whose members are stored or deflated.

    Parameters
    ----------
    path
        Of the archive.
    limits
        How many members it may have.

    Raises
    ------
    InputError
        For what is no zip archive, and one that lies about its members.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        from zarr.storage import ZipStore

        self.path = path
        self.store = ZipStore(path, mode="r")
        self._opened: zipfile.ZipFile | None = None
        self.comment = self.archive.comment
        self._sizes: dict[str, int] = {}
        for member in self.archive.infolist():
            if not member.is_dir():
                self._sizes[member.filename] = member.file_size
        self._check(limits)
        self._folders = _list_folders(self._sizes)

    @property
    def archive(self) -> zipfile.ZipFile:
        """The archive, opened where it is not."""
        if self._opened is None:
            try:
                self._opened = zipfile.ZipFile(self.path)
            except zipfile.BadZipFile as error:
                raise InputError(
                    f"{shown(self.path)}: is no zip archive, or is damaged ({error}); copy it again"
                ) from error
        return self._opened

    def close(self) -> None:
        """Let go of the archive: a process may hold few files open, and a set has many."""
        self.store.close()
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _check(self, limits: Limits) -> None:
        if len(self._sizes) > limits.max_pages * 16:
            raise InputError(
                f"{shown(self.path)}: holds {len(self._sizes)} files; unpack it into a folder"
            )
        for name in self._sizes:
            parts = name.split("/")
            if {"", ".", ".."} & {*parts} or "\\" in name or ":" in parts[0]:
                raise InputError(
                    f"{shown(self.path)}: its file {shown(name)} would lie outside of it; pack it again"
                )
            if name.rpartition("/")[2] in METADATA_FILES:
                self.check_metadata(name)

    def size(self, name: str) -> int | None:
        """As ``ZarrFiles.size``."""
        return self._sizes.get(name)

    def read(self, name: str) -> bytes:
        """As ``ZarrFiles.read``."""
        return self.archive.read(name)

    def members(self, folder: str) -> tuple[list[str], list[str]]:
        """As ``ZarrFiles.members``."""
        folders, files = self._folders.get(folder, (set(), set()))
        return sorted(folders), sorted(files)

    def links(self, folder: str) -> list[str]:
        """As ``ZarrFiles.links``: an archive's links are files that hold a path."""
        return []

    def copy(self, name: str, target: Path) -> None:
        """As ``ZarrFiles.copy``."""
        with self.archive.open(name) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)


class RemoteFiles(ZarrFiles):
    """Of a folder on a server, by fsspec: https, S3 and others, as packages for them are installed.

    Parameters
    ----------
    path
        Of the address.

    Raises
    ------
    ImportError
        For a package that is missing.
    """

    def __init__(self, path: Path) -> None:
        import fsspec

        self.path = path
        self.store = address_of(path)
        self._system, self._root = fsspec.core.url_to_fs(self.store)

    @cached_property
    def lists(self) -> bool:
        """As ``ZarrFiles.lists``; asked once, and only where it matters."""
        try:
            return bool(self._system.ls(self._root, detail=False))
        except Exception:  # each kind of server has errors of its own for it
            return False

    def _address(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root

    def size(self, name: str) -> int | None:
        """As ``ZarrFiles.size``."""
        try:
            found = self._system.info(self._address(name))
        except FileNotFoundError:
            return None
        return int(found.get("size") or 0) if found.get("type") == "file" else None

    def read(self, name: str) -> bytes:
        """As ``ZarrFiles.read``."""
        return bytes(self._system.cat_file(self._address(name)))

    def forget(self) -> None:
        """Ask the server again for what it has said before."""
        self._system.invalidate_cache()

    def describe(self, name: str) -> str:
        """All that the server says of a file, such as its size, tag and time of last change."""
        found = self._system.info(self._address(name))
        return str(sorted((key, str(value)) for key, value in found.items()))

    def members(self, folder: str) -> tuple[list[str], list[str]]:
        """As ``ZarrFiles.members``; empty where the server lists nothing."""
        if not self.lists:
            return [], []
        at = self._address(folder).rstrip("/")
        folders: list[str] = []
        files: list[str] = []
        for one in self._system.ls(at, detail=True):
            address = str(one["name"]).rstrip("/")
            above, _, name = address.rpartition("/")
            if above == at:  # pages of servers link elsewhere, too
                (folders if one["type"] == "directory" else files).append(name)
        return sorted(folders), sorted(files)

    def links(self, folder: str) -> list[str]:
        """As ``ZarrFiles.links``: servers have none."""
        return []

    def copy(self, name: str, target: Path) -> None:
        """As ``ZarrFiles.copy``."""
        self._system.get_file(self._address(name), str(target))


def files_at(path: Path) -> ZarrFiles:
    """Of a folder on a disk or on a server."""
    return FolderFiles(path) if address_of(path) is None else RemoteFiles(path)


def tell_apart(path: Path) -> str:
    """What tells one state of a folder on a server from another: what its server says of its metadata."""
    files = RemoteFiles(path)
    files.forget()
    found = [files.describe(mark) for mark in METADATA_FILES if files.size(mark) is not None]
    return "\n".join(found)


def _list_folders(names: Iterable[str]) -> dict[str, tuple[set[str], set[str]]]:
    """Names of folders and files directly in each folder of an archive."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        for depth in range(len(parts)):
            folder = "/".join(parts[:depth])
            folders, files = found.setdefault(folder, (set(), set()))
            is_file = depth == len(parts) - 1
            (files if is_file else folders).add(parts[depth])
    return found


def join(folder: str, name: str) -> str:
    """A name within a folder."""
    return f"{folder}/{name}" if folder else name


def find_links(files: ZarrFiles, groups: Iterable[str]) -> list[str]:
    """Names of the links in an image's groups, which are not followed."""
    return [join(group, name) for group in sorted(groups) for name in files.links(group)]


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
    """Folders and files that are no chunks and no metadata."""
    folders, names = files.members(array)
    found = [f"{join(array, name)}/" for name in folders if not _CHUNK.fullmatch(name)]
    others = [name for name in names if name not in (*METADATA_FILES, SUMS)]
    return found + [join(array, name) for name in others if not _CHUNK.fullmatch(name)]


def copy_beside(files: ZarrFiles, names: Iterable[str], target: Path) -> None:
    """Copy files and whole folders of an image, as ``find_beside`` names them, to the folder ``target``."""
    for file in _each_file(files, names):
        path = target / file
        path.parent.mkdir(parents=True, exist_ok=True)
        files.copy(file, path)


def digest_beside(files: ZarrFiles, names: Iterable[str]) -> dict[str, int]:
    """Checksum of each file beside an image, by its name."""
    return {file: zlib.crc32(files.read(file)) for file in _each_file(files, names)}


def _each_file(files: ZarrFiles, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name.endswith("/"):
            yield from files.below(name.rstrip("/"))
        else:
            yield name
