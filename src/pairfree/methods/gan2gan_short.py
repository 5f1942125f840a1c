"""What the short preset adds to GAN2GAN: measured noise, a recorrupted start, even noise.

With its defaults it adds nothing. ``docs/methods/gan2gan.md`` says why, with numbers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pairfree.data.even import EVEN_LEVEL
from pairfree.data.patches import Batch, TrainingData, symmetric
from pairfree.errors import InputError
from pairfree.measure.copula import Copula, white_copula
from pairfree.measure.noise_patches import NoisePatches, measure_shared
from pairfree.measure.variance_in_patches import measure_growth
from pairfree.methods import gan2gan
from pairfree.methods.base import At, Stage, check_positive
from pairfree.methods.gan2gan import GAN2GAN, GAN2GANConfig, g2g_loss
from pairfree.methods.parts.even_noise import EvenNoise
from pairfree.methods.parts.imitation import GENERATIVE
from pairfree.methods.parts.measured_noise import MeasuredNoise, MeasuredNoiseConfig
from pairfree.methods.parts.single import STARTED

START = "start"
"""The stage of recorrupted pairs."""
RECORRUPTED = (
    "Pang et al., Recorrupted-to-Recorrupted: unsupervised deep learning for image denoising, CVPR 2021, "
    "arXiv:2102.02234"
)
MISJUDGED = 1.3
"""Times the size that even noise has, or by it: what is weaker or stronger still is not the noise."""
SHARED = 0.06
"""Correlation of neighbours from which noise of smooth areas counts as shared.

On BSD400 it is 0.013 for white noise there, 0.117 for GAN2GAN's correlated noise."""
_say = logging.getLogger("pairfree")


