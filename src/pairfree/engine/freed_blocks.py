"""Freed blocks of memory are used again, where the C library would give each back."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

LARGEST_KEPT = 2**25
"""Blocks of up to so many bytes are used again when they are freed; 32 MiB is the bound of glibc."""
MOST_KEPT = 2**28
"""Bytes of free memory that are held."""
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Numbers of these options of ``mallopt``."""


@cache
def keep_freed_blocks() -> None:
    """Let glibc use freed blocks of the size of a layer's output again, instead of giving each back.

    A new block comes as zeroed pages, one fault each: without this, prediction by two threads spends a third
    of its time in them. What the user has set in the environment stands; other C libraries are left as they
    are.
    """
    set_by_user = "MALLOC_MMAP_THRESHOLD_" in os.environ or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    )
    if set_by_user or not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_MMAP_THRESHOLD, LARGEST_KEPT)
        library.mallopt(_TRIM_THRESHOLD, MOST_KEPT)
