"""IDDP (Lin et al., AAAI 2023): the network's own output, re-noised with its own residual, is denoised again.

Read top to bottom: the equations as functions, the settings, the published presets, the method. What the
short preset adds stands in ``iddp_short.py``. ``docs/methods/iddp.md`` lists every departure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from pairfree.data.patches import Batch, TrainingData
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs, Stage
from pairfree.methods.parts.single import PUBLISHED, SingleConfig, SingleNetwork
from pairfree.nets.blocks import clip

STAGE = "iddp"
"""The stage of eq. (11)."""


def sign_mask(like: Tensor, rng: torch.Generator) -> Tensor:
    """The mask m of eq. (7): +1 or -1, each with probability 1/2, independent; of the shape of ``like``."""
    bits = torch.randint(2, like.shape, generator=rng, device=like.device)
    return bits.to(like.dtype) * 2 - 1


def renoise(y: Tensor, denoised: Tensor, mask: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    r"""The re-noised image y2 = F(y) + c m (y - F(y)), eqs. (7) and (8) with c = 1.

    Parameters
    ----------
    y, denoised, mask
        y, F(y) and m, (B, C, H, W).
    scale
        c, a number or (B, 1, 1, 1).

    Returns
    -------
    Tensor
        y2, (B, C, H, W), network units.

    Notes
    -----
    Noise model: zero-mean, independent between pixels, any dependence on the signal. m keeps |y - F(y)| at
    every pixel and scatters its sign.

    References
    ----------
    Lin et al., AAAI 2023, eqs. 7 and 8.
    """
    return denoised + scale * mask * (y - denoised)


def blur(y: Tensor, kernel_px: int) -> Tensor:
    """y_blur of eq. (10): the mean over kernel x kernel pixels, borders mirrored; as y, (B, C, H, W)."""
    # Departs from the paper: The averaging filter's size is stated nowhere in the paper; 3 px here
    # (`blur_px`).
    reach = kernel_px // 2
    wide = F.pad(y, (reach,) * 4, mode="reflect")
    return F.avg_pool2d(wide, kernel_px, stride=1)


def iddp_loss(
    denoised: Tensor, blurred: Tensor, denoised2: Tensor, prior: Tensor, alpha: float, beta: float
) -> Tensor:
    r"""Implicit deep denoiser prior: the twice-denoised image must equal its prior.

    Parameters
    ----------
    denoised
        F(y), (B, C, H, W), network units; may be any constant when alpha = 0.
    blurred, denoised2
        y_blur and F(y2), of the same shape.
    prior
        stopgrad F(y), or F(y) itself for the ablation of Figure 7.
    alpha, beta
        Weights of the two terms.

    Returns
    -------
    Tensor
        Scalar, squared network units.

    Notes
    -----
    Noise model: y = x + n, E[n | x] = 0, n independent between pixels, its size may depend on x.

    L = alpha mean |F(y) - y_blur|^2 + beta mean |F(y2) - stopgrad F(y)|^2,   y2 = F(y) + m (y - F(y))

    Breaks when F(y) starts out blank or at the identity (both are fixed points): the start decides what
    survives.

    References
    ----------
    Lin et al., AAAI 2023, eq. 11; means instead of sums, so that alpha and beta do not depend on the patch
    size.
    """
    # Departs from the paper: The loss takes means, not sums, so that alpha and beta do not depend on the
    # patch size.
    fidelity = torch.mean((denoised - blurred) ** 2)
    regularization = torch.mean((denoised2 - prior) ** 2)
    return alpha * fidelity + beta * regularization


@dataclass(frozen=True)
class IDDPConfig(SingleConfig):
    """Settings of IDDP as it was published."""

    alpha: float = 0.001
    """Weight of the blurred image in eq. (11)."""
    beta: float = 1.0
    """Weight of the twice-denoised image in eq. (11)."""
    blur_px: int = 3
    """Side of the averaging filter that makes y_blur, odd pixels."""
    clip: bool = True
    """Keep F(y) and y2 within the training images' range, as stored 8-bit images are."""

    # An ablation's alone.
    stop_gradient: bool = True
    """False lets gradients through y2 and the prior too (Figure 7)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = self.own_problems()
        if problems:
            raise ConfigError("iddp: " + "; ".join(problems))

    def own_problems(self) -> list[str]:
        """What is wrong with the settings that are IDDP's own, a phrase each."""
        problems = []
        if self.blur_px < 1 or self.blur_px % 2 == 0:
            problems.append(f"blur_px = {self.blur_px} must be odd")
        if self.blur_px // 2 >= self.patch_px:
            problems.append(f"blur_px = {self.blur_px} must be smaller than two patches")
        if min(self.alpha, self.beta) < 0:
            problems.append("alpha and beta must not be negative")
        return problems


