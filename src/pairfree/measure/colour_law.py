"""The laws of the noise of three colours of one scene, measured in their differences."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pairfree.measure.level import (
    MIN_SIDE_PX,
    PATCHES_PER_EIGENVALUE,
    patch_side,
    smooth_variance,
)
from pairfree.measure.noise_law import NoiseLaw
from pairfree.measure.plane_law import (
    LEAST_LEVEL,
    WINDOW_PX,
    clearly_grows,
    find_darkest,
    is_correlated,
    measure_in_windows,
)
from pairfree.measure.variance_line import (
    BINS,
    CLIPPED_SHARE,
    PoissonGaussian,
    estimate_growth_in_bins,
)
from pairfree.measure.window_spectrum import measure_shared_noise

FloatArray = NDArray[np.float64]

COLOURS = 3
PAIRS = ((0, 1), (0, 2), (1, 2))
PATCHES = 8192
"""Of a plane, at places that all colours share."""
SHARED = 1e-3
"""Variance of a difference over that of its colours, below which they share their noise: grey as RGB."""
ALIKE = 1.5
"""The same, from which two colours do not show the same things: their difference is no smoother than they."""
UNLIKE = 5.0
"""Variances of two colours' noise, one over the other, from which the differences tell only the larger."""
LESS = 0.75
"""Variance of a colour's noise over that of the line for all, below which it has a line of its own."""


def measure_colour_laws(planes: FloatArray) -> tuple[NoiseLaw, ...] | None:
    r"""Gain and floor of the noise of three colours of one scene.

    Parameters
    ----------
    planes
        (C, H, W), intensity units, finite.

    Returns
    -------
    tuple of NoiseLaw or None
        None where differences do not tell: not three colours, too few pixels, colours that show different
        things (three stains), or that share their noise (grey stored as RGB).

    Notes
    -----
    Fine texture of photographs is nearly the same in all colours, and so absent from their differences, while
    the variances of independent noise add up: V_rg = v_r + v_g, and so on, three equations for three
    variances. Chen's rule (``measure.level``) gives each V. Where noise grows with the brightness one line is
    put through all three pairs, and stands for all colours. Where neighbouring pixels share their noise
    (cameras that interpolate colours, JPEG) one level for all is that of the smoothest windows of the
    differences: ten crops of real cameras (CC15) 36.02 dB, colour by colour 35.52.
    """
    if len(planes) != COLOURS:
        return None
    colours = _take_unclipped(planes)
    if colours is None:
        return None
    least = (LEAST_LEVEL * float(np.ptp(planes))) ** 2
    levels = [_measure_level(patches) for patches in colours]
    apart = {}
    for first, second in PAIRS:
        apart[first, second] = smooth_variance(_subtract(colours, first, second))[0]
        both = levels[first].variance + levels[second].variance
        if not SHARED * both < apart[first, second] < ALIKE * both:
            return None
    if _share_with_neighbours(planes):
        return _measure_shared(planes, least)
    growth = _find_growth(planes, colours)
    if growth is None:
        noises = _solve(apart, least)
    else:
        noises = _share_growth(growth, levels)
    return None if noises is None else _name_laws(planes, noises)


class _Level(NamedTuple):
    """Noise in the smooth patches of a colour."""

    variance: float
    brightness: float


def _measure_level(patches: FloatArray) -> _Level:
    """Of patches (N, side, side), by Chen's rule."""
    variance, smooth = smooth_variance(patches - patches.mean())
    return _Level(variance, float(patches[smooth].mean()))


def _take_unclipped(planes: FloatArray) -> list[FloatArray] | None:
    """Patches (N, side, side) of each colour, at places where all are cut off least; None where too few."""
    height, width = planes.shape[1:]
    if min(height, width) < MIN_SIDE_PX:
        return None
    side = patch_side(height, width)
    fewest = PATCHES_PER_EIGENVALUE * side**2
    cut = np.max([_measure_cut_share(plane, side) for plane in planes], axis=0).ravel()
    limit = max(CLIPPED_SHARE, float(np.quantile(cut, min(1.0, 2.0 * fewest / cut.size))))
    found = np.flatnonzero(cut <= limit)
    if len(found) < fewest:
        return None
    if len(found) > PATCHES:
        found = np.sort(np.random.default_rng(0).choice(found, PATCHES, replace=False))
    across = width - side + 1
    rows, columns = np.divmod(found, across)
    windows = [sliding_window_view(plane, (side, side)) for plane in planes]
    return [window[rows, columns] for window in windows]


