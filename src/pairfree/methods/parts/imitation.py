"""What GAN2GAN and GCBD share: noise cut from smooth areas of noisy images, and a W-GAN that imitates it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pairfree.config import architecture
from pairfree.data.patches import PatchPool, TrainingData
from pairfree.errors import ConfigError
from pairfree.measure.noise_doubts import list_doubts
from pairfree.measure.noise_patches import NoisePatches
from pairfree.measure.smooth_areas import (
    GCBD_SUB_PX,
    LEAST_PATCH_PX,
    MOST,
    RULES,
    extract_noise,
)
from pairfree.methods.base import At, check_positive, set_rate, update
from pairfree.methods.parts.single import SingleConfig, SingleNetwork
from pairfree.nets.blocks import placed
from pairfree.nets.gan2gan import LATENT, CopulaNoise, NoiseGenerator, WassersteinCritic
from pairfree.sampling import spaced_indices

GENERATIVE = "generative"
"""The stage of the W-GAN."""
SHOWN = 64
"""Patches, spread over those that were found, that the report shows and compares."""
PUBLISHED: dict[str, Any] = {
    "net": "dncnn",
    "optimizer": "adam",
    "beta2": 0.999,
    "max_norm": 1e9,
    "lr": 1e-3,
    "schedule": "halvings",
    "precision": "float32",
    "batch_size": 128,
    "minutes": 0.0,
}
"""The denoiser and its training in GAN2GAN's tables."""
_say = logging.getLogger("pairfree")


