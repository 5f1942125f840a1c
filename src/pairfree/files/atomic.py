"""Files that appear whole or not at all: written under a temporary name, flushed to disk, then renamed.

Every system call goes through the ``os`` module by name (``os.replace``, ``os.fsync``, ...), so that a test
can make the k-th one fail. Rename and fsync protect against a killed process and, on journaling local disks,
against power loss; network file systems promise less.
"""

# ruff: noqa: PTH103, PTH105, PTH108  (os functions on purpose, see above)

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import re
import secrets
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

from pairfree.errors import OutputError
from pairfree.files.messages import address_of, reason, shown, size_text

_CAUSES = {
    errno.ENOSPC: ("no space left on the disk", "free some space or choose another folder"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or choose another folder"),
    errno.EFBIG: (
        "the file would be larger than the file system or a limit (ulimit -f) allows",
        "raise the limit or choose another folder",
    ),
    errno.EACCES: ("no permission to write there", "choose a folder that you may write to"),
    errno.EPERM: ("the system does not permit it", "choose a folder that you may write to"),
    errno.EROFS: ("the file system is read-only", "choose a folder on a writable disk"),
    errno.EIO: (
        "the disk reports an input/output error",
        "check the disk and its connection, then run again",
    ),
    errno.ENAMETOOLONG: (
        "the name is too long for the file system",
        "choose a shorter folder or file name",
    ),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another folder"),
    errno.ELOOP: (
        "a link is in its place, and is not written through",
        "remove the link, or choose another folder",
    ),
    errno.ENXIO: (
        "a pipe, a socket or a device is in its place",
        "remove it, or choose another folder",
    ),
    errno.EISDIR: ("it is a folder", "choose another name"),
    errno.ENOENT: ("the folder does not exist any more", "create it, then run again"),
}
_PARTIAL = re.compile(
    r"^\..*\.partial-(?P<pid>\d+)-(?P<host>[A-Za-z0-9_-]*)-[0-9a-f]{8}$", re.DOTALL
)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", platform.node())[:40]


def output_error(error: OSError, path: Path, bytes_needed: int | None = None) -> OutputError:
    """One line for a failed write: what, path, bytes needed where known, bytes free, what to do."""
    otherwise = (reason(error), "check the folder, then run again")
    cause, remedy = _CAUSES.get(error.errno or 0, otherwise)
    told = [f"cannot write {shown(path)}: {cause}"]
    if bytes_needed is not None:
        told.append(f"needed {size_text(bytes_needed)}")
    free = free_bytes(path.parent)
    if free is not None:
        told.append(f"free {size_text(free)}")
    return OutputError("; ".join([*told, remedy]))


def nearest_folder(folder: Path) -> Path:
    """``folder`` or the closest parent of it that exists."""
    for candidate in (folder, *folder.absolute().parents):
        with contextlib.suppress(OSError, ValueError):
            if candidate.exists():
                return candidate
    return Path(folder.absolute().anchor)


def free_bytes(folder: Path) -> int | None:
    """Bytes free on the disk of ``folder``, which need not exist yet; None where the system does not tell."""
    try:
        return shutil.disk_usage(nearest_folder(folder)).free
    except OSError:
        return None


def require_space(folder: Path, bytes_needed: int) -> None:
    """OutputError, before any work, when the disk of ``folder`` has less than ``bytes_needed`` bytes free."""
    free = free_bytes(Path(folder))
    if free is not None and free < bytes_needed:
        raise OutputError(
            f"not enough space in {shown(folder)}: needed {size_text(bytes_needed)}, free {size_text(free)}; "
            "free some space or choose another folder"
        )


def temporary_name(final: Path) -> Path:
    """A new name beside ``final``, which ``remove_stale`` knows once this process is dead."""
    # 40 characters are at most 160 bytes: the temporary name fits wherever the final one does. Without dots:
    # no writer, nor a library that it calls, shall find the suffix of a format in it.
    by_whom = f"{os.getpid()}-{_host()}-{secrets.token_hex(4)}"
    return final.with_name(f".{final.name[:40].replace('.', '_')}.partial-{by_whom}")


def hidden_name(path: Path, kind: str) -> Path:
    """Name beside ``path`` of what pairfree keeps for it, the same each time; ``kind`` is its suffix."""
    checksum = zlib.crc32(path.name.encode("utf-8", "surrogatepass"))
    return path.with_name(f".{path.name[:40]}-{checksum:08x}.{kind}")


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no descriptors of folders
        return
    try:
        _fsync(folder, os.O_RDONLY)
    except OSError as error:
        # Some network file systems cannot flush a folder at all; that is no failed write.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise


def _refuse_existing(final: Path, overwrite: bool, may_be_folder: bool = False) -> None:
    refuse_address(final)
    if final.is_dir() and not may_be_folder:
        raise OutputError(f"cannot write {shown(final)}: it is a folder; choose another name")
    if not overwrite and os.path.lexists(final):
        raise OutputError(
            f"{shown(final)} exists already; "
            "pass `overwrite` to replace it, or choose another folder"
        )


def refuse_address(path: Path) -> None:
    """OutputError for what is to lie on a server: of what pairfree writes, OME-Zarr alone may."""
    if address_of(path) is not None:
        raise OutputError(
            f"cannot write {shown(path)}: of all results only OME-Zarr is written to servers, "
            "by denoise and save_image; name a place on a disk"
        )


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing; OSError where that cannot be done.

    Folders may be nested deeper than functions may call themselves, as those of ``os`` do.
    """
    missing = []
    for one in (folder, *folder.parents):
        if one.is_dir():
            break
        missing.append(one)
    for one in reversed(missing):
        os.makedirs(one, exist_ok=True)


@contextlib.contextmanager
def atomic_path(
    final: Path, overwrite: bool = False, bytes_needed: int | None = None
) -> Iterator[Path]:
    """A temporary path beside ``final``; on leaving, its file is flushed to disk and renamed to ``final``.

    On any exception the temporary file is removed and ``final`` is as it was before. Missing parent folders
    are made. OSError becomes OutputError; other exceptions pass through.

    Parameters
    ----------
    final
        Of the file.
    overwrite
        A file that is there is replaced.
    bytes_needed
        For the message when the disk is full.
    """
    final = Path(final)
    temporary: Path | None = None
    try:
        _refuse_existing(final, overwrite)
        make_folder(final.parent)
        temporary = temporary_name(final)
        yield temporary
        _fsync(temporary, os.O_RDWR)  # Windows flushes only descriptors that may write
        _refuse_existing(final, overwrite)
        _announce(temporary, final)
        os.replace(temporary, final)
        temporary = None
        _fsync_folder(final.parent)
    except OSError as error:
        raise output_error(error, final, bytes_needed) from error
    except ValueError as error:
        if "null" in str(error):
            raise OutputError(
                f"cannot write {shown(final)}: the name holds a NUL character; choose another name"
            ) from error
        raise
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError, ValueError):
                os.unlink(temporary)


_listener: ContextVar[Callable[[Path, Path], None] | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def announced(listener: Callable[[Path, Path], None]) -> Iterator[None]:
    """Call ``listener(temporary, final)`` for everything that is about to get its final name meanwhile."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def _announce(temporary: Path, final: Path) -> None:
    listener = _listener.get()
    if listener is not None:
        listener(temporary, final)


@contextlib.contextmanager
def atomic_folder(
    final: Path, overwrite: bool = False, bytes_needed: int | None = None
) -> Iterator[Path]:
    """``atomic_path`` for a folder of files.

    All of it is flushed to disk, then it is renamed; an older one is removed after that.
    """
    final = Path(final)
    temporary: Path | None = None
    older: Path | None = None
    try:
        _refuse_existing(final, overwrite, may_be_folder=True)
        make_folder(final.parent)
        temporary = temporary_name(final)
        yield temporary
        _flush_tree(temporary)
        _refuse_existing(final, overwrite, may_be_folder=True)
        _announce(temporary, final)  # may refuse: the older one must still have its name
        if os.path.lexists(final):
            older = temporary_name(final)
            os.replace(final, older)
        os.replace(temporary, final)
        temporary = None
        _fsync_folder(final.parent)
    except OSError as error:
        if older is not None and not os.path.lexists(final):
            with contextlib.suppress(OSError):
                os.replace(older, final)
        raise output_error(error, final, bytes_needed) from error
    finally:
        for folder in (temporary, older):
            if folder is not None:
                with contextlib.suppress(RecursionError):  # of folders nested too deeply to remove
                    shutil.rmtree(folder, ignore_errors=True)


def _flush_tree(folder: Path) -> None:
    """One flush of the folder's file system where there is such a call: a folder may hold a million files.

    OSError where it failed.
    """
    library = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None
    if library is None or not hasattr(library, "syncfs"):
        for root, _, names in os.walk(folder):
            for name in names:
                _fsync(Path(root, name), os.O_RDWR)
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if library.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def write_bytes(final: Path, data: bytes, overwrite: bool = False) -> None:
    """Write ``data`` to ``final``, whole or not at all. Raises OutputError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_BINARY", 0)  # of Windows
    with atomic_path(final, overwrite, len(data)) as temporary:
        descriptor = os.open(temporary, flags, 0o666)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)


def write_text(final: Path, text: str, overwrite: bool = False) -> None:
    """Write ``text`` as UTF-8 to ``final``, whole or not at all. Raises OutputError.

    Bytes of a file name that are no text are escaped.
    """
    write_bytes(final, text.encode("utf-8", "backslashreplace"), overwrite)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def remove_stale(folder: Path) -> list[Path]:
    """Remove the temporary files and folders that dead processes of this host left in ``folder``.

    What is below it, and files of live processes and of other hosts stay. On Windows nothing is removed:
    signal 0 is no question there.

    Returns
    -------
    list
        What was removed.
    """
    removed: list[Path] = []
    if os.name == "nt":
        return removed
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return removed
    for name in names:
        match = _PARTIAL.match(name)
        if match is None or match["host"] != _host() or _alive(int(match["pid"])):
            continue
        left = Path(folder) / name
        with contextlib.suppress(OSError, RecursionError):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                os.unlink(left)
            removed.append(left)
    return removed
