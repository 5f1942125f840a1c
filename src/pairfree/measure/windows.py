"""Windows and blocks of a set of planes, and what is averaged over them: spectra, contrast."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pairfree.sampling import spaced_indices

FloatArray = NDArray[np.float64]
Planes = Sequence[np.ndarray]
"""Images (C, H, W) of one set."""

WINDOW_PX = 256
"""Side of the windows whose spectra are averaged, at most."""
MOST_WINDOWS = 300
"""Windows of a set, spread evenly over it."""
SMOOTHING_BINS = 1.5
"""Spectra are smoothed by a Gaussian of this standard deviation, in frequency bins of a window."""
BLOCK_PX = 16
CALM_SHARE = 0.25
"""Share of the windows or blocks of a set that noise is measured in where images are uneven.

Those with the least contrast.
"""
CLIPPED_SHARE = 0.02
"""Windows with more pixels at the ends of the range, such as air in a window of HU, do not count as calm."""


def window_px(*sets: Planes) -> int:
    """The largest power of two that fits into an image of each set, at most WINDOW_PX."""
    least = WINDOW_PX
    for planes in sets:
        largest = max(min(plane.shape[1:]) for plane in planes)
        least = min(least, largest)
    exponent = int(math.log2(least))
    return int(2**exponent)


def cut_windows(planes: Planes, side: int, most: int = 0) -> Iterator[FloatArray]:
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
        _, height, width = plane.shape
        for top in range(0, height - side + 1, step):
            for left in range(0, width - side + 1, step):
                places.append((index, top, left))
    for number in spaced_indices(len(places), most or MOST_WINDOWS):
        index, top, left = places[number]
        rows = slice(top, top + side)
        columns = slice(left, left + side)
        window = planes[index][:, rows, columns]
        yield window.astype(np.float64)


def power_spectrum(planes: Planes, side: int) -> FloatArray:
    """Mean power (C, S, S) of windows, smoothed; its mean is their variance.

    Windows have their mean removed and are tapered (Hann).
    """
    hann = np.hanning(side + 1)[:-1]
    taper = np.outer(hann, hann)
    power = float(np.mean(taper**2))
    taper /= math.sqrt(power)
    channels = len(planes[0])
    total = np.zeros((channels, side, side))
    count = 0
    for window in cut_windows(planes, side):
        centred = window - window.mean((1, 2), keepdims=True)
        wave = np.fft.fft2(centred * taper)
        total += np.abs(wave) ** 2
        count += 1
    mean = total / (count * side**2)
    smoothing = (0.0, SMOOTHING_BINS, SMOOTHING_BINS)
    return np.asarray(ndimage.gaussian_filter(mean, smoothing, mode="wrap"))


def blur(window: FloatArray, px: float) -> FloatArray:
    """A window (C, S, S) smoothed by a Gaussian."""
    smooth = ndimage.gaussian_filter(window, (0.0, px, px))
    return np.asarray(smooth)


def block_means(values: FloatArray) -> FloatArray:
    """Means (N,) of the blocks of a window (C, S, S), over all channels."""
    count = max(1, values.shape[-1] // BLOCK_PX)
    px = values.shape[-1] // count
    whole = values[:, : count * px, : count * px]
    blocks = whole.reshape(-1, count, px, count, px)
    means = blocks.mean((0, 2, 4))
    return np.asarray(means.ravel())


def fine_contrast(window: FloatArray) -> FloatArray:
    """Mean square (N,) of what is finer than a Gaussian of 1 px, in the blocks of a window (C, S, S)."""
    fine = window - blur(window, 1.0)
    return block_means(fine**2)
