"""Noise2Void (Krull et al., CVPR 2019): a pixel is predicted from its surroundings, never from itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pairfree.data.patches import Batch
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs
from pairfree.methods.parts.masked_pixels import (
    SHAPES,
    replace_by_block,
    replace_by_median,
    replace_by_neighbours,
    stratified_mask,
)
from pairfree.methods.parts.single import PUBLISHED, STARTED, SingleConfig, SingleNetwork

REPLACEMENTS = ("uniform", "median")
"""What a masked pixel may become."""


def masked_loss(denoised: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    r"""Squared error at the masked pixels only.

    L = sum_mask |f(y_masked) - y|^2 / (C * number of masked pixels).

    Parameters
    ----------
    denoised
        f(y_masked), (B, C, H, W), network units.
    y
        Likewise.
    mask
        (B, 1, H, W) bool.

    Returns
    -------
    Tensor
        Scalar, squared network units.

    Notes
    -----
    Noise model: y = x + n, E[n | x] = 0, n independent between pixels.

    Breaks when noise is correlated: the surroundings then predict the noise of the masked pixel.

    References
    ----------
    Krull et al., CVPR 2019, eq. 9.
    """
    weight = mask.to(y.dtype)
    total = torch.sum(weight * (denoised - y) ** 2)
    values = weight.sum() * y.shape[1]
    return total / values


@dataclass(frozen=True)
class N2VConfig(SingleConfig):
    """Settings of Noise2Void, N2V2 and structN2V."""

    spacing_px: int = 8
    """One masked pixel in each square of this side, pixels; must divide ``patch_px``. 8 masks 1.6 %."""

    radius_px: int = 5
    """Replacement pixels come from within this distance, pixels (paper: a 5x5 window; published code: 5)."""

    replacement: str = "uniform"
    """What a masked pixel becomes: "uniform", one of those around it, drawn; "median", their median (N2V2).

    The median is against checkerboards, with ``net="blur-unet"`` and ``predict="image"``: a residual network
    would never learn to take the pixel itself away, which the median does not hold.
    """

    struct_px: int = 0
    """Pixels this far from a masked one are hidden too: their noise is correlated with its own (structN2V).

    All of it is replaced by what lies around another pixel. 0 is the paper.
    """

    struct: str = "cross"
    """Where they lie: "cross", along rows and columns (patches are turned, so both), or "square"."""

    predict: str = "residual"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spacing_px < 2 or self.patch_px % self.spacing_px:
            raise ConfigError(
                f"spacing_px = {self.spacing_px}: must divide patch_px = {self.patch_px} and be at least 2"
            )
        if not 1 <= self.radius_px < self.patch_px:
            raise ConfigError(f"radius_px = {self.radius_px}: must lie in 1..{self.patch_px - 1}")
        if self.replacement not in REPLACEMENTS or self.struct not in SHAPES:
            raise ConfigError(
                f"replacement = {self.replacement!r} must be uniform or median, "
                f"struct = {self.struct!r} cross or square"
            )
        if self.replacement == "median" and self.predicts == "residual":
            raise ConfigError(
                "replacement = 'median' keeps the noise where the network predicts the residual: "
                "give predict=image too"
            )
        self._check_struct()

    def _check_struct(self) -> None:
        """ConfigError where what is hidden around a masked pixel cannot be replaced."""
        if self.struct_px == 0:
            return
        if self.replacement != "uniform":
            raise ConfigError(
                f"struct_px = {self.struct_px} has a replacement of its own, what lies around another pixel: "
                "leave replacement out"
            )
        room_px = min(self.spacing_px, 2 * self.radius_px)
        if self.struct_px < 0 or 4 * self.struct_px >= room_px:
            raise ConfigError(
                f"struct_px = {self.struct_px}: needs spacing_px above {4 * self.struct_px} and "
                f"radius_px above {2 * self.struct_px}, so that enough is shown"
            )


PRESETS = {
    # Departs from the paper: `cpu`: network, optimiser and precision are those of every method's `cpu`
    # preset, so that rows of a table differ in the method only; 6 % of the pixels are masked, so that a short
    # run sees enough of them.
    "cpu": N2VConfig(**STARTED, spacing_px=4),
    # Departs from the paper: `paper`: the rate follows a fixed schedule instead of halving on a plateau of
    # the validation loss, so that no validation set is needed; the U-Net is the one of the IDDP tables.
    "paper": N2VConfig(
        **PUBLISHED,
        predict="image",
        batch_size=128,
        lr=4e-4,
        steps=80_000,
    ),
}


class N2V(SingleNetwork):
    """The network predicts masked pixels from those around them."""

    key = "n2v"
    title = "Noise2Void"
    needs = Needs.NOISY
    citation = (
        "Krull, Buchholz & Jug, Noise2Void: learning denoising from single noisy images, CVPR 2019, "
        "arXiv:1811.10980"
    )
    assumption = (
        "noise is zero-mean and independent between pixels; "
        "the signal is predictable from its surroundings"
    )
    config_type = N2VConfig
    config: N2VConfig

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        """Descend ``masked_loss``, with a mask of this step."""
        y = batch.noisy
        # Departs from the paper: A masked pixel is never replaced by itself, nor by another masked one.
        rng = at.rng("mask", y.device)
        mask = stratified_mask(y.shape, self.config.spacing_px, rng, y.device)
        denoised = self.f(self._replace_masked(y, mask, at))
        return self.descend(masked_loss(denoised, y, mask), at)

    def _replace_masked(self, y: Tensor, mask: Tensor, at: At) -> Tensor:
        config = self.config
        # Departs from the paper: With `struct_px`, hidden pixels take a piece of the image nearby instead of
        # random values, which the network would tell from the image; medians leave out other masked pixels.
        if config.replacement == "median":
            return replace_by_median(y, mask, config.radius_px)
        rng = at.rng("replacement", y.device)
        if config.struct_px > 0:
            return replace_by_block(y, mask, config.struct, config.struct_px, config.radius_px, rng)
        return replace_by_neighbours(y, mask, config.radius_px, rng)
