"""Each pixel from the median of its four neighbours: a toy that follows the recipe of a method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.data.patches import Batch
from pairfree.methods.base import At, Needs
from pairfree.methods.parts.single import SingleConfig, SingleNetwork


@dataclass(frozen=True)
class MedianConfig(SingleConfig):
    """Settings of the toy."""

    reach_px: int = 2
    """How far the network sees, pixels."""


PRESETS = {"cpu": MedianConfig(), "paper": MedianConfig()}


def median_loss(denoised: Tensor, noisy: Tensor) -> Tensor:
    """Mean absolute distance of ``denoised`` from the median of each pixel's neighbours.

    Both are (B, C, H, W), in network units.
    """
    neighbours = torch.stack([noisy.roll(shift, axis) for shift in (1, -1) for axis in (-1, -2)])
    return torch.mean((denoised - neighbours.median(0).values).abs())


class Median(SingleNetwork):
    """Two layers that learn the median of neighbours."""

    key = "median"
    title = "Median regression"
    needs = Needs.NOISY
    citation = "a toy"
    assumption = "noise has zero median"
    config_type = MedianConfig

    def __init__(
        self,
        config: MedianConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        if net is None:
            first = nn.Conv2d(channels, 8, 2 * config.reach_px + 1, padding=config.reach_px)
            net = nn.Sequential(first, nn.ReLU(), nn.Conv2d(8, channels, 1))
        super().__init__(config, channels, device, net)

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Descend ``median_loss``."""
        # Departs from the paper: There is no paper.
        return self.descend(median_loss(self.f(batch.noisy), batch.noisy), at)
