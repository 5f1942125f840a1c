"""Iterative Noisy N2N (Cha et al., section 3): noise on estimates of the images, a denoiser from it, better estimates, and again."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pairfree.data.patches import PatchPool
from pairfree.methods.base import At, follow
from pairfree.methods.parts.estimates import Estimates
from pairfree.methods.parts.single import run_network
from pairfree.nets.traits import total_stride


def g2g_loss(denoised: Tensor, target: Tensor) -> Tensor:
    r"""Noise2Noise on generated pairs.

    Noise model   Z = x + N, N zero-mean, additive, independent of x; any distribution and correlation
    Equation      L_G2G = mean (Z_1 - X(Z_2))^2, Z_i = X' + g1(r_i), X' = g2(Z) (9) or X_{j-1}(Z) (10)
    denoised      X(Z_2); target Z_1, or its expectation X', which has the same gradient in expectation and less scatter
    Shapes        both (B, C, H, W), network units; returns a scalar
    Source        Cha et al., eqs. 9 and 10 and the text below them
    """
    return torch.mean((target - denoised) ** 2)


class Rounds:
    """Which network makes the estimates X' of a round, and with which weights the round begins.

    net          the denoiser, which its owner trains
    precision    of the passes that make estimates
    previous     ``net`` as it was when the round began; belongs to the state that its owner saves
    """

    def __init__(self, net: nn.Module, precision: str) -> None:
        self.net, self.precision = net, precision
        self.fresh = copy.deepcopy(net)
        self.previous = copy.deepcopy(net).requires_grad_(False)
        self.estimates: tuple[str, Estimates] | None = None

    def begin(self, optimizer: torch.optim.Optimizer, afresh: bool = False) -> None:
        """phi_{j-1} makes the estimates from now on; phi_j starts there, or with the weights that ``net`` was made with."""
        follow(self.previous, self.net, 1.0)
        if afresh:
            self.net.load_state_dict(self.fresh.state_dict())
        optimizer.state.clear()
        self.forget()

    def forget(self) -> None:
        """Weights have changed from outside: estimates are made anew."""
        self.estimates = None

    def estimated(
        self, noisy: PatchPool, z: Tensor, at: At, apply: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """X' of the patches z (B, C, P, P) that step ``at`` drew from ``noisy``; ``apply`` stands for the previous network."""
        if self.estimates is None or self.estimates[0] != at.stage:
            self.estimates = at.stage, Estimates(noisy, apply or self._previously, total_stride(self.net))
        return self.estimates[1].of(z, noisy.draw(at.seed, at.step, len(z)))

    @torch.no_grad()
    def _previously(self, x: Tensor) -> Tensor:
        return run_network(self.previous.eval(), x, self.precision)
