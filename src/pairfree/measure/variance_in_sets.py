"""How noise of counts grows with the brightness, from the fine contrast of a noisy and a clean set.

The clean set shows other scenes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.variance_line import CLEAR, fit_robust_line
from pairfree.measure.windows import (
    CALM_SHARE,
    CLIPPED_SHARE,
    MOST_WINDOWS,
    block_means,
    cut_windows,
    fine_contrast,
)

FloatArray = NDArray[np.float64]

GROWTH_BINS = 16
"""Of brightness, in which the noise of counts is measured."""
LEAST_BLOCKS = 10
"""Blocks of either set that a bin needs."""
LEAST_WINDOWS = 4
"""Windows that tell an image's own noise."""
BLACK = 0.05
"""Noise of counts vanishes where nothing is counted, at black: no further from it than this share of the
range.

Measured: -0.01 in confocal images; in CT, whose zero is not black, -0.10, -0.07, 0.25 and 0.35; 7 in
photographs whose noise does not grow."""
LEAST_VARIANCE = 1e-3
"""Noise of counts has at least this share of its variance at full brightness, and of that of the other
images."""


@dataclass(frozen=True)
class Blocks:
    """What is known of the blocks of a set in one channel."""

    brightness: FloatArray
    """(N,)"""
    fine: FloatArray
    """(N,) fine contrast, a variance."""

    def between(self, low: float, high: float) -> Blocks:
        """Those of a range of brightness, its ends among them."""
        inside = (self.brightness >= low) & (self.brightness <= high)
        return Blocks(self.brightness[inside], self.fine[inside])


@dataclass(frozen=True)
class CountsLaw:
    """Fine contrast that noise of counts adds, gain max(y + dark, darkest), beside that of clean blocks."""

    gain: float
    dark: float
    darkest: float
    brightness: FloatArray
    """(N,) where the clean blocks were measured."""
    clean: FloatArray
    """(N,) their fine contrast there."""

    def strengths(self, noisy: Sequence[np.ndarray], side: int, channel: int) -> FloatArray:
        """Deviation (K,) of each image's noise relative to this law.

        Of images of too few blocks that of the middle one, or 1.
        """
        most = max(LEAST_WINDOWS, MOST_WINDOWS // len(noisy))
        found = [self._strength(measure_blocks([plane], side, channel, most)) for plane in noisy]
        known = [one for one in found if not math.isnan(one)]
        middle = float(np.median(known)) if known else 1.0
        return np.nan_to_num(found, nan=middle)

    def _strength(self, blocks: Blocks) -> float:
        """Of one image; NaN of too few blocks."""
        if len(blocks.brightness) < LEAST_BLOCKS:
            return math.nan
        structure = np.interp(blocks.brightness, self.brightness, self.clean)
        expected = self.gain * np.maximum(blocks.brightness + self.dark, self.darkest)
        calm = float(np.quantile((blocks.fine - structure) / expected, CALM_SHARE))
        return math.sqrt(max(calm, LEAST_VARIANCE))


def measure_counts_law(
    noisy: Sequence[np.ndarray], clean: Sequence[np.ndarray], side: int, channel: int
) -> CountsLaw | None:
    """How the fine contrast of noisy images grows with the brightness, beyond that of clean ones.

    Parameters
    ----------
    noisy, clean
        Planes (C, H, W), network units; of other scenes.
    side
        Of the windows that are looked at, pixels.
    channel
        Which of C.

    Returns
    -------
    CountsLaw or None
        None where it does not grow, or not surely.

    Notes
    -----
    In each bin of brightness the calmest quarter's end of the noisy blocks less that of the clean ones; a
    line through the bins.
    """
    of_noisy, of_clean = (measure_blocks(planes, side, channel) for planes in (noisy, clean))
    fewest = min(len(of_noisy.brightness), len(of_clean.brightness))
    if fewest < GROWTH_BINS * LEAST_BLOCKS:
        return None
    ends = np.quantile(of_noisy.brightness, np.linspace(0.0, 1.0, GROWTH_BINS + 1))
    found = []
    for low, high in pairwise(ends):
        ours, theirs = of_noisy.between(low, high), of_clean.between(low, high)
        if min(len(ours.fine), len(theirs.fine)) >= LEAST_BLOCKS:
            calm = (np.quantile(blocks.fine, CALM_SHARE) for blocks in (ours, theirs))
            found.append((ours.brightness.mean(), *calm))
    if len(found) < GROWTH_BINS // 2:
        return None
    brightness, whole, structure = np.transpose(found)
    excess = whole - structure
    line = fit_robust_line(brightness, excess)
    if line.slope <= CLEAR * line.error or abs(line.intercept) > BLACK * line.slope:
        return None
    darkest = max(float(excess.min()) / line.slope, LEAST_VARIANCE)
    return CountsLaw(line.slope, line.intercept / line.slope, darkest, brightness, structure)


def measure_blocks(planes: Sequence[np.ndarray], side: int, channel: int, most: int = 0) -> Blocks:
    """A channel's blocks that are not clipped, in at most ``most`` windows (0: MOST_WINDOWS)."""
    bright, fine = [np.zeros(0)], [np.zeros(0)]
    for window in cut_windows(planes, side, most):
        one = window[channel : channel + 1]
        at_an_end = ((one <= 0.0) | (one >= 1.0)).astype(np.float64)
        inside = ~(block_means(at_an_end) > CLIPPED_SHARE)
        bright.append(block_means(one)[inside])
        fine.append(fine_contrast(one)[inside])
    return Blocks(np.concatenate(bright), np.concatenate(fine))
