"""Readers keep to themselves what they have to say about odd files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

TALKATIVE = ("tifffile", "PIL", "pydicom", "nibabel", "zarr", "liffile", "nd2", "olefile", "rsciio")
"""Packages whose loggers are silenced."""
WARNING = ("pydicom", "nd2", "rsciio")
"""Packages whose warnings are."""


class _Drop(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return False


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Keep the readers' lines about odd files off the terminal.

    What matters reaches the user as InputError.
    """
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
        for logger in loggers:
            logger.removeFilter(drop)
            logger.removeHandler(nowhere)
