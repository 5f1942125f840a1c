"""What networks share: a clip with a gradient at its bounds, layers, first weights, memory order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Net = TypeVar("Net", bound=nn.Module)


def clip(
    x: Tensor,
    low: float | Tensor,
    high: float | Tensor,
) -> Tensor:
    """``torch.clamp``, with a gradient of 1 at both bounds.

    That of ``torch.clamp`` is 1 there up to PyTorch 2.14 and 0 since: what lies at a bound (a saturated
    pixel) would train differently.
    """
    inside = (x >= low) & (x <= high)
    clamped = x.detach().clamp(low, high)  # type: ignore[arg-type]
    return torch.where(inside, x, clamped)


class ZeroSumConv2d(nn.Conv2d):
    """A convolution that does not see a constant: each kernel adds up to zero.

    Parameters
    ----------
    inputs, outputs
        Channels.
    kernel_px
        Side of the kernels, odd. The image is continued by its border pixels, for a border of zeros would be
        seen.
    """

    zero_sum = True
    """False where a network is probed with kernels that are all positive."""

    def __init__(self, inputs: int, outputs: int, kernel_px: int) -> None:
        super().__init__(inputs, outputs, kernel_px)
        self.border_px = kernel_px // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        weight = self.weight
        if self.zero_sum:
            weight = weight - weight.mean((1, 2, 3), keepdim=True)
        padded = F.pad(x, (self.border_px,) * 4, mode="replicate")
        return F.conv2d(padded, weight, self.bias)


def mean_places(images: Tensor, stride: int) -> Tensor:
    """Means over all cells and images of what stands at each place of a cell.

    Parameters
    ----------
    images
        (B, C, H, W); H and W multiples of ``stride``.
    stride
        Side of a cell, pixels.

    Returns
    -------
    Tensor
        (C, stride, stride).
    """
    columns = torch.unflatten(images, -1, (-1, stride))
    cells = torch.unflatten(columns, -3, (-1, stride))
    return cells.mean((0, -4, -2))


def he_init(module: nn.Module) -> None:
    """He initialisation for every convolution below ``module``; biases zero."""
    for layer in _convolutions(module):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def normal_init(module: nn.Module, std: float = 0.02) -> None:
    """N(0, std) initialisation for every convolution below ``module``; biases zero.

    As the published GAN and Noise2Grad codes have it.
    """
    for layer in _convolutions(module):
        nn.init.normal_(layer.weight, 0.0, std)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _convolutions(module: nn.Module) -> Iterator[nn.Conv2d | nn.ConvTranspose2d]:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            yield layer


def parameter_count(net: nn.Module) -> int:
    """Numbers that are trained, or could be."""
    sizes = [parameter.numel() for parameter in net.parameters()]
    return sum(sizes)


def placed(net: Net, device: torch.device | str) -> Net:
    """``net`` on ``device``, kernels in the memory order of ``channels_last``."""
    order = torch.channels_last
    made: Net = net.to(device, memory_format=order)  # type: ignore[call-overload]
    return made


def channels_last(x: Tensor) -> Tensor:
    """Memory order NHWC, which the CPU and tensor-core convolutions are fastest in (benchmarks/results)."""
    return x.contiguous(memory_format=torch.channels_last)
