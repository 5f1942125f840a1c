"""GAN2GAN (Cha et al., ICLR 2021): learn the noise from smooth areas, put it on estimates of the images, learn to take it off, again.

Read top to bottom: the equations as functions, the settings, the presets, the stages of the method. ``docs/methods/gan2gan.md`` lists every
departure.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.data.patches import Batch, PatchPool, TrainingData
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs, Stage, check_positive, follow, set_rate, update
from pairfree.methods.estimates import Estimates
from pairfree.methods.single import SingleConfig, SingleNetwork, run
from pairfree.methods.unpaired import constant
from pairfree.nets.blocks import channels_last, placed, total_stride
from pairfree.nets.dncnn import DnCNN
from pairfree.nets.gan2gan import LATENT, NoiseGenerator, RoughDenoiser, WassersteinCritic
from pairfree.noise.copula import REACH_PX, CopulaNoise, fit_copula
from pairfree.noise.patches import LEAST_PATCH_PX, MOST, doubts, extract

GENERATIVE, START = "generative", "start"
COPULA_PATCHES = 4000
"""Enough for a distribution and 33 x 33 correlations; the W-GAN gets the paper's 20,000."""
RECORRUPTED = "Pang et al., Recorrupted-to-Recorrupted: unsupervised deep learning for image denoising, CVPR 2021, arXiv:2102.02234"
_say = logging.getLogger("pairfree")


def wasserstein_loss(real: Tensor, fake: Tensor) -> Tensor:
    r"""What critics maximise and generators minimise.

    Equation   L_n = E[f1(n)] - E[f1(g1(r))] (5);  L_Z = E[f2(Z)] - E[f2(g2(Z) + g1(r))] (6)
    real, fake scores of any shape; returns a scalar in units of the score
    Source     Cha et al., eqs. 5 and 6 (W-GAN, Arjovsky et al. 2017)
    """
    return torch.mean(real) - torch.mean(fake)


def cycle_loss(z: Tensor, z_again: Tensor) -> Tensor:
    r"""E|Z - g3(g2(Z))|_1, mean over pixels; (B, C, H, W), network units; returns a scalar. Cha et al., eq. 7."""
    return torch.mean(torch.abs(z - z_again))


def g2g_loss(denoised: Tensor, target: Tensor) -> Tensor:
    r"""Noise2Noise on generated pairs.

    Noise model   Z = x + N, N zero-mean, additive, independent of x; any distribution and correlation
    Equation      L_G2G = mean (Z_1 - X(Z_2))^2, Z_i = X' + g1(r_i), X' = g2(Z) (9) or X_{j-1}(Z) (10)
    denoised      X(Z_2); target Z_1, or its expectation X', which has the same gradient in expectation and less scatter
    Shapes        both (B, C, H, W), network units; returns a scalar
    Source        Cha et al., eqs. 9 and 10 and the text below them
    """
    return torch.mean((target - denoised) ** 2)


