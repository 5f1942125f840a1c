"""How lopsided noise is: counts of few photons, and plates whose densities add up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


from pairfree.measure.local_moments import cut_level_windows

FloatArray = NDArray[np.float64]

BLOCK_PX = 8
BRIGHTNESSES = 6
CALMEST = 0.3
FEWEST = 8


def measure_skewness(plane: FloatArray) -> float:
    """Mean third power of the noise in the calmest blocks, in deviations of each; 0 for symmetric noise.

    Parameters
    ----------
    plane
        (H, W), intensity units, finite; NaN where it holds no noise.
    """
    blocks = cut_level_windows(plane, BLOCK_PX)
    down, across = plane.shape[0] // BLOCK_PX, plane.shape[1] // BLOCK_PX
    whole = plane[: down * BLOCK_PX, : across * BLOCK_PX]
    brightness = whole.reshape(down, BLOCK_PX, across, BLOCK_PX).mean(axis=(1, 3)).ravel()
    variance = np.mean(blocks**2, axis=(1, 2))
    chosen = []
    for group in np.array_split(np.argsort(brightness, kind="stable"), BRIGHTNESSES):
        noisy = group[variance[group] > 0]
        count = max(FEWEST, int(CALMEST * len(noisy)))
        chosen.append(noisy[np.argsort(variance[noisy], kind="stable")[:count]])
    calm = np.concatenate(chosen)
    if len(calm) < FEWEST:
        return float("nan")
    in_deviations = blocks[calm] / np.sqrt(variance[calm])[:, None, None]
    return float(np.mean(in_deviations**3))
