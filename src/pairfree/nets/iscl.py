"""The networks of ISCL (Lee & Jeong, Fig. 3): generator, noise extractor, critic; widths and depths as parameters."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.nets.batch_instance_norm import BatchInstanceNorm, full_precision

SLOPE = 0.2
"""Of the leaky ReLU below zero."""


def symmetric_pad(x: Tensor, reach: int) -> Tensor:
    """Mirror ``reach`` pixels at each border of (B, C, H, W), the edge pixel included; H and W at least ``reach``."""
    if reach == 1:  # the mirror of one pixel is that pixel: one copy instead of four
        return F.pad(x, (1, 1, 1, 1), mode="replicate")
    x = torch.cat([x[..., :reach].flip(-1), x, x[..., -reach:].flip(-1)], -1)
    return torch.cat([x[..., :reach, :].flip(-2), x, x[..., -reach:, :].flip(-2)], -2)


class SymmetricConv(nn.Module):
    """A convolution with symmetric padding; batch-instance normalisation and a leaky ReLU where asked for. A bias where no norm has one."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, norm: bool = True, active: bool = True
    ) -> None:
        super().__init__()
        self.reach = (kernel - stride + 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, bias=not norm)
        self.norm = BatchInstanceNorm(outputs) if norm else None
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv(symmetric_pad(x, self.reach) if self.reach else x)
        if self.norm is not None:
            h = self.norm(h)
        return F.leaky_relu(h, SLOPE) if self.active else h


class UpConv(nn.Module):
    """A 3x3 transposed convolution of stride 2, batch-instance normalisation, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.norm = BatchInstanceNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), SLOPE)


class Residual(nn.Module):
    """x + two 3x3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = SymmetricConv(width, width, 3)
        self.conv2 = SymmetricConv(width, width, 3, active=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(self.conv1(x))
        return out


class Generator(nn.Module):
    """F or G: 7x7 conv, two 4x4 convs of stride 2, residual blocks, two transposed convs, 7x7 conv, tanh.

    Input and output (B, channels, H, W) in [-1, 1]; H and W multiples of ``stride`` = 4. ``outputs`` gives the output other channels.
    """

    stride = 4

    def __init__(self, channels: int = 1, width: int = 32, blocks: int = 3, outputs: int = 0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            SymmetricConv(channels, width, 7),
            SymmetricConv(width, 2 * width, 4, stride=2),
            SymmetricConv(2 * width, 4 * width, 4, stride=2),
            *(Residual(4 * width) for _ in range(blocks)),
            UpConv(4 * width, 2 * width),
            UpConv(2 * width, width),
            SymmetricConv(width, outputs or channels, 7, norm=False, active=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(full_precision(self.body(x)))


class Extractor(nn.Module):
    """H: the shape of DnCNN with batch-instance normalisation; its output is the noise.

    Input (B, channels, H, W) in [-1, 1], any H and W; output of the same shape, not bounded.
    """

    stride = 1

    def __init__(self, channels: int = 1, width: int = 32, depth: int = 20) -> None:
        super().__init__()
        self.body = nn.Sequential(
            SymmetricConv(channels, width, 3, norm=False),
            *(SymmetricConv(width, width, 3) for _ in range(depth - 2)),
            SymmetricConv(width, channels, 3, norm=False, active=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = full_precision(self.body(x))
        return out


class Critic(nn.Module):
    """D_X or D_Y: 4x4 convs of stride 2 down to 4 x 4, a 4x4 valid conv, a 1x1 conv to one score a patch.

    patch_px   side of the patches, a power of two from 8 up;  norm   False leaves batch-instance normalisation out (gradient penalty)
    Returns    (B, 1, 1, 1), not bounded
    """

    def __init__(self, channels: int = 1, width: int = 32, patch_px: int = 64, norm: bool = True) -> None:
        super().__init__()
        downs = round(math.log2(patch_px / 4))
        if patch_px != 4 * 2**downs or downs < 1:
            raise ValueError(f"patch_px = {patch_px}: must be a power of two from 8 up")
        widths = [channels, *(width * 2**level for level in range(downs))]
        self.body = nn.Sequential(
            *(
                SymmetricConv(a, b, 4, stride=2, norm=norm and level > 0)
                for level, (a, b) in enumerate(pairwise(widths))
            ),
        )
        self.valid = nn.Conv2d(widths[-1], 2 * widths[-1], 4, bias=not norm)
        self.norm = BatchInstanceNorm(2 * widths[-1]) if norm else nn.Identity()
        self.last = nn.Conv2d(2 * widths[-1], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.norm(self.valid(self.body(x))), SLOPE)
        out: Tensor = full_precision(self.last(h))
        return out
