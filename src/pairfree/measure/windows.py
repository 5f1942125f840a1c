"""Windows and blocks of a set of planes, and what is averaged over them: spectra, contrast."""

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
"""Share of the windows or blocks of a set, those with the least contrast, that noise is measured in where
images are uneven."""
CLIPPED_SHARE = 0.02
"""Windows with more pixels at the ends of the range, such as air in a window of HU, do not count as calm."""


def window_px(*sets: Sequence[np.ndarray]) -> int:
    """The largest power of two that fits into an image of each set, at most WINDOW_PX."""
    largest = [max(min(plane.shape[1:]) for plane in planes) for planes in sets]
    exponent = int(math.log2(min(largest)))
    return int(min(WINDOW_PX, 2**exponent))


def cut_windows(planes: Sequence[np.ndarray], side: int, most: int = 0) -> Iterator[FloatArray]:
    """Half-overlapping windows of the planes that are large enough, spread evenly over them.

    Parameters
    ----------
    planes
        (C, H, W).
    side
        S, pixels.
    most
        At most so many windows; 0: MOST_WINDOWS.

    Yields
    ------
    array
        (C, S, S) float64.
    """
    step = max(1, side // 2)
    places = []
    for index, plane in enumerate(planes):
        height, width = plane.shape[1:]
        for top in range(0, height - side + 1, step):
            for left in range(0, width - side + 1, step):
                places.append((index, top, left))
    for number in spaced_indices(len(places), most or MOST_WINDOWS):
        index, top, left = places[number]
        yield planes[index][:, top : top + side, left : left + side].astype(np.float64)


def power_spectrum(planes: Sequence[np.ndarray], side: int) -> FloatArray:
    """Mean power (C, S, S) of windows, smoothed; its mean is their variance.

    Windows have their mean removed and are tapered (Hann).
    """
    hann = np.hanning(side + 1)[:-1]
    taper = np.outer(hann, hann)
    taper /= math.sqrt(float(np.mean(taper**2)))
    total = np.zeros((planes[0].shape[0], side, side))
    count = 0
    for window in cut_windows(planes, side):
        centred = window - window.mean((1, 2), keepdims=True)
        total += np.abs(np.fft.fft2(centred * taper)) ** 2
        count += 1
    mean = total / (count * side**2)
    smoothing = (0.0, SMOOTHING_BINS, SMOOTHING_BINS)
    return np.asarray(ndimage.gaussian_filter(mean, smoothing, mode="wrap"))


def blur(window: FloatArray, px: float) -> FloatArray:
    """A window (C, S, S) smoothed by a Gaussian."""
    return np.asarray(ndimage.gaussian_filter(window, (0.0, px, px)))


def block_means(values: FloatArray) -> FloatArray:
    """Means (N,) of the blocks of a window (C, S, S), over all channels."""
    count = max(1, values.shape[-1] // BLOCK_PX)
    px = values.shape[-1] // count
    whole = values[:, : count * px, : count * px]
    blocks = whole.reshape(-1, count, px, count, px)
    return np.asarray(blocks.mean((0, 2, 4)).ravel())


def fine_contrast(window: FloatArray) -> FloatArray:
    """Mean square (N,) of what is finer than a Gaussian of 1 px, in the blocks of a window (C, S, S)."""
    return block_means((window - blur(window, 1.0)) ** 2)
