"""Whether a result lies as its input does: neither mirrored, nor turned, nor shifted.

A denoiser may do much to an image, but its result is nearer to the image than to the image mirrored, wherever
the two can be told apart. With x the input, y the result and w the result as it was before the turn that is
suspected, the middle of y and w says nothing, and x is regressed on what tells them apart: x = (y + w) / 2 +
slope * (y - w). The slope is 1/2 or more where the result lies right, and -1/2 where it was turned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

FloatArray = NDArray[np.float64]
SIGMAS = 5.0
"""Standard errors that a slope must be away from 0."""
LEAST_SHIFT = 3
"""Pixels; kernels of even sizes move an image by less."""
ON_BOTH_SIDES = 0.3
"""Of the likeness that a shift adds, what the opposite shift adds.

More is a denoiser that leaves out a pixel's own value and sees its neighbours.
"""
STEEPEST = 3.0
"""A slope further below 0 belongs to a result with next to no contrast, which tells nothing."""
BLOCK_PX = 8
"""Side of the blocks that errors are taken from: neighbours are not independent."""
BLOCKS_A_SIDE = 6
"""Small images have at least so many."""
EQUAL = 1e-12
"""Share of the power below which a turned result is the result."""


@dataclass(frozen=True)
class Placement:
    """How a result lies."""

    wrong: str = ""
    """What was done to it, in words; empty where nothing is wrong."""
    sure: bool = False
    """Mirrored both ways, it would have been found."""


def find_placement(x: FloatArray, y: FloatArray) -> Placement:
    """How a result lies on its input.

    Parameters
    ----------
    x, y
        A plane of the input and of the result, (h, w), finite.
    """
    x = x - x.mean()
    y = y - y.mean()
    slopes: dict[str, tuple[float, float]] = {}
    for name, turn in _turns(x.shape).items():
        slopes[name] = _slope(x, y, turn(y))
    shift = _find_shift(x, y)
    if shift is not None:
        down, across = shift
        back = np.roll(y, (-down, -across), (0, 1))
        slopes[f"shifted by {down} rows and {across} columns"] = _slope(x, y, back)
    for name, (slope, error) in sorted(slopes.items(), key=_by_significance):
        if -STEEPEST < slope < -SIGMAS * error:
            return Placement(name)
    flips = [slopes[name] for name in FLIPS]
    return Placement(sure=all(slope > SIGMAS * error for slope, error in flips))


def _by_significance(named: tuple[str, tuple[float, float]]) -> float:
    slope, error = named[1]
    return slope / error if error > 0 else math.copysign(math.inf, slope)


def _left_to_right(plane: FloatArray) -> FloatArray:
    return plane[:, ::-1]


def _top_to_bottom(plane: FloatArray) -> FloatArray:
    return plane[::-1]


def _half_turn(plane: FloatArray) -> FloatArray:
    return plane[::-1, ::-1]


def _transposed(plane: FloatArray) -> FloatArray:
    return plane.T


def _transposed_otherwise(plane: FloatArray) -> FloatArray:
    return plane[::-1, ::-1].T


def _quarter_back(plane: FloatArray) -> FloatArray:
    return np.rot90(plane, -1)


def _quarter(plane: FloatArray) -> FloatArray:
    return np.rot90(plane)


Turn = Callable[[FloatArray], FloatArray]
FLIPS: dict[str, Turn] = {
    "mirrored left to right": _left_to_right,
    "mirrored top to bottom": _top_to_bottom,
}
HALF: dict[str, Turn] = {"turned by half": _half_turn}
OF_SQUARES: dict[str, Turn] = {
    "transposed": _transposed,
    "transposed along the other diagonal": _transposed_otherwise,
    "turned left by a quarter": _quarter_back,
    "turned right by a quarter": _quarter,
}
"""By what was done, what undoes it."""


def _turns(shape: tuple[int, ...]) -> dict[str, Turn]:
    height, width = shape
    return FLIPS | HALF | OF_SQUARES if height == width else FLIPS | HALF


def _slope(x: FloatArray, y: FloatArray, w: FloatArray) -> tuple[float, float]:
    """The slope and its standard error; 0 and infinity where y and w are the same."""
    apart = y - w
    power = float((apart * apart).sum())
    if power <= EQUAL * float((y * y).sum()):
        return 0.0, math.inf
    rest = x - (y + w) / 2
    slope = float((apart * rest).sum()) / power
    left = rest - slope * apart
    side = max(1, min(BLOCK_PX, min(x.shape) // BLOCKS_A_SIDE))
    sums = block_sums(apart * left, side)
    few = sums.size / max(1, sums.size - 1)
    of_blocks = math.sqrt(float((sums * sums).sum()) * few) / power
    of_pixels = math.sqrt(float((left * left).sum()) / max(1, left.size - 2) / power)
    return slope, max(of_blocks, of_pixels)


def block_sums(values: FloatArray, side: int) -> FloatArray:
    """Sums over blocks with this side; those at the end may be smaller: (h, w) -> (blocks down, across)."""
    height, width = values.shape
    rows = np.add.reduceat(values, np.arange(0, height, side), axis=0)
    sums: FloatArray = np.add.reduceat(rows, np.arange(0, width, side), axis=1)
    return sums


def _find_shift(x: FloatArray, y: FloatArray) -> tuple[int, int] | None:
    """Rows and columns that the result lies away from where it is most like its input, round the edges.

    None for a few pixels, and where it is as like on the opposite side.
    """
    spectrum = fft.rfft2(y) * np.conj(fft.rfft2(x))
    alike = fft.irfft2(spectrum, s=x.shape)
    place = np.unravel_index(int(alike.argmax()), x.shape)
    steps = []
    for at, size in zip(place, x.shape, strict=True):
        step = int(at)
        steps.append(step if step <= size // 2 else step - size)
    down, across = steps
    if max(abs(down), abs(across)) < LEAST_SHIFT:
        return None
    here = float(alike[0, 0])
    added = float(alike[down, across]) - here
    opposite = float(alike[-down, -across]) - here
    return (down, across) if opposite < ON_BOTH_SIDES * added else None
