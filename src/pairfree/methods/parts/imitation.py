"""What GAN2GAN and GCBD share: a generator that imitates the noise seen in the smooth areas of the noisy images."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pairfree.data.patches import PatchPool, TrainingData
from pairfree.errors import ConfigError
from pairfree.measure.copula import REACH_PX, TABLE_END, fit_copula
from pairfree.measure.smooth_areas import (
    GCBD_SUB_PX,
    LEAST_PATCH_PX,
    MOST,
    RULES,
    NoisePatches,
    doubts,
    extract,
)
from pairfree.methods.base import At, check_positive, set_rate, update
from pairfree.methods.parts.single import SingleConfig, SingleNetwork
from pairfree.nets.blocks import placed
from pairfree.nets.gan2gan import LATENT, CopulaNoise, NoiseGenerator, WassersteinCritic
from pairfree.sampling import spaced_indices

GENERATIVE = "generative"
SHOWN = 64
"""Patches, spread over those that were found, that the report shows and compares."""
COPULA_PATCHES = 4000
"""Enough for a distribution and 33 x 33 correlations; the W-GAN gets the paper's 20,000."""
PUBLISHED: dict[str, Any] = {
    "net": "dncnn",
    "optimizer": "adam",
    "beta2": 0.999,
    "max_norm": 1e9,
    "lr": 1e-3,
    "schedule": "halvings",
    "precision": "float32",
    "batch_size": 128,
    "minutes": 0.0,
}
"""The denoiser and its training in GAN2GAN's tables."""
_say = logging.getLogger("pairfree")


def wasserstein_loss(real: Tensor, fake: Tensor) -> Tensor:
    r"""What critics maximise and generators minimise.

    Equation   L_n = E[f1(n)] - E[f1(g1(r))] (5);  L_Z = E[f2(Z)] - E[f2(g2(Z) + g1(r))] (6)
    real, fake scores of any shape; returns a scalar in units of the score
    Source     Cha et al., GAN2GAN, eqs. 5 and 6 (W-GAN, Arjovsky et al. 2017)
    """
    return torch.mean(real) - torch.mean(fake)


@dataclass(frozen=True)
class ImitationConfig(SingleConfig):
    """generator           what imitates the noise: "wgan", g1 of the papers, or "copula", measured and not trained (``measure.copula``)
    rule                how smooth areas are found: "wavelet", GAN2GAN's eq. (4), or "gcbd", its eq. (3)
    noise_patch_px      side of the noise patches, even, from 32 up; images with little smooth area need smaller ones
    generator_px        side of what the W-GAN's generator makes at once, 32, 64, ...; larger noise is put together from it; 0 is patch_px
    smooth_limit        lambda of rule (4), with all sub-bands alike, as printed; 0: it and their proportions are chosen from the data
    critic_width        channels of the critics' first level
    critic_steps, critic_clip   updates of the critics for one of the generators, and the bound of their weights
    critic_lr, generator_lr     rates of RMSprop and Adam; the latter falls linearly to 0 over the last two thirds
    generative_batch    patches a step of the generative model, at most batch_size
    """

    generator: str = "wgan"
    rule: str = "wavelet"
    noise_patch_px: int = 96
    generator_px: int = 0
    smooth_limit: float = 0.0
    critic_width: int = 128
    critic_steps: int = 5
    critic_clip: float = 0.02
    critic_lr: float = 5e-5
    generator_lr: float = 4e-4
    generative_batch: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        names = (
            "critic_width",
            "critic_steps",
            "critic_clip",
            "critic_lr",
            "generator_lr",
            "generative_batch",
        )
        check_positive(type(self).__name__, [(name, getattr(self, name)) for name in names])
        problems = []
        if self.generator not in ("wgan", "copula"):
            problems.append(f"generator = {self.generator!r} must be wgan or copula")
        if self.rule not in RULES:
            problems.append(f"rule = {self.rule!r} must be one of {', '.join(RULES)}")
        if self.noise_patch_px < LEAST_PATCH_PX or self.noise_patch_px % (
            GCBD_SUB_PX if self.rule == "gcbd" else 2
        ):
            problems.append(
                f"noise_patch_px = {self.noise_patch_px} must be even, at least {LEAST_PATCH_PX} (a multiple of 16 with rule gcbd)"
            )
        if self.generator == "wgan":
            problems += self._generator_problems()
        if self.smooth_limit < 0:
            problems.append("smooth_limit must not be negative")
        problems += self.own_problems()
        if problems:
            raise ConfigError(f"{type(self).__name__}: " + "; ".join(problems))

    @property
    def made_px(self) -> int:
        """Side of what the generator makes at once."""
        return self.generator_px or self.patch_px

    def _generator_problems(self) -> list[str]:
        px, most = self.made_px, min(self.patch_px, self.noise_patch_px)
        if 32 <= px <= most and px & (px - 1) == 0:
            return []
        return [f"generator_px = {px} must be 32, 64, ... and not larger than patch_px and noise_patch_px"]

    def own_problems(self) -> list[str]:
        """What is wrong with the settings that a subclass adds."""
        return []


