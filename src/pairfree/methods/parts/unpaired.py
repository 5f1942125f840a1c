"""What the methods share that learn from a noisy set and a clean set of other scenes: range, checks of settings, forward passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.data.unpaired import intensity_problems
from pairfree.errors import ConfigError
from pairfree.methods.base import Method
from pairfree.methods.parts.single import PRECISIONS, resolve_precision, run_network
from pairfree.nets.batch_instance_norm import clip_rho, take_statistics
from pairfree.nets.blocks import channels_last, clip
from pairfree.nets.traits import total_stride


@dataclass(frozen=True)
class UnpairedConfig:
    """The settings that all of them have.

    patch_px, batch_size  side of the patches in pixels, a power of two; patches a step of each set
    intensity             how the brightness of the two sets goes together: "common", "separate", "auto", or a window "LOW,HIGH" such as
                          "-160,240" HU; what lies beyond it is left as it is (``data.unpaired.fit_unpaired``)
    precision             "auto": bfloat16 convolutions where the device is faster with them, else float32
    minutes, steps        budget when none is given; minutes = 0 means steps count
    """

    patch_px: int = 64
    batch_size: int = 64
    intensity: str = "auto"
    precision: str = "float32"
    minutes: float = 0.0
    steps: int = 8000

    def common_problems(self) -> list[str]:
        """What is wrong with these settings, a phrase each."""
        problems = []
        if self.patch_px < 16 or self.patch_px & (self.patch_px - 1):
            problems.append(f"patch_px = {self.patch_px} must be a power of two from 16 up")
        if min(self.minutes, self.steps) < 0:
            problems.append(f"minutes = {self.minutes}, steps = {self.steps} must not be negative")
        problems += intensity_problems(self.intensity)
        if self.precision not in PRECISIONS:
            problems.append(f"precision = {self.precision!r} must be one of {', '.join(PRECISIONS)}")
        return problems


class UnpairedMethod(Method):
    """A method with several networks of its own; a subclass builds them on ``place``."""

    def __init__(
        self, config: UnpairedConfig, device: torch.device | str, net: nn.Module | None = None
    ) -> None:
        if net is not None:
            raise ConfigError(
                f"{self.key}: trains five networks of its own and takes no net=; their widths are settings"
            )
        self.config = config
        self.patch_px, self.batch_size = config.patch_px, config.batch_size
        self.place = torch.device(device)
        self.precision = resolve_precision(config.precision, self.place)

    def _run(self, net: nn.Module, x: Tensor) -> Tensor:
        return run_network(net, x, self.precision)

    def denoise(self, x: Tensor) -> Tensor:
        out: Tensor = self.denoiser(channels_last(x))
        return out


def signed(x: Tensor) -> Tensor:
    """Network units (0..1 where the files' range is) -> [-1, 1] there."""
    return 2.0 * x - 1.0


def inside(x: Tensor) -> Tensor:
    """``signed``, clipped to [-1, 1]: what a generator with tanh can make, and a window shows. What is not finite stays, to be refused."""
    whole = signed(x)
    return torch.where(torch.isfinite(whole), clip(whole, -1.0, 1.0), whole)


def unsigned(x: Tensor) -> Tensor:
    """Inverse of ``signed``."""
    return (x + 1.0) / 2.0


def grid_loss(change: Tensor, stride: int) -> Tensor:
    r"""What a network does that depends on nothing but the place in its own grid, and noise does not.

    Equation   L_grid = Var_p( mean_bq change_b(p + s q) ): the means over a batch and all cells q of s x s pixels, and their variance over
               the places p in a cell
    change     what the network removes, (B, C, H, W), H and W multiples of the stride s; returns a scalar, the mean over channels
    Expected   sigma^2 s^2 / (B H W) for white noise that is removed whole; a grid of amplitude a adds a^2
    """
    cells = change.unflatten(-1, (-1, stride)).unflatten(-3, (-1, stride))
    return cells.mean((0, -4, -2)).flatten(-2).var(-1, unbiased=False).mean()


def local_mean(image: Tensor, side: int) -> Tensor:
    """Means over windows of ``side`` pixels, odd, around each pixel of (B, C, H, W); at the borders, of those inside."""
    for window in ((side, 1), (1, side)):
        padding = (window[0] // 2, window[1] // 2)
        image = nn.functional.avg_pool2d(image, window, stride=1, padding=padding, count_include_pad=False)
    return image


HINGE_MIDDLE = 0.5
"""Between the margins of a critic that is taught real >= 1 and fake <= 0."""


@torch.no_grad()
def vital_signs(
    x: Tensor, denoised: Tensor, real: Tensor | None = None, fake: Tensor | None = None
) -> dict[str, Tensor]:
    """What shows a collapse (``engine.watch``).

    contrast   standard deviation of the denoised batch over that of the noisy one, (B, C, H, W)
    accuracy   share of scores of real and fake images on the right side of ``HINGE_MIDDLE``; only with scores
    """
    signs = {"contrast": denoised.std() / x.std().clamp(min=1e-12)}
    if real is not None and fake is not None:
        signs["accuracy"] = (
            torch.cat([(real > HINGE_MIDDLE).flatten(), (fake <= HINGE_MIDDLE).flatten()]).float().mean()
        )
    return signs


@contextmanager
def constant(*nets: nn.Module) -> Iterator[None]:
    """Inside, the weights of ``nets`` collect no gradient, while their inputs still do."""
    parameters = [p for net in nets for p in net.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def settle(*nets: nn.Module) -> None:
    """After an update: normalisation shares into [0, 1], running statistics moved."""
    clip_rho(*nets)
    take_statistics(*nets)


class Bounded(nn.Module):
    """A denoiser of [-1, 1] as one of network units.

    It sees its input clipped to [-1, 1]; what lay beyond is put back, so that a hot pixel or a padding value comes through as it is.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.stride = total_stride(net)

    def forward(self, x: Tensor) -> Tensor:
        shown = inside(x)
        return unsigned(self.net(shown) + (signed(x) - shown))
