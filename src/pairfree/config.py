"""Settings: frozen dataclasses whose fields explain themselves, strict TOML in and out, "did you mean"."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import math
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, TypeVar

from pairfree import facts
from pairfree.errors import ConfigError, InputError
from pairfree.marks import architecture as architecture
from pairfree.marks import architecture_settings as architecture_settings
from pairfree.marks import most_of
from pairfree.plain import quote_toml

T = TypeVar("T")
Work = TypeVar("Work", bound=Callable[..., Any])
OPTION = "option"
"""Key of a field's metadata: how it is said on the command line."""


@dataclasses.dataclass(frozen=True)
class Option:
    """How a field is said on the command line."""

    kind: Any
    """Its type there."""

    flag: str = ""
    """Its name there; "" is the field's own, with dashes."""

    argument: bool = False
    """Whether it stands without a name."""

    required: bool = False
    """Whether it must be said."""

    read: Callable[[Any], Any] | None = None
    """Makes the field's value of what was said."""

    asked_default: Any = None
    """What the command line takes where nothing was said; None leaves the field's default."""

    toml: tuple[type, ...] = ()
    """Its types in a TOML file; () where it does not stand in one."""

    fixed: bool = False
    """Whether what has begun cannot be gone on with under another value."""


def option(  # noqa: PLR0913 - a declaration, by name
    default: Any,
    kind: Any,
    flag: str = "",
    *,
    argument: bool = False,
    required: bool = False,
    read: Callable[[Any], Any] | None = None,
    asked_default: Any = None,
    toml: tuple[type, ...] = (),
    fixed: bool = False,
) -> Any:
    """A field of a dataclass that stands on the command line; see ``Option``."""
    said = Option(kind, flag, argument, required, read, asked_default, toml, fixed)
    return dataclasses.field(default=default, metadata={OPTION: said})


@cache
def options_of(owner: type) -> dict[str, Option]:
    """How the fields of a dataclass are said on the command line, those that are, in order."""
    return {
        one.name: one.metadata[OPTION]
        for one in dataclasses.fields(owner)
        if OPTION in one.metadata
    }


@cache
def field_docs(owner: type) -> dict[str, str]:
    """What stands beneath each field of a dataclass, by the field's name, in order; "" where nothing does."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if dataclasses.is_dataclass(base):
            found |= _docs_in_source(base)
    return {field.name: found.get(field.name, "") for field in dataclasses.fields(owner)}


def with_fields_of(owner: type, *first: str) -> Callable[[Work], Work]:
    """A function that takes the fields of a dataclass as arguments.

    Its signature and its docstring list them.

    Parameters
    ----------
    owner
        The dataclass.
    *first
        The fields that may be given without a name.
    """

    def listed(work: Work) -> Work:
        own = inspect.signature(work).parameters.values()
        parameters = [
            _as_parameter(field, field.name in first) for field in dataclasses.fields(owner)
        ]
        parameters += [one for one in own if one.kind is one.KEYWORD_ONLY]
        parameters.sort(key=lambda one: one.kind)
        work.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        lines = []
        for name, words in field_docs(owner).items():
            lines += [name, *(f"    {line}".rstrip() for line in words.splitlines())]
        listing = textwrap.indent("\n".join(lines), "    ").lstrip()
        work.__doc__ = (work.__doc__ or "").replace("{fields}", listing)
        return work

    return listed


def _as_parameter(field: dataclasses.Field[Any], by_place: bool) -> inspect.Parameter:
    """A field as an argument of a function."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if by_place else inspect.Parameter.KEYWORD_ONLY
    said = field.metadata.get(OPTION)
    default = inspect.Parameter.empty if said is not None and said.required else field.default
    return inspect.Parameter(field.name, kind, default=default, annotation=field.type)


def check_names(owner: type, given: Iterable[str], what: str) -> None:
    """ConfigError for names that are no fields of a dataclass, with a suggestion."""
    names = field_docs(owner)
    unknown = [
        f"no option {name!r}{did_you_mean(name, names)}" for name in given if name not in names
    ]
    if unknown:
        raise ConfigError(f"{what}: " + " | ".join(unknown))


