"""What the short preset adds to ISCL: a start with noise measured from the two sets, and what saves time.

Each method below says what it adds; its namesake in ``iscl`` says what the paper does there. At the defaults
of ``ShortISCLConfig`` nothing is added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pairfree.config import architecture
from pairfree.data.even import EVEN_LEVEL
from pairfree.data.patches import Batch, TrainingData
from pairfree.methods.base import At, Method, Stage, require, update
from pairfree.methods.iscl import ISCL, ISCLConfig, cycle_loss, noise_consistency_loss
from pairfree.methods.parts.cooperation import Ensemble, Passes
from pairfree.methods.parts.optim import MuonAdam
from pairfree.methods.parts.transplant import Transplant
from pairfree.methods.parts.unpaired import grid_loss, local_mean, mean_absolute, settle_norms
from pairfree.nets.batch_instance_norm import drop_statistics
from pairfree.nets.scaled import ScaledEvenUNet
from pairfree.nets.shuffle_unet import ShuffleUNet
from pairfree.nets.start import SCENES
from pairfree.nets.traits import GRID_PATCHES, settle_grid, total_stride

NETS = ("iscl", "residual", "even-unet", "auto")
OPTIMIZERS = ("radam", "muon")
MUON_BETAS = (0.9, 0.99)
MUON_RATIO = 5.0
START = "start"
"""Name of the stage before Algorithm 1."""
RENEWALS = (0.4, 0.7, 1.0)
"""Positions in the start at which the noise is renewed."""
SCALE_PATCHES = 64
"""Clean patches that noise is put on to see how strong it is."""
DETAIL_PX = 17
"""Side of the window whose mean is taken off before the critics see an image of calibrated sets."""


@dataclass(frozen=True)
class ShortISCLConfig(ISCLConfig):
    """The settings of the paper, and those of what is added, which add nothing at these defaults."""

    nets: str = architecture("iscl")
    """"iscl": F, G and H of the paper's Figure 3; "residual": U-Nets that never work at full resolution.

    F and G then begin at the identity, and `blocks` and `extractor_depth` say nothing. "even-unet": the same,
    but F is the network of the shipped start, whose width is not `width`. "auto": where the noise is that of
    counts, "even-unet", with `squares`, `gamma` 1 and `start` 0.8; else, and without a start, "residual".
    """
    optimizer: str = "radam"
    """Of F, G and H: "radam", as the paper, or "muon" (short budgets)."""
    critic_lr: float = 0.0
    """Learning rate of the critics at the beginning; 0 is `lr`."""
    start: float = 0.0
    """Share of the budget in which F and H learn from clean patches with noise measured from the two sets.

    Algorithm 1 follows, in which G adds to such noise. 0 is the paper; 1 is the start alone.
    """
    squares: bool = False
    """Whether F pays squared errors in the start, whose mean no skewed noise moves, instead of absolute."""
    agreement: float = 1.0
    """Weight of the first term of eq. (6), |F(x) - (x - H(x))|; 1 is the paper."""
    grid_weight: float = 0.0
    """Weight of `grid_loss` on what F and H remove from noisy images; 0 is the paper."""
    critics_ramp: float = 0.0
    """Share of Algorithm 1 in which the critics' part of eq. (1) grows to its full size; 0 is the paper."""

    def problems(self) -> list[str]:
        """What is wrong with these settings, a phrase each."""
        found = super().problems()
        if self.nets not in NETS:
            found.append(f"nets = {self.nets!r} must be one of {', '.join(NETS)}")
        if self.optimizer not in OPTIMIZERS:
            found.append(f"optimizer = {self.optimizer!r} must be one of {', '.join(OPTIMIZERS)}")
        if min(self.critic_lr, self.agreement, self.grid_weight) < 0:
            found.append("critic_lr, agreement and grid_weight must not be negative")
        if self.start > 0 and not self.extract:
            found.append("start > 0 needs extract = true: the noise is what the extractor finds")
        return found + self.outside_0_to_1("start", "critics_ramp")


