"""Facts every network states about itself, and the measured receptive field."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from pairfree.nets.batch_instance_norm import BatchInstanceNorm

Net = TypeVar("Net", bound=nn.Module)
PROBE_LEVELS = (0.75, 0.6)
"""Intensities, network units, at which a receptive field is measured: inside the range of every network that clips its input, and
positive where one takes [0, 1] to [-1, 1], so that no ReLU is shut.

The gradient of ``torch.clamp`` at its own bound is 1 up to PyTorch 2.14 and 0 since: a canvas of ones, at the upper bound, shows
nothing there.
"""


def total_stride(net: nn.Module) -> int:
    """Pixels that the input's height and width must be a multiple of; networks state it as ``stride``, others count as 1."""
    stride = getattr(net, "stride", 1)
    return max(stride) if isinstance(stride, tuple) else int(stride)  # a bare nn.Conv2d states (1, 1)


def measured_receptive_field_px(net: nn.Module, channels: int, limit_px: int = 1024) -> int:
    """Largest distance, in pixels, at which an input pixel can change an output pixel; measured, not declared.

    All weights of a copy are made positive, biases zero and batch norms neutral, so that no path cancels or is cut by a ReLU; then the
    gradient of one stride cell of outputs with respect to the input is non-zero exactly on the receptive field. float64, CPU, on canvases
    that grow until the field fits, one for each of ``PROBE_LEVELS``. A network that mixes the whole image (instance norm, attention)
    never fits: ValueError.
    A network made of many passes of another says by itself, in a method ``receptive_field_px(channels)``, what follows from the other's.
    """
    if hasattr(net, "receptive_field_px"):
        return int(net.receptive_field_px(channels))  # type: ignore[operator]
    probe = copy.deepcopy(net).to("cpu", torch.float64).eval()
    for layer in probe.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats:
            layer.reset_running_stats()
        if isinstance(layer, BatchInstanceNorm):  # rho becomes 0 below: held statistics are all it uses
            layer.held = torch.ones_like(layer.rho)[None], torch.zeros_like(layer.rho)[None]
    for name, parameter in probe.named_parameters():
        parameter.requires_grad_(False)
        if parameter.ndim > 1:
            parameter.abs_().clamp_(min=1e-3)
            parameter.div_(parameter.flatten(1).sum(1).max())
        else:
            parameter.fill_(
                1.0 if name.endswith("weight") else 0.0
            )  # the weight of a norm layer is one-dimensional
    stride = total_stride(net)
    reach = 32
    while reach <= limit_px:
        size = -(-(2 * reach + stride) // stride) * stride
        start = size // 2 // stride * stride
        touched = torch.zeros(size, size, dtype=torch.bool)
        for level in PROBE_LEVELS:
            canvas = torch.full((1, channels, size, size), level, dtype=torch.float64, requires_grad=True)
            cell = probe(canvas)[..., start : start + stride, start : start + stride]
            (gradient,) = torch.autograd.grad(cell.sum(), canvas)
            touched |= (gradient != 0).any(dim=1)[0]
        if not touched.any():
            raise ValueError("no output pixel depends on any input pixel")
        rows = torch.nonzero(touched.any(1)).flatten()
        columns = torch.nonzero(touched.any(0)).flatten()
        near, far = int(min(rows.min(), columns.min())), int(max(rows.max(), columns.max()))
        if near > 0 and far < size - 1:
            return max(start - near, far - (start + stride - 1))
        reach *= 2
    raise ValueError(f"receptive field larger than {limit_px} px")


def clip(x: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """``torch.clamp``, with a gradient of 1 at both bounds.

    That of ``torch.clamp`` is 1 there up to PyTorch 2.14 and 0 since: what lies at a bound (a saturated pixel) would train differently.
    """
    return torch.where((x >= low) & (x <= high), x, x.detach().clamp(low, high))  # type: ignore[arg-type]


def he_init(module: nn.Module) -> None:
    """He initialisation for every convolution below ``module``; biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def normal_init(module: nn.Module, std: float = 0.02) -> None:
    """N(0, std) initialisation for every convolution, as the published GAN and Noise2Grad codes use; biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def parameter_count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def placed(net: Net, device: torch.device | str) -> Net:
    """``net`` on ``device``, kernels in the memory order of ``channels_last``."""
    made: Net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return made


def channels_last(x: Tensor) -> Tensor:
    """Memory order NHWC, which the CPU and tensor-core convolutions are fastest in (benchmarks/results)."""
    return x.contiguous(memory_format=torch.channels_last)
