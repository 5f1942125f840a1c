"""IDDP (Lin et al., AAAI 2023): the network's own output, re-noised with its own residual, is what it learns to denoise.

Read top to bottom: the equation as functions, the settings, the two presets, the method. ``docs/methods/iddp.md`` lists every departure.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pairfree.data import processes
from pairfree.data.patches import Batch, TrainingData
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs, Stage, follow
from pairfree.methods.nb2nb import Nb2Nb, neighbor_risk, ramped
from pairfree.methods.parts.single import PUBLISHED, SingleConfig, SingleNetwork, run_network
from pairfree.nets.blocks import clip

PROBE = 0.25
"""Size of the probe that measures the leverage, as a fraction of the residual's standard deviation."""
RAMANI = "Ramani, Blu & Unser, Monte-Carlo SURE, IEEE TIP 17(9), 2008, doi:10.1109/TIP.2008.2001404"
LARGEST_LEVERAGE = 0.7
"""A denoiser that keeps more of the noise than this is no guide to its size."""


def sign_mask(like: Tensor, rng: torch.Generator) -> Tensor:
    """m of eq. (7): +1 or -1 with probability 1/2 each, independent per element; shape and dtype of ``like``."""
    return torch.randint(2, like.shape, generator=rng, device=like.device).to(like.dtype) * 2 - 1


