"""Fields of a dataclass as options of a verb, and the options that every verb has."""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.models import OptionInfo

from pairfree.cli.terminal import err
from pairfree.config import Option, field_docs, options_of
from pairfree.errors import ConfigError, OutputError

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
        typer.Option(help="Write all messages there too, with their times.", show_default=False),
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

    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[name], annotation=kind
        )
        for name, kind in EVERYWHERE.items()
    ]
    _set_signature(with_messages, [*_parameters(work), *added])
    return with_messages


def ordered(declared: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A verb whose first argument is a mapping of what was given of the fields of ``declared``."""

    def with_fields(work: Callable[..., None]) -> Callable[..., None]:
        options = options_of(declared)

        @functools.wraps(work)
        def with_given(**said: Any) -> None:
            given = {name: said.pop(name) for name in options}
            work({name: read_option(options[name], value) for name, value in given.items()}, **said)

        own = _parameters(work)[1:]
        _set_signature(with_given, [*(as_parameter(declared, name) for name in options), *own])
        return with_given

    return with_fields


def as_parameter(declared: type, name: str) -> inspect.Parameter:
    """A field as a parameter that the command line understands.

    What is not said is None, or False of a flag.
    """
    asked = options_of(declared)[name]
    words = help_of(field_docs(declared)[name])
    flags = {other: flag_of(other, one) for other, one in options_of(declared).items()}
    words = re.sub("`([a-z_]+)`", lambda found: flags.get(found[1], found[0]), words)
    kind, default = asked.kind, asked.asked_default
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
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, said]
    )


def help_of(words: str) -> str:
    """What stands beneath a field, without what is for Python alone, as one line."""
    return " ".join(words.partition("\n\nFrom Python")[0].split())


def flag_of(name: str, asked: Option) -> str:
    """What a field is called on the command line."""
    return asked.flag or f"--{name.replace('_', '-')}"


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
            declared = [
                word for word in (said.default, *(said.param_decls or ())) if isinstance(word, str)
            ]
            name = OTHER_NAMES.get(one.name, one.name.rstrip("_"))
            FLAGS.setdefault(name, declared[0] if declared else f"--{one.name.replace('_', '-')}")


def spell_flags(message: str) -> str:
    """A message of the library, which names options as Python does, `max_bytes`, in words of the command
    line: --max-memory.
    """
    return re.sub("`([a-z_]+)`", lambda name: FLAGS.get(name[1], name[0]), message)


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
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        err.print(f"{mark}{spell_flags(record.getMessage())}", markup=False)


def set_messages(quiet: bool, verbose: bool, log_file: Path | None) -> None:
    """What of the library's messages is shown, and where else they go."""
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose exclude each other")
    say = logging.getLogger("pairfree")
    for handler in say.handlers[:]:
        say.removeHandler(handler)
        handler.close()
    shown = Words(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    say.addHandler(shown)
    say.setLevel(logging.INFO if verbose or log_file is not None else logging.WARNING)
    if log_file is None:
        return
    try:
        written = logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(
            f"--log-file {escape(str(log_file))}: cannot be written ({error.strerror}); name another place"
        ) from None
    written.setFormatter(Written("%(asctime)s %(levelname)s %(message)s"))
    say.addHandler(written)


def _parameters(work: Callable[..., None]) -> list[inspect.Parameter]:
    """Of a function, keyword-only and with its annotations evaluated."""
    signature = inspect.signature(work, eval_str=True)
    return [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values()
    ]


def _set_signature(work: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """What typer reads of a function."""
    note_flags(parameters)
    work.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    work.__annotations__ = {one.name: one.annotation for one in parameters}
    del work.__wrapped__  # type: ignore[attr-defined]
