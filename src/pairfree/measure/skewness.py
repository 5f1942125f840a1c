"""How lopsided noise is: counts of few photons, and plates whose densities add up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.local_moments import cut_level_windows

FloatArray = NDArray[np.float64]

BLOCK_PX = 8
BRIGHTNESSES = 6
CALMEST = 0.3
FEWEST = 8


class Skewness(NamedTuple):
    """Of the noise in the calmest blocks; NaN where there is none."""

    measured: float
    """Mean third power of the noise in deviations of each block; 0 for symmetric noise."""
    of_unit_counts: float
    """What counts of a gain of 1 would have in the same blocks; that of another gain is in proportion."""


def measure_skewness(plane: FloatArray) -> Skewness:
    """How lopsided the noise of a plane (H, W) is, intensity units, finite."""
    blocks = cut_level_windows(plane, BLOCK_PX)
    down, across = plane.shape[0] // BLOCK_PX, plane.shape[1] // BLOCK_PX
    whole = plane[: down * BLOCK_PX, : across * BLOCK_PX]
    brightness = whole.reshape(down, BLOCK_PX, across, BLOCK_PX).mean(axis=(1, 3)).ravel()
    variance = np.mean(blocks**2, axis=(1, 2))
    chosen = []
    for group in np.array_split(np.argsort(brightness, kind="stable"), BRIGHTNESSES):
        noisy = group[variance[group] > 0]
        count = max(FEWEST, int(CALMEST * len(noisy)))
        if len(noisy):
            chosen.append(noisy[np.argsort(variance[noisy], kind="stable")[:count]])
    calm = np.concatenate([*chosen, np.array([], np.int64)])
    if len(calm) < FEWEST:
        return Skewness(np.nan, np.nan)
    typical = np.concatenate([np.full(len(one), variance[one].mean()) for one in chosen])
    deviations = np.sqrt(typical)
    in_deviations = blocks[calm] / deviations[:, None, None]
    return Skewness(float(np.mean(in_deviations**3)), float(np.mean(1.0 / deviations)))
