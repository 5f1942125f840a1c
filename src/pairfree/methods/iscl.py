"""ISCL (Lee & Jeong, IEEE TMI 2021): two translators and a noise extractor teach each other, unpaired.

Read top to bottom: the paper's settings, its equations (1) to (12), Algorithm 1. Equation (13) stands in
``parts/cooperation.py``, beside the bookkeeping of networks and averages. F denoises, G adds noise, H
extracts noise; D_X judges noisy images, D_Y clean ones. All images here lie in [-1, 1]: the package's network
units, through ``to_signed``. What the short preset adds stands in ``iscl_short``; ``docs/methods/iscl.md``
lists every departure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pairfree.config import architecture
from pairfree.data.patches import Batch
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs, check_positive, require, set_rate, update
from pairfree.methods.parts.averages import Lookahead
from pairfree.methods.parts.cooperation import Cooperation, Ensemble, Passes, make_radam
from pairfree.methods.parts.unpaired import (
    UnpairedConfig,
    clip_signed,
    frozen,
    identity_loss,
    mean_absolute,
    settle_norms,
    vital_signs,
)
from pairfree.nets.batch_instance_norm import drop_statistics
from pairfree.nets.iscl import Critic, Extractor, Generator


@dataclass(frozen=True)
class ISCLConfig(UnpairedConfig):
    """The settings of the paper, at its values."""

    width: int = architecture(32)
    """Channels of the first level of F and G."""
    blocks: int = architecture(3, most=256)
    """Residual blocks of F and G."""
    extractor_width: int = architecture(32)
    """Channels of H."""
    extractor_depth: int = architecture(20, most=256)
    """Layers of H."""
    critic_width: int = architecture(32)
    """Channels of the first level of D_X and D_Y."""
    lr: float = 1e-4
    """Learning rate at the beginning; linear from there to `lr_end`."""
    lr_end: float = 1e-6
    """Learning rate at the end."""
    nested_weight: float = 30.0
    """lambda of eq. (1): weight of cycle and bypass."""
    gamma: float = 0.5
    """gamma of eq. (13): share of F(x) in the result; the rest is x - H(x)."""
    swa_from: float = 0.6
    """N_swa of Algorithm 1: share of the steps after which the weights of F and G are averaged."""
    lookahead_every: int = 6
    """k of Algorithm 1: D_X, D_Y and H are drawn back to their slow weights every so many steps."""
    lookahead_alpha: float = 0.5
    """alpha of Algorithm 1: how far the slow weights move towards the others, 0 to 1."""

    # Rows of the paper's Table I, CycleGAN, and ablations of ours; at these values it is the paper's method.
    extract: bool = True
    """(B) of Table I: train H at all. Without it and the three below it is CycleGAN."""
    bypass: bool = True
    """(C) of Table I: L_bypass, eq. (6)."""
    boost: bool = True
    """(D) of Table I: L_bst, eq. (9)."""
    noise_consistency: bool = True
    """(E) of Table I: L_nc, eq. (11)."""
    identity: float = 0.0
    """Weight of CycleGAN's identity loss beside the cycle; 0 is ISCL, which has none."""
    critic_norm: bool = architecture(True)
    """Batch-instance normalisation in D_X and D_Y; it hides a difference of brightness of two batches."""
    share_passes: bool = False
    """F(x) and G(y) are computed once a step; false: anew for each update, as Algorithm 1 reads."""

    def __post_init__(self) -> None:
        positive = ["width", "extractor_width", "critic_width", "batch_size"]
        positive += ["lr", "lr_end", "nested_weight", "lookahead_every"]
        values = [(name, getattr(self, name)) for name in positive]
        check_positive(type(self).__name__, values)
        problems = self.problems()
        if problems:
            raise ConfigError(f"{type(self).__name__}: " + "; ".join(problems))

    def problems(self) -> list[str]:
        """What is wrong with these settings, a phrase each."""
        found = []
        if self.blocks < 0:
            found.append(f"blocks = {self.blocks} must not be negative")
        if self.extractor_depth < 3:
            found.append(f"extractor_depth = {self.extractor_depth} must be at least 3")
        if self.identity < 0:
            found.append(f"identity = {self.identity} must not be negative")
        found += self.outside_0_to_1("gamma", "swa_from", "lookahead_alpha")
        if not self.extract and (self.bypass or self.boost or self.noise_consistency):
            found.append(
                "extract = false needs bypass, boost and noise_consistency to be false: "
                "they all need the extractor"
            )
        return found + self.common_problems()


