"""Quan et al. (ICCV workshops 2019): one network takes a noisy image apart, another puts it together.

The parts are a clean image and the noise, of which images must be given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.config import architecture
from pairfree.data.patches import Batch
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs, check_positive, require, set_rate, update
from pairfree.methods.iscl import adversarial_loss, critic_loss
from pairfree.methods.parts.unpaired import (
    Bounded,
    UnpairedConfig,
    UnpairedMethod,
    clip_signed,
    frozen,
    mean_absolute,
    settle_norms,
    vital_signs,
)
from pairfree.nets.batch_instance_norm import drop_statistics
from pairfree.nets.blocks import placed
from pairfree.nets.iscl import Critic, Generator

CRITICS = ("D_X", "D_Y", "D_N")
"""Of noisy images, clean images and noise."""


def three_way_cycle_loss(
    x: Tensor, x_again: Tensor, y: Tensor, y_again: Tensor, n: Tensor, n_again: Tensor
) -> Tensor:
    r"""E|x - G(F(x))|_1 + E|y - F_Y(G(y, n))|_1 + E|n - F_N(G(y, n))|_1: apart and together, from all sides.

    Parameters
    ----------
    x, x_again, y, y_again, n, n_again
        Images and what came back, (B, C, H, W) in [-1, 1]. Means are over batch and pixels.

    References
    ----------
    Quan et al., the three-way cyclic constraint, as ISCL's section II-C tells it.
    """
    pairs = ((x, x_again), (y, y_again), (n, n_again))
    return torch.stack([mean_absolute(a - b) for a, b in pairs]).sum()


def kept_loss(y: Tensor, y_kept: Tensor) -> Tensor:
    r"""E|F_Y(y) - y|_1: a clean image stays as it is. CycleGAN's, not Quan et al.'s.

    Without it all three cycles may run through inverted contrast.

    Parameters
    ----------
    y, y_kept
        Clean images and F_Y(y), (B, C, H, W) in [-1, 1].

    References
    ----------
    Zhu et al., ICCV 2017, section 5.2, the term of F.
    """
    return mean_absolute(y_kept - y)


class Apart(nn.Module):
    """F: a noisy image (B, C, H, W) in [-1, 1] -> clean image and noise, each of that shape and range."""

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = Generator.stride
        self.net = Generator(channels, width, blocks, outputs=2 * channels)

    def parts(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Clean image and noise in the output of ``net``."""
        return out[:, : self.channels], out[:, self.channels :]

    def forward(self, x: Tensor) -> Tensor:
        """The clean image alone."""
        clean, _ = self.parts(self.net(x))
        return clean


@dataclass(frozen=True)
class QuanConfig(UnpairedConfig):
    """The settings of Quan et al., with ISCL's networks."""

    width: int = architecture(32)
    """Channels of the first level of F and G."""
    blocks: int = architecture(3, most=256)
    """Residual blocks of F and G."""
    critic_width: int = architecture(32)
    """Channels of the first level of D_X, D_Y and D_N."""
    critic_norm: bool = architecture(True)
    """Batch-instance normalisation in the critics; it hides a difference of brightness of two batches."""
    lr: float = 2e-4
    """Adam's rate at the beginning; linear from there to `lr_end`."""
    lr_end: float = 2e-6
    """Adam's rate at the end."""
    beta1: float = 0.5
    """Adam's first decay."""
    cycle_weight: float = 10.0
    """Weight of the three-way cycle."""
    identity: float = 0.0
    """Weight of E|F_Y(y) - y|, a share of `cycle_weight`; 0 as in the paper."""

    def __post_init__(self) -> None:
        positive = ("width", "critic_width", "batch_size", "lr", "lr_end", "cycle_weight")
        values = [(name, getattr(self, name)) for name in positive]
        check_positive(type(self).__name__, values)
        problems = self.common_problems()
        if self.blocks < 0:
            problems.append(f"blocks = {self.blocks} must not be negative")
        if not 0 <= self.beta1 < 1:
            problems.append(f"beta1 = {self.beta1} must lie in [0, 1)")
        if not 0 <= self.identity < math.inf:
            problems.append(f"identity = {self.identity} must not be negative")
        if problems:
            raise ConfigError("quan: " + "; ".join(problems))


