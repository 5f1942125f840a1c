"""The files of a Zarr image that is one zip archive, whose members are stored or deflated."""

from __future__ import annotations

import stat
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from pairfree.errors import InputError
from pairfree.files.formats.zarr_files import METADATA_FILES, ZarrFiles
from pairfree.files.limits import DEFLATE, Limits
from pairfree.files.messages import reason, shown

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of packing that stop where they are told to."""
MOST_DEPTH = 64
"""Folders within each other: each costs memory for its whole name."""
ENCRYPTED = 1
"""Bit of a member's flags."""
MOST_MEMBERS = 16
"""Of files, so many times the pages that a file may have."""


class ZipFiles(ZarrFiles):
    """Of a zip archive.

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
        self.path = path
        self._lock = threading.RLock()  # zipfile does not serve several threads at once
        self._opened: zipfile.ZipFile | None = None
        self.comment = self.archive.comment
        self._sizes: dict[str, int] = {}
        self._links: set[str] = set()
        for member in self.archive.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                self._links.add(member.filename)
            elif not member.is_dir():
                self._check_member(member)
                self._sizes[member.filename] = member.file_size
        self._check(limits)
        self._folders = _list_folders(self._sizes)
        self._others = _list_folders(self._links)

    @property
    def archive(self) -> zipfile.ZipFile:
        """The archive, opened where it is not."""
        with self._lock:
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
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _check_member(self, member: zipfile.ZipInfo) -> None:
        """InputError for a way of packing that has no bound, and a size that no packing reaches."""
        if member.compress_type not in METHODS or member.flag_bits & ENCRYPTED:
            raise InputError(
                f"{shown(self.path)}: its file {shown(member.filename)} is encrypted, or neither stored nor "
                "deflated; pack it again without either"
            )
        if member.file_size > DEFLATE * (member.compress_size + 1):
            raise self._lies(member.filename, "more bytes than it can hold are declared")

    def _check(self, limits: Limits) -> None:
        if len(self._sizes) > limits.max_pages * MOST_MEMBERS:
            raise InputError(
                f"{shown(self.path)}: holds {len(self._sizes)} files; unpack it into a folder"
            )
        for name in (*self._sizes, *self._links):
            parts = name.split("/")
            if {"", ".", ".."} & {*parts} or "\\" in name or ":" in parts[0]:
                raise InputError(
                    f"{shown(self.path)}: its file {shown(name)} would lie outside of it; pack it again"
                )
            if len(parts) > MOST_DEPTH:
                raise InputError(
                    f"{shown(self.path)}: its file {shown(name)} lies {len(parts) - 1} folders deep, "
                    f"expected less than {MOST_DEPTH}; pack it again without what is no part of the image"
                )
            if parts[-1] in METADATA_FILES:
                self.check_metadata(name)

    def _lies(self, name: str, why: str) -> InputError:
        return InputError(
            f"{shown(self.path)}: its file {shown(name)} is not what the archive says ({why}); "
            "pack or copy it again"
        )

    def size(self, name: str) -> int | None:
        """As ``ZarrFiles.size``."""
        if name in self._links:
            raise self.refusal(name)
        return self._sizes.get(name)

    def open(self, name: str) -> IO[bytes]:
        """As ``ZarrFiles.open``."""
        if name in self._links:
            raise self.refusal(name)
        return self.archive.open(name)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """As ``ZarrFiles.read``; InputError where the archive says something else of the file."""
        try:
            with self._lock:
                found = super().read(name, start, length)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise self._lies(name, reason(error)) from error
        size = self._sizes[name]
        if length is None and len(found) != size - start:
            raise self._lies(name, f"{len(found)} bytes, {size - start} are declared")
        return found

    def pieces(self, name: str) -> Iterator[bytes]:
        """As ``ZarrFiles.pieces``; InputError as of ``read``."""
        count = 0
        try:
            for piece in super().pieces(name):
                count += len(piece)
                yield piece
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise self._lies(name, reason(error)) from error
        if count != self._sizes[name]:
            raise self._lies(name, f"{count} bytes, {self._sizes[name]} are declared")

    def members(self, folder: str) -> tuple[list[str], list[str]]:
        """As ``ZarrFiles.members``."""
        folders, files = self._folders.get(folder, (set(), set()))
        return sorted(folders), sorted(files)

    def others(self, folder: str) -> list[str]:
        """As ``ZarrFiles.others``: the links, which are files with a path in them."""
        return sorted(self._others.get(folder, (set(), set()))[1])


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
