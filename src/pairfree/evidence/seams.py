"""Seams: steps along whole rows or columns of an image that has no scene, as tiles leave them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from pairfree.measure.local_moments import NORMAL_MAD

FloatArray = NDArray[np.float64]

BESIDE_PX = 5
"""Distance at which the roughness around a line is looked at."""
AROUND_PX = 5
"""Side of the squares that it is averaged over."""
MARGIN_PX = 7
"""Lines nearer to the image's border are left out."""
LEAST = 0.1
"""Of the median roughness: flat areas count no more than this."""


class Step(NamedTuple):
    """A step of the brightness along a whole row or column."""

    z: float
    """In deviations of such steps of all lines."""
    height: float
    """Mean along the line, units of the image."""
    axis: str
    """rows or columns."""
    place: int
    """The first of them behind the step."""


def find_step(image: FloatArray) -> Step:
    """The strongest step of an image (H, W) that has no scene."""
    found = [Step(0.0, 0.0, "rows", 0)]
    for name, turned in (("rows", image.T), ("columns", image)):
        steps = np.abs(_measure_steps(turned)[MARGIN_PX:-MARGIN_PX])
        if not steps.size:
            continue
        typical = max(NORMAL_MAD * float(np.median(steps)), 1e-300)
        place = int(np.argmax(steps)) + MARGIN_PX
        before = float(turned[:, place - 1 : place + 1].mean())
        behind = float(turned[:, place + 1 : place + 3].mean())
        found.append(Step(float(steps.max()) / typical, abs(behind - before), name, place + 1))
    return max(found)


def _measure_steps(image: FloatArray) -> FloatArray:
    """Of each pair of neighbouring columns, how far they are apart, beyond what the pairs beside them are.

    Over the roughness beside it.
    """
    apart = np.diff(image, axis=1)
    beyond = np.zeros_like(apart)
    beyond[:, 1:-1] = apart[:, 1:-1] - (apart[:, :-2] + apart[:, 2:]) / 2.0
    roughness = uniform_filter(beyond**2, AROUND_PX)
    beside = np.maximum(np.roll(roughness, BESIDE_PX, 1), np.roll(roughness, -BESIDE_PX, 1))
    expected = beside + LEAST * float(np.median(roughness))
    weight = np.divide(1.0, expected, out=np.zeros_like(expected), where=expected > 0)
    error = np.sqrt(np.sum(weight**2 * beside, axis=0))
    steps = np.sum(weight * beyond, axis=0)
    return np.asarray(np.divide(steps, error, out=np.zeros_like(steps), where=error > 0))
