"""A U-Net made for CPUs: it never works at full resolution."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.nets.blocks import channels_last, he_init


class ShuffleUNet(nn.Module):
    """Residual U-Net behind a 2x2 pixel-unshuffle; output y - f(y).

    Input and output (B, channels, H, W), network units; H and W multiples of ``stride`` (8 for three levels).

    Parameters
    ----------
    channels
        Of the images.
    width
        Channels of the first level; each further one has twice as many.
    levels
        Resolutions, the first of which is half of the image's.
    blocks
        Residual blocks of each level, on each side.
    predict
        "residual": the output is y - f(y), and the network starts as the identity, since the last convolution
        starts at zero; "image": f(y).

    Notes
    -----
    Why it is fast: the unshuffle turns (C, H, W) into (4C, H/2, W/2) without losing a pixel, so every
    convolution runs on a quarter of the positions with enough channels to fill a CPU's vector units. A level
    halves H and W and doubles the channels, so each level costs the same; three levels of width 32 need about
    50 kFLOP a pixel, DnCNN-17 1,100. Skips are added, not concatenated: half the arithmetic in the decoder.
    No normalisation layers: output never depends on the batch or the tile.
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
        shuffled = 4 * channels
        widths = [width * 2**level for level in range(levels)]
        *upper, lowest = widths
        steps = list(pairwise(widths))
        self.first = _conv(shuffled, width)
        self.encoders = nn.ModuleList(_blocks(each, blocks) for each in upper)
        self.downs = nn.ModuleList(_halving(fine, coarse) for fine, coarse in steps)
        self.bottom = _blocks(lowest, blocks)
        self.ups = nn.ModuleList(_doubling(coarse, fine) for fine, coarse in steps)
        self.decoders = nn.ModuleList(_blocks(each, blocks) for each in upper)
        self.last = _conv(width, shuffled)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        if predict == "image":
            nn.init.normal_(self.last.weight, 0.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Noisy images -> denoised ones."""
        unshuffled = F.pixel_unshuffle(x, 2)
        h = self.first(channels_last(unshuffled))
        skips = []
        for encode, down in zip(self.encoders, self.downs, strict=True):
            level = encode(h)
            skips.append(level)
            h = down(level)
        h = self.bottom(h)
        ups = reversed(self.ups)
        decoders = reversed(self.decoders)
        for up, decode in zip(ups, decoders, strict=True):
            joined = up(h) + skips.pop()
            h = decode(joined)
        shuffled = self.last(h).float()
        out = F.pixel_shuffle(shuffled, 2)
        return x - out if self.predict == "residual" else out


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), ``width`` channels.

    The second convolution starts small, so that a fresh stack of blocks is close to the identity.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _conv(width, width)
        self.conv2 = _conv(width, width)
        he_init(self)
        with torch.no_grad():
            self.conv2.weight.mul_(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same."""
        h = F.relu(self.conv1(x))
        out: Tensor = x + self.conv2(h)
        return out


def _blocks(width: int, count: int) -> nn.Sequential:
    made = [ResidualBlock(width) for _ in range(count)]
    return nn.Sequential(*made)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _halving(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 2, stride=2)


def _doubling(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
