"""Statistics of a residual r = y - f, noisy minus denoised: its colour, what it follows, its strength.

All of (H, W) images. Standard errors assume noise that is independent between blocks of 16 x 16 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

from pairfree.errors import InputError

FloatArray = NDArray[np.float64]
Floats = tuple[float, ...]

LAGS_PX = (1, 2, 3, 4)
MIN_SIDE_PX = 8
BLOCK_PX = 16
LEAST_BLOCKS = 20
"""Fewer blocks tell no percentile."""
LEAST_BLOCKS_OF_MEAN = 8
"""Fewer blocks tell no scatter of block means."""
DETAIL_SIGMA_PX = 4.0
"""Detail is an image minus its Gaussian blur of this width."""
EDGE_SIGMA_PX = 1.0
EDGE_SHARE = 0.1
"""The strongest tenth of the output's gradients counts as edges."""
UNEVEN_QUANTILE, UNEVEN_Z = 0.95, 1.645
FLATTEST = 0.1
VARIANCE_BINS = 24
LEAST_IN_BIN = 32
"""Pixels."""
ROUNDS = 4
LEAST_MODEL = 0.05
"""Share of the mean variance below which the fitted line no longer says how much a bin scatters."""
ROUND_OFF = 1e-20
"""Power of detail over power of the image below which an image is flat."""


class VarianceLine(NamedTuple):
    """var(residual) = gain * output + offset, each with its standard error; all NaN where there is none."""

    gain: float
    gain_se: float
    offset: float
    offset_se: float


NO_LINE = VarianceLine(math.nan, math.nan, math.nan, math.nan)


