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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairfree.data.directions import DIRECTIONS, Direction
from pairfree.evidence.rows import WITHIN_90
from pairfree.examination.probe import ALPHA, Probe, standard_error

FloatArray = NDArray[np.float64]

LEAST_SHARE = 1e-6
"""Of the noise's variance: no error is taken for smaller where decibels are told."""


@dataclass(frozen=True)
class Correction:
    """A change of the output along one direction, and what it would gain."""

    name: str
    """A key of ``directions.DIRECTIONS``."""
    share: float
    """By how much of the direction the output should be changed: 0 for an output that is right along it."""
    chance_se: float
    """Standard error of the share by chance."""
    law_part: float
    """How far the share moves when the noise's variance is taken for twice as large."""
    law_error: float
    """Relative standard error of that variance."""
    power: float
    """Mean square of the direction, intensity units squared."""

    @property
    def share_se(self) -> float:
        """Standard error of chance and of the noise's law."""
        return math.hypot(self.chance_se, self.law_error * self.law_part)

    @property
    def significance(self) -> float:
        """Share in standard errors."""
        return self.share / self.share_se if self.share_se > 0 else 0.0

    @property
    def gain(self) -> float:
        """By how much the mean square error would fall, intensity units squared."""
        return self.share**2 * self.power


@dataclass(frozen=True)
class Risk:
    """The estimated error of denoised images."""

    mse: float
    """Mean square error against the truth, intensity units squared; may come out below 0 by chance."""
    chance_se: float
    """Its standard error by chance."""
    variance: float
    """Mean variance of the noise."""
    law_error: float
    """Relative standard error of that variance, which is measured, too."""
    pixels: int
    """From which all this is."""
    corrections: tuple[Correction, ...]
    """Along each direction."""

    @property
    def mse_se(self) -> float:
        """Standard error of chance and of the noise's law."""
        return math.hypot(self.chance_se, self.law_error * self.variance)

    @property
    def least(self) -> float:
        """The error, no smaller than what can be told from none: decibels go by it."""
        return max(self.mse, self.mse_se, LEAST_SHARE * self.variance)

    def psnr_db(self, data_range: float) -> tuple[float, float, float]:
        """Estimated peak signal-to-noise ratio and its interval, which holds nine of ten; dB.

        Infinite at the upper end where no error at all is possible.
        """
        beside = WITHIN_90 * self.mse_se
        low, high = self.mse + beside, self.mse - beside
        return tuple(_decibels(data_range**2, one) for one in (self.mse, low, high))  # type: ignore[return-value]

    @property
    def dose(self) -> tuple[float, float, float]:
        """How many averaged frames the result is worth, and the interval that holds nine of ten."""
        beside = WITHIN_90 * self.mse_se
        found = [self.mse, self.mse + beside, self.mse - beside]
        return tuple(self.variance / one if one > 0 else math.inf for one in found)  # type: ignore[return-value]

    def worth_db(self, correction: Correction) -> float:
        """What a correction would gain, dB."""
        left = max(self.least - correction.gain, LEAST_SHARE * self.variance)
        return _decibels(self.least, left)


def _decibels(power: float, over: float) -> float:
    return 10.0 * math.log10(power / over) if over > 0 else math.inf


def estimate_risk(probe: Probe, law_error: float = 0.02) -> Risk:
    r"""Estimate the error of a denoiser on one noisy image.

    Parameters
    ----------
    probe
        What it made of the image; both sides at least two blocks of 32 px.
    law_error
        Relative standard error of the noise's variance.

    Notes
    -----
    Noise model: y = x + n, n normal of variance v and of the spectrum of the law, z alike.

    g+- = F(y +- alpha z); MSE = mean[((g+ - y)^2 + (g- - y)^2) / 2 - v + (g+ - g-) z / alpha].

    For a direction d of the output, t = sum[(d+ (y - g+) + d- (y - g-)) / 2 - (d+ - d-) z / (2 alpha)] /
    sum[(d+^2 + d-^2) / 2]: 0 where moving the output along d gains nothing.

    Breaks when the noise is not of that law (clipping, JPEG, CT), or moves the mean brightness.
    """
    errors = probe.square_errors
    return Risk(
        mse=float(errors.mean()),
        chance_se=standard_error(errors),
        variance=float(probe.disturbance.variance.mean()),
        law_error=law_error,
        pixels=int(errors.size),
        corrections=tuple(
            estimate_correction(probe, name, direction, law_error)
            for name, direction in DIRECTIONS.items()
        ),
    )


@dataclass(frozen=True)
class Terms:
    """Of each pixel, what a direction's share is made of; (C, H, W), intensity units squared."""

    products: FloatArray
    crossed: FloatArray
    """Their part that comes from the noise's own law."""
    powers: FloatArray


def collect_terms(probe: Probe, direction: Direction) -> Terms:
    """Numerator and denominator of t in ``estimate_risk``, pixel by pixel."""
    noisy, added = probe.noisy, probe.disturbance.noise
    above, below = probe.inputs
    up, down = direction(probe.above, above), direction(probe.below, below)
    left = (up * (noisy - probe.above) + down * (noisy - probe.below)) / 2.0
    crossed = (up - down) * added / (2.0 * ALPHA)
    return Terms(left - crossed, crossed, (up**2 + down**2) / 2.0)


def estimate_correction(
    probe: Probe, name: str, direction: Direction, law_error: float
) -> Correction:
    """The share of a direction that is missing, and its error from the scatter of blocks."""
    terms = collect_terms(probe, direction)
    power = float(terms.powers.mean())
    if power <= 0:
        return Correction(name, 0.0, math.inf, 0.0, law_error, 0.0)
    share = float(terms.products.mean()) / power
    error = standard_error(terms.products - share * terms.powers) / power
    return Correction(name, share, error, float(terms.crossed.mean()) / power, law_error, power)


def pool_risks(risks: Sequence[Risk], law_error: float) -> Risk:
    """The error of several images as one; each pixel counts the same.

    Parameters
    ----------
    risks
        At least one.
    law_error
        Relative standard error of the noise's variance over all of them.
    """
    pixels = sum(one.pixels for one in risks)
    weights = [one.pixels / pixels for one in risks]
    of_chance = [weight * one.chance_se for weight, one in zip(weights, risks, strict=True)]
    corrections = []
    for same in zip(*(one.corrections for one in risks), strict=True):
        corrections.append(_pool_corrections(same, weights, law_error))
    return Risk(
        mse=sum(weight * one.mse for weight, one in zip(weights, risks, strict=True)),
        chance_se=math.hypot(*of_chance),
        variance=sum(weight * one.variance for weight, one in zip(weights, risks, strict=True)),
        law_error=law_error,
        pixels=pixels,
        corrections=tuple(corrections),
    )


def _pool_corrections(
    same: Sequence[Correction], weights: Sequence[float], law_error: float
) -> Correction:
    """One direction over several images."""
    known = [(one, weight) for one, weight in zip(same, weights, strict=True) if one.power > 0]
    power = sum(weight * one.power for one, weight in known)
    if power <= 0:
        return same[0]
    parts = [weight * one.power / power for one, weight in known]
    pairs = [(one, part) for (one, _), part in zip(known, parts, strict=True)]
    return Correction(
        name=same[0].name,
        share=sum(part * one.share for one, part in pairs),
        chance_se=math.hypot(*(part * one.chance_se for one, part in pairs)),
        law_part=sum(part * one.law_part for one, part in pairs),
        law_error=law_error,
        power=power,
    )
