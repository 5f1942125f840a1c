"""Whether an image was compressed as JPEG: its coefficients then lie on the teeth of a comb."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

FloatArray = NDArray[np.float64]

BLOCK_PX = 8
COEFFICIENTS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2), (0, 3), (3, 0))
"""Low ones, which JPEG keeps."""
STEPS = np.arange(2, 41)
"""Of quantisation that are tried, grey levels; qualities above 95 have smaller ones."""
WIDE = 1.2
"""Coefficients must spread over so many steps: a narrower heap lies on one tooth anyway."""
STRONGEST = 4
"""Coefficients that decide."""
MOST_BLOCKS = 4000
MOST_CLIPPED = 0.2
"""Share of a block's pixels that may have the image's lowest or highest value."""
ELSEWHERE = ((3, 5), (5, 2))
"""Grids that are none of JPEG's, for comparison."""


class JpegComb(NamedTuple):
    """How much coefficients lie on multiples of a step, in standard errors of chance."""

    aligned: float
    """In the blocks that JPEG would have, counted from the image's corner."""
    elsewhere: float
    """In other blocks: what the image does by itself."""


def measure_jpeg_comb(plane: FloatArray) -> JpegComb:
    """The comb of a plane (H, W) of whole grey levels; NaN where it has fewer than 4 blocks a side.

    Notes
    -----
    |mean exp(2 pi i c / q)| sqrt(n) over the blocks, for the step q that makes it largest; the mean of the
    four strongest coefficients. Rounding of pixels blurs the teeth by 0.29.
    """
    if min(plane.shape) < 4 * BLOCK_PX + max(map(max, ELSEWHERE)):
        return JpegComb(np.nan, np.nan)
    others = [_comb(plane[top:, left:]) for top, left in ELSEWHERE]
    return JpegComb(_comb(plane), float(np.mean(others)))


def _comb(plane: FloatArray) -> float:
    blocks = _cut_blocks(plane)
    if len(blocks) > MOST_BLOCKS:
        places = np.linspace(0, len(blocks) - 1, MOST_BLOCKS).round().astype(int)
        blocks = blocks[places]
    spectra = dctn(blocks, axes=(1, 2), norm="ortho")
    found = []
    for row, column in COEFFICIENTS:
        values = spectra[:, row, column]
        if len(values):
            found.append(_find_teeth(values))
    found.sort()
    strongest = found[-STRONGEST:]
    return float(np.mean(strongest)) if found else 0.0


def _cut_blocks(plane: FloatArray) -> FloatArray:
    """Blocks (N, 8, 8) that are not empty: those lie on every comb."""
    down, across = plane.shape[0] // BLOCK_PX, plane.shape[1] // BLOCK_PX
    whole = plane[: down * BLOCK_PX, : across * BLOCK_PX]
    rows = whole.reshape(down, BLOCK_PX, across, BLOCK_PX)
    blocks = rows.swapaxes(1, 2).reshape(-1, BLOCK_PX, BLOCK_PX)
    extremes = plane.min(), plane.max()
    clipped = np.isin(blocks, extremes).mean(axis=(1, 2))
    return np.asarray(blocks[clipped < MOST_CLIPPED])


def _find_teeth(values: FloatArray) -> float:
    """The step on whose multiples coefficients (N,) lie most, as standard errors of chance; 0 for none."""
    steps = STEPS[values.std() > STEPS * WIDE]
    if not len(steps):
        return 0.0
    phases = 2.0 * np.pi * values[:, None] / steps
    mean = np.exp(1j * phases).mean(axis=0)
    return float(np.abs(mean).max() * np.sqrt(len(values)))
