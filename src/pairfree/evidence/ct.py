"""What CT physicists ask of a denoiser: the texture of the noise left, and whether faint lesions are seen.

A filter can lower the deviation and still do harm: it may leave blotches (noise moved to low frequencies) and
wipe out what is faint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import eval_laguerre

from pairfree.errors import InputError

FloatArray = NDArray[np.float64]

CHANNELS = 3
"""Laguerre-Gauss channels of the observer. Few draws allow few: each costs a degree of freedom."""
WIDTH_OF_RADIUS = 1.5
"""Their width a over the lesion's radius: three such channels hold 87 % of the power of a disc."""


@dataclass(frozen=True)
class NoisePower:
    """Radial noise power spectrum of a uniform region."""

    frequency: FloatArray
    """Centres of the bins, 1/mm (1/px where the pixel is 1)."""
    power: FloatArray
    """Mean of the spectrum in each bin, HU^2 mm^2."""
    std: float
    """Deviation of the noise, HU: the root of the integral of the two-dimensional spectrum."""
    mean_frequency: float
    """Of that spectrum's power, same unit as ``frequency``: falls when noise turns into blotches."""


def noise_power(draws: ArrayLike, pixel_mm: float = 1.0) -> NoisePower:
    """Noise power spectrum of repeated scans of one region.

    Parameters
    ----------
    draws
        (N, S, S), HU, N >= 2 draws of one square region: their mean, which holds the object and its
        artefacts, is subtracted and the power scaled by N / (N - 1).
    pixel_mm
        Side of a pixel.

    Notes
    -----
    NPS(u, v) = dx dy / (Nx Ny) <|FFT(ROI - mean)|^2>; rings of width 1 / (S dx), frequency 0 left out.

    References
    ----------
    IEC 61223-3-5; AAPM TG-233 (2019), sec. 4
    """
    images = _stack(draws, "draws", least=2)
    count, side = images.shape[:2]
    noise = images - images.mean(axis=0)
    waves = np.fft.fft2(noise)
    power_2d = np.mean(np.abs(waves) ** 2, axis=0)
    unbiased = count / (count - 1)
    spectrum = power_2d * unbiased * pixel_mm**2 / side**2
    along = np.fft.fftfreq(side, pixel_mm)
    radius = np.hypot(along[:, None], along[None, :])
    step = 1.0 / (side * pixel_mm)
    bins = side // 2 + 1
    rings = np.rint(radius / step).astype(np.int64)
    inside = (rings > 0) & (rings < bins)
    ring = rings[inside]
    members = np.bincount(ring, minlength=bins)
    sums = np.bincount(ring, weights=spectrum[inside], minlength=bins)
    total = float(spectrum.sum())
    mean_frequency = math.nan
    if total > 0:
        mean_frequency = float(np.sum(radius * spectrum) / total)
    return NoisePower(
        frequency=np.arange(1, bins) * step,
        power=sums[1:] / members[1:],
        std=math.sqrt(total) * step,
        mean_frequency=mean_frequency,
    )


@dataclass(frozen=True)
class Detectability:
    """Of a known lesion at a known place."""

    index: float
    """d', the distance of the observer's two mean responses in their standard deviation; 0 where the estimate
    of d'^2 is negative."""
    se: float
    """Its standard error over other draws of the noise."""
    area: float
    """Area under the ROC curve, of d' and normal responses."""


def detectability(present: ArrayLike, absent: ArrayLike, radius_px: float) -> Detectability:
    r"""How well the best linear reader of a few smooth channels tells lesion from background.

    Parameters
    ----------
    present, absent
        (N, S, S) and (M, S, S), HU: independent draws, the lesion in the middle of each of ``present``.
    radius_px
        Of the lesion.

    Notes
    -----
    A channelised Hotelling observer. Its channels are Laguerre-Gauss, exp(-pi r^2 / a^2) L_p(2 pi r^2 / a^2),
    p = 0..2; the reader does not know the level, so means are subtracted.

    d'^2 = D' K^-1 D with D the difference of mean channel outputs and K their pooled covariance. Of few draws
    it is biased upwards; with p channels and v = N + M - 2, (v - p - 1) / v d'^2 - p (1/N + 1/M) is not, for
    normal outputs.

    References
    ----------
    Gallas and Barrett, JOSA A 2003 (channels); the correction is the mean of Hotelling's T^2 (a non-central
    F).
    """
    with_lesion = _stack(present, "present", least=2)
    without = _stack(absent, "absent", least=2)
    if with_lesion.shape[1:] != without.shape[1:]:
        raise InputError(
            f"regions differ in size: {with_lesion.shape[1:]} with the lesion, {without.shape[1:]} without; "
            "cut them alike"
        )
    n, m = len(with_lesion), len(without)
    free = n + m - 2
    if free <= CHANNELS + 3:
        raise InputError(
            f"{n} + {m} draws are too few for {CHANNELS} channels: give at least {CHANNELS + 6} in all"
        )
    channels = laguerre_gauss(with_lesion.shape[1], radius_px)
    pixels = (1, 2)
    seen = np.tensordot(with_lesion, channels, axes=(pixels, pixels))
    unseen = np.tensordot(without, channels, axes=(pixels, pixels))
    squared = max(0.0, squared_index(seen, unseen))
    index = math.sqrt(squared)
    return Detectability(
        index=index,
        se=_index_se(squared, 1 / n + 1 / m, free),
        area=_normal_cdf(index / math.sqrt(2)),
    )


