"""What the command line needs beside its verbs.

Consoles, a progress bar, options that take several values, JSON.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from typer.core import TyperCommand

from pairfree.errors import OutputError
from pairfree.plain import one_line


class PlainConsole(Console):
    """A terminal that shows words as they are, also those of names and metadata.

    There is no markup; what would steer the terminal or break the line is spelled out.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Words, and cells and titles of tables, as rich shows them."""
        return super().render_str(one_line(text), **options)

    def print_lines(self, text: str) -> None:
        """Print a text of several lines that we laid out."""
        for line in text.removesuffix("\n").split("\n"):
            self.print(line)


out = PlainConsole()
err = PlainConsole(stderr=True)


def follows() -> bool:
    """Whether torchrun started this process beside a first one, which does the talking."""
    return bool(os.environ.get("MASTER_ADDR")) and os.environ.get("RANK", "0") != "0"


@contextmanager
def progress(what: str) -> Iterator[Any]:
    """A function (done, total, words) that draws a bar on a terminal and nothing elsewhere.

    None leaves a number as it is.
    """
    if not err.is_terminal or follows():
        yield lambda done, total, words: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}", markup=False),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=None, words="")

        def move(done: float | None, total: float | None, words: str) -> None:
            bar.update(task, completed=done, total=total, words=one_line(words))

        yield move


class TrainCommand(TyperCommand):
    """``train NOISY... --clean A B C``.

    All that follows --clean up to the next option is clean, where noisy files were named before.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line, --clean before each clean file."""
        flags = ["--help"]
        for parameter in self.params:
            if getattr(parameter, "is_flag", False):
                flags += parameter.opts
        return super().parse_args(ctx, several(args, "--clean", flags))


def several(arguments: list[str], option: str, flags: Collection[str] = ()) -> list[str]:
    """``option A B`` as ``option A option B``, wherever an argument stands before it.

    ``flags`` are the options that take no value.
    """
    found: list[str] = []
    named, under, value = False, False, False
    for argument in arguments:
        if argument.startswith("-") and not value:
            under = argument == option
            value = argument not in flags and "=" not in argument
        else:
            if under and not value:
                found += [option] if named else []
            named = named or not (value or under)
            value = False
        found.append(argument)
    return found


def nulls(value: Any) -> Any:
    """NaN and Inf are no JSON: null in their place."""
    if isinstance(value, dict):
        return {key: nulls(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [nulls(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_json(path: Path | None) -> None:
    """Refuse, before any work, a folder, and to replace a file that is no JSON, such as an image.

    Raises
    ------
    OutputError
        Naming it.
    """
    if path is not None and path.is_dir():
        raise OutputError(f"{path} is a folder; name a file for `json`")
    if path is not None and path.is_file() and path.suffix.lower() != ".json":
        raise OutputError(f"{path} exists and is no .json file; name another file for `json`")


def write_json(path: Path, value: Any) -> None:
    """Write numbers and words as JSON: into a file, whole or not at all, or into a pipe or device.

    Raises
    ------
    OutputError
        Where it cannot be written.
    """
    from pairfree.files.atomic import output_error, write_text

    text = json.dumps(nulls(value), indent=1, allow_nan=False) + "\n"
    if path.is_dir() or path.is_file() or not path.exists():
        write_text(path, text, overwrite=True)
        return
    try:
        with path.open("w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise output_error(error, path) from None
