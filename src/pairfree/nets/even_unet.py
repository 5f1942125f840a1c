"""The network of the shipped start: a ``ShuffleUNet`` that does not see brightness, without a grid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pairfree.nets.blocks import ZeroSumConv2d, mean_places
from pairfree.nets.shuffle_unet import ShuffleUNet


class EvenUNet(ShuffleUNet):
    """``ShuffleUNet`` whose change depends on differences of intensities only, f(x + c) = f(x) + c.

    Parameters
    ----------
    channels
        Of the images.
    width, levels, blocks
        As in ``ShuffleUNet``.

    Notes
    -----
    Kernels of the first convolution add up to zero, so that a constant changes nothing behind it. In
    intensities whose noise is even, nothing but the noise's size is to be known, and that is always the
    same.

    The network works in cells of ``stride`` pixels, whose places it treats differently. What it adds to a
    place for ever is a grid that the eye sees: ``set_grid`` measures it, and ``forward`` takes it off. It
    does not depend on the brightness either.

    Input and output (B, channels, H, W), network units; H and W multiples of ``stride``.
    """

    grid: Tensor
    """What is taken off each place of a cell, (channels, stride, stride), network units; mean 0."""

    def __init__(
        self, channels: int = 1, width: int = 32, levels: int = 3, blocks: int = 1
    ) -> None:
        super().__init__(channels, width, levels, blocks)
        self.first = ZeroSumConv2d(4 * channels, width, 3)
        self.register_buffer("grid", torch.zeros(channels, self.stride, self.stride))

    def forward(self, x: Tensor) -> Tensor:
        """Denoise (B, channels, H, W)."""
        out = super().forward(x)
        rows, columns = x.shape[-2] // self.stride, x.shape[-1] // self.stride
        return out - self.grid.repeat(1, rows, columns)

    @torch.no_grad()
    def set_grid(self, outputs: Tensor) -> None:
        """Take off, from now on, what outputs (B, channels, H, W) still have of a grid.

        They are those of many different inputs, so that nothing but the network knows of its cells.
        """
        self.grid += measure_grid(outputs, self.stride)


def measure_grid(outputs: Tensor, stride: int) -> Tensor:
    """Means over all cells of what stands at each place, without what is coarser than a cell.

    Parameters
    ----------
    outputs
        (B, C, H, W); H and W multiples of ``stride``, at least three times that.
    stride
        Side of a cell, pixels.

    Returns
    -------
    Tensor
        (C, stride, stride), mean 0.
    """
    channels = outputs.shape[1]
    window = torch.ones(stride + 1, dtype=outputs.dtype, device=outputs.device)
    window[0] = window[-1] = 0.5
    mean = (
        torch.outer(window, window) / stride**2
    )  # of a pattern with that period it leaves nothing
    kernel = mean.expand(channels, 1, stride + 1, stride + 1)
    coarse = F.conv2d(outputs, kernel, padding=stride // 2, groups=channels)
    inside = slice(stride, -stride)
    fine = (outputs - coarse)[..., inside, inside]
    places = mean_places(fine, stride)
    return places - places.mean((-2, -1), keepdim=True)
