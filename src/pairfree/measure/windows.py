"""Windows and blocks of a set of planes, and what is averaged over them: power spectra, brightness, fine contrast."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pairfree.sampling import spaced_indices

FloatArray = NDArray[np.float64]

WINDOW_PX = 256
"""Side of the windows whose spectra are averaged, at most."""
MOST_WINDOWS = 300
"""Windows of a set, spread evenly over it."""
SMOOTHING_BINS = 1.5
"""Spectra are smoothed by a Gaussian of this standard deviation, in frequency bins of a window."""
BLOCK_PX = 16
CALM_SHARE = 0.25
"""Share of the windows or blocks of a set, those with the least contrast, that noise is measured in where images are uneven."""
CLIPPED_SHARE = 0.02
"""Windows with more pixels at the ends of the range, such as air in a window of HU, do not count as calm."""


def window_px(*sets: Sequence[np.ndarray]) -> int:
    """The largest power of two that fits into an image of each set, at most WINDOW_PX."""
    side = min(max(min(plane.shape[1:]) for plane in planes) for planes in sets)
    return int(min(WINDOW_PX, 2 ** int(math.log2(side))))


def windows(planes: Sequence[np.ndarray], side: int, most: int = 0) -> Iterator[FloatArray]:
    """Half-overlapping windows (C, S, S) of the planes that are large enough, at most ``most`` (0: MOST_WINDOWS)."""
    places = [
        (index, top, left)
        for index, plane in enumerate(planes)
        for top in range(0, plane.shape[1] - side + 1, max(1, side // 2))
        for left in range(0, plane.shape[2] - side + 1, max(1, side // 2))
    ]
    for index, top, left in (places[k] for k in spaced_indices(len(places), most or MOST_WINDOWS)):
        yield planes[index][:, top : top + side, left : left + side].astype(np.float64)


def power_spectrum(planes: Sequence[np.ndarray], side: int) -> FloatArray:
    """Mean power (C, S, S) of windows, smoothed; windows have their mean removed and are tapered (Hann). Its mean is their variance."""
    taper = np.hanning(side + 1)[:-1]
    taper = np.outer(taper, taper)
    taper /= math.sqrt(float(np.mean(taper**2)))
    total, count = np.zeros((planes[0].shape[0], side, side)), 0
    for window in windows(planes, side):
        total += np.abs(np.fft.fft2((window - window.mean((1, 2), keepdims=True)) * taper)) ** 2
        count += 1
    return np.asarray(
        ndimage.gaussian_filter(total / (count * side**2), (0.0, SMOOTHING_BINS, SMOOTHING_BINS), mode="wrap")
    )


def smooth(window: FloatArray, px: float) -> FloatArray:
    return np.asarray(ndimage.gaussian_filter(window, (0.0, px, px)))


def of_blocks(values: FloatArray) -> FloatArray:
    """Means (N,) of the blocks of a window (C, S, S), over all channels."""
    side = max(1, values.shape[-1] // BLOCK_PX)
    px = values.shape[-1] // side
    return np.asarray(
        values[:, : side * px, : side * px].reshape(-1, side, px, side, px).mean((0, 2, 4)).ravel()
    )


def fine_contrast(window: FloatArray) -> FloatArray:
    """Mean square (N,) of what is finer than a Gaussian of 1 px, in the blocks of a window (C, S, S)."""
    return of_blocks((window - smooth(window, 1.0)) ** 2)
