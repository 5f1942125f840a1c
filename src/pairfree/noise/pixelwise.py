"""Noise that is independent from pixel to pixel: Gaussian, Poisson, speckle and the two mixtures.

Every sample of a pixel (colour channel) gets noise of its own. x is the clean and y the noisy value, in 8-bit
grey levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pairfree.noise.model import COUNTS, GREY_MAX, NOT_NEGATIVE, NoiseModel, Number, as_image, fixed

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian(NoiseModel):
    r"""White Gaussian noise.

    Notes
    -----
    Noise model: y = x + n, n ~ N(0, sigma^2), independent between pixels and of x.

    Moments: E[y | x] = x, var[y | x] = sigma^2

    References
    ----------
    GAN2GAN sec. 5.2 (sigma 15, 25, 30, 50), IDDP sec. "Gaussian noise" (sigma 25 and (0, 50]); neither
    numbers it.
    """

    key: ClassVar[str] = "gaussian"
    sigma: Number = field(default=25.0, metadata=NOT_NEGATIVE)
    """Standard deviation, 8-bit grey levels."""

    def add(self, clean: np.ndarray, rng: Generator) -> FloatArray:
        """``clean`` with this noise, not clipped: y of the noise model."""
        image = as_image(clean)
        standard = rng.standard_normal(image.shape)
        return image + fixed(self.sigma) * standard


@dataclass(frozen=True)
class Poisson(NoiseModel):
    r"""Photon counting: ``lam`` photons are expected at white.

    Notes
    -----
    Noise model: y = 255 * Poisson(lam * x / 255) / lam, independent between pixels.

    Moments: E[y | x] = x, var[y | x] = 255 x / lam (x >= 0)

    Breaks when x is negative: there are no negative photon numbers, such a pixel is counted as black and
    becomes 0.

    References
    ----------
    IDDP sec. "Poisson noise" (lam 30 and [5, 50]), not numbered there.
    """

    key: ClassVar[str] = "poisson"
    lam: Number = field(default=30.0, metadata=COUNTS)
    """Expected photons in a white pixel (x = 255)."""

    def add(self, clean: np.ndarray, rng: Generator) -> FloatArray:
        """``clean`` with this noise, not clipped: y of the noise model."""
        image = as_image(clean)
        counts_per_grey = fixed(self.lam) / GREY_MAX
        expected = np.maximum(image, 0.0) * counts_per_grey
        counts = rng.poisson(expected)
        return np.asarray(counts / counts_per_grey)


@dataclass(frozen=True)
class Speckle(NoiseModel):
    r"""Multiplicative uniform noise, as of ultrasound and radar.

    Notes
    -----
    Noise model: y = x + x * n, n uniform on [-sqrt(3 v), sqrt(3 v)], independent between pixels.

    Moments: E[y | x] = x, var[y | x] = v x^2

    References
    ----------
    IDDP sec. "Speckle noise" (v 0.1 and (0, 0.2]), not numbered there.
    """

    key: ClassVar[str] = "speckle"
    v: Number = field(default=0.1, metadata=NOT_NEGATIVE)
    """Variance of the relative deviation n, no unit."""

    def add(self, clean: np.ndarray, rng: Generator) -> FloatArray:
        """``clean`` with this noise, not clipped: y of the noise model."""
        image = as_image(clean)
        half_width = math.sqrt(3.0 * fixed(self.v))
        relative = rng.uniform(-half_width, half_width, image.shape)
        return image + image * relative


@dataclass(frozen=True)
class MixtureA(NoiseModel):
    r"""Mostly faint noise with rare strong outliers.

    Notes
    -----
    Noise model: y = x + n; each pixel's n is N(0, 0.1^2) with chance 0.7, N(0, 1) with 0.2, uniform on
    [-s, s] with 0.1.

    Moments: E[y | x] = x, var[y | x] = 0.7 * 0.01 + 0.2 + 0.1 s^2 / 3

    References
    ----------
    GAN2GAN sec. 5.2, Table 3, case A (s 15, 25), after Chen et al., CVPR 2018 (GCBD).
    """

    key: ClassVar[str] = "mixture-a"
    s: Number = field(default=15.0, metadata=NOT_NEGATIVE)
    """Half-width of the uniform part, 8-bit grey levels."""

    def add(self, clean: np.ndarray, rng: Generator) -> FloatArray:
        """``clean`` with this noise, not clipped: y of the noise model."""
        image = as_image(clean)
        noise = mixture_noise(image.shape, 0.1, 1.0, fixed(self.s), rng)
        return image + noise


@dataclass(frozen=True)
class MixtureB(NoiseModel):
    r"""Strong noise of three kinds mixed.

    Notes
    -----
    Noise model: y = x + n; each pixel's n is N(0, 15^2) with chance 0.7, N(0, 25^2) with 0.2, uniform on
    [-s, s] with 0.1.

    Moments: E[y | x] = x, var[y | x] = 0.7 * 225 + 0.2 * 625 + 0.1 s^2 / 3

    References
    ----------
    GAN2GAN sec. 5.2, Table 3, case B (s 30, 50).
    """

    key: ClassVar[str] = "mixture-b"
    s: Number = field(default=30.0, metadata=NOT_NEGATIVE)
    """Half-width of the uniform part, 8-bit grey levels."""

    def add(self, clean: np.ndarray, rng: Generator) -> FloatArray:
        """``clean`` with this noise, not clipped: y of the noise model."""
        image = as_image(clean)
        noise = mixture_noise(image.shape, 15.0, 25.0, fixed(self.s), rng)
        return image + noise


def mixture_noise(
    shape: tuple[int, ...],
    sigma_common: float,
    sigma_rare: float,
    s: float,
    rng: Generator,
) -> FloatArray:
    """Noise of ``shape``: 70 % N(0, sigma_common^2), 20 % N(0, sigma_rare^2), 10 % uniform on [-s, s].

    All in grey levels.
    """
    chance = rng.random(shape)
    sigma = np.where(chance < 0.7, sigma_common, sigma_rare)
    normal = rng.standard_normal(shape) * sigma
    uniform = rng.uniform(-s, s, shape)
    return np.where(chance < 0.9, normal, uniform)
