"""What a noisy set has and a clean set of other scenes lacks: gain, offset and the power spectrum of the noise, from the two sets' spectra.

Two sets of the same kind of structures have the same power spectrum but for what the noise adds. Nothing here pairs a noisy image with a
clean one: only averages over each set are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from pairfree.errors import InputError
from pairfree.measure.variance_in_sets import CountsLaw, counts_law
from pairfree.measure.windows import (
    CALM_SHARE,
    CLIPPED_SHARE,
    MOST_WINDOWS,
    fine_contrast,
    of_blocks,
    power_spectrum,
    smooth,
    window_px,
    windows,
)

FloatArray = NDArray[np.float64]

OCTAVES = 5
"""Rings of frequencies, each twice as far out as the last, up to the Nyquist frequency."""
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
"""Images are uneven where the mean variance of windows of this side is this many times that of the calmest quarter's end. Measured: 1.2 for
sections of tissue in an electron microscope; 2.2 to 31 for CT slices, fluorescence, nanoparticles and photographs."""
MOST_GAIN = 4.0
"""Extracted noise is amplified by no more than this at any frequency."""
DIRECTED = 0.25
"""Share of a spectrum that must move when it is transposed, for noise with a direction. Film noise of the bench: 0.1; charge: 0.6."""
OUTLIER = 4.0
"""Extracted noise is cut off at this many standard deviations: beyond it lie structures that the extractor took for noise."""


@dataclass(frozen=True)
class Difference:
    r"""A noise model of two sets.

    Noise model   x = gain (y + level(y) n) + offset,   level(y) = max(y + dark, darkest)^exponent / size;
                  n stationary, of the given spectrum, plus a constant of N(0, spread^2) an image; noise of counts is skewed besides
    gain, offset  (C,), network units
    spectrum      (C, S, S): power at each frequency of an S x S discrete Fourier transform; its mean is the variance of n
    spread        (C,) standard deviation of an image's mean
    even          structures fill the images evenly, so that all of them were compared; else calm windows only, with gain 1 and offset 0
    exponent      one of EXPONENTS;  size (C,) root mean square of max(y, DARKEST)^exponent over the clean
                  windows that were compared
    counts        noise of counts, its growth measured: exponent 0.5, and dark (C,) is what the variance at y = 0 makes of brightness,
                  darkest (C,) what the least variance does. Else 0 and DARKEST
    strengths     (K, C) deviation of the noise of each noisy image relative to this model, of noise of counts; else one 1
    """

    gain: FloatArray
    offset: FloatArray
    spectrum: FloatArray
    spread: FloatArray
    exponent: float
    size: FloatArray
    even: bool = True
    counts: bool = False
    dark: FloatArray = field(default_factory=lambda: np.zeros(1))
    darkest: FloatArray = field(default_factory=lambda: np.full(1, DARKEST))
    strengths: FloatArray = field(default_factory=lambda: np.ones((1, 1)))

    @cached_property
    def power(self) -> FloatArray:
        """Variance of n (C,)."""
        return self.spectrum.mean((1, 2))

    @cached_property
    def directed(self) -> bool:
        """Whether rows and columns of the noise differ, as scan lines do: its spectrum and the transposed one share too little.

        Calm windows alone are too few to tell.
        """
        turned = np.swapaxes(self.spectrum, -1, -2)
        return self.even and bool(
            np.sum(np.abs(self.spectrum - turned)) > DIRECTED * np.sum(self.spectrum + turned)
        )


def measure(noisy: Sequence[np.ndarray], clean: Sequence[np.ndarray], seed: int = 0) -> Difference:
    r"""The difference between two sets of planes (C, H, W), network units.

    Equation   gain^2 = min over octaves of S_X / S_Y, the power of the sets there: noise can only add;
               S_N = max(S_X - gain^2 S_Y, 0) / gain^2 at each frequency; offset = mean X - gain mean Y
    Where structures fill the images unevenly (CT, fluorescence, photographs), spectra of whole sets tell of them, not of the noise. Then
    S_X and S_Y are those of the calmest windows of each set, and intensities are taken to be calibrated: gain 1, offset 0.

    The exponent is the one of EXPONENTS with which clean windows and drawn noise are most like noisy windows (``energy_distance`` of the
    brightness and the fine and coarse contrast of blocks). Not so for noise of counts, many times stronger where it is bright: calm windows
    are dark and tell nothing of that, and two sets that differ in brightness are unlike whatever the noise. Where its growth is measured
    surely, at equal brightness, it is taken.

    A channel that is blank in one of the sets, such as the third colour of two dyes, keeps its brightness and gets no noise.

    Raises InputError where every channel is
    """
    window = window_px(noisy, clean)
    power_x, power_y = (power_spectrum(planes, window) for planes in (noisy, clean))
    seen = (power_x.sum((1, 2)) > 0) & (power_y.sum((1, 2)) > 0)
    if not seen.any():
        raise InputError(
            "the noisy or the clean set is blank: nothing can be learned from it; check the files"
        )
    bases = (
        _calm(noisy, clean, window)
        if uneven(noisy) or uneven(clean)
        else _compared(noisy, clean, power_x, power_y, seen)
    )
    return (
        bases[0]
        if len(bases) == 1
        else bases[int(np.argmin(_unlikenesses(bases, noisy, clean, window, seed)))]
    )


def fine_excess(noisy: Sequence[np.ndarray], clean: Sequence[np.ndarray]) -> float:
    """Power of the noisy planes (C, H, W) over that of the clean ones in the finest octave, relative to the median octave.

    Contrast that the noise took away drops out. Below 1, it is the clean set that has the more fine grain; 0 where a set is blank.
    """
    window = window_px(noisy, clean)
    fine_x, fine_y = (_octaves(power_spectrum(planes, window)).sum(0) for planes in (noisy, clean))
    if not (fine_x.all() and fine_y.all()):
        return 0.0
    ratios = fine_x / fine_y
    return float(ratios[0] / np.median(ratios))


def uneven(planes: Sequence[np.ndarray]) -> bool:
    """Whether some parts of the images hold much more than others."""
    variances = np.array([window.var() for window in windows(planes, min(UNEVEN_PX, window_px(planes)))])
    return bool(variances.mean() > UNEVEN * np.quantile(variances, CALM_SHARE))


def _compared(
    noisy: Sequence[np.ndarray],
    clean: Sequence[np.ndarray],
    power_x: FloatArray,
    power_y: FloatArray,
    seen: NDArray[np.bool_],
) -> list[Difference]:
    """From the spectra of the whole sets, with each exponent; ``seen`` says of each channel (C,) whether both sets show anything in it."""
    gain = np.where(
        seen, np.sqrt(np.min(_octaves(power_x) / np.maximum(_octaves(power_y), 1e-300), axis=1)), 1.0
    )
    means_x, means_y = (
        np.stack([plane.mean((1, 2), dtype=np.float64) for plane in planes]) for planes in (noisy, clean)
    )
    offset = np.where(seen, means_x.mean(0) - gain * means_y.mean(0), 0.0)
    square = (gain**2)[:, None, None]
    spectrum = seen[:, None, None] * np.maximum(power_x - square * power_y, 0.0) / square
    spread = seen * np.sqrt(np.maximum(means_x.var(0) / gain**2 - means_y.var(0), 0.0))
    return [
        Difference(gain, offset, spectrum, spread, exponent, _size(clean, exponent)) for exponent in EXPONENTS
    ]


def _calm(noisy: Sequence[np.ndarray], clean: Sequence[np.ndarray], side: int) -> list[Difference]:
    """From the calmest windows of each set, with each exponent, or of noise of counts; the spectrum interpolated to ``side`` bins."""
    calm_x, calm_y = _calmest(noisy), _calmest(clean)
    small = calm_x[0].shape[-1]
    excess = np.maximum(power_spectrum(calm_x, small) - power_spectrum(calm_y, small), 0.0)
    spectrum = _resampled(excess, (side, side))
    one, nought = np.ones(len(spectrum)), np.zeros(len(spectrum))
    models = [
        Difference(one, nought, spectrum, nought, exponent, _size(calm_y, exponent), even=False)
        for exponent in EXPONENTS
    ]
    laws = [counts_law(noisy, clean, side, channel) for channel in range(len(spectrum))]
    if all(laws) and models[0].power.all():
        return [_counts(models[0], [law for law in laws if law], noisy)]
    return models


def _counts(base: Difference, laws: Sequence[CountsLaw], noisy: Sequence[np.ndarray]) -> Difference:
    """``base`` with noise that follows a law in each channel, and the middle one of the noisy images has strength 1."""
    side = base.spectrum.shape[-1]
    strengths = np.stack([law.strengths(noisy, side, channel) for channel, law in enumerate(laws)], axis=1)
    middle = np.median(strengths, axis=0)
    gain, dark, darkest = np.array([(law.gain, law.dark, law.darkest) for law in laws]).T
    drawn = fields(base.spectrum, DRAWN, np.random.default_rng(0))
    shown = [
        np.quantile([fine_contrast(one[channel : channel + 1]) for one in drawn], CALM_SHARE)
        for channel in range(len(gain))
    ]
    size = np.sqrt(np.array(shown) / gain) / middle
    return replace(
        base, exponent=0.5, size=size, counts=True, dark=dark, darkest=darkest, strengths=strengths / middle
    )


def _calmest(planes: Sequence[np.ndarray]) -> list[FloatArray]:
    shown = list(windows(planes, min(CALM_PX, window_px(planes)), most=10 * MOST_WINDOWS))
    inside = [window for window in shown if np.mean((window <= 0.0) | (window >= 1.0)) <= CLIPPED_SHARE]
    ranked = sorted(inside if len(inside) >= LEAST_CALM else shown, key=lambda window: float(window.var()))
    return ranked[: max(LEAST_CALM, round(CALM_SHARE * len(ranked)))]


def level(y: np.ndarray, difference: Difference) -> FloatArray:
    """How much of n a clean image (..., C, H, W) of network units gets at each pixel."""
    dark, darkest, size = (
        value.reshape(-1, 1, 1) for value in (difference.dark, difference.darkest, difference.size)
    )
    return np.asarray(np.maximum(y + dark, darkest) ** difference.exponent / size)


def fields(spectrum: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """Gaussian fields (count, C, S, S) of the given spectrum, periodic."""
    white = rng.standard_normal((count, *spectrum.shape))
    return np.asarray(np.fft.ifft2(np.fft.fft2(white) * np.sqrt(spectrum)).real)


def restored(extracted: Sequence[FloatArray], spectrum: FloatArray) -> list[FloatArray]:
    """Extracted noise, planes (C, H, W), filtered so that their mean spectrum is the given one.

    An extractor leaves a part of the noise in the image. The filter gives each frequency its power back and keeps the phases, so what is
    not Gaussian, streaks or blobs, stays what it is. Borders are mirrored.
    """
    centered = [plane - plane.mean((1, 2), keepdims=True) for plane in extracted]
    most = [OUTLIER * plane.std((1, 2), keepdims=True) for plane in centered]
    cut = [np.clip(plane, -ends, ends) for plane, ends in zip(centered, most, strict=True)]
    found = power_spectrum(cut, spectrum.shape[-1])
    gain = np.minimum(
        np.sqrt(spectrum / np.maximum(found, 1e-12 * max(float(spectrum.max()), 1e-300))), MOST_GAIN
    )
    finer = {
        shape: _resampled(gain, (2 * shape[0], 2 * shape[1])) for shape in {plane.shape[1:] for plane in cut}
    }
    return [_filtered(plane, finer[plane.shape[1:]]) for plane in cut]


def _filtered(plane: FloatArray, gain: FloatArray) -> FloatArray:
    """``gain`` (C, 2 H, 2 W) applied to a plane (C, H, W) that is mirrored at two borders, so that it is periodic without a jump."""
    height, width = plane.shape[1:]
    whole = np.pad(plane, ((0, 0), (0, height), (0, width)), mode="symmetric")
    return np.asarray(np.fft.ifft2(np.fft.fft2(whole) * gain).real[:, :height, :width])


def _resampled(spectrum: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Values (C, S, S) at the frequencies of an S x S transform -> those of a transform of another shape, interpolated."""
    side = spectrum.shape[-1]
    places = np.meshgrid(*(np.fft.fftfreq(length) * side % side for length in shape), indexing="ij")
    return np.stack([ndimage.map_coordinates(one, places, order=1, mode="grid-wrap") for one in spectrum])


