"""DnCNN-B (Zhang et al., IEEE TIP 2017): one denoiser for white Gaussian noise of any level.

It learns from clean images alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pairfree.data.patches import Batch
from pairfree.data.unpaired import intensity_problems
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs, require
from pairfree.methods.n2c import supervised_loss
from pairfree.methods.parts.single import PUBLISHED, SingleConfig, SingleNetwork


@dataclass(frozen=True)
class DnCNNBConfig(SingleConfig):
    """Settings of DnCNN-B."""

    largest_sigma: float = 55.0 / 255.0
    """Levels are drawn evenly from 0 to this, one a patch; network units (8-bit files: grey levels / 255)."""

    intensity: str = "auto"
    """How the brightness of the two sets goes together: "auto", "common", "separate", or a window "LOW,HIGH".

    See ``data.unpaired.fit_unpaired``.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if not 0 < self.largest_sigma < math.inf:
            problems.append(f"largest_sigma = {self.largest_sigma} must be positive")
        problems += intensity_problems(self.intensity)
        if problems:
            raise ConfigError("dncnn-b: " + "; ".join(problems))


PRESETS = {
    # Departs from the paper: `cpu`: network, optimiser and precision are those of every method's `cpu`
    # preset.
    "cpu": DnCNNBConfig(),
    # Departs from the paper: `paper`: 17 layers, Adam, patches of 64 px and the schedule of the IDDP tables
    # instead of 20 layers, SGD and 50 px.
    "paper": DnCNNBConfig(
        **{**PUBLISHED, "net": "dncnn"}, patch_px=64, batch_size=128, lr=1e-3, steps=200_000
    ),
}


class DnCNNB(SingleNetwork):
    """The network learns to take off white Gaussian noise, drawn with a level of its own for each patch."""

    key = "dncnn-b"
    title = "DnCNN-B (blind Gaussian)"
    needs = Needs.CLEAN
    citation = "Zhang et al., Beyond a Gaussian denoiser, IEEE TIP 26(7), 2017, doi:10.1109/TIP.2017.2662206"
    assumption = "noise is white and Gaussian; the noisy files themselves are not learned from"
    config_type = DnCNNBConfig
    config: DnCNNBConfig

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Descend ``supervised_loss`` on clean patches with noise that is drawn."""
        clean = require(batch.clean, self.needs.value)
        rng = at.rng("noise", clean.device)
        levels = torch.rand(len(clean), 1, 1, 1, generator=rng, device=clean.device)
        sigma = self.config.largest_sigma * levels
        noisy = clean + sigma * torch.randn(clean.shape, generator=rng, device=clean.device)
        return self.descend(supervised_loss(self.f(noisy), clean), at)
