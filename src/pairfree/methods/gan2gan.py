"""GAN2GAN (Cha et al., ICLR 2021): learn the noise from smooth areas, put it on estimates of the images, learn to take it off, again.

Read top to bottom: the equations as functions, the settings, the presets, the stages of the method. ``docs/methods/gan2gan.md`` lists every
departure.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pairfree.data import processes
from pairfree.data.patches import Batch, TrainingData, symmetric
from pairfree.measure.smooth_areas import NoisePatches
from pairfree.measure.variance_in_patches import growth
from pairfree.methods.base import At, Needs, Stage, check_positive
from pairfree.methods.parts.even_noise import EvenNoise
from pairfree.methods.parts.imitation import (
    GENERATIVE,
    PUBLISHED,
    Imitation,
    ImitationConfig,
    wasserstein_loss,
)
from pairfree.methods.parts.rounds import Rounds, g2g_loss
from pairfree.methods.parts.single import run_network
from pairfree.methods.parts.unpaired import frozen
from pairfree.nets.blocks import placed
from pairfree.nets.dncnn import DnCNN
from pairfree.nets.gan2gan import RoughDenoiser, WassersteinCritic
from pairfree.nets.traits import total_stride

_say = logging.getLogger("pairfree")
START = "start"
RECORRUPTED = "Pang et al., Recorrupted-to-Recorrupted: unsupervised deep learning for image denoising, CVPR 2021, arXiv:2102.02234"


def cycle_loss(z: Tensor, z_again: Tensor) -> Tensor:
    r"""E|Z - g3(g2(Z))|_1, mean over pixels; (B, C, H, W), network units; returns a scalar. Cha et al., eq. 7."""
    return torch.mean(torch.abs(z - z_again))


def generator_loss(
    judged_noise: Tensor, judged_noisy: Tensor, cycle: Tensor, weights: tuple[float, float, float]
) -> Tensor:
    r"""What g1, g2 and g3 minimise: of alpha L_n + beta L_Z + gamma L_cyc, the part that depends on them.

    Equation                    - alpha E[f1(g1(r))] - beta E[f2(g2(Z) + g1(r))] + gamma L_cyc
    judged_noise, judged_noisy  scores f1(g1(r)) and f2(g2(Z) + g1(r)), any shape;  cycle   L_cyc, a scalar;  weights   alpha, beta, gamma
    Returns                     a scalar; a part of weight 0 is left out, whatever it is
    Source                      Cha et al., eq. 8
    """
    parts = (-torch.mean(judged_noise), -torch.mean(judged_noisy), cycle)
    used = [weight * part for weight, part in zip(weights, parts, strict=True) if weight > 0]
    return torch.stack(used).sum() if used else judged_noise.new_zeros(())


def recorrupted_pair(z: Tensor, noise: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    r"""Two views of one noisy image with independent noise, made with a second draw of that noise.

    Noise model   Z = x + N and n of N's distribution, independent of it
    Equation      (Z + alpha n, Z - n / alpha): their noises N + alpha n and N - n / alpha are uncorrelated, independent for Gaussian N; at
                  alpha = 1, E[Z - n | Z + n] = E[x | Z + n] for any distribution, since N and n may be exchanged
    Source        Pang et al., Recorrupted-to-Recorrupted, CVPR 2021, eq. 8; alpha = 1: Moran et al., Noisier2Noise, CVPR 2020
    """
    return z + alpha * noise, z - noise / alpha


@dataclass(frozen=True)
class GAN2GANConfig(ImitationConfig):
    """start               the first estimate of the images: "g2", the rough denoiser that is trained with g1; "z", the noisy image itself
                        (Figure 6); "recorrupted", a denoiser trained on recorrupted pairs
    start_share         part of the budget that the generative model, or that denoiser, gets
    iterations          j of G2G_j; they share the rest evenly
    second_copy         the target is a second noisy copy, as in the paper; False: the estimate itself
    from_scratch        G2G_1 begins with fresh weights; False: where the start ended
    recorruption        alpha of ``recorrupted_pair``
    stabilise           where the noise grows with the brightness, all is learned on intensities in which it does not (``parts.even_noise``)
    alpha, beta, gamma  weights of eqs. (5), (6), (7) in (8); beta = 0 and gamma = 0 are the ablations of Figure 6
    bounded             sigmoid at the end of g2; False is the ablation of Figure 6
    rough_width         channels of g2 and g3
    """

    start: str = "g2"
    start_share: float = 0.4
    iterations: int = 3
    second_copy: bool = True
    from_scratch: bool = True
    recorruption: float = 0.5
    stabilise: bool = False
    alpha: float = 5.0
    beta: float = 1.0
    gamma: float = 10.0
    bounded: bool = True
    rough_width: int = 64

    def own_problems(self) -> list[str]:
        check_positive(
            type(self).__name__,
            [(name, getattr(self, name)) for name in ("iterations", "recorruption", "rough_width")],
        )
        problems = []
        if self.start not in ("g2", "z", "recorrupted"):
            problems.append(f"start = {self.start!r} must be g2, z or recorrupted")
        if self.start == "g2" and self.generator != "wgan":
            problems.append("start = 'g2' needs generator = 'wgan': both are trained together")
        if not 0 < self.start_share < 1:
            problems.append(f"start_share = {self.start_share} must lie between 0 and 1")
        if min(self.alpha, self.beta, self.gamma) < 0:
            problems.append("alpha, beta and gamma must not be negative")
        return problems


PRESETS = {
    # Departs from the paper: `cpu`: the noise is imitated by a Gaussian copula instead of a W-GAN; the first estimate is that of a denoiser
    # trained on recorrupted pairs, which goes on from there; the target is the estimate itself; where the noise grows with the brightness,
    # all is learned on intensities in which it does not; network, optimiser and precision are those of every method's `cpu` preset.
    "cpu": GAN2GANConfig(
        generator="copula",
        start="recorrupted",
        iterations=2,
        second_copy=False,
        from_scratch=False,
        stabilise=True,
    ),
    # Departs from the paper: `paper`: 64 px patches in G2G, as the authors' code has them; critics are updated by RMSprop, as in that code,
    # not by Adam; the sigmoid of g2 spans the range of the images, which is [0, 1] for 8-bit files only; 20,000 noise patches of any data,
    # where the paper has 40,000 of micrographs.
    "paper": GAN2GANConfig(
        **PUBLISHED,
        steps=23_790,
        start_share=0.395,
    ),
}


class Chosen(nn.Module):
    """The rough denoiser until G2G begins, then the denoiser. ``refined`` says which, and is part of the saved state."""

    def __init__(self, rough: nn.Module, net: nn.Module, refined: Refined) -> None:
        super().__init__()
        self.rough, self.net, self.refined = rough, net, refined
        self.stride = total_stride(net)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x) if bool(self.refined.value) else self.rough(x)
        return out


class Refined(nn.Module):
    """A flag that is saved with the weights of its own run; another run begins with its own."""

    measured_from_data = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(0.0))
        self.value: Tensor


class GAN2GAN(Imitation):
    key = "gan2gan"
    title = "GAN2GAN"
    needs = Needs.NOISY
    citation = "Cha et al., GAN2GAN: Generative noise learning for blind denoising with single noisy images, ICLR 2021, arXiv:1905.10488"
    assumption = "noise is zero-mean and additive, and some areas are smooth; it may be correlated, and with preset cpu grow with the brightness"
    config_type = GAN2GANConfig
    config: GAN2GANConfig

    def __init__(
        self,
        config: GAN2GANConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, channels, device, net)
        self.rounds = Rounds(self.net, self.precision)
        self.networks["previous"] = self.rounds.previous
        if config.from_scratch:
            self.networks["fresh"] = self.rounds.fresh  # part of the state: with --init, it is what was given
        self.chosen: nn.Module = self.net
        if config.start == "g2":
            self.networks["refined"] = refined = Refined().to(self.place)
            self.chosen = Chosen(self.g2, self.net, refined)
        self.even = EvenNoise(channels).to(self.place)
        if config.stabilise:
            self.networks["even"] = self.even
        self.stabilised = False
        self.data: TrainingData | None = None

    def generative_networks(self, channels: int) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
        generators, critics = super().generative_networks(channels)
        self.g2 = placed(
            RoughDenoiser(channels, self.config.rough_width, bounded=self.config.bounded), self.place
        )
        self.g3 = placed(DnCNN(channels, self.config.rough_width), self.place)
        self.f2 = placed(WassersteinCritic(channels, self.config.critic_width), self.place)
        return {**generators, "g2": self.g2, "g3": self.g3}, {**critics, "f2": self.f2}

    @property
    def denoiser(self) -> nn.Module:
        return self.chosen

    @property
    def sources(self) -> tuple[str, ...]:
        return (*super().sources, *((RECORRUPTED,) if self.config.start == "recorrupted" else ()))

    def stages(self) -> tuple[Stage, ...]:
        config = self.config
        first = [GENERATIVE] * (config.generator == "wgan") + [START] * (config.start == "recorrupted")
        left = 1.0 - config.start_share if first else 1.0
        rounds = [Stage(f"G2G {j}", left / config.iterations) for j in range(1, config.iterations + 1)]
        return (*(Stage(name, config.start_share / len(first)) for name in first), *rounds)

    def prepare(self, data: TrainingData, seed: int) -> None:
        # Departs from the paper: Slow shading is taken off as a plane, before patches are judged and when they are cut; candidates lie 8 px
        # apart; lambda and the proportions of the sub-bands follow from the data, and patches above the noise's level are left out.
        found = self.cut_noise(data.noisy)
        if self.config.stabilise:
            found, data = self._stabilised(found, data)
        self.stabilised = self.even.on
        self.imitate(found, grown=self.stabilised)
        self.data = data
        self.rounds.forget()
        if self.config.start == "g2" and self.config.bounded:
            self.g2.span(data.noisy.flat)

    def _stabilised(self, found: NoisePatches, data: TrainingData) -> tuple[NoisePatches, TrainingData]:
        """Where the noise grows with the brightness: images in which it does not, and their noise."""
        grows = growth(data.noisy.arrays(), found)
        gain, floor = (np.array([getattr(one, name) for one in grows.noise]) for name in ("gain", "floor"))
        self.even.set(gain, floor, grows.dark, grows.typical, grows.ends)
        if not self.even.on:
            return found, data
        _say.warning(
            "the noise depends on the brightness, which the paper's assumption excludes; it is made even before learning, and "
            "that is undone in results; iddp and nb2nb take it as it is where neighbouring pixels do not share it, iscl with a clean set "
            "where they do"
        )
        noisy = data.noisy.like(torch.empty_like(data.noisy.flat))
        for index in range(len(noisy)):
            noisy.plane(index).copy_(self.even(data.noisy.plane(index)[None])[0])
        return self.cut_noise(noisy), TrainingData(noisy)

    def denoise(self, x: Tensor) -> Tensor:
        return self.even.back(super().denoise(self.even(x)))

    def load_tensors(self, tensors: Mapping[str, Tensor], optimizers: bool = True) -> None:
        super().load_tensors(tensors, optimizers)
        self.rounds.forget()

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        if self.stabilised:
            batch = Batch(self.even(batch.noisy))
        if at.stage == GENERATIVE:
            return self._generative_step(self._upright(batch, at), at)
        if at.stage == START:
            noise = self._turned_like(batch, self.noise_like(batch.noisy, "recorruption", at), at)
            seen, target = recorrupted_pair(batch.noisy, noise, self.config.recorruption)
            return self.descend(g2g_loss(self.f(seen), target), at)
        if at.stage_step == 0:
            self._begin_round(at)
        estimate = self._estimated(batch.noisy, at)
        target = (
            estimate + self.noise_like(estimate, "first copy", at) if self.config.second_copy else estimate
        )
        return self.descend(
            g2g_loss(self.f(estimate + self.noise_like(estimate, "second copy", at)), target), at
        )

    def _turned_like(self, batch: Batch, noise: Tensor, at: At) -> Tensor:
        """Noise (B, C, P, P) under the symmetries of the batch's patches: scan lines of a transposed patch run along columns."""
        turns = self.prepared(self.data).noisy.draw(at.seed, at.step, len(batch.noisy))[:, 3]
        return torch.stack([symmetric(one, k) for one, k in zip(noise, turns.tolist(), strict=True)])

    # -- the generative model ----------------------------------------------------------------------------------------------------------

    def _upright(self, batch: Batch, at: At) -> Tensor:
        """The batch's patches as they lie in the images, as the noise was cut out: the critics must not tell noise by its direction."""
        pool, px = self.prepared(self.data).noisy, self.config.made_px
        places = pool.draw(at.seed, at.step, len(batch.noisy))[
            : processes.own_share(self.config.generative_batch)
        ]
        return pool.gather(places, augment=False)[..., :px, :px]

    def _generative_step(self, z: Tensor, at: At) -> dict[str, Tensor]:
        """Algorithm 1, lines 4 to 11. What g1 and g2 make does not change while the critics learn, so it is made once."""
        config = self.config
        noise = self.noise_patches(len(z), at)
        made, rough = self.g1(self.latent(len(z), "latent", at)), self.g2(z)
        fixed_noise, fixed_noisy = made.detach(), (rough + made).detach()

        def distance() -> Tensor:
            found = wasserstein_loss(self.f1(noise), self.f1(fixed_noise))
            return found + wasserstein_loss(self.f2(z), self.f2(fixed_noisy)) if config.beta > 0 else found

        judged = self.teach_critics(distance, at)
        with frozen(self.f1, self.f2):
            judged_noisy = self.f2(rough + made) if config.beta > 0 else torch.zeros(())
            cycle = cycle_loss(z, self.g3(rough)) if config.gamma > 0 else torch.zeros(())
            loss = generator_loss(
                self.f1(made), judged_noisy, cycle, (config.alpha, config.beta, config.gamma)
            )
        self.teach_generators(loss, at)
        return {"loss": loss.detach(), "critics": judged, "noise std": made.detach().std()}

    # -- G2G -----------------------------------------------------------------------------------------------------------------------------

    def _begin_round(self, at: At) -> None:
        self.rounds.begin(self.optimizers["net"], afresh=self._is_first(at) and self.config.from_scratch)
        if isinstance(self.chosen, Chosen):
            self.chosen.refined.value.fill_(1.0)

    def _is_first(self, at: At) -> bool:
        return at.stage == "G2G 1"

    def _estimated(self, z: Tensor, at: At) -> Tensor:
        """X' of eqs. (9) and (10) for the batch of step ``at``."""
        first = self._is_first(at)
        if first and self.config.start == "z":
            return z
        return self.rounds.estimated(
            self.prepared(self.data).noisy,
            z,
            at,
            self._rough if first and self.config.start == "g2" else None,
        )

    @torch.no_grad()
    def _rough(self, x: Tensor) -> Tensor:
        return run_network(self.g2.eval(), x, self.precision)
