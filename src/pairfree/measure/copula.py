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
Patches = NDArray[np.float32]

REACH_PX = 16
"""Lags up to this are measured, and filters reach as far: GAN2GAN's correlated noise extends 15 px."""
TABLE = 513
"""Nodes of the quantile table, at equal steps of the normal variable over +-TABLE_END."""
TABLE_END = 4.5
"""Standard deviations: beyond it a few pixels in a million lie."""
LEAST_STEP = 1e-9
"""Of the table, relative to its range: it must increase, so that the map can be inverted."""
LOST_POWER = 0.003
"""Share of a filter's power that may be cut off with its ends."""
SAMPLE = 4_000_000
"""Pixels that quantiles are measured from."""
SPACE = (-2, -1)
"""Axes of rows and columns."""
AT_ONCE = 256
"""Patches whose spectra are made together."""


@dataclass(frozen=True)
class Copula:
    """The distribution and the correlation of noise of C channels; r is the reach of its filters."""

    filters: FloatArray
    """(C, C, 2 r + 1, 2 r + 1), white normal channels -> normal channels of the measured correlations.

    Of unit variance.
    """
    table: FloatArray
    """(C, TABLE) noise, intensity units, at the nodes of the normal variable."""

    @property
    def deviations(self) -> FloatArray:
        """(C,) of the noise, intensity units."""
        nodes = np.linspace(-TABLE_END, TABLE_END, TABLE)
        chances = np.exp(-0.5 * nodes**2)
        return np.asarray(np.sqrt(self.table**2 @ chances / chances.sum()))

    def normal(self, deviation: float) -> Copula:
        """Normal noise of that deviation, intensity units, correlated as this; none in a blank channel."""
        made = normal_copula(self.filters, deviation)
        blank = self.deviations == 0
        return Copula(made.filters, np.where(blank[:, None], 0.0, made.table))


def normal_copula(filters: FloatArray, deviation: float) -> Copula:
    """Of normal noise of one deviation, intensity units; ``filters`` as ``Copula`` has them."""
    channel = deviation * np.linspace(-TABLE_END, TABLE_END, TABLE)
    return Copula(filters, np.tile(channel, (len(filters), 1)))


def white_copula(channels: int, deviation: float) -> Copula:
    """Of normal noise that no pixels and no channels share, of that deviation, intensity units."""
    return normal_copula(np.eye(channels)[:, :, None, None], deviation)


def fit_copula(patches: Patches, reach_px: int = REACH_PX) -> Copula:
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
    _, channels, side, _ = patches.shape
    if side <= 2 * reach_px:
        raise InputError(
            f"noise patches of {side} px are too small for correlations up to {reach_px} px; give larger "
            "patches"
        )
    ranges = np.ptp(patches, axis=(0, 2, 3))
    blank = ranges == 0
    if blank.all():
        raise InputError(
            "the smooth areas hold no noise at all: there is nothing to imitate; check the input files"
        )
    tables = [_quantile_table(patches[:, channel]) for channel in range(channels)]
    table = np.stack(tables)
    covariance = _normal_covariance(patches, table, blank, reach_px)
    whole = covariance + power_lost_with_planes(covariance, side)
    # a blank channel has no variance to be divided by
    found = _variances(covariance) + blank
    true = _variances(whole) + blank
    _set_variances(whole, true)
    scale = np.sqrt(true / found)
    filters = _root_filters(whole)
    return Copula(filters, table * scale[:, None])


def _normal_covariance(
    patches: Patches,
    table: FloatArray,
    blank: NDArray[np.bool_],
    reach_px: int,
) -> FloatArray:
    """Autocovariance (C, C, 2 r + 1, 2 r + 1) of the patches, their values mapped to the normal variable."""
    count, channels, *_ = patches.shape
    nodes = np.linspace(-TABLE_END, TABLE_END, TABLE)
    lags = 2 * reach_px + 1
    covariance = np.zeros((channels, channels, lags, lags))
    for start in range(0, count, AT_ONCE):
        some = patches[start : start + AT_ONCE]
        normal = np.zeros(some.shape)
        for channel in np.flatnonzero(~blank):
            values = some[:, channel]
            normal[:, channel] = np.interp(values, table[channel], nodes)
        # The plane of a patch is the error of the one that was subtracted from it, much enlarged where a
        # distribution is peaked.
        centred = subtract_planes(normal)
        share = len(some) / count
        covariance += autocovariance(centred, reach_px) * share
    return covariance


def _variances(covariance: FloatArray) -> FloatArray:
    """(C,) of each channel, at lag 0."""
    middle = covariance.shape[-1] // 2
    at_lag_0 = covariance[..., middle, middle]
    return np.diagonal(at_lag_0).copy()


def _set_variances(covariance: FloatArray, variances: FloatArray) -> None:
    middle = covariance.shape[-1] // 2
    at_lag_0 = covariance[..., middle, middle]
    np.fill_diagonal(at_lag_0, variances)


