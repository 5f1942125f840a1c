"""What pairfree reads back as JSON, lines of JSON or TOML: within bounds of size and depth, of known types.

A file of a run folder or of an output folder may be damaged, or made by someone else. Whoever reads one says
which fields it needs and of what kind. What does not fit is ``Unreadable``: its words name no file, since
what is to be done about it depends on whose it is.
"""

from __future__ import annotations

import json
import re
import reprlib
import sys
import tomllib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pairfree.regular import NoFileError, open_regular

MOST_BYTES = 4 * 2**20
"""Of a JSON file, unless its reader says otherwise: as objects it takes up to forty times as much."""
MOST_LINE_BYTES = 2**20
"""Of one line of JSON."""
MOST_TOML_BYTES = 8 * 2**20
"""Of a TOML file: it may list a hundred thousand paths, and takes seconds to read then."""
MOST_DEPTH = 16
"""Lists and tables within each other."""
TOML_KEYS, TOML_BYTES_PER_KEY = 20_000, 128
TOML_MARKS, TOML_BYTES_PER_MARK = 200_000, 16
"""A TOML file has at most so many keys, and marks that divide it, or one in so many bytes."""
MOST_WHOLE = 2**63 - 1
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_DOTTED = rf"{_PART}(?:[ \t]*+\.[ \t]*+{_PART})"
_LONG_KEY = re.compile(
    rf"^[ \t]*+\[*+[ \t]*+{_DOTTED}{{8}}|(?<![\w-]){_DOTTED}{{32}}|[0-9a-fA-F_]{{1000}}",
    re.MULTILINE,
)
"""Dotted keys and numbers that tomllib takes minutes or gigabytes for."""
_TABLE = re.compile(rb"^[ \t]*+\[", re.MULTILINE)


class Unreadable(Exception):
    """A file cannot be used; why, in a phrase of one line that does not name it."""


@dataclass(frozen=True)
class Kind:
    """What a field may hold."""

    words: str
    """It, such as "a whole number"."""

    fits: Callable[[Any], bool]
    """Whether a value is of the kind."""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_WHOLE


