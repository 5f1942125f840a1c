"""The variance of white noise at each brightness, in the finest detail of an image's calmest blocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.local_moments import block_means, cut_level_windows, haar

FloatArray = NDArray[np.float64]

CELLS = 4
"""Side of a block in cells of 2 x 2 px."""
CALMEST = 0.3
"""Share of the blocks of like brightness that are looked at."""
BINS = 12
"""Of brightness, at most."""
BLOCKS_PER_BIN = 40
"""At least, but for images that have fewer."""
FEWEST_IN_BIN = 8
"""Calm blocks."""
INSETS = (0, 1)
"""Of the grids, pixels."""
MOST_CLIPPED = 0.05
"""Share of a block's pixels that may have the image's lowest or highest value: clipped noise is less."""
LEAST_LEFT = 0.1
"""Share of the blocks that have to be left then; else all are taken, as of images of few counts."""


class CalmBins(NamedTuple):
    """What the calmest blocks say, from dark to bright; arrays (N,)."""

    brightness: FloatArray
    """Intensity units."""
    variance: FloatArray
    """Of the finest diagonal detail: of a pixel, where noise is white; intensity units, squared."""
    relative_error: FloatArray
    """Standard error of the variance over the variance itself, of normal white noise."""


def measure_calm_blocks(plane: FloatArray, calmest: float = CALMEST) -> CalmBins:
    """Variance of the noise in bins of brightness.

    Parameters
    ----------
    plane
        (H, W), intensity units, finite; both sides at least 16.
    calmest
        Share of the blocks of like brightness that are looked at.

    Notes
    -----
    Blocks of 8 x 8 px are ordered by the contrast of their 2 x 2 means, and the noise is read off the
    diagonal differences (Haar) of the calmest. In white noise both are independent of each other, so that
    the choice does not make the answer smaller. Blocks of several grids are taken together, those that begin
    at each corner, and those a pixel further in: a mirrored or turned image has the same ones.
    """
    extremes = float(plane.min()), float(plane.max())
    parts = []
    for inset in INSETS:
        for top in _starts(plane.shape[0], inset):
            for left in _starts(plane.shape[1], inset):
                parts.append(_measure_grid(plane[top:, left:], extremes))
    brightness, contrast, detail, clipped = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    whole = clipped <= MOST_CLIPPED
    if whole.mean() >= LEAST_LEFT:
        brightness, contrast, detail = brightness[whole], contrast[whole], detail[whole]
    count = int(np.clip(len(brightness) // BLOCKS_PER_BIN, 1, BINS))
    means, variances, errors = [], [], []
    for group in np.array_split(np.argsort(brightness, kind="stable"), count):
        number = max(FEWEST_IN_BIN, int(calmest * len(group)))
        chosen = group[np.argsort(contrast[group], kind="stable")[:number]]
        means.append(brightness[chosen].mean())
        variances.append(detail[chosen].mean())
        independent = (
            CELLS**2 * len(chosen) / len(parts) * len(INSETS) / 2.0
        )  # grids share their pixels
        errors.append(np.sqrt(2.0 / independent))
    return CalmBins(np.array(means), np.array(variances), np.array(errors))


def measure_texture(plane: FloatArray, calm: CalmBins) -> float:
    """By how much the finest detail of all blocks has more power than that of the calmest, relative, >= 0.

    About 0.01 of smooth scenes, by chance, and more where texture is nearly everywhere: then the calmest
    blocks hold some of it, too.

    Parameters
    ----------
    plane
        (H, W), as ``measure_calm_blocks`` has it.
    calm
        What that says of it.
    """
    everywhere = measure_calm_blocks(plane, 1.0)
    expected = np.interp(everywhere.brightness, calm.brightness, calm.variance)
    known = expected > 0
    if not known.any():
        return 0.0
    return max(float(np.median(everywhere.variance[known] / expected[known])) - 1.0, 0.0)


def _starts(length: int, inset: int) -> list[int]:
    """Where whole blocks begin along an axis, counted from either end."""
    side = 2 * CELLS
    first, last = inset, length - inset - (length - inset) // side * side
    return sorted({first, last})


def _measure_grid(plane: FloatArray, extremes: tuple[float, float]) -> tuple[FloatArray, ...]:
    """Of blocks, (N,) each: brightness, contrast of the 2 x 2 means, power of the diagonal differences.

    And the share of pixels at the image's extremes.
    """
    means, _, _, diagonal = haar(plane[None])[0]
    at_extremes = np.isin(plane, extremes).astype(np.float64)
    clipped = haar(at_extremes[None])[0][0] / 2.0
    level = cut_level_windows(means, CELLS)
    contrast = np.mean(level**2, axis=(1, 2))
    bands = means / 2.0, diagonal**2, clipped
    brightness, detail, cut = (block_means(band, CELLS).ravel() for band in bands)
    return brightness, contrast, detail, cut