def check_pair(noisy: ArrayLike, denoised: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Both images as float64, or an InputError that says what is wrong with them."""
    y = np.asarray(noisy, dtype=np.float64)
    f = np.asarray(denoised, dtype=np.float64)
    if y.shape != f.shape:
        raise InputError(
            f"noisy and denoised image differ in shape: {y.shape} against {f.shape}; pair the output with "
            "its own input"
        )
    if y.ndim != 2:
        raise InputError(
            f"residual evidence needs (H, W) images, got an array of shape {y.shape}: give channels and "
            "planes one by one"
        )
    if min(y.shape) < MIN_SIDE_PX:
        raise InputError(
            f"residual evidence needs sides of at least {MIN_SIDE_PX} px, got {y.shape[0]} x {y.shape[1]}"
        )
    for name, image in (("noisy", y), ("denoised", f)):
        sound = np.count_nonzero(np.isfinite(image))
        bad = int(image.size - sound)
        if bad:
            raise InputError(
                f"the {name} image has {bad} of {image.size} pixels that are NaN or infinite: replace or "
                "crop them first"
            )
    return y, f


def white_band(n_pixels: int) -> float:
    """Half-width of the band (2 standard errors) of autocorrelations of white noise of so many pixels."""
    return 2 / math.sqrt(max(n_pixels, 1))


def autocorrelation(residual: FloatArray, axis: int, lags: Sequence[int] = LAGS_PX) -> Floats:
    """Autocorrelation at lags of 1, 2, ... px along an axis, after the mean is subtracted.

    0 for a flat residual.

    Parameters
    ----------
    residual
        Any shape, such as (H, W).
    axis
        1 goes along the rows of (H, W), in x; 0 along its columns.
    lags
        px.
    """
    r = np.moveaxis(residual - residual.mean(), axis, 0)
    power = float(np.mean(r**2))
    if power == 0:
        return (0.0,) * len(lags)
    found = []
    for lag in lags:
        product = np.mean(r[lag:] * r[:-lag])
        found.append(float(product / power))
    return tuple(found)


def mean_se(residual: FloatArray) -> float:
    """Standard error of the mean from the scatter of block means, so that correlated noise is allowed for."""
    sums = sum_blocks(residual)
    if sums.size < LEAST_BLOCKS_OF_MEAN:
        return float(residual.std() / math.sqrt(residual.size))
    sizes = sum_blocks(np.ones_like(residual))
    expected = sizes * residual.mean()
    return root_of_squares(sums - expected) / residual.size


def output_correlation(residual: FloatArray, denoised: FloatArray) -> tuple[float, float]:
    """Pearson correlation of residual and output, with its standard error.

    The latter stays right where the noise follows the signal.
    """
    r = residual - residual.mean()
    f = denoised - denoised.mean()
    scale = math.sqrt(power_of(r) * power_of(f))
    if scale == 0:
        return 0.0, 0.0
    products = r * f
    correlation = float(np.sum(products) / scale)
    return correlation, root_of_squares(sum_blocks(products)) / scale


def fit_variance_line(residual: FloatArray, denoised: FloatArray) -> VarianceLine:
    """The line var(residual) = gain * output + offset, by weighted least squares.

    Notes
    -----
    Noise model: Poisson-Gaussian, y = gain * Poisson(x / gain) + N(0, offset), intensity units.

    How: 24 bins of equally many pixels, ordered by output; weights from var(s^2) = 2 s^4 / n, s^2 from the
    line of the round before.

    Assumes that the output is close to the scene: what was removed besides noise adds to the variance.
    """
    bins = min(VARIANCE_BINS, residual.size // LEAST_IN_BIN)
    level, variance, count = _bins_by_output(residual, denoised, max(bins, 1))
    largest = float(np.abs(level).max())
    one_level = np.ptp(level) <= 1e-9 * max(1.0, largest)
    if bins < 3 or one_level or not np.any(variance > 0):
        return NO_LINE
    least = LEAST_MODEL * variance.mean()
    design = np.stack([level, np.ones(bins)], axis=1)
    model = np.full(bins, variance.mean())
    for _ in range(ROUNDS):
        spread = 2 * np.maximum(model, least) ** 2
        weight = count / spread
        precision = design.T @ (weight[:, None] * design)
        covariance = np.linalg.pinv(precision)
        coefficients = covariance @ (design.T @ (weight * variance))
        model = design @ coefficients
    misfit = weight * (variance - model) ** 2
    scatter = float(np.sum(misfit) / (bins - 2))
    errors = np.sqrt(np.diag(covariance) * max(1.0, scatter))
    gain, offset = map(float, coefficients)
    gain_se, offset_se = map(float, errors)
    return VarianceLine(gain, gain_se, offset, offset_se)


def _bins_by_output(
    residual: FloatArray, denoised: FloatArray, bins: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean output, variance of the residual and number of pixels of equal groups, ordered by output."""
    order = np.argsort(denoised, axis=None, kind="stable")
    r, f = residual.ravel(), denoised.ravel()
    levels, variances, counts = [], [], []
    for group in np.array_split(order, bins):
        levels.append(f[group].mean())
        variances.append(r[group].var(ddof=1))
        counts.append(float(group.size))
    return np.array(levels), np.array(variances), np.array(counts)


def predict_variance(denoised: FloatArray, line: VarianceLine, total: float) -> FloatArray:
    """Noise variance of each pixel by the line, at least a quarter of ``total``.

    Parameters
    ----------
    denoised
        The output.
    line
        Of the residual's variance; it may fall below zero, or be none.
    total
        The residual's variance, which is given everywhere where there is no line.
    """
    if not math.isfinite(line.gain):
        return np.full_like(denoised, total)
    return np.maximum(line.gain * denoised + line.offset, total / 4)


def edge_power(
    residual: FloatArray, denoised: FloatArray, line: VarianceLine
) -> tuple[float, float]:
    """Residual power at the strongest tenth of the output's edges, over what the line predicts there.

    With its standard error; NaN where there are no edges.
    """
    gradient = gaussian_gradient_magnitude(denoised, EDGE_SIGMA_PX, mode="nearest")
    threshold = np.quantile(gradient, 1 - EDGE_SHARE)
    edges = gradient > max(threshold, 0.0)
    if not np.any(edges) or not math.isfinite(line.gain):
        return math.nan, math.nan
    power = (residual - residual.mean()) ** 2
    expected = line.gain * denoised + line.offset
    positive = np.maximum(expected, 0)
    predicted = float(np.sum(positive[edges]))
    if predicted <= 0:
        return math.nan, math.nan
    ratio = float(np.sum(power[edges])) / predicted
    beyond = np.where(edges, power - ratio * expected, 0.0)
    return ratio, root_of_squares(sum_blocks(beyond)) / predicted


def uneven_power(residual: FloatArray, denoised: FloatArray, line: VarianceLine) -> float:
    """Residual power of blocks over what the line predicts there: its 95th percentile over its median.

    NaN for images of few blocks.
    """
    power = (residual - residual.mean()) ** 2
    total = float(power.mean())
    if total == 0:
        return math.nan
    predicted = predict_variance(denoised, line, total)
    ratios = sum_blocks(power) / sum_blocks(predicted)
    middle = float(np.median(ratios))
    if ratios.size < LEAST_BLOCKS or not middle > 0:
        return math.nan
    return float(np.quantile(ratios, UNEVEN_QUANTILE)) / middle


def uneven_power_by_chance(along_x: Floats, along_y: Floats) -> float:
    """What Gaussian noise of these autocorrelations gives.

    var(mean r^2) = 2 sigma^4 (sum of their squares) / n.
    """
    across = 1 + 2 * sum(v**2 for v in along_x)
    down = 1 + 2 * sum(v**2 for v in along_y)
    spread = math.sqrt(2 * (across * down)) / BLOCK_PX
    return 1 + UNEVEN_Z * spread


def take_detail(image: FloatArray) -> FloatArray:
    """What is finer than a Gaussian of 4 px."""
    smooth = gaussian_filter(image, DETAIL_SIGMA_PX, mode="reflect")
    return np.asarray(image - smooth, dtype=np.float64)


def detail_support(noisy: FloatArray, denoised: FloatArray) -> tuple[float, float]:
    """<Hy, Hf> / <Hf, Hf> with its standard error over blocks; NaN without detail.

    H keeps the detail, y is noisy, f denoised.
    """
    y = take_detail(noisy)
    f = take_detail(denoised)
    cross = sum_blocks(y * f)
    power = sum_blocks(f * f)
    total = float(power.sum())
    if total <= ROUND_OFF * power_of(denoised):
        return math.nan, math.nan
    support = float(cross.sum()) / total
    return support, root_of_squares(cross - support * power) / total


def detail_share(residual: FloatArray, denoised: FloatArray) -> float:
    """Share of the residual's detail power that is a multiple of the output's detail; 0 without detail."""
    r = take_detail(residual)
    f = take_detail(denoised)
    power = power_of(f)
    scale = power_of(r) * power
    flat = power <= ROUND_OFF * power_of(denoised)
    if flat or scale == 0:
        return 0.0
    return float(np.sum(r * f)) ** 2 / scale


def noise_left(noisy: FloatArray, denoised: FloatArray) -> float:
    """Deviation of the output's detail over that of the noisy image's detail, in the flattest blocks.

    The first decile over blocks of 16 x 16 px.
    """
    left = sum_blocks(take_detail(denoised) ** 2)
    given = sum_blocks(take_detail(noisy) ** 2)
    with_noise = given > ROUND_OFF * power_of(noisy)
    if np.count_nonzero(with_noise) < LEAST_BLOCKS:
        return math.nan
    shares = left[with_noise] / given[with_noise]
    return math.sqrt(float(np.quantile(shares, FLATTEST)))


def sum_blocks(values: FloatArray) -> FloatArray:
    """Sums over blocks of about 16 x 16 px; blocks at the end are larger rather than cut."""
    rows, columns = map(_block_starts, values.shape)
    across = np.add.reduceat(values, rows, axis=0)
    sums = np.add.reduceat(across, columns, axis=1)
    return np.asarray(sums, dtype=np.float64)


def _block_starts(length: int) -> list[int]:
    whole = max(length // BLOCK_PX, 1)
    return list(range(0, whole * BLOCK_PX, BLOCK_PX))


def power_of(values: FloatArray) -> float:
    """The sum of the squares."""
    return float(np.sum(values**2))


def root_of_squares(values: FloatArray) -> float:
    """The root of the sum of the squares: the standard error of a sum over independent blocks."""
    return math.sqrt(power_of(values))
