"""Readers keep to themselves what they have to say about odd files."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

TALKATIVE = ("tifffile", "PIL", "pydicom", "nibabel", "zarr", "liffile", "nd2", "olefile", "rsciio")
"""Packages whose loggers are silenced."""
WARNING = ("pydicom", "nd2", "rsciio")
"""Packages whose warnings are."""


_quiet: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether they are: a hundred thousand files are opened in one such block."""


class _Drop(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return False


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Keep the readers' lines about odd files off the terminal.

    What matters reaches the user as InputError.
    """
    if _quiet.get():
        yield
        return
    token = _quiet.set(True)
    drop, nowhere = _Drop(), logging.NullHandler()
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    for logger in loggers:
        logger.addFilter(drop)
        logger.addHandler(nowhere)  # for the loggers below, which filters leave alone
    try:
        with warnings.catch_warnings():
            for name in WARNING:
                warnings.filterwarnings("ignore", module=name)
            yield
    finally:
        _quiet.reset(token)
        for logger in loggers:
            logger.removeFilter(drop)
            logger.removeHandler(nowhere)


class _Nowhere:
    """Where the process' descriptor of stderr leads while calls are in progress that must print nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._kept: int | None = None

    def begin(self) -> None:
        """One more call."""
        with self._lock:
            self._calls += 1
            if self._calls > 1:
                return
            with suppress(OSError):  # closed: nothing can be printed
                self._kept = os.dup(2)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)

    def end(self) -> None:
        """One less; after the last all is as before."""
        with self._lock:
            self._calls -= 1
            if self._calls == 0 and self._kept is not None:
                os.dup2(self._kept, 2)
                os.close(self._kept)
                self._kept = None


_nowhere = _Nowhere()


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keep what a library in C prints off the terminal: jxrlib tells of each tag that it does not know.

    The whole process prints nothing meanwhile, so that this is for single calls; several may overlap.
    """
    _nowhere.begin()
    try:
        yield
    finally:
        _nowhere.end()
