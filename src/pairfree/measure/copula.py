"""What a generator of noise needs: the marginal distribution and the autocorrelation of given patches.

``nets.gan2gan.CopulaNoise`` makes such noise. It is a Gaussian field, filtered to the measured spectrum,
whose values are then mapped to the measured quantiles (a Gaussian copula). It is exact for Gaussian noise of
any stationary correlation and for independent noise of any distribution; what it cannot show is dependence
beyond correlation, such as bursts. Being a field, it has no size, no seams and no repeats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairfree.errors import InputError
from pairfree.measure.noise_patches import subtract_planes

FloatArray = NDArray[np.float64]

REACH_PX = 16
"""Lags up to this are measured, and filters reach as far: GAN2GAN's correlated noise extends 15 px."""
TABLE = 513
"""Nodes of the quantile table, at equal steps of the normal variable over +-TABLE_END."""
TABLE_END = 4.5
LEAST_STEP = 1e-9
"""Of the table, relative to its range: it must increase, so that the map can be inverted."""
LOST_POWER = 0.003
"""Share of a filter's power that may be cut off with its ends."""
SAMPLE = 4_000_000
"""Pixels that quantiles are measured from."""
AT_ONCE = 256
"""Patches whose spectra are made together."""


@dataclass(frozen=True)
class Copula:
    """The distribution and the correlation of noise of C channels; r is the reach of its filters."""

    filters: FloatArray
    """(C, C, 2 r + 1, 2 r + 1): white normal channels -> normal channels of unit variance and the measured
    correlations."""
    table: FloatArray
    """(C, TABLE) noise, intensity units, at the nodes of the normal variable."""


def fit_copula(patches: NDArray[np.float32], reach_px: int = REACH_PX) -> Copula:
    """Measure the copula of noise patches. A blank channel gets no noise.

    Parameters
    ----------
    patches
        (N, C, P, P) minus their planes, P more than twice the reach.
    reach_px
        Up to which lag correlations are measured.

    Raises
    ------
    InputError
        Where no channel has noise, and for patches that are too small.
    """
    channels, side = patches.shape[1], patches.shape[-1]
    if side <= 2 * reach_px:
        raise InputError(
            f"noise patches of {side} px are too small for correlations up to {reach_px} px; give larger "
            "patches"
        )
    blank = np.ptp(patches, axis=(0, 2, 3)) == 0
    if blank.all():
        raise InputError(
            "the smooth areas hold no noise at all: there is nothing to imitate; check the input files"
        )
    table = np.stack([_quantile_table(patches[:, channel]) for channel in range(channels)])
    covariance = _normal_covariance(patches, table, blank, reach_px)
    whole = covariance + power_lost_with_planes(covariance, side)
    # a blank channel has no variance to be divided by
    found = _variances(covariance) + blank
    true = _variances(whole) + blank
    _set_variances(whole, true)
    return Copula(_root_filters(whole), table * np.sqrt(true / found)[:, None])


def _normal_covariance(
    patches: NDArray[np.float32], table: FloatArray, blank: NDArray[np.bool_], reach_px: int
) -> FloatArray:
    """Autocovariance (C, C, 2 r + 1, 2 r + 1) of the patches, their values mapped to the normal variable."""
    count, channels = patches.shape[:2]
    nodes = np.linspace(-TABLE_END, TABLE_END, TABLE)
    lags = 2 * reach_px + 1
    covariance = np.zeros((channels, channels, lags, lags))
    for start in range(0, count, AT_ONCE):
        some = patches[start : start + AT_ONCE]
        normal = np.zeros(some.shape)
        for channel in np.flatnonzero(~blank):
            normal[:, channel] = np.interp(some[:, channel], table[channel], nodes)
        # The plane of a patch is the error of the one that was subtracted from it, much enlarged where a
        # distribution is peaked.
        centred = subtract_planes(normal)
        covariance += autocovariance(centred, reach_px) * (len(some) / count)
    return covariance


def _variances(covariance: FloatArray) -> FloatArray:
    """(C,) of each channel, at lag 0."""
    each = np.arange(len(covariance))
    middle = covariance.shape[-1] // 2
    return np.asarray(covariance[each, each, middle, middle])


def _set_variances(covariance: FloatArray, variances: FloatArray) -> None:
    each = np.arange(len(covariance))
    middle = covariance.shape[-1] // 2
    covariance[each, each, middle, middle] = variances


