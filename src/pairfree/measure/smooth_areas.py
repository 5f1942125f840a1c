"""Noise alone, cut from noisy images: smooth areas found by GAN2GAN's wavelet rule (4) or GCBD's rule (3), minus what is smooth in them.

All candidates of an image are judged at once. Sub-bands and windows are differences of running sums, so the cost a pixel depends neither on
the patch nor on how densely candidates lie; dense candidates are what makes strict thresholds affordable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.stats import skew

from pairfree.errors import ConfigError, InputError
from pairfree.sampling import spaced_indices

FloatArray = NDArray[np.float64]

PATCH_PX = 96
"""GAN2GAN's patch side."""
LEAST_PATCH_PX = 32
STRIDE_PX = 8
LEAST_CANDIDATES, MOST_CANDIDATES = 2000, 2_000_000
MOST = 20_000
"""GAN2GAN's number of patches."""
MOST_BYTES = 2**30
"""Of the patches; those of many channels are fewer."""
STRIP_PX = 2**24
"""Pixels that are judged at once, at about 60 bytes each."""
CUT_AT_ONCE = 256
FEWEST = 64
"""Fewer smooth patches say nothing about a distribution."""
WORST_UNEVENNESS = 0.6
"""Where even the best few candidates are less even than this by the paper's rule, they show structure. Noise whose band of means has four
times the deviation of the others stays just below."""
REFERENCE = 200
"""The most even candidates, whose deviation is the yardstick."""
EXCESS, TAIL_EXCESS, TAIL = 0.03, 0.1, 90.0
"""Patches are taken as long as their median deviation exceeds the reference's by no more than the first and their 90th percentile by no
more than the second: beyond, structure creeps in. Chosen on BSD300's training images and BSDS500's test images (none of them in BSD68) with
two kinds of noise."""
LEVEL, LEVEL_EXCESS = 20.0, 0.03
"""Of those, each patch is taken that exceeds this percentile of the reference's deviations by no more than this: noise that is independent
of the image has one level everywhere, and structure only adds to it. Chosen on 8 to 200 of BSD300's training images."""
GAIN_ROUNDS = 2
BLANK = 1e-6
"""A channel whose largest deviation is below that share of the largest of all holds no noise."""
GCBD_SUB_PX, GCBD_MEAN, GCBD_VARIANCE = 16, 0.1, 0.25
"""Side of the sub-patches, mu and gamma of eq. (3), as Chen et al. (CVPR 2018) have them."""
RULES = ("wavelet", "gcbd")


