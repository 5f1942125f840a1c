"""Noise with a spatial structure: GAN2GAN's correlated noise, film and charge noise of electron micrographs.

The authors of ISCL added measured film and charge noise images, which are not public. The two models here are
syntheses that share what the paper states (film multiplies, charge adds, neither has a neutral mean, both are
structured) and its severity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
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

FloatArray = NDArray[np.float64]

ETA = 1.0 / math.sqrt(2.0)
"""GAN2GAN's share of a pixel's own white noise in correlated noise."""
WINDOW_PX = 16
"""GAN2GAN's k: neighbours come from a k x k window, 8 pixels before the pixel to 7 after it, on both axes."""
BLOB_THRESHOLD = 1.0
"""Charge blobs are where a standard normal field exceeds this: 16 % of the area."""
STREAK_THRESHOLD = 1.0
"""Charge streaks are where a standard normal field leaves plus or minus this.

32 % of the area, half bright, half dark.
"""
STREAK_WIDTH_PX = 0.6
"""Smoothing across the scan lines, pixels: a streak is one or two lines high."""


@dataclass(frozen=True)
class Correlated(NoiseModel):
    r"""Gaussian noise whose pixels share the noise of their neighbours.

    Notes
    -----
    Noise model: y = x + N, M white N(0, sigma^2) and, over the 255 neighbours m of pixel l in its 16 x 16
    window, N_l = eta M_l + (1 - eta) sum_m M_m / sqrt(255), eta = 1 / sqrt 2.

    Moments: E[y | x] = x, var[y | x] = (eta^2 + (1 - eta)^2) sigma^2 = 0.586 sigma^2

    Covariance: With c = (1 - eta) / sqrt(255), w = 1 inside the window, else 0, and lag d = (dy, dx):
    R(d) / sigma^2 = c^2 max(16 - |dy|, 0) max(16 - |dx|, 0) + c (eta - c) (w(d) + w(-d))
    + (eta - c)^2 [d = 0]; lag 1 has correlation 0.181. Borders are like the interior: M is drawn beyond
    them. Samples are independent.

    Departure: The paper says var[N] = sigma^2 for this eta; its own equation gives the value above, which is
    kept.

    References
    ----------
    GAN2GAN sec. 5.2, Table 3, equation without a number (sigma 15, 25; k = 16).
    """

    key: ClassVar[str] = "correlated"
    sigma: Number = field(default=25.0, metadata=NOT_NEGATIVE)
    """Standard deviation of the white noise M, 8-bit grey levels; the noise itself has 0.765 sigma."""

    def add(self, clean: np.ndarray, rng: Generator) -> FloatArray:
        """``clean`` with this noise, not clipped: y of the noise model."""
        image = as_image(clean)
        shape = padded_shape(image.shape)
        white = rng.standard_normal(shape)
        noise = correlate(fixed(self.sigma) * white)
        return image + noise


