"""Noise2Self (Batson & Royer, ICML 2019): a pixel is predicted by a function that never uses it.

Such a function can only learn the signal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.data.patches import Batch
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs
from pairfree.methods.n2v import masked_loss
from pairfree.methods.parts.hidden_pixels import (
    Hidden,
    draw_phases,
    fill_hidden,
    grid_mask,
    mask_problems,
)
from pairfree.methods.parts.single import PUBLISHED, STARTED, SingleConfig, SingleNetwork


@dataclass(frozen=True)
class N2SConfig(SingleConfig):
    """Settings of Noise2Self."""

    mask_width: int = 4
    """One pixel in each square cell of this side is hidden at a time, pixels."""

    j_invariant: bool = True
    """The result is put together from mask_width^2 passes, each of which hides the pixels that it predicts.

    False: one pass over the image as it is, which shows the network the pixel as well. A network that
    predicts the image treats it as it does hidden ones; one that adds its input to what it predicts would
    pass its noise through.
    """

    predict: str = "residual"

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = mask_problems(self.mask_width, self.patch_px)
        if not self.j_invariant and self.predicts == "residual":
            problems.append(
                "j_invariant = false keeps the noise where the network predicts the residual: "
                "give predict=image too"
            )
        if problems:
            raise ConfigError("n2s: " + "; ".join(problems))


PRESETS = {
    # Departs from the paper: `cpu`: network, optimiser and precision are those of every method's `cpu`
    # preset, so that rows of a table differ in the method only.
    "cpu": N2SConfig(**STARTED),
    # Departs from the paper: `paper`: the U-Net and the schedule are those of the IDDP tables.
    "paper": N2SConfig(**PUBLISHED, predict="image", batch_size=32, lr=1e-3, steps=80_000),
}


class N2S(SingleNetwork):
    """The network predicts the hidden pixels of a grid; from such predictions the result is put together."""

    key = "n2s"
    title = "Noise2Self"
    needs = Needs.NOISY
    citation = "Batson & Royer, Noise2Self: blind denoising by self-supervision, ICML 2019, arXiv:1901.11365"
    assumption = (
        "noise is zero-mean and independent between pixels; "
        "the signal is predictable from its surroundings"
    )
    config_type = N2SConfig
    config: N2SConfig

    def __init__(
        self,
        config: N2SConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, channels, device, net)
        self.hidden = Hidden(self.net, config.mask_width)

    @property
    def denoiser(self) -> nn.Module:
        """All the passes; with ``j_invariant`` off the network itself."""
        return self.hidden if self.config.j_invariant else self.net

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Descend E|f_J(y) - y_J|^2 over one J of the partition (eq. 4), estimated with a grid a patch."""
        y = batch.noisy
        # Departs from the paper: Every patch of a batch has its own phase of the grid, drawn; the authors'
        # code takes them in turn.
        phases = draw_phases(len(y), 1, self.config.mask_width, at.rng("phase", y.device), y.device)
        mask = grid_mask(y.shape, self.config.mask_width, phases[:, 0])
        denoised = self.f(fill_hidden(y, mask))
        return self.descend(masked_loss(denoised, y, mask), at)
