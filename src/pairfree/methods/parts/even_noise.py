"""Intensities in which noise that grows with the brightness has one level, and the way back without bias."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float64]
"""Numbers of each channel."""
KNOTS = 1025
"""Of the table of the way back."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
"""For expectations over normal noise."""
DEEP = 8.0
"""The table begins so many deviations of the noise below the point from which the transform goes on
straight."""
STRAIGHT = 0.25
"""Below this part of the darkest patches' variance the transform goes on straight: a root has no value
there."""


class EvenNoise(nn.Module):
    r"""f of one pixel (``forward``) and the inverse of x -> E[f(x + N)] (``back``).

    It is the identity until ``set_variance`` is called.

    Notes
    -----
    Noise model: var(N | x) = v(x) = gain x + floor, at least ``least``; correlation does not matter: f acts
    on each pixel alone.

    f(x) = m + 2 sqrt(v(m)) (sqrt(v(x)) - sqrt(v(m))) / gain, and straight on below v(x) = least, so that
    f'(x)^2 v(x) = v(m); f(m) = m and f'(m) = 1: values keep their units at the middle brightness m.

    Back: a denoiser of f(Z) gives about E[f(Z)], which is below f(x); the table of it for normal N is
    inverted, straight on beyond.

    References
    ----------
    Anscombe 1948; inverse: Makitalo & Foi, IEEE TIP 22(1), 2013, eq. 7.
    """

    measured_from_data = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("gain", "middle"):
            self.register_buffer(name, torch.zeros(channels))
        for name in ("floor", "least"):
            self.register_buffer(name, torch.ones(channels))
        for name in ("brightness", "expected"):
            self.register_buffer(name, torch.zeros(channels, KNOTS))
        self.gain: Tensor
        self.floor: Tensor
        self.least: Tensor
        self.middle: Tensor
        self.brightness: Tensor
        self.expected: Tensor

    @property
    def is_on(self) -> bool:
        """Whether it changes anything."""
        return bool((self.gain > 0).any())

    def set_variance(
        self,
        gain: Floats,
        floor: Floats,
        dark: Floats,
        typical: Floats,
        ends: tuple[float, float],
    ) -> None:
        """Set the transform and the table of the way back.

        Parameters
        ----------
        gain, floor
            Of the variance, (C,); a gain of 0 for a channel that stays as it is.
        dark, typical
            Brightness of dark and of typical smooth areas, (C,); m is the latter.
        ends
            Least and greatest value of the images.
        """
        grows = gain > 0
        level = np.where(grows, gain * typical + floor, 1.0)
        least = STRAIGHT * np.maximum(gain * dark + floor, STRAIGHT * level)
        self.gain.copy_(torch.from_numpy(gain))
        self.floor.copy_(torch.from_numpy(floor))
        self.least.copy_(torch.from_numpy(least))
        self.middle.copy_(torch.from_numpy(typical))
        x = space_knots(gain, floor, least, ends)
        growing = gain[:, None] * x + floor[:, None]
        variance = np.maximum(growing, least[:, None])
        spread = np.sqrt(variance)
        noisy = x[..., None] + spread[..., None] * NODES
        drawn = self._take(noisy)
        weights = self._take(WEIGHTS / WEIGHTS.sum())
        even = self(drawn[None])
        self.brightness.copy_(torch.from_numpy(x))
        self.expected.copy_(even[0] @ weights)

    def _take(self, values: Floats) -> Tensor:
        """Numbers on the device of the module."""
        return torch.from_numpy(values).to(self.gain.device)

    def forward(self, x: Tensor) -> Tensor:
        """Intensities (B, C, H, W) -> those in which the noise has one level."""
        if not self.is_on:
            return x
        gain = self.gain.view(-1, 1, 1)
        floor = self.floor.view(-1, 1, 1)
        least = self.least.view(-1, 1, 1)
        middle = self.middle.view(-1, 1, 1)
        grows = gain > 0
        safe = torch.where(grows, gain, 1.0)
        variance = safe * x + floor
        middle_variance = safe * middle + floor
        root = variance.clamp_min(least).sqrt()
        level = middle_variance.clamp_min(1e-30).sqrt()
        straight_below = (least - floor) / safe
        depth = (x - straight_below).clamp_max(0.0)
        slope = level / least.sqrt()
        even = middle + 2.0 * level * (root - level) / safe + depth * slope
        return torch.where(grows, even, x)

    def back(self, y: Tensor) -> Tensor:
        """Denoised values (B, C, H, W) -> intensities."""
        if not self.is_on:
            return y
        channels = []
        for channel in range(y.shape[1]):
            values = y[:, channel]
            if self.gain[channel] > 0:
                values = self.look_up(values.contiguous(), channel)
            channels.append(values)
        return torch.stack(channels, dim=1)

    def look_up(self, y: Tensor, channel: int) -> Tensor:
        """The brightness x of which y is E[f(x + N)], by the table, and straight on beyond it."""
        expected = self.expected[channel]
        brightness = self.brightness[channel]
        above = torch.searchsorted(expected, y)
        above = above.clamp(1, KNOTS - 1)
        below = above - 1
        low = expected[below]
        high = expected[above]
        part = (y - low) / (high - low)
        return torch.lerp(brightness[below], brightness[above], part)


def space_knots(
    gain: Floats,
    floor: Floats,
    least: Floats,
    ends: tuple[float, float],
) -> Floats:
    """Brightness of the knots, (C, KNOTS), from below the darkest areas, where f is straight, past ``ends``.

    They are evenly spaced in the root of the brightness, so that one saturated pixel far above all others
    takes no precision from them.
    """
    low, high = ends
    grows = gain > 0
    safe = np.where(grows, gain, 1.0)
    straight_below = (least - floor) / safe
    start = straight_below - DEEP * np.sqrt(least)
    first = np.where(grows, start, low)
    first = first[:, None]
    reach = np.maximum(2.0 * high - low - first, high - low)
    share = np.linspace(0.0, 1.0, KNOTS) ** 2
    return first + share * reach
