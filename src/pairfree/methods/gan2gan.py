"""GAN2GAN (Cha et al., ICLR 2021): learn the noise, put it on estimates of the images, learn to take it off.

Read top to bottom beside the paper: the equations as functions, the settings, the published presets, the
method: first its generative model (section 4.2, Algorithm 1), then its rounds G2G_j (section 4.3). The smooth
areas of section 4.1, rules (3) and (4), are in ``measure/smooth_areas.py``. What the short preset adds stands
in ``gan2gan_short.py``. ``docs/methods/gan2gan.md`` lists every departure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pairfree.config import architecture
from pairfree.data import processes
from pairfree.data.patches import Batch, PatchPool, TrainingData
from pairfree.marks import bounded
from pairfree.methods.base import At, Needs, Stage, check_positive
from pairfree.methods.parts.imitation import GENERATIVE, PUBLISHED, Imitation, ImitationConfig
from pairfree.methods.parts.rounds import Rounds
from pairfree.methods.parts.single import run_network
from pairfree.methods.parts.unpaired import frozen
from pairfree.nets.dncnn import DnCNN
from pairfree.nets.gan2gan import Chosen, NoiseGenerator, Refined, RoughDenoiser, WassersteinCritic


def wasserstein_distance(real: Tensor, fake: Tensor) -> Tensor:
    r"""What critics maximise and generators minimise: L_n of eq. (5) and L_Z of eq. (6).

    Parameters
    ----------
    real, fake
        Scores of any shape.

    Returns
    -------
    Tensor
        A scalar in units of the score.

    Notes
    -----
    L_n = E[f1(n)] - E[f1(g1(r))] (5);  L_Z = E[f2(Z)] - E[f2(g2(Z) + g1(r))] (6)

    References
    ----------
    Cha et al., eqs. 5 and 6 (W-GAN, Arjovsky et al. 2017).
    """
    return torch.mean(real) - torch.mean(fake)


def cycle_loss(z: Tensor, z_again: Tensor) -> Tensor:
    r"""L_cyc = E|Z - g3(g2(Z))|_1, eq. (7): mean over pixels of (B, C, H, W), network units; a scalar."""
    return torch.mean(torch.abs(z - z_again))


def generator_loss(
    judged_noise: Tensor, judged_noisy: Tensor, cycle: Tensor, weights: tuple[float, float, float]
) -> Tensor:
    r"""What g1, g2 and g3 minimise: of eq. (8) the part that depends on them.

    Parameters
    ----------
    judged_noise, judged_noisy
        Scores f1(g1(r)) and f2(g2(Z) + g1(r)), any shape.
    cycle
        L_cyc, a scalar.
    weights
        alpha, beta and gamma; a part of weight 0 is left out, whatever it is.

    Returns
    -------
    Tensor
        A scalar.

    Notes
    -----
    Of alpha L_n + beta L_Z + gamma L_cyc: - alpha E[f1(g1(r))] - beta E[f2(g2(Z) + g1(r))] + gamma L_cyc

    References
    ----------
    Cha et al., eq. 8.
    """
    alpha, beta, gamma = weights
    parts = []
    if alpha > 0:
        parts.append(-alpha * torch.mean(judged_noise))
    if beta > 0:
        parts.append(-beta * torch.mean(judged_noisy))
    if gamma > 0:
        parts.append(gamma * cycle)
    if not parts:
        return judged_noise.new_zeros(())
    return torch.stack(parts).sum()


def g2g_loss(denoised: Tensor, target: Tensor) -> Tensor:
    r"""L_G2G: Noise2Noise on generated pairs.

    Parameters
    ----------
    denoised
        X(Z_2), (B, C, H, W), network units.
    target
        Z_1, or its expectation X', which has the same gradient in expectation and less scatter; of the same
        shape.

    Returns
    -------
    Tensor
        A scalar.

    Notes
    -----
    Noise model: Z = x + N, N zero-mean, additive, independent of x; any distribution and correlation.

    L_G2G = mean (Z_1 - X(Z_2))^2, Z_i = X' + g1(r_i), X' = g2(Z) (9) or X_{j-1}(Z) (10)

    References
    ----------
    Cha et al., eqs. 9 and 10 and the text below them.
    """
    return torch.mean((target - denoised) ** 2)


@dataclass(frozen=True)
class GAN2GANConfig(ImitationConfig):
    """Settings of GAN2GAN as it was published."""

    alpha: float = 5.0
    """Weight of L_n, eq. (5), in eq. (8)."""
    beta: float = 1.0
    """Weight of L_Z, eq. (6), in eq. (8); 0 is an ablation of Figure 6 (a)."""
    gamma: float = 10.0
    """Weight of L_cyc, eq. (7), in eq. (8); 0 is an ablation of Figure 6 (a)."""
    rough_width: int = architecture(64)
    """Channels of g2 and g3."""
    start_share: float = 0.4
    """Part of the budget that what comes before the rounds gets, above 0 and below 1."""
    iterations: int = bounded(3, most=100)
    """j of G2G_j; they share the rest evenly."""

    # The ablations' alone.
    bounded: bool = True
    """Sigmoid at the end of g2; False is the ablation of Figure 6 (a)."""
    start: str = "g2"
    """The first estimate of the images: "g2", the rough denoiser that is trained with g1; "z", the noisy
    image itself (Figure 6 (b) and (c))."""

    choices: ClassVar[dict[str, tuple[str, ...]]] = {"start": ("g2", "z")}
    """What a setting may be of which the short preset knows more values."""

    def own_problems(self) -> list[str]:
        """What is wrong with the settings, a phrase each."""
        names = ("iterations", "rough_width")
        check_positive(type(self).__name__, [(name, getattr(self, name)) for name in names])
        problems = super().own_problems()
        if self.start not in self.choices["start"]:
            *others, last = self.choices["start"]
            problems.append(f"start = {self.start!r} must be {', '.join(others)} or {last}")
        if not 0 < self.start_share < 1:
            problems.append(f"start_share = {self.start_share} must lie between 0 and 1")
        if min(self.alpha, self.beta, self.gamma) < 0:
            problems.append("alpha, beta and gamma must not be negative")
        return problems


PRESETS = {
    # Departs from the paper: `paper`: 64 px patches in G2G, as the authors' code has them; 20,000 noise
    # patches of any data, where the paper has 40,000 of micrographs.
    "paper": GAN2GANConfig(
        **PUBLISHED,
        steps=23_790,
        start_share=0.395,
    ),
}


class GAN2GAN(Imitation):
    """The generative model g1, g2, g3 with its critics f1, f2; then a denoiser X_phi in rounds G2G_j."""

    key = "gan2gan"
    title = "GAN2GAN"
    needs = Needs.NOISY
    citation = (
        "Cha et al., GAN2GAN: Generative noise learning for blind denoising with single noisy images, "
        "ICLR 2021, arXiv:1905.10488"
    )
    assumption = (
        "noise is zero-mean and additive, and some areas are smooth; it may be correlated, and with preset "
        "cpu grow with the brightness"
    )
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
        numbers = range(1, config.iterations + 1)
        self.round_numbers = {f"G2G {j}": j for j in numbers}
        """j, by the name of the stage."""
        self.rounds = Rounds(self.net, self.precision, self.starts_from_scratch)
        # The weights that G2G_1 begins with are part of the state: with --init, they are what was given.
        self.networks |= self.rounds.networks
        self.chosen: nn.Module = self.net
        if config.start == "g2":
            refined = Refined().to(self.place)
            self.networks["refined"] = refined
            self.chosen = Chosen(self.g2, self.net, refined)
        self.data: TrainingData | None = None

    def build_generative_model(self, channels: int) -> None:
        """The three generators and two critics of Figure 3 (b)."""
        config = self.config
        self.g1 = NoiseGenerator(channels, px=config.made_px)
        self.f1 = WassersteinCritic(channels, config.critic_width)
        self.g2 = RoughDenoiser(channels, config.rough_width, bounded=config.bounded)
        self.g3 = DnCNN(channels, config.rough_width)
        self.f2 = WassersteinCritic(channels, config.critic_width)
        self.generators = {"g1": self.g1, "g2": self.g2, "g3": self.g3}
        self.critics = {"f1": self.f1, "f2": self.f2}

    def stages(self) -> tuple[Stage, ...]:
        """The generative model, then the rounds."""
        share = self.config.start_share
        return (Stage(GENERATIVE, share), *self.round_stages(1.0 - share))

    def round_stages(self, share: float) -> list[Stage]:
        """G2G_1, G2G_2, ..., which share this part of the budget evenly."""
        each = share / len(self.round_numbers)
        return [Stage(name, each) for name in self.round_numbers]

    def prepare(self, data: TrainingData, seed: int) -> None:
        """Section 4.1: the set N of noise patches, cut from the smooth areas of the set D of noisy images."""
        # Departs from the paper: Slow shading is taken off as a plane, before patches are judged and when
        # they are cut; candidates lie 8 px apart; lambda and the proportions of the sub-bands follow from the
        # data, and patches above the noise's level are left out.
        self.learn_noise(self.cut_noise(data.noisy))
        self.take_images(data)

    @property
    def noisy(self) -> PatchPool:
        """D, the noisy images."""
        return self.prepared(self.data).noisy

    def take_images(self, data: TrainingData) -> None:
        """D of the generative model and of the rounds."""
        self.data = data
        self.rounds.forget()
        # Departs from the paper: The sigmoid of g2 spans the range of the images, which is [0, 1] for 8-bit
        # files only.
        if self.config.start == "g2" and self.config.bounded:
            self.g2.set_span(data.noisy.flat)

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """One pass of Algorithm 1's outer loop, or one step of G2G_j."""
        if at.stage == GENERATIVE:
            z = self.gather_upright(len(batch.noisy), at)
            return self.generative_step(z, at)
        j = self.round_numbers[at.stage]
        return self.g2g_step(batch.noisy, j, at)

    # -- section 4.2: the generative model -------------------------------------------------------------------

    def gather_upright(self, drawn: int, at: At) -> Tensor:
        """The first ``generative_batch`` of the patches that the step drew, as they lie in the images.

        So the noise was cut out: the critics must not tell noise by its direction. They are as large as what
        g1 makes.
        """
        places = self.noisy.draw(at.seed, at.step, drawn)
        used = places[: processes.own_share(self.config.generative_batch)]
        px = self.config.made_px
        return self.noisy.gather(used, augment=False)[..., :px, :px]

    def generative_step(self, z: Tensor, at: At) -> dict[str, Tensor]:
        """Algorithm 1, lines 4 to 11, for noisy patches Z (m, C, P, P).

        What g1 and g2 make does not change while the critics learn, so it is made once.
        """
        config = self.config
        n = self.noise_patches(len(z), at)  # line 4
        r = self.latent(len(z), "latent", at)
        noise, rough = self.g1(r), self.g2(z)
        fixed_noise = noise.detach()
        fixed_noisy = (rough + noise).detach()

        def distance() -> Tensor:
            """L_n + L_Z, eqs. (5) and (6): each critic has a gradient of its own alone."""
            judged = wasserstein_distance(self.f1(n), self.f1(fixed_noise))
            if config.beta > 0:
                judged = judged + wasserstein_distance(self.f2(z), self.f2(fixed_noisy))
            return judged

        # Departs from the paper: Critics are updated by RMSprop, as in the authors' code, not by Adam.
        judged = self.teach_critics(distance, at)  # lines 5 to 9
        with frozen(self.f1, self.f2):  # lines 10 and 11
            judged_noisy = cycle = torch.zeros(())
            if config.beta > 0:
                judged_noisy = self.f2(rough + noise)
            if config.gamma > 0:
                cycle = cycle_loss(z, self.g3(rough))
            weights = (config.alpha, config.beta, config.gamma)
            loss = generator_loss(self.f1(noise), judged_noisy, cycle, weights)
        self.teach_generators(loss, at)
        noise_std = fixed_noise.std()
        return {"loss": loss.detach(), "critics": judged, "noise std": noise_std}

    # -- section 4.3: G2G_j ----------------------------------------------------------------------------------

    def g2g_step(self, z: Tensor, j: int, at: At) -> dict[str, Tensor]:
        """One step of G2G_j on noisy patches Z (B, C, P, P): a pair of eq. (9) or (10), and L_G2G."""
        if at.stage_step == 0:
            self.begin_round(j)
        estimate = self.estimate(z, j, at)
        z1 = self.make_target(estimate, at)
        z2 = estimate + self.noise_like(estimate, "second copy", at)
        return self.descend(g2g_loss(self.f(z2), z1), at)

    @property
    def starts_from_scratch(self) -> bool:
        """Whether G2G_1 begins with fresh weights, as later rounds do not: phi_j begins as phi_{j-1}."""
        return True

    def begin_round(self, j: int) -> None:
        """From now on the network as it stands makes the estimates of eq. (10)."""
        self.rounds.begin(self.optimizers["net"], first=j == 1)
        if isinstance(self.chosen, Chosen):
            self.chosen.refined.value.fill_(1.0)

    def estimate(self, z: Tensor, j: int, at: At) -> Tensor:
        """X' of the patches Z (B, C, P, P), a constant: of eq. (9) for j = 1, of eq. (10) for j > 1."""
        if j == 1:
            return self.estimate_first(z, at)
        return self.estimate_again(z, at)

    def estimate_first(self, z: Tensor, at: At) -> Tensor:
        """g2(Z) of eq. (9); for Figure 6 (b) Z itself."""
        if self.config.start == "z":
            return z
        return self.rounds.estimate(self.noisy, z, at, self.apply_g2)

    def estimate_again(self, z: Tensor, at: At) -> Tensor:
        """X_{phi_{j-1}}(Z) of eq. (10)."""
        return self.rounds.estimate(self.noisy, z, at)

    def make_target(self, estimate: Tensor, at: At) -> Tensor:
        """Z_j1 of eqs. (9) and (10), a noisy copy of the estimate (B, C, P, P)."""
        return estimate + self.noise_like(estimate, "first copy", at)

    @torch.no_grad()
    def apply_g2(self, x: Tensor) -> Tensor:
        """g2 of (B, C, H, W)."""
        return run_network(self.g2.eval(), x, self.precision)

    # -- what is applied and saved ---------------------------------------------------------------------------

    @property
    def denoiser(self) -> nn.Module:
        """g2 until the rounds begin, then the network that they train; that network alone without g2."""
        return self.chosen

    def load_tensors(self, tensors: Mapping[str, Tensor], optimizers: bool = True) -> None:
        """Inverse of ``tensors``; estimates that other weights made are forgotten."""
        super().load_tensors(tensors, optimizers)
        self.rounds.forget()
