"""Zarr images that are written to servers: made on a disk, then sent file by file, their metadata last.

Until the last file is there a mark lies beside them: what was sent by halves is no image, and what bears the
mark may be replaced. fsspec is an optional package, imported when an address is met.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pairfree.errors import OutputError, PairfreeError
from pairfree.files.atomic import output_error
from pairfree.files.formats.zarr_files import (
    ATTRIBUTES,
    CONSOLIDATED,
    MARKS,
    METADATA_FILES,
    FolderFiles,
)
from pairfree.files.messages import address_of, reason, shown
from pairfree.files.sent_note import SentNote

UNSENT = ".pairfree-unsent"
"""Lies in an image on a server until all of it is there; its text says who sends it."""
READ_ONLY = ("http", "https")
OF_DISKS = ("file", "local")
BATCH_FILES, BATCH_BYTES = 64, 2**26
"""So much is sent at a time: it is held in memory."""
REMOVED_AT_ONCE = 1000


def waiting_room() -> Path:
    """Folder on a disk where results for servers wait: ``pairfree/unsent`` in the user's caches.

    XDG_CACHE_HOME says where those lie; else they lie where the system has them. OutputError where there is
    no home folder.
    """
    given = os.environ.get("XDG_CACHE_HOME") or (
        os.environ.get("LOCALAPPDATA") if os.name == "nt" else None
    )
    return (Path(given) if given else _usual_caches()) / "pairfree" / "unsent"


def _usual_caches() -> Path:
    try:
        home = Path.home()
    except RuntimeError as error:
        raise OutputError(
            "there is no home folder, where results for servers could wait; name a folder in XDG_CACHE_HOME"
        ) from error
    return home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"


def make_private(folder: Path) -> None:
    """Make a folder that no other user looks into; OutputError where that is not possible."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error


@contextlib.contextmanager
def _one_line(path: Path, remedy: str) -> Iterator[None]:
    """Whatever goes wrong with a server is an OutputError of one line."""
    try:
        yield
    except PairfreeError:
        raise
    except ImportError as error:
        raise OutputError(
            f"cannot write {shown(path)}: it needs a package ({reason(error)}); "
            "pip install 'pairfree[remote]'"
        ) from error
    # Each kind of server has errors of its own, and few of them are OSError.
    except Exception as error:
        raise OutputError(f"cannot write {shown(path)}: {reason(error)}; {remedy}") from error


