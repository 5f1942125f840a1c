"""The files of a Zarr image by their names within it: of a folder, or of a zip archive of one."""

from __future__ import annotations

import errno
import json
import os
import stat
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from pairfree.errors import InputError
from pairfree.files.messages import address_of, reason, shown, size_text
from pairfree.regular import open_regular

ARRAY, GROUP, ATTRIBUTES, CONSOLIDATED = ".zarray", ".zgroup", ".zattrs", ".zmetadata"
"""Metadata of format 2."""
OF_FORMAT_3 = "zarr.json"
"""Metadata of an array or a group in format 3."""
MARKS = (OF_FORMAT_3, GROUP, ARRAY, ATTRIBUTES)
"""Files that make a folder a Zarr group or array."""
METADATA_FILES = (*MARKS, CONSOLIDATED)
MOST_METADATA_BYTES = 2**26
PIECE_BYTES = 2**20
"""Of a file that is copied or compared, held at a time."""
SUMS = ".pairfree-crc32"
"""Beside the chunks of an array of format 2 that pairfree wrote: their checksums, four bytes each, least
significant first, in the order of the grid. Other readers pass over it.
"""


class ZarrFiles(ABC):
    """Names are relative, with ``/`` between folders; "" is the whole.

    Links within it are not followed, and what is neither file nor folder is not opened.
    """

    path: Path
    """The folder or the archive."""
    has_links = True
    """Whether there may be links and the like in it."""

    @cached_property
    def store(self) -> Any:
        """What zarr opens."""
        from pairfree.files.formats.zarr_store import FilesStore

        return FilesStore(self)

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none. InputError for a link, a pipe or a device."""

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """Open a file that is there, to be read from any place. InputError as of ``size``."""

    @abstractmethod
    def members(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the folders and the files directly in a folder, sorted, without all others."""

    @abstractmethod
    def others(self, folder: str) -> list[str]:
        """Names directly in a folder of what is no part of an image: links, pipes, devices."""

    @property
    def lists(self) -> bool:
        """Whether it can tell what lies in a folder."""
        return True

    @property
    def why_not_listed(self) -> str:
        """What a server said that does not list; empty where it does."""
        return ""

    def close(self) -> None:
        """Let go of what is open; it is opened again when it is asked for."""
        return

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Content of a file that is there, or ``length`` bytes of it."""
        size = self.size(name) or 0
        wanted = size - start if length is None else length
        with self.open(name) as file:
            file.seek(start)
            return file.read(max(0, min(wanted, size - start)))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Content of a file that is there, piece by piece."""
        with self.open(name) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def copy(self, name: str, target: Path) -> None:
        """Copy a file to a path whose folder is there."""
        with target.open("wb") as copied:
            for piece in self.pieces(name):
                copied.write(piece)

    def checksum(self, name: str) -> int:
        """CRC-32 of a file that is there."""
        found = 0
        for piece in self.pieces(name):
            found = zlib.crc32(piece, found)
        return found

    def below(self, folder: str, in_array: bool = False) -> Iterator[str]:
        """All files in a folder and its sub-folders, sorted folder by folder.

        Parameters
        ----------
        folder
            Name of the folder.
        in_array
            It holds chunks of an array.

        Raises
        ------
        InputError
            For a link and the like in the place of a chunk; elsewhere they are left out.
        """
        waiting = [(folder, in_array)]
        while waiting:  # not by calling itself: folders may be nested deeper than that allows
            at, within = waiting.pop()
            folders, files = self.members(at)
            within = within or is_array(self, at, files)
            others = self.others(at) if within else []
            if others:
                raise self.refusal(join(at, others[0]))
            for name in files:
                yield join(at, name)
            waiting += [(join(at, name), within) for name in reversed(folders)]

    def refusal(self, name: str) -> InputError:
        """For what is no part of an image, in the place of one."""
        return InputError(
            f"{shown(self.path)}: its {shown(name)} is a link, a pipe or a device, and is not followed; "
            "put a copy of the file or folder itself there"
        )

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

    def size(self, name: str) -> int | None:
        """As ``ZarrFiles.size``."""
        try:
            self._check_way(name)
            status = (self.path / name).lstat()
        except (OSError, ValueError):
            return None
        if stat.S_ISDIR(status.st_mode):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise self.refusal(name)
        return status.st_size

    def _check_way(self, name: str) -> None:
        """InputError for a link, or a pipe, among the folders on the way to a file."""
        *folders, _ = name.split("/")
        way = self.path
        for number, folder in enumerate(folders):
            way /= folder
            try:
                mode = way.lstat().st_mode
            except (OSError, ValueError):
                return
            if folder == ".." or not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise self.refusal("/".join(folders[: number + 1]))

    def open(self, name: str) -> IO[bytes]:
        """As ``ZarrFiles.open``."""
        self._check_way(name)
        try:
            return open_regular(self.path / name, follow=False)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise self.refusal(name) from error
            raise

    def members(self, folder: str) -> tuple[list[str], list[str]]:
        """As ``ZarrFiles.members``."""
        folders, files = [], []
        for one in self._scan(folder):
            if one.is_dir(follow_symlinks=False):
                folders.append(one.name)
            elif one.is_file(follow_symlinks=False):
                files.append(one.name)
        return sorted(folders), sorted(files)

    def others(self, folder: str) -> list[str]:
        """As ``ZarrFiles.others``."""
        return sorted(one.name for one in self._scan(folder) if _is_other(one))

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        self._check_way(join(folder, ""))
        with os.scandir(self.path / folder) as found:
            return list(found)


