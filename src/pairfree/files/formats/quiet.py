"""Readers keep to themselves what they have to say about odd files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

TALKATIVE = ("tifffile", "PIL", "pydicom", "nibabel", "zarr")
"""Packages whose loggers are silenced."""


class _Drop(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return False


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Keep the readers' lines about odd files off the terminal.

    What matters reaches the user as InputError.
    """
    drop = _Drop()
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    for logger in loggers:
        logger.addFilter(drop)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pydicom")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(drop)
