"""Noise of a given power spectrum: fields that are drawn, and extracted noise whose spectrum is restored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pairfree.measure.windows import power_spectrum

FloatArray = NDArray[np.float64]

OCTAVES = 5
"""Rings of frequencies, each twice as far out as the last, up to the Nyquist frequency."""
LEAST_FREQUENCIES = 4
"""A ring of no more than these is left out."""
MOST_GAIN = 4.0
"""Extracted noise is amplified by no more than this at any frequency."""
OUTLIER = 4.0
"""Extracted noise is cut off at this many standard deviations.

Beyond lie structures that the extractor took for noise.
"""


def draw_fields(
    spectrum: FloatArray,
    count: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Gaussian fields (count, C, S, S) of the given spectrum (C, S, S), periodic."""
    white = rng.standard_normal((count, *spectrum.shape))
    wave = np.fft.fft2(white)
    filtered = wave * np.sqrt(spectrum)
    fields = np.fft.ifft2(filtered).real
    return np.asarray(fields)


def restore_spectrum(
    extracted: Sequence[FloatArray],
    spectrum: FloatArray,
) -> list[FloatArray]:
    """Extracted noise, filtered so that its mean spectrum is the given one.

    Parameters
    ----------
    extracted
        Planes (C, H, W).
    spectrum
        (C, S, S), power at each frequency of an S x S transform.

    Notes
    -----
    An extractor leaves a part of the noise in the image. The filter gives each frequency its power back and
    keeps the phases, so what is not Gaussian, streaks or blobs, stays what it is. Borders are mirrored.
    """
    cut = [_cut_outliers(plane) for plane in extracted]
    found = power_spectrum(cut, spectrum.shape[-1])
    most = max(float(spectrum.max()), 1e-300)
    least = 1e-12 * most
    missing = spectrum / np.maximum(found, least)
    gain = np.minimum(np.sqrt(missing), MOST_GAIN)
    finer: dict[tuple[int, int], FloatArray] = {}
    restored = []
    for plane in cut:
        _, height, width = plane.shape
        shape = (2 * height, 2 * width)
        if shape not in finer:
            finer[shape] = resample_spectrum(gain, shape)
        restored.append(_filter_mirrored(plane, finer[shape]))
    return restored


def _cut_outliers(plane: FloatArray) -> FloatArray:
    """(C, H, W) minus its mean, within ``OUTLIER`` standard deviations."""
    mean = plane.mean((1, 2), keepdims=True)
    centred = plane - mean
    deviation = centred.std((1, 2), keepdims=True)
    most = OUTLIER * deviation
    return np.asarray(np.clip(centred, -most, most))


def _filter_mirrored(plane: FloatArray, gain: FloatArray) -> FloatArray:
    """``gain`` (C, 2 H, 2 W) applied to a plane (C, H, W) that is mirrored at two borders.

    So it is periodic without a jump.
    """
    _, height, width = plane.shape
    added = ((0, 0), (0, height), (0, width))
    whole = np.pad(plane, added, mode="symmetric")
    wave = np.fft.fft2(whole)
    filtered = np.fft.ifft2(wave * gain).real
    return np.asarray(filtered[:, :height, :width])


def resample_spectrum(spectrum: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Values at the frequencies of a transform, interpolated to those of another.

    Parameters
    ----------
    spectrum
        (C, S, S), of an S x S transform.
    shape
        (H, W) of the other transform.

    Returns
    -------
    array
        (C, H, W)
    """
    side = spectrum.shape[-1]
    down, across = (np.fft.fftfreq(length) * side % side for length in shape)
    places = np.meshgrid(down, across, indexing="ij")
    found = []
    for one in spectrum:
        values = ndimage.map_coordinates(one, places, order=1, mode="grid-wrap")
        found.append(values)
    return np.stack(found)


def sum_octaves(power: FloatArray) -> FloatArray:
    """Power (C, OCTAVES) of (C, S, S) in rings of frequencies that end at the Nyquist frequency."""
    frequencies = np.fft.fftfreq(power.shape[-1])
    radius = np.hypot(frequencies[:, None], frequencies)
    sums = []
    for octave in range(OCTAVES):
        outer = 0.5 / 2**octave
        inner = outer / 2
        ring = (radius >= inner) & (radius < outer)
        if ring.sum() > LEAST_FREQUENCIES:
            sums.append(power[:, ring].sum(1))
    return np.stack(sums, axis=1)