def _is_other(one: os.DirEntry[str]) -> bool:
    return not (one.is_file(follow_symlinks=False) or one.is_dir(follow_symlinks=False))


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

    has_links = False

    def __init__(self, path: Path) -> None:
        import fsspec

        self.path = path
        self._system, self._root = fsspec.core.url_to_fs(address_of(path))

    @cached_property
    def store(self) -> Any:
        """What zarr opens: the address, whose files it fetches several at a time."""
        return address_of(self.path)

    @cached_property
    def lists(self) -> bool:
        """As ``ZarrFiles.lists``; asked once, and only where it matters."""
        return not self.why_not_listed

    @cached_property
    def why_not_listed(self) -> str:
        """As ``ZarrFiles.why_not_listed``: one listing that failed, for whatever reason, is told."""
        try:
            return "" if self._system.ls(self._root, detail=False) else "it lists nothing"
        except Exception as error:  # each kind of server has errors of its own for it
            return reason(error)

    def _address(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root

    def size(self, name: str) -> int | None:
        """As ``ZarrFiles.size``."""
        try:
            found = self._system.info(self._address(name))
        except FileNotFoundError:
            return None
        return int(found.get("size") or 0) if found.get("type") == "file" else None

    def open(self, name: str) -> IO[bytes]:
        """As ``ZarrFiles.open``; not every server lets it be read from any place."""
        opened: IO[bytes] = self._system.open(self._address(name), "rb")
        return opened

    def copy(self, name: str, target: Path) -> None:
        """As ``ZarrFiles.copy``."""
        self._system.get_file(self._address(name), str(target))

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """As ``ZarrFiles.read``."""
        end = None if length is None else start + length
        return bytes(self._system.cat_file(self._address(name), start=start, end=end))

    def forget(self) -> None:
        """Ask the server again for what it has said before."""
        self._system.invalidate_cache()

    def describe(self, name: str) -> str:
        """All that the server says of a file, such as its size, tag and time of last change."""
        self._system.invalidate_cache(self._address(name))  # listings say less, and what was
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

    def others(self, folder: str) -> list[str]:
        """As ``ZarrFiles.others``: servers have none."""
        return []


def files_at(path: Path) -> ZarrFiles:
    """Of a folder on a disk or on a server."""
    return FolderFiles(path) if address_of(path) is None else RemoteFiles(path)


def tell_apart(path: Path) -> str:
    """What tells one state of a folder on a server from another: what its server says of its metadata files.

    Chunks are not asked for, because there may be a million: where one of them alone is replaced, and the
    metadata stay, that is not noticed.
    """
    files = RemoteFiles(path)
    files.forget()
    found = [files.describe(mark) for mark in METADATA_FILES if files.size(mark) is not None]
    return "\n".join(found)


def join(folder: str, name: str) -> str:
    """A name within a folder."""
    return f"{folder}/{name}" if folder else name


def is_array(files: ZarrFiles, folder: str, names: Iterable[str]) -> bool:
    """Whether a folder, in which files of such ``names`` lie, is an array."""
    if ARRAY in names:
        return True
    return (
        OF_FORMAT_3 in names
        and files.read_json(join(folder, OF_FORMAT_3)).get("node_type") == "array"
    )
