"""What a plain Gaussian filter would do to the same image: who is beaten by it should not be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pairfree.data.directions import blur_planes
from pairfree.examination.probe import Passes, compare_errors, pass_twice

FloatArray = NDArray[np.float64]

WIDTHS_PX = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Deviations of the Gaussians."""


@dataclass(frozen=True)
class AgainstFilter:
    """A denoiser against the best Gaussian filter, on one image or pooled."""

    width_px: float
    """Deviation of that Gaussian, pixels."""
    better: float
    """By how much the denoiser's mean square error is the smaller, intensity units squared."""
    chance_se: float
    law_part: float
    """How far that moves when the noise's variance is taken for twice as large."""


def compare_filters(probe: Passes) -> list[AgainstFilter]:
    """The denoiser against Gaussians of all widths, by the same noise, so that most chance cancels."""
    found = []
    for width in WIDTHS_PX:
        filtered = pass_twice(partial(blur_planes, sigma_px=width), probe.noisy, probe.disturbance)
        apart = compare_errors(filtered, probe)
        found.append(AgainstFilter(width, apart.mean, apart.chance_se, apart.law_part))
    return found


def pool_filters(images: list[list[AgainstFilter]], pixels: Sequence[int]) -> AgainstFilter:
    """The best one width for all images; each pixel counts the same."""
    weights = np.array(pixels) / sum(pixels)
    pooled = []
    for same in zip(*images, strict=True):
        better = float(weights @ [one.better for one in same])
        error = float(np.sqrt(np.sum((weights * [one.chance_se for one in same]) ** 2)))
        law_part = float(weights @ [one.law_part for one in same])
        pooled.append(AgainstFilter(same[0].width_px, better, error, law_part))
    return min(pooled, key=lambda one: one.better)
