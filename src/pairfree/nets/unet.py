"""The U-Net of the IDDP experiments: three levels, two convolutions each, the image as output."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.nets.blocks import normal_init


class UNet(nn.Module):
    """U-Net 32-64-128-128: 3x3 convolutions + ReLU, max-pooling, bilinear upsampling, no normalisation.

    Input and output (B, channels, H, W), network units; H and W multiples of ``stride`` = 8.

    Parameters
    ----------
    channels
        Of the images.
    width
        Channels of the first level.
    predict
        "image": the output is f(y); "residual": y - f(y).
    outputs
        Channels of the output where they are others; 0 for those of the input.
    blurred
        N2V2's network against checkerboards: no skip connection at full resolution, and the maxima of pooling
        are blurred before every other one is taken.

    Notes
    -----
    The paper says "a simple U-Net"; the widths, the pooling and the N(0, 0.02) start are those of its first
    author's Noise2Grad experiments (same crops, rate and mask). ``predict`` is "image" there: a residual
    network starts at the identity, where IDDP's loss is already nearly zero, and stays.

    References
    ----------
    Of ``blurred``: Hoeck et al., N2V2, ECCV workshops 2022; Zhang, ICML 2019.
    """

    stride = 8

    def __init__(
        self,
        channels: int = 1,
        width: int = 32,
        predict: str = "image",
        outputs: int = 0,
        blurred: bool = False,
    ) -> None:
        super().__init__()
        twice = 2 * width
        wide = 4 * width
        joined = twice if blurred else twice + width
        self.predict = predict
        self.blurred = blurred
        self.down1 = _double(channels, width)
        self.down2 = _double(width, twice)
        self.down3 = _double(twice, wide)
        self.bottom = _double(wide, wide)
        self.up3 = _double(wide + wide, wide)
        self.up2 = _double(wide + twice, twice)
        self.up1 = _double(joined, width)
        self.last = nn.Conv2d(width, outputs or channels, 1)
        normal_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Noisy images -> denoised ones."""
        level1 = self.down1(x)
        level2 = self.down2(self._halved(level1))
        level3 = self.down3(self._halved(level2))
        h = self.bottom(self._halved(level3))
        h = self.up3(_join(h, level3))
        h = self.up2(_join(h, level2))
        joined = _double_size(h) if self.blurred else _join(h, level1)
        h = self.up1(joined)
        out: Tensor = self.last(h).float()
        return x - out if self.predict == "residual" else out

    def _halved(self, h: Tensor) -> Tensor:
        if not self.blurred:
            return F.max_pool2d(h, 2)
        channels = h.shape[1]
        grown = F.pad(h, (0, 1, 0, 1), mode="replicate")
        largest = F.max_pool2d(grown, 2, stride=1)
        weights = torch.tensor([0.25, 0.5, 0.25], dtype=h.dtype, device=h.device)
        blur = torch.outer(weights, weights)
        kernels = blur.expand(channels, 1, 3, 3)
        padded = F.pad(largest, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(padded, kernels, stride=2, groups=channels)


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _join(h: Tensor, skip: Tensor) -> Tensor:
    """Features at twice their resolution, with those that were kept there."""
    large = _double_size(h)
    return torch.cat([large, skip], 1)


def _double_size(h: Tensor) -> Tensor:
    return F.interpolate(
        h,
        scale_factor=2.0,
        mode="bilinear",
        align_corners=False,
    )
