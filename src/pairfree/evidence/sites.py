"""Where an output shows what the noisy data do not, or lacks what they show: squares of 8 px, tested one by
one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from pairfree.evidence.residual import (
    FloatArray,
    VarianceLine,
    autocorrelation,
    check_pair,
    fit_variance_line,
    predict_variance,
)

BoolArray = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""(y, x, height, width), px."""

SITE_PX = 8
SITE_SIGMA_PX = 2.0
"""The local mean that is tested: Gaussian, about the size of the smallest structure one would name."""
SHADING_SIGMA_PX = 8.0
"""Slower changes of brightness are not detail."""
SITE_Z = 5.5
"""Standard errors; an oracle's residual passes it by chance once in 10 million sites."""


@dataclass(frozen=True)
class Sites:
    """Where to look."""

    unsupported: list[Box]
    """See ``Evidence.unsupported_sites``."""
    removed: list[Box]
    """See ``Evidence.removed_sites``."""


@dataclass(frozen=True)
class Verdicts:
    """Which sites of an image are what: (H / 8, W / 8) flags, sizes rounded up."""

    tested: BoolArray
    """The output's detail stands out of the noise."""
    unsupported: BoolArray
    """The noisy data show less than half of the output's detail, and that is no chance."""
    removed: BoolArray
    """The output shows less than half of the data's detail, and that is no chance."""


def site_map(noisy: ArrayLike, denoised: ArrayLike) -> Sites:
    """The sites that the evidence counts as unsupported or removed, to be drawn on the image."""
    y, f = check_pair(noisy, denoised)
    r = y - f
    inflation = variance_inflation(autocorrelation(r, axis=1), autocorrelation(r, axis=0))
    verdicts = judge_sites(y, f, fit_variance_line(r, f), inflation)
    return Sites(
        unsupported=_boxes(verdicts.unsupported, y.shape), removed=_boxes(verdicts.removed, y.shape)
    )


def judge_sites(
    noisy: FloatArray, denoised: FloatArray, line: VarianceLine, inflation: float
) -> Verdicts:
    """Local means of noisy and denoised detail, compared in standard errors of the noise.

    Parameters
    ----------
    noisy, denoised
        (H, W), intensity units.
    line
        What the noise's variance is by. It comes from the whole image, not from the residual on the spot: an
        invented structure stands in that residual and would excuse itself.
    inflation
        See ``variance_inflation``.
    """
    total = float(np.var(noisy - denoised))
    noise = predict_variance(denoised, line, total)
    y, f = _local_detail(noisy), _local_detail(denoised)
    around = np.maximum(gaussian_filter(noise, SITE_SIGMA_PX / math.sqrt(2), mode="reflect"), 0)
    least = SITE_Z * np.sqrt(inflation * around / (4 * math.pi * SITE_SIGMA_PX**2))
    chance = (np.abs(y - f) <= least) | (total == 0)
    agreement = y * f
    unsupported = ~chance & (np.abs(f) >= np.abs(y)) & (agreement < 0.5 * f * f)
    removed = ~chance & (np.abs(y) > np.abs(f)) & (agreement < 0.5 * y * y)
    doubtful = _any_in_sites(unsupported)
    return Verdicts(
        tested=_any_in_sites(np.abs(f) > least) | doubtful,
        unsupported=doubtful,
        removed=_any_in_sites(removed) & ~doubtful,
    )


def variance_inflation(along_x: tuple[float, ...], along_y: tuple[float, ...]) -> float:
    """How much wider a weighted sum of correlated noise scatters than one of white noise, at most.

    The product of the sums of both autocorrelations over their lags.
    """
    across = max(1.0, 1 + 2 * sum(max(v, 0.0) for v in along_x))
    down = max(1.0, 1 + 2 * sum(max(v, 0.0) for v in along_y))
    return across * down


def _local_detail(image: FloatArray) -> FloatArray:
    local = gaussian_filter(image, SITE_SIGMA_PX, mode="reflect")
    return np.asarray(
        local - gaussian_filter(image, SHADING_SIGMA_PX, mode="reflect"), dtype=np.float64
    )


def _any_in_sites(flags: BoolArray) -> BoolArray:
    """Whether any pixel of each 8 x 8 square is flagged."""
    rows, columns = (np.arange(0, side, SITE_PX) for side in flags.shape)
    across = np.logical_or.reduceat(flags, rows, axis=0)
    return np.asarray(np.logical_or.reduceat(across, columns, axis=1), dtype=np.bool_)


def _boxes(flags: BoolArray, shape: tuple[int, ...]) -> list[Box]:
    """The flagged sites of an image of this shape, the last ones cut at its border."""
    height, width = shape
    boxes = []
    for row, column in zip(*np.nonzero(flags)):
        top, left = int(row) * SITE_PX, int(column) * SITE_PX
        boxes.append((top, left, min(SITE_PX, height - top), min(SITE_PX, width - left)))
    return boxes
