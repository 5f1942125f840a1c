"""Averages of weights over the steps: the plain mean (SWA) and the leash (Lookahead)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pairfree.methods.base import follow


class SWA(nn.Module):
    r"""Stochastic weight averaging: phi is the plain mean of the weights since ``begin``.

    Equation   phi <- (phi n + theta) / (n + 1), n weights averaged so far; phi = theta, n = 1 at the beginning
    Source     Izmailov et al., Averaging weights leads to wider optima, UAI 2018, eq. 4; ISCL, Algorithm 1

    Buffers are those of the latest network; normalisation statistics must be computed anew when averaging is over.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.register_buffer("count", torch.ones((), dtype=torch.int64))
        self.count: Tensor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out

    def begin(self, net: nn.Module) -> None:
        self.count.fill_(1)
        follow(self.net, net, 1.0)

    def add(self, net: nn.Module) -> None:
        follow(self.net, net, 1.0 / (int(self.count) + 1))
        self.count += 1


class Lookahead(nn.Module):
    r"""k steps forward, one step back: every ``every`` steps phi moves by alpha towards theta, and theta is set to phi.

    Equation   phi <- phi + alpha (theta - phi); theta <- phi
    Source     Zhang et al., Lookahead optimizer, NeurIPS 2019, Algorithm 1; ISCL, Algorithm 1
    """

    def __init__(self, net: nn.Module, every: int = 6, alpha: float = 0.5) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.every, self.alpha = every, alpha

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out

    def after_step(self, net: nn.Module, steps_done: int) -> None:
        """``steps_done`` counts from 1."""
        if steps_done % self.every:
            return
        follow(self.net, net, self.alpha)
        follow(net, self.net, 1.0)
