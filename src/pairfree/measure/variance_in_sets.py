"""How noise of counts grows with the brightness, from the fine contrast of a noisy and a clean set.

The clean set shows other scenes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.variance_line import CLEAR, fit_robust_line
from pairfree.measure.windows import (
    CALM_SHARE,
    CLIPPED_SHARE,
    MOST_WINDOWS,
    Planes,
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
"""Noise of counts vanishes where nothing is counted: this share of the range, at most, from black.

Measured: -0.01 in confocal images; in CT, whose zero is not black, -0.10, -0.07, 0.25 and 0.35; 7 in
photographs whose noise does not grow.
"""
LEAST_VARIANCE = 1e-3
"""Least share that noise of counts has of its variance at full brightness, and of that of other images."""


@dataclass(frozen=True)
class Blocks:
    """What is known of the blocks of a set in one channel."""

    brightness: FloatArray
    """(N,)"""
    fine: FloatArray
    """(N,) fine contrast, a variance."""

    def __len__(self) -> int:
        return len(self.fine)

    @property
    def calm(self) -> float:
        """Fine contrast of the calmest quarter's end."""
        return float(np.quantile(self.fine, CALM_SHARE))

    def between(self, low: float, high: float) -> Blocks:
        """Those of a range of brightness, its ends among them."""
        inside = (self.brightness >= low) & (self.brightness <= high)
        return Blocks(self.brightness[inside], self.fine[inside])


@dataclass(frozen=True)
class CountsLaw:
    """Fine contrast that noise of counts adds, gain max(y + dark, darkest), beside that of clean blocks."""

    gain: float
    """Network units."""
    dark: float
    """Network units: what the variance at y = 0 makes of brightness."""
    darkest: float
    """Network units: what the least variance makes of brightness."""
    brightness: FloatArray
    """(N,) where the clean blocks were measured."""
    clean: FloatArray
    """(N,) their fine contrast there."""

    def strengths(self, noisy: Planes, side: int, channel: int) -> FloatArray:
        """Deviation (K,) of each image's noise relative to this law.

        Of images of too few blocks that of the middle one, or 1.
        """
        most = max(LEAST_WINDOWS, MOST_WINDOWS // len(noisy))
        found = []
        for plane in noisy:
            blocks = measure_blocks([plane], side, channel, most)
            found.append(self._strength(blocks))
        known = [one for one in found if not math.isnan(one)]
        middle = float(np.median(known)) if known else 1.0
        return np.nan_to_num(found, nan=middle)

    def _strength(self, blocks: Blocks) -> float:
        """Of one image; NaN of too few blocks."""
        if len(blocks) < LEAST_BLOCKS:
            return math.nan
        structure = np.interp(blocks.brightness, self.brightness, self.clean)
        counts = np.maximum(blocks.brightness + self.dark, self.darkest)
        relative = (blocks.fine - structure) / (self.gain * counts)
        calm = float(np.quantile(relative, CALM_SHARE))
        return math.sqrt(max(calm, LEAST_VARIANCE))


def measure_counts_law(noisy: Planes, clean: Planes, side: int, channel: int) -> CountsLaw | None:
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
    of_noisy = measure_blocks(noisy, side, channel)
    of_clean = measure_blocks(clean, side, channel)
    if min(len(of_noisy), len(of_clean)) < GROWTH_BINS * LEAST_BLOCKS:
        return None
    shares = np.linspace(0.0, 1.0, GROWTH_BINS + 1)
    ends = np.quantile(of_noisy.brightness, shares)
    found = []
    for low, high in pairwise(ends):
        ours = of_noisy.between(low, high)
        theirs = of_clean.between(low, high)
        if min(len(ours), len(theirs)) >= LEAST_BLOCKS:
            found.append((ours.brightness.mean(), ours.calm, theirs.calm))
    if len(found) < GROWTH_BINS // 2:
        return None
    brightness, whole, structure = np.transpose(found)
    excess = whole - structure
    gain, intercept, error = fit_robust_line(brightness, excess)
    if gain <= CLEAR * error or abs(intercept) > BLACK * gain:
        return None
    darkest = max(float(excess.min()) / gain, LEAST_VARIANCE)
    return CountsLaw(gain, intercept / gain, darkest, brightness, structure)


def measure_blocks(planes: Planes, side: int, channel: int, most: int = 0) -> Blocks:
    """A channel's blocks that are not clipped, in at most ``most`` windows (0: MOST_WINDOWS)."""
    bright = [np.zeros(0)]
    fine = [np.zeros(0)]
    for window in cut_windows(planes, side, most):
        one = window[channel : channel + 1]
        at_an_end = (one <= 0.0) | (one >= 1.0)
        clipped = block_means(at_an_end.astype(np.float64))
        inside = ~(clipped > CLIPPED_SHARE)
        bright.append(block_means(one)[inside])
        fine.append(fine_contrast(one)[inside])
    return Blocks(np.concatenate(bright), np.concatenate(fine))
