"""Noise with a spatial structure: GAN2GAN's correlated noise, and film and charge noise of electron micrographs.

The authors of ISCL added measured film and charge noise images, which are not public. The two models here are syntheses that
share what the paper states (film multiplies, charge adds, neither has a neutral mean, both are structured) and its severity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from scipy import sparse

from pairfree.noise.model import (
    ANY,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    NoiseModel,
    Number,
    as_image,
    fixed,
)

ETA = 1.0 / math.sqrt(2.0)
"""GAN2GAN's share of a pixel's own white noise in correlated noise."""
WINDOW_PX = 16
"""GAN2GAN's k: neighbours come from a k x k window, 8 pixels before the pixel to 7 after it, on both axes."""
BLOB_THRESHOLD = 1.0
"""Charge blobs are where a standard normal field exceeds this: 16 % of the area."""
STREAK_THRESHOLD = 1.0
"""Charge streaks are where a standard normal field leaves plus or minus this: 32 % of the area, half bright, half dark."""
STREAK_WIDTH_PX = 0.6
"""Smoothing across the scan lines, pixels: a streak is one or two lines high."""


@dataclass(frozen=True)
class Correlated(NoiseModel):
    r"""Gaussian noise whose pixels share the noise of their neighbours.

    Noise model   y = x + N, M white N(0, sigma^2) and, over the 255 neighbours m of pixel l in its 16 x 16 window,
    Equation      N_l = eta M_l + (1 - eta) sum_m M_m / sqrt(255), eta = 1 / sqrt 2.
    Moments       E[y | x] = x, var[y | x] = (eta^2 + (1 - eta)^2) sigma^2 = 0.586 sigma^2
    Covariance    With c = (1 - eta) / sqrt(255), w = 1 inside the window, else 0, and lag d = (dy, dx):
                  R(d) / sigma^2 = c^2 max(16 - |dy|, 0) max(16 - |dx|, 0) + c (eta - c) (w(d) + w(-d)) + (eta - c)^2 [d = 0];
                  lag 1 has correlation 0.181. Borders are like the interior: M is drawn beyond them. Samples are independent.
    Departure     The paper says var[N] = sigma^2 for this eta; its own equation gives the value above, which is kept.
    Source        GAN2GAN sec. 5.2, Table 3, equation without a number (sigma 15, 25; k = 16).
    """

    key: ClassVar[str] = "correlated"
    sigma: Number = field(default=25.0, metadata=NOT_NEGATIVE)
    """Standard deviation of the white noise M, 8-bit grey levels; the noise itself has 0.765 sigma."""

    def add(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = as_image(clean)
        white = fixed(self.sigma) * rng.standard_normal(padded_shape(image.shape))
        return image + correlate(white)


def padded_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of M for an image of ``shape``: one window less a pixel more on each spatial axis."""
    return (shape[0] + WINDOW_PX - 1, shape[1] + WINDOW_PX - 1, *shape[2:])


def correlate(white: np.ndarray) -> np.ndarray:
    """N of GAN2GAN's correlated noise from M = ``white`` (H + 15, W + 15[, S]); (H, W[, S]) comes back.

    Window sums are differences of running sums: the cost a pixel does not depend on the window.
    """
    before = WINDOW_PX // 2
    height, width = white.shape[0] - WINDOW_PX + 1, white.shape[1] - WINDOW_PX + 1
    own = white[before : before + height, before : before + width]
    window = _window_sum(_window_sum(white, 0), 1)
    return ETA * own + (1.0 - ETA) / math.sqrt(WINDOW_PX**2 - 1) * (window - own)


def _window_sum(values: np.ndarray, axis: int) -> np.ndarray:
    """Sums of WINDOW_PX consecutive values along ``axis``, which becomes WINDOW_PX - 1 shorter."""
    running = np.moveaxis(np.cumsum(values, axis=axis), axis, 0)
    sums = running[WINDOW_PX - 1 :].copy()
    sums[1:] -= running[:-WINDOW_PX]
    return np.moveaxis(sums, 0, axis)


@dataclass(frozen=True)
class Film(NoiseModel):
    r"""Photographic plate of a transmission electron micrograph: darker, unevenly developed, stained and grainy.

    Noise model   y = x * T, T = (1 - loss) exp(g - s^2 / 2), g = shading g1 + blotch g2 + grain g3, where g1, g2, g3 are
                  standard normal fields smoothed over shading_px, blotch_px and grain_px. Densities of a film add, so
                  transmissions multiply, and log T is what is Gaussian.
    Moments       s^2 = shading^2 + blotch^2 + grain^2; E[y | x] = (1 - loss) x, var[y | x] = (1 - loss)^2 (exp(s^2) - 1) x^2
                  at each pixel over draws. Within one image the slow parts do not average out.
    Severity      The defaults take the ISBI 2012 micrographs to 14.1 dB on the average (12.2 to 16.5; ISCL's blind methods end at 13).
    Samples       One plate: all samples of a pixel share T.
    Source        ISCL sec. IV-C, Table II case 2: "multiplying a film noise", non-zero mean; the fields are ours (see the module).
    """

    key: ClassVar[str] = "film"
    loss: Number = field(default=0.35, metadata=SHARE)
    """Mean share of brightness lost, no unit."""
    shading: Number = field(default=0.15, metadata=NOT_NEGATIVE)
    """Standard deviation of log T from slow shading, no unit."""
    blotch: Number = field(default=0.15, metadata=NOT_NEGATIVE)
    """Standard deviation of log T from blotches, no unit."""
    grain: Number = field(default=0.15, metadata=NOT_NEGATIVE)
    """Standard deviation of log T from grain, no unit."""
    shading_px: Number = field(default=128.0, metadata=POSITIVE)
    """Smoothing (standard deviation of the Gaussian kernel) of the shading, pixels."""
    blotch_px: Number = field(default=10.0, metadata=POSITIVE)
    """Smoothing of the blotches, pixels."""
    grain_px: Number = field(default=0.6, metadata=POSITIVE)
    """Smoothing of the grain, pixels."""

    def add(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = as_image(clean)
        parts = (
            (self.shading, self.shading_px),
            (self.blotch, self.blotch_px),
            (self.grain, self.grain_px),
        )
        log_t = np.zeros(image.shape[:2])
        variance = 0.0
        for strength, scale_px in parts:
            log_t += fixed(strength) * smooth_field(
                image.shape[:2], (fixed(scale_px), fixed(scale_px)), rng
            )
            variance += fixed(strength) ** 2
        transmission = (1.0 - fixed(self.loss)) * np.exp(log_t - variance / 2.0)
        return image * _over_samples(transmission, image)


@dataclass(frozen=True)
class Charge(NoiseModel):
    r"""Charging of a scanned specimen: bright patches, and bright and dark streaks along the scan lines (axis 1).

    Noise model   y = x + mean + blob B + streak S + grain G, independent of x. B: a smoothed normal field where it exceeds
                  1, minus 1; S: likewise on both sides of zero, smoothed along the line only; G white. B, S, G are scaled to
                  zero mean and unit variance.
    Moments       E[y | x] = x + mean, var[y | x] = blob^2 + streak^2 + grain^2 at each pixel over draws.
    Severity      The defaults take the ISBI 2012 micrographs to 17.6 dB on the average (16.4 to 18.9; ISCL's blind methods end at 18).
    Samples       One specimen: all samples of a pixel share the field.
    Source        ISCL sec. IV-C, Table II case 1: "adding a charge noise", non-zero mean; the fields are ours (see the module).
    """

    key: ClassVar[str] = "charge"
    mean: Number = field(default=22.0, metadata=ANY)
    """Mean change of brightness, 8-bit grey levels."""
    blob: Number = field(default=22.0, metadata=NOT_NEGATIVE)
    """Standard deviation of the patches, 8-bit grey levels."""
    streak: Number = field(default=16.0, metadata=NOT_NEGATIVE)
    """Standard deviation of the streaks, 8-bit grey levels."""
    grain: Number = field(default=8.0, metadata=NOT_NEGATIVE)
    """Standard deviation of the white part, 8-bit grey levels."""
    blob_px: Number = field(default=14.0, metadata=POSITIVE)
    """Smoothing (standard deviation of the Gaussian kernel) of the patches, pixels."""
    streak_px: Number = field(default=50.0, metadata=POSITIVE)
    """Smoothing of the streaks along the scan line, pixels."""

    def add(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = as_image(clean)
        shape = image.shape[:2]
        blobs = standard_islands(
            smooth_field(shape, (fixed(self.blob_px), fixed(self.blob_px)), rng), BLOB_THRESHOLD
        )
        streaks = standard_streaks(
            smooth_field(shape, (STREAK_WIDTH_PX, fixed(self.streak_px)), rng), STREAK_THRESHOLD
        )
        white = rng.standard_normal(shape)
        charge = (
            fixed(self.mean)
            + fixed(self.blob) * blobs
            + fixed(self.streak) * streaks
            + fixed(self.grain) * white
        )
        return image + _over_samples(charge, image)


def _over_samples(plane: np.ndarray, image: np.ndarray) -> np.ndarray:
    """``plane`` (H, W) shaped so that it broadcasts over the samples of ``image`` (H, W[, S])."""
    return plane if image.ndim == 2 else plane[:, :, None]


def smooth_field(
    shape: tuple[int, int], scale_px: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """A Gaussian random field (H, W), N(0, 1) at every pixel, with correlation exp(-d^2 / (4 scale_px^2)) along each axis
    (scales from a pixel on).

    White noise on a lattice, smoothed by a Gaussian kernel of ``scale_px``. The lattice is as coarse as the kernel allows
    (half its width, at least a pixel), so the cost a pixel does not grow with the scale.
    """
    rows, columns = (
        _smoothing(length, scale) for length, scale in zip(shape, scale_px, strict=True)
    )
    white = rng.standard_normal((rows.shape[1], columns.shape[1]))
    return np.asarray((columns @ (rows @ white).T).T)


def _smoothing(length: int, scale_px: float) -> sparse.csr_array:
    """The (length, nodes) matrix that smooths lattice noise along one axis; rows have unit norm, so variance stays 1."""
    spacing_px = max(1.0, scale_px / 2.0)
    reach = math.ceil(4.0 * scale_px / spacing_px)
    nearest = np.rint(np.arange(length) / spacing_px).astype(np.int64)
    nodes = nearest[:, None] + np.arange(-reach, reach + 1)
    offset_px = nodes * spacing_px - np.arange(length)[:, None]
    weight = np.exp(-0.5 * (offset_px / scale_px) ** 2)
    weight /= np.sqrt(np.sum(weight**2, axis=1, keepdims=True))
    pixel = np.broadcast_to(np.arange(length)[:, None], nodes.shape)
    size = (length, int(nearest[-1]) + 2 * reach + 1)
    return sparse.csr_array((weight.ravel(), (pixel.ravel(), (nodes + reach).ravel())), shape=size)


def standard_islands(normal: np.ndarray, threshold: float) -> np.ndarray:
    """max(g - t, 0) of a standard normal g, shifted and scaled to zero mean and unit variance."""
    mean, square = _excess_moments(threshold)
    return (np.maximum(normal - threshold, 0.0) - mean) / math.sqrt(square - mean**2)


def standard_streaks(normal: np.ndarray, threshold: float) -> np.ndarray:
    """sign(g) max(|g| - t, 0) of a standard normal g, scaled to unit variance; its mean is zero by symmetry."""
    _, square = _excess_moments(threshold)
    return np.sign(normal) * np.maximum(np.abs(normal) - threshold, 0.0) / math.sqrt(2.0 * square)


def _excess_moments(threshold: float) -> tuple[float, float]:
    """E[e] and E[e^2] of e = max(g - t, 0), g standard normal: phi - t Q and (1 + t^2) Q - t phi."""
    density = math.exp(-0.5 * threshold**2) / math.sqrt(2.0 * math.pi)
    tail = 0.5 * math.erfc(threshold / math.sqrt(2.0))
    return density - threshold * tail, (1.0 + threshold**2) * tail - threshold * density
