"""UIDNet (Hong et al., AAAI 2020): a conditional WGAN makes clean images noisy; a denoiser learns from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.config import architecture
from pairfree.data.patches import Batch
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs, check_positive, flat_then_linear, set_rate, update
from pairfree.methods.parts.unpaired import (
    UnpairedConfig,
    UnpairedMethod,
    clip_signed,
    from_signed,
    frozen,
    to_signed,
    vital_signs,
)
from pairfree.nets import build
from pairfree.nets.blocks import placed
from pairfree.nets.iscl import Critic
from pairfree.nets.unet import UNet


def sharpened(x: Tensor) -> Tensor:
    """[x, x - mean of x over 3 x 3 pixels]: what the critic sees; (B, C, H, W) -> (B, 2C, H, W).

    References
    ----------
    Hong et al., the sharpening technique.
    """
    mean = F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)
    return torch.cat([x, x - mean], 1)


def wasserstein_loss(real: Tensor, fake: Tensor) -> Tensor:
    """E[D(fake)] - E[D(real)], which the critic minimises; scores of any shape -> scalar.

    References
    ----------
    Gulrajani et al., NeurIPS 2017, eq. 3, first part.
    """
    return torch.mean(fake) - torch.mean(real)


def gradient_penalty(slopes: Tensor) -> Tensor:
    """E[(|grad D| - 1)^2] from gradients of scores at points between real and fake, (B, C, H, W) -> scalar.

    References
    ----------
    Gulrajani et al., NeurIPS 2017, eq. 3, second part.
    """
    norms = slopes.flatten(1).norm(dim=1)
    return torch.mean((norms - 1.0) ** 2)


def pseudo_pair_loss(denoised: Tensor, clean: Tensor) -> Tensor:
    """Mean |f(y + G(z, y)) - y|^2, (B, C, H, W) in [-1, 1] -> scalar. Hong et al., the denoiser's loss."""
    return torch.mean((denoised - clean) ** 2)


@dataclass(frozen=True)
class UIDNetConfig(UnpairedConfig):
    """The settings of UIDNet. `precision` is of generator and denoiser; critic and penalty are float32."""

    net: str = architecture("dncnn")
    """Name of the denoiser f in ``nets.NETS``."""
    width: int = architecture(0)
    """Channels of the denoiser; 0 is its own default."""
    generator_width: int = architecture(32)
    """Channels of the first level of the noise generator G, a U-Net."""
    critic_width: int = architecture(64)
    """Channels of the first level of the critic D."""
    lr: float = 1e-4
    """Adam's rate of G and D; constant over the first half of the steps, then linear to 0."""
    lr_denoiser: float = 1e-4
    """Adam's rate of f, likewise."""
    beta1: float = 0.5
    """Adam's first decay."""
    penalty: float = 10.0
    """Weight of the gradient penalty."""
    critic_steps: int = 1
    """Updates of D for one of G."""
    max_norm: float = 1e9
    """The denoiser's gradients are scaled down to this joint norm."""

    def __post_init__(self) -> None:
        positive = (
            "generator_width",
            "critic_width",
            "batch_size",
            "lr",
            "lr_denoiser",
            "penalty",
            "critic_steps",
            "max_norm",
        )
        check_positive(type(self).__name__, [(name, getattr(self, name)) for name in positive])
        problems = self.common_problems()
        if not 0 <= self.beta1 < 1:
            problems.append(f"beta1 = {self.beta1} must lie in [0, 1)")
        if self.width < 0:
            problems.append(f"width = {self.width} must not be negative")
        if problems:
            raise ConfigError("uidnet: " + "; ".join(problems))


# Departs from the paper: Batch, patch, rate, beta1 and one critic step for one of the generator are those of
# the authors' code; rates fall linearly over the second half of the steps, and the penalty takes the norm of
# the whole gradient at what the critic sees (image and sharpened copy), as WGAN-GP does, where the code takes
# that of each column. Weights begin as He's or PyTorch's initialisation makes them; y + G(z, y) is not
# clipped.
PRESETS: dict[str, Any] = {
    # Departs from the paper: `cpu`: the denoiser is `ShuffleUNet`, generator and critic have a quarter of the
    # channels, batches of 16, higher rates, the denoiser's gradients are scaled down to a norm of 1; bfloat16
    # convolutions where they are faster.
    "cpu": UIDNetConfig(
        net="shuffle-unet",
        generator_width=8,
        critic_width=16,
        batch_size=16,
        lr=5e-4,
        lr_denoiser=2e-3,
        max_norm=1.0,
        precision="auto",
        minutes=10.0,
        steps=0,
    ),
    "paper": UIDNetConfig(),
}


