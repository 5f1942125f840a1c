"""What happens when memory runs out: one line with a remedy instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pairfree.errors import ConfigError

_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "bad allocation")


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
