"""Blind2Unblind (Wang et al., CVPR 2022): blind spots teach the network.

What it sees without them is made part of the loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.data.patches import Batch
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs
from pairfree.methods.parts.hidden_pixels import (
    Hidden,
    draw_phases,
    fill_hidden,
    grid_mask,
    mask_problems,
)
from pairfree.methods.parts.single import PUBLISHED, SingleConfig, SingleNetwork


def revisible_loss(
    hidden: Tensor, visible: Tensor, y: Tensor, mask: Tensor, weight: float, eta: float = 1.0
) -> Tensor:
    r"""Blind prediction and visible prediction, taken together, must match the noisy image.

    L = |h + lambda v - (lambda + 1) y|^2 + eta |h - y|^2, means over the pixels that were hidden.

    Parameters
    ----------
    hidden
        h = f(y with pixels hidden), (B, C, H, W), network units.
    visible
        v = f(y), a constant, likewise.
    y
        The noisy image, likewise.
    mask
        (B, 1, H, W) bool: the hidden pixels.
    weight
        lambda.
    eta
        Weight of the blind term.

    Returns
    -------
    Tensor
        Scalar, squared network units.

    Notes
    -----
    Noise model: y = x + n, E[n | x] = 0, n independent between pixels.

    Breaks when noise is correlated: the surroundings then predict the noise of the hidden pixel.

    References
    ----------
    Wang et al., CVPR 2022, section 3.3 (re-visible loss and its regularisation).
    """
    blind = hidden - y
    both = blind + weight * (visible - y)
    chosen = mask.to(y.dtype)
    return torch.sum(chosen * (both**2 + eta * blind**2)) / (chosen.sum() * y.shape[1])


@dataclass(frozen=True)
class B2UConfig(SingleConfig):
    """Settings of Blind2Unblind."""

    mask_width: int = 4
    """One pixel in each square cell of this side is hidden at a time, pixels."""

    masks: int = 16
    """Of the mask_width^2 phases of the grid, those that a step computes for each patch."""

    weight: float = 2.0
    """lambda until ``ramp_from``."""

    weight_end: float = 20.0
    """lambda at the end; it grows linearly from ``ramp_from`` on."""

    ramp_from: float = 0.8
    """Progress in 0..1 (the authors: 0.8 for one noise level, 0.4 for several)."""

    eta: float = 1.0
    """Weight of the blind term."""

    predict: str = "image"
    """The image, not the residual.

    What is seen without blind spots is never a target, and a network that adds its input to its output would
    pass the noise of visible pixels through.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = mask_problems(self.mask_width, self.patch_px)
        phases = self.mask_width**2
        if not 1 <= self.masks <= phases:
            problems.append(f"masks = {self.masks} must lie in 1..{phases}, the phases of the grid")
        if self.predicts == "residual":
            problems.append(
                "a network that predicts the residual keeps the noise: "
                "give predict=image, and `init` of a run that has it"
            )
        if min(self.weight, self.weight_end, self.eta) < 0 or not 0 <= self.ramp_from < 1:
            problems.append(
                "weight, weight_end and eta must not be negative, ramp_from must lie in [0, 1)"
            )
        if problems:
            raise ConfigError("b2u: " + "; ".join(problems))


PRESETS = {
    # Departs from the paper: `cpu`: network, optimiser and precision are those of every method's `cpu`
    # preset; a step computes one of the sixteen masks, drawn for each patch: the same loss on average.
    "cpu": B2UConfig(masks=1),
    # Departs from the paper: `paper`: the U-Net is the one of the IDDP tables, Adam has no weight decay, and
    # the rate falls linearly over the second half instead of halving every 20 epochs; pixels at the border
    # are filled from a mirrored image, not one framed with zeros.
    "paper": B2UConfig(
        **PUBLISHED, predict="image", patch_px=128, batch_size=4, lr=3e-4, steps=500_000
    ),
}


class Revisible(nn.Module):
    """(h + lambda v) / (1 + lambda), (B, C, H, W) -> same: mask_width^2 blind passes and a visible one.

    Parameters
    ----------
    net
        f, of h = f(y with pixels hidden) and v = f(y).
    width_px
        Side of the cells in each of which a pixel is hidden.
    weight
        lambda.
    """

    def __init__(self, net: nn.Module, width_px: int, weight: float) -> None:
        super().__init__()
        self.hidden = Hidden(net, width_px)
        self.weight = weight
        self.stride = self.hidden.stride

    def forward(self, x: Tensor) -> Tensor:
        """The weighted mean of blind and visible prediction."""
        both = self.hidden(x) + self.weight * self.hidden.net(x)
        out: Tensor = both / (1.0 + self.weight)
        return out

    def receptive_field_px(self, channels: int) -> int:
        """That of the blind prediction, the larger of the two."""
        return self.hidden.receptive_field_px(channels)


class B2U(SingleNetwork):
    """The network predicts hidden pixels; what it says of visible ones is made part of the loss."""

    key = "b2u"
    title = "Blind2Unblind"
    needs = Needs.NOISY
    citation = (
        "Wang et al., Blind2Unblind: self-supervised image denoising with visible blind spots, CVPR 2022, "
        "arXiv:2203.06967"
    )
    assumption = "noise is zero-mean and independent between pixels"
    config_type = B2UConfig
    config: B2UConfig

    def __init__(
        self,
        config: B2UConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, channels, device, net)
        self.revisible = Revisible(self.net, config.mask_width, config.weight_end)

    @property
    def denoiser(self) -> nn.Module:
        """Blind and visible prediction together."""
        return self.revisible

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Descend ``revisible_loss`` over masks that are drawn for each patch."""
        config = self.config
        y = batch.noisy
        visible = self.f_fixed(y)
        rng = at.rng("phases", y.device)
        phases = draw_phases(len(y), config.masks, config.mask_width, rng, y.device)
        repeated = y.repeat_interleave(config.masks, 0)
        visible = visible.repeat_interleave(config.masks, 0)
        mask = grid_mask(repeated.shape, config.mask_width, phases.flatten())
        hidden = self.f(fill_hidden(repeated, mask))
        weight = ramp_weight(at.progress, config)
        return self.descend(revisible_loss(hidden, visible, repeated, mask, weight, config.eta), at)


def ramp_weight(progress: float, config: B2UConfig) -> float:
    """Weight lambda at a position in 0..1 of the training."""
    share = max(0.0, progress - config.ramp_from) / (1.0 - config.ramp_from)
    return config.weight + share * (config.weight_end - config.weight)
