"""Patches of noise alone, and how they are cut out of images: minus the plane that fits each best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Images = Sequence[np.ndarray]
"""(C, H, W) each, intensity units."""
Places = NDArray[np.int64]
"""(N, 3) image, top, left."""

CUT_AT_ONCE = 256
"""Patches that are cut out together."""


@dataclass(frozen=True)
class Passed:
    """Places that the rule took for smooth, whatever the level of their noise."""

    places: Places
    """Where they lie, (M, 3)."""
    means: FloatArray
    """(M,) over pixels and channels."""
    deviations: FloatArray
    """(M,) intensity units, planes taken off."""

    def count_apart(self, side: int) -> int:
        """Of the squares of that side that images fall into, how many hold some.

        Patches that overlap say the same.
        """
        squares = self.places // [1, side, side]
        return len(np.unique(squares, axis=0))


@dataclass(frozen=True)
class NoisePatches:
    """What was cut out."""

    pixels: NDArray[np.float32]
    """(N, C, P, P), intensity units, each channel minus the plane that fits it best."""
    places: Places
    """Where they were cut, (N, 3)."""
    unevenness: FloatArray
    """(N,) how far each is from noise of the sub-bands' proportions, eq. (4); 0 under rule (3)."""
    gains: FloatArray
    """(4,) those proportions; all 1 for white noise."""
    threshold: float
    """lambda: the largest unevenness that was accepted."""
    passed: Passed
    """All that the rule took for smooth; under rule (4) the patches are those of one level among them."""

    @property
    def deviations(self) -> FloatArray:
        """(N,) standard deviation of each patch, intensity units."""
        return measure_deviations(self.pixels)


def cut_patches(
    images: Images,
    places: Places,
    patch_px: int,
) -> NDArray[np.float32]:
    """(N, C, P, P), each without its plane."""
    channels = len(images[0])
    which, tops, lefts = places.T
    pixels = np.empty((len(places), channels, patch_px, patch_px), np.float32)
    for index in np.unique(which):
        image = np.asarray(images[index])
        windows = sliding_window_view(image, (patch_px, patch_px), axis=(1, 2))
        of_image = np.flatnonzero(which == index)
        parts = math.ceil(len(of_image) / CUT_AT_ONCE)
        for some in np.array_split(of_image, parts):
            cut = windows[:, tops[some], lefts[some]].astype(np.float64)
            pixels[some] = subtract_planes(np.moveaxis(cut, 0, 1))
    return pixels


def subtract_planes(patches: FloatArray) -> FloatArray:
    """Each of (..., P, P) minus its mean and its slopes along both axes (least squares)."""
    side = patches.shape[-1]
    ramp = np.arange(side) - (side - 1) / 2.0
    power = float(np.sum(ramp**2))
    ramp /= math.sqrt(side * power)  # of unit power over a patch
    mean = patches.mean(axis=(-2, -1), keepdims=True)
    left = patches - mean
    down = np.einsum("...ij,i->...", left, ramp)[..., None, None]
    right = np.einsum("...ij,j->...", left, ramp)[..., None, None]
    return np.asarray(left - down * ramp[:, None] - right * ramp)


def measure_deviations(pixels: NDArray[np.float32]) -> FloatArray:
    """(N,) standard deviation of each patch of (N, C, P, P)."""
    found = [patch.std(dtype=np.float64) for patch in pixels]
    return np.array(found)


def measure_shared(pixels: NDArray[np.float32], side: int = 32) -> float:
    """Correlation of pixels that are neighbours along rows or columns, the larger.

    Parameters
    ----------
    pixels
        Noise patches (N, C, P, P).
    side
        Of the windows within patches that a plane is taken off once more, pixels: what curves slowly under
        the noise is not shared noise.

    Returns
    -------
    float
        That of all windows together; 0 without noise.
    """
    across = pixels.shape[-1] // side
    used = pixels[..., : across * side, : across * side].astype(np.float64)
    windows = used.reshape(*used.shape[:2], across, side, across, side).swapaxes(3, 4)
    level = subtract_planes(windows)
    power = float(np.mean(level**2))
    if power == 0.0:
        return 0.0
    along = float(np.mean(level[..., 1:] * level[..., :-1]))
    down = float(np.mean(level[..., 1:, :] * level[..., :-1, :]))
    lost = 3.0 / side**2  # by a plane, of white noise
    return max(along, down) / power + lost
