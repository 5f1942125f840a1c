"""ISCL (Lee & Jeong, IEEE TMI 2021): a cycle of denoiser and noise adder, and a noise extractor, teach each other from unpaired sets.

Read top to bottom: the equations as functions, the presets, the step of Algorithm 1; the settings are in ``iscl_config``.
``docs/methods/iscl.md`` lists every departure. All images here lie in [-1, 1]: the package's network units, through ``signed``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pairfree.data.patches import Batch, TrainingData
from pairfree.methods.base import At, Needs, Stage, require, set_rate, update
from pairfree.methods.iscl_config import ISCLConfig, extractor, optimizer, radam, translator
from pairfree.methods.parts.averages import SWA, Lookahead
from pairfree.methods.parts.transplant import Transplant
from pairfree.methods.parts.unpaired import (
    Bounded,
    UnpairedMethod,
    constant,
    grid_loss,
    inside,
    local_mean,
    settle,
    vital_signs,
)
from pairfree.nets.batch_instance_norm import drop_statistics, recompute_running_statistics
from pairfree.nets.blocks import channels_last, clip, placed
from pairfree.nets.iscl import Critic
from pairfree.nets.traits import total_stride

START = "start"
RENEWALS = (0.4, 0.7, 1.0)
"""Positions in the start at which the noise is renewed."""
SETTLING_BATCHES = 30
"""Batches that normalisation statistics of the averaged denoiser are computed from."""
DETAIL_PX = 17
"""Side of the window whose mean is taken off before the critics see an image of calibrated sets."""


def adversarial_loss(fake: Tensor) -> Tensor:
    r"""What a generator pays to its critic.

    Equation   L_F = -E[D_Y(F(x))] (2);  L_G = -E[D_X(G(y))] (3)
    fake       scores of generated images, any shape; returns a scalar in units of the score
    Source     Lee & Jeong, eqs. 2 and 3 (hinge loss, Lim & Ye 2017)
    """
    return -torch.mean(fake)


def cycle_loss(x: Tensor, x_again: Tensor, y: Tensor, y_again: Tensor) -> Tensor:
    r"""There and back again.

    Equation   L_cycle = E|x - G(F(x))|_1 + E|y - F(G(y))|_1, means over pixels
    Breaks when   F hides the noise in an image that looks clean: G then finds it there. The bypass forbids it.
    Shapes     all (B, C, H, W) in [-1, 1]; returns a scalar
    Source     Lee & Jeong, eq. 5
    """
    return torch.mean(torch.abs(x - x_again)) + torch.mean(torch.abs(y - y_again))


def identity_loss(x: Tensor, x_kept: Tensor, y: Tensor, y_kept: Tensor) -> Tensor:
    r"""What is in the domain already stays as it is; without it a cycle may run through inverted contrast. CycleGAN's, not ISCL's.

    Equation   L_identity = E|F(y) - y|_1 + E|G(x) - x|_1, means over pixels
    Shapes     x_kept G(x), y_kept F(y); all (B, C, H, W) in [-1, 1]; returns a scalar
    Source     Zhu et al., ICCV 2017, section 5.2
    """
    return torch.mean(torch.abs(x - x_kept)) + torch.mean(torch.abs(y - y_kept))


def bypass_loss(
    denoised: Tensor, pseudo_clean: Tensor, y: Tensor, y_again: Tensor, agreement: float = 1.0
) -> Tensor:
    r"""The denoiser must agree with the extractor, on noisy images and on clean ones with extracted noise.

    Noise model    x = y' + n(y'), anything that H can learn to extract; neither zero-mean nor independent
    Equation       L_bypass = E|F(x) - (x - H(x))|_1 + E|y - F(y + H(x))|_1, means over pixels
    denoised       F(x); pseudo_clean x - H(x), a constant; y_again F(y + H(x)), H(x) a constant; (B, C, H, W) in [-1, 1]
    agreement      weight of the first term; 1 is the paper
    Returns        scalar
    Source         Lee & Jeong, eq. 6
    """
    return agreement * torch.mean(torch.abs(denoised - pseudo_clean)) + torch.mean(torch.abs(y - y_again))


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    r"""Hinge loss of a critic.

    Equation   L_D = E[max(0, 1 - D(real))] + E[max(0, D(fake))]
    real, fake scores, any shape; returns a scalar
    Source     Lee & Jeong, eq. 8
    """
    # Departs from the paper: Eqs. (8) and (9) print min(0, .), which gives no gradient where D(real) < 1; here max(0, .), as the authors'
    # code does, with margin 0 on the fake side.
    return torch.mean(torch.relu(1.0 - real)) + torch.mean(torch.relu(fake))


def boosting_loss(fake_clean: Tensor, fake_noisy: Tensor) -> Tensor:
    r"""Two more fakes for the critics, made with the extractor.

    Equation     L_bst = E[max(0, D_Y(x - H(x)))] + E[max(0, D_X(y + H(x)))]
    fake_clean   D_Y(x - H(x)); fake_noisy D_X(y + H(x)); scores of any shape; returns a scalar
    Source       Lee & Jeong, eq. 9
    """
    return torch.mean(torch.relu(fake_clean)) + torch.mean(torch.relu(fake_noisy))


def pseudo_noise_loss(noise: Tensor, x: Tensor, denoised: Tensor) -> Tensor:
    r"""The extractor learns what the denoiser removes.

    Equation   L_pseudo = E|H(x) - (x - F(x))|_1, mean over pixels
    noise      H(x); denoised F(x), a constant; (B, C, H, W) in [-1, 1] (noise: differences of such); returns a scalar
    Source     Lee & Jeong, eq. 10
    """
    return torch.mean(torch.abs(noise - (x - denoised)))


def noise_consistency_loss(y: Tensor, made_noisy: Tensor, noise: Tensor) -> Tensor:
    r"""The extractor finds the noise that the noise adder put in, whose clean image is known.

    Equation     L_nc = E|G(y) - y - H(G(y))|_1, mean over pixels
    made_noisy   G(y), a constant; noise H(G(y)); (B, C, H, W); returns a scalar
    Source       Lee & Jeong, eq. 11
    """
    return torch.mean(torch.abs(made_noisy - y - noise))


def generator_loss(fake_clean: Tensor, fake_noisy: Tensor, nested: Tensor, weight: float) -> Tensor:
    r"""L_gen = L_F + L_G + lambda L_nested (1), L_nested = L_cycle + L_bypass (4); scores, scalar, scalar -> scalar. Lee & Jeong, eq. 1."""
    return adversarial_loss(fake_clean) + adversarial_loss(fake_noisy) + weight * nested


def without_noise(x: Tensor, noise: Tensor) -> Tensor:
    """x - H(x), clipped to [-1, 1]; shapes (B, C, H, W)."""
    # Departs from the paper: x - H(x) is clipped to [-1, 1] wherever it is used, as the authors' code does with the output.
    return clip(x - noise, -1.0, 1.0)


class Ensemble(nn.Module):
    r"""y = gamma F(x) + (1 - gamma) (x - H(x)), eq. (13); (B, C, H, W) in [-1, 1]. Without H (CycleGAN) it is F alone.

    match    applied to x before both; the identity in the paper
    """

    def __init__(
        self, denoise: nn.Module, extract: nn.Module | None, gamma: float, match: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.denoise, self.extract, self.gamma, self.match = denoise, extract, gamma, match
        self.stride = total_stride(denoise)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.both(x)
        return first if second is None else self.gamma * first + (1.0 - self.gamma) * second

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """F(x), and x - H(x) where there is an H."""
        x = x if self.match is None else self.match(x)
        return self.denoise(x), None if self.extract is None else without_noise(x, self.extract(x))


SCRATCH = ISCLConfig(
    width=16,
    blocks=2,
    extractor_width=16,
    extractor_depth=8,
    critic_width=16,
    critic_norm=False,
    batch_size=8,
    lr=7e-4,
    lr_end=7e-6,
    share_passes=True,
    precision="auto",
    minutes=10.0,
    steps=0,
)
"""The paper's networks and losses from random weights, made small enough for ten minutes: CycleGAN's `cpu`, and the ablation's rows."""
PRESETS = {
    # Departs from the paper: `cpu`: the first 60 % of the time go to a start. The difference between the two sets' power spectra gives
    # gain, offset and spectrum of the noise; F and H learn from clean patches with such noise, first Gaussian (skewed where it is noise of
    # counts), then what H takes out of the noisy images, brought to that spectrum (`methods/parts/transplant.py`).
    # Departs from the paper: `cpu`: after the start, such noise takes the place of H(x) in eqs. (6) and (9), G changes a clean image that
    # already carries it, the cycle of x trains G alone and that of y trains F alone, the first term of eq. (6) has a tenth of the weight, H
    # also learns from that noise, and the critics' part of eq. (1) grows to its full size over 30 % of the steps.
    # Departs from the paper: `cpu`: where the noise has a direction (its spectrum and the transposed one differ), noisy patches and drawn
    # noise are flipped but not turned.
    # Departs from the paper: `cpu`: what F and H remove from noisy images pays 300 times its variance over the places of the networks' grid
    # (`grid_loss` in `methods/parts/unpaired.py`): without it, ten minutes of an adversarial loss laid a grid of several grey levels over
    # real micrographs.
    # Departs from the paper: `cpu`: where structures fill the images unevenly and intensities are therefore taken to be calibrated, the
    # critics see images minus their mean over 17 x 17 px: else what one set shows more of, fat or lung, moves the other's intensities.
    # Departs from the paper: `cpu`: F, G and H are small U-Nets (F and G begin at the identity) trained with Muon; critics have 16 channels
    # and no normalisation; batches of 16; averages begin at half of the steps; F(x), G(y) and H(x) are computed once a step instead of
    # after each update; bfloat16 convolutions where they are faster.
    "cpu": ISCLConfig(
        nets="residual",
        width=16,
        extractor_width=16,
        critic_width=16,
        critic_norm=False,
        batch_size=16,
        lr=1e-3,
        lr_end=1e-5,
        critic_lr=5e-4,
        optimizer="muon",
        start=0.6,
        agreement=0.1,
        grid_weight=300.0,
        critics_ramp=0.3,
        swa_from=0.5,
        share_passes=True,
        precision="auto",
        minutes=10.0,
        steps=0,
    ),
    "paper": ISCLConfig(),
}