def renoise(y: Tensor, denoised: Tensor, mask: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    r"""The re-noised image y2 = F(y) + c m (y - F(y)).

    Noise model   zero-mean, independent between pixels, any dependence on the signal: m keeps |y - F(y)| per pixel and scatters its sign.
    Equation      (7)-(8) of the paper with c = 1
    y, denoised, mask   (B, C, H, W);  scale c a number or (B, 1, 1, 1)
    Returns       (B, C, H, W), network units
    """
    return denoised + scale * mask * (y - denoised)


def leverage(denoised: Tensor, probed: Tensor, probe: Tensor) -> Tensor:
    """h, mean over a patch of dF_i / dy_i: the share of the noise that stands in F(y), by one random probe.

    probed      F(y + probe); probe (B, C, H, W), independent signs of one size a patch
    Returns     (B, 1, 1, 1), unbiased where F is linear over the probe's size
    Source      Ramani, Blu, Unser, IEEE TIP 17(9), 2008, eq. 13
    """
    return torch.mean(probe * (probed - denoised), (1, 2, 3), keepdim=True) / torch.mean(
        probe**2, (1, 2, 3), keepdim=True
    )


def blur(y: Tensor, kernel_px: int) -> Tensor:
    """y_blur: mean over kernel x kernel pixels, borders mirrored. The paper says "averaging filter" and not how large. Same shape as y."""
    # Departs from the paper: The averaging filter's size is stated nowhere in the paper; 3 px here (`blur_px`).
    reach = kernel_px // 2
    return F.avg_pool2d(F.pad(y, (reach,) * 4, mode="reflect"), kernel_px, stride=1)


def iddp_loss(
    denoised: Tensor, blurred: Tensor, denoised2: Tensor, prior: Tensor, alpha: float, beta: float
) -> Tensor:
    r"""Implicit deep denoiser prior: the twice-denoised image must equal its prior.

    Noise model   y = x + n, E[n | x] = 0, n independent between pixels, its size may depend on x.
    Equation      L = alpha mean |F(y) - y_blur|^2 + beta mean |F(y2) - stopgrad F(y)|^2,   y2 = F(y) + m (y - F(y))
    Breaks when   F(y) starts out blank or at the identity (both are fixed points): the start decides what survives.
    denoised      F(y), (B, C, H, W), network units; may be any constant when alpha = 0
    blurred       y_blur; denoised2 F(y2); prior stopgrad F(y), or F(y) itself for the ablation of Figure 7; all of one shape
    Returns       scalar, squared network units
    Source        Lin et al., AAAI 2023, eq. 11; means instead of sums, so that alpha and beta do not depend on the patch size
    """
    # Departs from the paper: The loss takes means, not sums, so that alpha and beta do not depend on the patch size.
    return alpha * torch.mean((denoised - blurred) ** 2) + beta * torch.mean((denoised2 - prior) ** 2)


@dataclass(frozen=True)
class IDDPConfig(SingleConfig):
    """alpha, beta     weights of eq. (11)
    blur_px         side of the averaging filter, odd pixels
    stop_gradient   False lets gradients through y2 and the prior too (Figure 7, ablation)
    noise_scale     c, size of the re-noising; 1 is the paper
    clip            keep F(y) and y2 within the training images' range, as stored 8-bit images are
    warm_share      share of the budget spent on Neighbor2Neighbor before eq. (11) begins; 0 is the paper
    turnovers       how many times the prior, a running average of the weights, is renewed in the course of eq. (11); 0 is the paper (the
                    prior is the network itself)
    window          share of eq. (11)'s steps over which the weights that denoise in the end are averaged; 0 is the paper (no average)
    leverage        the re-noising is divided by (1 - h) to the power leverage/2, h the leverage of the prior; 0 is the paper
    constant_lr     rate of eq. (11) as a fraction of ``lr``, held constant; 0 follows the schedule, as the paper does
    prior_batch     patches a step of eq. (11), of the ``batch_size`` that are drawn; 0 takes all
    """

    alpha: float = 0.001
    beta: float = 1.0
    blur_px: int = 3
    stop_gradient: bool = True
    noise_scale: float = 1.0
    clip: bool = True
    warm_share: float = 0.0
    turnovers: float = 0.0
    window: float = 0.0
    leverage: float = 0.0
    constant_lr: float = 0.0
    prior_batch: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if self.blur_px < 1 or self.blur_px % 2 == 0:
            problems.append(f"blur_px = {self.blur_px} must be odd")
        if not 0 <= self.warm_share < 1:
            problems.append(f"warm_share = {self.warm_share} must lie in [0, 1)")
        for name in ("window", "leverage"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"{name} = {getattr(self, name)} must lie in [0, 1]")
        if self.constant_lr < 0:
            problems.append(f"constant_lr = {self.constant_lr} must not be negative")
        if self.prior_batch < 0:
            problems.append(f"prior_batch = {self.prior_batch} must not be negative")
        if not self.stop_gradient and (self.turnovers > 0 or self.leverage > 0):
            problems.append(
                "stop_gradient = false needs turnovers = 0 and leverage = 0: gradients cannot reach an averaged prior"
            )
        if self.patch_px % 2:
            problems.append(f"patch_px = {self.patch_px} must be even")
        if self.blur_px // 2 >= self.patch_px:
            problems.append(f"blur_px = {self.blur_px} must be smaller than two patches")
        if min(self.alpha, self.beta, self.noise_scale, self.turnovers) < 0:
            problems.append("alpha, beta, noise_scale and turnovers must not be negative")
        if problems:
            raise ConfigError("iddp: " + "; ".join(problems))

    @property
    def smallest_px(self) -> int:
        return self.patch_px // 2 if self.warm_share > 0 else self.patch_px


# Departs from the paper: The paper says "a simple U-Net"; widths, N(0, 0.02) start and Adam's beta1 of 0.5 are those of the first author's
# Noise2Grad code, and patches are flipped and turned in all 8 ways.
_PAPER = IDDPConfig(
    **PUBLISHED,
    patch_px=128,
    batch_size=1,
    lr=2e-4,
    beta1=0.5,
    steps=2_000_000,
)
PRESETS = {
    # Departs from the paper: `cpu`: alpha is 0, so the blurred image has no part in it; `ShuffleUNet` predicts the residual; Muon takes
    # Adam's place for the inner kernels; batches of 4, gradients limited to a joint norm of 1, bfloat16 convolutions where they are
    # faster.
    "cpu": IDDPConfig(
        patch_px=128,
        alpha=0.0,
        warm_share=0.45,
        turnovers=0.5,
        window=0.1,
        leverage=0.5,
        constant_lr=0.5,
        prior_batch=4,
    ),
    "paper": _PAPER,
    "paper-200k": IDDPConfig(**{**vars(_PAPER), "steps": 200_000}),
}


class IDDP(SingleNetwork):
    key = "iddp"
    title = "IDDP (implicit deep denoiser prior)"
    needs = Needs.NOISY
    citation = "Lin et al., Self-supervised image denoising using implicit deep denoiser prior, AAAI 2023, doi:10.1609/aaai.v37i2.25249"
    assumption = "noise is zero-mean and independent between pixels; its size may depend on the signal"
    config_type = IDDPConfig
    config: IDDPConfig

    def __init__(
        self,
        config: IDDPConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: torch.nn.Module | None = None,
    ) -> None:
        super().__init__(config, channels, device, net)
        # Departs from the paper: `cpu`: the prior is a slow running average of the network's weights.
        if config.turnovers > 0:
            self.prior = copy.deepcopy(self.net).requires_grad_(False)
            self.networks["prior"] = self.prior
        # Departs from the paper: `cpu`: what denoises in the end is a running average of the weights, over a tenth of the stage.
        if config.window > 0:
            self.average = copy.deepcopy(self.net).requires_grad_(False)
            self.networks["average"] = self.average

    def stages(self) -> tuple[Stage, ...]:
        share = self.config.warm_share
        second = Stage("iddp", 1.0 - share)
        return (Stage("warm start", share), second) if share > 0 else (second,)

    @property
    def sources(self) -> tuple[str, ...]:
        own, *others = super().sources
        warm = (Nb2Nb.citation,) if self.config.warm_share > 0 else ()
        return (own, *warm, *((RAMANI,) if self.config.leverage > 0 else ()), *others)

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        # Departs from the paper: `cpu`: Neighbor2Neighbor comes first.
        if at.stage == "warm start":
            logged = self.descend(neighbor_risk(self, batch.noisy, ramped(at.progress), at), at)
            self._follow(1.0, 1.0)
            return logged
        noisy = (
            batch.noisy[: processes.own_share(self.config.prior_batch)]
            if self.config.prior_batch
            else batch.noisy
        )
        loss = self.risk(noisy, at)
        # Departs from the paper: `cpu`: the rate of eq. (11) is constant.
        logged = self.descend(
            loss, at, self.config.lr * self.config.constant_lr if self.config.constant_lr > 0 else None
        )
        self._follow(
            self.config.turnovers / at.stage_steps, 1.0 / max(1.0, self.config.window * at.stage_steps)
        )
        return logged

    def _follow(self, prior_rate: float, average_rate: float) -> None:
        """Move prior and average, where there are any, towards the network by this much of the way."""
        if self.config.turnovers > 0:
            follow(self.prior, self.net, min(1.0, prior_rate))
        if self.config.window > 0:
            follow(self.average, self.net, average_rate)

    def risk(self, y: Tensor, at: At) -> Tensor:
        """Eq. (11) on a batch of noisy patches (B, C, H, W)."""
        config = self.config
        mask = sign_mask(y, at.rng("mask", y.device))
        # F(y) with a graph serves alpha's term, the prior and, for the ablation, y2; an averaged prior has no graph
        graph = config.turnovers == 0 and (config.alpha > 0 or not config.stop_gradient)
        denoised = self.f(y) if graph else self._prior_of(y)
        prior = self._clipped(denoised.detach() if config.stop_gradient else denoised)
        y2 = self._clipped(renoise(y, prior, mask, self._scale(y, denoised.detach(), at)))
        if config.alpha > 0 and not graph:
            denoised = self.f(y)
        return iddp_loss(denoised, blur(y, config.blur_px), self.f(y2), prior, config.alpha, config.beta)

    def prepare(self, data: TrainingData, seed: int) -> None:
        """The range that ``clip`` keeps F(y) and y2 in: that of the noisy training pixels, network units."""
        self.low, self.high = float(data.noisy.flat.min()), float(data.noisy.flat.max())

    def _clipped(self, x: Tensor) -> Tensor:
        # Departs from the paper: F(y) and y2 are kept within the range of the training pixels, as stored 8-bit images are.
        return clip(x, self.low, self.high) if self.config.clip else x

    @torch.no_grad()
    def _scale(self, y: Tensor, denoised: Tensor, at: At) -> float | Tensor:
        """c of the re-noising, a number or (B, 1, 1, 1)."""
        config = self.config
        if config.leverage == 0:
            return config.noise_scale
        # Departs from the paper: `cpu`: the re-noising is made larger where the denoiser keeps a part of the noise.
        size = PROBE * torch.std(y - denoised, (1, 2, 3), keepdim=True).clamp_min(1e-6)
        probe = size * sign_mask(y, at.rng("probe", y.device))
        h = leverage(denoised, self._prior_of(y + probe), probe).clamp(0.0, LARGEST_LEVERAGE)
        return config.noise_scale * (1.0 - h) ** (-0.5 * config.leverage)

    @property
    def denoiser(self) -> torch.nn.Module:
        """What is applied in the end: the average where there is one, else the network."""
        return self.average if self.config.window > 0 else self.net

    @torch.no_grad()
    def _prior_of(self, y: Tensor) -> Tensor:
        """F(y) by the network that serves as prior: the average where there is one, else the network itself."""
        return run_network(self.prior if self.config.turnovers > 0 else self.net, y, self.precision)
