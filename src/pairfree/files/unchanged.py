"""Whether what an image is read from stays as it is: no result may be made of two states of a file."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pairfree.errors import InputError
from pairfree.files.formats.table import read_from
from pairfree.files.formats.zarr_files import METADATA_FILES, SUMS, tell_apart
from pairfree.files.messages import address_of, reason, shown

MOST_FILES = 100_000
"""Of a folder whose sizes and times are compared; of further ones the names, and their folders' times."""
GRAIN_NS = 100
"""What Windows and its network disks know times to."""
Describe = Callable[[os.stat_result], str]


class ChangedError(InputError):
    """An input that is not what it was when it was opened."""


def fingerprint(path: Path) -> str:
    """What tells the states of an image on this computer apart, be it a file, several, or a folder.

    Names, sizes, and the times of the last change, also those that copying programs do not set back. Of a
    folder on a server it is what the server says of its metadata. InputError where it does not answer.
    """
    return _digest(path, _describe)


def fingerprint_elsewhere(path: Path) -> str:
    """As ``fingerprint``, as far as other computers that share the disk see it: names, sizes, times."""
    return _digest(path, _describe_elsewhere)


def _describe(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _describe_elsewhere(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns // GRAIN_NS}"


def _digest(path: Path, describe: Describe) -> str:
    digest = hashlib.sha256()
    for line in _lines(path, describe):
        digest.update(f"{line}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _lines(path: Path, describe: Describe) -> Iterable[str]:
    if address_of(path) is not None:
        return [_told_by_server(path)]
    if path.is_dir():
        return _lines_of_folder(path, describe)
    return [_line(file, describe, follow=True) for file in read_from(path)]


def _told_by_server(path: Path) -> str:
    try:
        return tell_apart(path)
    except Exception as error:  # each kind of server has errors of its own
        raise InputError(
            f"{shown(path)}: its server does not answer ({reason(error)}); "
            "check the connection, then run the same command again"
        ) from error


def _lines_of_folder(folder: Path, describe: Describe) -> Iterator[str]:
    left = MOST_FILES
    for root, names in _walk(str(folder)):
        at = os.path.relpath(root, folder)
        files = sorted(name for name in names if _is_of_image(name))
        for name in files[:left]:
            yield f"{at}/{name} {_line(os.path.join(root, name), describe)}"  # noqa: PTH118
        if len(files) > left:
            yield f"{at} {_line(root, describe)}"
            yield from files[left:]
        left = max(0, left - len(files))


def _walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Each folder, of any depth, and the names of what is no folder in it, links too."""
    waiting = [folder]
    while waiting:
        root = waiting.pop()
        folders: list[str] = []
        names: list[str] = []
        with contextlib.suppress(OSError), os.scandir(root) as listed:
            for entry in listed:
                of_kind = folders if entry.is_dir(follow_symlinks=False) else names
                of_kind.append(entry.name)
        yield root, names
        for name in sorted(folders, reverse=True):
            waiting.append(os.path.join(root, name))  # noqa: PTH118


def _is_of_image(name: str) -> bool:
    """Not what systems and programs leave in folders that they show, such as .DS_Store."""
    return not name.startswith(".") or name in (*METADATA_FILES, SUMS)


def _line(path: str | Path, describe: Describe, follow: bool = False) -> str:
    """Of a link within a folder, itself: it may lead nowhere."""
    try:
        return describe(os.stat(path, follow_symlinks=follow))  # noqa: PTH116
    except OSError as error:
        return f"gone {error.errno}"


class Watch:
    """Notices that an image's file, files or folder is replaced, written to, cut or removed.

    Parameters
    ----------
    path
        Of the image; watched from now on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first = fingerprint(path)
        """Its fingerprint."""
        self._bytes = self._count_bytes()

    def _count_bytes(self) -> int | None:
        """Of a single file; None for what is none, or is gone."""
        try:
            return self.path.stat().st_size if self.path.is_file() else None
        except OSError:
            return None

    def check(self) -> None:
        """ChangedError where it is not what it was."""
        if fingerprint(self.path) == self.first:
            return
        now = self._count_bytes()
        found = "it was replaced or written to"
        if address_of(self.path) is None and not os.path.lexists(self.path):
            found = "it is gone"
        elif now != self._bytes:
            found = f"{self._bytes} bytes became {now}"
        raise ChangedError(
            f"{shown(self.path)}: changed while it was read ({found}), so nothing is made of it; "
            "run again when no program writes to it"
        )

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Where the block fails over a change, that is what is told."""
        try:
            yield
        except ChangedError:
            raise
        except Exception:
            self.check()
            raise
