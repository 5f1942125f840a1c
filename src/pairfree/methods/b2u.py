"""Blind2Unblind (Wang et al., CVPR 2022): blind spots teach the network, and what it sees without them is made part of the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.data.patches import Batch
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs
from pairfree.methods.parts.hidden_pixels import Hidden, draw_phases, fill, grid_mask, mask_problems
from pairfree.methods.parts.single import PUBLISHED, SingleConfig, SingleNetwork


def revisible_loss(
    hidden: Tensor, visible: Tensor, y: Tensor, mask: Tensor, weight: float, eta: float = 1.0
) -> Tensor:
    r"""Blind prediction and visible prediction, taken together, must match the noisy image.

    Noise model   y = x + n, E[n | x] = 0, n independent between pixels
    Equation      L = |h + lambda v - (lambda + 1) y|^2 + eta |h - y|^2, means over the pixels that were hidden
    Breaks when   noise is correlated: the surroundings then predict the noise of the hidden pixel
    hidden        h = f(y with pixels hidden); visible v = f(y), a constant; both (B, C, H, W), network units
    mask          (B, 1, H, W) bool: the hidden pixels
    weight        lambda; returns a scalar, squared network units
    Source        Wang et al., CVPR 2022, section 3.3 (re-visible loss and its regularisation)
    """
    blind = hidden - y
    both = blind + weight * (visible - y)
    chosen = mask.to(y.dtype)
    return torch.sum(chosen * (both**2 + eta * blind**2)) / (chosen.sum() * y.shape[1])


@dataclass(frozen=True)
class B2UConfig(SingleConfig):
    """mask_width       one pixel in each square cell of this side is hidden at a time
    masks            of the mask_width^2 phases of the grid, those that a step computes for each patch
    weight, weight_end   lambda until ``ramp_from``, and at the end; linear in between
    ramp_from        progress in 0..1 (the authors: 0.8 for one noise level, 0.4 for several)
    eta              weight of the blind term
    predict          the image, not the residual: what is seen without blind spots is never a target, and a network that adds its input to
                     its output would pass the noise of visible pixels through
    """

    mask_width: int = 4
    masks: int = 16
    weight: float = 2.0
    weight_end: float = 20.0
    ramp_from: float = 0.8
    eta: float = 1.0
    predict: str = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = mask_problems(self.mask_width, self.patch_px)
        if not 1 <= self.masks <= self.mask_width**2:
            problems.append(
                f"masks = {self.masks} must lie in 1..{self.mask_width**2}, the phases of the grid"
            )
        if self.predicts == "residual":
            problems.append(
                "a network that predicts the residual keeps the noise: give predict=image, and --init of a run that has it"
            )
        if min(self.weight, self.weight_end, self.eta) < 0 or not 0 <= self.ramp_from < 1:
            problems.append("weight, weight_end and eta must not be negative, ramp_from must lie in [0, 1)")
        if problems:
            raise ConfigError("b2u: " + "; ".join(problems))


PRESETS = {
    # Departs from the paper: `cpu`: network, optimiser and precision are those of every method's `cpu` preset; a step computes one of the
    # sixteen masks, drawn for each patch: the same loss on average.
    "cpu": B2UConfig(masks=1),
    # Departs from the paper: `paper`: the U-Net is the one of the IDDP tables, Adam has no weight decay, and the rate falls linearly over
    # the second half instead of halving every 20 epochs; pixels at the border are filled from a mirrored image, not one framed with zeros.
    "paper": B2UConfig(**PUBLISHED, predict="image", patch_px=128, batch_size=4, lr=3e-4, steps=500_000),
}


class Revisible(nn.Module):
    """(h + lambda v) / (1 + lambda), (B, C, H, W) -> same: mask_width^2 blind passes and a visible one."""

    def __init__(self, net: nn.Module, width_px: int, weight: float) -> None:
        super().__init__()
        self.hidden, self.weight = Hidden(net, width_px), weight
        self.stride = self.hidden.stride

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.hidden(x) + self.weight * self.hidden.net(x)) / (1.0 + self.weight)
        return out

    def receptive_field_px(self, channels: int) -> int:
        return self.hidden.receptive_field_px(channels)


class B2U(SingleNetwork):
    key = "b2u"
    title = "Blind2Unblind"
    needs = Needs.NOISY
    citation = "Wang et al., Blind2Unblind: self-supervised image denoising with visible blind spots, CVPR 2022, arXiv:2203.06967"
    assumption = "noise is zero-mean and independent between pixels"
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
        return self.revisible

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        y, config = batch.noisy, self.config
        visible = self.f_fixed(y)
        phases = draw_phases(len(y), config.masks, config.mask_width, at.rng("phases", y.device), y.device)
        many, seen = (one.repeat_interleave(config.masks, 0) for one in (y, visible))
        mask = grid_mask(many.shape, config.mask_width, phases.flatten())
        weight = ramped(at.progress, config)
        return self.descend(
            revisible_loss(self.f(fill(many, mask)), seen, many, mask, weight, config.eta), at
        )


def ramped(progress: float, config: B2UConfig) -> float:
    """lambda at a position in 0..1 of the training."""
    share = max(0.0, progress - config.ramp_from) / (1.0 - config.ramp_from)
    return config.weight + share * (config.weight_end - config.weight)
