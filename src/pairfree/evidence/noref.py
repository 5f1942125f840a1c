"""Evidence without ground truth: what the residual says of what a denoiser removed, left or invented.

The residual is noisy minus denoised. The yardstick is the oracle: an output equal to the true scene. Its
residual is the noise itself, so each number below has a value that it should have under a stated noise model.
A number off its value is a reason to look; a number on its value is no proof (an output that copies the input
passes the tests for invention). Standard errors assume noise that is independent between blocks of 16 x 16
pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pairfree.errors import InputError
from pairfree.evidence import residual
from pairfree.evidence.grid import measure_grid
from pairfree.evidence.residual import autocorrelation, check_pair
from pairfree.evidence.sites import judge_sites, variance_inflation

POOLING_SE = 0.05
"""Precision counts only down to this standard error for detail and edges, where images truly differ, or one
image rich in detail would speak for all."""


@dataclass(frozen=True)
class Evidence:
    """Residual statistics of one image, or pooled over several.

    Intensities are in the images' own unit (HU, counts).
    """

    n_images: int
    n_pixels: int
    mean: float
    """Mean of the residual, intensity units. Zero for zero-mean noise; else the denoiser shifted the
    brightness (bias)."""
    mean_se: float
    """Standard error of ``mean`` from the scatter of block means, so that correlated noise is allowed for."""
    std: float
    """Standard deviation of the residual, intensity units: the noise level, if all noise and nothing else was
    removed."""
    removed_share: float
    """Variance of the residual over the variance of the noisy image: the share of its power that was taken
    away."""
    noise_left: float
    """Fine contrast of the output over that of the noisy image, as deviations, in the flattest tenth of the
    blocks: no larger share of the noise is left there, white or correlated. Near 0 for an oracle, unless the
    scene is full of detail. NaN under 20 blocks."""
    autocorr_x: tuple[float, ...]
    """Autocorrelation of the residual along a row at lags 1 to 4 px. Zero for white noise; that of the noise
    otherwise."""
    autocorr_y: tuple[float, ...]
    """The same along a column. A difference between x and y is typical of scanners and of interlaced
    cameras."""
    corr_output: float
    """Pearson correlation of residual and output. Zero for an oracle and zero-mean noise. Positive: contrast
    was lost, or noise remains in the output; negative: contrast was exaggerated."""
    corr_output_se: float
    gain: float
    """Slope of residual variance against output, intensity units: 0 for signal-independent noise, the gain
    (intensity units per count) for Poisson noise. NaN where the output has too little range to tell."""
    gain_se: float
    offset: float
    """Residual variance at output zero, intensity units squared (read noise, if black is zero)."""
    offset_se: float
    edge_power: float
    """Residual power at the output's edges over what the line ``gain * output + offset`` predicts there. 1
    for an oracle under Poisson-Gaussian noise; above 1, edges were removed together with the noise. NaN where
    there are no edges."""
    edge_power_se: float
    uneven_power: float
    """Residual power over what the line predicts, in blocks of 16 x 16 px: its 95th percentile over its
    median. Little above 1 (see ``uneven_power_chance``) for an oracle under Poisson-Gaussian noise; above,
    texture was removed somewhere, or the noise differs from place to place. NaN for images of less than 20
    blocks."""
    uneven_power_chance: float
    """What noise of this autocorrelation gives."""
    detail_support: float
    """Regression of the noisy image's detail on the output's detail: the share of the output's fine contrast
    that the data show. 1 for an oracle; under 1: sharpened or invented; above 1: softened, or noise remains
    in the output. NaN without detail."""
    detail_support_se: float
    detail_share: float
    """Share of the residual's detail power that is a multiple of the output's detail. Zero for an oracle."""
    sites: int
    """Squares of 8 x 8 px looked at."""
    tested_sites: int
    """Sites whose output detail (over about 5 px) is 5.5 standard errors of the noise or more: an invention
    would show there."""
    unsupported_sites: int
    """Sites where the local residual is no chance (5.5 standard errors) and the noisy data show less than
    half of the output's detail: candidates for invention. Zero for an oracle."""
    removed_sites: int
    """Sites where the local residual is no chance and the output shows less than half of the data's detail:
    structure, or hot pixels, removed. Zero for an oracle."""
    grid: float
    """Deviation of the means of the output over the places of cells of 4 x 4 or 8 x 8 px, over what chance
    gives: 1 or less for an oracle, above 2 where the network lays its grid over the image. NaN under 16 px a
    side."""
    grid_noisy: float
    """The same of the noisy image: a camera may have a grid of its own."""
    grid_contrast: float
    """How far these means of the output are apart, peak to peak, intensity units."""