def energy_distance(a: FloatArray, b: FloatArray) -> float:
    r"""How unlike two samples (N, K) and (M, K) are: 0 in expectation if and only if their distributions are equal.

    Equation   2 E|a - b| - E|a - a'| - E|b - b'|
    Source     Szekely & Rizzo, Energy statistics, J. Stat. Plan. Inference 2013
    """
    return float(2.0 * cdist(a, b).mean() - cdist(a, a).mean() - cdist(b, b).mean())


def _octaves(power: FloatArray) -> FloatArray:
    """Power (C, OCTAVES) in rings of frequencies that end at the Nyquist frequency."""
    side = power.shape[-1]
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :])
    rings = [(radius >= 0.25 / 2**k) & (radius < 0.5 / 2**k) for k in range(OCTAVES)]
    return np.stack([power[:, ring].sum(1) for ring in rings if ring.sum() > 4], axis=1)


def _size(clean: Sequence[np.ndarray], exponent: float) -> FloatArray:
    """Root mean square (C,) of max(y, DARKEST)^exponent."""
    squares = [
        np.mean(np.maximum(plane, DARKEST) ** (2.0 * exponent), axis=(1, 2), dtype=np.float64)
        for plane in clean
    ]
    return np.asarray(np.sqrt(np.mean(squares, axis=0)))


