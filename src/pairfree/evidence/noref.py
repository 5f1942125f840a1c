"""Evidence without ground truth: what the residual, noisy minus denoised, says about what a denoiser removed, left or invented.

The yardstick is the oracle: an output equal to the true scene. Its residual is the noise itself, so each number below has a value that it
should have under a stated noise model. A number off its value is a reason to look; a number on its value is no proof (an output that
copies the input passes the tests for invention). Standard errors assume noise that is independent between blocks of 16 x 16 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

from pairfree.errors import InputError

FloatArray = NDArray[np.float64]

LAGS_PX = (1, 2, 3, 4)
MIN_SIDE_PX = 8
BLOCK_PX = 16
SITE_PX = 8
SITE_SIGMA_PX = (
    2.0  # the local mean that is tested: Gaussian, about the size of the smallest structure one would name
)
SHADING_SIGMA_PX = 8.0  # slower changes of brightness are not detail
DETAIL_SIGMA_PX = 4.0  # detail = image minus its Gaussian blur of this width
EDGE_SIGMA_PX = 1.0
EDGE_SHARE = 0.1  # the strongest tenth of the output's gradients counts as edges
UNEVEN_QUANTILE, UNEVEN_Z = 0.95, 1.645
LEAST_BLOCKS = 20
FLATTEST = 0.1
VARIANCE_BINS = 24
ROUND_OFF = 1e-20  # power of detail over power of the image below which an image is flat
SITE_Z = 5.5  # standard errors; an oracle's residual passes it by chance once in 10 million sites


@dataclass(frozen=True)
class Evidence:
    """Residual statistics of one image, or pooled over several. Units: those of the image (grey levels, counts, HU)."""

    n_images: int
    n_pixels: int
    mean: float
    """Mean of the residual, grey levels. Zero for zero-mean noise; else the denoiser shifted the brightness (bias)."""
    mean_se: float
    """Standard error of ``mean`` from the scatter of block means, so that correlated noise is allowed for."""
    std: float
    """Standard deviation of the residual, grey levels: the noise level, if all noise and nothing else was removed."""
    removed_share: float
    """Variance of the residual over the variance of the noisy image: the share of its power that was taken away."""
    noise_left: float
    """Fine contrast of the output over that of the noisy image, as deviations, in the flattest tenth of the blocks: no larger share of
    the noise is left there, white or correlated. Near 0 for an oracle, unless the scene is full of detail. NaN under 20 blocks."""
    autocorr_x: tuple[float, ...]
    """Autocorrelation of the residual along a row at lags 1 to 4 px. Zero for white noise; that of the noise otherwise."""
    autocorr_y: tuple[float, ...]
    """The same along a column. A difference between x and y is typical of scanners and of interlaced cameras."""
    corr_output: float
    """Pearson correlation of residual and output. Zero for an oracle and zero-mean noise. Positive: contrast was lost, or noise
    remains in the output; negative: contrast was exaggerated."""
    corr_output_se: float
    gain: float
    """Slope of residual variance against output, grey levels: 0 for signal-independent noise, the gain (grey levels per count) for
    Poisson noise. NaN where the output has too little range to tell."""
    gain_se: float
    offset: float
    """Residual variance at output zero, grey levels squared (read noise, if black is zero)."""
    offset_se: float
    edge_power: float
    """Residual power at the output's edges over what the line ``gain * output + offset`` predicts there. 1 for an oracle under
    Poisson-Gaussian noise; above 1, edges were removed together with the noise. NaN where there are no edges."""
    edge_power_se: float
    uneven_power: float
    """Residual power over what the line predicts, in blocks of 16 x 16 px: its 95th percentile over its median. Little above 1 (see
    ``uneven_power_chance``) for an oracle under Poisson-Gaussian noise; above, texture was removed somewhere, or the noise differs from
    place to place. NaN for images of less than 20 blocks."""
    uneven_power_chance: float
    """What noise of this autocorrelation gives."""
    detail_support: float
    """Regression of the noisy image's detail on the output's detail: the share of the output's fine contrast that the data show.
    1 for an oracle; under 1: sharpened or invented; above 1: softened, or noise remains in the output. NaN without detail."""
    detail_support_se: float
    detail_share: float
    """Share of the residual's detail power that is a multiple of the output's detail. Zero for an oracle."""
    sites: int
    """Squares of 8 x 8 px looked at."""
    tested_sites: int
    """Sites whose output detail (over about 5 px) is 5.5 standard errors of the noise or more: an invention would show there."""
    unsupported_sites: int
    """Sites where the local residual is no chance (5.5 standard errors) and the noisy data show less than half of the output's detail:
    candidates for invention. Zero for an oracle."""
    removed_sites: int
    """Sites where the local residual is no chance and the output shows less than half of the data's detail: structure, or hot pixels,
    removed. Zero for an oracle."""


Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Sites:
    """Where to look: boxes (y, x, height, width) in px, see ``Evidence.unsupported_sites`` and ``Evidence.removed_sites``."""

    unsupported: list[Box]
    removed: list[Box]


def residual_evidence(noisy: ArrayLike, denoised: ArrayLike) -> Evidence:
    """Evidence of one noisy image and its denoised version.

    noisy, denoised   (H, W), the same units, sides of at least 8 px; give the channels of a colour image one by one and ``pool`` them
    """
    y, f = checked_pair(noisy, denoised)
    r = y - f
    std = float(r.std())
    mean_x, mean_y = autocorrelation(r, axis=1), autocorrelation(r, axis=0)
    corr, corr_se = output_correlation(r, f)
    gain, gain_se, offset, offset_se = variance_line(r, f)
    edge, edge_se = edge_power(r, f, gain, offset)
    uneven, chance = uneven_power(r, f, gain, offset), _uneven_by_chance(mean_x, mean_y)
    tested, unsupported, removed = _site_verdicts(y, f, gain, offset, _variance_inflation(mean_x, mean_y))
    support, support_se = detail_support(y, f)
    total = float(y.var())
    return Evidence(
        n_images=1, n_pixels=int(r.size), mean=float(r.mean()), mean_se=_mean_se(r), std=std,
        removed_share=float(std**2 / total) if total > 0 else 0.0, noise_left=noise_left(y, f),
        autocorr_x=mean_x, autocorr_y=mean_y, corr_output=corr, corr_output_se=corr_se,
        gain=gain, gain_se=gain_se, offset=offset, offset_se=offset_se, edge_power=edge, edge_power_se=edge_se,
        uneven_power=uneven, uneven_power_chance=chance,
        detail_support=support, detail_support_se=support_se, detail_share=_detail_share(r, f),
        sites=int(tested.size), tested_sites=int(tested.sum()), unsupported_sites=int(unsupported.sum()),
        removed_sites=int(removed.sum()),
    )  # fmt: skip


def pool(evidence: Sequence[Evidence]) -> Evidence:
    """Evidence of several images as one: pixel-weighted means, variances for deviations, means weighted by precision for fitted slopes.

    The images should share units and kind of noise. Precision counts only down to
    a standard error of 5 % for detail and edges, where images truly differ, or one image rich in detail would speak for all.
    """
    items = list(evidence)
    if not items:
        raise InputError("no evidence to pool: give at least one noisy and denoised pair")
    weights = np.array([e.n_pixels for e in items], dtype=np.float64)
    weights /= weights.sum()

    def mean(get: Callable[[Evidence], float]) -> float:
        return float(np.dot(weights, [get(e) for e in items]))

    def finite_mean(get: Callable[[Evidence], float]) -> float:
        found = [value for value in map(get, items) if math.isfinite(value)]
        return float(np.mean(found)) if found else math.nan

    def mean_se(get: Callable[[Evidence], float]) -> float:
        return float(np.sqrt(np.sum((weights * [get(e) for e in items]) ** 2)))

    def lags(get: Callable[[Evidence], tuple[float, ...]]) -> tuple[float, ...]:
        return tuple(float(v) for v in weights @ np.array([get(e) for e in items]))

    gain, gain_se = _precision_mean([(e.gain, e.gain_se) for e in items])
    offset, offset_se = _precision_mean([(e.offset, e.offset_se) for e in items])
    edge, edge_se = _precision_mean([(e.edge_power, e.edge_power_se) for e in items], floor=0.05)
    support, support_se = _precision_mean(
        [(e.detail_support, e.detail_support_se) for e in items], floor=0.05
    )
    return Evidence(
        n_images=sum(e.n_images for e in items), n_pixels=sum(e.n_pixels for e in items),
        mean=mean(lambda e: e.mean), mean_se=mean_se(lambda e: e.mean_se), std=math.sqrt(mean(lambda e: e.std**2)),
        removed_share=mean(lambda e: e.removed_share), noise_left=finite_mean(lambda e: e.noise_left),
        autocorr_x=lags(lambda e: e.autocorr_x), autocorr_y=lags(lambda e: e.autocorr_y),
        corr_output=mean(lambda e: e.corr_output), corr_output_se=mean_se(lambda e: e.corr_output_se),
        gain=gain, gain_se=gain_se, offset=offset, offset_se=offset_se, edge_power=edge, edge_power_se=edge_se,
        uneven_power=finite_mean(lambda e: e.uneven_power), uneven_power_chance=mean(lambda e: e.uneven_power_chance),
        detail_support=support, detail_support_se=support_se, detail_share=mean(lambda e: e.detail_share),
        sites=sum(e.sites for e in items), tested_sites=sum(e.tested_sites for e in items),
        unsupported_sites=sum(e.unsupported_sites for e in items), removed_sites=sum(e.removed_sites for e in items),
    )  # fmt: skip


def white_band(n_pixels: int) -> float:
    """Half-width of the band (2 standard errors) in which an autocorrelation of white noise of this many pixels falls."""
    return 2 / math.sqrt(max(n_pixels, 1))


def autocorrelation(residual: FloatArray, axis: int, lags: Sequence[int] = LAGS_PX) -> tuple[float, ...]:
    """Autocorrelation at lags of 1, 2, ... px along an axis (1: along a row, x), after the mean is subtracted; 0 for a flat residual."""
    r = np.moveaxis(residual - residual.mean(), axis, 0)
    power = float(np.mean(r**2))
    if power == 0:
        return tuple(0.0 for _ in lags)
    return tuple(float(np.mean(r[lag:] * r[:-lag]) / power) for lag in lags)


def output_correlation(residual: FloatArray, denoised: FloatArray) -> tuple[float, float]:
    """Pearson correlation of residual and output, with a standard error that stays right where the noise follows the signal."""
    r, f = residual - residual.mean(), denoised - denoised.mean()
    scale = math.sqrt(float(np.sum(r**2)) * float(np.sum(f**2)))
    if scale == 0:
        return 0.0, 0.0
    products = block_sums(r * f)
    return float(np.sum(r * f) / scale), float(np.sqrt(np.sum(products**2)) / scale)


def variance_line(residual: FloatArray, denoised: FloatArray) -> tuple[float, float, float, float]:
    """Gain and offset, each with its standard error, of var(residual) = gain * output + offset.

    Noise model   Poisson-Gaussian: y = gain * Poisson(x / gain) + N(0, offset), grey levels
    How           24 bins of equally many pixels, ordered by output; weighted least squares, weights from var(s^2) = 2 s^4 / n
    Assumes       the output is close to the scene: what was removed besides noise adds to the variance
    """
    bins = min(VARIANCE_BINS, residual.size // 32)
    order = np.argsort(denoised, axis=None, kind="stable")
    groups = np.array_split(order, max(bins, 1))
    flat_r, flat_f = residual.ravel(), denoised.ravel()
    level = np.array([flat_f[g].mean() for g in groups])
    variance = np.array([flat_r[g].var(ddof=1) for g in groups])
    count = np.array([g.size for g in groups], dtype=np.float64)
    if bins < 3 or np.ptp(level) <= 1e-9 * max(1.0, float(np.abs(level).max())) or not np.any(variance > 0):
        return math.nan, math.nan, math.nan, math.nan
    model = np.full(bins, variance.mean())
    covariance = coefficients = np.zeros((2, 2))
    design = np.stack([level, np.ones(bins)], axis=1)
    for _ in range(4):
        weight = count / (2 * np.maximum(model, 0.05 * variance.mean()) ** 2)
        covariance = np.linalg.pinv(design.T @ (weight[:, None] * design))
        coefficients = covariance @ (design.T @ (weight * variance))
        model = design @ coefficients
    scatter = float(np.sum(weight * (variance - model) ** 2) / (bins - 2))
    errors = np.sqrt(np.diag(covariance) * max(1.0, scatter))
    return float(coefficients[0]), float(errors[0]), float(coefficients[1]), float(errors[1])


def edge_power(residual: FloatArray, denoised: FloatArray, gain: float, offset: float) -> tuple[float, float]:
    """Residual power at the strongest tenth of the output's edges, over the power that the variance line predicts there."""
    gradient = gaussian_gradient_magnitude(denoised, EDGE_SIGMA_PX, mode="nearest")
    threshold = np.quantile(gradient, 1 - EDGE_SHARE)
    edges = gradient > max(threshold, 0.0)
    if not np.any(edges) or not math.isfinite(gain):
        return math.nan, math.nan
    centred = (residual - residual.mean()) ** 2
    predicted = float(np.sum(np.maximum(gain * denoised + offset, 0)[edges]))
    if predicted <= 0:
        return math.nan, math.nan
    ratio = float(np.sum(centred[edges])) / predicted
    scatter = block_sums(np.where(edges, centred - ratio * (gain * denoised + offset), 0.0))
    return ratio, float(np.sqrt(np.sum(scatter**2)) / predicted)


