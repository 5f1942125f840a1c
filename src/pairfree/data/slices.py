"""2.5-D: a network sees a slice of a stack with those around it, and its own comes back.

They are the channels of one image.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from pairfree.errors import InputError
from pairfree.files.image import Image

AXES = "ZTQ"
"""What slices may follow each other along, in order of preference."""
Read = Callable[[tuple[int, ...]], np.ndarray]
"""Index of a slice -> (1, h, w)."""


def stack_axis(image: Image, around: int, label: str) -> int:
    """Which of the axes in front of Y the slices follow.

    Parameters
    ----------
    image
        A grey stack.
    around
        Slices that are needed on each side.
    label
        What the image is called in messages.

    Raises
    ------
    InputError
        For colour, and where no axis is longer than ``around``.
    """
    if image.colours != 1:
        raise InputError(
            f"{label}: has {image.colours} colours; slices are put together of grey stacks only"
        )
    axis = _preferred_axis(image)
    if axis is None or image.leading[axis] <= around:
        sizes = ", ".join(f"{letter} {n}" for letter, n in zip(image.axes, image.leading))
        needed = f"a stack of more than {around} slices along {' or '.join(AXES)}"
        raise InputError(
            f"{label}: is not {needed} (it has {sizes or 'a single plane'}); leave it out, or use fewer "
            "slices around"
        )
    return axis


def _preferred_axis(image: Image) -> int | None:
    """The last axis of the first letter of ``AXES`` that the image has; None where it has none."""
    leading = image.axes[: len(image.leading)]
    for letter in AXES:
        if letter in leading:
            return leading.rindex(letter)
    return None


def stack_slices(
    read: Read, image: Image, index: tuple[int, ...], axis: int, around: int
) -> np.ndarray:
    """A slice with those around it, as channels; beyond the ends of the stack it is mirrored.

    Parameters
    ----------
    read
        Index -> (1, h, w).
    image
        The stack.
    index
        Of the slice in the middle.
    axis
        Along which the slices follow each other.
    around
        Slices on each side.

    Returns
    -------
    ndarray
        (2 around + 1, h, w).
    """
    last = image.leading[axis] - 1
    slices = []
    for step in range(-around, around + 1):
        place = last - abs(last - abs(index[axis] + step))
        slices.append(read((*index[:axis], place, *index[axis + 1 :])))
    return np.concatenate(slices)


def inner_slices(image: Image, axis: int, around: int) -> Iterator[tuple[int, ...]]:
    """Planes whose neighbours are all in the stack.

    A mirrored one shows its noise twice, and must not be trained on.
    """
    ranges = [range(size) for size in image.leading]
    ranges[axis] = range(around, image.leading[axis] - around)
    return itertools.product(*ranges)
