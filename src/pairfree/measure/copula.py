"""What a generator of noise like that of given patches needs: their marginal distribution and their autocorrelation (``nets.gan2gan``).

Noise is a Gaussian field, filtered to the measured spectrum, whose values are then mapped to the measured quantiles (a Gaussian copula). It
is exact for Gaussian noise of any stationary correlation and for independent noise of any distribution; what it cannot show is dependence
beyond correlation, such as bursts. Being a field, it has no size, no seams and no repeats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairfree.errors import InputError
from pairfree.measure.smooth_areas import without_planes

FloatArray = NDArray[np.float64]

REACH_PX = 16
"""Lags up to this are measured, and filters reach as far: GAN2GAN's correlated noise extends 15 px."""
TABLE = 513
"""Nodes of the quantile table, at equal steps of the normal variable over +-TABLE_END."""
TABLE_END = 4.5
LOST_POWER = 0.003
"""Share of a filter's power that may be cut off with its ends."""
SAMPLE = 4_000_000
"""Pixels that quantiles are measured from."""
AT_ONCE = 256
"""Patches whose spectra are made together."""


@dataclass(frozen=True)
class Copula:
    """filters   (C, C, 2 r + 1, 2 r + 1): white normal channels -> normal channels of unit variance and the measured correlations
    table     (C, TABLE) noise, intensity units, at the nodes of the normal variable
    """

    filters: FloatArray
    table: FloatArray


def fit_copula(patches: NDArray[np.float32], reach_px: int = REACH_PX) -> Copula:
    """Measure it on noise patches (N, C, P, P) minus their planes, P more than twice the reach. A blank channel gets no noise.

    Raises InputError where no channel has noise
    """
    count, channels, side = patches.shape[:3]
    if side <= 2 * reach_px:
        raise InputError(
            f"noise patches of {side} px are too small for correlations up to {reach_px} px; give larger patches"
        )
    blank = np.ptp(patches, axis=(0, 2, 3)) == 0
    if blank.all():
        raise InputError(
            "the smooth areas hold no noise at all: there is nothing to imitate; check the input files"
        )
    table = np.stack([_quantiles(patches[:, channel]) for channel in range(channels)])
    nodes = np.linspace(-TABLE_END, TABLE_END, TABLE)
    covariance = np.zeros((channels, channels, 2 * reach_px + 1, 2 * reach_px + 1))
    for start in range(0, count, AT_ONCE):
        some = patches[start : start + AT_ONCE]
        normal = np.zeros(some.shape)
        for channel in np.flatnonzero(~blank):
            normal[:, channel] = np.interp(some[:, channel], table[channel], nodes)
        # The plane of a patch is the error of the one that was subtracted from it, much enlarged where a distribution is peaked.
        covariance += autocovariance(without_planes(normal), reach_px) * (len(some) / count)
    whole = covariance + taken_off(covariance, side)
    each, middle = np.arange(channels), (reach_px, reach_px)
    covariance[each, each, *middle] += blank
    whole[each, each, *middle] += blank
    grown = np.sqrt(whole[each, each, *middle] / covariance[each, each, *middle])
    return Copula(_filters(whole), table * grown[:, None])


