"""Noise2Void (Krull et al., CVPR 2019): a pixel is predicted from its surroundings, never from itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pairfree.data.patches import Batch
from pairfree.errors import ConfigError
from pairfree.methods.base import At, Needs
from pairfree.methods.parts.single import PUBLISHED, SingleConfig, SingleNetwork


def stratified_mask(shape: torch.Size, spacing_px: int, rng: torch.Generator, device: torch.device) -> Tensor:
    """One pixel of every spacing x spacing cell, at a random place: (B, 1, H, W) bool. H and W multiples of the spacing."""
    batch, _, height, width = shape
    rows, columns = height // spacing_px, width // spacing_px
    place = torch.randint(spacing_px**2, (batch, 1, rows, columns, 1), generator=rng, device=device)
    cells = torch.zeros(batch, 1, rows, columns, spacing_px**2, dtype=torch.bool, device=device).scatter_(
        -1, place, True
    )
    cells = cells.view(batch, 1, rows, columns, spacing_px, spacing_px)
    return cells.permute(0, 1, 2, 4, 3, 5).reshape(batch, 1, height, width)


def replace_by_neighbours(y: Tensor, mask: Tensor, radius_px: int, rng: torch.Generator) -> Tensor:
    """Each masked pixel of (B, C, H, W) takes the value of a uniformly drawn pixel within ``radius_px``, never its own.

    All channels move together. Beyond the border the draw is mirrored back in. A draw that meets a masked pixel (another one, or its own
    by way of the mirror) takes the pixel beside that one, so that no masked value reaches the network from anywhere.
    mask  of ``stratified_mask``: every masked pixel has an unmasked one on its left or right
    """
    batch, _, height, width = y.shape
    side = 2 * radius_px + 1
    draw = torch.randint(side * side - 1, (batch, height, width), generator=rng, device=y.device)
    draw = draw + (draw >= side * side // 2)  # the centre is left out
    rows = torch.arange(height, device=y.device).view(1, -1, 1) + draw // side - radius_px
    columns = torch.arange(width, device=y.device).view(1, 1, -1) + draw % side - radius_px
    rows, columns = _mirror(rows, height), _mirror(columns, width)
    own = torch.arange(height * width, device=y.device).view(1, height, width)
    right_is_free = F.pad(~mask[:, 0, :, 1:], (0, 1), value=False)
    shown = torch.where(mask[:, 0], torch.where(right_is_free, own + 1, own - 1), own).flatten(1)
    source = (
        shown.gather(1, (rows * width + columns).flatten(1)).view(batch, 1, -1).expand(-1, y.shape[1], -1)
    )
    moved = y.flatten(2).gather(2, source).view_as(y)
    return torch.where(mask, moved, y)


def greatest_within(values: Tensor, shape: str, reach_px: int) -> Tensor:
    """Of each pixel, (B, C, H, W): the greatest value within ``reach_px`` in its row and column ("cross") or all around it ("square")."""
    side = 2 * reach_px + 1
    if shape == "square":
        return F.max_pool2d(values, side, 1, reach_px)
    along_rows = F.max_pool2d(values, (1, side), 1, (0, reach_px))
    return torch.maximum(along_rows, F.max_pool2d(values, (side, 1), 1, (reach_px, 0)))


def replace_by_block(
    y: Tensor, mask: Tensor, shape: str, reach_px: int, radius_px: int, rng: torch.Generator
) -> Tensor:
    """Each masked pixel of (B, C, H, W), with all that lies within ``reach_px`` of it, takes what lies around another pixel nearby.

    A masked pixel draws one offset within ``radius_px`` that leads out of what it hides; the whole of it is moved, so that its noise is
    correlated as everywhere else and nothing shows the network where it was. Beyond the border the image is mirrored. A pixel whose
    source is hidden too takes the mean of the shown ones around.
    shape      of what is hidden, "cross" or "square": ``greatest_within``
    radius_px  above twice ``reach_px``
    """
    batch, channels, height, width = y.shape
    steps = torch.arange(-radius_px, radius_px + 1, device=y.device)
    down, right = (one.flatten() for one in torch.meshgrid(steps, steps, indexing="ij"))
    out = torch.maximum(down.abs(), right.abs()) > 2 * reach_px
    down, right = down[out], right[out]
    drawn = torch.randint(len(down), mask.shape, generator=rng, device=y.device) + 1
    number = greatest_within((drawn * mask).to(torch.float32), shape, reach_px)[:, 0].long()  # 0: shown
    hidden = number > 0
    number = (number - 1).clamp(min=0)
    rows = _mirror(torch.arange(height, device=y.device).view(1, -1, 1) + down[number], height)
    columns = _mirror(torch.arange(width, device=y.device).view(1, 1, -1) + right[number], width)
    source = (rows * width + columns).flatten(1)
    moved = y.flatten(2).gather(2, source[:, None].expand(-1, channels, -1)).view_as(y)
    free = ~hidden.flatten(1).gather(1, source).view(batch, 1, height, width)
    hidden = hidden[:, None]
    return torch.where(hidden, torch.where(free, moved, replace_by_mean(y, hidden, radius_px)), y)


def replace_by_median(y: Tensor, mask: Tensor, radius_px: int) -> Tensor:
    """Each masked pixel of (B, C, H, W) takes the median of the unmasked pixels within ``radius_px``; the image is mirrored at its border.

    mask   of ``stratified_mask``. Source: Hoeck et al., N2V2, ECCV workshops 2022, section 3.2
    """
    side = 2 * radius_px + 1
    shown = F.pad(y.masked_fill(mask, torch.nan), [radius_px] * 4, mode="reflect")
    image, _, row, column = torch.nonzero(mask, as_tuple=True)
    steps = torch.arange(side, device=y.device)
    rows, columns = row[:, None, None] + steps.view(1, -1, 1), column[:, None, None] + steps.view(1, 1, -1)
    windows = shown[image[:, None, None], :, rows, columns].flatten(1, 2)
    out = y.clone()
    out[image, :, row, column] = windows.nanmedian(dim=1).values
    return out


def replace_by_mean(y: Tensor, hidden: Tensor, radius_px: int) -> Tensor:
    """Each hidden pixel of (B, C, H, W) takes the mean of the shown pixels within ``radius_px``; of the whole image, if there is none."""
    side = 2 * radius_px + 1
    free = (~hidden).to(y.dtype)
    whole = torch.sum(y * free, (2, 3), keepdim=True) / torch.sum(free, (2, 3), keepdim=True)
    total, count = (F.avg_pool2d(one, side, 1, radius_px) for one in (y * free, free))
    return torch.where(hidden, torch.where(count > 0, total / count, whole), y)


def _mirror(index: Tensor, size: int) -> Tensor:
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def masked_loss(denoised: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    r"""Squared error at the masked pixels only.

    Noise model   y = x + n, E[n | x] = 0, n independent between pixels.
    Equation      L = sum_mask |f(y_masked) - y|^2 / (C * number of masked pixels)
    Breaks when   noise is correlated: the surroundings then predict the noise of the masked pixel.
    denoised, y   (B, C, H, W), network units;  mask (B, 1, H, W) bool
    Returns       scalar, squared network units
    Source        Krull et al., CVPR 2019, eq. 9
    """
    weight = mask.to(y.dtype)
    return torch.sum(weight * (denoised - y) ** 2) / (weight.sum() * y.shape[1])


@dataclass(frozen=True)
class N2VConfig(SingleConfig):
    """spacing_px  one masked pixel in each square of this side: 8 masks 1.6 % of the pixels; must divide patch_px
    radius_px     replacement pixels come from within this distance (paper: 5x5 window, published code: radius 5)
    replacement   "uniform": one of them, drawn; "median": their median (N2V2, against checkerboards; with ``net="blur-unet"`` and
                  ``predict="image"``: a residual network would never learn to take the pixel itself away, which the median does not hold)
    struct_px     pixels this far from a masked one are hidden too, since their noise is correlated with its own (structN2V); all of it is
                  replaced by what lies around another pixel. 0 is the paper
    struct        where they lie: "cross", along rows and columns (patches are turned, so both), or "square"
    """

    spacing_px: int = 8
    radius_px: int = 5
    replacement: str = "uniform"
    struct_px: int = 0
    struct: str = "cross"
    predict: str = "residual"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spacing_px < 2 or self.patch_px % self.spacing_px:
            raise ConfigError(
                f"spacing_px = {self.spacing_px}: must divide patch_px = {self.patch_px} and be at least 2"
            )
        if not 1 <= self.radius_px < self.patch_px:
            raise ConfigError(f"radius_px = {self.radius_px}: must lie in 1..{self.patch_px - 1}")
        if self.replacement not in ("uniform", "median") or self.struct not in ("cross", "square"):
            raise ConfigError(
                f"replacement = {self.replacement!r} must be uniform or median, struct = {self.struct!r} cross or square"
            )
        if self.replacement == "median" and self.predicts == "residual":
            raise ConfigError(
                "replacement = 'median' keeps the noise where the network predicts the residual: give predict=image too"
            )
        if self.struct_px and self.replacement != "uniform":
            raise ConfigError(
                f"struct_px = {self.struct_px} has a replacement of its own, what lies around another pixel: leave replacement out"
            )
        if self.struct_px < 0 or (
            self.struct_px and 4 * self.struct_px >= min(self.spacing_px, 2 * self.radius_px)
        ):
            raise ConfigError(
                f"struct_px = {self.struct_px}: needs spacing_px above {4 * self.struct_px} and radius_px above {2 * self.struct_px}, so "
                "that enough is shown"
            )


PRESETS = {
    # Departs from the paper: `cpu`: network, optimiser and precision are those of every method's `cpu` preset, so that rows of a table
    # differ in the method only; 6 % of the pixels are masked, so that a short run sees enough of them.
    "cpu": N2VConfig(spacing_px=4),
    # Departs from the paper: `paper`: the rate follows a fixed schedule instead of halving on a plateau of the validation loss, so that no
    # validation set is needed; the U-Net is the one of the IDDP tables.
    "paper": N2VConfig(
        **PUBLISHED,
        predict="image",
        batch_size=128,
        lr=4e-4,
        steps=80_000,
    ),
}


class N2V(SingleNetwork):
    key = "n2v"
    title = "Noise2Void"
    needs = Needs.NOISY
    citation = "Krull, Buchholz & Jug, Noise2Void: learning denoising from single noisy images, CVPR 2019, arXiv:1811.10980"
    assumption = (
        "noise is zero-mean and independent between pixels; the signal is predictable from its surroundings"
    )
    config: N2VConfig

    def step(self, batch: Batch, at: At) -> dict[str, Tensor]:
        y = batch.noisy
        # Departs from the paper: A masked pixel is never replaced by itself, nor by another masked one.
        mask = stratified_mask(y.shape, self.config.spacing_px, at.rng("mask", y.device), y.device)
        return self.descend(masked_loss(self.f(self._replaced(y, mask, at)), y, mask), at)

    def _replaced(self, y: Tensor, mask: Tensor, at: At) -> Tensor:
        config = self.config
        # Departs from the paper: With `struct_px`, hidden pixels take a piece of the image nearby instead of random values, which the
        # network would tell from the image; medians leave out other masked pixels.
        if config.struct_px > 0:
            return replace_by_block(
                y, mask, config.struct, config.struct_px, config.radius_px, at.rng("replacement", y.device)
            )
        if config.replacement == "median":
            return replace_by_median(y, mask, config.radius_px)
        return replace_by_neighbours(y, mask, config.radius_px, at.rng("replacement", y.device))
