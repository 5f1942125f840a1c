"""What networks share: a clip with a gradient at its bounds, first weights, memory order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

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
