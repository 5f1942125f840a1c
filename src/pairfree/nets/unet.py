"""The U-Net of the IDDP experiments: three levels, two convolutions a level, the image (not a residual) as output."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.nets.blocks import normal_init


class UNet(nn.Module):
    """U-Net 32-64-128-128 with 3x3 convolutions + ReLU, max-pooling, bilinear upsampling and no normalisation.

    The paper says "a simple U-Net"; the widths, the pooling and the N(0, 0.02) start are those of its first author's Noise2Grad
    experiments (same crops, rate and mask). ``predict`` is "image" there: a residual network starts at the identity, where IDDP's loss is
    already nearly zero, and stays.

    Input and output (B, channels, H, W), network units; H and W multiples of ``stride`` = 8. ``outputs`` gives the output other channels.
    """

    stride = 8

    def __init__(self, channels: int = 1, width: int = 32, predict: str = "image", init: str = "normal", outputs: int = 0) -> None:
        super().__init__()
        w1, w2, w3, w4 = width, 2 * width, 4 * width, 4 * width
        self.predict = predict
        self.down1, self.down2, self.down3 = _double(channels, w1), _double(w1, w2), _double(w2, w3)
        self.bottom = _double(w3, w4)
        self.up3, self.up2, self.up1 = _double(w4 + w3, w3), _double(w3 + w2, w2), _double(w2 + w1, w1)
        self.last = nn.Conv2d(w1, outputs or channels, 1)
        if init == "normal":
            normal_init(self)

    def forward(self, x: Tensor) -> Tensor:
        level1 = self.down1(x)
        level2 = self.down2(F.max_pool2d(level1, 2))
        level3 = self.down3(F.max_pool2d(level2, 2))
        h = self.bottom(F.max_pool2d(level3, 2))
        h = self.up3(torch.cat([_double_size(h), level3], 1))
        h = self.up2(torch.cat([_double_size(h), level2], 1))
        h = self.up1(torch.cat([_double_size(h), level1], 1))
        out = self.last(h).float()
        return x - out if self.predict == "residual" else out


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(inplace=True)
    )


def _double_size(h: Tensor) -> Tensor:
    return F.interpolate(h, scale_factor=2.0, mode="bilinear", align_corners=False)