class UIDNet(UnpairedMethod):
    """A generator imitates the noise on clean images, and a denoiser learns from such pairs."""

    key = "uidnet"
    title = "UIDNet"
    needs = Needs.CLEAN
    citation = (
        "Hong et al., End-to-end unpaired image denoising with conditional adversarial networks, AAAI 2020, "
        "doi:10.1609/aaai.v34i04.5834"
    )
    assumption = (
        "a network fed with white noise and the clean image can imitate the noise; "
        "both sets show the same kind of structures"
    )
    config_type = UIDNetConfig
    config: UIDNetConfig

    def __init__(
        self,
        config: UIDNetConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, device)
        made = net if net is not None else build(config.net, channels, config.width)
        nets = {
            "f": made,
            "G": UNet(2 * channels, config.generator_width, outputs=channels),
            "D": Critic(2 * channels, config.critic_width, config.patch_px, norm=False),
        }
        self.networks = {name: placed(one, self.place) for name, one in nets.items()}
        self.f, self.G, self.D = (self.networks[name] for name in ("f", "G", "D"))
        self.rates = {"D": config.lr, "G": config.lr, "f": config.lr_denoiser}

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Adam for each network."""
        betas = (self.config.beta1, 0.999)
        return {
            name: torch.optim.Adam(
                self.networks[name].parameters(), lr=rate, betas=betas, foreach=True
            )
            for name, rate in self.rates.items()
        }

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """The critic, then the generator, then the denoiser on what the generator makes now."""
        x = clip_signed(batch.noisy)
        y = self.clean_patches(batch)
        for name, optimizer in self.optimizers.items():
            set_rate(optimizer, self.rates[name] * flat_then_linear(at.progress))
        for turn in range(self.config.critic_steps):
            fake = self.made_noisy(y, at, f"critic {turn}").detach()
            distance = wasserstein_loss(self.D(sharpened(x)), self.D(sharpened(fake)))
            judged = distance + self.config.penalty * self._penalty(x, fake, at, turn)
            update(self.optimizers["D"], judged, at, "D")
        with frozen(self.D):
            fooled = -torch.mean(self.D(sharpened(self.made_noisy(y, at, "generator"))))
        update(self.optimizers["G"], fooled, at, "G")
        made = self.made_noisy(y, at, "pairs").detach()
        denoised = self._run(self.f, made)
        loss = pseudo_pair_loss(denoised, y)
        update(self.optimizers["f"], loss, at, "f", self.config.max_norm)
        return {
            "loss": loss.detach(),
            "critic": judged.detach(),
            "generator": fooled.detach(),
            **vital_signs(made, denoised),
        }

    def made_noisy(self, y: Tensor, at: At, purpose: str) -> Tensor:
        """The noisy image y + G(z, y), z uniform in [-1, 1]; (B, C, H, W)."""
        z = torch.rand(y.shape, generator=at.rng(purpose, y.device), device=y.device) * 2.0 - 1.0
        return y + torch.tanh(self._run(self.G, torch.cat([z, y], 1)))

    def _penalty(self, x: Tensor, fake: Tensor, at: At, turn: int) -> Tensor:
        share = torch.rand(
            (len(x), 1, 1, 1), generator=at.rng(f"between {turn}", x.device), device=x.device
        )
        between = sharpened(share * x + (1.0 - share) * fake).requires_grad_()
        (slopes,) = torch.autograd.grad(self.D(between).sum(), between, create_graph=True)
        return gradient_penalty(slopes)

    def denoise(self, x: Tensor) -> Tensor:
        """What f makes of noisy images (B, C, H, W), network units; what lies beyond comes back."""
        shown = clip_signed(x)
        return from_signed(super().denoise(shown) + (to_signed(x) - shown))

    @property
    def denoiser(self) -> nn.Module:
        """The network f."""
        return self.f
