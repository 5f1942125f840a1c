"""Which frame of an input each frame of a result shows, by thumbnails: none may be swapped or repeated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pairfree.files.spans import split_into_spans

FloatArray = NDArray[np.float64]
Pair = tuple[FloatArray, FloatArray]
"""Of an input and of its result."""
LEAST_ALIKE = 0.1
"""Correlation of a frame with its result, below which they show different things."""
NEARER = 0.25
"""A result shows another frame where its distance to that one is less than this share of that to its own."""
SAME = 1e-9
"""A frame that is no further from its result is its own, whichever of its equals rounding puts nearer."""
FRAME_SIDE = 24
"""Frames are told apart by thumbnails of so many blocks a side."""
AT_ONCE = 256
"""Thumbnails that are compared with all others in one product."""
CLEAR = 0.5
"""A result that shows less of its input's contrast, noise included, need not be like it."""
SWAPPED = 0.6
"""What tells two swapped frames apart has a correlation so far below 0 between input and result."""
SIGMAS = 6.0
"""Standard errors that it is below 0 at least."""
LEAST_CONTRAST = 0.1
"""Of what tells two frames apart in the input, so much of its power must be left in the result."""


def thumbnail(blocks: FloatArray) -> FloatArray:
    """A frame's blocks as at most ``FRAME_SIDE`` means a side, of zero mean: (n,)."""
    means = _means_along(_means_along(blocks, 0), 1)
    apart = means - means.mean()
    flat: FloatArray = np.nan_to_num(apart.ravel())
    return flat


def _means_along(blocks: FloatArray, axis: int) -> FloatArray:
    """Means of at most ``FRAME_SIDE`` groups of neighbours along an axis."""
    size = blocks.shape[axis]
    groups = min(FRAME_SIDE, size)
    places = np.linspace(0, size, groups, endpoint=False)
    starts = np.unique(places.astype(int))
    counts = np.diff(np.append(starts, size))
    if axis == 0:
        counts = counts[:, None]
    sums = np.add.reduceat(blocks, starts, axis=axis)
    means: FloatArray = sums / counts
    return means


def find_strangers(pairs: list[Pair], step: float) -> str:
    """What is wrong where results show other frames than their own, or none; empty where nothing is.

    Parameters
    ----------
    pairs
        Thumbnails of each frame of the input and of the result.
    step
        Between two values: 1 for whole numbers, whose rounding makes contrast of its own.
    """
    x = np.stack([of_input for of_input, _ in pairs])
    y = np.stack([of_result for _, of_result in pairs])
    return _find_nearer(x, y, step) or _find_swapped(x, y)


def _of_unit_length(thumbnails: FloatArray) -> FloatArray:
    """Zero where nothing is seen."""
    lengths = np.linalg.norm(thumbnails, axis=1, keepdims=True)
    out = np.zeros_like(thumbnails)
    np.divide(thumbnails, lengths, out=out, where=lengths > 0)
    return out


def _find_nearer(x: FloatArray, y: FloatArray, step: float) -> str:
    """A result that is much nearer to another frame than to its own, or like none."""
    in_x, in_y = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    visible = (in_x > 0) & (in_y > 0)
    clear = visible & (in_y > CLEAR * in_x) & (y.std(axis=1) > step)
    x, y = _of_unit_length(x), _of_unit_length(y)
    for some in split_into_spans(len(x), AT_ONCE):
        # Half the squared distance of vectors of unit length.
        apart = 1 - y[some] @ x.T
        for frame, distances in enumerate(apart, some.start):
            nearest = int(distances.argmin())
            nearer = distances[frame] > SAME and distances[nearest] < NEARER * distances[frame]
            if visible[frame] and nearest != frame and nearer:
                return f"frame {frame} shows frame {nearest}"
    alike = np.einsum("ij,ij->i", x, y)
    lost = np.flatnonzero(clear & (alike < LEAST_ALIKE))
    if not lost.size:
        return ""
    first = lost[0]
    return f"frame {first} shows something else (correlation {alike[first]:.2f})"


def _find_swapped(x: FloatArray, y: FloatArray) -> str:
    """Two frames whose results differ the other way round than they do, or one that shows another's."""
    least = max(SWAPPED, SIGMAS / np.sqrt(x.shape[1]))
    own = np.einsum("ij,ij->i", x, y)
    of_x, of_y = np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", y, y)
    for some in split_into_spans(len(x), AT_ONCE):
        across = y[some] @ x.T
        shared = own[some, None] + own - across - x[some] @ y.T
        apart_x = np.maximum(of_x[some, None] + of_x - 2 * (x[some] @ x.T), 0)
        apart_y = np.maximum(of_y[some, None] + of_y - 2 * (y[some] @ y.T), 0)
        unlike = apart_x > SAME * of_x[some, None]
        differ = unlike & (apart_y > LEAST_CONTRAST * apart_x)
        swapped = differ & (shared < -least * np.sqrt(apart_x * apart_y))
        same = unlike & (apart_y <= SAME * of_y[some, None])
        towards = across - own[some, None]
        repeated = same & (towards > least * np.sqrt(apart_x * of_y[some, None]))
        for found, words in ((swapped, "and frame {} are swapped"), (repeated, "shows frame {}")):
            if found.any():
                first, second = np.argwhere(found)[0]
                return f"frame {first + some.start} " + words.format(second)
    return ""
