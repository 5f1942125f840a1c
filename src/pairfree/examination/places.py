"""Where an output is too smooth or too sharp while the rest is not: places to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from pairfree.data.directions import DIRECTIONS
from pairfree.examination.probe import Probe
from pairfree.examination.risk import collect_terms
from pairfree.measure.noise_law import NoiseLaw

FloatArray = NDArray[np.float64]

WINDOW_PX, STRIDE_PX = 64, 16
"""Side of the windows, and their distance."""
FEWEST = 0.3
"""Of the median scatter: no window is taken for quieter."""
DIRECTION = "fine detail"


class Place(NamedTuple):
    """A window that stands out."""

    row: int
    column: int
    """Of its upper left corner, in the image."""
    z: float
    """By how much its fine detail should be stronger than elsewhere (weaker, below 0), standard errors."""


def measure_places(probe: Probe, laws: Sequence[NoiseLaw]) -> FloatArray:
    """How far windows depart from the whole image in what their fine detail lacks, standard errors.

    Parameters
    ----------
    probe
        What the denoiser made of the image; both sides at least 64 px.
    laws
        Of the noise of each channel.

    Returns
    -------
    array
        (C, rows, columns) of windows of 64 px, one each 16 px: above 0 too smooth, below 0 too sharp or
        foreign.

    Notes
    -----
    The products and powers of ``risk.estimate_risk`` along the fine detail, in proportion to the noise: with
    the share t of the whole image, each window has sum(products - t powers), over the root of the sum of its
    squares.
    """
    terms = collect_terms(probe, DIRECTIONS[DIRECTION])
    products, powers = (one / probe.disturbance.variance for one in (terms.products, terms.powers))
    maps = []
    for of_channel, power, law in zip(products, powers, laws, strict=True):
        share = float(of_channel.sum()) / max(float(power.sum()), 1e-300)
        left = of_channel - share * power
        chance = np.sqrt(np.maximum(_average(left**2), 0.0)) / WINDOW_PX
        chance = np.maximum(chance, FEWEST * float(np.median(chance)) + 1e-300)
        maps.append(_average(left) / (chance * _widen(law)))
    return np.stack(maps)


def _widen(law: NoiseLaw) -> float:
    """How much more means scatter where neighbours share noise: root of the sum of squared correlations."""
    if law.spectrum is None or not law.correlated:
        return 1.0
    shared = np.fft.ifft2(law.spectrum).real
    return float(np.sqrt(np.sum((shared / shared[0, 0]) ** 2)))


def _average(values: FloatArray) -> FloatArray:
    """Means of the windows."""
    half = WINDOW_PX // 2
    means = uniform_filter(values, WINDOW_PX, mode="nearest")
    inside = means[half : values.shape[0] - half + 1, half : values.shape[1] - half + 1]
    return np.asarray(inside[::STRIDE_PX, ::STRIDE_PX])


def find_places(
    z: FloatArray, limit: float, origin: tuple[int, int] = (0, 0), most: int = 8
) -> list[Place]:
    """Windows that stand out by more than a limit, the most first; of overlapping ones the strongest.

    ``origin`` is where the map begins in the image, row and column.
    """
    size = np.abs(z)
    places: list[Place] = []
    for index in np.argsort(size, axis=None)[::-1].tolist():
        _, row, column = np.unravel_index(index, z.shape)
        if size.flat[index] <= limit or len(places) == most:
            break
        corner = origin[0] + int(row) * STRIDE_PX, origin[1] + int(column) * STRIDE_PX
        if not any(_overlap(corner, one) for one in places):
            places.append(Place(*corner, float(z.flat[index])))
    return places


def _overlap(corner: tuple[int, int], place: Place) -> bool:
    apart = abs(corner[0] - place.row), abs(corner[1] - place.column)
    return max(apart) < WINDOW_PX