def is_finite(value: object) -> bool:
    """Whether this is a number, and one that a float can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # an integer may be too large for math.isfinite


def _is_value(value: object) -> bool:
    """Whether this is a single value; a number may be NaN or Inf, but not too large for a float."""
    if isinstance(value, int):
        return abs(value) <= MOST_WHOLE
    return value is None or isinstance(value, str | float)


TEXT = Kind("text", lambda value: isinstance(value, str))
WHOLE = Kind("a whole number from 0", _is_whole)
NUMBER = Kind("a finite number", is_finite)
TRUTH = Kind("true or false", lambda value: isinstance(value, bool))
TABLE = Kind("a table", lambda value: isinstance(value, dict))
VALUE = Kind("text, a number or a truth", _is_value)


def or_none(kind: Kind) -> Kind:
    """A value of a kind, or null."""
    return Kind(f"{kind.words}, or null", lambda value: value is None or kind.fits(value))


def list_of(kind: Kind) -> Kind:
    """A list of values of a kind."""

    def fits(value: object) -> bool:
        return isinstance(value, list) and all(map(kind.fits, value))

    return Kind(f"a list; each of it: {kind.words}", fits)


def table_of(kind: Kind) -> Kind:
    """A table of any names with values of a kind."""

    def fits(value: object) -> bool:
        return isinstance(value, dict) and all(map(kind.fits, value.values()))

    return Kind(f"a table; each of it: {kind.words}", fits)


def table_with(needed: Mapping[str, Kind], further: Mapping[str, Kind] | None = None) -> Kind:
    """A table with certain fields; see ``check``."""

    def fits(value: object) -> bool:
        try:
            check(value, needed, further)
        except Unreadable:
            return False
        return True

    return Kind(f"a table with {', '.join(needed)}", fits)


def check(
    found: object, needed: Mapping[str, Kind], further: Mapping[str, Kind] | None = None
) -> dict[str, Any]:
    """What was read, which has these fields.

    Parameters
    ----------
    found
        What a file says.
    needed
        Fields that it must have, and of what kind.
    further
        Fields that it may have. All others are passed over.

    Raises
    ------
    Unreadable
        Naming the first field that is missing or of another kind.
    """
    if not isinstance(found, dict):
        raise Unreadable(f"is {shorten(found)}, expected a table")
    for name, kind in {**needed, **(further or {})}.items():
        if name not in found:
            if name in needed:
                raise Unreadable(f"field {name!r} is missing, expected {kind.words}")
        elif not kind.fits(found[name]):
            raise Unreadable(f"field {name!r} is {shorten(found[name])}, expected {kind.words}")
    return found


def shorten(value: object) -> str:
    """A value as a few characters of one line."""
    return f"{reprlib.repr(value):.60}"


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """All of a file.

    Raises
    ------
    FileNotFoundError
        Where there is none.
    Unreadable
        For what is no file, cannot be read or is larger.
    """
    with open_file(path) as file:
        try:
            data = file.read(most_bytes + 1)
        except OSError as error:
            raise Unreadable(f"cannot be read ({error.strerror or error})") from None
    if len(data) > most_bytes:
        raise Unreadable(f"has more than {most_bytes / 2**20:g} MiB")
    return data


def read_lines(path: Path) -> Generator[bytes, None, None]:
    """The lines of a file, one at a time; the last of a killed process may lack its end.

    Raises
    ------
    FileNotFoundError
        Where there is none.
    Unreadable
        For what is no file or cannot be read, and for a line of more than ``MOST_LINE_BYTES``.
    """
    with open_file(path) as file:
        while True:
            try:
                line = file.readline(MOST_LINE_BYTES + 1)
            except OSError as error:
                raise Unreadable(f"cannot be read ({error.strerror or error})") from None
            if len(line) > MOST_LINE_BYTES:
                raise Unreadable(f"has a line of more than {MOST_LINE_BYTES / 2**20:g} MiB")
            if not line:
                return
            yield line


def is_cut_off(head: bytes) -> bool:
    """Whether this may be the first line, a table, as a process left it that was killed over it."""
    return head.startswith(b"{") and not head.endswith(b"\n")


def open_file(path: Path) -> IO[bytes]:
    """A file to read, and nothing else: a pipe would never end.

    Raises
    ------
    FileNotFoundError
        Where there is none.
    Unreadable
        For a folder, a pipe, a device, and what may not be read.
    """
    try:
        return open_regular(path)
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:  # nor is there any
        raise FileNotFoundError(*error.args) from None
    except NoFileError as error:
        raise Unreadable(str(error.strerror).removeprefix("it ")) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Unreadable(f"cannot be opened ({reason})") from None


def parse_json(data: bytes) -> Any:
    """What JSON says, of bounded depth.

    Raises
    ------
    Unreadable
        For anything else, and a number of thousands of digits.
    """
    try:
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is no JSON ({_reason(error)})") from None
    _check_depth(found)
    return found


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """What a JSON file says; raises as ``read_bytes`` and ``parse_json``."""
    return parse_json(read_bytes(path, most_bytes))


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises
    ------
    FileNotFoundError
        Where there is none.
    Unreadable
        Where it cannot be read, or has more keys than any settings.
    """
    data = read_bytes(path, MOST_TOML_BYTES)
    keys = data.count(b"=") + sum(1 for _ in _TABLE.finditer(data))
    marks = sum(map(data.count, (b",", b"[", b"{", b"\n")))
    if keys > max(TOML_KEYS, len(data) // TOML_BYTES_PER_KEY):
        raise Unreadable(f"has about {keys:,} keys, which are no settings")
    if marks > max(TOML_MARKS, len(data) // TOML_BYTES_PER_MARK):
        raise Unreadable(f"has about {marks:,} lines and values, which are no settings")
    try:
        text = data.decode("utf-8")
        if _LONG_KEY.search(text):
            raise Unreadable("has a key or a number too long for any setting")
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is no TOML ({_reason(error)})") from None
    _check_depth(found)
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "too deep"
    return " ".join(str(error).split())[:200]


def _check_depth(found: object) -> None:
    """Unreadable for lists and tables that lie too deep within each other."""
    level = [found]
    for _ in range(MOST_DEPTH):
        below: list[object] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
            elif isinstance(one, list):
                below += one
        if not below:
            return
        level = below
    if any(isinstance(one, dict | list) for one in level):
        raise Unreadable(f"holds lists or tables more than {MOST_DEPTH} deep")
