"""The command line: verbs and exit codes; no logic.

Exit codes: 0 ok, 1 verify found a loss, 2 user error, 3 diverged, 4 busy, 130 stopped by a signal, 141 nobody
reads the output.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import Annotated, Any

import typer

from pairfree.cli import denoise, judge, others, train
from pairfree.cli.options import spell_flags, verb
from pairfree.cli.terminal import TrainCommand, err, out
from pairfree.errors import PairfreeError
from pairfree.plain import one_line
from pairfree.version import __version__

OUTPUT_CLOSED = 141
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train an image denoiser without clean/noisy pairs.",
)
app.command(cls=TrainCommand)(verb(train.train))
for work in (
    denoise.denoise,
    judge.evaluate,
    judge.verify,
    others.simulate,
    others.info,
    others.demo,
    others.bench,
):
    app.command()(verb(work))


def print_version(asked: bool) -> None:
    """Print the version and stop, where it is asked for."""
    if asked:
        out.print(f"pairfree {__version__}")
        raise typer.Exit()


@app.callback()
def before_any_verb(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and stop.", callback=print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Train an image denoiser without clean/noisy pairs."""


def main() -> None:
    """Entry point: one line for what went wrong, and its exit code."""
    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = call_app()
        if code == 130:  # typer turns Ctrl-C into that
            fail("stopped; files that were finished stand, none is half-written", code)
        if isinstance(code, int) and code:
            sys.exit(code)
    except PairfreeError as error:
        fail(str(error), error.exit_code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except typer.Abort:
        fail("stopped", 130)
    except Exception as error:  # click's usage errors carry their own words and code
        if hasattr(error, "format_message"):
            fail(error.format_message(), getattr(error, "exit_code", 2))
        raise


def call_app() -> Any:
    """Run the verb that was asked for; what it returns is the exit code, if it is a number."""
    try:
        return app(standalone_mode=False)
    except SystemExit as done:
        # click ends so where nobody reads the output any more (| head): that is no loss that verify found
        if done.code == 1:
            sys.exit(OUTPUT_CLOSED)
        raise


def log_failure(words: str) -> None:
    """Write what went wrong into the log file, where there is one."""
    record = logging.LogRecord("pairfree", logging.ERROR, "", 0, words, None, None)
    for handler in logging.getLogger("pairfree").handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def fail(message: str, code: int) -> None:
    """Say what went wrong, in one line, and stop with an exit code."""
    words = one_line(" ".join(spell_flags(message).split()))
    log_failure(words)
    err.print(f"pairfree: {words}", style="red")
    sys.exit(code)


if __name__ == "__main__":
    main()
