"""How noise is shared between neighbours: the spectrum of an image's calmest windows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.local_moments import block_means, cut_level_windows

FloatArray = NDArray[np.float64]

SIDE_PX = 32
BRIGHTNESSES = 4
"""Groups of windows of like brightness, in each of which the calmest are taken."""
CALMEST = 1 / 8
FEWEST = 4
FAR_PX = 5
"""Distance at which streaks are looked for."""
LOWER = 0.4
"""Quantile of the calmest windows that the spectrum is taken at."""
WHITEST = 0.95
"""Quantile of all windows."""
FLATTEST = 0.05
"""Quantile of all windows for the share of slow changes: noise has it everywhere, structure not."""


class Shared(NamedTuple):
    """Power of the noise at some frequencies over that at others; 1 each for white noise."""

    finest: float
    """Corners of the spectrum over the ring of frequencies inside: below 0.6 neighbours share noise."""
    whitest: float
    """The same of each window, where it is greatest (95th percentile): texture lowers it, somewhere there is
    none."""
    along_x: float
    """Correlation of neighbours along a row, in the calmest windows; structure adds to it."""
    along_y: float
    """The same along a column."""
    slow: float
    """Slowest changes over fine ones, where this is least: 0.4 for white noise, above 2 where noise reaches
    over many pixels, or structure is everywhere."""
    middle: float
    """Middle frequencies over fine ones, where this is least: 0.8 for white noise, more with structure."""
    streaks: float
    """Correlation of pixels five apart along a row, less that along a column: above 0 for streaks along the
    rows."""
    windows: int
    """How many the image has; nothing is known below ``FEWEST``."""
    spectrum: FloatArray | None
    """Power of what the calmest windows share, (S, S) in the order of ``numpy.fft.fft2``, mean 1."""


UNKNOWN = Shared(np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, 0, None)


def measure_shared_noise(plane: FloatArray) -> Shared:
    """What neighbouring pixels of a plane share, where it shows little but noise.

    Parameters
    ----------
    plane
        (H, W), intensity units, finite; of any size.

    Notes
    -----
    Half-overlapping windows of 32 x 32 px, less their plane, tapered (Hann). The calmest are those of
    the least power at low and middle frequencies, in four groups of brightness.
    """
    if min(plane.shape) < SIDE_PX:
        return UNKNOWN
    windows, brightness = _cut_windows(plane)
    power = _power(windows)
    bands = {name: power[:, chosen].mean(axis=1) for name, chosen in _BANDS.items()}
    noisy = bands["fine"] > 1e-12 * max(1e-300, float(bands["fine"].max()))
    if noisy.sum() < FEWEST:
        return UNKNOWN
    calm = _find_calmest(brightness, bands["middle"] + bands["low"], noisy)
    typical = {name: float(np.median(values[calm])) for name, values in bands.items()}
    spectrum = _typical_spectrum(power[calm])
    covariance = np.fft.ifft2(spectrum).real
    lags = np.fft.ifft2(power[calm] / power[calm].mean(axis=(1, 2), keepdims=True)).real.mean(0)
    fine = bands["fine"][noisy]
    corners = bands["corner"][noisy] / np.maximum(bands["ring"][noisy], 1e-300)
    return Shared(
        finest=typical["corner"] / max(typical["ring"], 1e-300),
        whitest=float(np.quantile(corners, WHITEST)),
        along_x=float(lags[0, 1] / lags[0, 0]),
        along_y=float(lags[1, 0] / lags[0, 0]),
        slow=float(np.quantile(bands["slowest"][noisy] / fine, FLATTEST)),
        middle=float(np.quantile(bands["middle"][noisy] / fine, FLATTEST)),
        streaks=float((covariance[0, FAR_PX] - covariance[FAR_PX, 0]) / covariance[0, 0]),
        windows=int(noisy.sum()),
        spectrum=spectrum,
    )


def _cut_windows(plane: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Windows (N, S, S) less their planes, on two grids half a window apart, and their means (N,)."""
    half = SIDE_PX // 2
    grids = [plane[top:, left:] for top in (0, half) for left in (0, half)]
    whole = [grid for grid in grids if min(grid.shape) >= SIDE_PX]
    windows = np.concatenate([cut_level_windows(grid, SIDE_PX) for grid in whole])
    means = np.concatenate([block_means(grid, SIDE_PX).ravel() for grid in whole])
    return windows, means


def _power(windows: FloatArray) -> FloatArray:
    """(N, S, S); its mean is the variance of a window."""
    hann = np.hanning(SIDE_PX + 2)[1:-1]
    taper = np.outer(hann, hann)
    taper /= np.sqrt(np.mean(taper**2))
    wave = np.fft.fft2(windows * taper)
    return np.asarray(np.abs(wave) ** 2 / SIDE_PX**2)


def _typical_spectrum(power: FloatArray) -> FloatArray:
    """Of windows (N, S, S): at each frequency what the lower of them have; structure counts little so."""
    within = power / power.mean(axis=(1, 2), keepdims=True)
    low = np.quantile(within, LOWER, axis=0)
    beside = [low[0, 1], low[1, 0], low[0, -1], low[-1, 0]]
    low[0, 0] = np.mean(beside)  # the mean of each window is taken off
    return np.asarray(low / low.mean())


def _find_calmest(
    brightness: FloatArray, structure: FloatArray, noisy: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Indices of the windows with the least structure, in each group of like brightness."""
    usable = np.flatnonzero(noisy)
    order = usable[np.argsort(brightness[usable], kind="stable")]
    chosen = []
    for group in np.array_split(order, BRIGHTNESSES):
        count = max(FEWEST, int(CALMEST * len(group)))
        chosen.append(group[np.argsort(structure[group], kind="stable")[:count]])
    return np.concatenate(chosen)


def _frequency_bands() -> dict[str, NDArray[np.bool_]]:
    """Which frequencies of a window belong to which band."""
    along = np.abs(np.fft.fftfreq(SIDE_PX))
    down, across = np.meshgrid(along, along, indexing="ij")
    radius = np.hypot(down, across)
    larger, smaller = np.maximum(down, across), np.minimum(down, across)
    return {
        "slowest": (radius > 0.02) & (radius < 0.05),
        "low": (radius > 0.05) & (radius < 0.1),
        "middle": (radius > 0.15) & (radius < 0.3),
        "fine": radius > 0.3,
        "ring": (larger < 0.376) & (smaller > 0.24),
        "corner": smaller > 0.39,
    }


_BANDS = _frequency_bands()
