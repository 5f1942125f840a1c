"""Self2Self with dropout (Quan et al., CVPR 2020): one image, of which random pixels predict the others; the mean of many predictions."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.data.seeding import generator
from pairfree.methods.base import At, Needs, follow
from pairfree.methods.parts.one_image import Fit, OneImageConfig, OneImageMethod, fresh
from pairfree.methods.parts.optim import MUON
from pairfree.nets.blocks import placed
from pairfree.nets.one_image import PartialUNet

FORWARD = 0.5
"""What predicting a pixel takes of learning one, at most: 0.4 was measured."""


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
    fill          hidden pixels are the mean of those shown around them where the decoder sees the image; without it 0, as in the paper
    predictions   whose mean is the result; fewer where the minutes of an image end before
    patch_px      side of the piece of the image that a step learns from, a multiple of 32; 0: the whole image, as in the paper
    average       share of the latest weights in the running average that predicts; 1: the latest themselves, as in the paper
    """

    lr: float = 1e-3
    hidden: float = 0.3
    dropout: float = 0.3
    fill: bool = False
    predictions: int = 50
    patch_px: int = 0
    average: float = 1.0

    def own_problems(self) -> list[str]:
        problems = [
            f"{name} = {getattr(self, name)} must lie in (0, 1)"
            for name in ("hidden", "dropout")
            if not 0 < getattr(self, name) < 1
        ]
        if self.predictions < 1:
            problems.append("predictions must be at least 1")
        if self.width < 3:
            problems.append("width must be at least 3")
        if self.patch_px < 0 or self.patch_px % PartialUNet.stride:
            problems.append(f"patch_px = {self.patch_px} must be 0 or a multiple of {PartialUNet.stride}")
        if not 0 < self.average <= 1:
            problems.append(f"average = {self.average} must lie in (0, 1]")
        return problems


# Departs from the paper: The output is not bounded by a sigmoid, since files may hold values beyond the percentiles that are 0 and 1 here.
PRESETS = {
    # Departs from the paper: `paper`: 150,000 steps at a rate of 1e-4 and the mean of 100 predictions, as in the authors' code.
    # Departs from the paper: `cpu`: 16 channels instead of 48, Muon for the inner kernels at 3e-4, falling to 0 over the second half of
    # 40,000 steps on pieces of 64 x 64 px instead of the whole image, 0.03 of the decoder's values dropped instead of 0.3, hidden pixels
    # filled with the mean of those around them where the decoder sees the image, and the mean of 50 predictions with a running average of
    # the weights.
    "cpu": S2SConfig(
        steps=40_000,
        lr=3e-4,
        muon_ratio=5.0,
        dropout=0.03,
        patch_px=64,
        falling=True,
        average=0.003,
        fill=True,
    ),
    "paper": S2SConfig(width=48, lr=1e-4, steps=150_000, predictions=100),
}


class S2SFit(Fit):
    config: S2SConfig

    def __init__(self, y: Tensor, seed: int, config: S2SConfig) -> None:
        net = fresh(lambda: PartialUNet(y.shape[1], config.width, config.dropout, config.fill), seed)
        super().__init__(y, seed, config, placed(net, y.device))
        self.slow = copy.deepcopy(self.net).requires_grad_(False)
        self.patch = tuple(min(config.patch_px or side, side) for side in y.shape[-2:])
        self.finishing = FORWARD * config.predictions * math.prod(y.shape[-2:]) / self.step_px

    @property
    def step_px(self) -> int:
        return math.prod(self.patch)

    def loss(self, at: At) -> Tensor:
        place = generator(self.seed, at.step, "piece")
        down, right = (
            int(torch.randint(whole - side + 1, (), generator=place))
            for whole, side in zip(self.y.shape[-2:], self.patch, strict=True)
        )
        piece = self.y[..., down : down + self.patch[0], right : right + self.patch[1]]
        made, shown, flips = self._predicted(self.net, piece, at.step, "learning")
        return hidden_pixel_loss(made, piece.flip(flips), shown)

    def step(self, at: At) -> None:
        super().step(at)
        follow(self.slow, self.net, max(self.config.average, 1.0 / (at.step + 1)))

    @torch.no_grad()
    def result(self, tell: Callable[[float], None] = lambda share: None, until: float = math.inf) -> Tensor:
        total, draws = torch.zeros_like(self.y), 0
        while draws < self.config.predictions and (draws == 0 or time.monotonic() < until):
            made, _, flips = self._predicted(self.slow, self.y, draws, "prediction")
            total += made.flip(flips)
            draws += 1
            tell(draws / self.config.predictions)
        return total / draws

    def _predicted(
        self, net: nn.Module, y: Tensor, draw: int, purpose: str
    ) -> tuple[Tensor, Tensor, list[int]]:
        """y, flipped, as ``net`` predicts it from the pixels that are shown, those, and the axes that were flipped."""
        rng = self.rng(draw, purpose)
        coins = (
            torch.rand(2, generator=generator(self.seed, draw, f"{purpose}, flips")) < 0.5
        )  # on the CPU: the axes are needed here
        flips = [axis for axis, coin in zip((-2, -1), coins.tolist(), strict=True) if coin]
        shown = (torch.rand(y.shape, generator=rng, device=y.device) >= self.config.hidden).to(y)
        return net(y.flip(flips), shown, rng), shown, flips


class S2S(OneImageMethod):
    key = "s2s"
    title = "Self2Self with dropout"
    needs = Needs.NOISY
    citation = (
        "Quan et al., Self2Self with dropout: learning self-supervised denoising from single image, CVPR 2020"
    )
    assumption = "noise is zero-mean and independent between pixels; each image is learned by itself, which takes minutes to hours"
    config_type = S2SConfig
    config: S2SConfig

    def __init__(
        self,
        config: S2SConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, PartialUNet.stride, lambda y, seed: S2SFit(y, seed, config), device, net)

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.citation, MUON) if self.config.muon_ratio else (self.citation,)