# Departs from the paper: `cpu`: the first 60 % of the time go to a start. The difference between the two
# sets' power spectra gives gain, offset and spectrum of the noise; F and H learn from clean patches with such
# noise, first Gaussian (skewed where it is noise of counts), then what H takes out of the noisy images,
# brought to that spectrum (`methods/parts/transplant.py`).
# Departs from the paper: `cpu`: after the start, such noise takes the place of H(x) in eqs. (6) and (9), G
# changes a clean image that already carries it, the cycle of x trains G alone and that of y trains F alone,
# the first term of eq. (6) has a tenth of the weight, H also learns from that noise, and the critics' part of
# eq. (1) grows to its full size over 30 % of the steps.
# Departs from the paper: `cpu`: where the noise has a direction (its spectrum and the transposed one differ),
# noisy patches and drawn noise are flipped but not turned.
# Departs from the paper: `cpu`: what F and H remove from noisy images pays 300 times its variance over the
# places of the networks' grid (`grid_loss` in `methods/parts/unpaired.py`): without it, ten minutes of an
# adversarial loss laid a grid of several grey levels over real micrographs.
# Departs from the paper: `cpu`: where structures fill the images unevenly and intensities are therefore taken
# to be calibrated, the critics see images minus their mean over 17 x 17 px: else what one set shows more of,
# fat or lung, moves the other's intensities.
# Departs from the paper: `cpu`: where the noise is surely that of counts, F is the network that is shipped
# with pairfree and begins from its weights; the start takes 80 % of the time and F pays squared errors in it;
# the result is F alone.
# Departs from the paper: `cpu`: F, G and H are small U-Nets (F and G begin at the identity) trained with
# Muon; critics have 16 channels and no normalisation; batches of 16; averages begin at half of the steps;
# F(x), G(y) and H(x) are computed once a step instead of after each update; bfloat16 convolutions where they
# are faster.
CPU = ShortISCLConfig(
    nets="auto",
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
)
"""Preset `cpu`."""
COUNTS: dict[str, Any] = {"nets": "even-unet", "squares": True, "gamma": 1.0, "start": 0.8}
"""What "auto" stands for where the noise is that of counts.

FMD, half of the scenes, ten minutes, one thread, one seed: 37.83 dB; without Algorithm 1 37.86. Brightness is
kept by that network, so it is of no use where noise moves it: simulated film 21.86 dB (eight minutes, without
Algorithm 1, one seed), and 22.66 without."""
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
"""The paper's networks and losses from random weights, made small enough for ten minutes, with nothing added.

CycleGAN's `cpu`, and the ablation's rows.
"""


def weighted_bypass_loss(
    denoised: Tensor, pseudo_clean: Tensor, y: Tensor, y_again: Tensor, agreement: float
) -> Tensor:
    r"""L_bypass, eq. (6), with the weight ``agreement`` on its first term: see ``iscl.bypass_loss``."""
    return agreement * mean_absolute(denoised - pseudo_clean) + mean_absolute(y - y_again)


class MatchedEnsemble(Ensemble):
    """Eq. (13) of an image that was brought to the contrast and the mean brightness of clean ones.

    Parameters
    ----------
    denoise, extract, gamma
        As of ``Ensemble``.
    match
        Applied to the image first, (B, C, H, W) in [-1, 1] -> same.
    """

    def __init__(
        self, denoise: nn.Module, extract: nn.Module | None, gamma: float, match: nn.Module
    ) -> None:
        super().__init__(denoise, extract, gamma)
        self.match = match

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """F and x - H of a noisy image that was matched to the clean set."""
        return super().both(self.match(x))


