"""The shipped network as it is: trained once on drawn scenes, it learns nothing from the user's files."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.errors import ConfigError
from pairfree.methods.base import Needs
from pairfree.methods.parts.untrained import Untrained
from pairfree.nets.blocks import placed
from pairfree.nets.start import SCENES, ShippedNet

NOISES = ("auto", "white", "correlated")


@dataclass(frozen=True)
class ShippedConfig:
    """Settings of the shipped network."""

    even: bool = True
    """The noise of each plane is measured and made even first: the network knows noise of one size only."""

    noise: str = "auto"
    """What the noise is like: "white", "correlated", or "auto", as it is measured in each plane."""

    def __post_init__(self) -> None:
        if not self.even:
            raise ConfigError("shipped: even = false: the network knows noise of one size only")
        if self.noise not in NOISES:
            raise ConfigError(f"shipped: noise = {self.noise!r} must be one of {', '.join(NOISES)}")


PRESETS = {"cpu": ShippedConfig(), "paper": ShippedConfig()}


class Shipped(Untrained):
    """One of three networks for each plane, by whether its noise is correlated and whether it has colours."""

    key = "shipped"
    title = "The shipped network"
    needs = Needs.NOISY
    citation = SCENES
    assumption = (
        "noise is zero-mean, its variance constant or growing in a line with the brightness; "
        "what the images show is like scenes of edges, blobs, lines and textures"
    )
    any_channels = True
    config_type = ShippedConfig
    config: ShippedConfig

    # Departs from the paper: The scenes are pairfree's own, and show what microscopes and scanners show too;
    # the noise is made even, instead of being drawn at levels that the network must tell apart.

    def __init__(
        self,
        config: ShippedConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        self.refuse_network(net)
        self.config = config
        self.net = placed(ShippedNet(), device)
        self.networks = {"net": self.net}

    def denoise_plane(self, x: Tensor, correlated: bool) -> Tensor:
        """(B, C, H, W) by the network for that kind of noise."""
        if self.config.noise != "auto":
            correlated = self.config.noise == "correlated"
        out: Tensor = self.net(x, correlated)
        return out