def taken_off(covariance: FloatArray, side: int) -> FloatArray:
    r"""What the covariance (C, C, 2 r + 1, 2 r + 1) of patches lost with their planes, (C, C, 1, 1), the same at every lag.

    Equation   v = sum_f f' S f / P^2 over the three unit functions f of a plane, S the noise's covariance matrix; f' S f is the sum of
               c(d) a_f(d) over lags d, a_f the autocorrelation of f. Since c = found + v: v = sum found a / (P^2 - sum a), a = sum_f a_f
    Assumes    a correlation that ends within the reach r, and is much shorter than a patch
    """
    flat = np.full(side, side**-0.5)
    ramp = np.arange(side) - (side - 1) / 2.0
    middle = slice(side - 1 - covariance.shape[-1] // 2, side + covariance.shape[-1] // 2)
    of_flat, of_ramp = (np.correlate(one, one, "full")[middle] for one in (flat, ramp / np.linalg.norm(ramp)))
    both = np.outer(of_flat, of_flat) + np.outer(of_ramp, of_flat) + np.outer(of_flat, of_ramp)
    return np.asarray((covariance * both).sum(axis=(2, 3), keepdims=True) / (side**2 - both.sum()))


def _quantiles(values: NDArray[np.float32]) -> FloatArray:
    """Of the pooled pixels at the normal nodes, strictly increasing, so that the map can be inverted."""
    flat = values.reshape(-1)[:: max(1, values.size // SAMPLE)].astype(np.float64)
    nodes = np.linspace(-TABLE_END, TABLE_END, TABLE)
    probability = np.array([0.5 * math.erfc(-node / math.sqrt(2.0)) for node in nodes])
    found = np.quantile(flat - flat.mean(), probability)
    return np.asarray(found + np.arange(TABLE) * 1e-9 * float(np.ptp(found)))


def autocovariance(fields: FloatArray, reach_px: int) -> FloatArray:
    """Of (N, C, P, P) zero-mean fields, cross-channel: (C, C, 2 r + 1, 2 r + 1), entry [a, b, r + dy, r + dx] = E f_a(p) f_b(p + d).

    Each lag is divided by its own number of pairs.
    """
    side, size = fields.shape[-1], fields.shape[-1] + reach_px
    spectrum = np.zeros((fields.shape[1], fields.shape[1], size, size // 2 + 1), dtype=np.complex128)
    for field in fields:
        transform = np.fft.rfft2(field, (size, size))
        spectrum += np.conj(transform)[:, None] * transform[None, :]
    lags = np.arange(-reach_px, reach_px + 1)
    products = np.fft.irfft2(spectrum, (size, size))[:, :, lags[:, None], lags[None, :]]
    pairs = (side - np.abs(lags))[:, None] * (side - np.abs(lags))[None, :]
    return np.asarray(products / pairs / len(fields))


def _filters(covariance: FloatArray) -> FloatArray:
    """The zero-phase root of a covariance, at unit variance a channel."""
    channels, reach = covariance.shape[0], covariance.shape[-1] // 2
    scale = np.sqrt(np.maximum(covariance[np.arange(channels), np.arange(channels), reach, reach], 1e-300))
    correlation = covariance / (scale[:, None] * scale[None, :])[:, :, None, None]
    taper = (
        np.cos(0.5 * np.pi * np.arange(-reach, reach + 1) / (reach + 1)) ** 2
    )  # the estimate is noisy where few pairs are far apart
    flat = np.where(np.abs(np.arange(-reach, reach + 1)) <= reach // 2, 1.0, taper / taper[reach // 2])
    correlation = correlation * flat[:, None] * flat[None, :]
    spectrum = np.fft.fft2(np.fft.ifftshift(correlation, axes=(-2, -1)))
    matrices = np.moveaxis(
        spectrum, (0, 1), (3, 2)
    )  # noise that a root R of them makes has the spectrum (R R)^T
    matrices = 0.5 * (matrices + np.conj(np.swapaxes(matrices, -1, -2)))
    values, vectors = np.linalg.eigh(matrices)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.conj(np.swapaxes(vectors, -1, -2))
    filters = np.fft.fftshift(np.real(np.fft.ifft2(np.moveaxis(root, (2, 3), (0, 1)))), axes=(-2, -1))
    return _trimmed(filters)


def _trimmed(filters: FloatArray) -> FloatArray:
    """The middle of the filters that holds nearly all of their power, at unit variance: white noise needs one coefficient, not 33^2."""
    middle = filters.shape[-1] // 2
    whole = float(np.sum(filters**2))
    for reach in range(middle + 1):
        part = filters[..., middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
        if float(np.sum(part**2)) >= (1.0 - LOST_POWER) * whole:
            break
    return np.asarray(part / np.sqrt(np.sum(part**2, axis=(1, 2, 3), keepdims=True)))