@dataclass(frozen=True)
class Passed:
    """Places that the rule took for smooth, whatever the level of their noise.

    places      (M, 3) image, top, left;  means   (M,) over pixels and channels;  deviations   (M,) intensity units, planes taken off
    """

    places: NDArray[np.int64]
    means: FloatArray
    deviations: FloatArray

    def apart(self, side: int) -> int:
        """Of the squares of that side that images fall into, how many hold some: patches that overlap say the same."""
        return len(np.unique(self.places // [1, side, side], axis=0))


@dataclass(frozen=True)
class NoisePatches:
    """What was cut out.

    pixels       (N, C, P, P) float32, intensity units, each channel minus the plane that fits it best
    places       (N, 3) image, top, left
    unevenness   (N,) how far each is from noise of the sub-bands' proportions, eq. (4); 0 under rule (3)
    gains        (4,) those proportions; all 1 for white noise
    threshold    lambda: the largest unevenness that was accepted
    passed       all that the rule took for smooth; under rule (4) the patches are those of one level among them
    """

    pixels: NDArray[np.float32]
    places: NDArray[np.int64]
    unevenness: FloatArray
    gains: FloatArray
    threshold: float
    passed: Passed

    @property
    def deviations(self) -> FloatArray:
        """(N,) standard deviation of each patch, intensity units."""
        return _deviations(self.pixels)


def haar(image: FloatArray) -> FloatArray:
    """One-level orthonormal Haar transform: (C, H, W) -> (C, 4, H // 2, W // 2); mean, then horizontal, vertical, diagonal differences."""
    height, width = (side // 2 * 2 for side in image.shape[1:])
    a, b = image[:, 0:height:2, 0:width:2], image[:, 0:height:2, 1:width:2]
    c, d = image[:, 1:height:2, 0:width:2], image[:, 1:height:2, 1:width:2]
    return np.stack([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], axis=1) / 2.0


def window_moments(values: FloatArray, side: int, stride: int) -> tuple[FloatArray, FloatArray]:
    """Means and variances (divided by n) over all windows of ``side`` at multiples of ``stride`` on the last two axes."""
    centre = values.mean(axis=(-2, -1), keepdims=True)  # a large mean would cost digits
    shifted = values - centre
    mean = _window_sums(shifted, side, stride) / side**2
    variance = np.maximum(_window_sums(shifted**2, side, stride) / side**2 - mean**2, 0.0)
    return mean + centre, variance


def plane_variance(values: FloatArray, side: int, stride: int) -> FloatArray:
    """Of the variance of each window, the part that a plane explains: slow shading, which is no noise."""
    shifted = values - values.mean(axis=(-2, -1), keepdims=True)
    sums = _window_sums(shifted, side, stride)
    of_ramp = side * (side**2 - 1) / 12.0  # sum of squares of a centred ramp of ``side`` values
    explained = np.zeros(sums.shape)
    for axis in (-2, -1):
        shape = [1] * values.ndim
        shape[axis] = -1
        ramp = np.arange(values.shape[axis], dtype=np.float64).reshape(shape)
        starts = np.arange(0, values.shape[axis] - side + 1, stride).reshape(shape)
        slope_sum = _window_sums(shifted * ramp, side, stride) - (starts + (side - 1) / 2.0) * sums
        explained += slope_sum**2 / (side * of_ramp)
    return np.asarray(explained / side**2)


def _window_sums(values: FloatArray, side: int, stride: int) -> FloatArray:
    total = np.zeros((*values.shape[:-2], values.shape[-2] + 1, values.shape[-1] + 1))
    np.cumsum(np.cumsum(values, axis=-2), axis=-1, out=total[..., 1:, 1:])
    rows, columns = (np.arange(0, length - side + 1, stride) for length in values.shape[-2:])
    top, left = rows[:, None], columns[None, :]
    return np.asarray(
        total[..., top + side, left + side]
        - total[..., top, left + side]
        - total[..., top + side, left]
        + total[..., top, left]
    )


def unevenness(deviations: FloatArray, gains: FloatArray) -> FloatArray:
    r"""How far patches are from noise whose four sub-bands have deviations in the proportion of ``gains``.

    Equation     with s' = s / g: mean_k |s'_k - mean s'| / mean s', which rule (4) bounds by lambda; g = 1 in the paper
    deviations   (..., 4) -> (...); infinite for a patch without any noise
    Source       Cha et al., GAN2GAN, eq. 4

    Correlated noise has uneven sub-bands, so that with g = 1 structure passes before noise does.
    """
    scaled = deviations / gains
    mean = scaled.mean(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(mean > 0, np.abs(scaled - mean[..., None]).mean(axis=-1) / mean, np.inf)


def uniform(image: FloatArray, patch_px: int, stride_px: int) -> NDArray[np.bool_]:
    r"""GCBD's rule for every candidate of (C, H, W): (rows, columns).

    Equation   |E(q) - E(p)| <= mu E(p) and |V(q) - V(p)| <= gamma V(p) for all sub-patches q of p; in every channel
    Source     Cha et al., GAN2GAN, eq. 3 (Chen et al., CVPR 2018)
    """
    mean, variance = window_moments(image, patch_px, stride_px)
    sub_mean, sub_variance = window_moments(image, GCBD_SUB_PX, stride_px)
    rows, columns = mean.shape[1:]
    good = np.ones(mean.shape, dtype=np.bool_)
    shifts = range(0, patch_px - GCBD_SUB_PX + 1, GCBD_SUB_PX)
    for down in shifts:
        for right in shifts:
            part = (
                slice(None),
                slice(down // stride_px, down // stride_px + rows),
                slice(right // stride_px, right // stride_px + columns),
            )
            good &= np.abs(sub_mean[part] - mean) <= GCBD_MEAN * np.abs(mean)
            good &= np.abs(sub_variance[part] - variance) <= GCBD_VARIANCE * variance
    return np.asarray(good.all(axis=0))


def extract(
    images: Sequence[np.ndarray],
    patch_px: int = PATCH_PX,
    stride_px: int = 0,
    most: int = MOST,
    rule: str = "wavelet",
    threshold: float = 0.0,
) -> NoisePatches:
    """Noise patches of noisy images.

    images      (C, H, W), intensity units; those smaller than a patch are passed over
    patch_px    side of the patches, pixels, even
    stride_px   distance of candidates, pixels, even; 0: 8, more where that would make over 2 million of them, less where under 2 thousand
    most        at most so many patches, the most even first (rule "gcbd": spread over all that pass); fewer where they would take 1 GiB
    rule        "wavelet", eq. (4), or "gcbd", eq. (3)
    threshold   lambda of eq. (4), with sub-bands taken as even; 0: chosen from the data, as are their proportions
    Raises      InputError where no image holds a patch, or none is smooth
    """
    if rule not in RULES:
        raise ConfigError(f"rule {rule!r}: must be one of {', '.join(RULES)}")
    if patch_px < LEAST_PATCH_PX or patch_px % 2 or (rule == "gcbd" and patch_px % GCBD_SUB_PX):
        raise ConfigError(
            f"patch_px = {patch_px}: noise patches have an even side from {LEAST_PATCH_PX} up (rule gcbd: a multiple of 16)"
        )
    usable = [index for index, image in enumerate(images) if min(image.shape[1:]) >= patch_px]
    if not usable:
        raise InputError(
            f"no image is as large as a noise patch of {patch_px} x {patch_px} px: give larger images or a smaller patch"
        )
    stride = stride_px or _stride([images[index].shape for index in usable], patch_px)
    most = max(FEWEST, min(most, MOST_BYTES // (4 * len(images[0]) * patch_px**2)))
    if rule == "gcbd":
        return _by_gcbd(images, usable, patch_px, stride, most)
    places, deviations, levels, means = _candidates(images, usable, patch_px, stride)
    gains = np.ones(4)
    _check_smooth(_over_channels(deviations, gains), patch_px, threshold or WORST_UNEVENNESS)
    for _ in range(0 if threshold else GAIN_ROUNDS):
        order = np.argsort(_over_channels(deviations, gains), kind="stable")
        gains = _proportions(deviations[order[:REFERENCE]])
    uneven = _over_channels(deviations, gains)
    order = np.argsort(uneven, kind="stable")
    passed = order[
        : int(np.count_nonzero(uneven <= threshold)) if threshold else _how_many(levels[order], most)
    ]
    kept = (passed if threshold else passed[_of_one_level(levels[order], len(passed))])[:most]
    found = Passed(places[passed], means[passed], levels[passed])
    return NoisePatches(
        cut(images, places[kept], patch_px), places[kept], uneven[kept], gains, float(uneven[kept[-1]]), found
    )


def _proportions(deviations: FloatArray) -> FloatArray:
    """(4,) typical proportion of the sub-bands' deviations, of (N, C, 4); their mean is 1."""
    each = deviations.reshape(-1, 4)
    gains = np.median(each / np.maximum(each.mean(axis=1, keepdims=True), 1e-12), axis=0)
    return np.asarray(np.maximum(gains / gains.mean(), 1e-3))


def _check_smooth(uneven: FloatArray, patch_px: int, bound: float) -> None:
    if len(uneven) < FEWEST:
        raise InputError(
            f"too little to measure noise on: the images have {len(uneven)} places for a patch of {patch_px} x {patch_px} px, {FEWEST} are "
            "needed; give larger or more images, or smaller patches (noise_patch_px)"
        )
    best = np.sort(uneven)[:FEWEST]
    if len(best) < FEWEST or best[-1] > bound:
        found = f"rule (4) leaves {int(np.count_nonzero(best <= bound))} of {len(uneven)} candidates of {patch_px} x {patch_px} px"
        raise InputError(
            f"no smooth area: {found}, {FEWEST} are needed; use a method that needs no noise patches, such as iddp or nb2nb"
        )


def _stride(shapes: Sequence[tuple[int, ...]], patch_px: int) -> int:
    area = sum((shape[1] - patch_px + 1) * (shape[2] - patch_px + 1) for shape in shapes)
    fine = 2 * math.floor(math.sqrt(area / LEAST_CANDIDATES) / 2)
    return max(min(STRIDE_PX, max(fine, 2)), 2 * math.ceil(math.sqrt(area / MOST_CANDIDATES) / 2))


def _candidates(
    images: Sequence[np.ndarray], usable: Sequence[int], patch_px: int, stride: int
) -> tuple[NDArray[np.int64], FloatArray, FloatArray, FloatArray]:
    """Places (M, 3), deviations of the sub-bands (M, C, 4) in the channels that hold noise, deviations and means of the patches (M,)."""
    places, bands, levels, means = [], [], [], []
    for index in usable:
        for top, strip in _strips(images[index], patch_px, stride):
            coefficients = haar(strip)
            variance = window_moments(coefficients, patch_px // 2, stride // 2)[1]
            variance[:, 0] -= plane_variance(coefficients[:, 0], patch_px // 2, stride // 2)
            bands.append(
                np.sqrt(
                    np.moveaxis(np.maximum(variance, 0.0), (0, 1), (2, 3)).reshape(-1, *variance.shape[:2])
                )
            )
            mean, level = window_moments(strip, patch_px, stride)
            level -= plane_variance(strip, patch_px, stride)
            means.append(mean.mean(axis=0).ravel())
            levels.append(np.sqrt(np.maximum(level, 0.0).mean(axis=0)).ravel())
            places.append(_grid(index, top, variance.shape[2:], stride))
    deviations = np.concatenate(bands)
    largest = deviations.max(axis=(0, 2))
    holding = largest > BLANK * largest.max()
    deviations = deviations[:, holding] if holding.any() else deviations
    return np.concatenate(places), deviations, np.concatenate(levels), np.concatenate(means)


def _strips(image: np.ndarray, patch_px: int, stride: int) -> Iterator[tuple[int, FloatArray]]:
    """(first row, pixels) of pieces of an image (C, H, W): every candidate lies in one, and running sums need memory for one only."""
    height, width = image.shape[1:]
    rows = max(1, STRIP_PX // (len(image) * width * stride)) * stride
    for top in range(0, height - patch_px + 1, rows):
        yield top, np.asarray(image[:, top : top + rows - stride + patch_px], dtype=np.float64)


def _grid(index: int, top: int, shape: tuple[int, ...], stride: int) -> NDArray[np.int64]:
    rows, columns = (at.ravel() * stride for at in np.indices(shape))
    return np.stack([np.full(rows.size, index), top + rows, columns], axis=1).astype(np.int64)


def _over_channels(deviations: FloatArray, gains: FloatArray) -> FloatArray:
    return np.asarray(unevenness(deviations, gains).mean(axis=1))


def _how_many(levels: FloatArray, most: int) -> int:
    """Of candidates from the most even on: the longest beginning that keeps within ``EXCESS`` and ``TAIL_EXCESS`` of the reference."""
    reference = float(np.median(levels[:REFERENCE]))
    counts = np.unique(np.geomspace(FEWEST, min(most, len(levels)), 200).astype(np.int64))
    bounds = [(1.0 + EXCESS) * reference, (1.0 + TAIL_EXCESS) * reference]
    fits = [int(count) for count in counts if np.all(np.percentile(levels[:count], [50.0, TAIL]) <= bounds)]
    return max(fits, default=FEWEST)


def _of_one_level(levels: FloatArray, count: int) -> NDArray[np.int64]:
    """Which of the first ``count`` keep within ``LEVEL_EXCESS`` of the reference's lower levels; at least ``FEWEST``, the lowest."""
    bound = (1.0 + LEVEL_EXCESS) * np.percentile(levels[:REFERENCE], LEVEL)
    return np.flatnonzero(levels[:count] <= max(bound, np.partition(levels[:count], FEWEST - 1)[FEWEST - 1]))


def _by_gcbd(
    images: Sequence[np.ndarray], usable: Sequence[int], patch_px: int, stride: int, most: int
) -> NoisePatches:
    stride = max(
        one for one in (2, 4, 8, 16) if one <= max(stride, 2)
    )  # sub-patches must lie on the grid of the candidates
    found = []
    for index in usable:
        for top, strip in _strips(images[index], patch_px, stride):
            good = uniform(strip, patch_px, stride)
            found.append(_grid(index, top, good.shape, stride)[good.ravel()])
    places = np.concatenate(found)
    if len(places) < FEWEST:
        raise InputError(
            f"no smooth area: {len(places)} candidates of {patch_px} x {patch_px} px pass rule (3), {FEWEST} are needed"
        )
    places = places[spaced_indices(len(places), most)]
    pixels, means = cut(images, places, patch_px), np.empty(len(places))
    for number, (index, top, left) in enumerate(places.tolist()):
        means[number] = images[index][:, top : top + patch_px, left : left + patch_px].mean()
    passed = Passed(places, means, _deviations(pixels))
    return NoisePatches(pixels, places, np.zeros(len(places)), np.ones(4), 0.0, passed)


def _deviations(pixels: NDArray[np.float32]) -> FloatArray:
    return np.array([patch.std(dtype=np.float64) for patch in pixels])


def cut(images: Sequence[np.ndarray], places: NDArray[np.int64], patch_px: int) -> NDArray[np.float32]:
    """(N, C, P, P), each without its plane."""
    pixels = np.empty((len(places), len(images[0]), patch_px, patch_px), np.float32)
    for index in np.unique(places[:, 0]):
        windows = sliding_window_view(np.asarray(images[index]), (patch_px, patch_px), axis=(1, 2))
        of_image = np.flatnonzero(places[:, 0] == index)
        for some in np.array_split(of_image, math.ceil(len(of_image) / CUT_AT_ONCE)):
            cut = np.moveaxis(windows[:, places[some, 1], places[some, 2]].astype(np.float64), 0, 1)
            pixels[some] = without_planes(cut)
    return pixels


def without_planes(patches: FloatArray) -> FloatArray:
    """Each of (..., P, P) minus its mean and its slopes along both axes (least squares)."""
    side = patches.shape[-1]
    along = np.arange(side) - (side - 1) / 2.0
    along /= math.sqrt(side * float(np.sum(along**2)))  # of unit power over a patch
    left = patches - patches.mean(axis=(-2, -1), keepdims=True)
    down, right = np.einsum("...ij,i->...", left, along), np.einsum("...ij,j->...", left, along)
    return np.asarray(left - down[..., None, None] * along[:, None] - right[..., None, None] * along)


def doubts(found: NoisePatches, grown: bool = False) -> list[str]:
    """What the patches say against noise that is zero-mean and independent of the image: a line each.

    grown   that its level follows the brightness is met already, and not told
    """
    passed, side = found.passed, found.pixels.shape[-1]
    slope, scatter = _slope(passed.means, passed.deviations**2)
    scatter *= math.sqrt(len(passed.means) / passed.apart(side))
    reach = float(np.subtract(*np.percentile(passed.means, [95, 5])))
    change = slope * reach / float(np.median(passed.deviations**2))
    dependent = abs(change) > DEPENDENCE and abs(slope) > 3.0 * scatter
    shared = found.gains.max() > STRONG * found.gains.min()
    lines = []
    if dependent and not grown:
        remedy = "iscl, with a clean set, allows it" if shared else "iddp and nb2nb allow it"
        lines.append(
            f"the noise depends on the brightness (its variance changes by {100 * change:+.0f} % over that of the smooth areas), which "
            f"this method assumes it does not: areas of more noise keep some of it; {remedy}"
        )
    if passed.apart(side) < FEWEST_APART:
        lines.append(
            "the noise was measured on the same few smooth spots again and again: give more or larger images"
        )
    if shared:
        lines.append(
            f"the noise found is strongly correlated (its sub-bands differ by a factor of {found.gains.max() / found.gains.min():.1f}): if "
            "neighbouring pixels of your instrument do not share noise, this is texture of the specimen and would be taken off with it; "
            "look at the noise patches in the report"
        )
    if dependent or grown:
        return lines  # which also spreads the levels and skews the values
    spread = float(
        np.subtract(*np.percentile(passed.deviations, [84, 16])) / 2.0 / np.median(passed.deviations)
    )
    if spread > SPREAD:
        lines.append(
            f"the noise patches differ in level (by {100 * spread:.0f} %): they may carry structure, or images differ in noise"
        )
    some = found.pixels[spaced_indices(len(found.pixels), SKEWED_PATCHES)]
    lopsided = float(np.median(skew(some.reshape(len(some), -1), axis=1)))
    if abs(lopsided) > SKEWNESS:
        lines.append(
            f"the noise is lopsided (skewness {lopsided:+.2f}): film, charging and clipped pixels make such noise, and shift the "
            "brightness too, which this method assumes it does not; iscl with a clean set restores that"
        )
    return lines


FEWEST_APART = 8
"""Squares of the patches' size, side by side, that must hold some of them."""
STRONG = 1.6
"""Ratio of the sub-bands' proportions from which ``doubts`` speaks; 1 for white noise, 1.3 for GAN2GAN's correlated one."""
DEPENDENCE, SPREAD, SKEWNESS = 0.25, 0.1, 0.5
"""Relative change of the variance over the smooth areas, relative spread of the deviations, and median skewness of a patch, from which
``doubts`` speaks. Skewness: film noise on photographs 0.8; Gaussian, correlated and mixture noise below 0.3."""
SKEWED_PATCHES = 500
"""Patches whose skewness is looked at, spread over all."""


def _slope(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Least squares slope of y on x and its standard error; 0 and infinity where x has no range."""
    centred = x - x.mean()
    power = float(np.sum(centred**2))
    if power == 0 or len(x) < 3:
        return 0.0, math.inf
    slope = float(np.sum(centred * y) / power)
    residual = y - y.mean() - slope * centred
    return slope, math.sqrt(float(np.sum(residual**2)) / (len(x) - 2) / power)
