"""Where results are made; those for a server in a folder on a disk, which is found again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pairfree.errors import OutputError
from pairfree.files.atomic import hidden_name, output_error, require_space
from pairfree.files.listing import check_folder
from pairfree.files.lock import Lock
from pairfree.files.messages import address_of
from pairfree.files.servers import check_server, make_private, waiting_room


@dataclass(frozen=True)
class Outbox:
    """Where results are made: in their folder, or in one from which they are sent to a server."""

    out: Path
    """Folder of the results, on a disk or on a server."""
    folder: Path
    """On a disk; the same for the same ``out``."""

    @property
    def sends(self) -> bool:
        """Whether results go from here to a server."""
        return self.folder != self.out

    def place(self, path: Path) -> Path:
        """Where the result of that path is made."""
        return self.folder / path.relative_to(self.out)

    def require_space(self, n_bytes: int) -> None:
        """OutputError where the disk on which results are made has less free."""
        with _naming_room() if self.sends else contextlib.nullcontext():
            require_space(self.folder, n_bytes)

    @contextlib.contextmanager
    def held(self, path: Path) -> Iterator[None]:
        """Hold the result of an address for this process.

        Raises
        ------
        BusyError
            While another process makes or sends it.
        OutputError
            Where the folder cannot be written.
        """
        local = self.place(path)
        make_private(self.folder.parent)
        make_private(local.parent)
        file = hidden_name(local, "lock")
        try:
            lock = Lock(file, path)
        except OSError as error:
            raise output_error(error, local) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            lock.release()

    def tidy(self) -> None:
        """Remove the folders in which nothing waits for its server any more."""
        if not self.sends:
            return
        for root, _, _ in os.walk(self.folder, topdown=False):
            with contextlib.suppress(OSError):
                Path(root).rmdir()


def open_outbox(out: Path) -> Outbox:
    """Where results are made for a folder.

    Raises
    ------
    OutputError
        For a folder on a server that cannot be written to.
    """
    address = address_of(out)
    if address is None:
        return Outbox(out, out)
    check_server(out)
    room = waiting_room()
    with _naming_room():
        check_folder(room)
    digest = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()
    return Outbox(out, room / digest[:16])


@contextlib.contextmanager
def _naming_room() -> Iterator[None]:
    """What is wrong with the folder on the disk is told with what the folder is."""
    try:
        yield
    except OutputError as error:
        raise OutputError(
            f"{error}: results for servers wait there; XDG_CACHE_HOME says where"
        ) from error
