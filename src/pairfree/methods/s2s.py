"""Self2Self with dropout (Quan et al., CVPR 2020): one image, of which random pixels predict the others.

The result is the mean of many predictions.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.data.seeding import generator
from pairfree.methods.base import At, Needs, follow
from pairfree.methods.parts.one_image import (
    Fit,
    OneImageConfig,
    OneImageMethod,
    Tell,
    ignore_share,
    make_seeded,
)
from pairfree.methods.parts.optim import MUON
from pairfree.nets.blocks import placed
from pairfree.nets.one_image import PartialUNet

FORWARD = 0.5
"""What predicting a pixel takes of learning one, at most: 0.4 was measured."""


def hidden_pixel_loss(made: Tensor, y: Tensor, shown: Tensor) -> Tensor:
    r"""Squared error at the pixels that were not shown, L = |(1 - b) (f(b y) - y)|^2 / |1 - b|_1.

    Parameters
    ----------
    made
        f(b y), (B, C, H, W), network units.
    y
        The noisy image, likewise.
    shown
        b, the Bernoulli mask, (B, C, H, W).

    Returns
    -------
    Tensor
        Scalar, squared network units.

    Notes
    -----
    Noise model: y = x + n, E[n | x] = 0, n independent between pixels.

    References
    ----------
    Quan et al., CVPR 2020, eq. 6.
    """
    hidden = 1.0 - shown
    total = torch.sum(hidden * (made - y) ** 2)
    return total / hidden.sum().clamp(min=1.0)


@dataclass(frozen=True)
class S2SConfig(OneImageConfig):
    """Settings of Self2Self."""

    lr: float = 1e-3

    hidden: float = 0.3
    """Share of the pixels that are not shown, each by the toss of a coin."""

    dropout: float = 0.3
    """Share of the decoder's values that are dropped, in learning and in prediction."""

    fill: bool = False
    """Hidden pixels are the mean of those shown around them where the decoder sees the image.

    Without it they are 0, as in the paper.
    """

    predictions: int = 50
    """Predictions whose mean is the result; fewer where the minutes of an image end before."""

    patch_px: int = 0
    """Side of the piece that a step learns from, pixels, a multiple of 32; 0: the whole image (the paper)."""

    average: float = 1.0
    """Share of the latest weights in the running average that predicts; 1: those themselves (the paper)."""

    def own_problems(self) -> list[str]:
        """What is wrong with these settings."""
        problems = []
        for name, value in (("hidden", self.hidden), ("dropout", self.dropout)):
            if not 0 < value < 1:
                problems.append(f"{name} = {value} must lie in (0, 1)")
        if self.predictions < 1:
            problems.append("predictions must be at least 1")
        if self.width < 3:
            problems.append("width must be at least 3")
        if self.patch_px < 0 or self.patch_px % PartialUNet.stride:
            problems.append(
                f"patch_px = {self.patch_px} must be 0 or a multiple of {PartialUNet.stride}"
            )
        if not 0 < self.average <= 1:
            problems.append(f"average = {self.average} must lie in (0, 1]")
        return problems