def power_lost_with_planes(covariance: FloatArray, side: int) -> FloatArray:
    r"""What the covariance of patches lost with the planes that were subtracted from them.

    It is the same at every lag.

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
    near = slice(side - 1 - reach, side + reach)
    flat = np.full(side, side**-0.5)
    middle_px = (side - 1) / 2.0
    ramp = np.arange(side) - middle_px
    ramp /= np.linalg.norm(ramp)
    of_flat = np.correlate(flat, flat, "full")[near]
    of_ramp = np.correlate(ramp, ramp, "full")[near]
    of_planes = np.outer(of_flat, of_flat)
    of_planes += np.outer(of_ramp, of_flat)
    of_planes += np.outer(of_flat, of_ramp)
    weighted = covariance * of_planes
    lost = weighted.sum(axis=(2, 3), keepdims=True)
    pairs = side**2 - of_planes.sum()
    return np.asarray(lost / pairs)


def _quantile_table(values: Patches) -> FloatArray:
    """Quantiles (TABLE,) of the pooled pixels at the normal nodes, strictly increasing."""
    step = max(1, values.size // SAMPLE)
    sample = values.reshape(-1)[::step].astype(np.float64)
    root = math.sqrt(2.0)
    nodes = np.linspace(-TABLE_END, TABLE_END, TABLE)
    probability = [0.5 * math.erfc(-node / root) for node in nodes]
    quantiles = np.quantile(sample - sample.mean(), probability)
    spread = float(np.ptp(quantiles))
    rising = np.arange(TABLE) * LEAST_STEP * spread
    return np.asarray(quantiles + rising)


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
    count, channels, side, _ = fields.shape
    size = side + reach_px
    shape = (channels, channels, size, size // 2 + 1)
    spectrum = np.zeros(shape, dtype=np.complex128)
    for field in fields:
        wave = np.fft.rfft2(field, (size, size))
        conjugate = np.conj(wave)
        spectrum += conjugate[:, None] * wave
    whole = np.fft.irfft2(spectrum, (size, size))
    lags = np.arange(-reach_px, reach_px + 1)
    products = whole[..., lags[:, None], lags]
    overlap = side - np.abs(lags)
    pairs = np.outer(overlap, overlap)
    return np.asarray(products / pairs / count)


def _root_filters(covariance: FloatArray) -> FloatArray:
    """The zero-phase root of a covariance, at unit variance a channel."""
    least = np.maximum(_variances(covariance), 1e-300)
    scale = np.sqrt(least)
    pairs = np.outer(scale, scale)
    correlation = covariance / pairs[:, :, None, None]
    reach = covariance.shape[-1] // 2
    taper = _taper(reach)
    tapered = correlation * taper[:, None] * taper
    from_origin = np.fft.ifftshift(tapered, axes=SPACE)
    spectrum = np.fft.fft2(from_origin)
    # noise that a root R of them makes has the spectrum (R R)^T
    transposed = np.moveaxis(spectrum, (0, 1), (3, 2))
    matrices = 0.5 * (transposed + _adjoint(transposed))
    values, vectors = np.linalg.eigh(matrices)
    roots = np.sqrt(np.maximum(values, 0.0))
    scaled = vectors * roots[..., None, :]
    root = scaled @ _adjoint(vectors)
    waves = np.moveaxis(root, (2, 3), (0, 1))
    filters = np.real(np.fft.ifft2(waves))
    centred = np.fft.fftshift(filters, axes=SPACE)
    return _trim(centred)


def _adjoint(matrices: NDArray[np.complex128]) -> NDArray[np.complex128]:
    transposed = np.swapaxes(matrices, -1, -2)
    return np.conj(transposed)


def _taper(reach: int) -> FloatArray:
    """Weights (2 r + 1,) of the lags: the estimate is noisy where few pairs are far apart."""
    lags = np.arange(-reach, reach + 1)
    angle = 0.5 * np.pi * lags / (reach + 1)
    falling = np.cos(angle) ** 2
    half = reach // 2
    near = np.abs(lags) <= half
    return np.where(near, 1.0, falling / falling[half])


def _trim(filters: FloatArray) -> FloatArray:
    """The middle of the filters that holds nearly all of their power, at unit variance.

    White noise needs one coefficient, not 33^2.
    """
    middle = filters.shape[-1] // 2
    whole = float(np.sum(filters**2))
    wanted = (1.0 - LOST_POWER) * whole
    for reach in range(middle + 1):
        within = slice(middle - reach, middle + reach + 1)
        part = filters[..., within, within]
        held = float(np.sum(part**2))
        if held >= wanted:
            break
    power = np.sum(part**2, axis=(1, 2, 3), keepdims=True)
    return np.asarray(part / np.sqrt(power))