def residual_evidence(noisy: ArrayLike, denoised: ArrayLike) -> Evidence:
    """Evidence of one noisy image and its denoised version.

    Parameters
    ----------
    noisy, denoised
        (H, W), the same units, sides of at least 8 px; give the channels of a colour image one by one and
        ``pool`` them.

    Raises
    ------
    InputError
        For images of other shapes, and for pixels that are NaN or infinite.
    """
    y, f = check_pair(noisy, denoised)
    r = y - f
    std = float(r.std())
    total = float(y.var())
    along_x = autocorrelation(r, axis=1)
    along_y = autocorrelation(r, axis=0)
    corr_output, corr_output_se = residual.output_correlation(r, f)
    line = residual.fit_variance_line(r, f)
    edge_power, edge_power_se = residual.edge_power(r, f, line)
    detail_support, detail_support_se = residual.detail_support(y, f)
    inflation = variance_inflation(along_x, along_y)
    verdicts = judge_sites(y, f, line, inflation)
    grid, grid_contrast = measure_grid(f)
    return Evidence(
        n_images=1,
        n_pixels=int(r.size),
        mean=float(r.mean()),
        mean_se=residual.mean_se(r),
        std=std,
        removed_share=float(std**2 / total) if total > 0 else 0.0,
        noise_left=residual.noise_left(y, f),
        autocorr_x=along_x,
        autocorr_y=along_y,
        corr_output=corr_output,
        corr_output_se=corr_output_se,
        gain=line.gain,
        gain_se=line.gain_se,
        offset=line.offset,
        offset_se=line.offset_se,
        edge_power=edge_power,
        edge_power_se=edge_power_se,
        uneven_power=residual.uneven_power(r, f, line),
        uneven_power_chance=residual.uneven_power_by_chance(along_x, along_y),
        detail_support=detail_support,
        detail_support_se=detail_support_se,
        detail_share=residual.detail_share(r, f),
        sites=int(verdicts.tested.size),
        tested_sites=int(verdicts.tested.sum()),
        unsupported_sites=int(verdicts.unsupported.sum()),
        removed_sites=int(verdicts.removed.sum()),
        grid=grid,
        grid_noisy=measure_grid(y)[0],
        grid_contrast=grid_contrast,
    )