def uneven_power(residual: FloatArray, denoised: FloatArray, gain: float, offset: float) -> float:
    """Residual power of blocks over what the variance line predicts there: the 95th percentile over the median, of both."""
    centred = (residual - residual.mean()) ** 2
    total = float(centred.mean())
    if total == 0:
        return math.nan
    ratios = block_sums(centred) / block_sums(_noise_variance(denoised, gain, offset, total))
    middle = float(np.median(ratios))
    return (
        float(np.quantile(ratios, UNEVEN_QUANTILE)) / middle
        if ratios.size >= LEAST_BLOCKS and middle > 0
        else math.nan
    )


def _noise_variance(denoised: FloatArray, gain: float, offset: float, total: float) -> FloatArray:
    """Of each pixel, by the line; at least a quarter of the residual's variance ``total``, against lines that fall below zero."""
    return (
        np.maximum(gain * denoised + offset, total / 4)
        if math.isfinite(gain)
        else np.full_like(denoised, total)
    )


def _uneven_by_chance(along_x: tuple[float, ...], along_y: tuple[float, ...]) -> float:
    """var(mean r^2) = 2 sigma^4 (sum of squared autocorrelations) / n for Gaussian noise."""
    widening = (1 + 2 * sum(v**2 for v in along_x)) * (1 + 2 * sum(v**2 for v in along_y))
    return 1 + UNEVEN_Z * math.sqrt(2 * widening) / BLOCK_PX


