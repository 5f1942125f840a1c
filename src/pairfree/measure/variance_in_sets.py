"""How noise of counts grows with the brightness, from the fine contrast of a noisy set and of a clean set of other scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.variance_line import CLEAR, robust_line
from pairfree.measure.windows import (
    CALM_SHARE,
    CLIPPED_SHARE,
    MOST_WINDOWS,
    fine_contrast,
    of_blocks,
    windows,
)

FloatArray = NDArray[np.float64]

GROWTH_BINS, LEAST_BLOCKS, LEAST_WINDOWS = 16, 10, 4
"""Of brightness, in which the noise of counts is measured; blocks of either set that a bin needs; windows that tell an image's own."""
BLACK = 0.05
"""Noise of counts vanishes where nothing is counted, at black: no further from it than this share of the range. Measured:
-0.01 in confocal images; in CT, whose zero is not black, -0.10, -0.07, 0.25 and 0.35; 7 in photographs whose noise does not grow."""
LEAST_VARIANCE = 1e-3
"""Noise of counts has at least this share of its variance at full brightness, and of that of the other images."""


@dataclass(frozen=True)
class CountsLaw:
    """Fine contrast that noise of counts adds, gain max(y + dark, darkest), and that of clean blocks (N,) at ``brightness`` (N,)."""

    gain: float
    dark: float
    darkest: float
    brightness: FloatArray
    clean: FloatArray

    def strengths(self, noisy: Sequence[np.ndarray], side: int, channel: int) -> FloatArray:
        """Deviation (K,) of each image's noise relative to this; of images of too few blocks that of the middle one, or 1."""
        found = []
        for plane in noisy:
            bright, fine = blocks([plane], side, channel, max(LEAST_WINDOWS, MOST_WINDOWS // len(noisy)))
            excess = fine - np.interp(bright, self.brightness, self.clean)
            ratio = excess / (self.gain * np.maximum(bright + self.dark, self.darkest))
            enough = len(bright) >= LEAST_BLOCKS
            found.append(
                math.sqrt(max(float(np.quantile(ratio, CALM_SHARE)), LEAST_VARIANCE)) if enough else math.nan
            )
        known = [one for one in found if not math.isnan(one)]
        return np.nan_to_num(found, nan=float(np.median(known)) if known else 1.0)


def counts_law(
    noisy: Sequence[np.ndarray], clean: Sequence[np.ndarray], side: int, channel: int
) -> CountsLaw | None:
    """How the fine contrast of a channel of planes (C, H, W), network units, grows with the brightness, in windows of ``side``; None where
    it does not grow, or not surely.

    How   in each bin of brightness the calmest quarter's end of the noisy blocks less that of the clean ones; a line through the bins
    """
    sets = [blocks(planes, side, channel) for planes in (noisy, clean)]
    if min(len(bright) for bright, _ in sets) < GROWTH_BINS * LEAST_BLOCKS:
        return None
    found = []
    for low, high in pairwise(np.quantile(sets[0][0], np.linspace(0.0, 1.0, GROWTH_BINS + 1))):
        (bright, ours), (_, theirs) = (_between(low, high, *one) for one in sets)
        if min(len(ours), len(theirs)) >= LEAST_BLOCKS:
            found.append((bright.mean(), np.quantile(ours, CALM_SHARE), np.quantile(theirs, CALM_SHARE)))
    if len(found) < GROWTH_BINS // 2:
        return None
    means, whole, structure = np.transpose(found)
    excess = whole - structure
    gain, floor, error = robust_line(means, excess)
    if gain <= CLEAR * error or abs(floor) > BLACK * gain:
        return None
    return CountsLaw(gain, floor / gain, max(float(excess.min()) / gain, LEAST_VARIANCE), means, structure)


def _between(low: float, high: float, bright: FloatArray, fine: FloatArray) -> tuple[FloatArray, FloatArray]:
    inside = (bright >= low) & (bright <= high)
    return bright[inside], fine[inside]


def blocks(
    planes: Sequence[np.ndarray], side: int, channel: int, most: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Brightness and fine contrast of a channel's blocks that are not clipped, in at most ``most`` windows (0: MOST_WINDOWS)."""
    bright, fine = [np.zeros(0)], [np.zeros(0)]
    for window in windows(planes, side, most):
        one = window[channel : channel + 1]
        clipped = of_blocks(((one <= 0.0) | (one >= 1.0)).astype(np.float64)) > CLIPPED_SHARE
        bright.append(of_blocks(one)[~clipped])
        fine.append(fine_contrast(one)[~clipped])
    return np.concatenate(bright), np.concatenate(fine)
