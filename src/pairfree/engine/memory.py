"""What happens when memory runs out: one line with a remedy instead of a traceback. And how freed memory of tiles is used again."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from pairfree.errors import ConfigError

LARGEST_KEPT, MOST_KEPT = 2**25, 2**28
"""Blocks up to the first many bytes are used again when they are freed, and so much free memory is held. 32 MiB is the bound of glibc."""
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad allocation",
    "status_alloc_failed",
)


def is_shortage(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on the device or beside it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


@contextmanager
def enough(remedy: str) -> Iterator[None]:
    """ConfigError with ``remedy`` where memory runs out inside."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        raise ConfigError(f"out of memory: {remedy}") from None


@cache
def keep_freed_blocks() -> None:
    """Let glibc use freed blocks of the size of a layer's output again, instead of giving each back and asking for it anew.

    A new block comes as zeroed pages, one fault each: without this, prediction by two threads spends a third of its time in them. What the
    user has set in the environment stands; other C libraries are left as they are.
    """
    if (
        not sys.platform.startswith("linux")
        or "MALLOC_MMAP_THRESHOLD_" in os.environ
        or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    ):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_MMAP_THRESHOLD, LARGEST_KEPT)
        library.mallopt(_TRIM_THRESHOLD, MOST_KEPT)
