"""What a denoiser makes of noise alone: on a flat scene and on a smooth one, where nothing is to be found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pairfree.data.directions import blur_planes
from pairfree.evidence.grid import measure_grid
from pairfree.evidence.seams import Step, find_step
from pairfree.examination.probe import Denoise, disturb, standard_error
from pairfree.measure.noise_law import NoiseLaw

FloatArray = NDArray[np.float64]

LOOK_PX, SMOOTH_PX = 2.0, 16.0
"""Gaussian through which the result is looked at, and the one that makes the smooth scene, pixels."""
RIM_PX = 8
"""Left out at the borders, where networks see less."""


@dataclass(frozen=True)
class NullRun:
    """What came out of noise alone; in deviations of that noise."""

    structure: float
    """What is shown on a flat scene, over the noise that went in, both seen through a Gaussian of 2 px."""
    pattern: float
    """Deviation of what is shown both times: it cannot come from the noise."""
    pattern_z: float
    """Its power, in standard errors."""
    grid: float
    """Of the network's cells, against chance."""
    grid_contrast: float
    """Peak to peak."""
    step: Step
    """The strongest along a whole row or column."""


def run_null(
    denoise: Denoise, noisy: FloatArray, laws: Sequence[NoiseLaw], rng: Generator
) -> NullRun:
    """Denoise noise of the law on a flat and on a smooth scene.

    Parameters
    ----------
    denoise
        What is examined; called twice.
    noisy
        (C, H, W), intensity units: an image, whose brightness the scenes have.
    laws
        Of the noise of each channel.
    rng
        For the noise.
    """
    ends = float(noisy.min()), float(noisy.max())
    middle = np.median(noisy, axis=(1, 2), keepdims=True)
    flat = np.broadcast_to(middle, noisy.shape)
    flat_shown, flat_noise = _show(denoise, flat, laws, rng, ends)
    smooth = blur_planes(noisy, SMOOTH_PX)
    smooth_shown, _ = _show(denoise, smooth, laws, rng, ends)
    both = flat_shown * smooth_shown
    error = standard_error(both)
    common = (flat_shown + smooth_shown) / 2.0
    grid, contrast = max(measure_grid(plane) for plane in common)
    return NullRun(
        structure=_compare(flat_shown, flat_noise),
        pattern=math.sqrt(max(float(both.mean()), 0.0)),
        pattern_z=float(both.mean()) / error if error > 0 else 0.0,
        grid=grid,
        grid_contrast=contrast,
        step=max(find_step(plane) for plane in common),
    )


def _show(
    denoise: Denoise,
    scene: FloatArray,
    laws: Sequence[NoiseLaw],
    rng: Generator,
    ends: tuple[float, float],
) -> tuple[FloatArray, FloatArray]:
    """What the denoiser shows beside a scene, and the noise that it saw; in deviations of the noise.

    Nothing is darker or brighter than the ends: a camera that cuts noise off does so here, too.
    """
    disturbance = disturb(scene, laws, rng)
    level = np.sqrt(disturbance.variance)
    given = np.clip(scene + disturbance.noise, *ends)
    shown = (denoise(given) - scene) / level
    shown = shown - shown.mean(axis=(1, 2), keepdims=True)
    return shown, disturbance.noise / level


def _compare(shown: FloatArray, noise: FloatArray) -> float:
    """Structure over that of the noise."""
    rim = slice(RIM_PX, -RIM_PX)
    seen, expected = (blur_planes(one, LOOK_PX)[:, rim, rim] for one in (shown, noise))
    return float(seen.std() / max(float(expected.std()), 1e-300))