# Departs from the paper: The output is not bounded by a sigmoid, since files may hold values beyond the
# percentiles that are 0 and 1 here.
PRESETS = {
    # Departs from the paper: `paper`: 150,000 steps at a rate of 1e-4 and the mean of 100 predictions, as in
    # the authors' code.
    # Departs from the paper: `cpu`: 16 channels instead of 48, Muon for the inner kernels at 3e-4, falling to
    # 0 over the second half of 40,000 steps on pieces of 64 x 64 px instead of the whole image, 0.03 of the
    # decoder's values dropped instead of 0.3, hidden pixels filled with the mean of those around them where
    # the decoder sees the image, and the mean of 50 predictions with a running average of the weights.
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
    """An image of which random pixels predict the others.

    Parameters
    ----------
    y
        The noisy image (1, C, H, W), network units.
    seed
        Of the run; masks, flips, pieces and the first weights follow from it.
    config
        The method's settings.
    """

    config: S2SConfig

    def __init__(self, y: Tensor, seed: int, config: S2SConfig) -> None:
        channels, height, width = y.shape[1:]
        net = make_seeded(
            lambda: PartialUNet(channels, config.width, config.dropout, config.fill), seed
        )
        super().__init__(y, seed, config, placed(net, y.device))
        self.slow = copy.deepcopy(self.net).requires_grad_(False)
        self.piece_height = min(config.patch_px or height, height)
        self.piece_width = min(config.patch_px or width, width)
        self.finishing = FORWARD * config.predictions * (height * width) / self.step_px

    @property
    def step_px(self) -> int:
        """Pixels of the piece of the image that one step learns from."""
        return self.piece_height * self.piece_width

    def loss(self, at: At) -> Tensor:
        """``hidden_pixel_loss`` on a piece of the image, which is drawn."""
        piece = self._draw_piece(at.step)
        made, shown, flips = self._predict(self.net, piece, at.step, "learning")
        return hidden_pixel_loss(made, piece.flip(flips), shown)

    def _draw_piece(self, step: int) -> Tensor:
        height, width = self.y.shape[-2:]
        rng = generator(self.seed, step, "piece")
        top = int(torch.randint(height - self.piece_height + 1, (), generator=rng))
        left = int(torch.randint(width - self.piece_width + 1, (), generator=rng))
        return self.y[..., top : top + self.piece_height, left : left + self.piece_width]

    def step(self, at: At) -> None:
        """Learn, and let the average of the weights follow."""
        super().step(at)
        follow(self.slow, self.net, max(self.config.average, 1.0 / (at.step + 1)))

    @torch.no_grad()
    def result(self, tell: Tell = ignore_share, until: float = math.inf) -> Tensor:
        """The mean of the predictions there is time for, one at least, (1, C, H, W)."""
        total = torch.zeros_like(self.y)
        draws = 0
        while draws < self.config.predictions and (draws == 0 or time.monotonic() < until):
            made, _, flips = self._predict(self.slow, self.y, draws, "prediction")
            total += made.flip(flips)
            draws += 1
            tell(draws / self.config.predictions)
        return total / draws

    def _predict(
        self, net: nn.Module, y: Tensor, draw: int, purpose: str
    ) -> tuple[Tensor, Tensor, list[int]]:
        """y, flipped, as ``net`` predicts it from the shown pixels; those; the axes that were flipped."""
        rng = self.rng(draw, purpose)
        flips = self._draw_flips(draw, purpose)
        shown = (torch.rand(y.shape, generator=rng, device=y.device) >= self.config.hidden).to(y)
        made = net(y.flip(flips), shown, rng)
        return made, shown, flips

    def _draw_flips(self, draw: int, purpose: str) -> list[int]:
        """Axes to flip, each by the toss of a coin; on the CPU, since they are needed there."""
        rng = generator(self.seed, draw, f"{purpose}, flips")
        down, across = (torch.rand(2, generator=rng) < 0.5).tolist()
        flips = []
        if down:
            flips.append(-2)
        if across:
            flips.append(-1)
        return flips


class S2S(OneImageMethod):
    """A network learns each image from its own pixels; the mean of many predictions is the result."""

    key = "s2s"
    title = "Self2Self with dropout"
    needs = Needs.NOISY
    citation = (
        "Quan et al., Self2Self with dropout: learning self-supervised denoising from single image, "
        "CVPR 2020"
    )
    assumption = (
        "noise is zero-mean and independent between pixels; each image is learned by itself, "
        "which takes minutes to hours"
    )
    config_type = S2SConfig
    config: S2SConfig

    def __init__(
        self,
        config: S2SConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(
            config, PartialUNet.stride, lambda y, seed: S2SFit(y, seed, config), device, net
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """The paper, and that of Muon where it is used."""
        return (self.citation, MUON) if self.config.muon_ratio else (self.citation,)