# -- the equations: x are noisy images, y clean ones; E|.|_1 is a mean over batch and pixels


def generator_loss(fake_clean: Tensor, fake_noisy: Tensor, nested: Tensor, weight: float) -> Tensor:
    r"""L_gen = L_F + L_G + lambda L_nested, eq. (1).

    Parameters
    ----------
    fake_clean, fake_noisy
        D_Y(F(x)) and D_X(G(y)), scores of any shape.
    nested
        L_nested = L_cycle + L_bypass, eq. (4), a scalar.
    weight
        lambda.
    """
    return adversarial_loss(fake_clean) + adversarial_loss(fake_noisy) + weight * nested


def adversarial_loss(fake: Tensor) -> Tensor:
    r"""L_F = -E[D_Y(F(x))] and L_G = -E[D_X(G(y))], eqs. (2) and (3); hinge loss of Lim & Ye (2017).

    Parameters
    ----------
    fake
        The scores, any shape.
    """
    return -torch.mean(fake)


def cycle_loss(x: Tensor, x_again: Tensor, y: Tensor, y_again: Tensor) -> Tensor:
    r"""L_cycle = E|x - G(F(x))|_1 + E|y - F(G(y))|_1, eq. (5): there and back again.

    Parameters
    ----------
    x, x_again, y, y_again
        x, G(F(x)), y and F(G(y)); (B, C, H, W) in [-1, 1].

    Notes
    -----
    Breaks when F hides the noise in an image that looks clean: G then finds it there. The bypass forbids it.
    """
    return mean_absolute(x - x_again) + mean_absolute(y - y_again)


def bypass_loss(denoised: Tensor, pseudo_clean: Tensor, y: Tensor, y_again: Tensor) -> Tensor:
    r"""L_bypass = E|F(x) - (x - H(x))|_1 + E|y - F(y + H(x))|_1, eq. (6): F must agree with H.

    Parameters
    ----------
    denoised, pseudo_clean
        F(x), and x - H(x), a constant; (B, C, H, W) in [-1, 1].
    y, y_again
        y and F(y + H(x)), in which H(x) is a constant; alike.

    Notes
    -----
    Noise model: x = y' + n(y'), anything that H can learn to extract; neither zero-mean nor independent.
    """
    return mean_absolute(denoised - pseudo_clean) + mean_absolute(y - y_again)


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    r"""L_D = E[max(0, 1 - D(real))] + E[max(0, D(fake))], eq. (8). Both and L_bst are L_dis, eq. (7).

    Parameters
    ----------
    real, fake
        The scores, any shape.
    """
    # Departs from the paper: Eqs. (8) and (9) print min(0, .), which gives no gradient where D(real) < 1;
    # here max(0, .), as the authors' code does, with margin 0 on the fake side.
    below_margin = torch.relu(1.0 - real).mean()
    above_zero = torch.relu(fake).mean()
    return below_margin + above_zero


def boosting_loss(fake_clean: Tensor, fake_noisy: Tensor) -> Tensor:
    r"""L_bst = E[max(0, D_Y(x - H(x)))] + E[max(0, D_X(y + H(x)))], eq. (9): more fakes for the critics.

    Parameters
    ----------
    fake_clean, fake_noisy
        The scores D_Y(x - H(x)) and D_X(y + H(x)), any shape.
    """
    clean_above_zero = torch.relu(fake_clean).mean()
    noisy_above_zero = torch.relu(fake_noisy).mean()
    return clean_above_zero + noisy_above_zero


def pseudo_noise_loss(noise: Tensor, x: Tensor, denoised: Tensor) -> Tensor:
    r"""L_pseudo = E|H(x) - (x - F(x))|_1, eq. (10): H learns what F removes. It and L_nc are L_self (12).

    Parameters
    ----------
    noise, x, denoised
        H(x), x, and F(x), a constant; (B, C, H, W), images in [-1, 1].
    """
    return mean_absolute(noise - (x - denoised))


def noise_consistency_loss(y: Tensor, made_noisy: Tensor, noise: Tensor) -> Tensor:
    r"""L_nc = E|G(y) - y - H(G(y))|_1, eq. (11): H finds what G put in, whose clean image is known.

    Parameters
    ----------
    y, made_noisy, noise
        y, G(y), a constant, and H(G(y)); (B, C, H, W), images in [-1, 1].
    """
    return mean_absolute(made_noisy - y - noise)


# -- Algorithm 1


