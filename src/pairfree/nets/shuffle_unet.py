"""A U-Net made for CPUs: it never works at full resolution."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.nets.blocks import channels_last


class ShuffleUNet(nn.Module):
    """Residual U-Net behind a 2x2 pixel-unshuffle; output y - f(y).

    Why it is fast: the unshuffle turns (C, H, W) into (4C, H/2, W/2) without losing a pixel, so every convolution runs on a quarter of the
    positions with enough channels to fill a CPU's vector units. A level halves H and W and doubles the channels, so each level costs the
    same; three levels of width 32 need about 50 kFLOP a pixel, DnCNN-17 1,100. Skips are added, not concatenated: half the arithmetic in
    the decoder. No normalisation layers: output never depends on the batch or the tile.

    Input and output (B, channels, H, W), network units; H and W multiples of ``stride`` (8 for three levels).
    The last convolution starts at zero, so the network starts as the identity.
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 32,
        levels: int = 3,
        blocks: int = 1,
        predict: str = "residual",
    ) -> None:
        super().__init__()
        self.stride = 2**levels
        self.predict = predict
        widths = [width * 2**level for level in range(levels)]
        self.first = nn.Conv2d(4 * channels, width, 3, padding=1)
        self.encoders = nn.ModuleList(_blocks(w, blocks) for w in widths[:-1])
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.bottom = _blocks(widths[-1], blocks)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.decoders = nn.ModuleList(_blocks(w, blocks) for w in widths[:-1])
        self.last = nn.Conv2d(width, 4 * channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        if predict == "image":
            nn.init.normal_(self.last.weight, 0.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(channels_last(F.pixel_unshuffle(x, 2)))
        skips = []
        for encode, down in zip(self.encoders, self.downs, strict=True):
            h = encode(h)
            skips.append(h)
            h = down(h)
        h = self.bottom(h)
        for up, decode, skip in zip(
            reversed(self.ups), reversed(self.decoders), reversed(skips), strict=True
        ):
            h = decode(up(h) + skip)
        out = F.pixel_shuffle(self.last(h).float(), 2)
        return x - out if self.predict == "residual" else out


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))). The second convolution starts small, so that a fresh stack of blocks is close to the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.conv1.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.conv2.weight, nonlinearity="relu")
        with torch.no_grad():
            self.conv2.weight.mul_(0.2)
        nn.init.zeros_(self.conv1.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return out


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
