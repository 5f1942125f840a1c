"""Pixels hidden on a grid: what Noise2Self and Blind2Unblind share.

A hidden pixel is filled from its neighbours, and predicted so.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.nets.receptive_field import measured_receptive_field_px
from pairfree.nets.traits import total_stride

WEIGHTS = (
    (0.5, 1.0, 0.5),
    (1.0, 0.0, 1.0),
    (0.5, 1.0, 0.5),
)
NEIGHBOURS = torch.tensor(WEIGHTS) / 6.0
"""Weights of the eight pixels that stand for a hidden one, as in both published codes."""


def grid_mask(shape: torch.Size, width_px: int, phases: Tensor) -> Tensor:
    """Hide one pixel of every width x width cell, the same in all cells of an image.

    Parameters
    ----------
    shape
        Of the images, (B, C, H, W).
    width_px
        Side of a cell.
    phases
        (B,) int64 in 0..width^2 - 1: row * width + column of the hidden pixel in its cell.

    Returns
    -------
    Tensor
        (B, 1, H, W) bool, True where a pixel is hidden.
    """
    _, _, height, width = shape
    rows = torch.arange(height, device=phases.device) % width_px
    columns = torch.arange(width, device=phases.device) % width_px
    hidden_row = phases // width_px
    hidden_column = phases % width_px
    in_row = rows == hidden_row.view(-1, 1, 1, 1)
    in_column = columns == hidden_column.view(-1, 1, 1, 1)
    return in_row.transpose(2, 3) & in_column


def fill_hidden(y: Tensor, mask: Tensor) -> Tensor:
    """Replace each hidden pixel by the weighted mean of its neighbours; the image is mirrored at its border.

    Parameters
    ----------
    y
        (B, C, H, W), H and W at least 2.
    mask
        Of ``grid_mask`` with a width of 2 or more: no neighbour of a hidden pixel is hidden, so nothing of it
        is left.

    Returns
    -------
    Tensor
        (B, C, H, W).
    """
    batch, channels, height, width = y.shape
    planes = y.reshape(batch * channels, 1, height, width)
    mirrored = F.pad(planes, (1, 1, 1, 1), mode="reflect")
    kernel = NEIGHBOURS.to(y)[None, None]
    around = F.conv2d(mirrored, kernel).view_as(y)
    return torch.where(mask, around, y)


def draw_phases(
    batch: int,
    many: int,
    width_px: int,
    rng: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Draw ``many`` different phases of the grid for each image of a batch, evenly: (batch, many) int64."""
    keys = torch.rand(batch, width_px**2, generator=rng, device=device)
    order = keys.argsort(dim=1)
    return order[:, :many]


def mask_problems(width_px: int, patch_px: int) -> list[str]:
    """What is wrong with the side of the grid's cells."""
    if 2 <= width_px <= patch_px:
        return []
    return [f"mask_width = {width_px} must lie in 2..{patch_px}, the patch"]


class Hidden(nn.Module):
    """Every pixel as the network predicts it while it is hidden: width^2 passes, (B, C, H, W) -> same.

    No pixel sees itself, but for its mirrored copy where the predictor fills up a stride.

    Parameters
    ----------
    net
        What predicts.
    width_px
        Side of the grid's cells.
    """

    def __init__(self, net: nn.Module, width_px: int) -> None:
        super().__init__()
        self.net = net
        self.width_px = width_px
        self.stride = math.lcm(total_stride(net), width_px)

    def forward(self, x: Tensor) -> Tensor:
        """Put the result together from the pixels that each pass hides."""
        out = torch.zeros_like(x)
        for phase in range(self.width_px**2):
            phases = torch.full((len(x),), phase, device=x.device)
            mask = grid_mask(x.shape, self.width_px, phases)
            predicted = self.net(fill_hidden(x, mask))
            out = torch.where(mask, predicted, out)
        return out

    def receptive_field_px(self, channels: int) -> int:
        """That of the network, and one more: a hidden pixel is filled from its neighbours."""
        return measured_receptive_field_px(self.net, channels) + 1
