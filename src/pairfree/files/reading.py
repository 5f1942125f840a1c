"""What goes wrong while the pixels of an opened file are read, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pairfree.errors import InputError, PairfreeError
from pairfree.files.messages import reason, shown


@contextmanager
def pixels_in_one_line(source: Path | None) -> Iterator[None]:
    """Whatever goes wrong while pixels of ``source`` are read is an InputError; not so a lack of memory."""
    try:
        yield
    except (PairfreeError, MemoryError):
        raise
    except Exception as error:  # decoders raise what they like where a file is damaged or gone
        name = "image" if source is None else shown(source)
        raise InputError(
            f"{name}: its pixels cannot be read ({reason(error)}); "
            "it was changed or removed since it was opened, or is damaged: export it again"
        ) from error