class ServerFolder:
    """A folder on a server, which need not exist.

    Parameters
    ----------
    path
        Of its address.

    Raises
    ------
    OutputError
        For what can only be read, is no server, or needs a package that is missing.
    """

    def __init__(self, path: Path) -> None:
        address = address_of(path) or str(path)
        protocol = address.partition("://")[0]
        if protocol in READ_ONLY:
            raise OutputError(
                f"cannot write {shown(path)}: what has an address of {protocol}:// can only be read; "
                "name a folder on a disk, or one such as s3://bucket/folder"
            )
        if protocol in OF_DISKS:
            raise OutputError(
                f"cannot write {shown(path)}: this is no server; name the folder without {protocol}://"
            )
        self.path = path
        with _one_line(path, "pip install 'pairfree[remote]', or check how the address begins"):
            import fsspec

            self.system, root = fsspec.core.url_to_fs(address)
        self.root = str(root).rstrip("/")

    def address(self, name: str) -> str:
        """Of a file within it, as its file system writes it."""
        return f"{self.root}/{name}"

    def names(self) -> list[str]:
        """Of the folders and files directly in it; none where it does not exist."""
        self.system.invalidate_cache(self.root)
        try:
            found = self.system.ls(self.root, detail=True)
        except FileNotFoundError:
            return []
        names = [self._within(one["name"]) for one in found]
        return [name for name in names if name]

    def sizes(self) -> dict[str, int]:
        """Bytes of all files in it and in its folders, by name."""
        self.system.invalidate_cache(self.root)
        try:
            found = self.system.find(self.root, detail=True)
        except FileNotFoundError:
            return {}
        sizes = {self._within(one): int(said.get("size") or 0) for one, said in found.items()}
        sizes.pop("", None)
        return sizes

    def _within(self, address: str) -> str:
        """Name of what lies in the folder; "" for the folder itself."""
        name = address.rstrip("/").removeprefix(self.root)
        return name.strip("/")

    def read(self, name: str) -> bytes | None:
        """Content of a file; None where there is none."""
        try:
            return bytes(self.system.cat_file(self.address(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a small file; folders above it are made where a server has any, and never buckets."""
        with tempfile.TemporaryDirectory(prefix="pairfree-") as folder:
            file = Path(folder, "file")
            file.write_bytes(content)
            try:
                self.system.put_file(str(file), self.address(name))
            except FileExistsError:  # some servers replace a file only so
                self.system.pipe_file(self.address(name), content)

    def put(self, source: Path, names: Sequence[str]) -> None:
        """Send files of a folder on a disk, several at once where the server can."""
        here = [str(source / name) for name in names]
        there = [self.address(name) for name in names]
        self.system.put(here, there)

    def remove(self, name: str) -> None:
        """Remove a file."""
        self.system.rm_file(self.address(name))

    def remove_all(self, names: Iterable[str]) -> None:
        """Remove files, many at once; some servers do not tell which of them they kept."""
        addresses = [self.address(name) for name in names]
        plain = [one for one in addresses if not glob.has_magic(one)]
        for start in range(0, len(plain), REMOVED_AT_ONCE):
            self.system.rm(plain[start : start + REMOVED_AT_ONCE])
        for one in addresses:
            if glob.has_magic(one):
                self.system.rm_file(one)


def check_server(folder: Path) -> None:
    """OutputError unless files can be written to a folder of a server, and removed.

    One of a few bytes is: servers do not tell otherwise.
    """
    server = ServerFolder(folder)
    name = f".pairfree-probe-{secrets.token_hex(4)}"
    with _one_line(folder, "check the address, and whether you may write there"):
        server.write(name, b"pairfree\n")
    stays = f"{name} stays there; ask for permission to remove files, or choose another folder"
    with _one_line(folder, stays):
        server.remove(name)


def is_sent(path: Path) -> bool:
    """Whether all of a Zarr image is at an address."""
    with _one_line(path, "check the address and the connection"):
        names = ServerFolder(path).names()
    return UNSENT not in names and not set(MARKS).isdisjoint(names)


def is_taken(path: Path) -> bool:
    """Whether something is at an address that is no image sent by halves."""
    with _one_line(path, "check the address and the connection"):
        server = ServerFolder(path)
        names = server.names()
        if not names or UNSENT in names:
            return False
        return not set(MARKS).isdisjoint(names) or bool(server.sizes())  # or folders without a file


def check_free(path: Path, overwrite: bool) -> None:
    """OutputError for an image at an address, unless it may be replaced, and for anything else there."""
    if not is_taken(path):
        return
    if not is_sent(path):
        raise OutputError(
            f"cannot write {shown(path)}: something else is there; choose another name"
        )
    if not overwrite:
        raise OutputError(
            f"{shown(path)} exists already; "
            "pass `overwrite` to replace it, or choose another folder"
        )


class Upload:
    """An image in a folder on a disk that is sent to an address; a later process goes on where one stopped.

    Parameters
    ----------
    source
        The folder. What was sent is noted beside it.
    path
        Of the address.
    remedy
        What to do where sending fails; None: the same command goes on with what waits in the folder.
    """

    def __init__(self, source: Path, path: Path, remedy: str | None = None) -> None:
        self.source, self.path = source, path
        self._remedy = remedy or (
            f"the result waits in {shown(source)}: run the same command again, "
            "it goes on with sending"
        )
        self._server = ServerFolder(path)
        self._note = SentNote(source)

    def send(self, overwrite: bool) -> None:
        """Send what is not there yet; the metadata of the whole come last, and the mark stays.

        Parameters
        ----------
        overwrite
            An image at the address is replaced: it is removed before.

        Raises
        ------
        OutputError
            For an image that is there, and whatever stops the sending.
        """
        with _one_line(self.path, self._remedy):
            sent = self._go_on()
            if sent is None:
                check_free(self.path, overwrite)
                self._begin()
                sent = set()
            self._clear(keep=sent)
            names = sorted(FolderFiles(self.source).below(""), key=_rank)
            parts = [name for name in names if not _is_of_whole(name)]
            self._send_in_order([name for name in parts if name not in sent])
            self._check_sizes(parts)
            self._send_in_order([name for name in names if _is_of_whole(name)])

    def _send_in_order(self, names: Sequence[str]) -> None:
        for _, members in itertools.groupby(names, key=_rank):
            for batch in _in_batches(members, self._size_of):
                self._check_mark()
                self._server.put(self.source, batch)
                self._note.add(batch)

    def finish(self) -> None:
        """All is sent: the mark, what waits on the disk, and the note go."""
        with _one_line(self.path, "run the same command again"):
            if not self._note.mark:
                self._note.read()
            if self._is_marked():
                self._server.remove(UNSENT)
        self.forget()

    def withdraw(self) -> None:
        """Remove what was sent, as far as the server lets it, and what is on the disk."""
        with contextlib.suppress(Exception):  # of a server that failed already
            if self._is_marked():
                self._clear(keep=set())
                self._server.remove(UNSENT)
        self.forget()

    def forget(self) -> None:
        """Remove what is on the disk; the same address is sent to from the beginning then."""
        shutil.rmtree(self.source, ignore_errors=True)
        self._note.forget()

    def _size_of(self, name: str) -> int:
        return (self.source / name).stat().st_size

    def _is_marked(self) -> bool:
        """Whether the mark on the server is that of this folder."""
        mark = self._note.mark
        return bool(mark) and self._server.read(UNSENT) == mark

    def _go_on(self) -> set[str] | None:
        """Names of what an earlier process sent and is whole; None where its mark is not there."""
        noted = self._note.read()
        if not self._is_marked():
            return None
        there = self._server.sizes()
        return {name for name in noted & set(there) if there[name] == self._size_if_there(name)}

    def _size_if_there(self, name: str) -> int | None:
        try:
            return self._size_of(name)
        except (OSError, ValueError):  # the note is damaged
            return None

    def _begin(self) -> None:
        """Put the mark there: what it lies beside is no image any more."""
        sender = f"process {os.getpid()} on {socket.gethostname()}"
        self._note.begin(f"pairfree sends an image here: {sender}, {secrets.token_hex(8)}\n")
        self._server.write(UNSENT, self._note.mark)

    def _clear(self, keep: set[str]) -> None:
        """Remove an older image, and what was left unfinished; OutputError where something stays.

        First goes what makes it an image. Some servers refuse to replace files, so that those of a batch that
        was sent in part go, too.
        """
        names = set(self._server.sizes()) - keep - {UNSENT}
        marks = names.intersection(METADATA_FILES)
        for name in sorted(marks, key=_rank, reverse=True):
            self._server.remove(name)
        self._server.remove_all(names - marks)
        kept = set(self._server.sizes()) - keep - {UNSENT} if names else None
        if kept:
            raise OutputError(
                f"cannot write {shown(self.path)}: {shown(min(kept))} is there and cannot be removed; "
                "choose another folder, or ask for permission to remove files"
            )

    def _check_mark(self) -> None:
        """OutputError where another process began to send to the same address."""
        if not self._is_marked():
            raise OutputError(
                f"cannot write {shown(self.path)}: another process writes there too; "
                "wait for it, or choose another folder"
            )

    def _check_sizes(self, names: Iterable[str]) -> None:
        """OutputError where the server has less than was sent."""
        there = self._server.sizes()
        for name in names:
            if there.get(name) != self._size_of(name):
                raise OutputError(
                    f"cannot write {shown(self.path)}: its server lost {shown(name)}; {self._remedy}"
                )


def _is_of_whole(name: str) -> bool:
    return name in METADATA_FILES


def _rank(name: str) -> tuple[int, int]:
    """Order of sending: pixels, metadata from the innermost folder on, those of the whole.

    Of the whole come last the files without which nobody takes it for an image.
    """
    folder, _, last = name.rpartition("/")
    if last not in METADATA_FILES:
        return 0, 0
    if folder:
        return 1, -name.count("/")
    return 2, last not in (CONSOLIDATED, ATTRIBUTES)


def _in_batches(names: Iterable[str], size_of: Callable[[str], int]) -> Iterator[list[str]]:
    """Names in lists of so many files and bytes at most, a larger file alone."""
    batch: list[str] = []
    n_bytes = 0
    for name in names:
        more = size_of(name)
        if batch and (len(batch) == BATCH_FILES or n_bytes + more > BATCH_BYTES):
            yield batch
            batch, n_bytes = [], 0
        batch.append(name)
        n_bytes += more
    if batch:
        yield batch
