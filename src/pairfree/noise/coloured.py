"""Noise of a given spectrum: white noise, filtered."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import fftconvolve

FloatArray = NDArray[np.float64]


def draw_coloured(
    spectrum: FloatArray | None, shape: tuple[int, int], rng: Generator
) -> FloatArray:
    """Normal noise of unit variance (H, W) whose neighbours share what a spectrum says.

    Parameters
    ----------
    spectrum
        Power at the frequencies of S x S pixels (as ``numpy.fft.fft2`` orders them), mean 1; None for white
        noise.
    shape
        Of the noise.
    rng
        What it is drawn with.

    Notes
    -----
    White noise, convolved with the inverse transform of the root of the spectrum: its autocorrelation is then
    that of the spectrum, within S / 2 pixels.
    """
    if spectrum is None:
        return rng.standard_normal(shape)
    side = len(spectrum)
    kernel = np.fft.fftshift(np.fft.ifft2(np.sqrt(spectrum)).real)
    kernel /= np.sqrt(np.sum(kernel**2))
    white = rng.standard_normal((shape[0] + side - 1, shape[1] + side - 1))
    return np.asarray(fftconvolve(white, kernel, mode="valid"))
