"""Errors that reach the user as one line: what, where, expected against found, what to do next.

The command line maps each class to an exit code: ``PairfreeError`` and its children 2, ``DivergedError`` 3,
``BusyError`` 4.
"""

from __future__ import annotations

from pairfree.plain import one_line


class PairfreeError(Exception):
    """Root of every error that pairfree raises on purpose."""

    exit_code = 2

    def __str__(self) -> str:
        """Its words in one line, whatever names and metadata they hold."""
        return one_line(super().__str__())


class InputError(PairfreeError):
    """A file, folder or array that cannot be used as it is."""


class NoImageError(InputError):
    """A file that is what it says, and holds no image: a report among the images of a study."""


class ConfigError(PairfreeError):
    """An option, key or combination of options that does not exist or make sense."""


class MissingPackageError(ConfigError):
    """What was asked for needs an optional package that is not installed."""


class CheckpointError(PairfreeError):
    """A checkpoint or run folder that is damaged, incomplete or from another version."""


class OutputError(PairfreeError):
    """An output that cannot be written where or how it was asked for."""


class BusyError(PairfreeError):
    """The run folder is in use by another live process."""

    exit_code = 4


class DivergedError(PairfreeError):
    """A loss or gradient became non-finite; the weights were left as they were before the step."""

    exit_code = 3