def padded_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of M for an image of ``shape``: one window less a pixel more on each spatial axis."""
    height, width, *samples = shape
    more = WINDOW_PX - 1
    return (height + more, width + more, *samples)


def correlate(white: np.ndarray) -> FloatArray:
    """N of GAN2GAN's correlated noise from M.

    Window sums are differences of running sums: the cost a pixel does not depend on the window.

    Parameters
    ----------
    white
        M, (H + 15, W + 15[, S]).

    Returns
    -------
    array
        (H, W[, S])
    """
    before = WINDOW_PX // 2
    after = WINDOW_PX - 1 - before
    own = white[before:-after, before:-after]
    down = _window_sum(white, 0)
    window = _window_sum(down, 1)
    share = (1.0 - ETA) / math.sqrt(WINDOW_PX**2 - 1)
    return np.asarray(ETA * own + share * (window - own))


def _window_sum(values: np.ndarray, axis: int) -> np.ndarray:
    """Sums of WINDOW_PX consecutive values along ``axis``, which becomes WINDOW_PX - 1 shorter."""
    running = np.cumsum(values, axis=axis)
    along = np.moveaxis(running, axis, 0)
    sums = along[WINDOW_PX - 1 :].copy()
    sums[1:] -= along[:-WINDOW_PX]
    return np.moveaxis(sums, 0, axis)


@dataclass(frozen=True)
class Film(NoiseModel):
    r"""Photographic plate of an electron micrograph: darker, unevenly developed, stained and grainy.

    Notes
    -----
    Noise model: y = x * T, T = (1 - loss) exp(g - s^2 / 2), g = shading g1 + blotch g2 + grain g3, where g1,
    g2, g3 are standard normal fields smoothed over shading_px, blotch_px and grain_px. Densities of a film
    add, so transmissions multiply, and log T is what is Gaussian.

    Moments: s^2 = shading^2 + blotch^2 + grain^2; E[y | x] = (1 - loss) x,
    var[y | x] = (1 - loss)^2 (exp(s^2) - 1) x^2 at each pixel over draws. Within one image the slow parts do
    not average out.

    Severity: The defaults take the ISBI 2012 micrographs to 14.1 dB on the average (12.2 to 16.5; ISCL's
    blind methods end at 13).

    Samples: One plate: all samples of a pixel share T.

    References
    ----------
    ISCL sec. IV-C, Table II case 2: "multiplying a film noise", non-zero mean; the fields are ours (see the
    module).
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

    def add(self, clean: np.ndarray, rng: Generator) -> FloatArray:
        """``clean`` with this noise, not clipped: y of the noise model."""
        image = as_image(clean)
        height, width, *_ = image.shape
        parts = (
            (self.shading, self.shading_px),
            (self.blotch, self.blotch_px),
            (self.grain, self.grain_px),
        )
        log_t = np.zeros((height, width))
        variance = 0.0
        for strength, smoothing in parts:
            scale_px = fixed(smoothing)
            deviation = fixed(strength)
            normal = smooth_field((height, width), (scale_px, scale_px), rng)
            log_t += deviation * normal
            variance += deviation**2
        relative = np.exp(log_t - variance / 2.0)
        kept = 1.0 - fixed(self.loss)
        transmission = kept * relative
        return image * _over_samples(transmission, image)