# Departs from the paper: The paper says "a simple U-Net"; widths, N(0, 0.02) start and Adam's beta1 of 0.5
# are those of the first author's Noise2Grad code, and patches are flipped and turned in all 8 ways.
PAPER = IDDPConfig(
    **PUBLISHED,
    patch_px=128,
    batch_size=1,
    lr=2e-4,
    beta1=0.5,
    steps=2_000_000,
)
PRESETS = {"paper": PAPER, "paper-200k": replace(PAPER, steps=200_000)}


class IDDP(SingleNetwork):
    """Eqs. (16) and (17) by turns: F(y) is the prior, then a step down eq. (11) with that prior constant."""

    key = "iddp"
    title = "IDDP (implicit deep denoiser prior)"
    needs = Needs.NOISY
    citation = (
        "Lin et al., Self-supervised image denoising using implicit deep denoiser prior, AAAI 2023, "
        "doi:10.1609/aaai.v37i2.25249"
    )
    assumption = (
        "noise is zero-mean and independent between pixels; its size may depend on the signal"
    )
    config_type = IDDPConfig
    config: IDDPConfig

    def stages(self) -> tuple[Stage, ...]:
        """All of the budget is eq. (11)'s."""
        return (Stage(STAGE, 1.0),)

    def prepare(self, data: TrainingData, seed: int) -> None:
        """The range that ``clip`` keeps F(y) and y2 in: that of the noisy training pixels, network units."""
        pixels = data.noisy.flat
        self.low = float(pixels.min())
        self.high = float(pixels.max())

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """One step down eq. (11)."""
        loss = self.risk(batch.noisy, at)
        return self.descend(loss, at)

    def risk(self, y: Tensor, at: At) -> Tensor:
        """Eq. (11) on a batch of noisy patches (B, C, H, W): a scalar."""
        denoised = self.f(y)
        prior = denoised
        if self.config.stop_gradient:
            prior = denoised.detach()
        return self.risk_with(prior, denoised, y, at)

    def risk_with(self, prior: Tensor, denoised: Tensor, y: Tensor, at: At) -> Tensor:
        """Eq. (11) with this prior: eqs. (7) and (8), the second pass of the network, the loss.

        Parameters
        ----------
        prior
            eta_y of eq. (16), (B, C, H, W).
        denoised
            F(y) of the first term, of the same shape; may be any constant when alpha = 0.
        y
            The noisy patches, of the same shape.
        at
            Where the step stands: m follows from it.

        Returns
        -------
        Tensor
            A scalar.
        """
        config = self.config
        scale = self.renoising_scale(prior.detach(), y, at)
        prior = self.keep_in_range(prior)
        mask = sign_mask(y, at.rng("mask", y.device))
        y2 = self.keep_in_range(renoise(y, prior, mask, scale))
        denoised2 = self.f(y2)
        blurred = blur(y, config.blur_px)
        return iddp_loss(denoised, blurred, denoised2, prior, config.alpha, config.beta)

    def renoising_scale(self, prior: Tensor, y: Tensor, at: At) -> float | Tensor:
        """Factor c of ``renoise``, a number or (B, 1, 1, 1), for F(y) and y; 1 is the paper's."""
        return 1.0

    def keep_in_range(self, x: Tensor) -> Tensor:
        """``x`` within the range of the training pixels, unless ``clip`` is off."""
        # Departs from the paper: F(y) and y2 are kept within the range of the training pixels, as stored
        # 8-bit images are.
        if not self.config.clip:
            return x
        return clip(x, self.low, self.high)
