"""What a caller may name as inputs: files, folders and patterns, one or several."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from pairfree.errors import InputError

_EXPECTED = "give names of files and folders; train also takes arrays alone, a model's denoise one"


def named_inputs(inputs: Any) -> list[Any]:
    """What was given in Python, one name or several, as a list.

    Raises
    ------
    InputError
        For what is neither a name nor several of something, such as a number.
    """
    if isinstance(inputs, str | os.PathLike):
        return [inputs]
    if not isinstance(inputs, Iterable):
        raise _refusal(inputs)
    return list(inputs)


def check_name(one: object) -> None:
    """InputError for what is no name, and for an empty one, which would be the current folder."""
    if not isinstance(one, str | os.PathLike):
        raise _refusal(one)
    if one == "":
        raise InputError("an input has an empty name; name the folder, such as .")


def _refusal(given: object) -> InputError:
    return InputError(f"an input is of type {type(given).__name__}; {_EXPECTED}")
