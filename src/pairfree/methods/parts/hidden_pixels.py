"""Pixels hidden on a grid: what Noise2Self and Blind2Unblind share. A hidden pixel is filled from its neighbours and predicted so."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.nets.blocks import measured_receptive_field_px, total_stride

NEIGHBOURS = torch.tensor([[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]]) / 6.0
"""Weights of the eight pixels that stand for a hidden one, as in both published codes."""


def grid_mask(shape: torch.Size, width_px: int, phases: Tensor) -> Tensor:
    """One pixel of every width x width cell, the same in all cells of an image: (B, 1, H, W) bool for ``shape`` = (B, C, H, W).

    phases   (B,) int64 in 0..width^2 - 1: row * width + column of the hidden pixel in its cell
    """
    rows = torch.arange(shape[2], device=phases.device).view(1, -1, 1) % width_px
    columns = torch.arange(shape[3], device=phases.device).view(1, 1, -1) % width_px
    phases = phases.view(-1, 1, 1)
    hidden: Tensor = (rows == phases // width_px) & (columns == phases % width_px)
    return hidden[:, None]


def fill(y: Tensor, mask: Tensor) -> Tensor:
    """(B, C, H, W) with each hidden pixel replaced by the weighted mean of its neighbours; mirrored at the border. H and W at least 2.

    mask   of ``grid_mask`` with a width of 2 or more: no neighbour of a hidden pixel is hidden, so nothing of it is left
    """
    batch, channels, height, width = y.shape
    kernel = NEIGHBOURS.to(y)[None, None]
    around = F.conv2d(
        F.pad(y.reshape(batch * channels, 1, height, width), (1, 1, 1, 1), mode="reflect"), kernel
    )
    return torch.where(mask, around.view_as(y), y)


def draw_phases(batch: int, many: int, width_px: int, rng: torch.Generator, device: torch.device) -> Tensor:
    """``many`` different phases for each of ``batch`` images, evenly drawn: (batch, many) int64."""
    return torch.rand(batch, width_px**2, generator=rng, device=device).argsort(dim=1)[:, :many]


def mask_problems(width_px: int, patch_px: int) -> list[str]:
    """What is wrong with the side of the grid's cells."""
    return (
        [] if 2 <= width_px <= patch_px else [f"mask_width = {width_px} must lie in 2..{patch_px}, the patch"]
    )


class Hidden(nn.Module):
    """Every pixel as the network predicts it while it is hidden: width^2 passes, (B, C, H, W) -> same. No pixel sees itself, but
    for its mirrored copy where the predictor fills up a stride."""

    def __init__(self, net: nn.Module, width_px: int) -> None:
        super().__init__()
        self.net, self.width_px = net, width_px
        self.stride = math.lcm(total_stride(net), width_px)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for phase in range(self.width_px**2):
            mask = grid_mask(x.shape, self.width_px, torch.full((len(x),), phase, device=x.device))
            out = torch.where(mask, self.net(fill(x, mask)), out)
        return out

    def receptive_field_px(self, channels: int) -> int:
        """That of the network, and one more: a hidden pixel is filled from its neighbours."""
        return measured_receptive_field_px(self.net, channels) + 1
