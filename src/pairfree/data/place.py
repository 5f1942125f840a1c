"""Where a plane of a set comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a plane comes from."""

    image: str
    """Name of the file or array."""
    axes: str = ""
    """In front of Y, a letter each."""
    index: tuple[int, ...] = ()
    """Along these axes."""
    origin: tuple[int, int] = (0, 0)
    """Row and column where it begins, where it is a part of a plane."""
