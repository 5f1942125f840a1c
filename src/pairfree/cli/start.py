"""Where the command begins: before anything else is imported, signals end it in one line.

Imports take seconds, and a signal that comes meanwhile is no reason for a traceback.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

STOPPED = 130
"""Exit code where a signal ended the command, SIGINT or SIGTERM."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
IMPORT_SECONDS = 0.05
"""Between looks at whether a module is still being imported."""
PATIENCE_SECONDS = 5.0
"""Until a signal is raised again: the first time it may be lost in a finalizer."""


class Interrupted(KeyboardInterrupt):
    """By a signal. Of KeyboardInterrupt itself Python takes note, and ends with another exit code."""


def main() -> None:
    """Entry point of the command."""
    for number in SIGNALS:
        signal.signal(number, _leave)
    from pairfree.cli.main import main as run

    run()


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End at once: nothing is begun yet."""
    os.write(2, b"pairfree: stopped, nothing was begun\n")
    os._exit(STOPPED)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is just being imported: large ones break in odd ways where that is interrupted."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


class _Interrupter:
    """Handles signals: the first is raised, where that is safe; a second one ends the process at once."""

    def __init__(self) -> None:
        self._asked = False
        self._is_retry = False
        self._timer: threading.Timer | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._asked and not self._is_retry:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._asked, self._is_retry = True, False
        if _is_importing(frame):
            self._try_again(signal.Signals(number), IMPORT_SECONDS)
            return
        self._try_again(signal.Signals(number), PATIENCE_SECONDS)
        raise Interrupted

    def _try_again(self, number: signal.Signals, seconds: float) -> None:
        self.cancel()
        self._timer = threading.Timer(seconds, self._repeat, [number])
        self._timer.daemon = True
        self._timer.start()

    def _repeat(self, number: signal.Signals) -> None:
        self._is_retry = True
        if hasattr(signal, "pthread_kill"):  # wakes a thread that waits, too
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        else:
            signal.raise_signal(number)

    def cancel(self) -> None:
        """Forget what is still to be raised."""
        if self._timer is not None:
            self._timer.cancel()


@contextmanager
def interruptible() -> Iterator[None]:
    """A signal inside raises ``Interrupted``, so that what is half-written is removed.

    Outside the main thread signals are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupter = _Interrupter()
    kept = {number: signal.signal(number, interrupter) for number in SIGNALS}
    try:
        yield
    finally:
        interrupter.cancel()
        for number, handler in kept.items():
            # at the end of the process there is nothing left to say
            signal.signal(number, signal.SIG_DFL if handler is _leave else handler)
