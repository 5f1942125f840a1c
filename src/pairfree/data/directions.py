"""Ways along which a denoised image may be moved, nearer to the truth or away from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

FloatArray = NDArray[np.float64]

FINE_PX, MIDDLE_PX = 1.0, 4.0
"""Gaussians between which the scales of the output lie, pixels."""


def blur_planes(planes: FloatArray, sigma_px: float) -> FloatArray:
    """A Gaussian over each channel of (C, H, W)."""
    return np.asarray(gaussian_filter(planes, (0.0, sigma_px, sigma_px)))


def _brighten(output: FloatArray, noisy: FloatArray) -> FloatArray:
    return np.ones_like(output)


def _contrast(output: FloatArray, noisy: FloatArray) -> FloatArray:
    return np.asarray(output - output.mean(axis=(-2, -1), keepdims=True))


def _fine(output: FloatArray, noisy: FloatArray) -> FloatArray:
    return np.asarray(output - blur_planes(output, FINE_PX))


def _middle(output: FloatArray, noisy: FloatArray) -> FloatArray:
    return np.asarray(blur_planes(output, FINE_PX) - blur_planes(output, MIDDLE_PX))


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


Direction = Callable[[FloatArray, FloatArray], FloatArray]
"""Output and its input (C, H, W) -> where the output may be moved."""
DIRECTIONS: dict[str, Direction] = {
    "brightness": _brighten,
    "contrast": _contrast,
    "fine detail": _fine,
    "middle detail": _middle,
    "removed": _removed,
    "checkerboard": _checkerboard,
    "shift along columns": _shift_down,
    "shift along rows": _shift_across,
}
"""Functions of output and noisy image, along which an output may be wrong."""
REACH_PX = {"brightness": 0, "fine detail": 4, "middle detail": 16, "removed": 0}
"""How far around a pixel a direction looks; others cannot be applied in tiles, as each image differs."""


@dataclass(frozen=True)
class Change:
    """A direction, and by how much an output is moved along it."""

    name: str
    """A key of ``REACH_PX``."""
    share: float

    def __str__(self) -> str:
        return f"{self.name} {self.share:+.2g}"

    @property
    def reach_px(self) -> int:
        """How far around a pixel it looks."""
        return REACH_PX[self.name]

    def apply(self, output: FloatArray, noisy: FloatArray) -> FloatArray:
        """The output (C, H, W), moved; intensity units."""
        return np.asarray(output + self.share * DIRECTIONS[self.name](output, noisy))

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON writes it."""
        return asdict(self)
