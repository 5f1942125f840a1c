"""One property of a file that its result kept or lost, in words; how entries and values are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_WORDS, SHORTENED_TO = 64, 60
NAMED_ENTRIES = 4
"""Of the entries that were lost, so many are named."""


@dataclass(frozen=True)
class Check:
    """One property of an input and of its result."""

    name: str
    before: str
    """What the input has, in words."""
    after: str
    """What the result has, in words."""
    kept: bool | None
    """None where the property is stated and not judged."""


def check_same(name: str, before: Any, after: Any) -> Check:
    """A property that is kept where both values are equal."""
    return Check(name, in_words(before), in_words(after), bool(before == after))


def check_entries(name: str, before: Mapping[Any, Any], after: Mapping[Any, Any]) -> Check:
    """A property with many entries: kept where none of ``before`` is missing or changed.

    ``after`` may have more.
    """
    lost = []
    for key, value in before.items():
        if key not in after or after[key] != value:
            lost.append(str(key))
    told = f"{len(after)} entries"
    if lost:
        told = f"lost or changed: {', '.join(lost[:NAMED_ENTRIES])}"
    return Check(name, f"{len(before)} entries", told, not lost)


def check_items(name: str, before: Sequence[Any], after: Sequence[Any]) -> Check:
    """A property with several items, of which words tell the number: kept where they are the same."""
    return Check(name, str(len(before)), str(len(after)), before == after)


def in_words(value: Any) -> str:
    """A value on one line of a table: "none" for nothing, long ones cut."""
    text = " ".join(str(value).split())
    if len(text) > LONGEST_WORDS:
        return f"{text[:SHORTENED_TO]} ..."
    return text or "none"
