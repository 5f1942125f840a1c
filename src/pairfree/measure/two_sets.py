"""What a noisy set has and a clean set of other scenes lacks: gain, offset and spectrum of the noise.

Two sets of the same kind of structures have the same power spectrum but for what the noise adds. Nothing here
pairs a noisy image with a clean one: only averages over each set are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from pairfree.errors import InputError
from pairfree.measure.spectra import draw_fields, resample_spectrum, sum_octaves
from pairfree.measure.variance_in_sets import CountsLaw, measure_counts_law
from pairfree.measure.windows import (
    CALM_SHARE,
    CLIPPED_SHARE,
    MOST_WINDOWS,
    Planes,
    block_means,
    blur,
    cut_windows,
    fine_contrast,
    power_spectrum,
    window_px,
)

FloatArray = NDArray[np.float64]

EXPONENTS = (0.0, 0.5, 1.0)
"""Noise that does not depend on the brightness, noise of counts, and noise that multiplies."""
DARKEST = 0.15
"""Levels below this are taken for it: noise that multiplies must not be divided by zero."""
DRAWN = 4
"""Fields of the spectrum, whose fine contrast is measured as that of the noisy images is."""
SAMPLE = 1500
"""Blocks of either set that the exponent is chosen from."""
CALM_PX = 32
"""Side of the windows that noise is measured in where images are uneven."""
LEAST_CALM = 8
UNEVEN_PX, UNEVEN = 64, 2.0
"""Images are uneven where windows of this side vary in variance by more than this factor.

From the calmest quarter's end to the mean. Measured: 1.2 for sections of tissue in an electron microscope;
2.2 to 31 for CT slices, fluorescence, nanoparticles and photographs.
"""
DIRECTED = 0.25
"""Share of a spectrum that must move when it is transposed, for noise with a direction.

Film noise of the bench: 0.1; charge: 0.6.
"""


@dataclass(frozen=True)
class Difference:
    r"""A noise model of two sets.

    Notes
    -----
    x = gain (y + level(y) n) + offset, level(y) = max(y + dark, darkest)^exponent / size; n stationary, of
    the given spectrum, plus a constant of N(0, spread^2) an image; noise of counts is skewed besides.
    """

    gain: FloatArray
    """(C,), no unit."""
    offset: FloatArray
    """(C,), network units."""
    spectrum: FloatArray
    """(C, S, S): power at each frequency of an S x S discrete Fourier transform.

    Its mean is the variance of n.
    """
    spread: FloatArray
    """(C,) standard deviation of an image's mean."""
    exponent: float
    """One of EXPONENTS."""
    size: FloatArray
    """(C,) root mean square of max(y, DARKEST)^exponent over the clean windows that were compared."""
    even: bool = True
    """Structures fill the images evenly, so that all of them were compared.

    Else calm windows only, with gain 1 and offset 0.
    """
    counts: bool = False
    """Noise of counts, its growth measured: exponent 0.5, and ``dark`` and ``darkest`` are measured."""
    dark: FloatArray = field(default_factory=lambda: np.zeros(1))
    """(C,) of noise of counts, what its variance at y = 0 makes of brightness; else 0."""
    darkest: FloatArray = field(default_factory=lambda: np.full(1, DARKEST))
    """(C,) of noise of counts, what its least variance makes of brightness; else DARKEST."""
    strengths: FloatArray = field(default_factory=lambda: np.ones((1, 1)))
    """(K, C) deviation of the noise of each noisy image relative to this model, of noise of counts.

    Else one 1.
    """

    @cached_property
    def power(self) -> FloatArray:
        """Variance of n (C,)."""
        return np.asarray(self.spectrum.mean((1, 2)))

    @cached_property
    def directed(self) -> bool:
        """Whether rows and columns of the noise differ, as scan lines do.

        Its spectrum and the transposed one then share too little. Calm windows alone are too few to tell.
        """
        turned = np.swapaxes(self.spectrum, -1, -2)
        moved = np.sum(np.abs(self.spectrum - turned))
        whole = np.sum(self.spectrum + turned)
        return self.even and bool(moved > DIRECTED * whole)


