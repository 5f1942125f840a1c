"""CVF-SID (Neshatavar et al., CVPR 2022): an image comes apart into a clean image and two noises.

y = c + c d + i: clean image, noise that follows the signal, noise that does not. What is put together from
them again must come apart likewise. The exponent of c in the paper's c^gamma d is 1, as in the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.special import chdtri
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.config import architecture
from pairfree.data.patches import Batch
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs, check_positive
from pairfree.methods.parts.single import (
    PUBLISHED,
    SingleConfig,
    SingleNetwork,
    autocast,
    make_optimizer,
)
from pairfree.nets.blocks import placed
from pairfree.nets.cvf_sid import NoiseParts

SIGNS = ((1, -1), (-1, 1), (-1, -1), (1, 1), (0, 1), (0, -1), (-1, 0))
"""Of c d and of i in the images that are put together anew."""
WINDOW_PX = 6
"""Side of the windows that deviations and local means are taken over."""


class Parts(NamedTuple):
    """What an image is made of, each (B, C, H, W)."""

    clean: Tensor
    """c, network units."""

    dependent: Tensor
    """d, the noise that follows the signal; relative."""

    independent: Tensor
    """i, the noise that does not; network units."""


def compose(parts: Parts, first: float = 1.0, second: float = 1.0) -> Tensor:
    """Put an image together: c + first * c d + second * i, (B, C, H, W)."""
    return parts.clean + first * parts.clean * parts.dependent + second * parts.independent


def identity_loss(
    parts: Parts, of_clean: Parts, of_dependent: Parts, of_independent: Parts
) -> Tensor:
    r"""What is put in alone must come out.

    |C(c) - c|^2 + |C(c + c d) - c|^2 + |D(c + c d) - d|^2 + |I(i) - i|^2, means over pixels.

    Parameters
    ----------
    parts
        c, d and i.
    of_clean, of_dependent, of_independent
        What c, c + c d and i come apart into.

    Returns
    -------
    Tensor
        Scalar.

    References
    ----------
    Neshatavar et al., section 3.2, with the terms of the authors' code.
    """
    return (
        F.mse_loss(of_clean.clean, parts.clean)
        + F.mse_loss(of_dependent.clean, parts.clean)
        + F.mse_loss(of_dependent.dependent, parts.dependent)
        + F.mse_loss(of_independent.independent, parts.independent)
    )


def zero_loss(of_clean: Parts, of_dependent: Parts, of_independent: Parts) -> Tensor:
    r"""What was not put in must not come out.

    |C(i)|^2 + |D(c)|^2 + |I(c)|^2 + |I(c + c d)|^2, means over pixels.

    Parameters
    ----------
    of_clean, of_dependent, of_independent
        What c, c + c d and i come apart into.

    Returns
    -------
    Tensor
        Scalar.

    References
    ----------
    Neshatavar et al., section 3.2, with the terms of the authors' code.
    """
    absent = (
        of_independent.clean,
        of_clean.dependent,
        of_clean.independent,
        of_dependent.independent,
    )
    total = torch.zeros((), device=of_clean.clean.device)
    for part in absent:
        total = total + torch.mean(part**2)
    return total


def spread_loss(parts: Parts, deviation: Tensor) -> Tensor:
    r"""The two noises together are as strong as what is seen in small windows of the noisy image.

    mean (sqrt(mean(blur(c)^2) var(d) + var(i)) - s)^2.

    Parameters
    ----------
    parts
        c, d and i.
    deviation
        s, (B, C), network units: ``window_deviation`` or ``smooth_deviation`` of the noisy image.

    Returns
    -------
    Tensor
        Scalar, squared network units.

    Notes
    -----
    Breaks when the image has texture everywhere: s is then too large.

    References
    ----------
    Neshatavar et al., section 3.2 (regularisation), with the authors' windows of 6 px.
    """
    blurred = F.avg_pool2d(parts.clean, WINDOW_PX, 1, WINDOW_PX // 2)
    power = blurred.square().mean((2, 3))
    variance = power * parts.dependent.var((2, 3)) + parts.independent.var((2, 3))
    return torch.mean((torch.sqrt(variance + 1e-12) - deviation) ** 2)


def recombination_loss(parts: Parts, found: Sequence[Parts]) -> Tensor:
    r"""Parts put together with other signs, or one left out, come apart into those parts with those signs.

    sum over (a, b) of |C - c|^2 + |D - a d|^2 + |I - b i|^2 of c + a c d + b i, means over pixels.

    Parameters
    ----------
    parts
        c, d and i.
    found
        C, D and I: what the images that were put together come apart into, in the order of ``SIGNS``.

    Returns
    -------
    Tensor
        Scalar.

    References
    ----------
    Neshatavar et al., section 3.3 (self-supervised augmentation), with the signs of the authors' code.
    """
    total = torch.zeros((), device=parts.clean.device)
    for one, (a, b) in zip(found, SIGNS, strict=True):
        total = total + F.mse_loss(one.clean, parts.clean)
        total = total + F.mse_loss(one.dependent, a * parts.dependent)
        total = total + F.mse_loss(one.independent, b * parts.independent)
    return total


def window_deviation(y: Tensor) -> Tensor:
    """Mean over all windows of the standard deviation within one: (B, C, H, W) -> (B, C), network units."""
    return torch.sqrt(window_variances(y)).mean((2, 3))


def smooth_deviation(y: Tensor, share: float) -> Tensor:
    """Standard deviation of white noise whose windows vary as little as the smoothest ones of an image do.

    Parameters
    ----------
    y
        The noisy image, (B, C, H, W), network units.
    share
        In (0, 1): of all windows, those that vary least. The one that varies most among them is compared with
        its like in white noise.

    Returns
    -------
    Tensor
        (B, C), network units.
    """
    variances = window_variances(y).flatten(2)
    windows = variances.shape[2]
    smoothest, _ = variances.kthvalue(math.ceil(share * windows), dim=2)
    pixels = WINDOW_PX**2
    in_white_noise = float(chdtri(pixels - 1, 1.0 - share))
    return torch.sqrt(smoothest * (pixels / in_white_noise))


def window_variances(y: Tensor) -> Tensor:
    """Mean squared deviation within each window: (B, C, H, W) -> (B, C, H - 5, W - 5)."""
    centred = y - y.mean((2, 3), keepdim=True)
    mean = F.avg_pool2d(centred, WINDOW_PX, 1)
    square = F.avg_pool2d(centred**2, WINDOW_PX, 1)
    return torch.relu(square - mean**2)


@dataclass(frozen=True)
class CVFSIDConfig(SingleConfig):
    """Settings of CVF-SID. ``net`` makes the clean image."""

    noise_width: int = architecture(16)
    """Channels of the noise generator, ``nets.cvf_sid.NoiseParts``."""

    noise_body: int = architecture(3, most=256)
    """Layers of the noise generator that d and i share."""

    noise_head: int = architecture(1, most=256)
    """Layers of the noise generator that d and i have each for itself, beside a last one of 1 x 1."""

    recombined: float = 0.1
    """Weight of ``recombination_loss``."""

    smooth_share: float = 0.0
    """Share of the windows, the smoothest ones, that the strength of the noise s is read from.

    0 takes the mean deviation of all, as the paper, where texture counts as noise.
    """

    predict: str = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive = ("noise_width", "noise_body", "noise_head")
        check_positive(type(self).__name__, [(name, getattr(self, name)) for name in positive])
        if not 0 <= self.smooth_share < 1:
            raise ConfigError(f"cvf-sid: smooth_share = {self.smooth_share} must lie in [0, 1)")
        if self.recombined < 0 or self.patch_px < WINDOW_PX:
            raise ConfigError(
                f"cvf-sid: recombined = {self.recombined} must not be negative, patch_px at least {WINDOW_PX}"
            )


# Departs from the paper: The strength of the noise is taken from the windows of the patch, not of the whole
# image; patches are not framed with mirrored pixels before each pass.
PRESETS = {
    # Departs from the paper: `cpu`: the network of every method's `cpu` preset makes the clean image, and
    # optimiser and precision are those, but for batches of 4; the noise generator has 16 channels and 4
    # layers; the strength of the noise is read from the smoothest quarter of the windows, since the mean over
    # all takes texture for noise.
    "cpu": CVFSIDConfig(batch_size=4, smooth_share=0.25),
    # Departs from the paper: `paper`: Adam without amsgrad and weight decay; the rate falls linearly over the
    # second half; networks end in a 3 x 3 convolution and start as He et al. have it, not in 1 x 1 and as
    # Xavier.
    "paper": CVFSIDConfig(
        **{**PUBLISHED, "net": "plain-dncnn"},
        patch_px=40,
        batch_size=64,
        lr=1e-4,
        noise_width=64,
        noise_body=10,
        noise_head=4,
        steps=10_000,
    ),
}


class CVFSID(SingleNetwork):
    """A network makes the clean image, a second one the two noises of what it took off."""

    key = "cvf-sid"
    title = "CVF-SID"
    needs = Needs.NOISY
    citation = (
        "Neshatavar et al., CVF-SID: cyclic multi-variate function for self-supervised image denoising by "
        "disentangling noise from image, CVPR 2022, arXiv:2203.13009"
    )
    assumption = (
        "noise is zero-mean and independent between pixels; a part of it may follow the signal"
    )
    config_type = CVFSIDConfig
    config: CVFSIDConfig

    def __init__(
        self,
        config: CVFSIDConfig,
        channels: int,
        device: torch.device | str = "cpu",
        net: nn.Module | None = None,
    ) -> None:
        super().__init__(config, channels, device, net)
        made = NoiseParts(channels, config.noise_width, config.noise_body, config.noise_head)
        self.noise = placed(made, torch.device(device))
        self.networks["noise"] = self.noise

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One, of both networks."""
        return {"net": make_optimizer(self.config, nn.ModuleList([self.net, self.noise]))}

    def take_apart(self, x: Tensor) -> Parts:
        """(B, C, H, W) network units -> c, d and i."""
        clean = self.f(x)
        with autocast(x.device, self.precision):
            dependent, independent = self.noise(x - clean)
        return Parts(clean, dependent, independent)

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Take the image apart, put its parts together in ten ways, take all of them apart in one pass."""
        y = batch.noisy
        parts = self.take_apart(y)
        images = [parts.clean, compose(parts, 1, 0), parts.independent]
        images += [compose(parts, a, b) for a, b in SIGNS]
        found = _split_parts(self.take_apart(torch.cat(images)), len(y))
        alone, recombined = found[:3], found[3:]
        loss = F.mse_loss(compose(parts), y)
        loss = loss + identity_loss(parts, *alone) + zero_loss(*alone)
        loss = loss + spread_loss(parts, self._noise_deviation(y))
        loss = loss + self.config.recombined * recombination_loss(parts, recombined)
        return self.descend(loss, at)

    def _noise_deviation(self, y: Tensor) -> Tensor:
        """s, the strength of the noise in the windows of (B, C, H, W): (B, C), network units."""
        share = self.config.smooth_share
        return smooth_deviation(y, share) if share else window_deviation(y)


def _split_parts(parts: Parts, images: int) -> list[Parts]:
    """The parts of many batches in one, of ``images`` each, one by one."""
    pieces = (torch.split(part, images) for part in parts)
    return [Parts(*one) for one in zip(*pieces, strict=True)]
