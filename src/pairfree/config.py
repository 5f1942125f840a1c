"""Settings: frozen dataclasses, strict TOML in and out, "did you mean"."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pairfree.errors import ConfigError

T = TypeVar("T")


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(names)}"


def choose(name: str, table: Mapping[str, T], what: str) -> T:
    """``table[name]``, or ConfigError with a suggestion."""
    if name not in table:
        raise ConfigError(f"no {what} named {name!r}{did_you_mean(name, table)}")
    return table[name]


def updated(base: T, changes: Mapping[str, Any], where: str) -> T:
    """A copy of the dataclass ``base`` with ``changes``: unknown keys and wrong types are refused, all in one message."""
    fields = typing.get_type_hints(type(base))
    names = {field.name for field in dataclasses.fields(base)}  # type: ignore[arg-type]
    problems, values = [], {}
    for key, value in changes.items():
        if key not in names:
            problems.append(f"unknown key {key!r}{did_you_mean(key, names)}")
            continue
        try:
            values[key] = _coerced(value, fields[key])
        except ValueError as error:
            problems.append(f"{key} = {value!r}: {error}")
    if problems:
        raise ConfigError(f"{where}: " + " | ".join(problems))
    return dataclasses.replace(base, **values)  # type: ignore[type-var]


def _coerced(value: Any, kind: Any) -> Any:
    """``value`` as ``kind``; strings (from --set) are parsed, numbers never change kind silently except int -> float."""
    if isinstance(kind, types.UnionType):
        if value is None and type(None) in typing.get_args(kind):
            return None
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    if kind is str:
        if isinstance(value, str):
            return value
        raise ValueError("expected text")
    if kind is bool:
        options = {"true": True, "false": False}
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in options:
            return options[value.lower()]
        raise ValueError("expected true or false")
    if isinstance(value, bool):
        raise ValueError("expected a number")
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("expected " + ("a whole number" if kind is int else "a number")) from None
    if kind is int and isinstance(value, float) and value != number:
        raise ValueError("expected a whole number")
    if kind is float and not math.isfinite(number):
        raise ValueError("expected a finite number")
    return number


def parse_set(pairs: Iterable[str]) -> dict[str, str]:
    """``["lr=1e-3", ...]`` -> mapping; values stay text until the field's type is known."""
    found = {}
    for pair in pairs:
        key, mark, value = pair.partition("=")
        if not mark or not key.strip():
            raise ConfigError(f"--set {pair!r}: expected KEY=VALUE, for example --set lr=0.001")
        found[key.strip()] = value.strip()
    return found


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: not readable as TOML: {error}") from None


def to_toml(values: Mapping[str, Any]) -> str:
    """TOML text of plain values and one level of tables; ``tomllib`` reads back the same mapping. None is left out."""
    lines = [
        f"{key} = {_toml_value(value)}"
        for key, value in values.items()
        if not isinstance(value, Mapping) and value is not None
    ]
    for key, table in values.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{key}]"] + [
                f"{name} = {_toml_value(value)}" for name, value in table.items() if value is not None
            ]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # JSON's escapes are a subset of TOML's basic strings, except DEL, which JSON leaves raw; file names that are no text are spelled out
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