class ISCL(Cooperation):
    """Algorithm 1. ``ShortISCL`` adds to it in the methods whose docstrings say what the paper does there."""

    key = "iscl"
    title = "ISCL (interdependent self-cooperative learning)"
    needs = Needs.CLEAN
    citation = (
        "Lee & Jeong, ISCL: Interdependent self-cooperative learning for unpaired image denoising, "
        "IEEE TMI 2021, arXiv:2102.09858"
    )
    assumption = (
        "the clean set shows the same kind of structures at the same pixel size; "
        "nothing about the noise"
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
        super().__init__(config, channels, device, net, config.extract)

    def make_translator(self, channels: int) -> nn.Module:
        """F or G. The paper: the generator of its Figure 3."""
        return Generator(channels, self.config.width, self.config.blocks)

    def make_extractor(self, channels: int) -> nn.Module:
        """H. The paper: the extractor of its Figure 3."""
        return Extractor(channels, self.config.extractor_width, self.config.extractor_depth)

    def make_critic(self, channels: int) -> nn.Module:
        """D_X or D_Y. The paper: the discriminator of its Figure 3."""
        config = self.config
        return Critic(channels, config.critic_width, config.patch_px, config.critic_norm)

    def make_leash(self, net: nn.Module) -> Lookahead:
        """Of D_X, D_Y and H. The paper: Lookahead."""
        return Lookahead(net, self.config.lookahead_every, self.config.lookahead_alpha)

    def make_ensemble(self, denoise: nn.Module, extract: nn.Module | None) -> Ensemble:
        """What denoises. The paper: eq. (13)."""
        return Ensemble(denoise, extract, self.config.gamma)

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One for F and G, one for the critics, one for H where it is trained."""
        # Departs from the paper: RAdam's betas are 0.9 and 0.999, and weights begin as PyTorch's
        # initialisation makes them; the paper names neither. Patches are flipped and turned for all data, in
        # the paper for electron micrographs.
        translators = self.make_optimizer(self.F, self.G)
        critics = make_radam(self.config.lr, self.D_X, self.D_Y)
        made = {"F, G": translators, "D_X, D_Y": critics}
        if self.config.extract:
            made["H"] = self.make_optimizer(self.H)
        return made

    def make_optimizer(self, *nets: nn.Module) -> torch.optim.Optimizer:
        """Of F and G, and of H. The paper: RAdam, as for the critics."""
        return make_radam(self.config.lr, *nets)

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """A mini-batch of Algorithm 1: update F and G, then D_X and D_Y, then H."""
        optimizers = self.optimizers
        self.set_rates(at)
        drop_statistics(*self.trained)
        passes = self.run_networks(batch, at)

        generators = self.generators_loss(passes, at)
        update(optimizers["F, G"], generators, at, "F, G")
        settle_norms(self.F, self.G)
        # Departs from the paper: Algorithm 1 resets the averages at every epoch from N_swa on, surely a slip;
        # they begin once.
        self.average_weights(self.schedule(at) > self.config.swa_from)
        passes = self.fix_translations(passes)

        critics, signs = self.critics_loss(passes)
        update(optimizers["D_X, D_Y"], critics, at, "D_X, D_Y")
        settle_norms(self.D_X, self.D_Y)
        logged = {"loss": generators.detach(), "critics": critics.detach(), **signs}

        if self.config.extract:
            extractor = self.extractor_loss(passes)
            update(optimizers["H"], extractor, at, "H")
            settle_norms(self.H)
            logged["extractor"] = extractor.detach()
        self.look_ahead(at)
        return logged

    def run_networks(self, batch: Batch, at: At) -> Passes:
        """The batch and its first passes. The paper: F(x), G(y), H(x) and y + H(x)."""
        x = self.noisy_patches(batch, at)
        y = self.clean_patches(batch)
        extracted = None
        pseudo_noisy = y
        if self.config.extract:
            extracted = self._run(self.H, x)
            pseudo_noisy = y + extracted.detach()
        denoised = self._run(self.F, x)
        made_noisy = self._run(self.G, y)
        return Passes(x, y, y, denoised, made_noisy, extracted, pseudo_noisy)

    def noisy_patches(self, batch: Batch, at: At) -> Tensor:
        """The noisy patches as F and H see them. The paper: as they are."""
        return clip_signed(batch.noisy)

    def fix_translations(self, passes: Passes) -> Passes:
        """F(x) and G(y) as constants: of the updated F and G, or, where passes are shared, as they were."""
        if self.config.share_passes:
            denoised = passes.denoised.detach()
            made_noisy = passes.made_noisy.detach()
        else:
            denoised = self._run_fixed(self.F, passes.x)
            made_noisy = self._run_fixed(self.G, passes.before_noise)
        return replace(passes, denoised=denoised, made_noisy=made_noisy)

    def generators_loss(self, passes: Passes, at: At) -> Tensor:
        """L_gen. The paper: eq. (1)."""
        nested = self.nested_loss(passes)
        with frozen(self.D_X, self.D_Y):
            fake_clean, fake_noisy = self.score_translations(passes, at)
        return generator_loss(fake_clean, fake_noisy, nested, self.config.nested_weight)

    def nested_loss(self, passes: Passes) -> Tensor:
        """L_nested. The paper: eq. (4), L_cycle + L_bypass."""
        nested = self.cycle_term(passes)
        if self.config.bypass:
            nested = nested + self.bypass_term(passes)
        if self.config.identity > 0:
            x_kept = self._run(self.G, passes.x)
            y_kept = self._run(self.F, passes.y)
            kept = identity_loss(passes.x, x_kept, passes.y, y_kept)
            nested = nested + self.config.identity * kept
        return nested

    def cycle_term(self, passes: Passes) -> Tensor:
        """L_cycle. The paper: eq. (5); both ways of the cycle train both F and G."""
        x_again = self._run(self.G, passes.denoised)
        y_again = self._run(self.F, passes.made_noisy)
        return cycle_loss(passes.x, x_again, passes.y, y_again)

    def bypass_term(self, passes: Passes) -> Tensor:
        """L_bypass. The paper: eq. (6); both of its terms have the weight 1."""
        y_again = self._run(self.F, passes.pseudo_noisy)
        return bypass_loss(passes.denoised, passes.pseudo_clean, passes.y, y_again)

    def score_translations(self, passes: Passes, at: At) -> tuple[Tensor, Tensor]:
        """D_Y(F(x)) and D_X(G(y)) of eqs. (2) and (3). The paper: as they are, at all times."""
        fake_clean = self.score(self.D_Y, passes.denoised)
        fake_noisy = self.score(self.D_X, passes.made_noisy)
        return fake_clean, fake_noisy

    def score(self, critic: nn.Module, image: Tensor) -> Tensor:
        """D(image). The paper: of all that is in the image."""
        return self._run(critic, image)

    def critics_loss(self, passes: Passes) -> tuple[Tensor, dict[str, Tensor]]:
        """L_dis, eq. (7), and how D_Y and F fare."""
        real_clean = self.score(self.D_Y, passes.y)
        fake_clean = self.score(self.D_Y, passes.denoised)
        real_noisy = self.score(self.D_X, passes.x)
        fake_noisy = self.score(self.D_X, passes.made_noisy)
        loss = critic_loss(real_clean, fake_clean) + critic_loss(real_noisy, fake_noisy)
        if self.config.boost:
            pseudo_clean = self.score(self.D_Y, passes.pseudo_clean)
            pseudo_noisy = self.score(self.D_X, passes.pseudo_noisy)
            loss = loss + boosting_loss(pseudo_clean, pseudo_noisy)
        return loss, vital_signs(passes.x, passes.denoised, real_clean, fake_clean)

    def extractor_loss(self, passes: Passes) -> Tensor:
        """L_self. The paper: eq. (12), L_pseudo + L_nc."""
        loss = self.pseudo_noise_term(passes)
        if self.config.noise_consistency:
            found = self._run(self.H, passes.made_noisy)
            loss = loss + noise_consistency_loss(passes.y, passes.made_noisy, found)
        return loss

    def pseudo_noise_term(self, passes: Passes) -> Tensor:
        """L_pseudo. The paper: eq. (10)."""
        extracted = require(passes.extracted, "an extractor")
        return pseudo_noise_loss(extracted, passes.x, passes.denoised)

    def set_rates(self, at: At) -> None:
        """Linear from the first rate to the last."""
        for name, optimizer in self.optimizers.items():
            first = self.first_rate(name)
            change = self.config.lr_end - first
            set_rate(optimizer, first + change * self.schedule(at))

    def first_rate(self, optimizer: str) -> float:
        """The rate at the beginning, by the optimiser's name. The paper: one for all."""
        return self.config.lr

    def schedule(self, at: At) -> float:
        """How far rates have fallen and averages are, in 0..1. The paper: over all of the training."""
        return at.progress
