"""2.5-D: a network sees a slice of a stack with those around it, as the channels of one image, and its own comes back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from pairfree.errors import InputError
from pairfree.files.image import Image

AXES = "ZTQ"
"""What slices may follow each other along, in order of preference."""
Read = Callable[[tuple[int, ...]], np.ndarray]


def stack_axis(image: Image, around: int, label: str) -> int:
    """Which of the axes in front of Y the slices follow. InputError for colour, and where no axis is longer than ``around``."""
    if image.colours != 1:
        raise InputError(f"{label}: has {image.colours} colours; slices are put together of grey stacks only")
    found = [
        place
        for letter in AXES
        for place, one in reversed(list(enumerate(image.axes[: len(image.leading)])))
        if one == letter
    ]
    if not found or image.leading[found[0]] <= around:
        sizes = ", ".join(f"{letter} {n}" for letter, n in zip(image.axes, image.leading)) or "a single plane"
        needed = f"a stack of more than {around} slices along {' or '.join(AXES)}"
        raise InputError(
            f"{label}: is not {needed} (it has {sizes}); leave it out, or use fewer slices around"
        )
    return found[0]


def together(read: Read, image: Image, index: tuple[int, ...], axis: int, around: int) -> np.ndarray:
    """(2 around + 1, h, w): the slice at ``index`` with ``around`` on each side; beyond the ends of the stack it is mirrored.

    read   index -> (1, h, w)
    """
    last = image.leading[axis] - 1
    places = [last - abs(last - abs(index[axis] + step)) for step in range(-around, around + 1)]
    return np.concatenate([read((*index[:axis], place, *index[axis + 1 :])) for place in places])


def inner(image: Image, axis: int, around: int) -> Iterator[tuple[int, ...]]:
    """Planes whose neighbours are all in the stack: a mirrored one shows its noise twice, and must not be trained on."""
    ranges = [
        range(around, n - around) if place == axis else range(n) for place, n in enumerate(image.leading)
    ]
    return itertools.product(*ranges)
