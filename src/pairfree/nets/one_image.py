"""Networks that are trained on one image alone: the hourglass of Deep Image Prior and the partial-convolution U-Net of Self2Self."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.nets.blocks import he_init

SLOPE = 0.1
"""Of Self2Self's leaky ReLU."""
SKIP = 4
"""Channels of Deep Image Prior's skip connections."""


class SkipNet(nn.Module):
    """Deep Image Prior's hourglass for denoising: (B, inputs, H, W) -> (B, channels, H, W), H and W multiples of 2^levels.

    A level down: 3x3 convolution of stride 2, 3x3 convolution; beside it a 1x1 convolution of 4 channels; up: bilinear upsampling,
    concatenation, batch norm, 3x3 and 1x1 convolution. Each convolution is followed by batch norm and leaky ReLU 0.2; borders are repeated.
    The published one: 32 inputs, width 128, five levels.
    """

    def __init__(self, inputs: int = 32, channels: int = 1, width: int = 128, levels: int = 5) -> None:
        super().__init__()
        self.stride = 2**levels
        widths = [inputs] + [width] * levels
        self.skips = nn.ModuleList(_normed(w, SKIP, 1) for w in widths[:-1])
        self.downs = nn.ModuleList(
            nn.Sequential(_normed(w, width, 3, 2), _normed(width, width, 3)) for w in widths[:-1]
        )
        self.ups = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width + SKIP), _normed(width + SKIP, width, 3), _normed(width, width, 1)
            )
            for _ in range(levels)
        )
        self.last = nn.Conv2d(width, channels, 1)

    def forward(self, z: Tensor) -> Tensor:
        beside = []
        for skip, down in zip(self.skips, self.downs, strict=True):
            beside.append(skip(z))
            z = down(z)
        for up, kept in zip(self.ups, reversed(beside), strict=True):
            z = up(
                torch.cat([F.interpolate(z, scale_factor=2.0, mode="bilinear", align_corners=False), kept], 1)
            )
        out: Tensor = self.last(z)
        return out


def _normed(inputs: int, outputs: int, kernel_px: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(
        inputs,
        outputs,
        kernel_px,
        stride,
        kernel_px // 2,
        padding_mode="replicate" if kernel_px > 1 else "zeros",
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2, inplace=True))


class PartialConv(nn.Module):
    """A 3x3 convolution that counts the shown pixels only (Liu et al., ECCV 2018): features (B, C, H, W) and mask, of one channel or C ->
    features and mask, of one channel.

    Where k of the 9 C values in the window are shown, their weighted sum is multiplied by 9 C / k; where none is, the output is 0 and
    counts as hidden. Borders are repeated, and count as shown.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3)
        he_init(self)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = self.convolution.weight, self.convolution.bias
        summed = F.conv2d(F.pad(x * mask, [1] * 4, mode="replicate"), weight)
        window = weight.shape[1] * 9
        shown = window * F.avg_pool2d(F.pad(mask, [1] * 4, value=1.0), 3, 1).mean(1, keepdim=True)
        known = (shown > 0.5).to(x.dtype)
        out = (summed * (window / shown.clamp(min=1.0)) + bias.view(1, -1, 1, 1)) * known  # type: ignore[union-attr]
        return F.leaky_relu(out, SLOPE), known


def filled(x: Tensor, mask: Tensor) -> Tensor:
    """Hidden values (mask 0) as the mean of those that are shown in the 3x3 around them, 0 where none is; (B, C, H, W)."""
    summed, shown = (F.avg_pool2d(F.pad(one, [1] * 4, mode="replicate"), 3, 1) for one in (x * mask, mask))
    return torch.where(mask > 0, x, summed / shown.clamp(min=1.0 / 9.0))


class PartialUNet(nn.Module):
    """Self2Self's network: masked image and mask (B, C, H, W) -> (B, C, H, W), H and W multiples of ``stride`` = 32.

    Encoder of partial convolutions with ``width`` channels and 2x2 maxima, decoder of 3x3 convolutions with twice as many on concatenated
    skips, dropout before each of them, also when the network is applied. Width 48 in the paper.

    fill   the skip at full resolution holds the image ``filled``; else, as in the paper, with 0 where a pixel is hidden
    """

    stride = 32

    def __init__(self, channels: int = 1, width: int = 48, dropout: float = 0.3, fill: bool = False) -> None:
        super().__init__()
        self.dropout, self.fill = dropout, fill
        self.first = PartialConv(channels, width)
        self.encoders = nn.ModuleList(PartialConv(width, width) for _ in range(5))
        self.bottom = PartialConv(width, width)
        wide, last = 2 * width, (width * 4 // 3, width * 2 // 3)
        inputs = [2 * width, *[wide + width] * 3]
        self.decoders = nn.ModuleList(_padded(a, wide) for a in inputs)
        self.seconds = nn.ModuleList(_padded(wide, wide) for _ in inputs)
        self.finals = nn.ModuleList(
            [_padded(wide + channels, last[0]), _padded(last[0], last[1]), _padded(last[1], channels)]
        )

    def forward(self, x: Tensor, mask: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """``rng`` draws the dropout; the global generator where there is none."""
        seen = x * mask
        skips = [filled(x, mask) if self.fill else seen]
        h, shown = self.first(seen, mask)
        for level, encode in enumerate(self.encoders):
            h, shown = encode(h, shown)
            h, shown = F.max_pool2d(h, 2), F.max_pool2d(shown, 2)
            if level < len(self.encoders) - 1:
                skips.append(h)
        h, _ = self.bottom(h, shown)
        for first, second in zip(self.decoders, self.seconds, strict=True):
            h = torch.cat([F.interpolate(h, scale_factor=2.0, mode="nearest"), skips.pop()], 1)
            h = F.leaky_relu(
                second(self._dropped(F.leaky_relu(first(self._dropped(h, rng)), SLOPE), rng)), SLOPE
            )
        h = torch.cat([F.interpolate(h, scale_factor=2.0, mode="nearest"), skips.pop()], 1)
        for layer in self.finals[:-1]:
            h = F.leaky_relu(layer(self._dropped(h, rng)), SLOPE)
        out: Tensor = self.finals[-1](self._dropped(h, rng))
        return out

    def _dropped(self, h: Tensor, rng: torch.Generator | None) -> Tensor:
        kept = torch.rand(h.shape, generator=rng, device=h.device) >= self.dropout
        return h * kept / (1.0 - self.dropout)


def _padded(inputs: int, outputs: int) -> nn.Conv2d:
    made = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")
    he_init(made)
    return made
