"""Fields of a dataclass as options of a verb, and the options that every verb has."""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from pairfree.cli.terminal import err
from pairfree.config import Option, field_docs, options_of
from pairfree.errors import ConfigError, OutputError
from pairfree.plain import NOTE

Inputs = Annotated[list[str], typer.Argument(help="Files, folders or globs.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(help="Everything random follows from it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]

EVERYWHERE = {
    "quiet": Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but errors and results.")
    ],
    "verbose": Annotated[
        bool, typer.Option("--verbose", "-v", help="Say what is done on the way.")
    ],
    "log_file": Annotated[
        Path | None,
        typer.Option(
            help="Write all messages there too, with their times.",
            show_default=False,
        ),
    ],
}
"""Options of every verb, and nothing that a verb must know of."""
DEFAULTS: dict[str, Any] = {"quiet": False, "verbose": False, "log_file": None}


def verb(work: Callable[..., None]) -> Callable[..., None]:
    """``work`` with the options of every verb: what is said on the way is set up before it begins."""

    @functools.wraps(work)
    def with_messages(*, quiet: bool, verbose: bool, log_file: Path | None, **given: Any) -> None:
        set_messages(quiet, verbose, log_file)
        work(**given)

    parameters = _parameters(work)
    for name, kind in EVERYWHERE.items():
        parameters.append(_by_name(name, kind, DEFAULTS[name]))
    _set_signature(with_messages, parameters)
    return with_messages


def ordered(declared: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A verb whose first argument is a mapping of what was given of the fields of ``declared``."""

    def with_fields(work: Callable[..., None]) -> Callable[..., None]:
        options = options_of(declared)

        @functools.wraps(work)
        def with_given(**said: Any) -> None:
            given = {}
            for name, asked in options.items():
                given[name] = read_option(asked, said.pop(name))
            work(given, **said)

        fields = [as_parameter(declared, name) for name in options]
        _, *own = _parameters(work)
        _set_signature(with_given, [*fields, *own])
        return with_given

    return with_fields


def as_parameter(declared: type, name: str) -> inspect.Parameter:
    """A field as a parameter that the command line understands.

    What is not said is None, or False of a flag.
    """
    asked = options_of(declared)[name]
    words = help_of(field_docs(declared)[name])
    flags = {other: flag_of(other, one) for other, one in options_of(declared).items()}
    words = _spell(words, flags)
    kind = asked.kind
    default = asked.asked_default
    if asked.required:
        default = inspect.Parameter.empty
    elif kind is bool:
        default = False
    elif default is None:
        kind = kind | None
    if asked.argument:
        said: Any = typer.Argument(help=words, metavar=name.upper(), show_default=False)
    else:
        said = typer.Option(flag_of(name, asked), help=words)
    return _by_name(name, Annotated[kind, said], default)


def help_of(words: str) -> str:
    """What stands beneath a field, without what is for Python alone, as one line."""
    for_all, _, _ = words.partition("\n\nFrom Python")
    return " ".join(for_all.split())


def flag_of(name: str, asked: Option) -> str:
    """What a field is called on the command line."""
    return asked.flag or _dashed(name)


def _dashed(name: str) -> str:
    """The flag of a name that says nothing else."""
    return "--" + name.replace("_", "-")


FLAGS: dict[str, str] = {}
"""What the options of all verbs are called on the command line, by their names in Python.

Filled as verbs are declared.
"""
OTHER_NAMES = {"out_dir": "out", "json_path": "json"}
"""Parameters of verbs that Python calls something else."""


def note_flags(parameters: Sequence[inspect.Parameter]) -> None:
    """Remember what a verb's options are called."""
    for one in parameters:
        said = one.annotation.__metadata__[0]
        if isinstance(said, OptionInfo):
            name = OTHER_NAMES.get(one.name, one.name.rstrip("_"))
            FLAGS.setdefault(name, _declared_flag(said) or _dashed(one.name))


def _declared_flag(said: OptionInfo) -> str:
    """The first flag that an option declares; "" where it takes its name's."""
    for word in (said.default, *(said.param_decls or ())):
        if isinstance(word, str):
            return word
    return ""


def spell_flags(message: str) -> str:
    """A message of the library in words of the command line.

    The library names options as Python does, `max_bytes`; there it is --max-memory.
    """
    return _spell(message, FLAGS)


def _spell(words: str, flags: Mapping[str, str]) -> str:
    """Words whose names in backticks are flags, where there are such."""
    return re.sub("`([a-z_]+)`", lambda name: flags.get(name[1], name[0]), words)


def read_option(asked: Option, value: Any) -> Any:
    """What was said as the field's value; None where nothing was."""
    if value is None or value is False or value == []:
        return None
    return value if asked.read is None else asked.read(value)


class Written(logging.Formatter):
    """Messages as lines of a log file, in words of the command line too."""

    def format(self, record: logging.LogRecord) -> str:
        """One message with its time and level."""
        return spell_flags(super().format(record))


class Words(logging.Handler):
    """Messages as lines on the terminal, warnings marked as such."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        mark = ""
        if record.levelno >= NOTE:
            mark = f"{record.levelname.lower()}: "
        words = spell_flags(record.getMessage())
        err.print(f"{mark}{words}")


def set_messages(quiet: bool, verbose: bool, log_file: Path | None) -> None:
    """What of the library's messages is shown, and where else they go."""
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose exclude each other")
    say = logging.getLogger("pairfree")
    for handler in say.handlers[:]:
        say.removeHandler(handler)
        handler.close()
    level = NOTE
    if quiet:
        level = logging.ERROR
    elif verbose:
        level = logging.INFO
    say.addHandler(Words(level))
    keeps_all = verbose or log_file is not None
    say.setLevel(logging.INFO if keeps_all else NOTE)
    if log_file is None:
        return
    try:
        written = logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(
            f"--log-file {log_file}: cannot be written ({error.strerror}); name another place"
        ) from None
    written.setFormatter(Written("%(asctime)s %(levelname)s %(message)s"))
    say.addHandler(written)


def _parameters(work: Callable[..., None]) -> list[inspect.Parameter]:
    """Of a function, keyword-only and with its annotations evaluated."""
    signature = inspect.signature(work, eval_str=True)
    by_name = inspect.Parameter.KEYWORD_ONLY
    return [one.replace(kind=by_name) for one in signature.parameters.values()]


def _by_name(name: str, kind: Any, default: Any) -> inspect.Parameter:
    """A parameter that is given by its name."""
    by_name = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, by_name, default=default, annotation=kind)


def _set_signature(work: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """What typer reads of a function."""
    note_flags(parameters)
    work.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    work.__annotations__ = {one.name: one.annotation for one in parameters}
    del work.__wrapped__  # type: ignore[attr-defined]
