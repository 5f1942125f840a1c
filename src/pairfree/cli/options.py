"""Fields of a dataclass as options of a verb, and the options that every verb has."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from pairfree.cli.terminal import err
from pairfree.config import OPTION, Option, field_docs
from pairfree.errors import ConfigError, OutputError

Inputs = Annotated[list[str], typer.Argument(help="Files, folders or globs.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(help="Everything random follows from it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]

EVERYWHERE = {
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors and results.")],
    "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="Say what is done on the way.")],
    "log_file": Annotated[
        Path | None, typer.Option(help="Write all messages there too, with their times.", show_default=False)
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
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[name], annotation=kind)
        for name, kind in EVERYWHERE.items()
    ]
    _set_signature(with_messages, [*_parameters(work), *added])
    return with_messages


def ordered(declared: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A verb whose first argument is a mapping of what was given of the fields of ``declared``."""

    def with_fields(work: Callable[..., None]) -> Callable[..., None]:
        options = declared_options(declared)

        @functools.wraps(work)
        def with_given(**said: Any) -> None:
            given = {name: said.pop(name) for name in options}
            work({name: read_option(options[name], value) for name, value in given.items()}, **said)

        own = _parameters(work)[1:]
        _set_signature(with_given, [*(as_parameter(declared, name) for name in options), *own])
        return with_given

    return with_fields


def declared_options(declared: type) -> dict[str, Option]:
    """How the fields of a dataclass are said on the command line, those that are."""
    fields = dataclasses.fields(declared)
    return {field.name: field.metadata[OPTION] for field in fields if OPTION in field.metadata}


def as_parameter(declared: type, name: str) -> inspect.Parameter:
    """A field as a parameter that the command line understands; what is not said is None, or False of a flag."""
    asked = declared_options(declared)[name]
    words = " ".join(field_docs(declared)[name].split("\n\n")[0].split())
    kind, default = asked.kind, asked.asked_default
    if kind is bool:
        default = False
    elif default is None:
        kind = kind | None
    if asked.argument:
        said: Any = typer.Argument(help=words, metavar=f"{name.upper()}...", show_default=False)
    else:
        said = typer.Option(asked.flag or f"--{name.replace('_', '-')}", help=words)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, said]
    )


def read_option(asked: Option, value: Any) -> Any:
    """What was said as the field's value; None where nothing was."""
    if value is None or value is False or value == []:
        return None
    return value if asked.read is None else asked.read(value)


class Words(logging.Handler):
    """Messages as lines on the terminal, warnings marked as such."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        err.print(f"{mark}{record.getMessage()}", markup=False)


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
    written.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    say.addHandler(written)


def _parameters(work: Callable[..., None]) -> list[inspect.Parameter]:
    """Of a function, keyword-only and with its annotations evaluated."""
    signature = inspect.signature(work, eval_str=True)
    return [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values()]


def _set_signature(work: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """What typer reads of a function."""
    work.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    work.__annotations__ = {one.name: one.annotation for one in parameters}
    del work.__wrapped__  # type: ignore[attr-defined]
