"""The law of one plane's noise: its growth with the brightness, its size, whether it is correlated."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pairfree.measure.calm_blocks import CalmBins, measure_calm_blocks, measure_texture
from pairfree.measure.even_transform import EvenTransform
from pairfree.measure.level import MIN_SIDE_PX, smooth_variance
from pairfree.measure.local_moments import cut_level_windows, plane_variance, window_moments
from pairfree.measure.noise_law import NoiseLaw
from pairfree.measure.variance_kinds import fit_variance_laws
from pairfree.measure.variance_line import (
    Binned,
    PoissonGaussian,
    bin_patches,
    fit_robust_line,
)
from pairfree.measure.window_spectrum import Shared, measure_shared_noise

FloatArray = NDArray[np.float64]

CORRELATED = 0.36
"""Correlation of neighbouring pixels in the smoothest windows, from which their noise counts as correlated.

Photographs (80 of BSD400, 180 px) with white noise: of deviation 15 more in 4, of 25 in 1, of 50 in none;
with noise of 25 that is blurred by 0.6 px at least 0.40, by 1 px 0.61. Fine texture with less noise looks
correlated too."""
CORRELATED_ALIKE = 0.07
"""The same where many windows are hardly rougher than the smoothest: no texture can be mistaken for it."""
STREAKS = 0.05
"""Correlation along one axis above that along the other, in such images, from which lines share noise."""
ALIKE = 1.3
"""Mean variance of all windows over that of the smoothest, up to which they are alike."""
MANY_WINDOWS = 256
"""Fewer do not tell so small a correlation."""
CORRELATION_PX = 16
"""Side of the windows."""
SMOOTHEST_SHARE = 0.2
"""Of the windows that the correlation is taken in."""
GROWS = 1.5
"""Variance in bright areas over that in dark ones, below which it is taken for even.

What is measured of even noise on photographs grows up to 1.46-fold by chance."""
SURE = 5.0
"""Standard errors of the growth."""
SHARED = 0.6
"""Power in the corners of the spectrum over that of the ring inside of them, below which they share noise.

In the calmest windows: white noise has 1, wide-field frames 0.4 to 0.55, noise blurred by 0.6 px 0.2."""
WHITE_SOMEWHERE = 1.4
"""The same where it is greatest, above which they do not: texture lowers it, but hardly everywhere.

White noise has 1.6 to 2, wide-field frames 1.2 to 1.35."""
TEXTURE_WEIGHT = 3.0
"""How much less than in the calmest blocks the noise may be, over how much rougher all blocks are.

Chen's eigenvalues say too little where structures are smooth but fill the image: of micrographs with white
noise of 30 the variance was 2.6 % too small, with noise of 10 it was 24 %."""
BLUR_PX = 2.0
"""Before bright and dark areas are looked for."""
BRIGHT, DARK, DARKEST = 95.0, 5.0, 0.5
"""Percentiles of the brightness."""
LEAST_LEVEL = 0.006
"""Of the range of the intensities: noise is taken for no smaller, 1.5 of 255.