class ShortISCL(ISCL):
    """The start, and Algorithm 1 with what the short preset adds.

    ``transplant`` holds the noise that was measured from the two sets; None where the config has no start:
    then Algorithm 1 begins from random weights, as the paper's does.
    """

    config_type = ShortISCLConfig
    config: ShortISCLConfig

    @property
    def sources(self) -> tuple[str, ...]:
        """The method's paper, and that of the shipped start where F begins from it."""
        return (*super().sources, SCENES) if self.started else super().sources

    # -- networks, optimisers, rates

    def build_networks(self, channels: int, extract: bool) -> None:
        """The noise that is measured and drawn is kept with the networks."""
        super().build_networks(channels, extract)
        self.transplant: Transplant | None = None
        if self.config.start > 0:
            self.transplant = Transplant(self.H, channels, self._run_fixed).to(self.place)
            self.networks["noise"] = self.transplant

    def make_translator(self, channels: int) -> nn.Module:
        """A small U-Net that begins at the identity."""
        if self.config.nets == "iscl":
            return super().make_translator(channels)
        return ShuffleUNet(channels, self.config.width)

    def make_denoiser(self, channels: int) -> nn.Module:
        """The network of the shipped start, where that is asked for."""
        if self.config.nets == "even-unet":
            return ScaledEvenUNet(channels)
        return super().make_denoiser(channels)

    def make_extractor(self, channels: int) -> nn.Module:
        """A small U-Net."""
        if self.config.nets == "iscl":
            return super().make_extractor(channels)
        return ShuffleUNet(channels, self.config.extractor_width, predict="image")

    def make_ensemble(self, denoise: nn.Module, extract: nn.Module | None) -> Ensemble:
        """Of images brought to the contrast of clean ones."""
        if self.transplant is None:
            return super().make_ensemble(denoise, extract)
        return MatchedEnsemble(denoise, extract, self.config.gamma, self.transplant)

    def make_optimizer(self, *nets: nn.Module) -> torch.optim.Optimizer:
        """Muon for F, G and H."""
        if self.config.optimizer == "radam":
            return super().make_optimizer(*nets)
        parameters = [parameter for net in nets for parameter in net.parameters()]
        return MuonAdam(parameters, self.config.lr, MUON_BETAS, muon_ratio=MUON_RATIO)

    def first_rate(self, optimizer: str) -> float:
        """One of their own for the critics."""
        if optimizer == "D_X, D_Y" and self.config.critic_lr > 0:
            return self.config.critic_lr
        return super().first_rate(optimizer)

    def schedule(self, at: At) -> float:
        """Rates fall and averages begin in Algorithm 1, or in the start where it is all there is."""
        if at.stage == START and self.config.start < 1:
            return 0.0
        return super().schedule(at)

    # -- the start

    def stages(self) -> tuple[Stage, ...]:
        """The start, then Algorithm 1."""
        share = self.config.start
        if share == 0:
            return super().stages()
        parts = (Stage(START, share), Stage("iscl", 1.0 - share))
        return tuple(part for part in parts if part.share > 0)

    def fit_to(self, data: TrainingData, seed: int, may_start: bool) -> Method:
        """Of the shipped network, where that is of use."""
        if self.config.nets != "auto":
            return self
        found: dict[str, Any] = {"nets": "residual"}
        if self.transplant is not None and may_start:
            self.transplant.prepare(data, seed)
            found = COUNTS if self.transplant.of_counts else found
        made = type(self)(replace(self.config, **found), data.noisy.channels, self.place)
        if self.transplant is not None and self.transplant.measured is not None:
            require(made.transplant, "a start").take(self.transplant.measured)
        return made

    def prepare(self, data: TrainingData, seed: int) -> None:
        """The difference between the two sets is measured, and so the noise that F has to know."""
        if self.transplant is None:
            return
        self.transplant.prepare(data, seed)
        if self.config.nets == "even-unet":
            batch = data.batch(seed, 0, SCALE_PATCHES)
            y = self.clean_patches(batch)
            noise = self.transplant.make_noisy(y, At(seed, 0, "scale", 0, 1)) - y
            for net in (self.F, self.ensemble.denoise):
                assert isinstance(net, ScaledEvenUNet)
                net.scale.copy_(EVEN_LEVEL / noise.std())

    @torch.no_grad()
    def finish(self, data: TrainingData, seed: int) -> None:
        """What F adds to each place of its cells is taken off, where it can be."""
        super().finish(data, seed)
        denoise = self.ensemble.denoise
        if self.patch_px >= 5 * total_stride(denoise):
            batch = data.batch(seed, 0, GRID_PATCHES)
            settle_grid(denoise, self.noisy_patches(batch, At(seed, 0, "grid", 0, 1)))

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """The noise is renewed as H becomes better; the start comes before Algorithm 1."""
        if self.transplant is not None:
            due = sum(at.stage != START or at.progress >= place for place in RENEWALS)
            self.transplant.renew(self.H, due)
        if at.stage == START:
            return self.start_step(batch, at)
        return super().step(batch, at)

    def start_step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """F and H learn from clean patches and the same with transplanted noise."""
        self.set_rates(at)
        drop_statistics(*self.trained)
        y = self.clean_patches(batch)
        noisy = require(self.transplant, "a start").make_noisy(y, at)
        denoised = self._run(self.F, noisy)
        noise = self._run(self.H, noisy)
        if self.config.squares:
            loss = torch.mean((y - denoised) ** 2)
        else:
            loss = self.config.nested_weight * mean_absolute(y - denoised)
        update(self.optimizers["F, G"], loss, at, "F")
        learned = noise_consistency_loss(y, noisy, noise)
        update(self.optimizers["H"], learned, at, "H")
        settle_norms(self.F, self.H)
        self.average_weights(self.schedule(at) > self.config.swa_from)
        self.look_ahead(at)
        return {"loss": loss.detach(), "extractor": learned.detach()}

    # -- Algorithm 1 after it

    def noisy_patches(self, batch: Batch, at: At) -> Tensor:
        """Brought to the contrast of clean ones; where the noise has a direction, not turned."""
        x = super().noisy_patches(batch, at)
        if self.transplant is None:
            return x
        matched: Tensor = self.transplant(self.transplant.turn_upright(x, at))
        return matched

    def run_networks(self, batch: Batch, at: At) -> Passes:
        """The measured noise takes the place of H(x), and G adds to a clean image that already carries it."""
        if self.transplant is None:
            return super().run_networks(batch, at)
        x = self.noisy_patches(batch, at)
        y = self.clean_patches(batch)
        noisy = self.transplant.make_noisy(y, at)
        extracted = self._run(self.H, x)
        denoised = self._run(self.F, x)
        made_noisy = self._run(self.G, noisy)
        return Passes(x, y, noisy, denoised, made_noisy, extracted, noisy)

    def generators_loss(self, passes: Passes, at: At) -> Tensor:
        """A grid in what F removes costs something."""
        loss = super().generators_loss(passes, at)
        return loss + self._weigh_grid(passes.x - passes.denoised)

    def cycle_term(self, passes: Passes) -> Tensor:
        """The cycle of x trains G alone and that of y trains F alone, so that they cannot conspire.

        G may not make noise that F finds easy, nor F leave noise in for G to find. G begins at F(x) with the
        noise H(x).
        """
        if self.transplant is None:
            return super().cycle_term(passes)
        x_again = self._run(self.G, passes.denoised.detach() + passes.noise)
        y_again = self._run(self.F, passes.made_noisy.detach())
        return cycle_loss(passes.x, x_again, passes.y, y_again)

    def bypass_term(self, passes: Passes) -> Tensor:
        """The first term weighs less: F need not agree with an H that is no better."""
        y_again = self._run(self.F, passes.pseudo_noisy)
        agreement = self.config.agreement
        return weighted_bypass_loss(
            passes.denoised, passes.pseudo_clean, passes.y, y_again, agreement
        )

    def score_translations(self, passes: Passes, at: At) -> tuple[Tensor, Tensor]:
        """They count little at first."""
        fake_clean, fake_noisy = super().score_translations(passes, at)
        ramp = 1.0
        if self.config.critics_ramp > 0:
            ramp = min(1.0, at.progress / self.config.critics_ramp)
        return ramp * fake_clean, ramp * fake_noisy

    def score(self, critic: nn.Module, image: Tensor) -> Tensor:
        """Of the detail alone where intensities are taken to be calibrated."""
        if self.transplant is not None and self.transplant.calibrated:
            image = image - local_mean(image, DETAIL_PX)
        return super().score(critic, image)

    def extractor_loss(self, passes: Passes) -> Tensor:
        """H also learns from the measured noise, whose clean image is known."""
        loss = super().extractor_loss(passes)
        if self.transplant is None:
            return loss
        noisy = passes.pseudo_noisy
        return loss + noise_consistency_loss(passes.y, noisy, self._run(self.H, noisy))

    def pseudo_noise_term(self, passes: Passes) -> Tensor:
        """A grid in what H removes costs something."""
        loss = super().pseudo_noise_term(passes)
        return loss + self._weigh_grid(require(passes.extracted, "an extractor"))

    def _weigh_grid(self, removed: Tensor) -> Tensor | float:
        weight = self.config.grid_weight
        if weight == 0:
            return 0.0
        return weight * grid_loss(removed, total_stride(self.F))
