"""CVF-SID (Neshatavar et al., CVPR 2022): an image comes apart into a clean image and two noises, and again when it is put together.

y = c + c d + i: clean image, noise that follows the signal, noise that does not. The exponent of c in the paper's c^gamma d is 1, as in the
authors' code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.stats import chi2
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.data.patches import Batch
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs, check_positive
from pairfree.methods.parts.single import PUBLISHED, SingleConfig, SingleNetwork, autocast, make_optimizer
from pairfree.nets.blocks import placed
from pairfree.nets.cvf_sid import NoiseParts

SIGNS = ((1, -1), (-1, 1), (-1, -1), (1, 1), (0, 1), (0, -1), (-1, 0))
"""Of c d and of i in the images that are put together anew."""
WINDOW_PX = 6
"""Side of the windows that deviations and local means are taken over."""


class Parts(NamedTuple):
    """c, d and i, each (B, C, H, W), network units (d: relative)."""

    clean: Tensor
    dependent: Tensor
    independent: Tensor


def composed(parts: Parts, first: float = 1.0, second: float = 1.0) -> Tensor:
    """c + first * c d + second * i, (B, C, H, W)."""
    return parts.clean + first * parts.clean * parts.dependent + second * parts.independent


def identity_loss(parts: Parts, of_clean: Parts, of_dependent: Parts, of_independent: Parts) -> Tensor:
    r"""What is put in alone must come out.

    Equation   |C(c) - c|^2 + |C(c + c d) - c|^2 + |D(c + c d) - d|^2 + |I(i) - i|^2, means over pixels
    of_clean, of_dependent, of_independent   what c, c + c d and i come apart into
    Returns    scalar.   Source   Neshatavar et al., section 3.2, with the terms of the authors' code
    """
    return (
        F.mse_loss(of_clean.clean, parts.clean)
        + F.mse_loss(of_dependent.clean, parts.clean)
        + F.mse_loss(of_dependent.dependent, parts.dependent)
        + F.mse_loss(of_independent.independent, parts.independent)
    )


def zero_loss(of_clean: Parts, of_dependent: Parts, of_independent: Parts) -> Tensor:
    r"""What was not put in must not come out.

    Equation   |C(i)|^2 + |D(c)|^2 + |I(c)|^2 + |I(c + c d)|^2, means over pixels; arguments as in ``identity_loss``; returns a scalar
    Source     Neshatavar et al., section 3.2, with the terms of the authors' code
    """
    absent = of_independent.clean, of_clean.dependent, of_clean.independent, of_dependent.independent
    return sum((torch.mean(one**2) for one in absent), start=torch.zeros((), device=of_clean.clean.device))


def spread_loss(parts: Parts, deviation: Tensor) -> Tensor:
    r"""The two noises together are as strong as what is seen in small windows of the noisy image.

    Equation    mean (sqrt(mean(blur(c)^2) var(d) + var(i)) - s)^2
    deviation   s, (B, C): ``window_deviation`` of the noisy image; returns a scalar, squared network units
    Breaks when the image has texture everywhere: s is then too large
    Source      Neshatavar et al., section 3.2 (regularisation), with the authors' windows of 6 px
    """
    power = F.avg_pool2d(parts.clean, WINDOW_PX, 1, WINDOW_PX // 2).square().mean((2, 3))
    variance = power * parts.dependent.var((2, 3)) + parts.independent.var((2, 3))
    return torch.mean((torch.sqrt(variance + 1e-12) - deviation) ** 2)


def recombination_loss(parts: Parts, found: list[Parts]) -> Tensor:
    r"""Parts put together with other signs, or one left out, come apart into those parts with those signs.

    Equation   sum over (a, b) of |C - c|^2 + |D - a d|^2 + |I - b i|^2 of c + a c d + b i, means over pixels
    found      what they come apart into, in the order of SIGNS; returns a scalar
    Source     Neshatavar et al., section 3.3 (self-supervised augmentation), with the signs of the authors' code
    """
    total = torch.zeros((), device=parts.clean.device)
    for one, (a, b) in zip(found, SIGNS, strict=True):
        total = total + F.mse_loss(one.clean, parts.clean)
        total = (
            total
            + F.mse_loss(one.dependent, a * parts.dependent)
            + F.mse_loss(one.independent, b * parts.independent)
        )
    return total


def window_deviation(y: Tensor) -> Tensor:
    """Mean over all windows of the standard deviation within one: (B, C, H, W) -> (B, C), network units."""
    return torch.sqrt(window_variances(y)).mean((2, 3))


def smooth_deviation(y: Tensor, share: float) -> Tensor:
    """Standard deviation of white noise whose windows vary as little as the smoothest ones do: (B, C, H, W) -> (B, C), network units.

    share   in (0, 1): of all windows, those that vary least; the one that varies most among them is compared with its like in white noise
    """
    variances = window_variances(y).flatten(2)
    found: Tensor = variances.kthvalue(math.ceil(share * variances.shape[2]), dim=2).values
    freedom = WINDOW_PX**2 - 1
    return torch.sqrt(found * (WINDOW_PX**2 / float(chi2.ppf(share, freedom))))


def window_variances(y: Tensor) -> Tensor:
    """Mean squared deviation within each window: (B, C, H, W) -> (B, C, H - 5, W - 5)."""
    centred = y - y.mean((2, 3), keepdim=True)
    mean, square = (F.avg_pool2d(one, WINDOW_PX, 1) for one in (centred, centred**2))
    return torch.relu(square - mean**2)


@dataclass(frozen=True)
class CVFSIDConfig(SingleConfig):
    """noise_width, noise_body, noise_head   channels and layers of the noise generator (``nets.cvf_sid``)
    recombined   weight of ``recombination_loss``
    smooth_share   share of the windows, the smoothest ones, that the strength of the noise is read from; 0 takes the mean deviation of all,
                   as the paper, where texture counts as noise
    """

    noise_width: int = 16
    noise_body: int = 3
    noise_head: int = 1
    recombined: float = 0.1
    smooth_share: float = 0.0
    predict: str = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            type(self).__name__,
            [(name, getattr(self, name)) for name in ("noise_width", "noise_body", "noise_head")],
        )
        if not 0 <= self.smooth_share < 1:
            raise ConfigError(f"cvf-sid: smooth_share = {self.smooth_share} must lie in [0, 1)")
        if self.recombined < 0 or self.patch_px < WINDOW_PX:
            raise ConfigError(
                f"cvf-sid: recombined = {self.recombined} must not be negative, patch_px at least {WINDOW_PX}"
            )


# Departs from the paper: The strength of the noise is taken from the windows of the patch, not of the whole image; patches are not framed
# with mirrored pixels before each pass.
PRESETS = {
    # Departs from the paper: `cpu`: the network of every method's `cpu` preset makes the clean image, and optimiser and precision are
    # those, but for batches of 4; the noise generator has 16 channels and 4 layers; the strength of the noise is read from the smoothest
    # quarter of the windows, since the mean over all takes texture for noise.
    "cpu": CVFSIDConfig(batch_size=4, smooth_share=0.25),
    # Departs from the paper: `paper`: Adam without amsgrad and weight decay; the rate falls linearly over the second half; networks end in
    # a 3 x 3 convolution and start as He et al. have it, not in 1 x 1 and as Xavier.
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
    key = "cvf-sid"
    title = "CVF-SID"
    needs = Needs.NOISY
    citation = (
        "Neshatavar et al., CVF-SID: cyclic multi-variate function for self-supervised image denoising by disentangling noise from image, "
        "CVPR 2022, arXiv:2203.13009"
    )
    assumption = "noise is zero-mean and independent between pixels; a part of it may follow the signal"
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
        return {"net": make_optimizer(self.config, nn.ModuleList([self.net, self.noise]))}

    def apart(self, x: Tensor) -> Parts:
        """(B, C, H, W) network units -> c, d and i."""
        clean = self.f(x)
        with autocast(x.device, self.precision):
            dependent, independent = self.noise(x - clean)
        return Parts(clean, dependent, independent)

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        y = batch.noisy
        parts = self.apart(y)
        images = [
            parts.clean,
            composed(parts, 1, 0),
            parts.independent,
            *(composed(parts, a, b) for a, b in SIGNS),
        ]
        many = self.apart(torch.cat(images))
        each = [Parts(*one) for one in zip(*(part.split(len(y)) for part in many), strict=True)]
        loss = F.mse_loss(composed(parts), y) + identity_loss(parts, *each[:3]) + zero_loss(*each[:3])
        share = self.config.smooth_share
        deviation = smooth_deviation(y, share) if share else window_deviation(y)
        loss = (
            loss
            + spread_loss(parts, deviation)
            + self.config.recombined * recombination_loss(parts, each[3:])
        )
        return self.descend(loss, at)
