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

    ``blurred`` is N2V2's network against checkerboards: no skip connection at full resolution, and the maxima of pooling are blurred
    before every other one is taken (Hoeck et al., N2V2, ECCV workshops 2022; Zhang, ICML 2019).
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
        w1, w2, w3, w4 = width, 2 * width, 4 * width, 4 * width
        self.predict, self.blurred = predict, blurred
        self.down1, self.down2, self.down3 = _double(channels, w1), _double(w1, w2), _double(w2, w3)
        self.bottom = _double(w3, w4)
        self.up3, self.up2, self.up1 = (
            _double(w4 + w3, w3),
            _double(w3 + w2, w2),
            _double(w2 if blurred else w2 + w1, w1),
        )
        self.last = nn.Conv2d(w1, outputs or channels, 1)
        normal_init(self)

    def forward(self, x: Tensor) -> Tensor:
        level1 = self.down1(x)
        level2 = self.down2(self._halved(level1))
        level3 = self.down3(self._halved(level2))
        h = self.bottom(self._halved(level3))
        h = self.up3(torch.cat([_double_size(h), level3], 1))
        h = self.up2(torch.cat([_double_size(h), level2], 1))
        h = self.up1(_double_size(h) if self.blurred else torch.cat([_double_size(h), level1], 1))
        out: Tensor = self.last(h).float()
        return x - out if self.predict == "residual" else out

    def _halved(self, h: Tensor) -> Tensor:
        if not self.blurred:
            return F.max_pool2d(h, 2)
        largest = F.max_pool2d(F.pad(h, (0, 1, 0, 1), mode="replicate"), 2, stride=1)
        kernel = torch.tensor([0.25, 0.5, 0.25], dtype=h.dtype, device=h.device)
        blur = torch.outer(kernel, kernel).expand(h.shape[1], 1, 3, 3)
        return F.conv2d(
            F.pad(largest, (1, 1, 1, 1), mode="replicate"), blur, stride=2, groups=h.shape[1]
        )


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _double_size(h: Tensor) -> Tensor:
    return F.interpolate(h, scale_factor=2.0, mode="bilinear", align_corners=False)
