"""One process at a time: a lock on a file, which the system takes back from a process that dies."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import IO

from pairfree.errors import BusyError
from pairfree.files.damaged import make_way
from pairfree.files.messages import shown
from pairfree.regular import open_regular

if sys.platform == "win32":
    import msvcrt

    def _seize(handle: IO[bytes]) -> None:
        handle.seek(2**30)  # a byte that nobody writes: on Windows, locked ones cannot be read
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _seize(handle: IO[bytes]) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


MOST_SHOWN = 200
"""Characters of what a lock says of its holder."""


class Lock:
    """Held from its making until ``release``; the file says by whom.

    Parameters
    ----------
    file
        Of the lock.
    what
        What it is a lock on, for the message.

    Raises
    ------
    BusyError
        Naming the process that holds it.
    OSError
        Where ``file`` cannot be written.
    OutputError
        Where a folder or a link stands in its place and cannot be set aside.
    """

    def __init__(self, file: Path, what: Path) -> None:
        make_way(file, "the lock is made anew")
        self._handle = open_regular(file, "a+b", follow=False)
        try:
            _seize(self._handle)
            self._handle.seek(0)
            self._handle.truncate()
            by_whom = f"process {os.getpid()} on {socket.gethostname()}\n"
            self._handle.write(by_whom.encode("utf-8", "replace"))
            self._handle.flush()
        except (BlockingIOError, PermissionError):
            self._handle.seek(0)
            said = " ".join(self._handle.read(MOST_SHOWN).decode("utf-8", "replace").split())
            holder = shown(said) if said else "an unknown process"
            self._handle.close()
            raise BusyError(
                f"{shown(what)}: in use by {holder}; wait for it, stop it, or name another folder"
            ) from None
        except OSError:
            self._handle.close()
            raise

    def release(self) -> None:
        """Let others in."""
        self._handle.close()
