"""What the short preset adds to IDDP: a warm start, averages as prior and as result, a stronger re-noising.

``docs/methods/iddp.md`` says why, with the trials behind each choice.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.data import processes
from pairfree.data.patches import Batch
from pairfree.methods import iddp
from pairfree.methods.base import At, Stage, follow
from pairfree.methods.iddp import IDDP, IDDPConfig, sign_mask
from pairfree.methods.nb2nb import Nb2Nb, neighbor_risk, ramp_gamma
from pairfree.methods.parts.single import STARTED, run_network

WARM_START = "warm start"
"""The stage of Neighbor2Neighbor."""
PROBE = 0.25
"""Size of the probe that measures the leverage, as a fraction of the residual's standard deviation."""
LARGEST_LEVERAGE = 0.7
"""A denoiser that keeps more of the noise than this is no guide to its size."""
RAMANI = "Ramani, Blu & Unser, Monte-Carlo SURE, IEEE TIP 17(9), 2008, doi:10.1109/TIP.2008.2001404"


def leverage(denoised: Tensor, probed: Tensor, probe: Tensor) -> Tensor:
    """h, mean over a patch of dF_i / dy_i: the share of the noise that stands in F(y), by one random probe.

    Parameters
    ----------
    denoised, probed
        F(y) and F(y + probe), (B, C, H, W).
    probe
        Independent signs of one size a patch, of the same shape.

    Returns
    -------
    Tensor
        (B, 1, 1, 1), unbiased where F is linear over the probe's size.

    References
    ----------
    Ramani, Blu, Unser, IEEE TIP 17(9), 2008, eq. 13.
    """
    answer = torch.mean(probe * (probed - denoised), (1, 2, 3), keepdim=True)
    power = torch.mean(probe**2, (1, 2, 3), keepdim=True)
    return answer / power


@dataclass(frozen=True)
class ShortIDDPConfig(IDDPConfig):
    """Settings of the paper, and of what the short preset adds: at their defaults, nothing."""

    warm_share: float = 0.0
    """Share of the budget spent on Neighbor2Neighbor before eq. (11) begins, below 1; none after the shipped
    start. 0 is the paper."""
    turnovers: float = 0.0
    """How many times the prior, a running average of the weights, is renewed in the course of eq. (11); 0 is
    the paper (the prior is the network itself)."""
    window: float = 0.0
    """Share of eq. (11)'s steps over which the weights that denoise in the end are averaged; 0 is the paper
    (no average)."""
    noise_scale: float = 1.0
    """c, size of the re-noising; 1 is the paper."""
    leverage: float = 0.0
    """The re-noising is divided by (1 - h) to the power leverage/2, h the leverage of the prior; 0 is the
    paper."""
    constant_lr: float = 0.0
    """Rate of eq. (11) as a fraction of ``lr``, held constant; 0 follows the schedule, as the paper does."""
    prior_batch: int = 0
    """Patches a step of eq. (11), of the ``batch_size`` that are drawn; 0 takes all."""

    def own_problems(self) -> list[str]:
        """What is wrong with the settings that are IDDP's own, a phrase each."""
        problems = super().own_problems()
        if not 0 <= self.warm_share < 1:
            problems.append(f"warm_share = {self.warm_share} must lie in [0, 1)")
        for name in ("window", "leverage"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"{name} = {getattr(self, name)} must lie in [0, 1]")
        for name in ("turnovers", "noise_scale", "constant_lr", "prior_batch"):
            if getattr(self, name) < 0:
                problems.append(f"{name} = {getattr(self, name)} must not be negative")
        if not self.stop_gradient and (self.turnovers > 0 or self.leverage > 0):
            problems.append(
                "stop_gradient = false needs turnovers = 0 and leverage = 0: "
                "gradients cannot reach an averaged prior"
            )
        if self.patch_px % 2:
            problems.append(f"patch_px = {self.patch_px} must be even")
        return problems

    @property
    def smallest_px(self) -> int:
        """Half a patch where Neighbor2Neighbor comes first, else a patch."""
        return self.patch_px // 2 if self.warm_share > 0 else self.patch_px


PRESETS: dict[str, IDDPConfig] = {
    # Departs from the paper: `cpu`: alpha is 0, so the blurred image has no part in it; `EvenUNet`
    # predicts the residual; Muon takes Adam's place for the inner kernels; batches of 4, gradients limited to
    # a joint norm of 1, bfloat16 convolutions where they are faster.
    "cpu": ShortIDDPConfig(
        **STARTED,
        patch_px=128,
        alpha=0.0,
        warm_share=0.45,
        turnovers=0.5,
        window=0.1,
        leverage=0.5,
        constant_lr=0.5,
        prior_batch=4,
    ),
    **iddp.PRESETS,
}


