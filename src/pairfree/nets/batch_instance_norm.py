"""Batch-instance normalisation, and what makes it safe to use: no result depends on the batch or on the tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

EPS = 1e-5
MOMENTUM = 0.1


def full_precision(x: Tensor) -> Tensor:
    """bfloat16 and float16 become float32; float32 and float64 stay."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class BatchInstanceNorm(nn.Module):
    r"""A share rho of batch normalisation and 1 - rho of instance normalisation, per channel, then gain and bias.

    Equation   out = weight * (rho (x - m_B) / sqrt(v_B + eps) + (1 - rho) (x - m_I) / sqrt(v_I + eps)) + bias, rho in [0, 1]
    m_B, v_B   over batch and space in training, their running averages in evaluation
    m_I, v_I   over space, each sample by itself; or, in evaluation, those held by ``held_statistics`` for the tiles of one image
    Shapes     (B, C, H, W) -> same; rho, weight, bias (C,)
    Source     Nam & Kim, Batch-instance normalization, NeurIPS 2018, eq. 3; rho starts at 1. ``clip_rho`` keeps it in [0, 1].

    Both parts are affine in x, so the layer is one multiply-add with a factor and an offset per sample and channel. In training the
    statistics of the first batch since the last ``take_statistics`` wait in ``seen``: a step that is refused must leave no trace.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.ones(channels))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.seen: tuple[Tensor, Tensor] | None = None
        self.held: tuple[Tensor, Tensor] | None = None
        self.holds = False

    def forward(self, x: Tensor) -> Tensor:
        own_var, own_mean = self._instance(x)
        mean, var = self._batch(x, own_mean, own_var)
        of_batch = self.rho * torch.rsqrt(var + EPS)
        of_own = (1.0 - self.rho) * torch.rsqrt(own_var + EPS)
        factor = self.weight * (of_batch + of_own)
        offset = self.bias - self.weight * (of_batch * mean + of_own * own_mean)
        return torch.addcmul(_spread(offset).to(x.dtype), x, _spread(factor).to(x.dtype))

    def _instance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Variance and mean of each sample and channel, (B, C) or, when held, (1, C)."""
        if self.held is not None and not self.training:
            return self.held
        over = (0, 2, 3) if self.holds else (2, 3)
        var, mean = torch.var_mean(full_precision(x), over, correction=0)
        if self.holds:
            var, mean = var[None], mean[None]
            self.held = (var, mean)
        return var, mean

    def _batch(self, x: Tensor, own_mean: Tensor, own_var: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance over batch and space, (C,): in training from those of the samples, else the running ones."""
        if not self.training:
            return self.running_mean, self.running_var
        mean = own_mean.mean(0)
        var = own_var.mean(0) + own_mean.var(0, correction=0)
        if self.seen is None:
            count = x.numel() / x.shape[1]
            self.seen = mean.detach(), var.detach() * (count / max(1.0, count - 1.0))
        return mean, var


def _spread(values: Tensor) -> Tensor:
    return values[:, :, None, None]


def layers(net: nn.Module) -> list[BatchInstanceNorm]:
    return [layer for layer in net.modules() if isinstance(layer, BatchInstanceNorm)]


@torch.no_grad()
def clip_rho(*nets: nn.Module) -> None:
    """Put every rho back into [0, 1]; called after each update."""
    for net in nets:
        for layer in layers(net):
            layer.rho.clamp_(0.0, 1.0)


@torch.no_grad()
def take_statistics(*nets: nn.Module, momentum: float = MOMENTUM) -> None:
    """Move the running statistics towards those that were seen."""
    found = [layer for net in nets for layer in layers(net) if layer.seen is not None]
    if not found:
        return
    running = [value for layer in found for value in (layer.running_mean, layer.running_var)]
    torch._foreach_lerp_(running, [value for layer in found for value in layer.seen or ()], momentum)
    drop_statistics(*nets)


def drop_statistics(*nets: nn.Module) -> None:
    """Forget the statistics that were seen."""
    for net in nets:
        for layer in layers(net):
            layer.seen = None


@contextmanager
def held_statistics(net: nn.Module, apply_to_whole: Callable[[], object]) -> Iterator[None]:
    """Inside, instance statistics of ``net`` are those of a whole image, whatever it is applied to.

    apply_to_whole   runs ``net`` once, on that image or on a batch that stands for it: all its samples count together. Each layer's
                     statistics are taken with those of the layers before it already held.
    """
    found = layers(net)
    for layer in found:
        layer.held, layer.holds = None, True
    try:
        with torch.no_grad():
            apply_to_whole()
        for layer in found:
            layer.holds = False
        yield
    finally:
        for layer in found:
            layer.held, layer.holds = None, False


@torch.no_grad()
def recompute_running_statistics(net: nn.Module, batches: Iterator[Tensor]) -> None:
    """Running statistics of ``net`` as the plain mean over ``batches``: averaged weights have statistics of their own (Izmailov, 3.2)."""
    if not layers(net):
        return
    was_training = net.training
    net.train()
    for number, batch in enumerate(batches):
        drop_statistics(net)
        net(batch)
        take_statistics(net, momentum=1.0 / (number + 1))
    net.train(was_training)
