"""The network of the shipped start: a ``ShuffleUNet`` that does not see brightness, without a grid."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from pairfree.nets.blocks import ZeroSumConv2d, mean_places
from pairfree.nets.shuffle_unet import ShuffleUNet


class EvenUNet(ShuffleUNet):
    """``ShuffleUNet`` whose change depends on differences of intensities only, f(x + c) = f(x) + c.

    Parameters
    ----------
    channels
        Of the images.
    width, levels, blocks, predict
        As in ``ShuffleUNet``; with ``predict`` "image" it sees differences only, f(x + c) = f(x).

    Notes
    -----
    Kernels of the first convolution add up to zero, so that a constant changes nothing behind it. In
    intensities whose noise is even, nothing but the noise's size is to be known, and that is always the
    same.

    The network works in cells of ``stride`` pixels, whose places it treats differently. What it adds to a
    place for ever is a grid that the eye sees: ``settle_grid`` measures it, and ``forward`` takes it off. It
    does not depend on the brightness either.

    Input and output (B, channels, H, W), network units; H and W multiples of ``stride``.
    """

    grid: Tensor
    """What is taken off each place of a cell, (channels, stride, stride), network units; mean 0."""

    def __init__(
        self,
        channels: int = 1,
        width: int = 32,
        levels: int = 3,
        blocks: int = 1,
        predict: str = "residual",
    ) -> None:
        super().__init__(channels, width, levels, blocks, predict)
        self.first = ZeroSumConv2d(4 * channels, width, 3)
        self.register_buffer("grid", torch.zeros(channels, self.stride, self.stride))

    def forward(self, x: Tensor) -> Tensor:
        """Denoise (B, channels, H, W)."""
        out = super().forward(x)
        rows, columns = x.shape[-2] // self.stride, x.shape[-1] // self.stride
        return out - self.grid.repeat(1, rows, columns)

    @torch.no_grad()
    def settle_grid(self, patches: Tensor) -> None:
        """Measure the grid on patches (B, channels, H, W), and take it off from now on.

        Each patch is seen once at every place of a cell, so that what it shows cancels out. H and W are
        multiples of ``stride``, at least five times that.
        """
        self.grid.zero_()
        self.grid.copy_(measure_grid(self, patches, self.stride))


def measure_grid(net: nn.Module, patches: Tensor, stride: int) -> Tensor:
    """What a network adds to each place of its cells for ever.

    Parameters
    ----------
    net
        (B, C, H, W) -> the same, in cells of ``stride`` pixels.
    patches
        (B, C, H, W); H and W multiples of ``stride``, at least five times that.
    stride
        Side of a cell, pixels.

    Returns
    -------
    Tensor
        (C, stride, stride), mean 0: means over all pixels and all shifts of a patch, of what comes of a pixel
        at this place less what comes of it on the mean of all places.

    Notes
    -----
    A patch gives outputs that differ with the shift only by what the network knows of its cells. A border of
    a cell, for which shifts see different surroundings, is left out.
    """
    height, width = patches.shape[-2] - stride, patches.shape[-1] - stride
    shifts = list(itertools.product(range(stride), range(stride)))

    def see_from(down: int, right: int) -> Tensor:
        """Outputs at the pixels that all shifts have in common."""
        whole = net(patches[..., down : down + height, right : right + width])
        rows = slice(2 * stride - down, height - stride - down)
        columns = slice(2 * stride - right, width - stride - right)
        inner: Tensor = whole[..., rows, columns]
        return inner

    seen = [see_from(*shift) for shift in shifts]
    mean = sum(seen) / len(shifts)
    grid = torch.zeros(patches.shape[1], stride, stride, device=patches.device)
    for (down, right), outputs in zip(shifts, seen, strict=True):
        places = mean_places(outputs - mean, stride)
        grid += torch.roll(places, (-down, -right), (-2, -1))
    return grid / len(shifts)