class ShortIDDP(IDDP):
    """IDDP within minutes. With the settings of its additions at their defaults it is IDDP."""

    config_type = ShortIDDPConfig
    config: ShortIDDPConfig

    def __init__(
        self,
        config: ShortIDDPConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, channels, device, net)
        # Departs from the paper: `cpu`: the prior is a slow running average of the network's weights.
        if config.turnovers > 0:
            self.prior = copy.deepcopy(self.net).requires_grad_(False)
            self.networks["prior"] = self.prior
        # Departs from the paper: `cpu`: what denoises in the end is a running average of the weights, over a
        # tenth of the stage.
        if config.window > 0:
            self.average = copy.deepcopy(self.net).requires_grad_(False)
            self.networks["average"] = self.average

    @property
    def denoiser(self) -> nn.Module:
        """What is applied in the end: the average where there is one, else the network."""
        return self.average if self.config.window > 0 else self.net

    @property
    def sources(self) -> tuple[str, ...]:
        """The papers of what is used, IDDP's first."""
        own, *others = super().sources
        added = []
        if self.config.warm_share > 0 and not self.started:
            added.append(Nb2Nb.citation)
        if self.config.leverage > 0:
            added.append(RAMANI)
        return (own, *added, *others)

    def stages(self) -> tuple[Stage, ...]:
        """The warm start, where there is one, and eq. (11)."""
        share = 0.0 if self.started else self.config.warm_share
        second = Stage(iddp.STAGE, 1.0 - share)
        # Departs from the paper: `cpu`: Neighbor2Neighbor comes first, unless the network begins from the
        # shipped start.
        return (Stage(WARM_START, share), second) if share > 0 else (second,)

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """One step of the warm start, or one down eq. (11)."""
        if at.stage == WARM_START:
            return self.warm_step(batch.noisy, at)
        config = self.config
        # Departs from the paper: `cpu`: the rate of eq. (11) is constant.
        rate = self.rate * config.constant_lr if config.constant_lr > 0 else None
        y = self.take_patches(batch.noisy)
        logged = self.descend(self.risk(y, at), at, rate)
        averaged_steps = max(1.0, config.window * at.stage_steps)
        self.move_averages(config.turnovers / at.stage_steps, 1.0 / averaged_steps)
        return logged

    def warm_step(self, y: Tensor, at: At) -> dict[str, Tensor]:
        """One step of Neighbor2Neighbor on (B, C, H, W), which takes prior and average along."""
        loss = neighbor_risk(self, y, ramp_gamma(at.progress), at)
        logged = self.descend(loss, at)
        self.move_averages(1.0, 1.0)
        return logged

    def take_patches(self, y: Tensor) -> Tensor:
        """The first ``prior_batch`` of the patches (B, C, H, W), or all."""
        if self.config.prior_batch == 0:
            return y
        return y[: processes.own_share(self.config.prior_batch)]

    def move_averages(self, prior_rate: float, average_rate: float) -> None:
        """Move prior and average, where there are any, towards the network by this much of the way."""
        if self.config.turnovers > 0:
            follow(self.prior, self.net, min(1.0, prior_rate))
        if self.config.window > 0:
            follow(self.average, self.net, average_rate)

    def risk(self, y: Tensor, at: At) -> Tensor:
        """Eq. (11) with the output of the averaged prior; the network's own where alpha gives it weight."""
        config = self.config
        if config.turnovers == 0 and (config.alpha > 0 or not config.stop_gradient):
            return super().risk(y, at)
        prior = self.apply_prior(y)
        denoised = self.f(y) if config.alpha > 0 else prior
        return self.risk_with(prior, denoised, y, at)

    @torch.no_grad()
    def apply_prior(self, y: Tensor) -> Tensor:
        """F(y), a constant, by what serves as prior: the average where there is one, else the network."""
        prior = self.prior if self.config.turnovers > 0 else self.net
        return run_network(prior, y, self.precision)

    @torch.no_grad()
    def renoising_scale(self, prior: Tensor, y: Tensor, at: At) -> float | Tensor:
        """Factor c = noise_scale (1 - h)^(-leverage/2), a number or (B, 1, 1, 1), for F(y) and y."""
        config = self.config
        if config.leverage == 0:
            return config.noise_scale
        # Departs from the paper: `cpu`: the re-noising is made larger where the denoiser keeps a part of the
        # noise.
        spread = torch.std(y - prior, (1, 2, 3), keepdim=True)
        signs = sign_mask(y, at.rng("probe", y.device))
        probe = PROBE * spread.clamp_min(1e-6) * signs
        probed = self.apply_prior(y + probe)
        h = leverage(prior, probed, probe).clamp(0.0, LARGEST_LEVERAGE)
        return config.noise_scale * (1.0 - h) ** (-0.5 * config.leverage)
