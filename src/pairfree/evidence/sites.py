"""Where an output shows what the noisy data do not, or lacks what they show: squares of 8 px."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from pairfree.evidence.residual import (
    FloatArray,
    Floats,
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
    line = fit_variance_line(r, f)
    along_x = autocorrelation(r, axis=1)
    along_y = autocorrelation(r, axis=0)
    inflation = variance_inflation(along_x, along_y)
    verdicts = judge_sites(y, f, line, inflation)
    return Sites(
        unsupported=_boxes(verdicts.unsupported, y.shape),
        removed=_boxes(verdicts.removed, y.shape),
    )


def judge_sites(
    noisy: FloatArray,
    denoised: FloatArray,
    line: VarianceLine,
    inflation: float,
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
    y = _local_detail(noisy)
    f = _local_detail(denoised)
    around = gaussian_filter(noise, SITE_SIGMA_PX / math.sqrt(2), mode="reflect")
    pixels = 4 * math.pi * SITE_SIGMA_PX**2
    variance = inflation * np.maximum(around, 0) / pixels
    least = SITE_Z * np.sqrt(variance)
    chance = (np.abs(y - f) <= least) | (total == 0)
    shown_more = np.abs(f) >= np.abs(y)
    agreement = y * f
    unsupported = ~chance & shown_more & (agreement < 0.5 * f * f)
    removed = ~chance & ~shown_more & (agreement < 0.5 * y * y)
    doubtful = _any_in_sites(unsupported)
    return Verdicts(
        tested=_any_in_sites(np.abs(f) > least) | doubtful,
        unsupported=doubtful,
        removed=_any_in_sites(removed) & ~doubtful,
    )


def variance_inflation(along_x: Floats, along_y: Floats) -> float:
    """How much wider a weighted sum of correlated noise scatters than one of white noise, at most.

    The product of the sums of both autocorrelations over their lags.
    """
    across = 1 + 2 * sum(max(v, 0.0) for v in along_x)
    down = 1 + 2 * sum(max(v, 0.0) for v in along_y)
    return max(1.0, across) * max(1.0, down)


def _local_detail(image: FloatArray) -> FloatArray:
    local = gaussian_filter(image, SITE_SIGMA_PX, mode="reflect")
    shading = gaussian_filter(image, SHADING_SIGMA_PX, mode="reflect")
    return np.asarray(local - shading, dtype=np.float64)


def _any_in_sites(flags: BoolArray) -> BoolArray:
    """Whether any pixel of each 8 x 8 square is flagged."""
    height, width = flags.shape
    rows = np.arange(0, height, SITE_PX)
    columns = np.arange(0, width, SITE_PX)
    across = np.logical_or.reduceat(flags, rows, axis=0)
    found = np.logical_or.reduceat(across, columns, axis=1)
    return np.asarray(found, dtype=np.bool_)


def _boxes(flags: BoolArray, shape: tuple[int, ...]) -> list[Box]:
    """The flagged sites of an image of this shape, the last ones cut at its border."""
    height, width = shape
    boxes = []
    for row, column in zip(*np.nonzero(flags)):
        top = int(row) * SITE_PX
        left = int(column) * SITE_PX
        down = min(SITE_PX, height - top)
        across = min(SITE_PX, width - left)
        boxes.append((top, left, down, across))
    return boxes
