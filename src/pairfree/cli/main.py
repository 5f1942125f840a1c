"""The command line: verbs and exit codes; no logic.

Exit codes: 0 ok, 1 verify found a loss, 2 user error, 3 diverged, 4 busy, 130 stopped by a signal, 141 nobody
reads the output.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from typing import Annotated, Any, TextIO

import typer

from pairfree.cli import denoise, judge, others, train
from pairfree.cli.options import spell_flags, verb
from pairfree.cli.start import STOPPED, interruptible
from pairfree.cli.terminal import TrainCommand, err, out
from pairfree.errors import PairfreeError
from pairfree.plain import one_line
from pairfree.version import __version__

OUTPUT_CLOSED = 141
PRINTERS = ("rich.", "typer.")
_STOPPED = "stopped; files that were finished stand, none is half-written"
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train an image denoiser without clean/noisy pairs.",
)
app.command(cls=TrainCommand)(verb(train.train))
for work in (
    denoise.denoise,
    judge.diagnose,
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
    """Run the command: one line for what went wrong, and its exit code."""
    try:
        with interruptible():
            _run()
    except KeyboardInterrupt:
        fail(_STOPPED, STOPPED)


def _run() -> None:
    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = call_app()
        if code == STOPPED:  # typer turns Ctrl-C into that
            fail(_STOPPED, code)
        if isinstance(code, int) and code:
            sys.exit(code)
    except PairfreeError as error:
        fail(str(error), error.exit_code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except typer.Abort:
        fail(_STOPPED, STOPPED)
    except Exception as error:  # click's usage errors carry their own words and code
        if hasattr(error, "format_message"):
            fail(error.format_message(), getattr(error, "exit_code", 2))
        if isinstance(error, OSError) and _is_of_printing(error):
            _let_go(sys.stdout)
            reason = error.strerror or type(error).__name__
            fail(f"the output cannot be written ({reason}); send it elsewhere", 2)
        raise


def _is_of_printing(error: OSError) -> bool:
    """Whether it was raised by one of the packages that print for us."""
    last = list(traceback.walk_tb(error.__traceback__))[-1][0]
    return str(last.f_globals.get("__name__")).startswith(PRINTERS)


def _let_go(stream: TextIO) -> None:
    """What a stream still holds goes nowhere, or Python would try to print it when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


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
    try:
        err.print(f"pairfree: {words}", style="red")
    except OSError:  # nobody can be told; the exit code tells
        _let_go(sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
