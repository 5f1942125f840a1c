"""Iterative Noisy N2N (Cha et al., ICLR 2021, Figure 1): how far rounds of retraining carry a rough estimate when the noise is at hand.

GAN2GAN with both its guesses replaced by data: the first estimates are given, and the noise is cut from images of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pairfree.data.patches import Batch, TrainingData
from pairfree.methods.base import At, Needs, Stage, check_positive, require
from pairfree.methods.parts.imitation import PUBLISHED
from pairfree.methods.parts.rounds import Rounds, g2g_loss
from pairfree.methods.parts.single import SingleConfig, SingleNetwork


@dataclass(frozen=True)
class NoisyN2NConfig(SingleConfig):
    """iterations   j of Noisy N2N_j; they share the budget evenly"""

    iterations: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(type(self).__name__, [("iterations", self.iterations)])


# Departs from the paper: The target is the estimate itself instead of a second noisy copy of it: the same gradient in expectation.
PRESETS = {
    # Departs from the paper: `cpu`: network, optimiser and precision are those of every method's `cpu` preset.
    "cpu": NoisyN2NConfig(),
    "paper": NoisyN2NConfig(**PUBLISHED, steps=14_400),
}


class NoisyN2N(SingleNetwork):
    key = "noisy-n2n"
    title = "Iterative Noisy N2N"
    needs = Needs.ESTIMATE_AND_NOISE
    citation = "Cha et al., GAN2GAN: Generative noise learning for blind denoising with single noisy images, ICLR 2021, arXiv:1905.10488"
    assumption = "noise is zero-mean, additive and independent of the image; it may be correlated; the images of it show nothing else"
    config_type = NoisyN2NConfig
    config: NoisyN2NConfig

    def __init__(
        self, config: NoisyN2NConfig, channels: int, device: torch.device | str = "cpu", net: Any = None
    ) -> None:
        super().__init__(config, channels, device, net)
        self.rounds = Rounds(self.net, self.precision)
        self.networks["previous"] = self.rounds.previous
        self.data: TrainingData | None = None
        self.level = torch.zeros(())

    def stages(self) -> tuple[Stage, ...]:
        count = self.config.iterations
        return tuple(Stage(f"Noisy N2N {j}", 1.0 / count) for j in range(1, count + 1))

    def prepare(self, data: TrainingData, seed: int) -> None:
        """The mean of the noise images, of each channel, is their dark level, not noise."""
        noise = require(data.noise, self.needs.value)
        total = torch.stack(
            [noise.plane(index).sum((1, 2), dtype=torch.float64) for index in range(len(noise))]
        ).sum(0)
        self.data, self.level = data, (total * noise.channels / noise.flat.numel()).float().view(-1, 1, 1)
        self.rounds.forget()

    def load_tensors(self, tensors: Mapping[str, torch.Tensor], optimizers: bool = True) -> None:
        super().load_tensors(tensors, optimizers)
        self.rounds.forget()

    def step(self, batch: Batch, at: At) -> dict[str, torch.Tensor]:
        """One step of Noisy N2N_j: (X' + n) -> X', X' the given estimate for j = 1, else what Noisy N2N_{j-1} makes of the noisy image."""
        given, noise = (require(one, self.needs.value) for one in (batch.target, batch.noise))
        if at.stage_step == 0:
            self.rounds.begin(self.optimizers["net"])
        first = at.stage == self.stages()[0].name
        estimate = given if first else self.rounds.estimated(self.prepared(self.data).noisy, batch.noisy, at)
        return self.descend(g2g_loss(self.f(estimate + noise - self.level), estimate), at)
