"""A network of even noise, among images of another scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pairfree.nets.even_unet import EvenUNet


class ScaledEvenUNet(nn.Module):
    """``EvenUNet`` for images whose noise is smaller or larger than the one it was trained on.

    Parameters
    ----------
    channels
        Of the images.

    Notes
    -----
    f(s x) / s, with ``scale`` s. Input and output (B, channels, H, W); H and W multiples of ``stride``.
    """

    scale: Tensor
    """Deviation of the noise that the network knows over that of the images."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.net = EvenUNet(channels)
        self.stride = self.net.stride
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Denoise (B, channels, H, W)."""
        out: Tensor = self.net(x * self.scale)
        return out / self.scale

    def settle_grid(self, patches: Tensor) -> None:
        """As of ``EvenUNet``, on patches of the images."""
        self.net.settle_grid(patches * self.scale)
