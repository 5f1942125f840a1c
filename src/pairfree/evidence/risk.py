r"""How far a denoised image is from the truth, which nobody has: an estimate, and what would bring it nearer.

The noisy image is made a little noisier twice, by +alpha z and -alpha z, where z is noise of the same law.
What a denoiser makes of the two tells how much of its output is the noise of its input, and so its error.

References
----------
Oliveira, Lei, Tibshirani, "Unbiased risk estimation in the normal means problem via coupled bootstrap
techniques", 2022; Pang, Zheng, Quan, Ji, "Recorrupted-to-Recorrupted", CVPR 2021. Stein's estimate is the
limit of a small alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pairfree.measure.noise_law import NoiseLaw

FloatArray = NDArray[np.float64]
Denoise = Callable[[FloatArray], FloatArray]
"""(C, H, W) -> (C, H, W), intensity units."""

ALPHA = 0.25
"""Size of what is added, in deviations of the noise: with 0.5 the network would see noisier data."""
BLOCK_PX = 32
"""Side of the blocks whose scatter gives the standard errors."""
FINE_PX, MIDDLE_PX = 1.0, 4.0
"""Gaussians between which the scales of the output lie, pixels."""
SURE, WORTH_DB = 4.0, 0.1
"""Standard errors of a correction, and its gain, from which it counts."""


@dataclass(frozen=True)
class Correction:
    """A change of the output along one direction, and what it would gain."""

    name: str
    """A key of ``DIRECTIONS``."""
    share: float
    """By how much of the direction the output should be changed: 0 for an output that is right along it."""
    share_se: float
    gain: float
    """By how much the mean square error would fall, intensity units, squared."""

    @property
    def significance(self) -> float:
        """Share in standard errors."""
        return self.share / self.share_se if self.share_se > 0 else 0.0


@dataclass(frozen=True)
class Risk:
    """The estimated error of one denoised image."""

    mse: float
    """Mean square error against the truth, intensity units, squared; may come out below 0 by chance."""
    mse_se: float
    """Standard error, of chance and of the noise's law."""
    variance: float
    """Mean variance of the noise."""
    corrections: tuple[Correction, ...]
    """Along each direction."""

    def psnr_db(self, data_range: float) -> float:
        """Estimated peak signal-to-noise ratio; NaN where the error is not known from 0."""
        return 10.0 * math.log10(data_range**2 / self.mse) if self.mse > 0 else math.nan

    @property
    def dose(self) -> float:
        """How many averaged frames the result is worth; NaN where the error is not known from 0."""
        return self.variance / self.mse if self.mse > 0 else math.nan

    def worthwhile(self) -> list[Correction]:
        """Corrections that are no chance and gain something, the most first."""
        found = []
        for one in self.corrections:
            left = max(self.mse - one.gain, 1e-12)
            worth = 10.0 * math.log10(max(self.mse, 1e-12) / left)
            if abs(one.significance) > SURE and worth > WORTH_DB:
                found.append(one)
        return sorted(found, key=lambda one: one.gain, reverse=True)


def _blur(planes: FloatArray, sigma_px: float) -> FloatArray:
    """Of each channel."""
    return np.asarray(gaussian_filter(planes, (0.0, sigma_px, sigma_px)))


def _keep(output: FloatArray, noisy: FloatArray) -> FloatArray:
    return np.ones_like(output)


def _contrast(output: FloatArray, noisy: FloatArray) -> FloatArray:
    return np.asarray(output - output.mean(axis=(-2, -1), keepdims=True))


def _fine(output: FloatArray, noisy: FloatArray) -> FloatArray:
    return np.asarray(output - _blur(output, FINE_PX))


def _middle(output: FloatArray, noisy: FloatArray) -> FloatArray:
    return np.asarray(_blur(output, FINE_PX) - _blur(output, MIDDLE_PX))


def _removed(output: FloatArray, noisy: FloatArray) -> FloatArray:
    return noisy - output


def _checkerboard(output: FloatArray, noisy: FloatArray) -> FloatArray:
    rows, columns = np.indices(output.shape[-2:])
    board = np.where((rows + columns) % 2 == 0, 1.0, -1.0)
    return np.broadcast_to(board, output.shape)


def _shift_down(output: FloatArray, noisy: FloatArray) -> FloatArray:
    return np.asarray(np.gradient(output, axis=-2))