def _measure_cut_share(plane: FloatArray, side: int) -> FloatArray:
    """Share of pixels at the plane's least or greatest value, at the brightness of each patch."""
    cut = (plane == plane.min()) | (plane == plane.max())
    brightness, share = _average(plane, side), _average(cut.astype(np.float64), side)
    edges = np.quantile(brightness.ravel()[::BINS], np.arange(1, BINS) / BINS)
    bins = np.searchsorted(edges, brightness.ravel())
    shares = np.bincount(bins, share.ravel(), BINS) / np.maximum(
        np.bincount(bins, minlength=BINS), 1
    )
    return np.asarray(shares[bins].reshape(share.shape))


def _average(values: FloatArray, side: int) -> FloatArray:
    """Means of all patches of values (H, W)."""
    sums = np.cumsum(np.cumsum(np.pad(values, ((1, 0), (1, 0))), axis=0), axis=1)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.asarray(inside / side**2)


def _subtract(colours: list[FloatArray], first: int, second: int) -> FloatArray:
    """Patches of one colour less those of another, less their mean."""
    apart = colours[first] - colours[second]
    return np.asarray(apart - apart.mean())


def _solve(apart: dict[tuple[int, int], float], least: float) -> list[PoissonGaussian] | None:
    """Even noise of each colour from the variances of the differences; None where they contradict."""
    half = sum(apart.values()) / 2.0
    opposite = [apart[1, 2], apart[0, 2], apart[0, 1]]
    variances = [half - other for other in opposite]
    floors = [max(variance, least) for variance in variances]
    if min(floors) < max(floors) / UNLIKE:
        return None
    return [PoissonGaussian(0.0, floor) for floor in floors]


def _find_growth(planes: FloatArray, colours: list[FloatArray]) -> PoissonGaussian | None:
    """The line of all colours together; None where noise does not clearly grow with the brightness."""
    patches, brightness = [], []
    for first, second in PAIRS:
        patches.append(_subtract(colours, first, second) / np.sqrt(2.0))
        together = colours[first] + colours[second]
        brightness.append(together.mean((1, 2)) / 2.0)
    values, means = np.concatenate(patches), np.concatenate(brightness)
    bins = len(values) // (PATCHES_PER_EIGENVALUE * values.shape[-1] ** 2)
    groups = np.array_split(np.argsort(means, kind="stable"), min(bins, BINS))
    growth = estimate_growth_in_bins(values, means, groups)
    if growth is None or not clearly_grows(np.concatenate(planes), growth):
        return None
    return growth


def _share_growth(growth: PoissonGaussian, levels: list[_Level]) -> list[PoissonGaussian] | None:
    """The line for each colour; None where one of them has clearly less noise than that."""
    for level in levels:
        if level.variance < LESS * growth.variance(np.array(level.brightness)):
            return None
    return [growth] * len(levels)


def _name_laws(planes: FloatArray, noises: list[PoissonGaussian]) -> tuple[NoiseLaw, ...]:
    """White noise of each colour."""
    pairs = zip(planes, noises, strict=True)
    return tuple(NoiseLaw(noise, False, find_darkest(plane)) for plane, noise in pairs)


def _measure_shared(planes: FloatArray, least: float) -> tuple[NoiseLaw, ...] | None:
    """Noise that neighbours share, in the smoothest windows of the differences; None in small planes."""
    if min(planes.shape[1:]) < 2 * WINDOW_PX:
        return None
    variances, spectra = [], []
    for first, second in PAIRS:
        apart = (planes[first] - planes[second]) / np.sqrt(2.0)
        variances.append(float(measure_in_windows(apart).variance(apart.mean())))
        spectrum = measure_shared_noise(apart).spectrum
        if spectrum is not None:
            spectra.append(spectrum)
    noise = PoissonGaussian(0.0, max(float(np.median(variances)), least))
    mean = np.mean(spectra, axis=0) if spectra else None
    return tuple(NoiseLaw(noise, True, find_darkest(plane), mean) for plane in planes)


def _share_with_neighbours(planes: FloatArray) -> bool:
    """Whether neighbouring pixels share what one colour has and another has not, in most pairs."""
    found = [is_correlated(planes[first] - planes[second]) for first, second in PAIRS]
    return sum(found) * 2 > len(found)
