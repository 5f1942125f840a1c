"""Iterative Noisy N2N (Cha et al., ICLR 2021, Figure 1): how far rounds of retraining carry a rough estimate.

GAN2GAN with both its guesses replaced by data: the first estimates are given, and the noise is cut from
images of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.data.patches import Batch, PatchPool, TrainingData
from pairfree.marks import bounded
from pairfree.methods.base import At, Needs, Stage, check_positive, require
from pairfree.methods.gan2gan import g2g_loss
from pairfree.methods.parts.imitation import PUBLISHED
from pairfree.methods.parts.rounds import Rounds
from pairfree.methods.parts.single import SingleConfig, SingleNetwork


@dataclass(frozen=True)
class NoisyN2NConfig(SingleConfig):
    """Settings of Iterative Noisy N2N."""

    iterations: int = bounded(3, most=100)
    """j of Noisy N2N_j; they share the budget evenly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(type(self).__name__, [("iterations", self.iterations)])


# Departs from the paper: The target is the estimate itself instead of a second noisy copy of it: the same
# gradient in expectation.
PRESETS = {
    # Departs from the paper: `cpu`: network, optimiser and precision are those of every method's `cpu`
    # preset.
    "cpu": NoisyN2NConfig(),
    "paper": NoisyN2NConfig(**PUBLISHED, steps=14_400),
}


class NoisyN2N(SingleNetwork):
    """Rounds of training on estimates with the noise put on them, each round's from the network before."""

    key = "noisy-n2n"
    title = "Iterative Noisy N2N"
    needs = Needs.ESTIMATE_AND_NOISE
    citation = (
        "Cha et al., GAN2GAN: Generative noise learning for blind denoising with single noisy images, "
        "ICLR 2021, arXiv:1905.10488"
    )
    assumption = (
        "noise is zero-mean, additive and independent of the image; it may be correlated; the images of it "
        "show nothing else"
    )
    config_type = NoisyN2NConfig
    config: NoisyN2NConfig

    def __init__(
        self,
        config: NoisyN2NConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, channels, device, net)
        self.rounds = Rounds(self.net, self.precision)
        self.networks |= self.rounds.networks
        self.data: TrainingData | None = None
        self.level = torch.zeros(())

    def stages(self) -> tuple[Stage, ...]:
        """A stage for each round."""
        count = self.config.iterations
        names = [f"Noisy N2N {j}" for j in range(1, count + 1)]
        return tuple(Stage(name, 1.0 / count) for name in names)

    def prepare(self, data: TrainingData, seed: int) -> None:
        """The mean of the noise images, of each channel, is their dark level, not noise."""
        self.level = mean_level(require(data.noise, self.needs.value))
        self.data = data
        self.rounds.forget()

    def load_tensors(self, tensors: Mapping[str, Tensor], optimizers: bool = True) -> None:
        """Inverse of ``tensors``; estimates that other weights made are forgotten."""
        super().load_tensors(tensors, optimizers)
        self.rounds.forget()

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """One step of Noisy N2N_j: (X' + n) -> X'.

        X' is the given estimate for j = 1, else what Noisy N2N_{j-1} makes of the noisy image.
        """
        given = require(batch.target, self.needs.value)
        noise = require(batch.noise, self.needs.value)
        first = at.stage == self.stages()[0].name
        if at.stage_step == 0:
            self.rounds.begin(self.optimizers["net"], first)
        estimate = given
        if not first:
            images = self.prepared(self.data).noisy
            estimate = self.rounds.estimate(images, batch.noisy, at)
        denoised = self.f(estimate + noise - self.level)
        return self.descend(g2g_loss(denoised, estimate), at)


def mean_level(images: PatchPool) -> Tensor:
    """Mean over all pixels of all images, of each channel: (C, 1, 1)."""
    planes = [images.plane(index) for index in range(len(images))]
    sums = [plane.sum((1, 2), dtype=torch.float64) for plane in planes]
    total = torch.stack(sums).sum(0)
    mean = total * images.channels / images.flat.numel()
    found: Tensor = mean.float().view(-1, 1, 1)
    return found