In units of still smaller noise an image outweighs all others in training, and the start has seen none: of 24
colour photographs twelve with noise of 0 to 7, ``iddp``, 120 steps, 28.77 dB with a bound of 0.001, 29.99
with this one (10 test photographs, sigma 25, one seed)."""
WINDOW_PX = 32
"""Side of the windows in which correlated noise is measured."""
SMOOTHEST = 0.2
"""Share of the windows of like brightness that lie below the level that is taken."""
WINDOW_BINS = 12
"""Of brightness."""
FEWEST_WINDOWS = 8
"""In a bin."""


def measure_noise_law(
    plane: FloatArray, bins: CalmBins | None = None, shared: Shared | None = None
) -> NoiseLaw:
    """Gain, floor and kind of the noise of one plane.

    Parameters
    ----------
    plane
        (H, W), intensity units, finite; of any size.
    bins, shared
        What ``measure_calm_blocks`` and ``measure_shared_noise`` say of it, where that is known already.

    Returns
    -------
    NoiseLaw
        Its gain is 0 where the growth is small or unsure, its floor then above 0.

    Notes
    -----
    White noise is read off the finest detail of the calmest blocks (``measure_calm_blocks``); where that does
    not grow, Chen's eigenvalues may say less, and are taken then. Neighbours share noise where the corners of
    the spectrum are rather empty, and are so everywhere (``measure_shared_noise``); it is then measured by
    the variances of windows of 32 px, less their slope: in each bin of brightness the smoothest fifth of them
    ends at the noise's, about.
    """
    if min(plane.shape) < MIN_SIDE_PX:
        return NoiseLaw(_without_growth(plane, _difference_level(plane)), False)
    darkest = find_darkest(plane)
    noise = measure_white_noise(plane, bins or measure_calm_blocks(plane))
    shared = shared or measure_shared_noise(plane)
    correlated = shared.finest < SHARED and shared.whitest < WHITE_SOMEWHERE
    correlated = correlated or has_streaks(EvenTransform(noise, darkest).forward(plane))
    if correlated and min(plane.shape) >= 2 * WINDOW_PX:
        noise = measure_in_windows(plane)
    return NoiseLaw(noise, correlated, darkest, shared.spectrum if correlated else None)


def measure_white_noise(plane: FloatArray, bins: CalmBins) -> PoissonGaussian:
    """Gain and floor of noise that neighbours do not share, of a plane (H, W) and its calm blocks."""
    laws = fit_variance_laws(bins)
    line = laws.line
    if line.significance > SURE and line.growth > GROWS:
        growth = laws.best if laws.best.kind == "counts" else line
        noise = PoissonGaussian(growth.slope, growth.floor)
        if clearly_grows(plane, noise):
            return noise
    calm = float(np.median(bins.variance))
    least = calm / (1.0 + TEXTURE_WEIGHT * measure_texture(plane, bins))
    even = _unclipped_level(bin_patches(plane)) ** 2
    return _without_growth(plane, math.sqrt(min(max(even, least), calm)))


def _without_growth(plane: FloatArray, level: float) -> PoissonGaussian:
    """Even noise of that deviation, or of the least that it is taken for."""
    return PoissonGaussian(0.0, max(level**2, least_variance(plane)))


def least_variance(plane: FloatArray) -> float:
    """Of the noise of a plane: it is taken for no smaller."""
    low, high = np.percentile(plane, [0.5, 99.5])
    span = high - low or np.ptp(plane) or 1.0
    return float((LEAST_LEVEL * span) ** 2)


def _unclipped_level(binned: Binned) -> float:
    """Deviation of even noise, where it is not cut off: areas that are black all over have none."""
    patches, groups = binned
    if groups:
        patches = patches[np.concatenate(groups)]
    return math.sqrt(max(smooth_variance(patches)[0], 0.0))


def _difference_level(plane: FloatArray) -> float:
    """Of a plane too small for more: half the median difference of neighbours, as of normal noise."""
    steps = [np.abs(np.diff(plane, axis=axis)).ravel() for axis in (0, 1)]
    joined = np.concatenate(steps)
    return float(np.median(joined) / (0.6745 * math.sqrt(2.0))) if joined.size else 0.0


def find_darkest(plane: FloatArray) -> float:
    """Brightness of the darkest areas of a plane (H, W)."""
    return float(np.percentile(gaussian_filter(plane, BLUR_PX), DARKEST))


def clearly_grows(plane: FloatArray, noise: PoissonGaussian) -> bool:
    """Whether noise is much larger in bright areas than in dark ones, and there no smaller than the least."""
    smooth = gaussian_filter(plane, BLUR_PX)
    dark, bright = noise.variance(np.percentile(smooth, [DARK, BRIGHT]))
    return bool(bright > GROWS * dark and bright > least_variance(plane))


def has_streaks(even: FloatArray) -> bool:
    """Whether neighbours along one axis share even noise, those along the other less.

    Only where an image is nearly all noise: texture is alike along both.
    """
    correlations, alike = _correlate_neighbours(even)
    return alike and abs(correlations[0] - correlations[1]) > STREAKS


def is_correlated(even: FloatArray) -> bool:
    """Whether neighbouring pixels of a plane with even noise share it."""
    correlations, alike = _correlate_neighbours(even)
    return max(correlations) > (CORRELATED_ALIKE if alike else CORRELATED)


def _correlate_neighbours(even: FloatArray) -> tuple[tuple[float, float], bool]:
    """Correlation along rows and columns in the smoothest windows, and whether many windows are like them."""
    windows = cut_level_windows(even, CORRELATION_PX)
    if len(windows) < FEWEST_WINDOWS:
        return (0.0, 0.0), False
    variances = np.mean(windows**2, axis=(1, 2))
    count = max(FEWEST_WINDOWS, int(SMOOTHEST_SHARE * len(windows)))
    smoothest = np.argsort(variances)[:count]
    power = float(variances[smoothest].mean())
    if power <= 0:
        return (0.0, 0.0), False
    chosen = windows[smoothest]
    lost = 3.0 / CORRELATION_PX**2  # by the plane that is taken off, of white noise
    along = float(np.mean(chosen[:, :, 1:] * chosen[:, :, :-1])) / power + lost
    down = float(np.mean(chosen[:, 1:] * chosen[:, :-1])) / power + lost
    alike = len(windows) >= MANY_WINDOWS and variances.mean() < ALIKE * power
    return (along, down), bool(alike)


def measure_in_windows(plane: FloatArray) -> PoissonGaussian:
    """Gain and floor from the smoothest windows of each brightness."""
    stride = WINDOW_PX // 4
    means, variances = window_moments(plane, WINDOW_PX, stride)
    left = variances - plane_variance(plane, WINDOW_PX, stride)
    order = np.argsort(means, axis=None)
    count = int(np.clip(len(order) // FEWEST_WINDOWS, 1, WINDOW_BINS))
    brightness = []
    levels = []
    for group in np.array_split(order, count):
        brightness.append(means.ravel()[group].mean())
        levels.append(np.quantile(left.ravel()[group], SMOOTHEST))
    x, y = np.array(brightness), np.array(levels)
    even = _without_growth(plane, math.sqrt(max(float(np.median(y)), 0.0)))
    if count < WINDOW_BINS or np.ptp(x) <= 0 or np.median(y) <= 0:
        return even
    line = fit_robust_line(x, y)
    noise = PoissonGaussian(line.slope, line.intercept)
    grows = line.slope > 0 and clearly_grows(plane, noise)
    return noise if grows else even