def read_arguments(owner: type, given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """What Python was given for fields of a dataclass, as their values.

    Words are read as on the command line: a size may be "2GB", settings a list of "KEY=VALUE".

    Parameters
    ----------
    owner
        The dataclass.
    given
        Values by name; None means not given.
    what
        Whose arguments they are, for messages.

    Returns
    -------
    dict
        Those that were given.

    Raises
    ------
    ConfigError
        For names that are no fields, with a suggestion, and for values of a wrong type.
    """
    check_names(owner, given, what)
    found = {}
    problems = []
    for name, value in given.items():
        if value is None:
            continue
        try:
            found[name] = _read_argument(options_of(owner).get(name), value)
        except ValueError as error:
            problems.append(f"`{name}` = {facts.shorten(value)}: {error}")
    if problems:
        raise ConfigError(f"{what}: " + " | ".join(problems))
    return found


def _read_argument(said: Option | None, value: Any) -> Any:
    """One value; ValueError says what was expected instead."""
    if said is None:
        return value
    if said.read is not None and isinstance(value, str | list | tuple):
        words = [value] if said.kind == list[str] and isinstance(value, str) else value
        return said.read(words)
    for kind, takes, expected in KINDS_OF_ARGUMENTS:
        right = isinstance(value, takes) and (kind is bool or not isinstance(value, bool))
        if said.kind is kind and not right:
            raise ValueError(f"expected {expected}")
    if isinstance(value, Integral) and not _is_short(value):
        raise ValueError(f"expected {SHORT}")
    return value


KINDS_OF_ARGUMENTS: list[tuple[type, type | tuple[type, ...], str]] = [
    (int, Integral, "a whole number"),
    (float, Real, "a number"),
    (bool, bool, "True or False"),
]
"""What an option of a kind takes from Python, and its words."""


SHORT = "a whole number of less than 2^63"


def _is_short(value: Any) -> bool:
    """Whether a whole number is one that all programs can hold."""
    return bool(abs(value) <= facts.MOST_WHOLE)


def _docs_in_source(owner: type) -> dict[str, str]:
    """Strings beneath the fields that ``owner`` itself declares; nothing where its source is not at hand."""
    try:
        source = textwrap.dedent(inspect.getsource(owner))
    except OSError:
        return {}
    (declared,) = ast.parse(source).body
    found = {}
    body = getattr(declared, "body", [])
    for statement, following in pairwise(body):
        is_field = isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if (
            is_field
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            found[statement.target.id] = inspect.cleandoc(str(following.value.value))
    return found


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or the list of what there is."""
    names = sorted(known)
    close = find_closest(wrong, names, cutoff=0.5)
    return f"; there are: {', '.join(names)}" if close is None else f"; did you mean {close!r}?"


def find_closest(wrong: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like a wrong one; None where none is alike.

    Parameters
    ----------
    cutoff
        Least likeness, 0 to 1, as ``difflib.SequenceMatcher`` measures it.
    """
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=cutoff)
    return close[0] if close else None


def choose(name: str, table: Mapping[str, T], what: str) -> T:
    """``table[name]``, or ConfigError with a suggestion."""
    if name not in table:
        raise ConfigError(f"no {what} named {name!r}{did_you_mean(name, table)}")
    return table[name]


def updated(base: T, changes: Mapping[str, Any], where: str) -> T:
    """A copy of the dataclass ``base`` with ``changes``.

    Unknown keys and wrong types are refused, all in one message.
    """
    fields = typing.get_type_hints(type(base))
    names = {field.name for field in dataclasses.fields(base)}  # type: ignore[arg-type]
    problems, values = [], {}
    for key, value in changes.items():
        if key not in names:
            problems.append(f"unknown key {key!r:.60}{did_you_mean(key, names)}")
            continue
        try:
            values[key] = _coerced(value, fields[key])
            _check_most(values[key], most_of(type(base), key))
        except ValueError as error:
            problems.append(f"{key} = {facts.shorten(value)}: {error}")
    if problems:
        raise ConfigError(f"{where}: " + " | ".join(problems))
    return dataclasses.replace(base, **values)  # type: ignore[type-var]


def _check_most(value: Any, most: float) -> None:
    """ValueError for a whole number beyond its bound."""
    if isinstance(value, int) and abs(value) > most:
        raise ValueError(f"expected at most {most}")


def _coerced(value: Any, kind: Any) -> Any:
    """``value`` as ``kind``; strings (from --set) are parsed, numbers never change kind silently.

    A whole number is taken where a fraction is expected.
    """
    if isinstance(kind, types.UnionType):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        kind = next(option for option in options if option is not type(None))
    if kind is str:
        return _as_text(value)
    if kind is bool:
        return _as_truth(value)
    return _as_number(value, kind)


def _as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def _as_truth(value: Any) -> bool:
    options = {"true": True, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in options:
        return options[value.lower()]
    raise ValueError("expected true or false")


def _as_number(value: Any, kind: type) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            "expected a whole number" if kind is int else "expected a number"
        ) from None
    if kind is int and isinstance(value, float) and value != number:
        raise ValueError("expected a whole number")
    if kind is int and not _is_short(number):
        raise ValueError(f"expected {SHORT}")
    if kind is float and not math.isfinite(number):
        raise ValueError("expected a finite number")
    return number


def parse_bytes(text: str) -> float:
    """Bytes that are meant by "2GB", "500 MB", "1.5GiB" or a plain number."""
    units = {"": 1.0, "b": 1.0}
    for power, letter in enumerate("kmgt", start=1):
        units |= {f"{letter}b": 1e3**power, f"{letter}ib": 1024.0**power}
    number = text.strip().lower().rstrip("bgikmt ")
    unit = text.strip().lower()[len(number) :].strip()
    try:
        value = float(number) * units[unit]
    except (ValueError, KeyError):
        raise InputError(f"`max_bytes` {text!r}: expected a size such as 2GB or 500MiB") from None
    if not 0 < value < math.inf:
        raise InputError(f"`max_bytes` {text!r}: must be positive and finite")
    return value


def parse_set(pairs: Iterable[str]) -> dict[str, str]:
    """``["lr=1e-3", ...]`` -> mapping; values stay text until the field's type is known."""
    found = {}
    for pair in pairs:
        key, mark, value = pair.partition("=")
        if not mark or not key.strip():
            raise ConfigError(
                f"`settings` {pair!r}: expected KEY=VALUE, for example `settings` lr=0.001"
            )
        found[key.strip()] = value.strip()
    return found


def to_toml(values: Mapping[str, Any]) -> str:
    """TOML text of plain values and one level of tables; ``tomllib`` reads back the same mapping.

    None is left out.
    """
    lines = [
        f"{key} = {_toml_value(value)}"
        for key, value in values.items()
        if not isinstance(value, Mapping) and value is not None
    ]
    for key, table in values.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{key}]"] + [
                f"{name} = {_toml_value(value)}"
                for name, value in table.items()
                if value is not None
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
    return quote_toml(str(value))
