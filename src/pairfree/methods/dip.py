"""Deep Image Prior (Ulyanov et al., CVPR 2018): a network learns an image from fixed noise.

The image comes before its noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pairfree.marks import bounded
from pairfree.measure.level import MIN_SIDE_PX
from pairfree.measure.variance_line import estimate_poisson_gaussian
from pairfree.methods.base import At, Needs
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
from pairfree.nets.one_image import SkipNet

WARM_STEPS = 50
"""Before these the output is not averaged, and learning does not end."""
DISCREPANCY = (
    "Morozov, On the solution of functional equations by the method of regularization, "
    "Soviet Math. Dokl. 7, 1966"
)


def reconstruction_loss(made: Tensor, y: Tensor) -> Tensor:
    r"""E(x; x0) = |f(z) - y|^2, mean over pixels.

    Parameters
    ----------
    made
        f(z), (B, C, H, W), network units.
    y
        The noisy image x0, likewise.

    Returns
    -------
    Tensor
        Scalar, squared network units.

    References
    ----------
    Ulyanov et al., CVPR 2018, eq. 2.
    """
    return torch.mean((made - y) ** 2)


def noise_rms(y: Tensor) -> float:
    """Root mean square of the noise of an image: Gaussian, or growing with the signal.

    Parameters
    ----------
    y
        (1, C, H, W), network units.

    Returns
    -------
    float
        Network units; 0 where a side is under 16 px.

    Notes
    -----
    Too low where the noise is correlated.

    References
    ----------
    Chen et al., ICCV 2015, in bins of brightness.
    """
    if min(y.shape[-2:]) < MIN_SIDE_PX:
        return 0.0
    variances = []
    for plane in y[0].cpu().double().numpy():
        noise = estimate_poisson_gaussian(plane)
        variances.append(noise.variance(plane).mean())
    return float(np.sqrt(np.mean(variances)))


@dataclass(frozen=True)
class DIPConfig(OneImageConfig):
    """Settings of Deep Image Prior."""

    levels: int = bounded(4, most=12)
    """Levels of the hourglass."""

    inputs: int = bounded(16, most=4096)
    """Channels of the fixed noise z."""

    jitter: float = 1.0 / 30.0
    """Standard deviation of the fresh noise on z at every step."""

    smoothing: float = 0.01
    """Share of the latest output in the running average that is the result."""

    discrepancy: float = 0.95
    """Share of the noise that the result may differ from the noisy image by (rms): then learning ends.

    The noise is estimated from the image (Morozov's principle). 0 uses the whole budget, as the paper.
    """

    def own_problems(self) -> list[str]:
        """What is wrong with these settings."""
        problems = []
        if min(self.levels, self.inputs) < 1 or min(self.jitter, self.discrepancy) < 0:
            problems.append(
                "levels and inputs must be at least 1, jitter and discrepancy not negative"
            )
        if not 0 < self.smoothing <= 1:
            problems.append(f"smoothing = {self.smoothing} must lie in (0, 1]")
        return problems


# Departs from the paper: The output is not bounded by a sigmoid, since files may hold values beyond the
# percentiles that are 0 and 1 here; convolutions repeat the border instead of mirroring it, so that small
# images can be learned too.
PRESETS = {
    # Departs from the paper: `cpu`: 16 input channels, 32 channels and four levels instead of 32, 128 and
    # five, Muon for the inner kernels at 1.5e-2 and Adam at 3e-3 for the rest, falling to 0 over the second
    # half of 2,000 steps, fresh noise on z of 1/100 instead of 1/30, which so small a network does not
    # average away, and learning ends when what is taken off is as strong as the noise.
    "cpu": DIPConfig(width=32, steps=2000, lr=3e-3, muon_ratio=5.0, falling=True, jitter=0.01),
    "paper": DIPConfig(width=128, levels=5, inputs=32, steps=1800, discrepancy=0.0),
}


class DIPFit(Fit):
    """An image that is learned from fixed noise z.

    Parameters
    ----------
    y
        The noisy image (1, C, H, W), network units.
    seed
        Of the run; z, its jitter and the first weights follow from it.
    config
        The method's settings.
    """

    config: DIPConfig

    def __init__(self, y: Tensor, seed: int, config: DIPConfig) -> None:
        channels, height, width = y.shape[1:]
        net = make_seeded(
            lambda: SkipNet(config.inputs, channels, config.width, config.levels), seed
        )
        super().__init__(y, seed, config, placed(net, y.device))
        rng = self.rng(0, "input")
        self.z = 0.1 * torch.rand(1, config.inputs, height, width, generator=rng, device=y.device)
        self.made = torch.zeros_like(y)
        self.average = self.made
        self.enough_rms = 0.0
        if config.discrepancy:
            self.enough_rms = config.discrepancy * noise_rms(y)

    def loss(self, at: At) -> Tensor:
        """``reconstruction_loss`` of what is made of z with fresh noise on it."""
        rng = self.rng(at.step, "jitter")
        jitter = torch.randn(self.z.shape, generator=rng, device=self.z.device)
        made = self.net(self.z + self.config.jitter * jitter)
        self.made = made.detach()
        return reconstruction_loss(made, self.y)

    def step(self, at: At) -> None:
        """Learn, average the output, and see whether it has come near enough to the noisy image."""
        super().step(at)
        averaged = at.step - WARM_STEPS
        share = 1.0
        if averaged > 0:
            share = max(self.config.smoothing, 1.0 / (averaged + 1))
        self.average = torch.lerp(self.average, self.made, share)
        if averaged >= 0 and self.enough_rms > 0:
            error = float(reconstruction_loss(self.average, self.y))
            self.settled = error <= self.enough_rms**2

    def result(self, tell: Tell = ignore_share, until: float = math.inf) -> Tensor:
        """The running average of the output, (1, C, H, W); it is there already."""
        return self.average


class DIP(OneImageMethod):
    """A network learns each image from noise, until what it leaves off is as strong as the image's noise."""

    key = "dip"
    title = "Deep Image Prior"
    needs = Needs.NOISY
    citation = "Ulyanov, Vedaldi & Lempitsky, Deep image prior, CVPR 2018, arXiv:1711.10925"
    assumption = (
        "noise is zero-mean and independent between pixels, and harder to learn for a convolutional network "
        "than the image; each image is learned by itself, which takes minutes"
    )
    config_type = DIPConfig
    config: DIPConfig

    def __init__(
        self,
        config: DIPConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(
            config, 2**config.levels, lambda y, seed: DIPFit(y, seed, config), device, net
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """The paper, and those of Muon and of the discrepancy principle where they are used."""
        found = [self.citation]
        if self.config.muon_ratio:
            found.append(MUON)
        if self.config.discrepancy:
            found.append(DISCREPANCY)
        return tuple(found)
