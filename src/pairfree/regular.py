"""Regular files alone are opened: a pipe never answers, a device never ends, a link leads elsewhere.

Files that are read may be reached by a link that the user made; files that are written under a fixed name,
and those within an image of many files, may not.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO, Any

_KINDS = (
    (stat.S_ISLNK, "a link", errno.ELOOP),
    (stat.S_ISDIR, "a folder", errno.EISDIR),
    (stat.S_ISFIFO, "a pipe", errno.ENXIO),
    (stat.S_ISSOCK, "a socket", errno.ENXIO),
)
_DEVICE = ("a device", errno.ENXIO)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
PIECE_BYTES = 2**24
"""Read at a time: what unpacks a file holds as much again."""


class NoFileError(OSError):
    """There is something, and it is no regular file."""


def _name_kind(mode: int) -> tuple[str, int]:
    for is_kind, name, number in _KINDS:
        if is_kind(mode):
            return name, number
    return _DEVICE


def check_regular(path: str | Path, follow: bool = True) -> None:
    """NoFileError for what is there and no regular file.

    Parameters
    ----------
    path
        Of the file.
    follow
        A link to a regular file is taken for it.
    """
    status = os.stat(path, follow_symlinks=follow)  # noqa: PTH116
    _refuse_others(status.st_mode, path)


def _refuse_others(mode: int, path: str | Path) -> None:
    if not stat.S_ISREG(mode):
        name, number = _name_kind(mode)
        raise NoFileError(number, f"it is {name} and no file", str(path))


def open_regular(
    path: str | Path, mode: str = "rb", follow: bool = True, buffering: int = -1
) -> IO[Any]:
    """Open a file, as ``open`` does; text is UTF-8.

    It is looked at before it is opened, because that alone can hang or act on a device, and once more after
    that, because it may have been replaced meanwhile.

    Parameters
    ----------
    path
        Of the file.
    mode
        As of ``open``.
    follow
        A link to a regular file is taken for it.
    buffering
        As of ``open``.

    Raises
    ------
    NoFileError
        For what is no regular file.
    OSError
        For what ``open`` raises it.
    """

    def open_checked(name: str, flags: int) -> int:
        try:
            check_regular(name, follow)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
        flags |= _NO_WAIT | (0 if follow else _NO_LINK)
        descriptor = os.open(name, flags, 0o666)
        try:
            _refuse_others(os.fstat(descriptor).st_mode, name)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    encoding = None if "b" in mode else "utf-8"
    return open(path, mode, buffering, encoding, opener=open_checked)


def read_regular(path: str | Path, follow: bool = True) -> bytes:
    """Content of a file; OSError as of ``open_regular``."""
    with open_regular(path, "rb", follow) as file:
        content: bytes = file.read()
        return content


def fill(room: memoryview, file: Any) -> int:
    """Read the bytes that come next into memory.

    Parameters
    ----------
    room
        Of single bytes; it is filled a piece at a time.
    file
        With ``readinto``, such as one that ``open`` or ``gzip.open`` gives.

    Returns
    -------
    int
        How many bytes there were: less than there is room for where the file ends.
    """
    there = 0
    while there < len(room):
        count = file.readinto(room[there : there + PIECE_BYTES])
        if not count:
            break
        there += count
    return there


def overwrite_regular(path: str | Path, content: bytes) -> None:
    """Write a file in its place, not through a link; OSError as of ``open_regular``."""
    with open_regular(path, "wb", follow=False) as file:
        file.write(content)