@dataclass(frozen=True)
class ImitationConfig(SingleConfig):
    """Settings of the smooth areas and of the W-GAN; rates, widths and clipping are GAN2GAN's."""

    rule: str = "wavelet"
    """How smooth areas are found: "wavelet", GAN2GAN's eq. (4), or "gcbd", its eq. (3)."""
    noise_patch_px: int = 96
    """Side of the noise patches, even, from 32 up; images with little smooth area need smaller ones."""
    generator_px: int = architecture(0)
    """Side of what the W-GAN's generator makes at once, 32, 64, ...; larger noise is put together from it; 0
    is patch_px."""
    smooth_limit: float = 0.0
    """lambda of rule (4), with all sub-bands alike, as printed; 0: it and their proportions are chosen from
    the data."""
    critic_width: int = architecture(128)
    """Channels of the critics' first level."""
    critic_steps: int = 5
    """n_critic: updates of the critics for one of the generators."""
    critic_clip: float = 0.02
    """c: bound of the critics' weights."""
    critic_lr: float = 5e-5
    """alpha_critic: rate of RMSprop, which updates the critics."""
    generator_lr: float = 4e-4
    """alpha_g: rate of Adam, which updates the generators; it falls linearly to 0 over the last two
    thirds."""
    generative_batch: int = 64
    """m: patches a step of the generative model, at most batch_size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = (
            "critic_width",
            "critic_steps",
            "critic_clip",
            "critic_lr",
            "generator_lr",
            "generative_batch",
        )
        check_positive(type(self).__name__, [(name, getattr(self, name)) for name in names])
        problems = self.own_problems()
        if problems:
            raise ConfigError(f"{type(self).__name__}: " + "; ".join(problems))

    @property
    def made_px(self) -> int:
        """Side of what the generator makes at once."""
        return self.generator_px or self.patch_px

    def own_problems(self) -> list[str]:
        """What is wrong with the settings, a phrase each; a subclass adds those of its own."""
        problems = []
        if self.rule not in RULES:
            problems.append(f"rule = {self.rule!r} must be one of {', '.join(RULES)}")
        multiple = GCBD_SUB_PX if self.rule == "gcbd" else 2
        if self.noise_patch_px < LEAST_PATCH_PX or self.noise_patch_px % multiple:
            problems.append(
                f"noise_patch_px = {self.noise_patch_px} must be even, at least {LEAST_PATCH_PX} "
                "(a multiple of 16 with rule gcbd)"
            )
        problems += self.generator_problems()
        if self.smooth_limit < 0:
            problems.append("smooth_limit must not be negative")
        return problems

    def generator_problems(self) -> list[str]:
        """What is wrong with the settings of what imitates the noise."""
        px = self.made_px
        most = min(self.patch_px, self.noise_patch_px)
        if 32 <= px <= most and px & (px - 1) == 0:
            return []
        return [
            f"generator_px = {px} must be 32, 64, ... and not larger than patch_px and noise_patch_px"
        ]


class Imitation(SingleNetwork):
    """Cuts noise from smooth areas, owns g1 and its critic f1, and makes noise for a batch.

    A subclass with more generators and critics builds them in ``build_generative_model``; their losses are
    its own.
    """

    config: ImitationConfig

    def __init__(
        self,
        config: ImitationConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, channels, device, net)
        self.place = torch.device(device)
        self.patches: PatchPool | None = None
        self.found: Tensor | None = None
        self.generators: dict[str, nn.Module] = {}
        self.critics: dict[str, nn.Module] = {}
        self.build_generative_model(channels)
        for name, made in (self.generators | self.critics).items():
            self.networks[name] = placed(made, self.place)

    def build_generative_model(self, channels: int) -> None:
        """g1 and its critic f1, by name in ``generators`` and ``critics``."""
        self.g1 = NoiseGenerator(channels, px=self.config.made_px)
        self.f1 = WassersteinCritic(channels, self.config.critic_width)
        self.generators = {"g1": self.g1}
        self.critics = {"f1": self.f1}

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Of the denoiser, of all generators together and of all critics together."""
        made = super().make_optimizers()
        if not self.generators:
            return made
        config = self.config
        made[joint_name(self.generators)] = torch.optim.Adam(
            parameters_of(self.generators), lr=config.generator_lr, betas=(0.5, 0.999), foreach=True
        )
        made[joint_name(self.critics)] = torch.optim.RMSprop(
            parameters_of(self.critics), lr=config.critic_lr, foreach=True
        )
        return made

    def prepare(self, data: TrainingData, seed: int) -> None:
        """Cut out the noise, and get ready to learn it."""
        self.learn_noise(self.cut_noise(data.noisy))

    # -- noise as it was found -------------------------------------------------------------------------------

    def cut_noise(self, noisy: PatchPool) -> NoisePatches:
        """The noise of the smooth areas of ``noisy``, found by the config's rule."""
        config = self.config
        return extract_noise(
            noisy.arrays(),
            config.noise_patch_px,
            most=self.most_patches,
            rule=config.rule,
            threshold=config.smooth_limit,
        )

    @property
    def most_patches(self) -> int:
        """Patches that are cut out at most."""
        return MOST

    def learn_noise(self, found: NoisePatches, grown: bool = False) -> None:
        """Get ready to learn the noise that was found, and warn of what is doubtful about it.

        Parameters
        ----------
        found
            The noise patches.
        grown
            That the level of the noise follows the brightness is known and met.
        """
        self.keep_for_report(found, grown)
        self.patches = PatchPool(list(found.pixels), self.place, self.config.made_px)

    def keep_for_report(self, found: NoisePatches, grown: bool) -> None:
        """Keep a few patches to show, and warn of what is doubtful about them."""
        shown = found.pixels[spaced_indices(len(found.pixels), SHOWN)]
        self.found = torch.from_numpy(shown).to(self.place)
        for line in list_doubts(found, grown):
            _say.warning("%s", line)

    def noise_patches(self, count: int, at: At) -> Tensor:
        """Patches of the noise as it was cut out, upright, (count, C, P, P)."""
        patches = self.prepared(self.patches)
        places = patches.draw(at.seed, at.step, count, "noise patches")
        return patches.gather(places, augment=False)

    # -- noise that is made ----------------------------------------------------------------------------------

    def latent(self, count: int, purpose: str, at: At) -> Tensor:
        """The latent r of the papers, what g1 starts from: (count, 128), standard normal."""
        return torch.randn(count, LATENT, generator=at.rng(purpose, self.place), device=self.place)

    def noise_source(self) -> NoiseGenerator | CopulaNoise:
        """What noise is drawn from when it is put on images."""
        return self.g1.eval()

    @torch.no_grad()
    def noise_like(self, x: Tensor, purpose: str, at: At) -> Tensor:
        """A fresh draw of the noise for every patch of (B, C, H, W)."""
        count, _, height, width = x.shape
        return self.noise_source().sample((count, height, width), at.rng(purpose, self.place))

    def noise_samples(self) -> tuple[Tensor, Tensor] | None:
        """Noise found and noise made, (N, C, P, P) in network units; None where none was cut out."""
        if self.found is None:
            return None
        return self.found, self.noise_like(self.found, "report", At(0, 0, "report", 0, 1))

    # -- updates ---------------------------------------------------------------------------------------------

    def teach_critics(self, distance: Callable[[], Tensor], at: At) -> Tensor:
        """``critic_steps`` steps up a Wasserstein distance, weights clipped after each; returns the last."""
        name = joint_name(self.critics)
        bound = self.config.critic_clip
        judged = torch.zeros(())
        for _ in range(self.config.critic_steps):
            judged = distance()
            update(self.optimizers[name], -judged, at, name)
            with torch.no_grad():
                for parameter in parameters_of(self.critics):
                    parameter.clamp_(-bound, bound)
        return judged.detach()

    def teach_generators(self, loss: Tensor, at: At) -> None:
        """One step of the generators down ``loss``; their rate falls over two thirds of the stage."""
        name = joint_name(self.generators)
        rate = self.config.generator_lr * min(1.0, 1.5 * (1.0 - at.progress))
        set_rate(self.optimizers[name], rate)
        update(self.optimizers[name], loss, at, name)


def joint_name(nets: dict[str, nn.Module]) -> str:
    """Of the optimiser that these networks share."""
    return ", ".join(nets)


def parameters_of(nets: dict[str, nn.Module]) -> list[nn.Parameter]:
    """All weights of several networks, in their order."""
    return [parameter for net in nets.values() for parameter in net.parameters()]
