"""GCBD (Chen et al., CVPR 2018): noise of the smooth areas of noisy images, put on clean images of other scenes, is learned to remove."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pairfree.data import processes
from pairfree.data.patches import Batch
from pairfree.data.unpaired import intensity_problems
from pairfree.methods.base import At, Needs, Stage, require
from pairfree.methods.n2c import supervised_loss
from pairfree.methods.parts.imitation import (
    GENERATIVE,
    PUBLISHED,
    Imitation,
    ImitationConfig,
    wasserstein_loss,
)
from pairfree.methods.parts.unpaired import frozen


@dataclass(frozen=True)
class GCBDConfig(ImitationConfig):
    """intensity           how the brightness of the two sets goes together (``data.unpaired.fit_unpaired``)
    generative_share    part of the budget that the W-GAN gets
    """

    rule: str = "gcbd"
    intensity: str = "auto"
    generative_share: float = 0.4

    def own_problems(self) -> list[str]:
        share = self.generative_share
        problems = [] if 0 < share < 1 else [f"generative_share = {share} must lie between 0 and 1"]
        return problems + intensity_problems(self.intensity)


# Departs from the paper: Rule (3) judges all candidates, 8 px apart, on patches of 96 px with sub-patches of 16; networks, rates and
# clipping of the W-GAN, and the schedule of the denoiser, are GAN2GAN's, as in its row N2C(GCBD Eq.(3)).
PRESETS = {
    # Departs from the paper: `cpu`: the noise is imitated by a Gaussian copula instead of a W-GAN; network, optimiser and precision are
    # those of every method's `cpu` preset.
    "cpu": GCBDConfig(generator="copula", minutes=10.0),
    "paper": GCBDConfig(
        **PUBLISHED,
        steps=14_190,
        generative_share=0.66,
    ),
}


class GCBD(Imitation):
    key = "gcbd"
    title = "GCBD"
    needs = Needs.CLEAN
    citation = "Chen et al., Image blind denoising with generative adversarial network based noise modeling, CVPR 2018"
    assumption = "noise is zero-mean, additive and independent of the image, some areas are smooth; both sets show the same kind of structures"
    config_type = GCBDConfig
    config: GCBDConfig

    def stages(self) -> tuple[Stage, ...]:
        if self.config.generator == "copula":
            return (Stage("train", 1.0),)
        return Stage(GENERATIVE, self.config.generative_share), Stage(
            "train", 1.0 - self.config.generative_share
        )

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        clean = require(batch.clean, self.needs.value)
        if at.stage == GENERATIVE:
            return self._generative_step(
                min(len(clean), processes.own_share(self.config.generative_batch)), at
            )
        return self.descend(supervised_loss(self.f(clean + self.noise_like(clean, "noise", at)), clean), at)

    def _generative_step(self, count: int, at: At) -> dict[str, Tensor]:
        """The W-GAN of the noise alone, eq. (5)."""
        noise, made = self.noise_patches(count, at), self.g1(self.latent(count, "latent", at))
        fixed = made.detach()
        judged = self.teach_critics(lambda: wasserstein_loss(self.f1(noise), self.f1(fixed)), at)
        with frozen(self.f1):
            loss = -torch.mean(self.f1(made))
        self.teach_generators(loss, at)
        return {"loss": loss.detach(), "critics": judged, "noise std": made.detach().std()}
