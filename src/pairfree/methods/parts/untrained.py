"""Methods without a training run: what they learn, if anything, they learn as they denoise.

A run records their settings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pairfree.data.patches import Batch
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Method


class Untrained(Method):
    """A method whose ``step`` does nothing, so that every command works with it.

    Its network denoises whole images.
    """

    trains = False
    net: nn.Module

    def refuse_network(self, net: nn.Module | None) -> None:
        """ConfigError for a user's network, which there is no place for."""
        if net is not None:
            raise ConfigError(
                f"{self.key}: trains no network before it denoises, and takes no net="
            )

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Nothing; a loss of 0."""
        return {"loss": torch.zeros(())}

    def denoise(self, x: Tensor) -> Tensor:
        """What the network makes of whole images (B, C, H, W), network units."""
        out: Tensor = self.net(x)
        return out

    @property
    def denoiser(self) -> nn.Module:
        """The network."""
        return self.net


def check_untrained(method: Method, slices_around: int, budget: float | None) -> list[str]:
    """Say what a method that trains nothing makes no use of.

    Parameters
    ----------
    method
        Any.
    slices_around
        Slices on each side that images are read with.
    budget
        Minutes or steps; None where none was given.

    Returns
    -------
    list of str
        A warning about a budget that is not used.

    Raises
    ------
    ConfigError
        For slices that such a method would not learn from either.
    """
    if method.trains:
        return []
    if slices_around:
        raise ConfigError(
            f"method {method.key} learns nothing from the slices around each: leave `slices_around` out"
        )
    if budget and not method.one_image:
        return [f"method {method.key} learns nothing: the budget is not used"]
    return []