def power_lost_with_planes(covariance: FloatArray, side: int) -> FloatArray:
    r"""What the covariance of patches lost with the planes that were subtracted from them, the same at every
    lag.

    Parameters
    ----------
    covariance
        (C, C, 2 r + 1, 2 r + 1)
    side
        P, of the patches, px.

    Returns
    -------
    array
        (C, C, 1, 1)

    Notes
    -----
    v = sum_f f' S f / P^2 over the three unit functions f of a plane, S the noise's covariance matrix; f' S f
    is the sum of c(d) a_f(d) over lags d, a_f the autocorrelation of f. Since c = found + v: v = sum found a
    / (P^2 - sum a), a = sum_f a_f.

    Assumes a correlation that ends within the reach r, and is much shorter than a patch.
    """
    reach = covariance.shape[-1] // 2
    middle = slice(side - 1 - reach, side + reach)
    flat = np.full(side, side**-0.5)
    ramp = np.arange(side) - (side - 1) / 2.0
    ramp /= np.linalg.norm(ramp)
    of_flat, of_ramp = (np.correlate(one, one, "full")[middle] for one in (flat, ramp))
    of_planes = np.outer(of_flat, of_flat) + np.outer(of_ramp, of_flat) + np.outer(of_flat, of_ramp)
    lost = (covariance * of_planes).sum(axis=(2, 3), keepdims=True)
    return np.asarray(lost / (side**2 - of_planes.sum()))


def _quantile_table(values: NDArray[np.float32]) -> FloatArray:
    """Quantiles (TABLE,) of the pooled pixels at the normal nodes, strictly increasing."""
    step = max(1, values.size // SAMPLE)
    sample = values.reshape(-1)[::step].astype(np.float64)
    nodes = np.linspace(-TABLE_END, TABLE_END, TABLE)
    probability = np.array([0.5 * math.erfc(-node / math.sqrt(2.0)) for node in nodes])
    quantiles = np.quantile(sample - sample.mean(), probability)
    return np.asarray(quantiles + np.arange(TABLE) * LEAST_STEP * float(np.ptp(quantiles)))


def autocovariance(fields: FloatArray, reach_px: int) -> FloatArray:
    """Autocovariance of zero-mean fields, between channels too.

    Parameters
    ----------
    fields
        (N, C, P, P)
    reach_px
        r: up to which lag.

    Returns
    -------
    array
        (C, C, 2 r + 1, 2 r + 1), entry [a, b, r + dy, r + dx] = E f_a(p) f_b(p + d). Each lag is divided by
        its own number of pairs.
    """
    channels, side = fields.shape[1], fields.shape[-1]
    size = side + reach_px
    spectrum = np.zeros((channels, channels, size, size // 2 + 1), dtype=np.complex128)
    for field in fields:
        transform = np.fft.rfft2(field, (size, size))
        spectrum += np.conj(transform)[:, None] * transform[None, :]
    lags = np.arange(-reach_px, reach_px + 1)
    products = np.fft.irfft2(spectrum, (size, size))[:, :, lags[:, None], lags[None, :]]
    overlap = side - np.abs(lags)
    pairs = overlap[:, None] * overlap[None, :]
    return np.asarray(products / pairs / len(fields))


def _root_filters(covariance: FloatArray) -> FloatArray:
    """The zero-phase root of a covariance, at unit variance a channel."""
    scale = np.sqrt(np.maximum(_variances(covariance), 1e-300))
    correlation = covariance / (scale[:, None] * scale[None, :])[:, :, None, None]
    taper = _taper(covariance.shape[-1] // 2)
    correlation = correlation * taper[:, None] * taper[None, :]
    spectrum = np.fft.fft2(np.fft.ifftshift(correlation, axes=(-2, -1)))
    # noise that a root R of them makes has the spectrum (R R)^T
    matrices = np.moveaxis(spectrum, (0, 1), (3, 2))
    matrices = 0.5 * (matrices + _adjoint(matrices))
    values, vectors = np.linalg.eigh(matrices)
    roots = np.sqrt(np.maximum(values, 0.0))[..., None, :]
    root = (vectors * roots) @ _adjoint(vectors)
    filters = np.fft.ifft2(np.moveaxis(root, (2, 3), (0, 1)))
    return _trim(np.fft.fftshift(np.real(filters), axes=(-2, -1)))


def _adjoint(matrices: NDArray[np.complex128]) -> NDArray[np.complex128]:
    return np.conj(np.swapaxes(matrices, -1, -2))


def _taper(reach: int) -> FloatArray:
    """Weights (2 r + 1,) of the lags: the estimate is noisy where few pairs are far apart."""
    lags = np.arange(-reach, reach + 1)
    falling = np.cos(0.5 * np.pi * lags / (reach + 1)) ** 2
    near = np.abs(lags) <= reach // 2
    return np.where(near, 1.0, falling / falling[reach // 2])


def _trim(filters: FloatArray) -> FloatArray:
    """The middle of the filters that holds nearly all of their power, at unit variance.

    White noise needs one coefficient, not 33^2.
    """
    middle = filters.shape[-1] // 2
    whole = float(np.sum(filters**2))
    for reach in range(middle + 1):
        within = slice(middle - reach, middle + reach + 1)
        part = filters[..., within, within]
        if float(np.sum(part**2)) >= (1.0 - LOST_POWER) * whole:
            break
    power = np.sum(part**2, axis=(1, 2, 3), keepdims=True)
    return np.asarray(part / np.sqrt(power))
