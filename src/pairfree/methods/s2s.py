"""Self2Self with dropout (Quan et al., CVPR 2020): one image, of which random pixels predict the others; the mean of many predictions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.data.seeding import generator
from pairfree.methods.base import At, Needs
from pairfree.methods.one_image import Fit, OneImageConfig, OneImageMethod, fresh
from pairfree.nets.blocks import placed
from pairfree.nets.one_image import PartialUNet


def hidden_pixel_loss(made: Tensor, y: Tensor, shown: Tensor) -> Tensor:
    r"""Squared error at the pixels that were not shown.

    Noise model   y = x + n, E[n | x] = 0, n independent between pixels
    Equation      L = |(1 - b) (f(b y) - y)|^2 / |1 - b|_1, b the Bernoulli mask
    made, y, shown   f(b y), y and b, (B, C, H, W), network units; returns a scalar, squared network units
    Source        Quan et al., CVPR 2020, eq. 6
    """
    hidden = 1.0 - shown
    return torch.sum(hidden * (made - y) ** 2) / hidden.sum().clamp(min=1.0)


@dataclass(frozen=True)
class S2SConfig(OneImageConfig):
    """hidden        share of the pixels that are not shown, each by the toss of a coin
    dropout       of the decoder, in learning and in prediction
    predictions   whose mean is the result
    """

    lr: float = 1e-3
    hidden: float = 0.3
    dropout: float = 0.3
    predictions: int = 50

    def own_problems(self) -> list[str]:
        problems = [
            f"{name} = {getattr(self, name)} must lie in (0, 1)" for name in ("hidden", "dropout") if not 0 < getattr(self, name) < 1
        ]
        if self.predictions < 1:
            problems.append("predictions must be at least 1")
        if self.width < 3:
            problems.append("width must be at least 3")
        return problems


# Departs from the paper: The output is not bounded by a sigmoid, since files may hold values beyond the percentiles that are 0 and 1 here.
PRESETS = {
    # Departs from the paper: `paper`: 150,000 steps at a rate of 1e-4 and the mean of 100 predictions, as in the authors' code.
    # Departs from the paper: `cpu`: 16 channels instead of 48, ten times that rate, some thousand steps, and the mean of 50 predictions.
    "cpu": S2SConfig(),
    "paper": S2SConfig(width=48, lr=1e-4, steps=150_000, predictions=100),
}


class S2SFit(Fit):
    def __init__(self, y: Tensor, seed: int, config: S2SConfig) -> None:
        super().__init__(y, seed)
        self.config = config
        self.net = placed(fresh(lambda: PartialUNet(y.shape[1], config.width, config.dropout), seed), y.device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.lr, foreach=True)

    def loss(self, at: At) -> Tensor:
        made, shown, flips = self._predicted(at.step, "learning")
        return hidden_pixel_loss(made, self.y.flip(flips), shown)

    @torch.no_grad()
    def result(self) -> Tensor:
        total = torch.zeros_like(self.y)
        for draw in range(self.config.predictions):
            made, _, flips = self._predicted(draw, "prediction")
            total += made.flip(flips)
        return total / self.config.predictions

    def _predicted(self, draw: int, purpose: str) -> tuple[Tensor, Tensor, list[int]]:
        """The flipped image as predicted from the pixels that are shown, those, and the axes that were flipped."""
        rng = self.rng(draw, purpose)
        coins = torch.rand(2, generator=generator(self.seed, draw, f"{purpose}, flips")) < 0.5  # on the CPU: the axes are needed here
        flips = [axis for axis, coin in zip((-2, -1), coins.tolist(), strict=True) if coin]
        shown = (torch.rand(self.y.shape, generator=rng, device=self.y.device) >= self.config.hidden).to(self.y)
        return self.net(self.y.flip(flips), shown, rng), shown, flips


class S2S(OneImageMethod):
    key = "s2s"
    title = "Self2Self with dropout"
    needs = Needs.NOISY
    citation = "Quan et al., Self2Self with dropout: learning self-supervised denoising from single image, CVPR 2020"
    assumption = "noise is zero-mean and independent between pixels; each image is learned by itself, which takes minutes to hours"
    config: S2SConfig

    def __init__(self, config: S2SConfig, channels: int, device: torch.device | str = "cpu", net: nn.Module | None = None) -> None:
        super().__init__(config, PartialUNet.stride, lambda y, seed: S2SFit(y, seed, config), device, net)
