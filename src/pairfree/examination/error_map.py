"""How sure each pixel is: a map of standard errors, from what places of the same kind have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

from pairfree.examination.probe import BLOCK_PX, Probe
from pairfree.measure.local_moments import block_means

FloatArray = NDArray[np.float64]

EDGE_PX, AROUND_PX = 1.0, 4.0
"""Gaussians of the gradients, and of their mean around a pixel, pixels."""
BRIGHT_PX = 8.0
"""Likewise, of the brightness: a pixel's own noise must not decide what it is like."""
LAW_SHARE = 1 / 3
"""Of the relative error of the noise's variance that is added: it is as often too large as too small."""
SMOOTH_PX = 2.0
"""Gaussian over the map: kinds of places have no sharp borders."""
KINDS = 6
"""Equally filled ranges of brightness, and of steepness, in which errors are averaged."""
LEAST = 0.1
"""Of the mean error over the noise: no kind of place is taken for surer."""


def map_errors(probe: Probe, law_error: float = 0.02) -> FloatArray:
    """Standard error of each pixel of the output (C, H, W), intensity units.

    Parameters
    ----------
    probe
        What the denoiser made of the image.
    law_error
        Relative standard error of the noise's variance.

    Notes
    -----
    The unbiased square errors scatter too widely to be shown. They are set in proportion to the noise and
    averaged over pixels that are alike, in brightness and in the steepness of the output around them. Means
    that chance may explain are drawn to the mean of all (Efron and Morris, "Data analysis using Stein's
    estimator and its generalizations", 1975). Nine of ten pixels of the truth lie within 1.645 of these
    errors of the output.
    """
    channels = zip(probe.square_errors, probe.disturbance.variance, probe.output, strict=True)
    maps = []
    for squares, variance, output in channels:
        share = gaussian_filter(_average_alike(squares / variance, output), SMOOTH_PX)
        least = max(LEAST * float(share.mean()), 0.0)
        sure = np.maximum(share, least) + LAW_SHARE * law_error
        maps.append(np.sqrt(sure * variance))
    return np.stack(maps)


def _average_alike(values: FloatArray, output: FloatArray) -> FloatArray:
    """Mean over pixels alike, in each pixel."""
    gradient = gaussian_gradient_magnitude(output, EDGE_PX, mode="nearest")
    steep = _rank(gaussian_filter(gradient, AROUND_PX))
    bright = _rank(gaussian_filter(output, BRIGHT_PX))
    kinds = steep * KINDS + bright
    sizes = _sum_by(kinds, np.ones_like(values))
    count = np.maximum(sizes, 1.0)
    means = _sum_by(kinds, values) / count
    scatter = _sum_by(kinds, values**2) / count - means**2
    chance = np.maximum(scatter, 0.0) / count * _count_alike(values)
    return np.asarray(_draw_together(means, chance, sizes)[kinds])


def _sum_by(kinds: NDArray[np.intp], values: FloatArray) -> FloatArray:
    """Sums over the pixels of each kind."""
    return np.asarray(np.bincount(kinds.ravel(), values.ravel(), minlength=KINDS * KINDS))


def _rank(values: FloatArray) -> NDArray[np.intp]:
    """Which of ``KINDS`` equally filled ranges each value lies in."""
    borders = np.quantile(values, np.linspace(0.0, 1.0, KINDS + 1)[1:-1])
    return np.asarray(np.searchsorted(borders, values, side="right"))


def _count_alike(values: FloatArray) -> float:
    """How many neighbouring pixels speak as one: variance of means of blocks over that of free pixels."""
    means = block_means(values, BLOCK_PX)
    if means.size < 2:
        return 1.0
    free = float(values.var()) / BLOCK_PX**2
    return max(1.0, float(means.var()) / free) if free > 0 else 1.0


def _draw_together(means: FloatArray, chance: FloatArray, sizes: FloatArray) -> FloatArray:
    """Each mean, drawn to that of all by as much as chance explains of how they differ."""
    weights = sizes / sizes.sum()
    middle = float(weights @ means)
    spread = float(weights @ (means - middle) ** 2)
    true = max(spread - float(weights @ chance), 0.0)
    return np.asarray(middle + (means - middle) * true / np.maximum(true + chance, 1e-300))