def squared_index(seen: FloatArray, unseen: FloatArray) -> float:
    """Estimate of d'^2 from channel outputs (N, P) with and (M, P) without the lesion.

    It is without bias for normal outputs, and so at times negative.
    """
    n, p = seen.shape
    m = len(unseen)
    free = n + m - 2
    difference = seen.mean(axis=0) - unseen.mean(axis=0)
    covariance = (_scatter(seen) + _scatter(unseen)) / free
    template = np.linalg.solve(covariance, difference)
    biased = float(difference @ template)
    shrunk = (free - p - 1) / free * biased
    return float(shrunk - p * (1 / n + 1 / m))


def _scatter(outputs: FloatArray) -> FloatArray:
    """Sums of products of channels around their means, (P, P)."""
    centred = outputs - outputs.mean(axis=0)
    return np.asarray(centred.T @ centred)


def laguerre_gauss(side: int, radius_px: float) -> FloatArray:
    """(CHANNELS, side, side): channels centred on the region, each of mean zero and norm 1."""
    along = np.arange(side) - (side - 1) / 2
    square = along[:, None] ** 2 + along[None, :] ** 2
    width = WIDTH_OF_RADIUS * radius_px
    scaled = 2 * math.pi * square / width**2
    envelope = np.exp(-scaled / 2)
    each = [envelope * eval_laguerre(order, scaled) for order in range(CHANNELS)]
    channels = np.stack(each)
    channels -= channels.mean(axis=(1, 2), keepdims=True)
    power = np.sum(channels**2, axis=(1, 2), keepdims=True)
    return np.asarray(channels / np.sqrt(power))


def _index_se(squared: float, each: float, free: int) -> float:
    """Of d': the deviation of the estimate of d'^2, by the delta method.

    Its variance is that of a non-central F with CHANNELS and ``far`` degrees.
    """
    far = free - CHANNELS + 1
    noncentral = squared / each
    inner = (CHANNELS + noncentral) ** 2 + (CHANNELS + 2 * noncentral) * (far - 2)
    spread = 2 * inner / (far - 4)
    slope = 2 * math.sqrt(max(squared, each * CHANNELS))
    return each * math.sqrt(spread) / slope


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def flat_regions(
    reference: ArrayLike, low: float, high: float, side_px: int = 16, share: float = 0.25
) -> NDArray[np.bool_]:
    """Mask of the flattest squares of an image: those of least deviation.

    Parameters
    ----------
    reference
        (H, W), HU, the cleanest image of the scene.
    low, high
        Only squares that lie wholly between them count, HU.
    side_px
        Of a square.
    share
        Of those squares that is taken, at least one.

    Returns
    -------
    array
        (H, W) bool
    """
    image = np.asarray(reference, dtype=np.float64)
    blocks = _squares(image, side_px)
    inside = (blocks.min(axis=2) >= low) & (blocks.max(axis=2) <= high)
    if not inside.any():
        raise InputError(
            f"no square of {side_px} px lies within {low:g} to {high:g} HU: check the image's unit, or widen "
            "the range"
        )
    scatter = np.where(inside, blocks.std(axis=2), np.inf)
    count = max(1, round(share * int(inside.sum())))
    most = np.sort(scatter[inside])[count - 1]
    square = np.ones((side_px, side_px), dtype=np.bool_)
    flat = np.kron(scatter <= most, square)
    height, width = flat.shape
    mask = np.zeros(image.shape, dtype=np.bool_)
    mask[:height, :width] = flat
    return mask


def _squares(image: FloatArray, side_px: int) -> FloatArray:
    """Pixels of the whole squares of an image, (rows, columns, side_px squared)."""
    rows, columns = (side // side_px for side in image.shape)
    whole = image[: rows * side_px, : columns * side_px]
    apart = whole.reshape(rows, side_px, columns, side_px)
    return apart.swapaxes(1, 2).reshape(rows, columns, -1)


def _stack(images: ArrayLike, name: str, least: int) -> FloatArray:
    """The draws as float64; InputError for what is no stack of square regions."""
    stack = np.asarray(images, dtype=np.float64)
    square = stack.ndim == 3 and stack.shape[1] == stack.shape[2]
    if not square or len(stack) < least:
        raise InputError(
            f"{name}: expected at least {least} square regions (N, S, S), got an array of shape {stack.shape}"
        )
    if not np.isfinite(stack).all():
        raise InputError(
            f"{name}: holds values that are NaN or infinite; replace or crop them first"
        )
    return stack