def measure_difference(noisy: Planes, clean: Planes, seed: int = 0) -> Difference:
    r"""The difference between two sets.

    Parameters
    ----------
    noisy, clean
        Planes (C, H, W), network units. A channel that is blank in one of the sets, such as the third colour
        of two dyes, keeps its brightness and gets no noise.
    seed
        Of the noise that is drawn to choose the exponent.

    Raises
    ------
    InputError
        Where every channel is blank.

    Notes
    -----
    gain^2 = min over octaves of S_X / S_Y, the power of the sets there: noise can only add;
    S_N = max(S_X - gain^2 S_Y, 0) / gain^2 at each frequency; offset = mean X - gain mean Y.

    Where structures fill the images unevenly (CT, fluorescence, photographs), spectra of whole sets tell of
    them, not of the noise. Then S_X and S_Y are those of the calmest windows of each set, and intensities are
    taken to be calibrated: gain 1, offset 0.

    The exponent is the one of EXPONENTS with which clean windows and drawn noise are most like noisy windows
    (``energy_distance`` of the brightness and the fine and coarse contrast of blocks). Not so for noise of
    counts, many times stronger where it is bright: calm windows are dark and tell nothing of that, and two
    sets that differ in brightness are unlike whatever the noise. Where its growth is measured surely, at
    equal brightness, it is taken.
    """
    side = window_px(noisy, clean)
    power_x = power_spectrum(noisy, side)
    power_y = power_spectrum(clean, side)
    of_noisy = power_x.sum((1, 2))
    of_clean = power_y.sum((1, 2))
    shown = (of_noisy > 0) & (of_clean > 0)
    if not shown.any():
        raise InputError(
            "the noisy or the clean set is blank: nothing can be learned from it; check the files"
        )
    if is_uneven(noisy) or is_uneven(clean):
        models = _compare_calm_windows(noisy, clean, side)
    else:
        models = _compare_spectra(noisy, clean, power_x, power_y, shown)
    if len(models) == 1:
        return models[0]
    distances = _distances_to_noisy(models, noisy, clean, side, seed)
    return models[int(np.argmin(distances))]


def fine_excess(noisy: Planes, clean: Planes) -> float:
    """Power of noisy planes over that of clean ones in the finest octave, relative to the median octave.

    Parameters
    ----------
    noisy, clean
        (C, H, W)

    Notes
    -----
    Contrast that the noise took away drops out. Below 1, it is the clean set that has the more fine grain; 0
    where a set is blank.
    """
    side = window_px(noisy, clean)
    of_noisy = sum_octaves(power_spectrum(noisy, side))
    of_clean = sum_octaves(power_spectrum(clean, side))
    power_x = of_noisy.sum(0)
    power_y = of_clean.sum(0)
    if not (power_x.all() and power_y.all()):
        return 0.0
    ratios = power_x / power_y
    return float(ratios[0] / np.median(ratios))


def is_uneven(planes: Planes) -> bool:
    """Whether some parts of the images hold much more than others."""
    side = min(UNEVEN_PX, window_px(planes))
    windows = cut_windows(planes, side)
    variances = np.array([window.var() for window in windows])
    calm = np.quantile(variances, CALM_SHARE)
    return bool(variances.mean() > UNEVEN * calm)


