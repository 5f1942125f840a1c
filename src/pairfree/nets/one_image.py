"""Networks that are trained on one image alone.

The hourglass of Deep Image Prior and the partial-convolution U-Net of Self2Self.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.nets.blocks import he_init

SLOPE = 0.1
"""Of Self2Self's leaky ReLU."""
SKIP = 4
"""Channels of Deep Image Prior's skip connections."""


class SkipNet(nn.Module):
    """Deep Image Prior's hourglass for denoising: (B, inputs, H, W) -> (B, channels, H, W).

    H and W must be multiples of 2^levels. A level down: 3x3 convolution of stride 2, 3x3 convolution; beside
    it a 1x1 convolution of 4 channels; up: bilinear upsampling, concatenation, batch norm, 3x3 and 1x1
    convolution. Each convolution is followed by batch norm and leaky ReLU 0.2; borders are repeated. The
    published one: 32 inputs, width 128, five levels.

    Parameters
    ----------
    inputs
        Channels of the noise that the image is made of.
    channels
        Of the image.
    width
        Channels of every level.
    levels
        How often the resolution is halved.
    """

    def __init__(
        self,
        inputs: int = 32,
        channels: int = 1,
        width: int = 128,
        levels: int = 5,
    ) -> None:
        super().__init__()
        self.stride = 2**levels
        widths = [inputs] + [width] * (levels - 1)
        self.skips = nn.ModuleList(_conv_block(each, SKIP, 1) for each in widths)
        self.downs = nn.ModuleList(_down_block(each, width) for each in widths)
        self.ups = nn.ModuleList(_up_block(width) for _ in widths)
        self.last = nn.Conv2d(width, channels, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Make the image of noise."""
        skips = []
        for skip, down in zip(self.skips, self.downs, strict=True):
            skips.append(skip(z))
            z = down(z)
        for up in self.ups:
            large = F.interpolate(z, scale_factor=2.0, mode="bilinear", align_corners=False)
            joined = torch.cat([large, skips.pop()], 1)
            z = up(joined)
        out: Tensor = self.last(z)
        return out


def _down_block(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        _conv_block(inputs, width, 3, stride=2),
        _conv_block(width, width, 3),
    )


def _up_block(width: int) -> nn.Sequential:
    wide = width + SKIP
    return nn.Sequential(
        nn.BatchNorm2d(wide),
        _conv_block(wide, width, 3),
        _conv_block(width, width, 1),
    )


def _conv_block(
    inputs: int,
    outputs: int,
    kernel_px: int,
    stride: int = 1,
) -> nn.Sequential:
    convolution = nn.Conv2d(
        inputs,
        outputs,
        kernel_px,
        stride,
        padding=kernel_px // 2,
        padding_mode="replicate" if kernel_px > 1 else "zeros",
    )
    return nn.Sequential(
        convolution,
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2, inplace=True),
    )


class PartialConv(nn.Module):
    """A 3x3 convolution that counts the shown pixels only.

    Where k of the 9 C values in the window are shown, their weighted sum is multiplied by 9 C / k; where none
    is, the output is 0 and counts as hidden. Borders are repeated, and count as shown.

    Parameters
    ----------
    inputs
        C, channels of what comes in.
    outputs
        Channels of what comes out.

    References
    ----------
    Liu et al., ECCV 2018.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3)
        he_init(self)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, C, H, W) and mask, of one channel or C -> features and mask, of one channel."""
        weight = self.convolution.weight
        bias = self.convolution.bias
        padded = F.pad(x * mask, [1] * 4, mode="replicate")
        summed = F.conv2d(padded, weight)
        window = weight.shape[1] * 9
        padded_mask = F.pad(mask, [1] * 4, value=1.0)
        shares = F.avg_pool2d(padded_mask, 3, 1)
        shown = window * shares.mean(1, keepdim=True)
        known = (shown > 0.5).to(x.dtype)
        scaled = summed * (window / shown.clamp(min=1.0))
        added = bias.view(1, -1, 1, 1)  # type: ignore[union-attr]
        out = (scaled + added) * known
        return F.leaky_relu(out, SLOPE), known


def fill_hidden(x: Tensor, mask: Tensor) -> Tensor:
    """Fill hidden values with the mean of those that are shown around them.

    Parameters
    ----------
    x
        (B, C, H, W).
    mask
        (B, C, H, W): 1 where a value is shown, 0 where it is hidden.

    Returns
    -------
    Tensor
        (B, C, H, W); 0 where none is shown in the 3x3 around.
    """
    summed = _mean_of_nine(x * mask)
    shown = _mean_of_nine(mask)
    around = summed / shown.clamp(min=1.0 / 9.0)
    return torch.where(mask > 0, x, around)


def _mean_of_nine(x: Tensor) -> Tensor:
    """Over the 3x3 around each pixel; borders are repeated."""
    padded = F.pad(x, [1] * 4, mode="replicate")
    return F.avg_pool2d(padded, 3, 1)


class PartialUNet(nn.Module):
    """Self2Self's network: masked image and mask (B, C, H, W) -> (B, C, H, W).

    H and W must be multiples of ``stride``. Encoder of partial convolutions with ``width`` channels and 2x2
    maxima, decoder of 3x3 convolutions with twice as many on concatenated skips, dropout before each of them,
    also when the network is applied. Width 48 in the paper.

    Parameters
    ----------
    channels
        Of the image.
    width
        Channels of the encoder.
    dropout
        Share of the decoder's values that are dropped.
    fill
        The skip at full resolution holds the image with hidden pixels filled, ``fill_hidden``; else, as in
        the paper, with 0 where a pixel is hidden.
    """

    stride = 32

    def __init__(
        self,
        channels: int = 1,
        width: int = 48,
        dropout: float = 0.3,
        fill: bool = False,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.fill = fill
        self.first = PartialConv(channels, width)
        self.encoders = nn.ModuleList(PartialConv(width, width) for _ in range(5))
        self.bottom = PartialConv(width, width)
        wide = 2 * width
        inputs = [wide] + [wide + width] * 3
        self.decoders = nn.ModuleList(_make_conv(each, wide) for each in inputs)
        self.seconds = nn.ModuleList(_make_conv(wide, wide) for _ in inputs)
        widths = [
            wide + channels,
            width * 4 // 3,
            width * 2 // 3,
            channels,
        ]
        self.finals = nn.ModuleList(_make_conv(a, b) for a, b in pairwise(widths))

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        rng: torch.Generator | None = None,
    ) -> Tensor:
        """Predict the image from the pixels that are shown.

        Parameters
        ----------
        x
            The image, (B, C, H, W).
        mask
            (B, C, H, W): 1 where a pixel is shown, 0 where it is hidden.
        rng
            Draws the dropout; the global generator where there is none.

        Returns
        -------
        Tensor
            (B, C, H, W).
        """
        h, skips = self._encode(x, mask)
        for first, second in zip(self.decoders, self.seconds, strict=True):
            h = _join(h, skips.pop())
            for layer in (first, second):
                h = layer(self._drop(h, rng))
                h = F.leaky_relu(h, SLOPE)
        h = _join(h, skips.pop())
        *inner, last = self.finals
        for layer in inner:
            h = layer(self._drop(h, rng))
            h = F.leaky_relu(h, SLOPE)
        out: Tensor = last(self._drop(h, rng))
        return out

    def _encode(self, x: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features of the lowest resolution, and what is kept of the others, the highest first."""
        seen = x * mask
        skips = [fill_hidden(x, mask) if self.fill else seen]
        h, shown = self.first(seen, mask)
        for encode in self.encoders:
            h, shown = encode(h, shown)
            h = F.max_pool2d(h, 2)
            shown = F.max_pool2d(shown, 2)
            skips.append(h)
        h, _ = self.bottom(h, shown)
        return h, skips[:-1]

    def _drop(self, h: Tensor, rng: torch.Generator | None) -> Tensor:
        drawn = torch.rand(h.shape, generator=rng, device=h.device)
        kept = drawn >= self.dropout
        return h * kept / (1.0 - self.dropout)


def _join(h: Tensor, skip: Tensor) -> Tensor:
    """Features at twice their resolution, with those that were kept there."""
    h = F.interpolate(h, scale_factor=2.0, mode="nearest")
    return torch.cat([h, skip], 1)


def _make_conv(inputs: int, outputs: int) -> nn.Conv2d:
    made = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")
    he_init(made)
    return made