def _unlikenesses(
    models: Sequence[Difference],
    noisy: Sequence[np.ndarray],
    clean: Sequence[np.ndarray],
    side: int,
    seed: int,
) -> list[float]:
    """Energy distance between blocks of the noisy windows and of clean windows with noise drawn from each model.

    The models differ in their level alone, so the noisy windows and the draws serve all of them.
    """
    rng, first = np.random.default_rng(seed), models[0]
    gain, offset = first.gain[:, None, None], first.offset[:, None, None]
    real = np.concatenate([_features((window - offset) / gain) for window in windows(noisy, side)])
    made: list[list[FloatArray]] = [[] for _ in models]
    for window in windows(clean, side):
        n = (
            fields(first.spectrum, 1, rng)[0]
            + (first.spread * rng.standard_normal(len(first.spread)))[:, None, None]
        )
        for model, found in zip(models, made, strict=True):
            noised = window + level(window, model) * n
            found.append(_features(np.clip(noised, -offset / gain, (1.0 - offset) / gain)))
    center, scale = real.mean(0), real.std(0) + 1e-12
    imitations = [np.concatenate(found) for found in made]
    ours, theirs = (rng.permutation(len(one))[:SAMPLE] for one in (real, imitations[0]))
    return [
        energy_distance(((real - center) / scale)[ours], ((one - center) / scale)[theirs])
        for one in imitations
    ]


def _features(window: FloatArray) -> FloatArray:
    """Brightness, log fine and log coarse contrast of the blocks of a window (C, S, S), averaged over channels: (N, 3)."""
    soft = smooth(window, 1.0)
    fine, coarse = window - soft, soft - smooth(window, 3.0)
    return np.stack(
        [of_blocks(window), np.log(of_blocks(fine**2) + 1e-9), np.log(of_blocks(coarse**2) + 1e-9)], axis=1
    )
