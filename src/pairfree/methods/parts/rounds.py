"""Iterative Noisy N2N (Cha et al., section 3): noise on estimates of the images, a denoiser, and again."""

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


class Rounds:
    """Which network makes the estimates X' of a round, and with which weights the round begins.

    Parameters
    ----------
    net
        The denoiser, which its owner trains.
    precision
        Of the passes that make estimates.
    from_scratch
        Whether the first round begins with the weights that ``net`` was made with; else where ``net`` stands.
    """

    def __init__(self, net: nn.Module, precision: str, from_scratch: bool = False) -> None:
        self.net = net
        self.precision = precision
        self.previous = copy.deepcopy(net).requires_grad_(False)
        """``net`` as it was when the round began."""
        self.fresh = copy.deepcopy(net) if from_scratch else None
        """``net`` as it was made."""
        self.estimates: Estimates | None = None
        self.stage = ""
        """Whose estimates they are."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        """What belongs to the state that the owner saves, by name."""
        found = {"previous": self.previous}
        if self.fresh is not None:
            found["fresh"] = self.fresh
        return found

    def begin(self, optimizer: torch.optim.Optimizer, first: bool) -> None:
        """phi_{j-1} makes the estimates from now on; phi_j starts there, or, the first, from scratch."""
        follow(self.previous, self.net, 1.0)
        if first and self.fresh is not None:
            self.net.load_state_dict(self.fresh.state_dict())
        optimizer.state.clear()
        self.forget()

    def forget(self) -> None:
        """Weights have changed from outside: estimates are made anew."""
        self.estimates = None

    def estimate(
        self, noisy: PatchPool, z: Tensor, at: At, apply: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """X' of the patches z.

        Parameters
        ----------
        noisy
            The images.
        z
            The patches (B, C, P, P) that step ``at`` drew from them.
        at
            Where the step stands.
        apply
            What makes estimates of images in the place of the previous network.

        Returns
        -------
        Tensor
            (B, C, P, P), a constant.
        """
        if self.estimates is None or self.stage != at.stage:
            stride = total_stride(self.net)
            self.estimates = Estimates(noisy, apply or self.apply_previous, stride)
            self.stage = at.stage
        places = noisy.draw(at.seed, at.step, len(z))
        return self.estimates.estimate_patches(z, places)

    @torch.no_grad()
    def apply_previous(self, x: Tensor) -> Tensor:
        """What the network of the round before makes of (B, C, H, W)."""
        return run_network(self.previous.eval(), x, self.precision)