@dataclass(frozen=True)
class Charge(NoiseModel):
    r"""Charging of a scanned specimen: bright patches, bright and dark streaks along the scan lines (axis 1).

    Notes
    -----
    Noise model: y = x + mean + blob B + streak S + grain G, independent of x. B: a smoothed normal field
    where it exceeds 1, minus 1; S: likewise on both sides of zero, smoothed along the line only; G white. B,
    S, G are scaled to zero mean and unit variance.

    Moments: E[y | x] = x + mean, var[y | x] = blob^2 + streak^2 + grain^2 at each pixel over draws.

    Severity: The defaults take the ISBI 2012 micrographs to 17.6 dB on the average (16.4 to 18.9; ISCL's
    blind methods end at 18).

    Samples: One specimen: all samples of a pixel share the field.

    References
    ----------
    ISCL sec. IV-C, Table II case 1: "adding a charge noise", non-zero mean; the fields are ours (see the
    module).
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

    def add(self, clean: np.ndarray, rng: Generator) -> FloatArray:
        """``clean`` with this noise, not clipped: y of the noise model."""
        image = as_image(clean)
        height, width, *_ = image.shape
        blob_px = fixed(self.blob_px)
        of_blobs = smooth_field((height, width), (blob_px, blob_px), rng)
        blobs = standard_islands(of_blobs, BLOB_THRESHOLD)
        streak_px = fixed(self.streak_px)
        of_streaks = smooth_field((height, width), (STREAK_WIDTH_PX, streak_px), rng)
        streaks = standard_streaks(of_streaks, STREAK_THRESHOLD)
        white = rng.standard_normal((height, width))
        charge = fixed(self.blob) * blobs
        charge += fixed(self.mean)
        charge += fixed(self.streak) * streaks
        charge += fixed(self.grain) * white
        return image + _over_samples(charge, image)


def _over_samples(plane: FloatArray, image: FloatArray) -> FloatArray:
    """``plane`` (H, W) shaped so that it broadcasts over the samples of ``image`` (H, W[, S])."""
    return plane if image.ndim == 2 else plane[:, :, None]


def smooth_field(
    shape: tuple[int, int],
    scale_px: tuple[float, float],
    rng: Generator,
) -> FloatArray:
    """A Gaussian random field, N(0, 1) at every pixel.

    Its correlation along each axis is exp(-d^2 / (4 scale_px^2)), for scales from a pixel on.

    Parameters
    ----------
    shape
        (H, W).
    scale_px
        Of each axis, pixels.
    rng
        What it is drawn with.

    Returns
    -------
    array
        (H, W)

    Notes
    -----
    White noise on a lattice, smoothed by a Gaussian kernel of ``scale_px``. The lattice is as coarse as the
    kernel allows (half its width, at least a pixel), so the cost a pixel does not grow with the scale.
    """
    rows = _smoothing(shape[0], scale_px[0])
    columns = _smoothing(shape[1], scale_px[1])
    lattice = (rows.shape[1], columns.shape[1])
    white = rng.standard_normal(lattice)
    down = rows @ white
    both = columns @ down.T
    return np.asarray(both.T)


def _smoothing(length: int, scale_px: float) -> sparse.csr_array:
    """The (length, nodes) matrix that smooths lattice noise along one axis.

    Its rows have unit norm, so variance stays 1.
    """
    spacing_px = max(1.0, scale_px / 2.0)
    reach = math.ceil(4.0 * scale_px / spacing_px)
    pixels = np.arange(length)
    nearest = np.rint(pixels / spacing_px).astype(np.int64)
    around = np.arange(-reach, reach + 1)
    nodes = nearest[:, None] + around
    places_px = nodes * spacing_px
    offset_px = places_px - pixels[:, None]
    weight = np.exp(-0.5 * (offset_px / scale_px) ** 2)
    power = np.sum(weight**2, axis=1, keepdims=True)
    weight /= np.sqrt(power)
    rows = np.repeat(pixels, len(around))
    columns = (nodes + reach).ravel()
    count = int(nearest[-1]) + 2 * reach + 1
    entries = (weight.ravel(), (rows, columns))
    return sparse.csr_array(entries, shape=(length, count))


def standard_islands(normal: FloatArray, threshold: float) -> FloatArray:
    """max(g - t, 0) of a standard normal g, shifted and scaled to zero mean and unit variance."""
    mean, square = _excess_moments(threshold)
    variance = square - mean**2
    excess = np.maximum(normal - threshold, 0.0)
    return np.asarray((excess - mean) / math.sqrt(variance))


def standard_streaks(normal: FloatArray, threshold: float) -> FloatArray:
    """sign(g) max(|g| - t, 0) of a standard normal g, scaled to unit variance.

    Its mean is zero by symmetry.
    """
    _, square = _excess_moments(threshold)
    excess = np.maximum(np.abs(normal) - threshold, 0.0)
    signed = np.sign(normal) * excess
    return np.asarray(signed / math.sqrt(2.0 * square))


def _excess_moments(threshold: float) -> tuple[float, float]:
    """E[e] and E[e^2] of e = max(g - t, 0), g standard normal: phi - t Q and (1 + t^2) Q - t phi."""
    bell = math.exp(-0.5 * threshold**2)
    density = bell / math.sqrt(2.0 * math.pi)
    tail = 0.5 * math.erfc(threshold / math.sqrt(2.0))
    mean = density - threshold * tail
    beyond = (1.0 + threshold**2) * tail
    return mean, beyond - threshold * density
