"""Intensities in which noise that grows with the brightness has one level everywhere, and back from denoised ones without bias."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

KNOTS = 1025
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
DEEP = 8.0
"""The table begins so many deviations of the noise below the point from which the transform goes on straight."""
STRAIGHT = 0.25
"""Below this part of the darkest patches' variance the transform goes on straight: a square root has no value there."""


class EvenNoise(nn.Module):
    r"""f of one pixel (forward) and the inverse of x -> E[f(x + N)] (``back``); the identity until ``set`` is called.

    Noise model   var(N | x) = v(x) = gain x + floor, at least ``least``; correlation does not matter: f acts on each pixel alone
    Equation      f(x) = m + 2 sqrt(v(m)) (sqrt(v(x)) - sqrt(v(m))) / gain, straight on below v(x) = least: f'(x)^2 v(x) = v(m);
                  f(m) = m, f'(m) = 1, so that values keep their units at the middle brightness m
    Back          a denoiser of f(Z) gives about E[f(Z)], which is below f(x); the table of it for normal N is inverted, straight on beyond
    Source        Anscombe 1948; inverse: Makitalo & Foi, IEEE TIP 22(1), 2013, eq. 7
    """

    measured_from_data = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("gain", torch.zeros(channels))
        self.register_buffer("floor", torch.ones(channels))
        self.register_buffer("least", torch.ones(channels))
        self.register_buffer("middle", torch.zeros(channels))
        self.register_buffer("brightness", torch.zeros(channels, KNOTS))
        self.register_buffer("expected", torch.zeros(channels, KNOTS))
        self.gain: Tensor
        self.floor: Tensor
        self.least: Tensor
        self.middle: Tensor
        self.brightness: Tensor
        self.expected: Tensor

    @property
    def on(self) -> bool:
        return bool((self.gain > 0).any())

    def set(self, gain: NDArray[np.float64], floor: NDArray[np.float64], dark: NDArray[np.float64], typical: NDArray[np.float64],
            ends: tuple[float, float]) -> None:  # fmt: skip
        """Each (C,): gain, 0 for a channel that stays as it is, floor, brightness of dark and of typical smooth areas (m).

        ends   least and greatest value of the images. The table of the way back is evenly spaced in the root of the brightness, so that
               one saturated pixel far above all others takes no precision from them; below the darkest areas f is straight
        """
        grows = gain > 0
        level = np.where(grows, gain * typical + floor, 1.0)
        least = STRAIGHT * np.maximum(gain * dark + floor, STRAIGHT * level)
        for buffer, values in (
            (self.gain, gain),
            (self.floor, floor),
            (self.least, least),
            (self.middle, typical),
        ):
            buffer.copy_(torch.from_numpy(values))
        first = np.where(
            grows, (least - floor) / np.where(grows, gain, 1.0) - DEEP * np.sqrt(least), ends[0]
        )[:, None]
        x = first + np.linspace(0.0, 1.0, KNOTS) ** 2 * np.maximum(
            2.0 * ends[1] - ends[0] - first, ends[1] - ends[0]
        )
        spread = np.sqrt(np.maximum(gain[:, None] * x + floor[:, None], least[:, None]))
        drawn = torch.from_numpy(x[..., None] + spread[..., None] * NODES).to(self.gain.device)
        self.brightness.copy_(torch.from_numpy(x))
        self.expected.copy_(self(drawn[None])[0] @ torch.from_numpy(WEIGHTS / WEIGHTS.sum()).to(drawn.device))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        if not self.on:
            return x
        gain, floor, least, middle = (
            one.view(-1, 1, 1) for one in (self.gain, self.floor, self.least, self.middle)
        )
        safe = torch.where(gain > 0, gain, 1.0)
        level = (safe * middle + floor).clamp_min(1e-30).sqrt()
        root = (safe * x + floor).clamp_min(least).sqrt()
        below = (x - (least - floor) / safe).clamp_max(0.0) * (level / least.sqrt())
        return torch.where(gain > 0, middle + 2.0 * level * (root - level) / safe + below, x)

    def back(self, y: Tensor) -> Tensor:
        """Denoised values (B, C, H, W) -> intensities."""
        if not self.on:
            return y
        return torch.stack(
            [self._back(y[:, c].contiguous(), c) if self.gain[c] > 0 else y[:, c] for c in range(y.shape[1])],
            dim=1,
        )

    def _back(self, y: Tensor, channel: int) -> Tensor:
        expected, brightness = self.expected[channel], self.brightness[channel]
        above = torch.searchsorted(expected, y).clamp(1, KNOTS - 1)
        low, high = expected[above - 1], expected[above]
        return torch.lerp(brightness[above - 1], brightness[above], (y - low) / (high - low))
