"""What the methods share that learn from a noisy set and a clean set of other scenes.

Range of the images, checks of settings, forward passes, and losses that are no method's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pairfree.config import architecture
from pairfree.data.patches import Batch
from pairfree.data.unpaired import intensity_problems
from pairfree.errors import ConfigError
from pairfree.methods.base import Method, require
from pairfree.methods.parts.single import PRECISIONS, resolve_precision, run_network
from pairfree.nets.batch_instance_norm import clip_rho, take_statistics
from pairfree.nets.blocks import channels_last, clip, mean_places
from pairfree.nets.traits import total_stride


@dataclass(frozen=True)
class UnpairedConfig:
    """The settings that all of them have."""

    patch_px: int = architecture(64)
    """Side of the square training patches, pixels; a power of two. It shapes the critics."""
    batch_size: int = 64
    """Patches of each set a step."""
    intensity: str = "auto"
    """How the brightness of the two sets goes together: "common", "separate", "auto", or a window "LOW,HIGH".

    A window, such as "-160,240" HU, is what networks see; what lies beyond it is left as it is.
    """
    precision: str = "float32"
    """Of the convolutions: "float32", "bfloat16", or "auto", bfloat16 where the device is faster with it."""
    minutes: float = 0.0
    """Budget in minutes, where none is given beside the settings; with 0 `steps` counts."""
    steps: int = 8000
    """Budget in steps, where none is given beside the settings and `minutes` is 0."""

    def common_problems(self) -> list[str]:
        """What is wrong with these settings, a phrase each."""
        problems = []
        if self.patch_px < 16 or self.patch_px & (self.patch_px - 1):
            problems.append(f"patch_px = {self.patch_px} must be a power of two from 16 up")
        if min(self.minutes, self.steps) < 0:
            problems.append(f"minutes = {self.minutes}, steps = {self.steps} must not be negative")
        problems += intensity_problems(self.intensity)
        if self.precision not in PRECISIONS:
            problems.append(
                f"precision = {self.precision!r} must be one of {', '.join(PRECISIONS)}"
            )
        return problems

    def outside_0_to_1(self, *names: str) -> list[str]:
        """A phrase for each of these settings that does not lie in [0, 1]."""
        problems = []
        for name in names:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                problems.append(f"{name} = {value} must lie in [0, 1]")
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

    @torch.no_grad()
    def _run_fixed(self, net: nn.Module, x: Tensor) -> Tensor:
        """The same, as a constant."""
        return self._run(net, x)

    def clean_patches(self, batch: Batch) -> Tensor:
        """The patches of the clean set, (B, C, P, P) in [-1, 1]."""
        return clip_signed(require(batch.clean, self.needs.value))

    def denoise(self, x: Tensor) -> Tensor:
        """What the denoiser makes of noisy images (B, C, H, W), network units."""
        out: Tensor = self.denoiser(channels_last(x))
        return out


def to_signed(x: Tensor) -> Tensor:
    """Network units (0..1 where the files' range is) -> [-1, 1] there."""
    return 2.0 * x - 1.0


def from_signed(x: Tensor) -> Tensor:
    """Inverse of ``to_signed``."""
    return (x + 1.0) / 2.0


def clip_signed(x: Tensor) -> Tensor:
    """``to_signed``, clipped to [-1, 1]: what a generator with tanh can make, and a window shows.

    What is not finite stays, to be refused.
    """
    whole = to_signed(x)
    return torch.where(torch.isfinite(whole), clip(whole, -1.0, 1.0), whole)


def mean_absolute(difference: Tensor) -> Tensor:
    """E|.|_1 of the papers, a mean over all there is: (B, C, H, W) -> scalar."""
    return torch.mean(torch.abs(difference))


def identity_loss(x: Tensor, x_kept: Tensor, y: Tensor, y_kept: Tensor) -> Tensor:
    r"""What is in the domain already stays as it is: L_identity = E|F(y) - y|_1 + E|G(x) - x|_1.

    Without it a cycle may run through inverted contrast. CycleGAN's; ISCL has none.

    Parameters
    ----------
    x, x_kept
        Noisy images and G(x), (B, C, H, W) in [-1, 1].
    y, y_kept
        Clean images and F(y), alike.

    References
    ----------
    Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial networks, ICCV 2017,
    section 5.2.
    """
    return mean_absolute(x - x_kept) + mean_absolute(y - y_kept)


def grid_loss(change: Tensor, stride: int) -> Tensor:
    r"""What a network does that depends on nothing but the place in its own grid, and noise does not.

    L_grid = Var_p( mean_bq change_b(p + s q) ): the means over a batch and all cells q of s x s pixels, and
    their variance over the places p in a cell.

    Parameters
    ----------
    change
        What the network removes, (B, C, H, W); H and W multiples of the stride s.
    stride
        s, pixels.

    Returns
    -------
    Tensor
        Scalar, the mean over channels.

    Notes
    -----
    Expected of white noise that is removed whole: sigma^2 s^2 / (B H W); a grid of amplitude a adds a^2.
    """
    places = mean_places(change, stride).flatten(-2)
    return places.var(-1, unbiased=False).mean()


def local_mean(image: Tensor, side_px: int) -> Tensor:
    """Means over square windows around each pixel; at the borders, of the pixels inside.

    Parameters
    ----------
    image
        (B, C, H, W).
    side_px
        Of the window, odd.
    """
    for window in ((side_px, 1), (1, side_px)):
        padding = (window[0] // 2, window[1] // 2)
        image = nn.functional.avg_pool2d(
            image, window, stride=1, padding=padding, count_include_pad=False
        )
    return image


HINGE_MIDDLE = 0.5
"""Between the margins of a critic that is taught real >= 1 and fake <= 0."""


@torch.no_grad()
def vital_signs(
    x: Tensor, denoised: Tensor, real: Tensor | None = None, fake: Tensor | None = None
) -> dict[str, Tensor]:
    """What shows a collapse (``engine.watch``).

    Parameters
    ----------
    x, denoised
        A noisy batch and what is made of it, (B, C, H, W).
    real, fake
        Scores of clean and of denoised images, any shape.

    Returns
    -------
    dict[str, Tensor]
        ``contrast``, the standard deviation of the denoised batch over that of the noisy one. With scores
        also ``accuracy``, the share of them on the right side of ``HINGE_MIDDLE``.
    """
    signs = {"contrast": denoised.std() / x.std().clamp(min=1e-12)}
    if real is not None and fake is not None:
        real_found = (real > HINGE_MIDDLE).flatten()
        fake_found = (fake <= HINGE_MIDDLE).flatten()
        signs["accuracy"] = torch.cat([real_found, fake_found]).float().mean()
    return signs


@contextmanager
def frozen(*nets: nn.Module) -> Iterator[None]:
    """Inside, the weights of ``nets`` collect no gradient, while their inputs still do."""
    parameters = [p for net in nets for p in net.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def settle_norms(*nets: nn.Module) -> None:
    """After an update: normalisation shares into [0, 1], running statistics moved."""
    clip_rho(*nets)
    take_statistics(*nets)


class Bounded(nn.Module):
    """A denoiser of [-1, 1] as one of network units.

    It sees its input clipped to [-1, 1]; what lay beyond is put back, so that a hot pixel or a padding value
    comes through as it is.

    Parameters
    ----------
    net
        (B, C, H, W) in [-1, 1] -> same.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.stride = total_stride(net)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images (B, C, H, W), network units; what lies beyond comes back as it was."""
        shown = clip_signed(x)
        beyond = to_signed(x) - shown
        return from_signed(self.net(shown) + beyond)
