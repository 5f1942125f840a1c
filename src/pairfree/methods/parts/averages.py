"""Averages of weights over the steps: the plain mean (SWA) and the leash (Lookahead)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pairfree.methods.base import follow


class SWA(nn.Module):
    r"""Stochastic weight averaging: phi is the plain mean of the weights since ``begin``.

    phi <- (phi n + theta) / (n + 1), n weights averaged so far; phi = theta, n = 1 at the beginning.

    Parameters
    ----------
    net
        The network whose weights theta are averaged; a copy with phi is kept as ``net``.

    Notes
    -----
    Buffers are those of the latest network; normalisation statistics must be computed anew when averaging is
    over.

    References
    ----------
    Izmailov et al., Averaging weights leads to wider optima, UAI 2018, eq. 4; ISCL, Algorithm 1.
    """

    count: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).requires_grad_(False)
        one = torch.ones((), dtype=torch.int64)
        self.register_buffer("count", one)

    def forward(self, x: Tensor) -> Tensor:
        """What the averaged network makes of x."""
        out: Tensor = self.net(x)
        return out

    def begin(self, net: nn.Module) -> None:
        """Forget what was averaged: the weights of ``net`` are the first."""
        self.count.fill_(1)
        follow(self.net, net, 1.0)

    def add(self, net: nn.Module) -> None:
        """Take in the weights of ``net``."""
        share = 1.0 / (int(self.count) + 1)
        follow(self.net, net, share)
        self.count += 1


class Lookahead(nn.Module):
    r"""k steps forward, one step back: phi moves by alpha towards theta, and theta is set to phi.

    phi <- phi + alpha (theta - phi); theta <- phi.

    Parameters
    ----------
    net
        The network with the weights theta; a copy with phi is kept as ``net``.
    every
        k, steps.
    alpha
        0 to 1.

    References
    ----------
    Zhang et al., Lookahead optimizer, NeurIPS 2019, Algorithm 1; ISCL, Algorithm 1.
    """

    def __init__(self, net: nn.Module, every: int = 6, alpha: float = 0.5) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.every = every
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """What the slow network makes of x."""
        out: Tensor = self.net(x)
        return out

    def after_step(self, net: nn.Module, steps_done: int) -> None:
        """Every k steps, draw the weights of ``net`` back.

        Parameters
        ----------
        net
            The network that was trained.
        steps_done
            Counted from 1.
        """
        if steps_done % self.every == 0:
            follow(self.net, net, self.alpha)
            follow(net, self.net, 1.0)
