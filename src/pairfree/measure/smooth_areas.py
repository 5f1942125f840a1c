"""Noise alone, cut from noisy images: their smooth areas, minus what is smooth in them.

Smooth areas are found by GAN2GAN's wavelet rule (4) or by GCBD's rule (3).

All candidates of an image are judged at once. Sub-bands and windows are differences of running sums, so the
cost a pixel depends neither on the patch nor on how densely candidates lie; dense candidates are what makes
strict thresholds affordable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairfree.errors import ConfigError, InputError
from pairfree.measure.candidate_grid import choose_stride, cut_strips, grid_places
from pairfree.measure.local_moments import haar, plane_variance, window_moments
from pairfree.measure.noise_patches import (
    Images,
    NoisePatches,
    Passed,
    Places,
    cut_patches,
    measure_deviations,
)
from pairfree.sampling import spaced_indices

FloatArray = NDArray[np.float64]

PATCH_PX = 96
"""GAN2GAN's patch side."""
LEAST_PATCH_PX = 32
"""Smaller patches say too little about correlation."""
MOST = 20_000
"""GAN2GAN's number of patches."""
MOST_BYTES = 2**30
"""Of the patches; those of many channels are fewer."""
FEWEST = 64
"""Fewer smooth patches say nothing about a distribution."""
WORST_UNEVENNESS = 0.6
"""Where even the best few candidates are less even than this by the paper's rule, they show structure.

Noise whose band of means has four times the deviation of the others stays just below.
"""
REFERENCE = 200
"""The most even candidates, whose deviation is the yardstick."""
EXCESS, TAIL_EXCESS, TAIL = 0.03, 0.1, 90.0
"""Patches are taken as long as their deviations keep to the reference's.

Their median may exceed it by the first, their 90th percentile by the second: beyond, structure creeps in.
Chosen on BSD300's training images and BSDS500's test images (none of them in BSD68) with two kinds of noise.
"""
LEVEL, LEVEL_EXCESS = 20.0, 0.03
"""Of those, each patch is taken that exceeds this percentile of the reference's deviations by no more.

Noise that is independent of the image has one level everywhere, and structure only adds to it. Chosen on 8 to
200 of BSD300's training images.
"""
GAIN_ROUNDS = 2
"""Of measuring the proportions of the sub-bands on the patches that are most even by the last ones."""
BLANK = 1e-6
"""A channel whose largest deviation is below that share of the largest of all holds no noise."""
GCBD_SUB_PX, GCBD_MEAN, GCBD_VARIANCE = 16, 0.1, 0.25
"""Side of the sub-patches, mu and gamma of eq. (3), as Chen et al. (CVPR 2018) have them."""
GCBD_STRIDES_PX = (2, 4, 8, 16)
"""With them, sub-patches lie on the grid of the candidates."""
RULES = ("wavelet", "gcbd")


@dataclass(frozen=True)
class Candidates:
    """Every place where a patch could be cut, and what is measured there."""

    places: Places
    """Where they lie, (M, 3)."""
    bands: FloatArray
    """(M, C, 4) deviations of the sub-bands in the channels that hold noise."""
    levels: FloatArray
    """(M,) deviations of the patches, planes taken off."""
    means: FloatArray
    """(M,) over pixels and channels."""

    def passed(self, which: NDArray[np.int64]) -> Passed:
        """Those that the rule took for smooth."""
        return Passed(self.places[which], self.means[which], self.levels[which])