class Imitation(SingleNetwork):
    """Owns g1 and its critic f1, or the measured noise, and makes noise for a batch."""

    config: ImitationConfig

    def __init__(
        self,
        config: ImitationConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, channels, device, net)
        self.place = torch.device(device)
        self.noise: CopulaNoise | None = None
        self.patches: PatchPool | None = None
        self.found: Tensor | None = None
        if config.generator == "wgan":
            generators, critics = self.generative_networks(channels)
            self.networks |= generators | critics
            self.generators, self.critics = ", ".join(generators), ", ".join(critics)
            self.critic_nets = list(critics.values())
            self.generator_nets = list(generators.values())

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        made, config = super().make_optimizers(), self.config
        if config.generator == "wgan":
            weights = [
                [p for net in nets for p in net.parameters()]
                for nets in (self.generator_nets, self.critic_nets)
            ]
            made[self.generators] = torch.optim.Adam(
                weights[0], lr=config.generator_lr, betas=(0.5, 0.999), foreach=True
            )
            made[self.critics] = torch.optim.RMSprop(weights[1], lr=config.critic_lr, foreach=True)
        return made

    def generative_networks(self, channels: int) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
        """The generators and the critics of the generative model, by name."""
        self.g1 = placed(NoiseGenerator(channels, px=self.config.made_px), self.place)
        self.f1 = placed(WassersteinCritic(channels, self.config.critic_width), self.place)
        return {"g1": self.g1}, {"f1": self.f1}

    def prepare(self, data: TrainingData, seed: int) -> None:
        """Cut out the noise; with a copula, that is all there is to learn of it."""
        self.imitate(self.cut_noise(data.noisy))

    def cut_noise(self, noisy: PatchPool) -> NoisePatches:
        config, most = self.config, COPULA_PATCHES if self.config.generator == "copula" else MOST
        return extract(
            noisy.arrays(), config.noise_patch_px, most=most, rule=config.rule, threshold=config.smooth_limit
        )

    def imitate(self, found: NoisePatches, grown: bool = False) -> None:
        """Learn, or get ready to learn, the noise that was found;  grown   that its level follows the brightness is known and met"""
        config = self.config
        self.found = torch.from_numpy(found.pixels[spaced_indices(len(found.pixels), SHOWN)]).to(self.place)
        for line in doubts(found, grown):
            _say.warning("%s", line)
        if config.generator == "copula":
            measured = fit_copula(found.pixels, min(REACH_PX, config.noise_patch_px // 4))
            self.noise = CopulaNoise(measured.filters, measured.table, TABLE_END).to(self.place)
        else:
            self.patches = PatchPool(list(found.pixels), self.place, config.made_px)

    @torch.no_grad()
    def noise_like(self, x: Tensor, purpose: str, at: At) -> Tensor:
        """A fresh draw of the noise for every patch of (B, C, H, W)."""
        source = self.g1.eval() if self.config.generator == "wgan" else self.prepared(self.noise)
        return source.sample((len(x), *x.shape[2:]), at.rng(purpose, self.place))

    def noise_samples(self) -> tuple[Tensor, Tensor] | None:
        if self.found is None:
            return None
        return self.found, self.noise_like(self.found, "report", At(0, 0, "report", 0, 1))

    def latent(self, count: int, purpose: str, at: At) -> Tensor:
        return torch.randn(count, LATENT, generator=at.rng(purpose, self.place), device=self.place)

    def noise_patches(self, count: int, at: At) -> Tensor:
        """Patches of the noise as it was cut out, upright, (count, C, P, P)."""
        patches = self.prepared(self.patches)
        return patches.gather(patches.draw(at.seed, at.step, count, "noise patches"), augment=False)

    def teach_critics(self, distance: Callable[[], Tensor], at: At) -> Tensor:
        """``critic_steps`` steps up the Wasserstein distance, weights clipped after each; returns the last distance."""
        judged = torch.zeros(())
        for _ in range(self.config.critic_steps):
            judged = distance()
            update(self.optimizers[self.critics], -judged, at, self.critics)
            with torch.no_grad():
                for net in self.critic_nets:
                    for parameter in net.parameters():
                        parameter.clamp_(-self.config.critic_clip, self.config.critic_clip)
        return judged.detach()

    def teach_generators(self, loss: Tensor, at: At) -> None:
        set_rate(
            self.optimizers[self.generators], self.config.generator_lr * min(1.0, 1.5 * (1.0 - at.progress))
        )
        update(self.optimizers[self.generators], loss, at, self.generators)