# Departs from the paper: Networks, hinge loss and patches are ISCL's, so that rows of its tables differ in
# the method; the weight of the cycle is CycleGAN's.
PRESETS = {
    # Departs from the paper: `cpu`: half as many channels, two residual blocks instead of three, critics
    # without normalisation, batches of 8, a higher rate, an identity loss of half the weight of the cycle, as
    # CycleGAN's; bfloat16 convolutions where they are faster.
    "cpu": QuanConfig(
        width=16,
        blocks=2,
        critic_width=16,
        critic_norm=False,
        batch_size=8,
        lr=7e-4,
        lr_end=7e-6,
        identity=0.5,
        precision="auto",
        minutes=10.0,
        steps=0,
    ),
    "paper": QuanConfig(),
}


class Quan(UnpairedMethod):
    """F takes noisy images apart, G puts them together; a critic judges each kind of image."""

    key = "quan"
    title = "Quan et al. (asymmetric cycle)"
    needs = Needs.CLEAN_AND_NOISE
    citation = (
        "Quan et al., Removing imaging artifacts in electron microscopy using an asymmetrically cyclic "
        "adversarial network without paired training data, ICCV workshops 2019, doi:10.1109/ICCVW.2019.00473"
    )
    assumption = (
        "images of the noise alone can be taken; both sets show the same kind of structures"
    )
    config_type = QuanConfig
    config: QuanConfig

    def __init__(
        self,
        config: QuanConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, device, net)
        self.F = placed(Apart(channels, config.width, config.blocks), self.place)
        together = Generator(2 * channels, config.width, config.blocks, outputs=channels)
        self.G = placed(together, self.place)
        self.networks = {"F": self.F, "G": self.G}
        self.critics: list[nn.Module] = []
        for name in CRITICS:
            critic = Critic(channels, config.critic_width, config.patch_px, config.critic_norm)
            self.networks[name] = placed(critic, self.place)
            self.critics.append(self.networks[name])
        self.bounded = Bounded(self.F)

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One for both generators, one for the three critics."""
        return {
            "F, G": self._make_adam("F", "G"),
            "D_X, D_Y, D_N": self._make_adam(*CRITICS),
        }

    def _make_adam(self, *names: str) -> torch.optim.Optimizer:
        parameters: list[nn.Parameter] = []
        for name in names:
            parameters += self.networks[name].parameters()
        betas = (self.config.beta1, 0.999)
        return torch.optim.Adam(parameters, lr=self.config.lr, betas=betas, foreach=True)

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Both generators, then the three critics on what was generated."""
        config = self.config
        x = clip_signed(batch.noisy)
        y = self.clean_patches(batch)
        n = clip_signed(require(batch.noise, self.needs.value))
        for optimizer in self.optimizers.values():
            set_rate(optimizer, config.lr + (config.lr_end - config.lr) * at.progress)
        drop_statistics(*self.networks.values())
        y_made, n_made = self._take_apart(x)
        x_made = self._run(self.G, torch.cat([y, n], 1))
        x_again = self._run(self.G, torch.cat([y_made, n_made], 1))
        y_again, n_again = self._take_apart(x_made)
        cycle = three_way_cycle_loss(x, x_again, y, y_again, n, n_again)
        fakes = (x_made, y_made, n_made)
        fooled = self._fool_critics(fakes)
        nested = cycle
        if config.identity > 0:
            y_kept, _ = self._take_apart(y)
            nested = nested + config.identity * kept_loss(y, y_kept)
        loss = fooled + config.cycle_weight * nested
        update(self.optimizers["F, G"], loss, at, "F, G")
        settle_norms(self.F, self.G)

        scores = []
        for critic, real, fake in zip(self.critics, (x, y, n), fakes, strict=True):
            scores.append((self._run(critic, real), self._run(critic, fake.detach())))
        judged = torch.stack([critic_loss(real, fake) for real, fake in scores]).sum()
        update(self.optimizers["D_X, D_Y, D_N"], judged, at, "D_X, D_Y, D_N")
        settle_norms(*self.critics)
        signs = vital_signs(x, y_made, *scores[1])
        return {"loss": loss.detach(), "cycle": cycle.detach(), "critics": judged.detach(), **signs}

    def _fool_critics(self, fakes: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """What the generators pay for images that the critics tell from given ones, a scalar."""
        losses = []
        with frozen(*self.critics):
            for critic, fake in zip(self.critics, fakes, strict=True):
                losses.append(adversarial_loss(self._run(critic, fake)))
        return torch.stack(losses).sum()

    def _take_apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """F_Y and F_N of noisy images."""
        return self.F.parts(self._run(self.F.net, x))

    @property
    def denoiser(self) -> nn.Module:
        """F_Y, for images beyond [-1, 1] too."""
        return self.bounded
