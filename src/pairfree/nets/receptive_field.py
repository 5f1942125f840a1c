"""How far a network sees, measured from its gradients."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from pairfree.nets.batch_instance_norm import BatchInstanceNorm
from pairfree.nets.blocks import ZeroSumConv2d
from pairfree.nets.traits import stated_receptive_field_px, total_stride

PROBE_LEVELS = (0.75, 0.6)
"""Intensities, network units, at which a receptive field is measured.

Inside the range of every network that clips its input, and positive where one takes [0, 1] to [-1, 1], so
that no ReLU is shut.

The gradient of ``torch.clamp`` at its own bound is 1 up to PyTorch 2.14 and 0 since: a canvas of ones, at the
upper bound, shows nothing there.
"""
FIRST_REACH_PX = 32
"""Reach that the first canvas has room for; the next ones have room for twice as much each."""


def measured_receptive_field_px(
    net: nn.Module,
    channels: int,
    limit_px: int = 1024,
) -> int:
    """Largest distance at which an input pixel can change an output pixel; measured, not declared.

    Parameters
    ----------
    net
        Any network; one that states its receptive field is believed
        (``traits.NetworkTraits.receptive_field_px``).
    channels
        Of its input.
    limit_px
        Farthest that is looked.

    Returns
    -------
    int
        Pixels.

    Raises
    ------
    ValueError
        Where the field is larger than ``limit_px``, as of a network that mixes the whole image (instance
        norm, attention), and where no output depends on any input.

    Notes
    -----
    All weights of a copy are positive, biases zero and batch norms neutral, so that no path cancels or is cut
    by a ReLU; then the gradient of one stride cell of outputs with respect to the input is non-zero
    exactly on the receptive field. float64, CPU, on canvases that grow until the field fits, one for each of
    ``PROBE_LEVELS``.
    """
    stated = stated_receptive_field_px(net, channels)
    if stated is not None:
        return stated
    probe = _positive_copy(net)
    stride = total_stride(net)
    reach = FIRST_REACH_PX
    while reach <= limit_px:
        size = math.ceil((2 * reach + stride) / stride) * stride
        middle = size // 2 // stride * stride
        cell = slice(middle, middle + stride)
        touched = _touched(probe, channels, size, cell)
        if not touched.any():
            raise ValueError("no output pixel depends on any input pixel")
        near, far = _extent(touched)
        if near > 0 and far < size - 1:
            before = cell.start - near
            after = far - (cell.stop - 1)
            return max(before, after)
        reach *= 2
    raise ValueError(f"receptive field larger than {limit_px} px")


def _positive_copy(net: nn.Module) -> nn.Module:
    """A copy, float64 on the CPU: weights positive, biases zero, norms neutral.

    The numbers of a filter are one that stands for all, so that the copy of a wide network takes little
    memory; those of different filters differ, so that what is subtracted somewhere does not cancel out.
    """
    drawn = torch.Generator().manual_seed(0)
    stands_for: dict[int, object] = {
        id(parameter): nn.Parameter(_stand_in(name, parameter, drawn), requires_grad=False)
        for name, parameter in net.named_parameters()
    }
    probe = copy.deepcopy(net, stands_for).to("cpu", torch.float64).eval()
    for layer in probe.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats:
            layer.reset_running_stats()
        if isinstance(layer, BatchInstanceNorm):
            # rho is 0: held statistics are all it uses
            variance = torch.ones_like(layer.rho)[None]
            mean = torch.zeros_like(layer.rho)[None]
            layer.held = (variance, mean)
        if isinstance(layer, ZeroSumConv2d):
            layer.zero_sum = False
    return probe


def _stand_in(name: str, parameter: Tensor, drawn: torch.Generator) -> Tensor:
    """In the shape of a parameter: weights of an output sum to 0.5 to 1, norms keep, biases add nothing."""
    if parameter.ndim < 2:
        of_norm = float(name.endswith("weight"))
        return torch.tensor(of_norm, dtype=torch.float64).expand(parameter.shape)
    apart = parameter.shape[: 2 if parameter.ndim > 2 else 1]
    values = 0.5 + 0.5 * torch.rand(apart, dtype=torch.float64, generator=drawn)
    values *= parameter.shape[0] / max(1, parameter.numel())
    return values[(...,) + (None,) * (parameter.ndim - len(apart))].expand(parameter.shape)


def _touched(probe: nn.Module, channels: int, size: int, cell: slice) -> Tensor:
    """Which pixels of a canvas change the outputs of one cell of it: (size, size) bool."""
    touched = torch.zeros(size, size, dtype=torch.bool)
    for level in PROBE_LEVELS:
        shape = (1, channels, size, size)
        canvas = torch.full(shape, level, dtype=torch.float64)
        canvas.requires_grad_()
        outputs = probe(canvas)[..., cell, cell]
        (gradient,) = torch.autograd.grad(outputs.sum(), canvas)
        of_channels = gradient[0] != 0
        touched |= of_channels.any(dim=0)
    return touched


def _extent(touched: Tensor) -> tuple[int, int]:
    """First and last row or column that holds a touched pixel, whichever reaches farther."""
    rows = torch.nonzero(touched.any(1)).flatten()
    columns = torch.nonzero(touched.any(0)).flatten()
    near = int(min(rows.min(), columns.min()))
    far = int(max(rows.max(), columns.max()))
    return near, far