def site_map(noisy: ArrayLike, denoised: ArrayLike) -> Sites:
    """The sites that the evidence counts as unsupported or removed, to be drawn on the image."""
    y, f = checked_pair(noisy, denoised)
    r = y - f
    gain, _, offset, _ = variance_line(r, f)
    _, unsupported, removed = _site_verdicts(
        y, f, gain, offset, _variance_inflation(autocorrelation(r, axis=1), autocorrelation(r, axis=0))
    )
    height, width = r.shape

    def boxes(flags: NDArray[np.bool_]) -> list[Box]:
        corners = [(int(i) * SITE_PX, int(j) * SITE_PX) for i, j in zip(*np.nonzero(flags))]
        return [(top, left, min(SITE_PX, height - top), min(SITE_PX, width - left)) for top, left in corners]

    return Sites(unsupported=boxes(unsupported), removed=boxes(removed))


def checked_pair(noisy: ArrayLike, denoised: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Both images as float64, or an InputError that says what is wrong with them."""
    y, f = np.asarray(noisy, dtype=np.float64), np.asarray(denoised, dtype=np.float64)
    if y.shape != f.shape:
        raise InputError(
            f"noisy and denoised image differ in shape: {y.shape} against {f.shape}; pair the output with its own input"
        )
    if y.ndim != 2:
        raise InputError(
            f"residual evidence needs (H, W) images, got an array of shape {y.shape}: give channels and planes one by one"
        )
    if min(y.shape) < MIN_SIDE_PX:
        raise InputError(
            f"residual evidence needs sides of at least {MIN_SIDE_PX} px, got {y.shape[0]} x {y.shape[1]}"
        )
    for name, a in (("noisy", y), ("denoised", f)):
        bad = int(a.size - np.count_nonzero(np.isfinite(a)))
        if bad:
            raise InputError(
                f"the {name} image has {bad} of {a.size} pixels that are NaN or infinite: replace or crop them first"
            )
    return y, f


def block_sums(values: FloatArray) -> FloatArray:
    """Sums over blocks of about 16 x 16 px; blocks at the end are larger rather than cut."""
    rows, cols = _block_edges(values.shape[0]), _block_edges(values.shape[1])
    return np.asarray(
        np.add.reduceat(np.add.reduceat(values, rows[:-1], axis=0), cols[:-1], axis=1), dtype=np.float64
    )


def _block_edges(length: int) -> list[int]:
    return [*range(0, max(length // BLOCK_PX, 1) * BLOCK_PX, BLOCK_PX), length]


def _mean_se(residual: FloatArray) -> float:
    sums, sizes = block_sums(residual), block_sums(np.ones_like(residual))
    if sums.size < 8:
        return float(residual.std() / math.sqrt(residual.size))
    return float(np.sqrt(np.sum((sums - sizes * residual.mean()) ** 2)) / residual.size)


def _variance_inflation(along_x: tuple[float, ...], along_y: tuple[float, ...]) -> float:
    """How much wider a weighted sum of correlated noise scatters than one of white noise, at most: product of the sums over lags."""
    return max(1.0, 1 + 2 * sum(max(v, 0.0) for v in along_x)) * max(
        1.0, 1 + 2 * sum(max(v, 0.0) for v in along_y)
    )


def _detail_of(image: FloatArray) -> FloatArray:
    return np.asarray(image - gaussian_filter(image, DETAIL_SIGMA_PX, mode="reflect"), dtype=np.float64)


def detail_support(noisy: FloatArray, denoised: FloatArray) -> tuple[float, float]:
    """<Hy, Hf> / <Hf, Hf> with its standard error over blocks; H keeps the detail, y is noisy, f denoised. NaN without detail."""
    y, f = _detail_of(noisy), _detail_of(denoised)
    cross, power = block_sums(y * f), block_sums(f * f)
    total = float(power.sum())
    if total <= ROUND_OFF * float(np.sum(denoised**2)):
        return math.nan, math.nan
    support = float(cross.sum()) / total
    return support, float(np.sqrt(np.sum((cross - support * power) ** 2))) / total


def noise_left(noisy: FloatArray, denoised: FloatArray) -> float:
    """First decile, over blocks of 16 x 16 px, of the deviation of the output's detail over that of the noisy image's detail."""
    left, given = (block_sums(_detail_of(image) ** 2) for image in (denoised, noisy))
    with_noise = given > ROUND_OFF * float(np.sum(noisy**2))
    if np.count_nonzero(with_noise) < LEAST_BLOCKS:
        return math.nan
    return math.sqrt(float(np.quantile(left[with_noise] / given[with_noise], FLATTEST)))


def _site_verdicts(
    noisy: FloatArray, denoised: FloatArray, gain: float, offset: float, inflation: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Which sites are tested, unsupported, removed: local means of noisy and denoised detail, compared in standard errors of the noise.

    var(n) comes from the line over the whole image, not from the residual on the spot: an invented structure stands in that residual and
    would excuse itself.
    """
    total = float(np.var(noisy - denoised))
    noise = _noise_variance(denoised, gain, offset, total)
    y, f = _local_detail(noisy), _local_detail(denoised)
    around = np.maximum(gaussian_filter(noise, SITE_SIGMA_PX / math.sqrt(2), mode="reflect"), 0)
    least = SITE_Z * np.sqrt(inflation * around / (4 * math.pi * SITE_SIGMA_PX**2))
    chance = (np.abs(y - f) <= least) | (total == 0)
    agreement = y * f
    unsupported = ~chance & (np.abs(f) >= np.abs(y)) & (agreement < 0.5 * f * f)
    removed = ~chance & (np.abs(y) > np.abs(f)) & (agreement < 0.5 * y * y)
    doubtful = _in_sites(unsupported)
    return _in_sites(np.abs(f) > least) | doubtful, doubtful, _in_sites(removed) & ~doubtful


def _local_detail(image: FloatArray) -> FloatArray:
    local = gaussian_filter(image, SITE_SIGMA_PX, mode="reflect")
    return np.asarray(local - gaussian_filter(image, SHADING_SIGMA_PX, mode="reflect"), dtype=np.float64)


def _in_sites(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether any pixel of each 8 x 8 square is flagged."""
    rows, cols = (np.arange(0, side, SITE_PX) for side in flags.shape)
    return np.asarray(
        np.logical_or.reduceat(np.logical_or.reduceat(flags, rows, axis=0), cols, axis=1), dtype=np.bool_
    )


def _detail_share(residual: FloatArray, denoised: FloatArray) -> float:
    r, f = _detail_of(residual), _detail_of(denoised)
    scale = float(np.sum(r * r)) * float(np.sum(f * f))
    flat = float(np.sum(f * f)) <= ROUND_OFF * float(np.sum(denoised**2))
    return 0.0 if flat or scale == 0 else float(np.sum(r * f)) ** 2 / scale


def _precision_mean(values: Sequence[tuple[float, float]], floor: float = 0.0) -> tuple[float, float]:
    """Mean weighted by 1 / (se^2 + floor^2), and its standard error, of the finite (value, standard error) pairs; NaN without one."""
    good = [(v, se) for v, se in values if math.isfinite(v) and math.isfinite(se)]
    if not good:
        return math.nan, math.nan
    if floor == 0 and any(se == 0 for _, se in good):
        return float(np.mean([v for v, se in good if se == 0])), 0.0
    weights = np.array([1 / (se**2 + floor**2) for _, se in good])
    weights /= weights.sum()
    return float(np.dot(weights, [v for v, _ in good])), float(
        np.sqrt(np.sum((weights * [se for _, se in good]) ** 2))
    )
