"""Noise2Noise (Lehtinen et al., ICML 2018): a second noisy copy of each scene supervises the first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from pairfree.data.patches import Batch
from pairfree.methods import n2c
from pairfree.methods.base import At, Needs, require
from pairfree.methods.n2c import supervised_loss
from pairfree.methods.parts.single import SingleConfig, SingleNetwork


@dataclass(frozen=True)
class N2NConfig(SingleConfig):
    """Settings of Noise2Noise: those of its network and its optimiser."""


# Departs from the paper: Network and schedule are those of `n2c`, so that rows of a table differ in the
# method only.
PRESETS = {name: replace(N2NConfig(), **vars(preset)) for name, preset in n2c.PRESETS.items()}


class N2N(SingleNetwork):
    """The network learns to make each noisy copy of a scene from the other."""

    key = "n2n"
    title = "Noise2Noise"
    needs = Needs.TARGET_NOISY
    citation = (
        "Lehtinen et al., Noise2Noise: learning image restoration without clean data, ICML 2018, "
        "arXiv:1803.04189"
    )
    assumption = (
        "two copies of each scene whose noise is independent between the copies and zero-mean"
    )
    config_type = N2NConfig

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Descend ``supervised_loss``; each copy supervises the other in turn: twice the pairs."""
        first = batch.noisy
        second = require(batch.target, self.needs.value)
        # Departs from the paper: The two copies swap sides at every other step.
        if at.step % 2:
            first, second = second, first
        return self.descend(supervised_loss(self.f(first), second), at)