def _compare_spectra(
    noisy: Planes,
    clean: Planes,
    power_x: FloatArray,
    power_y: FloatArray,
    shown: NDArray[np.bool_],
) -> list[Difference]:
    """Models with each exponent, from the spectra of the whole sets.

    Parameters
    ----------
    noisy, clean
        Planes (C, H, W).
    power_x, power_y
        (C, S, S), their spectra.
    shown
        (C,) whether both sets show anything in a channel.
    """
    of_clean = np.maximum(sum_octaves(power_y), 1e-300)
    ratios = sum_octaves(power_x) / of_clean
    least = np.min(ratios, axis=1)
    gain = np.where(shown, np.sqrt(least), 1.0)
    means_x = _plane_means(noisy)
    means_y = _plane_means(clean)
    shift = means_x.mean(0) - gain * means_y.mean(0)
    offset = np.where(shown, shift, 0.0)
    square = (gain**2)[:, None, None]
    excess = np.maximum(power_x - square * power_y, 0.0)
    spectrum = shown[:, None, None] * excess / square
    added = means_x.var(0) / gain**2 - means_y.var(0)
    spread = shown * np.sqrt(np.maximum(added, 0.0))
    models = []
    for exponent in EXPONENTS:
        size = _rms_level(clean, exponent)
        models.append(Difference(gain, offset, spectrum, spread, exponent, size))
    return models


def _plane_means(planes: Planes) -> FloatArray:
    """(N, C), of each plane's channels."""
    means = [plane.mean((1, 2), dtype=np.float64) for plane in planes]
    return np.stack(means)


def _compare_calm_windows(noisy: Planes, clean: Planes, side: int) -> list[Difference]:
    """Models with each exponent, or one of noise of counts, from the calmest windows of each set.

    The spectrum is interpolated to ``side`` bins.
    """
    calm_x = _calmest_windows(noisy)
    calm_y = _calmest_windows(clean)
    small = calm_x[0].shape[-1]
    power_x = power_spectrum(calm_x, small)
    power_y = power_spectrum(calm_y, small)
    excess = np.maximum(power_x - power_y, 0.0)
    spectrum = resample_spectrum(excess, (side, side))
    channels = len(spectrum)
    one = np.ones(channels)
    nought = np.zeros(channels)
    models = []
    for exponent in EXPONENTS:
        size = _rms_level(calm_y, exponent)
        model = Difference(one, nought, spectrum, nought, exponent, size, even=False)
        models.append(model)
    laws = []
    for channel in range(channels):
        law = measure_counts_law(noisy, clean, side, channel)
        if law is not None:
            laws.append(law)
    if len(laws) == channels and models[0].power.all():
        return [follow_counts(models[0], laws, noisy)]
    return models


def follow_counts(base: Difference, laws: Sequence[CountsLaw], noisy: Planes) -> Difference:
    """``base`` with noise that follows a law in each channel.

    The middle one of the noisy images has strength 1.
    """
    side = base.spectrum.shape[-1]
    fields = draw_fields(base.spectrum, DRAWN, np.random.default_rng(0))
    found = []
    contrasts = []
    for channel, law in enumerate(laws):
        found.append(law.strengths(noisy, side, channel))
        of_fields = [fine_contrast(one[channel : channel + 1]) for one in fields]
        contrasts.append(np.quantile(of_fields, CALM_SHARE))
    strengths = np.stack(found, axis=1)
    middle = np.median(strengths, axis=0)
    gain = np.array([law.gain for law in laws])
    dark = np.array([law.dark for law in laws])
    darkest = np.array([law.darkest for law in laws])
    size = np.sqrt(np.array(contrasts) / gain) / middle
    return replace(
        base,
        exponent=0.5,
        size=size,
        counts=True,
        dark=dark,
        darkest=darkest,
        strengths=strengths / middle,
    )


def _calmest_windows(planes: Planes) -> list[FloatArray]:
    """The quarter of least variance; of those that are not clipped, where there are enough."""
    side = min(CALM_PX, window_px(planes))
    shown = list(cut_windows(planes, side, most=10 * MOST_WINDOWS))
    inside = []
    for window in shown:
        at_an_end = (window <= 0.0) | (window >= 1.0)
        if np.mean(at_an_end) <= CLIPPED_SHARE:
            inside.append(window)
    chosen = inside if len(inside) >= LEAST_CALM else shown
    ranked = sorted(chosen, key=lambda window: float(window.var()))
    quarter = round(CALM_SHARE * len(ranked))
    return ranked[: max(LEAST_CALM, quarter)]


