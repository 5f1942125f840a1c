"""What fields of a method's config are marked with: whether they shape a network, and how large they may be.

Bounds keep a setting that was mistyped, or that someone wrote into a checkpoint, from taking all memory.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

T = TypeVar("T")
ARCHITECTURE = "architecture"
"""Key of a field's metadata: whether the setting shapes a network."""
MOST = "most"
"""Key of a field's metadata: the largest value that it may have."""


def architecture(default: T, most: int = 4096) -> T:
    """A field of a method's config that shapes a network.

    A fine-tuned run takes it from the run it starts from.

    Parameters
    ----------
    default
        Its value where none is given.
    most
        The largest that a number may be; where none is given, that of channels and pixels.
    """
    field: T = dataclasses.field(default=default, metadata={ARCHITECTURE: True, MOST: most})
    return field


def bounded(default: int, most: int) -> int:
    """A field of a method's config that may be ``most`` at most."""
    field: int = dataclasses.field(default=default, metadata={MOST: most})
    return field


def architecture_settings(config_type: type) -> frozenset[str]:
    """Names of the settings that shape a method's networks: those that are declared with ``architecture``.

    A class that only gives such a setting another default leaves the mark where it is.
    """
    marked = set()
    for declared in config_type.__mro__:
        fields = vars(declared).get("__dataclass_fields__", {})
        marked |= {name for name, field in fields.items() if ARCHITECTURE in field.metadata}
    return frozenset(marked)


def most_of(config_type: type, name: str) -> float:
    """The largest value that a whole number may have; a class that only gives another default leaves it."""
    found = math.inf
    for declared in reversed(config_type.__mro__):
        field = vars(declared).get("__dataclass_fields__", {}).get(name)
        if field is not None and MOST in field.metadata:
            found = field.metadata[MOST]
    return found
