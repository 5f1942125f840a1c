"""The networks of ISCL (Lee & Jeong, Fig. 3), of any width and depth: generator, noise extractor, critic."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.nets.batch_instance_norm import BatchInstanceNorm, full_precision

SLOPE = 0.2
"""Of the leaky ReLU below zero."""


def pad_symmetrically(x: Tensor, reach: int) -> Tensor:
    """Mirror pixels at each border, the edge pixel included.

    Parameters
    ----------
    x
        (B, C, H, W), H and W at least ``reach``.
    reach
        Pixels that are added at each border.

    Returns
    -------
    Tensor
        (B, C, H + 2 reach, W + 2 reach).
    """
    if reach == 1:
        # the mirror of one pixel is that pixel: one copy instead of four
        return F.pad(x, (1, 1, 1, 1), mode="replicate")
    left = x[..., :reach].flip(-1)
    right = x[..., -reach:].flip(-1)
    wide = torch.cat([left, x, right], -1)
    top = wide[..., :reach, :].flip(-2)
    bottom = wide[..., -reach:, :].flip(-2)
    return torch.cat([top, wide, bottom], -2)


class SymmetricConv(nn.Module):
    """A convolution with symmetric padding; a bias where no norm has one.

    Parameters
    ----------
    inputs, outputs
        Channels.
    kernel, stride
        Pixels. Height and width are divided by the stride.
    norm
        Batch-instance normalisation after it.
    active
        A leaky ReLU at its end.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        norm: bool = True,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.reach = (kernel - stride + 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, bias=not norm)
        self.norm = BatchInstanceNorm(outputs) if norm else None
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        if self.reach > 0:
            x = pad_symmetrically(x, self.reach)
        h: Tensor = self.conv(x)
        if self.norm is not None:
            h = self.norm(h)
        if self.active:
            h = F.leaky_relu(h, SLOPE)
        return h


class UpConv(nn.Module):
    """A 3x3 transposed convolution of stride 2, batch-instance normalisation, leaky ReLU.

    Parameters
    ----------
    inputs, outputs
        Channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            inputs,
            outputs,
            3,
            stride=2,
            padding=1,
            output_padding=1,
            bias=False,
        )
        self.norm = BatchInstanceNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, 2 H, 2 W)."""
        h = self.norm(self.conv(x))
        return F.leaky_relu(h, SLOPE)


class Residual(nn.Module):
    """x + two 3x3 convolutions of ``width`` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = SymmetricConv(width, width, 3)
        self.conv2 = SymmetricConv(width, width, 3, active=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same."""
        out: Tensor = x + self.conv2(self.conv1(x))
        return out


class Generator(nn.Module):
    """F or G: 7x7 conv, two 4x4 convs of stride 2, residual blocks, two transposed convs, 7x7 conv, tanh.

    Input and output are (B, channels, H, W) in [-1, 1], with H and W multiples of ``stride`` = 4.

    Parameters
    ----------
    channels
        Of the images.
    width
        Channels of the first level; the second has twice, the third four times as many.
    blocks
        Residual blocks.
    outputs
        Channels of the output where they are others; 0 for those of the input.
    """

    stride = 4

    def __init__(
        self,
        channels: int = 1,
        width: int = 32,
        blocks: int = 3,
        outputs: int = 0,
    ) -> None:
        super().__init__()
        half, quarter = 2 * width, 4 * width
        self.body = nn.Sequential(
            SymmetricConv(channels, width, 7),
            SymmetricConv(width, half, 4, stride=2),
            SymmetricConv(half, quarter, 4, stride=2),
            *(Residual(quarter) for _ in range(blocks)),
            UpConv(quarter, half),
            UpConv(half, width),
            SymmetricConv(width, outputs or channels, 7, norm=False, active=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images of one domain -> images of the other."""
        h = full_precision(self.body(x))
        return torch.tanh(h)


class Extractor(nn.Module):
    """H: the shape of DnCNN with batch-instance normalisation; its output is the noise.

    Input is (B, channels, H, W) in [-1, 1], of any H and W; output has the same shape and no bounds.

    Parameters
    ----------
    channels
        Of the images.
    width
        Channels of the inner layers.
    depth
        Layers.
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
        """Noisy images -> their noise."""
        out: Tensor = full_precision(self.body(x))
        return out


class Critic(nn.Module):
    """D_X or D_Y: 4x4 convs of stride 2 down to 4 x 4, a 4x4 valid conv, a 1x1 conv to one score a patch.

    Input is (B, channels, patch_px, patch_px), output (B, 1, 1, 1), without bounds.

    Parameters
    ----------
    channels
        Of the images.
    width
        Channels of the first level; each further one has twice as many.
    patch_px
        Side of the patches, a power of two from 8 up.
    norm
        False leaves batch-instance normalisation out, as a gradient penalty needs.

    Raises
    ------
    ValueError
        For patches of another side.
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 32,
        patch_px: int = 64,
        norm: bool = True,
    ) -> None:
        super().__init__()
        downs = round(math.log2(patch_px / 4))
        if patch_px != 4 * 2**downs or downs < 1:
            raise ValueError(f"patch_px = {patch_px}: must be a power of two from 8 up")
        widths = [channels, *(width * 2**level for level in range(downs))]
        self.body = nn.Sequential()
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            normed = norm and level > 0
            layer = SymmetricConv(inputs, outputs, 4, stride=2, norm=normed)
            self.body.append(layer)
        last = 2 * widths[-1]
        self.valid = nn.Conv2d(widths[-1], last, 4, bias=not norm)
        self.norm = BatchInstanceNorm(last) if norm else nn.Identity()
        self.last = nn.Conv2d(last, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Patches -> scores."""
        h = self.norm(self.valid(self.body(x)))
        score: Tensor = self.last(F.leaky_relu(h, SLOPE))
        return full_precision(score)