def recorrupted_pair(z: Tensor, noise: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    r"""Two views of one noisy image with independent noise, made with a second draw of that noise.

    Parameters
    ----------
    z, noise
        Z and n, any shape.
    alpha
        How strong the second draw is in the first view.

    Returns
    -------
    tuple of Tensor
        (Z + alpha n, Z - n / alpha).

    Notes
    -----
    Noise model: Z = x + N and n of N's distribution, independent of it. The noises N + alpha n and N - n /
    alpha are uncorrelated, independent for Gaussian N; at alpha = 1, E[Z - n | Z + n] = E[x | Z + n] for any
    distribution, since N and n may be exchanged.

    References
    ----------
    Pang et al., Recorrupted-to-Recorrupted, CVPR 2021, eq. 8; alpha = 1: Moran et al., Noisier2Noise, CVPR
    2020.
    """
    return z + alpha * noise, z - noise / alpha


@dataclass(frozen=True)
class ShortGAN2GANConfig(MeasuredNoiseConfig, GAN2GANConfig):
    """Settings of the paper, and of what the short preset adds: at their defaults, nothing."""

    start: str = "g2"
    """The first estimate of the images: "g2", the rough denoiser that is trained with g1; "z", the noisy
    image itself (Figure 6); "recorrupted", a denoiser trained on recorrupted pairs."""
    recorruption: float = 0.5
    """alpha of ``recorrupted_pair``."""
    second_copy: bool = True
    """The target is a second noisy copy, as in the paper; False: the estimate itself."""
    from_scratch: bool = True
    """G2G_1 begins with fresh weights; False: where the start ended."""
    stabilise: bool = False
    """Where the noise grows with the brightness, all is learned on intensities in which it does not: one law
    for all files (``parts.even_noise``). Of no use beside ``even``, which has a law for each."""

    choices: ClassVar[dict[str, tuple[str, ...]]] = {"start": ("g2", "z", "recorrupted")}

    def own_problems(self) -> list[str]:
        """What is wrong with the settings, a phrase each."""
        check_positive(type(self).__name__, [("recorruption", self.recorruption)])
        problems = super().own_problems()
        if self.start == "g2" and self.generator != "wgan":
            problems.append("start = 'g2' needs generator = 'wgan': both are trained together")
        return problems


PRESETS: dict[str, GAN2GANConfig] = {
    # Departs from the paper: `cpu`: the noise is imitated by a Gaussian copula instead of a W-GAN; network,
    # optimiser and precision are those of every method's `cpu` preset.
    "cpu": ShortGAN2GANConfig(
        **STARTED,
        generator="copula",
        start="recorrupted",
        iterations=1,
        second_copy=False,
        from_scratch=False,
        stabilise=True,
    ),
    **gan2gan.PRESETS,
}


class ShortGAN2GAN(MeasuredNoise, GAN2GAN):
    """GAN2GAN within minutes, and for noise that grows with the brightness."""

    config_type = ShortGAN2GANConfig
    config: ShortGAN2GANConfig

    def __init__(
        self,
        config: ShortGAN2GANConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, channels, device, net)
        self.even_noise = EvenNoise(channels).to(self.place)
        if config.stabilise and not config.even:
            self.networks["even"] = self.even_noise
        self.stabilised = False
        self.even_copula: Copula | None = None
        self.smooth: NoisePatches | None = None
        """Where ``even_copula`` was measured, until the report has its samples; None of white noise."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The papers of what is used, GAN2GAN's first."""
        if self.config.start != "recorrupted":
            return super().sources
        return (*super().sources, RECORRUPTED)

    def stages(self) -> tuple[Stage, ...]:
        """The W-GAN and the start, each where there is one, then the rounds.

        Weights that come with pairfree take the place of a start that is trained.
        """
        config = self.config
        first = []
        if config.generator == "wgan":
            first.append(GENERATIVE)
        # Departs from the paper: `cpu`: the shipped start, where there is one, makes the first estimate.
        if config.start == "recorrupted" and not self.started:
            first.append(START)
        if not first:
            return tuple(self.round_stages(1.0))
        each = config.start_share / len(first)
        before = [Stage(name, each) for name in first]
        return (*before, *self.round_stages(1.0 - config.start_share))

    def prepare(self, data: TrainingData, seed: int) -> None:
        """Noise patches; where the noise grows with the brightness, of images in which it does not."""
        if self.knows_even_noise:
            self.learn_even_noise(data)
            self.take_images(data)
            return
        found = self.cut_noise(data.noisy)
        if self.config.stabilise and not self.config.even:
            self.measure_growth(data, found)
        self.stabilised = self.even_noise.is_on
        # Departs from the paper: `cpu`: with `even=false`, where the noise grows with the brightness, all is
        # learned on intensities in which it does not.
        if self.stabilised:
            data = self.make_even(data)
            found = self.cut_noise(data.noisy)
        self.learn_noise(found, grown=self.stabilised)
        self.take_images(data)

    @property
    def knows_even_noise(self) -> bool:
        """Whether noise is of a known size, and measured."""
        return self.config.even and self.is_measured

    def choose_start(self, data: TrainingData) -> str:
        """The one for correlated noise, unless noise is even and found to be white."""
        if not self.knows_even_noise:
            return "correlated"
        self.even_copula = self.measure_even_noise(data)
        return "white" if self.smooth is None else "correlated"

    def learn_even_noise(self, data: TrainingData) -> None:
        """Draw the noise that was measured from now on, and keep what it was measured on for the report."""
        if self.even_copula is None:
            self.even_copula = self.measure_even_noise(data)
        self.draw_from(self.even_copula)
        if self.smooth is not None:
            self.keep_for_report(self.smooth, grown=True)
            self.smooth = None

    def measure_even_noise(self, data: TrainingData) -> Copula:
        """Even noise: normal, of a known size; where neighbours share it, smooth areas tell how.

        They show noise weaker or stronger than it is said to be where the law of a file took texture for
        noise, or saw only the part that neighbours do not share, and are then right. In dark areas, where
        little is counted, it is weaker too, and skewed: of white noise such areas tell nothing.
        """
        # Departs from the paper: `cpu`: the noise of each file is made even first, and normal noise is put
        # on estimates. Where neighbours do not share it, its size is known, and no smooth areas are needed;
        # else these tell the correlation.
        white = white_copula(data.noisy.channels, EVEN_LEVEL)
        try:
            smooth = self.cut_noise(data.noisy)
            measured = self.measure_copula(smooth)
        except InputError:
            if data.correlated:
                raise
            return white
        deviations = measured.deviations
        level = float(deviations[deviations > 0].mean())
        believed = min(max(level, EVEN_LEVEL / MISJUDGED), EVEN_LEVEL * MISJUDGED)
        if not data.correlated and (level != believed or measure_shared(smooth.pixels) <= SHARED):
            return white
        self.smooth = smooth
        return measured.normal(believed)

    def measure_growth(self, data: TrainingData, found: NoisePatches) -> None:
        """Set the transform by how the noise grows with the brightness; it stays off where it does not."""
        grows = measure_growth(data.noisy.arrays(), found)
        gain = np.array([one.gain for one in grows.noise])
        floor = np.array([one.floor for one in grows.noise])
        self.even_noise.set_variance(gain, floor, grows.dark, grows.typical, grows.ends)

    def make_even(self, data: TrainingData) -> TrainingData:
        """The noisy images with noise of one level; says so."""
        _say.warning(
            "the noise depends on the brightness, which the paper's assumption excludes; it is made even "
            "before learning, and that is undone in results; iddp and nb2nb take it as it is where "
            "neighbouring pixels do not share it, iscl with a clean set where they do"
        )
        noisy = data.noisy.like(torch.empty_like(data.noisy.flat))
        for index in range(len(noisy)):
            even = self.even_noise(data.noisy.plane(index)[None])
            noisy.plane(index).copy_(even[0])
        return TrainingData(noisy)

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """One step of the start, or one of the paper's."""
        if self.stabilised:
            batch = Batch(self.even_noise(batch.noisy))
        if at.stage == START:
            return self.start_step(batch.noisy, at)
        return super().step(batch, at)

    def start_step(self, z: Tensor, at: At) -> dict[str, Tensor]:
        """One step of the denoiser on recorrupted pairs of the noisy patches Z (B, C, P, P)."""
        # Departs from the paper: `cpu`: the first estimate is that of a denoiser trained on recorrupted
        # pairs, which goes on from there.
        upright = self.noise_like(z, "recorruption", at)
        noise = self.turn_like_batch(upright, at)
        seen, target = recorrupted_pair(z, noise, self.config.recorruption)
        return self.descend(g2g_loss(self.f(seen), target), at)

    def turn_like_batch(self, noise: Tensor, at: At) -> Tensor:
        """Noise (B, C, P, P) under the symmetries of the step's patches.

        Scan lines of a transposed patch run along columns.
        """
        places = self.noisy.draw(at.seed, at.step, len(noise))
        turns = places[:, 3].tolist()
        turned = [symmetric(one, k) for one, k in zip(noise, turns, strict=True)]
        return torch.stack(turned)

    @property
    def starts_from_scratch(self) -> bool:
        """Whether G2G_1 begins with fresh weights."""
        return self.config.from_scratch

    def estimate_first(self, z: Tensor, at: At) -> Tensor:
        """What the denoiser makes of Z where the start trained it; else as in the paper."""
        if self.config.start == "recorrupted":
            return self.estimate_again(z, at)
        return super().estimate_first(z, at)

    def make_target(self, estimate: Tensor, at: At) -> Tensor:
        """Z_j1, or its expectation, the estimate (B, C, P, P) itself."""
        # Departs from the paper: `cpu`: the target is the estimate itself.
        if not self.config.second_copy:
            return estimate
        return super().make_target(estimate, at)

    def denoise(self, x: Tensor) -> Tensor:
        """(B, C, H, W) network units -> same shape."""
        denoised = super().denoise(self.even_noise(x))
        return self.even_noise.back(denoised)
