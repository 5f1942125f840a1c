"""Neighbor2Neighbor (Huang et al., CVPR 2021): two sub-images of one noisy image supervise each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from pairfree.data.patches import Batch
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs
from pairfree.methods.parts.single import PUBLISHED, STARTED, SingleConfig, SingleNetwork

NEIGHBOURS = torch.tensor([[0, 1], [1, 0], [0, 2], [2, 0], [1, 3], [3, 1], [2, 3], [3, 2]])
"""The ordered pairs of adjacent cells of a 2x2 block (0 1 / 2 3)."""


def draw_neighbours(
    shape: torch.Size, rng: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """For each 2x2 block one ordered pair of adjacent pixels, the same in all channels.

    Parameters
    ----------
    shape
        (B, C, H, W), H and W even.
    rng
        What the pairs are drawn with.
    device
        Where they are drawn.

    Returns
    -------
    tuple of Tensor
        The cells of g1 and of g2, 0..3, each (B, 1, 1, H/2, W/2).
    """
    batch, _, height, width = shape
    size = (batch, 1, 1, height // 2, width // 2)
    which = torch.randint(len(NEIGHBOURS), size, generator=rng, device=device)
    pairs = NEIGHBOURS.to(device)[which]
    return pairs[..., 0], pairs[..., 1]


def subsample(y: Tensor, cell: Tensor) -> Tensor:
    """The sub-image g(y): of each 2x2 block of (B, C, H, W) the pixel ``cell`` names; (B, C, H/2, W/2)."""
    batch, channels, height, width = y.shape
    blocks = F.pixel_unshuffle(y, 2).view(batch, channels, 4, height // 2, width // 2)
    chosen = cell.expand(-1, channels, -1, -1, -1)
    return blocks.gather(2, chosen).squeeze(2)


def neighbor_loss(
    denoised1: Tensor,
    sub2: Tensor,
    gamma: float = 0.0,
    full1: Tensor | None = None,
    full2: Tensor | None = None,
) -> Tensor:
    r"""Neighbor2Neighbor risk: two sub-images of one noisy image supervise each other.

    Parameters
    ----------
    denoised1
        f(g1 y), (B, C, H/2, W/2), network units.
    sub2
        g2 y, of the same shape.
    gamma
        Weight of the consistency term.
    full1, full2
        g1 f(y) and g2 f(y), of the same shape, constants; needed when gamma > 0.

    Returns
    -------
    Tensor
        A scalar, squared network units.

    Notes
    -----
    Noise model: y = x + n, E[n | x] = 0, n independent between pixels.

    L = mean |f(g1 y) - g2 y|^2 + gamma * mean |f(g1 y) - g2 y - (g1 f(y) - g2 f(y))|^2

    Breaks when noise is correlated between neighbours (scan lines, interpolation, JPEG): f then learns the
    noise.

    References
    ----------
    Huang et al., CVPR 2021, eq. 7; f(y) is a constant there too.
    """
    error = denoised1 - sub2
    loss = torch.mean(error**2)
    if gamma > 0:
        if full1 is None or full2 is None:
            raise ConfigError("gamma > 0 needs f(y) at both sub-samplings")
        consistency = torch.mean((error - (full1 - full2)) ** 2)
        loss = loss + gamma * consistency
    return loss


def ramp_gamma(progress: float, end: float = 1.0, start: float = 0.5) -> float:
    """Weight of the consistency term: 0 before ``start``, then in step with progress up to ``end``."""
    # Departs from the paper: `cpu`: the consistency term is left out of the first half of training; it needs
    # a forward pass over the full patch, and early on it only holds the network at the identity.
    return end * progress if progress >= start else 0.0


def neighbor_risk(method: SingleNetwork, noisy: Tensor, gamma: float, at: At) -> Tensor:
    """The loss of ``method``'s network on a batch of noisy patches.

    Parameters
    ----------
    method
        Whose network it is.
    noisy
        y, (B, C, H, W).
    gamma
        Weight of the consistency term.
    at
        Where the step stands: the pairs of neighbours follow from it.

    Returns
    -------
    Tensor
        A scalar.
    """
    cell1, cell2 = draw_neighbours(noisy.shape, at.rng("neighbours", noisy.device), noisy.device)
    denoised1 = method.f(subsample(noisy, cell1))
    sub2 = subsample(noisy, cell2)
    if gamma <= 0:
        return neighbor_loss(denoised1, sub2)
    full = method.f_fixed(noisy)
    return neighbor_loss(denoised1, sub2, gamma, subsample(full, cell1), subsample(full, cell2))


@dataclass(frozen=True)
class Nb2NbConfig(SingleConfig):
    """Settings of Neighbor2Neighbor."""

    patch_px: int = 128
    """Side of the square training patches, even pixels; the network sees half of it."""
    gamma_end: float = 1.0
    """Weight of the consistency term at the end; it grows linearly from 0 (the authors reach 2 for sigma 25,
    1 in the paper)."""
    gamma_from: float = 0.5
    """Progress in 0..1 before which the term is left out: early in training it holds the network at the
    identity and costs a forward pass over the full patch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch_px % 2:
            raise ConfigError(f"patch_px = {self.patch_px}: Neighbor2Neighbor needs an even patch")
        if min(self.gamma_end, self.gamma_from) < 0:
            raise ConfigError(
                f"gamma_end = {self.gamma_end}, gamma_from = {self.gamma_from}: must not be negative"
            )

    @property
    def smallest_px(self) -> int:
        """Side of the sub-images, the smallest that the network sees."""
        return self.patch_px // 2


# Departs from the paper: `paper`: the learning rate falls linearly over the second half instead of halving
# every 20 epochs; the U-Net is the one of the IDDP tables.
PAPER = Nb2NbConfig(
    **PUBLISHED,
    patch_px=256,
    batch_size=4,
    lr=3e-4,
    gamma_end=2.0,
    gamma_from=0.0,
    steps=500_000,
)
PRESETS = {
    # Departs from the paper: `cpu`: network, optimiser and precision are those of every method's `cpu`
    # preset, so that rows of a table differ in the method only.
    "cpu": Nb2NbConfig(**STARTED),
    "paper": PAPER,
    "paper-200k": replace(PAPER, steps=200_000),
}


class Nb2Nb(SingleNetwork):
    """One network, trained between the two sub-images; the consistency term is let in on the way."""

    key = "nb2nb"
    title = "Neighbor2Neighbor"
    needs = Needs.NOISY
    citation = (
        "Huang et al., Neighbor2Neighbor: self-supervised denoising from single noisy images, CVPR 2021, "
        "arXiv:2101.02824"
    )
    assumption = "noise is zero-mean and independent between pixels"
    config_type = Nb2NbConfig
    config: Nb2NbConfig

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """One step down eq. (7)."""
        gamma = ramp_gamma(at.progress, self.config.gamma_end, self.config.gamma_from)
        return self.descend(neighbor_risk(self, batch.noisy, gamma, at), at)