def _shift_across(output: FloatArray, noisy: FloatArray) -> FloatArray:
    return np.asarray(np.gradient(output, axis=-1))


DIRECTIONS: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "brightness": _keep,
    "contrast": _contrast,
    "fine detail": _fine,
    "middle detail": _middle,
    "removed": _removed,
    "checkerboard": _checkerboard,
    "shift along columns": _shift_down,
    "shift along rows": _shift_across,
}
"""Functions of output and noisy image, along which an output may be wrong."""


def estimate_risk(
    denoise: Denoise,
    noisy: FloatArray,
    laws: Sequence[NoiseLaw],
    rng: Generator,
    law_error: float = 0.02,
    draws: int = 1,
) -> Risk:
    r"""Estimate the error of a denoiser on one noisy image.

    Parameters
    ----------
    denoise
        What is judged; called 1 + 2 draws times.
    noisy
        (C, H, W), intensity units; both sides at least two blocks.
    laws
        Of the noise of each channel.
    rng
        For z.
    law_error
        Relative standard error of the noise's variance.
    draws
        Pairs of noisier images; more make chance smaller.

    Notes
    -----
    Noise model: y = x + n, n normal of variance v and of the spectrum of the law, z alike.

    g+- = F(y +- alpha z); MSE = mean[((g+ - y)^2 + (g- - y)^2) / 2 - v + (g+ - g-) z / alpha].

    For a direction d of the output, t = sum[(d+ (y - g+) + d- (y - g-)) / 2 - (d+ - d-) z / (2 alpha)] /
    sum[(d+^2 + d-^2) / 2]: 0 where moving the output along d gains nothing.

    Breaks when the noise is not of that law (clipping, JPEG, CT), or moves the mean brightness.
    """
    first = denoise(noisy)
    variances = [law.noise.variance(plane) for law, plane in zip(laws, first, strict=True)]
    variance = np.stack(variances)
    squares = np.zeros_like(noisy)
    products = {name: np.zeros_like(noisy) for name in DIRECTIONS}
    powers = {name: np.zeros_like(noisy) for name in DIRECTIONS}
    for _ in range(draws):
        drawn = [law.draw((noisy.shape[1], noisy.shape[2]), rng) for law in laws]
        added = np.sqrt(variance) * np.stack(drawn)
        inputs = noisy + ALPHA * added, noisy - ALPHA * added
        above, below = denoise(inputs[0]), denoise(inputs[1])
        squares += ((above - noisy) ** 2 + (below - noisy) ** 2) / 2.0 + (
            above - below
        ) * added / ALPHA
        for name, direction in DIRECTIONS.items():
            up, down = direction(above, inputs[0]), direction(below, inputs[1])
            left = (up * (noisy - above) + down * (noisy - below)) / 2.0
            products[name] += left - (up - down) * added / (2.0 * ALPHA)
            powers[name] += (up**2 + down**2) / 2.0
    errors = squares / draws - variance
    mean_variance = float(variance.mean())
    scatter = _standard_error(errors)
    return Risk(
        mse=float(errors.mean()),
        mse_se=math.hypot(scatter, law_error * mean_variance),
        variance=mean_variance,
        corrections=tuple(
            _correct(name, products[name], powers[name], draws) for name in DIRECTIONS
        ),
    )


def _correct(name: str, products: FloatArray, powers: FloatArray, draws: int) -> Correction:
    """The share of a direction that is missing, its error from the scatter of blocks, and its gain."""
    power = float(powers.mean())
    if power <= 0:
        return Correction(name, 0.0, math.inf, 0.0)
    share = float(products.mean()) / power
    error = _standard_error(products - share * powers) / power
    return Correction(name, share, error, share**2 * power / draws)


def _standard_error(values: FloatArray) -> float:
    """Of the mean, from the scatter of the means of blocks; channels show the same scene."""
    values = values.mean(axis=0)
    down, across = values.shape[0] // BLOCK_PX, values.shape[1] // BLOCK_PX
    whole = values[: down * BLOCK_PX, : across * BLOCK_PX]
    means = whole.reshape(down, BLOCK_PX, across, BLOCK_PX).mean(axis=(1, 3))
    return float(means.std() / math.sqrt(means.size))