def extract_noise(
    images: Images,
    patch_px: int = PATCH_PX,
    stride_px: int = 0,
    most: int = MOST,
    rule: str = "wavelet",
    threshold: float = 0.0,
) -> NoisePatches:
    """Noise patches of noisy images.

    Parameters
    ----------
    images
        (C, H, W), intensity units; those smaller than a patch are passed over.
    patch_px
        Side of the patches, pixels, even.
    stride_px
        Distance of candidates, pixels, even; 0: 8, more where that would make over 2 million of them, less
        where under 2 thousand.
    most
        At most so many patches, the most even first (rule "gcbd": spread over all that pass); fewer where
        they would take 1 GiB.
    rule
        "wavelet", eq. (4), or "gcbd", eq. (3).
    threshold
        lambda of eq. (4), with sub-bands taken as even; 0: chosen from the data, as are their proportions.

    Raises
    ------
    ConfigError
        For a side or a rule that is not possible.
    InputError
        Where no image holds a patch, or none is smooth.
    """
    if rule not in RULES:
        raise ConfigError(f"rule {rule!r}: must be one of {', '.join(RULES)}")
    multiple = GCBD_SUB_PX if rule == "gcbd" else 2
    if patch_px < LEAST_PATCH_PX or patch_px % multiple:
        raise ConfigError(
            f"patch_px = {patch_px}: noise patches have an even side from {LEAST_PATCH_PX} up (rule gcbd: a "
            "multiple of 16)"
        )
    usable = []
    for index, image in enumerate(images):
        if min(image.shape[1:]) >= patch_px:
            usable.append(index)
    if not usable:
        raise InputError(
            f"no image is as large as a noise patch of {patch_px} x {patch_px} px: give larger images or a "
            "smaller patch"
        )
    stride = stride_px or choose_stride([images[index].shape for index in usable], patch_px)
    patch_bytes = 4 * len(images[0]) * patch_px**2
    most = max(FEWEST, min(most, MOST_BYTES // patch_bytes))
    if rule == "gcbd":
        return _extract_by_gcbd(images, usable, patch_px, stride, most)
    return _extract_by_wavelets(images, usable, patch_px, stride, most, threshold)


# -- rule (4): sub-bands in proportion -------------------------------------------------------------


def _extract_by_wavelets(
    images: Images,
    usable: Sequence[int],
    patch_px: int,
    stride: int,
    most: int,
    threshold: float,
) -> NoisePatches:
    candidates = _measure_candidates(images, usable, patch_px, stride)
    gains = np.ones(4)
    uneven = _mean_unevenness(candidates.bands, gains)
    order = np.argsort(uneven, kind="stable")
    _check_smooth(uneven, patch_px, threshold or WORST_UNEVENNESS)
    if threshold:
        passed = order[: int(np.count_nonzero(uneven <= threshold))]
        kept = passed
    else:
        for _ in range(GAIN_ROUNDS):
            reference = order[:REFERENCE]
            gains = _typical_proportions(candidates.bands[reference])
            uneven = _mean_unevenness(candidates.bands, gains)
            order = np.argsort(uneven, kind="stable")
        levels = candidates.levels[order]
        passed = order[: _count_even(levels, most)]
        kept = passed[_pick_one_level(levels, len(passed))]
    kept = kept[:most]
    places = candidates.places[kept]
    return NoisePatches(
        pixels=cut_patches(images, places, patch_px),
        places=places,
        unevenness=uneven[kept],
        gains=gains,
        threshold=float(uneven[kept[-1]]),
        passed=candidates.passed(passed),
    )


def _measure_candidates(
    images: Images, usable: Sequence[int], patch_px: int, stride: int
) -> Candidates:
    places = []
    bands = []
    levels = []
    means = []
    for index in usable:
        for top, strip in cut_strips(images[index], patch_px, stride):
            of_bands = _band_deviations(strip, patch_px, stride)
            rows, columns, channels, _ = of_bands.shape
            bands.append(of_bands.reshape(-1, channels, 4))
            places.append(grid_places(index, top, (rows, columns), stride))
            mean, variance = window_moments(strip, patch_px, stride)
            means.append(mean.mean(axis=0).ravel())
            variance -= plane_variance(strip, patch_px, stride)
            noise = np.maximum(variance, 0.0).mean(axis=0)
            levels.append(np.sqrt(noise).ravel())
    return Candidates(
        np.concatenate(places),
        _holding_noise(np.concatenate(bands)),
        np.concatenate(levels),
        np.concatenate(means),
    )


def _band_deviations(strip: FloatArray, patch_px: int, stride: int) -> FloatArray:
    """(rows, columns, C, 4): of each candidate's sub-bands; slow shading is left out of that of the means."""
    coefficients = haar(strip)
    half_px = patch_px // 2
    half_stride = stride // 2
    _, variance = window_moments(coefficients, half_px, half_stride)
    variance[:, 0] -= plane_variance(coefficients[:, 0], half_px, half_stride)
    noise = np.maximum(variance, 0.0)
    return np.sqrt(np.moveaxis(noise, (0, 1), (2, 3)))


def _holding_noise(bands: FloatArray) -> FloatArray:
    """The channels of (M, C, 4) that are not blank; all where every one is."""
    largest = bands.max(axis=(0, 2))
    holding = largest > BLANK * largest.max()
    return bands[:, holding] if holding.any() else bands


def unevenness(deviations: FloatArray, gains: FloatArray) -> FloatArray:
    r"""How far patches are from noise whose four sub-bands have deviations in the proportion of ``gains``.

    Parameters
    ----------
    deviations
        (..., 4)
    gains
        (4,)

    Returns
    -------
    array
        (...), infinite for a patch without any noise.

    Notes
    -----
    With s' = s / g: mean_k |s'_k - mean s'| / mean s', which rule (4) bounds by lambda; g = 1 in the paper.

    Correlated noise has uneven sub-bands, so that with g = 1 structure passes before noise does.

    References
    ----------
    Cha et al., GAN2GAN, eq. 4
    """
    scaled = deviations / gains
    mean = scaled.mean(axis=-1)
    away = np.abs(scaled - mean[..., None])
    apart = away.mean(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(mean > 0, apart / mean, np.inf)


def _mean_unevenness(bands: FloatArray, gains: FloatArray) -> FloatArray:
    """(M,) over the channels of (M, C, 4)."""
    each = unevenness(bands, gains)
    return np.asarray(each.mean(axis=1))


def _typical_proportions(bands: FloatArray) -> FloatArray:
    """(4,) typical proportion of the sub-bands' deviations, of (N, C, 4); their mean is 1."""
    each = bands.reshape(-1, 4)
    mean = each.mean(axis=1, keepdims=True)
    relative = each / np.maximum(mean, 1e-12)
    typical = np.median(relative, axis=0)
    gains = typical / typical.mean()
    return np.asarray(np.maximum(gains, 1e-3))


def _check_smooth(uneven: FloatArray, patch_px: int, bound: float) -> None:
    """InputError where fewer than ``FEWEST`` candidates are smooth."""
    size = f"{patch_px} x {patch_px} px"
    if len(uneven) < FEWEST:
        raise InputError(
            f"too little to measure noise on: the images have {len(uneven)} places for a patch of {size}, "
            f"{FEWEST} are needed; give larger or more images, or smaller patches (noise_patch_px)"
        )
    best = np.sort(uneven)[:FEWEST]
    smooth = int(np.count_nonzero(best <= bound))
    if smooth < FEWEST:
        raise InputError(
            f"no smooth area: rule (4) leaves {smooth} of {len(uneven)} candidates of {size}, {FEWEST} are "
            "needed; use shipped, which needs no noise patches, or iddp where pixels do not share noise"
        )


def _count_even(levels: FloatArray, most: int) -> int:
    """How many candidates, from the most even on, keep to the reference by ``EXCESS`` and ``TAIL_EXCESS``."""
    reference = float(np.median(levels[:REFERENCE]))
    bounds = [(1.0 + EXCESS) * reference, (1.0 + TAIL_EXCESS) * reference]
    largest = min(most, len(levels))
    steps = np.geomspace(FEWEST, largest, 200).astype(np.int64)
    fitting = []
    for count in np.unique(steps).tolist():
        found = np.percentile(levels[:count], [50.0, TAIL])
        if np.all(found <= bounds):
            fitting.append(count)
    return max(fitting, default=FEWEST)


def _pick_one_level(levels: FloatArray, count: int) -> NDArray[np.int64]:
    """Which of the first ``count`` keep within ``LEVEL_EXCESS`` of the reference's lower levels.

    At least ``FEWEST``, the lowest.
    """
    some = levels[:count]
    bound = (1.0 + LEVEL_EXCESS) * np.percentile(levels[:REFERENCE], LEVEL)
    of_fewest = np.partition(some, FEWEST - 1)[FEWEST - 1]
    return np.flatnonzero(some <= max(bound, of_fewest))


# -- rule (3): uniform sub-patches -----------------------------------------------------------------


def _extract_by_gcbd(
    images: Images,
    usable: Sequence[int],
    patch_px: int,
    stride: int,
    most: int,
) -> NoisePatches:
    stride = max(one for one in GCBD_STRIDES_PX if one <= max(stride, 2))
    found = []
    for index in usable:
        for top, strip in cut_strips(images[index], patch_px, stride):
            good = find_uniform(strip, patch_px, stride)
            grid = grid_places(index, top, good.shape, stride)
            found.append(grid[good.ravel()])
    places = np.concatenate(found)
    if len(places) < FEWEST:
        raise InputError(
            f"no smooth area: {len(places)} candidates of {patch_px} x {patch_px} px pass rule (3), {FEWEST} "
            "are needed"
        )
    places = places[spaced_indices(len(places), most)]
    pixels = cut_patches(images, places, patch_px)
    means = []
    for index, top, left in places.tolist():
        rows = slice(top, top + patch_px)
        columns = slice(left, left + patch_px)
        means.append(images[index][:, rows, columns].mean())
    deviations = measure_deviations(pixels)
    return NoisePatches(
        pixels=pixels,
        places=places,
        unevenness=np.zeros(len(places)),
        gains=np.ones(4),
        threshold=0.0,
        passed=Passed(places, np.array(means, np.float64), deviations),
    )


def find_uniform(image: FloatArray, patch_px: int, stride_px: int) -> NDArray[np.bool_]:
    r"""GCBD's rule for every candidate of (C, H, W): (rows, columns).

    Notes
    -----
    |E(q) - E(p)| <= mu E(p) and |V(q) - V(p)| <= gamma V(p) for all sub-patches q of p; in every channel.

    References
    ----------
    Cha et al., GAN2GAN, eq. 3 (Chen et al., CVPR 2018)
    """
    mean, variance = window_moments(image, patch_px, stride_px)
    sub_mean, sub_variance = window_moments(image, GCBD_SUB_PX, stride_px)
    rows, columns = mean.shape[1:]
    good = np.ones(mean.shape, dtype=np.bool_)
    mean_bound = GCBD_MEAN * np.abs(mean)
    variance_bound = GCBD_VARIANCE * variance
    shifts = range(0, patch_px - GCBD_SUB_PX + 1, GCBD_SUB_PX)
    starts = [shift // stride_px for shift in shifts]
    for down in starts:
        for right in starts:
            part = np.s_[:, down : down + rows, right : right + columns]
            good &= np.abs(sub_mean[part] - mean) <= mean_bound
            good &= np.abs(sub_variance[part] - variance) <= variance_bound
    return np.asarray(good.all(axis=0))