@dataclass(frozen=True)
class Seen:
    """A batch of Algorithm 1 and what the networks make of it, all (B, C, H, W) in [-1, 1].

    x, y       noisy and clean patches
    denoised   F(x);  noised  G(y)
    noise      H(x), a constant;  imitated  y + H(x), a constant; None without an extractor
    """

    x: Tensor
    y: Tensor
    denoised: Tensor
    noised: Tensor
    noise: Tensor | None
    imitated: Tensor | None


class ISCL(UnpairedMethod):
    key = "iscl"
    title = "ISCL (interdependent self-cooperative learning)"
    needs = Needs.CLEAN
    citation = "Lee & Jeong, ISCL: Interdependent self-cooperative learning for unpaired image denoising, IEEE TMI 2021, arXiv:2102.09858"
    assumption = (
        "the clean set shows the same kind of structures at the same pixel size; nothing about the noise"
    )
    config_type = ISCLConfig
    config: ISCLConfig

    def __init__(
        self,
        config: ISCLConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, device, net)
        self.F, self.G = (placed(translator(config, channels), self.place) for _ in range(2))
        self.D_X = placed(
            Critic(channels, config.critic_width, config.patch_px, config.critic_norm), self.place
        )
        self.D_Y = placed(
            Critic(channels, config.critic_width, config.patch_px, config.critic_norm), self.place
        )
        self.F_swa, self.G_swa = SWA(self.F), SWA(self.G)
        self.networks = {
            "F": self.F,
            "G": self.G,
            "D_X": self.D_X,
            "D_Y": self.D_Y,
            "F_swa": self.F_swa,
            "G_swa": self.G_swa,
        }
        self.leashes = {name: self._leash(name) for name in ("D_X", "D_Y")}
        if config.extract:
            self.H = placed(extractor(config, channels), self.place)
            self.networks["H"] = self.H
            self.leashes["H"] = self._leash("H")
        self.trained = [
            self.networks[name] for name in ("F", "G", "D_X", "D_Y", "H") if name in self.networks
        ]
        self.transplant: Transplant | None = None
        if config.start > 0:
            self.transplant = Transplant(self.H, channels, self._fixed).to(self.place)
            self.networks["noise"] = self.transplant
        # Departs from the paper: What lies beyond [-1, 1] in the input is put back on the output.
        self.ensemble = Ensemble(
            self.F_swa.net, self.leashes["H"].net if config.extract else None, config.gamma, self.transplant
        )
        self.bounded = Bounded(self.ensemble)

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        # Departs from the paper: RAdam's betas are 0.9 and 0.999, and weights begin as PyTorch's initialisation makes them; the paper names
        # neither. Patches are flipped and turned for all data, in the paper for electron micrographs.
        made = {
            "F, G": optimizer(self.config, self.F, self.G),
            "D_X, D_Y": radam(self.config, self.D_X, self.D_Y),
        }
        return {**made, "H": optimizer(self.config, self.H)} if self.config.extract else made

    def _leash(self, name: str) -> Lookahead:
        leash = Lookahead(self.networks[name], self.config.lookahead_every, self.config.lookahead_alpha)
        self.networks[f"{name}_slow"] = leash
        return leash

    def stages(self) -> tuple[Stage, ...]:
        share = self.config.start
        parts = Stage(START, share), Stage("iscl", 1.0 - share)
        return tuple(part for part in parts if part.share > 0) if share > 0 else super().stages()

    def prepare(self, data: TrainingData, seed: int) -> None:
        if self.transplant is not None:
            self.transplant.prepare(data, seed)

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Algorithm 1: F and G, then D_X and D_Y, then H."""
        x, y = inside(batch.noisy), inside(require(batch.clean, self.needs.value))
        config = self.config
        self._set_rates(at)
        drop_statistics(*self.trained)
        imitated = None
        if self.transplant is not None:
            self.transplant.renew(
                self.H, sum(at.stage != START or at.progress >= place for place in RENEWALS)
            )
            x = self.transplant(self.transplant.upright(x, at))
            imitated = self.transplant.noised(y, at)
            if at.stage == START:
                return self._start_step(y, imitated, at)
        noise = self._run(self.H, x) if config.extract else None
        if imitated is None and noise is not None:
            imitated = y + noise.detach()
        source = y if self.transplant is None else require(imitated, "noise")
        seen = Seen(
            x,
            y,
            self._run(self.F, x),
            self._run(self.G, source),
            None if noise is None else noise.detach(),
            imitated,
        )

        loss = self._generators_loss(seen, at)
        update(self.optimizers["F, G"], loss, at, "F, G")
        settle(self.F, self.G)
        self._average(at)
        if config.share_passes:
            seen = replace(seen, denoised=seen.denoised.detach(), noised=seen.noised.detach())
        else:
            seen = replace(seen, denoised=self._fixed(self.F, x), noised=self._fixed(self.G, source))

        judged, signs = self._critics_loss(seen)
        update(self.optimizers["D_X, D_Y"], judged, at, "D_X, D_Y")
        settle(self.D_X, self.D_Y)
        logged = {"loss": loss.detach(), "critics": judged.detach(), **signs}

        if noise is not None:
            learned = pseudo_noise_loss(noise, x, seen.denoised) + self._grid(noise)
            if config.noise_consistency:
                learned = learned + noise_consistency_loss(y, seen.noised, self._run(self.H, seen.noised))
            if self.transplant is not None:
                learned = learned + noise_consistency_loss(y, source, self._run(self.H, source))
            update(self.optimizers["H"], learned, at, "H")
            settle(self.H)
            logged["extractor"] = learned.detach()
        self._look_ahead(at)
        return logged

    def _start_step(self, y: Tensor, imitated: Tensor, at: At) -> dict[str, Tensor]:
        """F and H learn from clean patches and the same with transplanted noise."""
        denoised, noise = self._run(self.F, imitated), self._run(self.H, imitated)
        loss = self.config.nested_weight * torch.mean(torch.abs(y - denoised))
        update(self.optimizers["F, G"], loss, at, "F")
        learned = noise_consistency_loss(y, imitated, noise)
        update(self.optimizers["H"], learned, at, "H")
        settle(self.F, self.H)
        self._average(at)
        self._look_ahead(at)
        return {"loss": loss.detach(), "extractor": learned.detach()}

    def _set_rates(self, at: At) -> None:
        config = self.config
        past = 0.0 if self._more_to_come(at) else at.progress
        for name, each in self.optimizers.items():
            first = config.critic_lr if name == "D_X, D_Y" and config.critic_lr > 0 else config.lr
            set_rate(each, first + (config.lr_end - first) * past)

    def _more_to_come(self, at: At) -> bool:
        return at.stage == START and self.config.start < 1

    def _look_ahead(self, at: At) -> None:
        for name, leash in self.leashes.items():
            leash.after_step(self.networks[name], at.step + 1)

    def _generators_loss(self, seen: Seen, at: At) -> Tensor:
        config, x, y = self.config, seen.x, seen.y
        if self.transplant is None or seen.noise is None:
            back, forth = seen.denoised, seen.noised
        else:
            back, forth = seen.denoised.detach() + seen.noise, seen.noised.detach()
        nested = cycle_loss(x, self._run(self.G, back), y, self._run(self.F, forth))
        if config.bypass and seen.noise is not None and seen.imitated is not None:
            again = self._run(self.F, seen.imitated)
            nested = nested + bypass_loss(
                seen.denoised, without_noise(x, seen.noise), y, again, config.agreement
            )
        if config.identity > 0:
            nested = nested + config.identity * identity_loss(
                x, self._run(self.G, x), y, self._run(self.F, y)
            )
        ramp = min(1.0, at.progress / config.critics_ramp) if config.critics_ramp > 0 else 1.0
        with constant(self.D_X, self.D_Y):
            scores = ramp * self._judge(self.D_Y, seen.denoised), ramp * self._judge(self.D_X, seen.noised)
            return generator_loss(*scores, nested, config.nested_weight) + self._grid(x - seen.denoised)

    def _grid(self, removed: Tensor) -> Tensor | float:
        weight = self.config.grid_weight
        return weight * grid_loss(removed, total_stride(self.F)) if weight > 0 else 0.0

    def _critics_loss(self, seen: Seen) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and how D_Y and F fare."""
        scores = self._judge(self.D_Y, seen.y), self._judge(self.D_Y, seen.denoised)
        judged = critic_loss(*scores)
        judged = judged + critic_loss(self._judge(self.D_X, seen.x), self._judge(self.D_X, seen.noised))
        if self.config.boost and seen.noise is not None and seen.imitated is not None:
            judged = judged + boosting_loss(
                self._judge(self.D_Y, without_noise(seen.x, seen.noise)), self._judge(self.D_X, seen.imitated)
            )
        return judged, vital_signs(seen.x, seen.denoised, *scores)

    def _judge(self, critic: nn.Module, image: Tensor) -> Tensor:
        """The scores of an image; where intensities are taken to be calibrated, of its detail alone."""
        calibrated = self.transplant is not None and self.transplant.calibrated
        return self._run(critic, image - local_mean(image, DETAIL_PX) if calibrated else image)

    @torch.no_grad()
    def _fixed(self, net: nn.Module, x: Tensor) -> Tensor:
        return self._run(net, x)

    def _average(self, at: At) -> None:
        # Departs from the paper: Algorithm 1 resets the averages at every epoch from N_swa on, surely a slip; they begin once.
        for average, net in ((self.F_swa, self.F), (self.G_swa, self.G)):
            if self._more_to_come(at) or at.progress <= self.config.swa_from:
                average.begin(net)
            else:
                average.add(net)

    def finish(self, data: TrainingData, seed: int) -> None:
        """Normalisation statistics of the averaged F and of the slow H, from batches of noisy patches."""
        # Departs from the paper: The batch part of batch-instance normalisation uses running statistics when the denoiser is applied,
        # computed anew for the averaged weights; the authors' code uses those of the test batch. The instance part uses the whole image for
        # all tiles.
        for net in (self.ensemble.denoise, self.ensemble.extract):
            if net is not None:
                recompute_running_statistics(
                    net, (self._seen(data, seed, k) for k in range(SETTLING_BATCHES))
                )

    def _seen(self, data: TrainingData, seed: int, step: int) -> Tensor:
        """What F and H see of the noisy patches of a step."""
        x, at = (
            inside(data.batch(seed, step, self.batch_size).noisy),
            At(seed, step, "finish", step, SETTLING_BATCHES),
        )
        return x if self.transplant is None else self.transplant(self.transplant.upright(x, at))

    @property
    def disagrees(self) -> bool:
        return self.config.extract

    def disagreement(self, x: Tensor) -> Tensor:
        """|F(x) - (x - H(x))|: both are denoisers, of different make."""
        if self.ensemble.extract is None:
            return super().disagreement(x)
        first, second = self.ensemble.both(inside(channels_last(x)))
        return (first - require(second, "an extractor")).abs() / 2.0

    @property
    def denoiser(self) -> nn.Module:
        return self.bounded
