"""What CT physicists ask of a denoiser: the texture of the noise that is left, and whether a low-contrast
lesion is still detected.

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
    """Radial noise power spectrum of a uniform region.

    frequency   centres of the bins, 1/mm (1/px where the pixel is 1);  power   mean NPS in the bin, HU^2 mm^2
    std         deviation of the noise, HU: the root of the integral of the two-dimensional spectrum
    mean_frequency   of that spectrum's power, same unit as frequency: falls when noise turns into blotches
    """

    frequency: FloatArray
    power: FloatArray
    std: float
    mean_frequency: float


def noise_power(draws: ArrayLike, pixel_mm: float = 1.0) -> NoisePower:
    """Noise power spectrum of repeated scans of one region.

    draws       (N, S, S), HU, N >= 2 draws of one square region: their mean, which holds the object and its artefacts, is subtracted
                and the power scaled by N / (N - 1)
    Equation    NPS(u, v) = dx dy / (Nx Ny) <|FFT(ROI - mean)|^2>; rings of width 1 / (S dx), frequency 0 left out
    Source      IEC 61223-3-5; AAPM TG-233 (2019), sec. 4
    """
    images = _stack(draws, "draws", least=2)
    count, side = images.shape[:2]
    noise = images - images.mean(axis=0)
    spectrum = (
        np.mean(np.abs(np.fft.fft2(noise)) ** 2, axis=0) * (count / (count - 1)) * pixel_mm**2 / side**2
    )
    along = np.fft.fftfreq(side, pixel_mm)
    radius = np.hypot(along[:, None], along[None, :])
    step = 1.0 / (side * pixel_mm)
    rings = np.rint(radius / step).astype(np.int64)
    inside = (rings > 0) & (rings <= side // 2)
    members = np.bincount(rings[inside], minlength=side // 2 + 1)[1:]
    power = np.bincount(rings[inside], weights=spectrum[inside], minlength=side // 2 + 1)[1:] / members
    total = float(spectrum.sum())
    mean_frequency = float(np.sum(radius * spectrum) / total) if total > 0 else math.nan
    return NoisePower(np.arange(1, side // 2 + 1) * step, power, math.sqrt(total) * step, mean_frequency)


@dataclass(frozen=True)
class Detectability:
    """Of a known lesion at a known place.

    index   d', the distance of the observer's two mean responses in their standard deviation; 0 where the estimate of d'^2 is negative
    se      its standard error over other draws of the noise;  area   under the ROC curve, of d' and normal responses
    """

    index: float
    se: float
    area: float


def detectability(present: ArrayLike, absent: ArrayLike, radius_px: float) -> Detectability:
    r"""Channelised Hotelling observer: how well the best linear reader of a few smooth channels tells lesion from background.

    present, absent   (N, S, S) and (M, S, S), HU: independent draws, the lesion in the middle of each of ``present``
    radius_px         of the lesion
    Channels          Laguerre-Gauss, exp(-pi r^2 / a^2) L_p(2 pi r^2 / a^2), p = 0..2; the reader does not know the level, so means are
                      subtracted
    Equation          d'^2 = D' K^-1 D with D the difference of mean channel outputs and K their pooled covariance. Of few draws it is
                      biased upwards; with p channels and v = N + M - 2, (v - p - 1) / v d'^2 - p (1/N + 1/M) is not, for normal outputs
    Source            Gallas and Barrett, JOSA A 2003 (channels); the correction is the mean of Hotelling's T^2 (a non-central F)
    """
    with_lesion, without = _stack(present, "present", least=2), _stack(absent, "absent", least=2)
    if with_lesion.shape[1:] != without.shape[1:]:
        raise InputError(
            f"regions differ in size: {with_lesion.shape[1:]} with the lesion, {without.shape[1:]} without; cut them alike"
        )
    n, m = len(with_lesion), len(without)
    free = n + m - 2
    if free <= CHANNELS + 3:
        raise InputError(
            f"{n} + {m} draws are too few for {CHANNELS} channels: give at least {CHANNELS + 6} in all"
        )
    channels = laguerre_gauss(with_lesion.shape[1], radius_px)
    seen, unseen = (
        np.tensordot(images, channels, axes=((1, 2), (1, 2))) for images in (with_lesion, without)
    )
    squared = max(0.0, squared_index(seen, unseen))
    index = math.sqrt(squared)
    return Detectability(index, _index_se(squared, 1 / n + 1 / m, free), _normal_cdf(index / math.sqrt(2)))


def squared_index(seen: FloatArray, unseen: FloatArray) -> float:
    """Estimate of d'^2, without bias for normal outputs and so at times negative, of (N, P) and (M, P)
    channel outputs.
    """
    (n, p), m = seen.shape, len(unseen)
    free = n + m - 2
    difference = seen.mean(axis=0) - unseen.mean(axis=0)
    scatter = sum((one - one.mean(axis=0)).T @ (one - one.mean(axis=0)) for one in (seen, unseen)) / free
    return (free - p - 1) / free * float(difference @ np.linalg.solve(scatter, difference)) - p * (
        1 / n + 1 / m
    )


def laguerre_gauss(side: int, radius_px: float) -> FloatArray:
    """(CHANNELS, side, side): channels centred on the region, each of mean zero and norm 1."""
    along = np.arange(side) - (side - 1) / 2
    scaled = 2 * math.pi * (along[:, None] ** 2 + along[None, :] ** 2) / (WIDTH_OF_RADIUS * radius_px) ** 2
    channels = np.stack([np.exp(-scaled / 2) * eval_laguerre(order, scaled) for order in range(CHANNELS)])
    channels -= channels.mean(axis=(1, 2), keepdims=True)
    return np.asarray(channels / np.sqrt(np.sum(channels**2, axis=(1, 2), keepdims=True)))


def _index_se(squared: float, each: float, free: int) -> float:
    """Of d': the deviation of the estimate of d'^2 (variance of a non-central F with CHANNELS and ``far``
    degrees), by the delta method.
    """
    far = free - CHANNELS + 1
    noncentral = squared / each
    spread = 2 * ((CHANNELS + noncentral) ** 2 + (CHANNELS + 2 * noncentral) * (far - 2)) / (far - 4)
    return each * math.sqrt(spread) / (2 * math.sqrt(max(squared, each * CHANNELS)))


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def flat_regions(
    reference: ArrayLike, low: float, high: float, side_px: int = 16, share: float = 0.25
) -> NDArray[np.bool_]:
    """(H, W) mask of the flattest squares of an image: of those that lie wholly in [low, high] HU, those with the smallest deviation.

    reference   (H, W), HU, the cleanest image of the scene;  share   of the squares that is taken, at least one
    """
    image = np.asarray(reference, dtype=np.float64)
    rows, columns = (side // side_px for side in image.shape)
    blocks = (
        image[: rows * side_px, : columns * side_px]
        .reshape(rows, side_px, columns, side_px)
        .swapaxes(1, 2)
        .reshape(rows, columns, -1)
    )
    inside = (blocks.min(axis=2) >= low) & (blocks.max(axis=2) <= high)
    if not inside.any():
        raise InputError(
            f"no square of {side_px} px lies within {low:g} to {high:g} HU: check the image's unit, or widen the range"
        )
    scatter = np.where(inside, blocks.std(axis=2), np.inf)
    chosen = scatter <= np.sort(scatter[inside])[max(1, round(share * int(inside.sum()))) - 1]
    mask = np.zeros(image.shape, dtype=np.bool_)
    mask[: rows * side_px, : columns * side_px] = np.kron(chosen, np.ones((side_px, side_px), dtype=np.bool_))
    return mask


def _stack(images: ArrayLike, name: str, least: int) -> FloatArray:
    a = np.asarray(images, dtype=np.float64)
    if a.ndim != 3 or a.shape[1] != a.shape[2] or a.shape[0] < least:
        raise InputError(
            f"{name}: expected at least {least} square regions (N, S, S), got an array of shape {a.shape}"
        )
    if not np.isfinite(a).all():
        raise InputError(f"{name}: holds values that are NaN or infinite; replace or crop them first")
    return a