def recorrupted_pair(z: Tensor, noise: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    r"""Two views of one noisy image with independent noise, made with a second draw of that noise.

    Noise model   Z = x + N and n of N's distribution, independent of it
    Equation      (Z + alpha n, Z - n / alpha): their noises N + alpha n and N - n / alpha are uncorrelated, independent for Gaussian N; at
                  alpha = 1, E[Z - n | Z + n] = E[x | Z + n] for any distribution, since N and n may be exchanged
    Source        Pang et al., Recorrupted-to-Recorrupted, CVPR 2021, eq. 8; alpha = 1: Moran et al., Noisier2Noise, CVPR 2020
    """
    return z + alpha * noise, z - noise / alpha


@dataclass(frozen=True)
class GAN2GANConfig(SingleConfig):
    """generator           what imitates the noise: "wgan", g1 of the paper, or "copula", measured and not trained (``noise.copula``)
    start               the first estimate of the images: "g2", the rough denoiser that is trained with g1; "z", the noisy image itself
                        (Figure 6); "recorrupted", a denoiser trained on recorrupted pairs
    start_share         part of the budget that the generative model, or that denoiser, gets
    iterations          j of G2G_j; they share the rest evenly
    second_copy         the target is a second noisy copy, as in the paper; False: the estimate itself
    from_scratch        G2G_1 begins with fresh weights; False: where the start ended
    recorruption        alpha of ``recorrupted_pair``
    noise_patch_px      side of the noise patches, even
    smooth_limit        lambda of rule (4); 0 is chosen from the data
    alpha, beta, gamma  weights of eqs. (5), (6), (7) in (8); beta = 0 and gamma = 0 are the ablations of Figure 6
    bounded             sigmoid at the end of g2; False is the ablation of Figure 6
    critic_width        channels of the critics' first level;  rough_width of g2 and g3
    critic_steps, critic_clip   updates of the critics for one of the generators, and the bound of their weights
    critic_lr, generator_lr     rates of RMSprop and Adam; the latter falls linearly to 0 over the last two thirds
    generative_batch    patches a step of the generative model, at most batch_size
    """

    generator: str = "wgan"
    start: str = "g2"
    start_share: float = 0.4
    iterations: int = 3
    second_copy: bool = True
    from_scratch: bool = True
    recorruption: float = 0.5
    noise_patch_px: int = 96
    smooth_limit: float = 0.0
    alpha: float = 5.0
    beta: float = 1.0
    gamma: float = 10.0
    bounded: bool = True
    critic_width: int = 128
    rough_width: int = 64
    critic_steps: int = 5
    critic_clip: float = 0.02
    critic_lr: float = 5e-5
    generator_lr: float = 4e-4
    generative_batch: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("iterations", "recorruption", "critic_width", "rough_width", "critic_steps", "critic_clip", "critic_lr", "generator_lr")
        check_positive("gan2gan", [(name, getattr(self, name)) for name in (*names, "generative_batch")])
        problems = []
        if self.generator not in ("wgan", "copula"):
            problems.append(f"generator = {self.generator!r} must be wgan or copula")
        if self.start not in ("g2", "z", "recorrupted"):
            problems.append(f"start = {self.start!r} must be g2, z or recorrupted")
        if self.start == "g2" and self.generator != "wgan":
            problems.append("start = 'g2' needs generator = 'wgan': both are trained together")
        if not 0 < self.start_share < 1:
            problems.append(f"start_share = {self.start_share} must lie between 0 and 1")
        if self.noise_patch_px % 2 or self.noise_patch_px < LEAST_PATCH_PX:
            problems.append(f"noise_patch_px = {self.noise_patch_px} must be even, at least {LEAST_PATCH_PX}")
        if self.generator == "wgan" and (self.patch_px < 32 or self.patch_px & (self.patch_px - 1) or self.patch_px > self.noise_patch_px):
            problems.append(f"patch_px = {self.patch_px}: a W-GAN makes noise of 32, 64, ... px, not larger than noise_patch_px")
        if min(self.alpha, self.beta, self.gamma, self.smooth_limit) < 0:
            problems.append("alpha, beta, gamma and smooth_limit must not be negative")
        if problems:
            raise ConfigError("gan2gan: " + "; ".join(problems))


PRESETS = {
    # Departs from the paper: `cpu`: the noise is imitated by a Gaussian copula instead of a W-GAN; the first estimate is that of a denoiser
    # trained on recorrupted pairs, which goes on from there; the target is the estimate itself; network, optimiser and precision are those
    # of every method's `cpu` preset.
    "cpu": GAN2GANConfig(
        patch_px=128, generator="copula", start="recorrupted", iterations=2, second_copy=False, from_scratch=False, minutes=10.0
    ),
    # Departs from the paper: `paper`: 64 px patches in G2G, as the authors' code has them, since g1 makes noise of that size; critics are
    # updated by RMSprop, as in that code, not by Adam.
    "paper": GAN2GANConfig(
        net="dncnn",
        optimizer="adam",
        beta2=0.999,
        max_norm=1e9,
        lr=1e-3,
        schedule="halvings",
        precision="float32",
        batch_size=128,
        minutes=0.0,
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
    """A flag that is saved with the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(0.0))
        self.value: Tensor


class GAN2GAN(SingleNetwork):
    key = "gan2gan"
    title = "GAN2GAN"
    needs = Needs.NOISY
    citation = "Cha et al., GAN2GAN: Generative noise learning for blind denoising with single noisy images, ICLR 2021, arXiv:1905.10488"
    assumption = "noise is zero-mean, additive and independent of the image, and some areas are smooth; it may be correlated"
    config: GAN2GANConfig

    def __init__(self, config: GAN2GANConfig, channels: int, device: torch.device | str = "cpu", net: nn.Module | None = None) -> None:
        super().__init__(config, channels, device, net)
        self.place = torch.device(device)
        self.fresh = copy.deepcopy(self.net)
        self.previous = copy.deepcopy(self.net).requires_grad_(False)
        self.networks["previous"] = self.previous
        self.chosen: nn.Module = self.net
        if config.generator == "wgan":
            self._build_generative(channels)
        self.noise: CopulaNoise | None = None
        self.patches: PatchPool | None = None
        self.data: TrainingData | None = None
        self.estimates: tuple[str, Estimates] | None = None

    def _build_generative(self, channels: int) -> None:
        config = self.config
        self.g1 = placed(NoiseGenerator(channels, px=config.patch_px), self.place)
        self.g2 = placed(RoughDenoiser(channels, config.rough_width, bounded=config.bounded), self.place)
        self.g3 = placed(DnCNN(channels, config.rough_width), self.place)
        self.f1, self.f2 = (placed(WassersteinCritic(channels, config.critic_width), self.place) for _ in range(2))
        self.networks |= {"g1": self.g1, "g2": self.g2, "g3": self.g3, "f1": self.f1, "f2": self.f2}
        generators, critics = ([p for net in nets for p in net.parameters()] for nets in ((self.g1, self.g2, self.g3), (self.f1, self.f2)))
        self.optimizers["g1, g2, g3"] = torch.optim.Adam(generators, lr=config.generator_lr, betas=(0.5, 0.999), foreach=True)
        self.optimizers["f1, f2"] = torch.optim.RMSprop(critics, lr=config.critic_lr, foreach=True)
        if config.start == "g2":
            self.networks["refined"] = refined = Refined().to(self.place)
            self.chosen = Chosen(self.g2, self.net, refined)

    @property
    def denoiser(self) -> nn.Module:
        return self.chosen

    def denoise(self, x: Tensor) -> Tensor:
        out: Tensor = self.chosen(channels_last(x))
        return out

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
        """Cut out the noise; with a copula, that is all there is to learn of it."""
        # Departs from the paper: Slow shading is taken off as a plane, before patches are judged and when they are cut.
        images = [data.noisy.plane(index).cpu().numpy() for index in range(len(data.noisy))]
        copula = self.config.generator == "copula"
        found = extract(images, self.config.noise_patch_px, most=COPULA_PATCHES if copula else MOST, threshold=self.config.smooth_limit)
        for line in doubts(found):
            _say.warning("warning: %s", line)
        if copula:
            reach = min(REACH_PX, self.config.noise_patch_px // 4)
            self.noise = CopulaNoise(fit_copula(found.pixels, reach)).to(self.place)
        else:
            self.patches = PatchPool(list(found.pixels), self.place, self.config.patch_px)
        self.data, self.estimates = data, None

    def load_tensors(self, tensors: Mapping[str, Tensor], optimizers: bool = True) -> None:
        super().load_tensors(tensors, optimizers)
        self.estimates = None

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        if at.stage == GENERATIVE:
            return self._generative_step(batch.noisy[: self.config.generative_batch], at)
        if at.stage == START:
            seen, target = recorrupted_pair(batch.noisy, self._noise_like(batch.noisy, "recorruption", at), self.config.recorruption)
            return self.descend(g2g_loss(self.f(seen), target), at)
        if at.stage_step == 0:
            self._begin_round(at)
        estimate = self._estimated(batch.noisy, at)
        target = estimate + self._noise_like(estimate, "first copy", at) if self.config.second_copy else estimate
        return self.descend(g2g_loss(self.f(estimate + self._noise_like(estimate, "second copy", at)), target), at)

    # -- the generative model ----------------------------------------------------------------------------------------------------------

    def _generative_step(self, z: Tensor, at: At) -> dict[str, Tensor]:
        """Algorithm 1, lines 4 to 11. What g1 and g2 make does not change while the critics learn, so it is made once."""
        config, patches = self.config, self.patches
        if patches is None:
            raise ConfigError("gan2gan: prepare must come before the first step")
        noise = patches.gather(patches.draw(at.seed, at.step, len(z), "noise patches"))
        made, rough = self.g1(self._latent(len(z), "latent", at)), self.g2(z)
        fixed_noise, fixed_noisy = made.detach(), (rough + made).detach()
        for _ in range(config.critic_steps):
            judged = wasserstein_loss(self.f1(noise), self.f1(fixed_noise))
            if config.beta > 0:
                judged = judged + wasserstein_loss(self.f2(z), self.f2(fixed_noisy))
            update(self.optimizers["f1, f2"], -judged, at, "f1, f2")
            with torch.no_grad():
                for parameter in (*self.f1.parameters(), *self.f2.parameters()):
                    parameter.clamp_(-config.critic_clip, config.critic_clip)
        with constant(self.f1, self.f2):
            loss = -config.alpha * torch.mean(self.f1(made))
            if config.beta > 0:
                loss = loss - config.beta * torch.mean(self.f2(rough + made))
        if config.gamma > 0:
            loss = loss + config.gamma * cycle_loss(z, self.g3(rough))
        set_rate(self.optimizers["g1, g2, g3"], config.generator_lr * min(1.0, 1.5 * (1.0 - at.progress)))
        update(self.optimizers["g1, g2, g3"], loss, at, "g1, g2, g3")
        return {"loss": loss.detach(), "critics": judged.detach(), "noise std": made.detach().std()}

    def _latent(self, count: int, purpose: str, at: At) -> Tensor:
        return torch.randn(count, LATENT, generator=at.rng(purpose, self.place), device=self.place)

    # -- G2G -----------------------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _noise_like(self, x: Tensor, purpose: str, at: At) -> Tensor:
        """A fresh draw of the noise for every patch of (B, C, H, W)."""
        if self.config.generator == "wgan":
            out: Tensor = self.g1.eval()(self._latent(len(x), purpose, at))
            return out
        if self.noise is None:
            raise ConfigError("gan2gan: prepare must come before the first step")
        return self.noise.sample((len(x), *x.shape[2:]), at.rng(purpose, self.place))

    def _begin_round(self, at: At) -> None:
        """phi_{j-1} makes the estimates from now on; phi_j starts there, or afresh."""
        follow(self.previous, self.net, 1.0)
        if self._is_first(at) and self.config.from_scratch:
            self.net.load_state_dict(self.fresh.state_dict())
        self.optimizers["net"].state.clear()
        if isinstance(self.chosen, Chosen):
            self.chosen.refined.value.fill_(1.0)

    def _is_first(self, at: At) -> bool:
        return at.stage == "G2G 1"

    def _estimated(self, z: Tensor, at: At) -> Tensor:
        """X' of eqs. (9) and (10) for the batch of step ``at``."""
        if self._is_first(at) and self.config.start == "z":
            return z
        if self.data is None:
            raise ConfigError("gan2gan: prepare must come before the first step")
        if self.estimates is None or self.estimates[0] != at.stage:
            apply = self._rough if self._is_first(at) and self.config.start == "g2" else self._refined
            self.estimates = at.stage, Estimates(self.data.noisy, apply, total_stride(self.net))
        return self.estimates[1].of(z, self.data.noisy.draw(at.seed, at.step, len(z)))

    @torch.no_grad()
    def _rough(self, x: Tensor) -> Tensor:
        return run(self.g2.eval(), x, self.precision)

    @torch.no_grad()
    def _refined(self, x: Tensor) -> Tensor:
        return run(self.previous.eval(), x, self.precision)
