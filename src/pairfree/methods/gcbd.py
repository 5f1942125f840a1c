"""GCBD (Chen et al., CVPR 2018): noise of smooth areas in noisy images, put on clean ones of other scenes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pairfree.data import processes
from pairfree.data.patches import Batch
from pairfree.data.unpaired import intensity_problems
from pairfree.methods.base import At, Needs, Stage, require
from pairfree.methods.gan2gan import wasserstein_distance
from pairfree.methods.n2c import supervised_loss
from pairfree.methods.parts.imitation import GENERATIVE, PUBLISHED
from pairfree.methods.parts.measured_noise import MeasuredNoise, MeasuredNoiseConfig
from pairfree.methods.parts.unpaired import frozen


@dataclass(frozen=True)
class GCBDConfig(MeasuredNoiseConfig):
    """Settings of GCBD; those of the W-GAN are GAN2GAN's."""

    rule: str = "gcbd"
    """How smooth areas are found: "gcbd", its own rule, or "wavelet", GAN2GAN's eq. (4)."""
    intensity: str = "auto"
    """How the brightness of the two sets goes together (``data.unpaired.fit_unpaired``)."""
    generative_share: float = 0.4
    """Part of the budget that the W-GAN gets, above 0 and below 1."""

    def own_problems(self) -> list[str]:
        """What is wrong with the settings, a phrase each."""
        problems = super().own_problems()
        if not 0 < self.generative_share < 1:
            problems.append(f"generative_share = {self.generative_share} must lie between 0 and 1")
        return problems + intensity_problems(self.intensity)


# Departs from the paper: Rule (3) judges all candidates, 8 px apart, on patches of 96 px with sub-patches of
# 16; networks, rates and clipping of the W-GAN, and the schedule of the denoiser, are GAN2GAN's, as in its
# row N2C(GCBD Eq.(3)).
PRESETS = {
    # Departs from the paper: `cpu`: the noise is imitated by a Gaussian copula instead of a W-GAN; network,
    # optimiser and precision are those of every method's `cpu` preset.
    "cpu": GCBDConfig(generator="copula", minutes=10.0),
    "paper": GCBDConfig(
        **PUBLISHED,
        steps=14_190,
        generative_share=0.66,
    ),
}


class GCBD(MeasuredNoise):
    """A W-GAN of the noise, then a denoiser that is supervised by clean images with that noise."""

    key = "gcbd"
    title = "GCBD"
    needs = Needs.CLEAN
    citation = (
        "Chen et al., Image blind denoising with generative adversarial network based noise modeling, "
        "CVPR 2018"
    )
    assumption = (
        "noise is zero-mean, additive and independent of the image, some areas are smooth; both sets show "
        "the same kind of structures"
    )
    config_type = GCBDConfig
    config: GCBDConfig

    def stages(self) -> tuple[Stage, ...]:
        """The W-GAN, where there is one, and the denoiser."""
        if self.is_measured:
            return (Stage("train", 1.0),)
        share = self.config.generative_share
        return Stage(GENERATIVE, share), Stage("train", 1.0 - share)

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """One step of the W-GAN, or one of the denoiser on (clean + noise, clean)."""
        clean = require(batch.clean, self.needs.value)
        if at.stage == GENERATIVE:
            count = min(len(clean), processes.own_share(self.config.generative_batch))
            return self.generative_step(count, at)
        noisy = clean + self.noise_like(clean, "noise", at)
        return self.descend(supervised_loss(self.f(noisy), clean), at)

    def generative_step(self, count: int, at: At) -> dict[str, Tensor]:
        """One step of the W-GAN of the noise alone, GAN2GAN's eq. (5), on this many patches."""
        noise = self.noise_patches(count, at)
        made = self.g1(self.latent(count, "latent", at))
        fixed = made.detach()
        judged = self.teach_critics(
            lambda: wasserstein_distance(self.f1(noise), self.f1(fixed)), at
        )
        with frozen(self.f1):
            loss = -torch.mean(self.f1(made))
        self.teach_generators(loss, at)
        return {"loss": loss.detach(), "critics": judged, "noise std": fixed.std()}
