"""Batch-instance normalisation, and what makes it safe: no result depends on the batch or on the tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

EPS = 1e-5
"""Added to variances."""
MOMENTUM = 0.1
"""How far running statistics move towards those of a step."""


def full_precision(x: Tensor) -> Tensor:
    """bfloat16 and float16 become float32; float32 and float64 stay."""
    if x.dtype in (torch.bfloat16, torch.float16):
        return x.float()
    return x


class BatchInstanceNorm(nn.Module):
    r"""A share rho of batch normalisation and 1 - rho of instance normalisation, then gain and bias.

    out = weight * (rho (x - m_B) / sqrt(v_B + eps) + (1 - rho) (x - m_I) / sqrt(v_I + eps)) + bias, rho in
    [0, 1], all per channel. m_B and v_B are mean and variance over batch and space in training, their running
    averages in evaluation; m_I and v_I over space, of each sample by itself, or, in evaluation, those held by
    ``hold_statistics`` for the tiles of one image.

    Parameters
    ----------
    channels
        Of input and output, (B, C, H, W); rho, weight and bias are (C,).

    Notes
    -----
    rho starts at 1; ``clip_rho`` keeps it in [0, 1].

    Both parts are affine in x, so the layer is one multiply-add with a factor and an offset per sample and
    channel. In training the statistics of the first batch since the last ``take_statistics`` wait in
    ``seen``: a step that is refused must leave no trace.

    References
    ----------
    Nam & Kim, Batch-instance normalization, NeurIPS 2018, eq. 3.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.ones(channels))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.seen: tuple[Tensor, Tensor] | None = None
        self.held: tuple[Tensor, Tensor] | None = None
        self.holds = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        own_var, own_mean = self._take_instance(x)
        mean, var = self._take_batch(x, own_mean, own_var)
        of_batch = self.rho * torch.rsqrt(var + EPS)
        of_own = (1.0 - self.rho) * torch.rsqrt(own_var + EPS)
        factor = self.weight * (of_batch + of_own)
        offset = self.bias - self.weight * (of_batch * mean + of_own * own_mean)
        return torch.addcmul(_spread(offset, x), x, _spread(factor, x))

    def _take_instance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Variance and mean of each sample and channel, (B, C) or, when held, (1, C)."""
        if self.held is not None and not self.training:
            return self.held
        x = full_precision(x)
        if not self.holds:
            var, mean = torch.var_mean(x, (2, 3), correction=0)
            return var, mean
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        self.held = (var[None], mean[None])
        return self.held

    def _take_batch(self, x: Tensor, own_mean: Tensor, own_var: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance over batch and space, (C,): in training of the samples, else the running ones."""
        if not self.training:
            return self.running_mean, self.running_var
        mean = own_mean.mean(0)
        var = own_var.mean(0) + own_mean.var(0, correction=0)
        if self.seen is None:
            count = x.numel() / x.shape[1]
            bessel = count / max(1.0, count - 1.0)
            self.seen = (mean.detach(), var.detach() * bessel)
        return mean, var


def _spread(values: Tensor, x: Tensor) -> Tensor:
    """(B, C) -> (B, C, 1, 1), of the type of x."""
    return values[:, :, None, None].to(x.dtype)


def find_norms(*nets: nn.Module) -> list[BatchInstanceNorm]:
    """All batch-instance normalisation layers of some networks."""
    modules = (module for net in nets for module in net.modules())
    return [module for module in modules if isinstance(module, BatchInstanceNorm)]


@torch.no_grad()
def clip_rho(*nets: nn.Module) -> None:
    """Put every rho back into [0, 1]; called after each update."""
    for layer in find_norms(*nets):
        layer.rho.clamp_(0.0, 1.0)


@torch.no_grad()
def take_statistics(*nets: nn.Module, momentum: float = MOMENTUM) -> None:
    """Move the running statistics towards those that were seen.

    Parameters
    ----------
    nets
        The networks.
    momentum
        How far, 0 to 1.
    """
    running: list[Tensor] = []
    seen: list[Tensor] = []
    for layer in find_norms(*nets):
        if layer.seen is not None:
            running += [layer.running_mean, layer.running_var]
            seen += layer.seen
    if running:
        torch._foreach_lerp_(running, seen, momentum)
        drop_statistics(*nets)


def drop_statistics(*nets: nn.Module) -> None:
    """Forget the statistics that were seen."""
    for layer in find_norms(*nets):
        layer.seen = None


@contextmanager
def hold_statistics(net: nn.Module, apply_to_whole: Callable[[], object]) -> Iterator[None]:
    """Inside, instance statistics of ``net`` are those of a whole image, whatever it is applied to.

    Parameters
    ----------
    net
        The network.
    apply_to_whole
        Runs it once, on that image or on a batch that stands for it: all its samples count together.
        Statistics of each layer are taken with those of the layers before it already held.
    """
    layers = find_norms(net)
    for layer in layers:
        layer.held = None
        layer.holds = True
    try:
        with torch.no_grad():
            apply_to_whole()
        for layer in layers:
            layer.holds = False
        yield
    finally:
        for layer in layers:
            layer.held = None
            layer.holds = False


@torch.no_grad()
def recompute_running_statistics(net: nn.Module, batches: Iterator[Tensor]) -> None:
    """Running statistics of ``net`` become the plain mean over ``batches``.

    Parameters
    ----------
    net
        A network with averaged weights, which have statistics of their own.
    batches
        Inputs, (B, C, H, W).

    References
    ----------
    Izmailov et al., Averaging weights leads to wider optima, UAI 2018, section 3.2.
    """
    if not find_norms(net):
        return
    was_training = net.training
    net.train()
    for number, batch in enumerate(batches):
        drop_statistics(net)
        net(batch)
        take_statistics(net, momentum=1.0 / (number + 1))
    net.train(was_training)
