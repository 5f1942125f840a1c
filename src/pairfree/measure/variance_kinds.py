"""Which law the variance of noise follows: constant, in step with the brightness, or with its square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.calm_blocks import CalmBins

FloatArray = NDArray[np.float64]

POWERS = {
    "constant": (0,),
    "counts": (1,),
    "counts and read noise": (1, 0),
    "multiplied": (2,),
    "multiplied and read noise": (2, 0),
}
"""Powers of the brightness in the variance, for each kind of law."""
ROUNDS = 8
LEAST_SHARE = 0.05
"""Of the median variance: below it the fitted law no longer says how much a bin scatters."""
SYSTEMATIC = 0.04
"""Relative error of a bin beside that of chance: what is left of texture."""


@dataclass(frozen=True)
class VarianceLaw:
    """variance = slope * brightness^power + floor."""

    kind: str
    """A key of ``POWERS``."""
    slope: float
    """Intensity units (counts) or none (multiplied); 0 of constant noise."""
    slope_error: float
    """Standard error."""
    floor: float
    """Intensity units, squared."""
    misfit: float
    """Mean square of the bins' distances from the law, over what chance and texture allow: about 1."""
    growth: float
    """Largest over smallest variance of the law within the image."""

    @property
    def significance(self) -> float:
        """Slope in standard errors."""
        return self.slope / self.slope_error if self.slope_error > 0 else 0.0


@dataclass(frozen=True)
class VarianceLaws:
    """All kinds of laws fitted to one image's bins."""

    laws: dict[str, VarianceLaw]
    """By their kind."""
    criteria: dict[str, float]
    """Bayesian information criterion of each kind: the smallest explains the bins best for its freedom."""

    @property
    def best(self) -> VarianceLaw:
        """By the criterion."""
        return self.laws[min(self.criteria, key=lambda kind: self.criteria[kind])]

    @property
    def line(self) -> VarianceLaw:
        """The line, whatever is best: for whether and how much noise grows."""
        return self.laws["counts and read noise"]


def fit_variance_laws(bins: CalmBins) -> VarianceLaws:
    """Fit each kind of law by weighted least squares.

    Parameters
    ----------
    bins
        At least one; without growth in brightness all laws but the constant are left at it.

    Notes
    -----
    A bin's error is that of chance, in proportion to the law of the round before, and ``SYSTEMATIC``. Where
    even the best law misses by more, all errors are scaled up to fit it.
    """
    fits = {kind: _fit(bins, powers) for kind, powers in POWERS.items()}
    degrees = max(1, len(bins.variance) - 2)
    scatter = max(1.0, min(fit.chi2 for fit in fits.values()) / degrees)
    count = max(2, len(bins.variance))
    criteria, laws = {}, {}
    for kind, fit in fits.items():
        criteria[kind] = fit.chi2 / scatter + len(POWERS[kind]) * float(np.log(count))
        laws[kind] = VarianceLaw(
            kind=kind,
            slope=fit.coefficients[0] if POWERS[kind][0] else 0.0,
            slope_error=float(fit.errors[0] * np.sqrt(scatter)) if POWERS[kind][0] else 0.0,
            floor=fit.coefficients[-1] if POWERS[kind][-1] == 0 else 0.0,
            misfit=fit.chi2 / degrees,
            growth=fit.growth,
        )
    return VarianceLaws(laws, criteria)


@dataclass(frozen=True)
class _Fit:
    coefficients: list[float]
    errors: FloatArray
    chi2: float
    growth: float


def _fit(bins: CalmBins, powers: tuple[int, ...]) -> _Fit:
    """Coefficients of the powers of the brightness."""
    design = np.stack([bins.brightness**power for power in powers], axis=1)
    scale = np.abs(design).max(axis=0)
    scale[scale == 0] = 1.0
    design = design / scale
    middle = float(np.median(bins.variance))
    least = LEAST_SHARE * max(middle, float(np.mean(bins.variance))) or 1.0
    model = np.full(len(bins.variance), middle)
    relative = bins.relative_error**2 + SYSTEMATIC**2
    for _ in range(ROUNDS):
        weight = 1.0 / (relative * np.maximum(model, least) ** 2)
        covariance = np.linalg.pinv(design.T @ (weight[:, None] * design))
        coefficients = covariance @ (design.T @ (weight * bins.variance))
        model = design @ coefficients
    chi2 = float(np.sum(weight * (bins.variance - model) ** 2))
    growth = float(model.max() / max(model.min(), least))
    return _Fit((coefficients / scale).tolist(), np.sqrt(np.diag(covariance)) / scale, chi2, growth)