def noise_level(y: np.ndarray, difference: Difference) -> FloatArray:
    """How much of n a clean image (..., C, H, W) of network units gets at each pixel."""
    dark = difference.dark.reshape(-1, 1, 1)
    darkest = difference.darkest.reshape(-1, 1, 1)
    size = difference.size.reshape(-1, 1, 1)
    counts = np.maximum(y + dark, darkest)
    return np.asarray(counts**difference.exponent / size)


def _rms_level(clean: Planes, exponent: float) -> FloatArray:
    """Root mean square (C,) of max(y, DARKEST)^exponent."""
    squares = []
    for plane in clean:
        squared = np.maximum(plane, DARKEST) ** (2.0 * exponent)
        of_plane = np.mean(squared, axis=(1, 2), dtype=np.float64)
        squares.append(of_plane)
    square = np.mean(squares, axis=0)
    return np.asarray(np.sqrt(square))


# -- how like the noisy images a model makes clean ones --------------------------------------------


def _distances_to_noisy(
    models: Sequence[Difference],
    noisy: Planes,
    clean: Planes,
    side: int,
    seed: int,
) -> list[float]:
    """Energy distance between blocks of the noisy windows and of clean windows with noise of each model.

    The models differ in their level alone, so the noisy windows and the draws serve all of them.
    """
    rng = np.random.default_rng(seed)
    first = models[0]
    gain = first.gain[:, None, None]
    offset = first.offset[:, None, None]
    black = -offset / gain
    white = (1.0 - offset) / gain
    of_noisy = []
    for window in cut_windows(noisy, side):
        as_clean = (window - offset) / gain
        of_noisy.append(_block_features(as_clean))
    real = np.concatenate(of_noisy)
    made: list[list[FloatArray]] = [[] for _ in models]
    for window in cut_windows(clean, side):
        field_of_noise = draw_fields(first.spectrum, 1, rng)[0]
        shift = first.spread * rng.standard_normal(len(first.spread))
        noise = field_of_noise + shift[:, None, None]
        for model, features in zip(models, made, strict=True):
            noised = window + noise_level(window, model) * noise
            clipped = np.clip(noised, black, white)
            features.append(_block_features(clipped))
    center = real.mean(0)
    scale = real.std(0) + 1e-12
    ours = rng.permutation(len(real))[:SAMPLE]
    wanted = ((real - center) / scale)[ours]
    imitations = [np.concatenate(features) for features in made]
    theirs = rng.permutation(len(imitations[0]))[:SAMPLE]
    distances = []
    for imitation in imitations:
        seen = ((imitation - center) / scale)[theirs]
        distances.append(energy_distance(wanted, seen))
    return distances


def _block_features(window: FloatArray) -> FloatArray:
    """Brightness, log fine and log coarse contrast (N, 3) of the blocks of a window (C, S, S)."""
    soft = blur(window, 1.0)
    fine = window - soft
    coarse = soft - blur(window, 3.0)
    features = [
        block_means(window),
        np.log(block_means(fine**2) + 1e-9),
        np.log(block_means(coarse**2) + 1e-9),
    ]
    return np.stack(features, axis=1)


def energy_distance(a: FloatArray, b: FloatArray) -> float:
    r"""How unlike two samples (N, K) and (M, K) are.

    0 in expectation if their distributions are equal, and only then.

    Notes
    -----
    2 E|a - b| - E|a - a'| - E|b - b'|

    References
    ----------
    Szekely & Rizzo, Energy statistics, J. Stat. Plan. Inference 2013
    """
    between = cdist(a, b).mean()
    within_a = cdist(a, a).mean()
    within_b = cdist(b, b).mean()
    return float(2.0 * between - within_a - within_b)