def pool(evidence: Sequence[Evidence]) -> Evidence:
    """Evidence of several images as one; they should share units and kind of noise.

    Pixel-weighted means, variances for deviations, sums of sites, and, for fitted slopes, means weighted by
    their precision.

    Raises
    ------
    InputError
        For no evidence at all.
    """
    if not evidence:
        raise InputError("no evidence to pool: give at least one noisy and denoised pair")
    parts = Parts(evidence)
    gain, gain_se = parts.precision_mean("gain")
    offset, offset_se = parts.precision_mean("offset")
    edge_power, edge_power_se = parts.precision_mean("edge_power", POOLING_SE)
    detail_support, detail_support_se = parts.precision_mean("detail_support", POOLING_SE)
    return Evidence(
        n_images=parts.total("n_images"),
        n_pixels=parts.total("n_pixels"),
        mean=parts.mean("mean"),
        mean_se=parts.mean_se("mean_se"),
        std=math.sqrt(parts.mean_square("std")),
        removed_share=parts.mean("removed_share"),
        noise_left=parts.finite_mean("noise_left"),
        autocorr_x=parts.mean_lags("autocorr_x"),
        autocorr_y=parts.mean_lags("autocorr_y"),
        corr_output=parts.mean("corr_output"),
        corr_output_se=parts.mean_se("corr_output_se"),
        gain=gain,
        gain_se=gain_se,
        offset=offset,
        offset_se=offset_se,
        edge_power=edge_power,
        edge_power_se=edge_power_se,
        uneven_power=parts.finite_mean("uneven_power"),
        uneven_power_chance=parts.mean("uneven_power_chance"),
        detail_support=detail_support,
        detail_support_se=detail_support_se,
        detail_share=parts.mean("detail_share"),
        sites=parts.total("sites"),
        tested_sites=parts.total("tested_sites"),
        unsupported_sites=parts.total("unsupported_sites"),
        removed_sites=parts.total("removed_sites"),
        grid=parts.finite_root_mean_square("grid"),
        grid_noisy=parts.finite_root_mean_square("grid_noisy"),
        grid_contrast=parts.finite_mean("grid_contrast"),
    )


class Parts:
    """The evidence of several images, and how one field of it is pooled: pixels are the weights.

    Parameters
    ----------
    evidence
        Of each image.
    """

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        self.fields = [vars(one) for one in evidence]
        weights = np.array(self.values("n_pixels"), dtype=np.float64)
        self.weights = weights / weights.sum()

    def values(self, field: str) -> list[float]:
        """The field of each image."""
        return [one[field] for one in self.fields]

    def total(self, field: str) -> int:
        """The sum of counts."""
        return sum(int(value) for value in self.values(field))

    def mean(self, field: str) -> float:
        """The mean."""
        return float(np.dot(self.weights, self.values(field)))

    def mean_square(self, field: str) -> float:
        """The mean of the squares."""
        squares = [value**2 for value in self.values(field)]
        return float(np.dot(self.weights, squares))

    def finite_mean(self, field: str) -> float:
        """Of what is a number, each image with the same weight; NaN of none."""
        finite = [value for value in self.values(field) if math.isfinite(value)]
        return float(np.mean(finite)) if finite else math.nan

    def finite_root_mean_square(self, field: str) -> float:
        """Of what is a number, each image with the same weight; NaN of none."""
        finite = [value for value in self.values(field) if math.isfinite(value)]
        return float(np.sqrt(np.mean(np.square(finite)))) if finite else math.nan

    def mean_se(self, field: str) -> float:
        """Standard error of a mean, from those of its parts."""
        weighted = self.weights * self.values(field)
        return residual.root_of_squares(weighted)

    def mean_lags(self, field: str) -> tuple[float, ...]:
        """The mean of each of several numbers."""
        means = self.weights @ np.array(self.values(field))
        return tuple(map(float, means))

    def precision_mean(self, field: str, floor: float = 0.0) -> tuple[float, float]:
        """Mean of a field weighted by 1 / (se^2 + floor^2), and its standard error; NaN of none.

        Of those images whose value and standard error, the field of the same name with ``_se``, are finite.
        """
        values = np.array(self.values(field), dtype=np.float64)
        errors = np.array(self.values(f"{field}_se"), dtype=np.float64)
        good = np.isfinite(values) & np.isfinite(errors)
        if not good.any():
            return math.nan, math.nan
        values, errors = values[good], errors[good]
        certain = errors == 0
        if floor == 0 and certain.any():
            return float(np.mean(values[certain])), 0.0
        precisions = [1 / (se**2 + floor**2) for se in errors.tolist()]
        weights = np.array(precisions)
        weights /= weights.sum()
        mean = float(np.dot(weights, values))
        return mean, residual.root_of_squares(weights * errors)
