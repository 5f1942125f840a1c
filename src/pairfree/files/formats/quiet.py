"""Readers keep to themselves what they have to say about odd files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
