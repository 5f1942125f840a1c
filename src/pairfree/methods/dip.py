"""Deep Image Prior (Ulyanov et al., CVPR 2018): a network learns an image from fixed noise, and the image comes before its noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.methods.base import At, Needs
from pairfree.methods.one_image import Fit, OneImageConfig, OneImageMethod, fresh
from pairfree.nets.blocks import placed
from pairfree.nets.one_image import SkipNet

WARM_STEPS = 50
"""Before these the output is neither averaged nor is its variance looked at."""
EARLY_STOPPING = "Wang et al., Early stopping for deep image prior, TMLR 2023, arXiv:2112.06074"


def reconstruction_loss(made: Tensor, y: Tensor) -> Tensor:
    r"""E(x; x0) = |f(z) - y|^2, mean over pixels; (B, C, H, W) network units; returns a scalar. Ulyanov et al., eq. 2."""
    return torch.mean((made - y) ** 2)


class MovingVariance:
    r"""How much an image still moves: its exponential moving variance, whose lowest point is where to stop.

    Equation   V <- (1 - a)(V + a |x - m|^2), m <- (1 - a) m + a x, |.|^2 the mean over pixels
    Source     Wang et al., TMLR 2023, algorithm 2 (ES-EMV)
    """

    def __init__(self, share: float) -> None:
        self.share, self.mean, self.value = share, torch.zeros(()), 0.0

    def add(self, x: Tensor) -> float:
        if self.mean.ndim == 0:
            self.mean = x.clone()
            return self.value
        step = x - self.mean
        self.value = (1.0 - self.share) * (self.value + self.share * float(torch.mean(step**2)))
        self.mean += self.share * step
        return self.value


@dataclass(frozen=True)
class DIPConfig(OneImageConfig):
    """levels      of the hourglass
    inputs      channels of the fixed noise z
    jitter      deviation of fresh noise on z at every step
    smoothing   share of the latest output in the running average that is the result
    patience    steps without a new lowest variance of the output after which learning ends, and the average at the lowest point is the
                result (early stopping); 0 uses the whole budget, as the paper
    """

    levels: int = 4
    inputs: int = 16
    jitter: float = 1.0 / 30.0
    smoothing: float = 0.01
    patience: int = 500

    def own_problems(self) -> list[str]:
        problems = []
        if min(self.levels, self.inputs) < 1 or min(self.jitter, self.patience) < 0:
            problems.append("levels and inputs must be at least 1, jitter and patience not negative")
        if not 0 < self.smoothing <= 1:
            problems.append(f"smoothing = {self.smoothing} must lie in (0, 1]")
        return problems


# Departs from the paper: The output is not bounded by a sigmoid, since files may hold values beyond the percentiles that are 0 and 1 here;
# convolutions repeat the border instead of mirroring it, so that small images can be learned too.
PRESETS = {
    # Departs from the paper: `cpu`: 16 input channels, 16 channels and four levels instead of 32, 128 and five, and learning ends by early
    # stopping.
    "cpu": DIPConfig(),
    "paper": DIPConfig(width=128, levels=5, inputs=32, steps=1800, patience=0),
}


class DIPFit(Fit):
    def __init__(self, y: Tensor, seed: int, config: DIPConfig) -> None:
        super().__init__(y, seed)
        self.config = config
        channels, height, width = y.shape[1:]
        self.net = placed(fresh(lambda: SkipNet(config.inputs, channels, config.width, config.levels), seed), y.device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.lr, foreach=True)
        self.z = 0.1 * torch.rand(1, config.inputs, height, width, generator=self.rng(0, "input"), device=y.device)
        self.average = self.made = torch.zeros_like(y)
        self.variance, self.lowest, self.since = MovingVariance(0.1), float("inf"), 0
        self.best: Tensor | None = None

    def loss(self, at: At) -> Tensor:
        jitter = torch.randn(self.z.shape, generator=self.rng(at.step, "jitter"), device=self.z.device)
        made = self.net(self.z + self.config.jitter * jitter)
        self.made = made.detach()
        return reconstruction_loss(made, self.y)

    def step(self, at: At) -> None:
        super().step(at)
        config, made = self.config, self.made
        late = at.step - WARM_STEPS
        self.average = made.clone() if late <= 0 else torch.lerp(self.average, made, max(config.smoothing, 1.0 / (late + 1)))
        variance = self.variance.add(made)
        self.since += 1
        if config.patience and at.step >= WARM_STEPS and variance < self.lowest:
            self.lowest, self.since, self.best = variance, 0, self.average.clone()

    @property
    def settled(self) -> bool:
        return self.best is not None and self.since >= self.config.patience

    def result(self) -> Tensor:
        return self.average if self.best is None else self.best


class DIP(OneImageMethod):
    key = "dip"
    title = "Deep Image Prior"
    needs = Needs.NOISY
    citation = "Ulyanov, Vedaldi & Lempitsky, Deep image prior, CVPR 2018, arXiv:1711.10925"
    assumption = (
        "the image is easier to learn for a convolutional network than its noise; each image is learned by itself, which takes minutes"
    )
    config: DIPConfig

    def __init__(self, config: DIPConfig, channels: int, device: torch.device | str = "cpu", net: nn.Module | None = None) -> None:
        super().__init__(config, 2**config.levels, lambda y, seed: DIPFit(y, seed, config), device, net)

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.citation, EARLY_STOPPING) if self.config.patience else (self.citation,)
