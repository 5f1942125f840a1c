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

REPLACEMENTS = ("uniform", "median")
SHAPES = ("cross", "square")
"""Of what is hidden around a masked pixel."""


def stratified_mask(
    shape: torch.Size, spacing_px: int, rng: torch.Generator, device: torch.device
) -> Tensor:
    """Draw one pixel of every spacing x spacing cell.

    Parameters
    ----------
    shape
        Of the images, (B, C, H, W); H and W multiples of the spacing.
    spacing_px
        Side of a cell.
    rng
        Draws the places.
    device
        Of the mask.

    Returns
    -------
    Tensor
        (B, 1, H, W) bool, True where a pixel is masked.
    """
    batch, _, height, width = shape
    rows = height // spacing_px
    columns = width // spacing_px
    cells = (batch, 1, rows, columns)
    area = spacing_px**2
    place = torch.randint(area, (*cells, 1), generator=rng, device=device)
    mask = torch.zeros(*cells, area, dtype=torch.bool, device=device)
    mask.scatter_(-1, place, True)
    mask = mask.view(*cells, spacing_px, spacing_px)
    mask = mask.permute(0, 1, 2, 4, 3, 5)
    return mask.reshape(batch, 1, height, width)


def replace_by_neighbours(y: Tensor, mask: Tensor, radius_px: int, rng: torch.Generator) -> Tensor:
    """Each masked pixel takes the value of a uniformly drawn pixel around it, never its own.

    All channels move together. Beyond the border the draw is mirrored back in. A draw that meets a masked
    pixel (another one, or its own by way of the mirror) takes the pixel beside that one, so that no masked
    value reaches the network from anywhere.

    Parameters
    ----------
    y
        (B, C, H, W).
    mask
        Of ``stratified_mask``: every masked pixel has an unmasked one on its left or right.
    radius_px
        Rows and columns that a draw may lead away.
    rng
        Draws.

    Returns
    -------
    Tensor
        (B, C, H, W).
    """
    batch, _, height, width = y.shape
    side = 2 * radius_px + 1
    window = side * side
    draw = torch.randint(window - 1, (batch, height, width), generator=rng, device=y.device)
    draw = draw + (draw >= window // 2)  # the centre is left out
    rows = _row_numbers(y) + draw // side - radius_px
    columns = _column_numbers(y) + draw % side - radius_px
    drawn = _number_pixels(rows, columns, height, width)
    shown = _find_shown(mask[:, 0])
    source = shown.gather(1, drawn)
    return torch.where(mask, _take_pixels(y, source), y)


def _row_numbers(y: Tensor) -> Tensor:
    """(1, H, 1) for images (B, C, H, W)."""
    return torch.arange(y.shape[2], device=y.device).view(1, -1, 1)


def _column_numbers(y: Tensor) -> Tensor:
    """(1, 1, W) for images (B, C, H, W)."""
    return torch.arange(y.shape[3], device=y.device).view(1, 1, -1)


def _number_pixels(rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
    """Numbers row * width + column of pixels, mirrored in at the border: (B, H, W) twice -> (B, H * W)."""
    numbers = _mirror(rows, height) * width + _mirror(columns, width)
    return numbers.flatten(1)


def _mirror(index: Tensor, size: int) -> Tensor:
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def _find_shown(mask: Tensor) -> Tensor:
    """Number of each pixel that is not masked, of one beside it for each that is: (B, H, W) -> (B, H * W)."""
    _, height, width = mask.shape
    own = torch.arange(height * width, device=mask.device)
    own = own.view(1, height, width)
    right_is_shown = F.pad(~mask[:, :, 1:], (0, 1), value=False)
    beside = torch.where(right_is_shown, own + 1, own - 1)
    return torch.where(mask, beside, own).flatten(1)


def _take_pixels(y: Tensor, source: Tensor) -> Tensor:
    """Pixels of (B, C, H, W) by their number, (B, H * W), in all channels: (B, C, H, W)."""
    source = source[:, None].expand(-1, y.shape[1], -1)
    return y.flatten(2).gather(2, source).view_as(y)


def find_greatest_within(values: Tensor, shape: str, reach_px: int) -> Tensor:
    """Of each pixel, the greatest value around it.

    Parameters
    ----------
    values
        (B, C, H, W).
    shape
        "cross": in its row and column; "square": all around it.
    reach_px
        How far.

    Returns
    -------
    Tensor
        (B, C, H, W).
    """
    side = 2 * reach_px + 1
    if shape == "square":
        return F.max_pool2d(values, side, 1, reach_px)
    along_rows = F.max_pool2d(values, (1, side), 1, (0, reach_px))
    along_columns = F.max_pool2d(values, (side, 1), 1, (reach_px, 0))
    return torch.maximum(along_rows, along_columns)


def replace_by_block(
    y: Tensor, mask: Tensor, shape: str, reach_px: int, radius_px: int, rng: torch.Generator
) -> Tensor:
    """Each masked pixel, with all that lies around it, takes what lies around another pixel nearby.

    A masked pixel draws one offset that leads out of what it hides; the whole of it is moved, so that its
    noise is correlated as everywhere else and nothing shows the network where it was. Beyond the border the
    image is mirrored. A pixel whose source is hidden too takes the mean of the shown ones around.

    Parameters
    ----------
    y
        (B, C, H, W).
    mask
        (B, 1, H, W) bool.
    shape
        Of what is hidden, "cross" or "square": ``find_greatest_within``.
    reach_px
        How far from a masked pixel others are hidden.
    radius_px
        How far an offset may lead; above twice ``reach_px``.
    rng
        Draws the offsets.

    Returns
    -------
    Tensor
        (B, C, H, W).
    """
    height, width = y.shape[2:]
    down, right = _offsets_outside(2 * reach_px, radius_px, y.device)
    drawn = torch.randint(len(down), mask.shape, generator=rng, device=y.device) + 1
    numbers = (drawn * mask).to(torch.float32)
    numbers = find_greatest_within(numbers, shape, reach_px).long()
    hidden = numbers > 0
    offset = (numbers[:, 0] - 1).clamp(min=0)
    rows = _row_numbers(y) + down[offset]
    columns = _column_numbers(y) + right[offset]
    source = _number_pixels(rows, columns, height, width)
    source_is_shown = _take_pixels(~hidden, source)
    mean = replace_by_mean(y, hidden, radius_px)
    replaced = torch.where(source_is_shown, _take_pixels(y, source), mean)
    return torch.where(hidden, replaced, y)


def _offsets_outside(inner_px: int, outer_px: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """All steps down and to the right that lead above ``inner_px`` away, and not above ``outer_px``."""
    steps = torch.arange(-outer_px, outer_px + 1, device=device)
    down, right = torch.meshgrid(steps, steps, indexing="ij")
    distance = torch.maximum(down.abs(), right.abs())
    outside = distance > inner_px
    return down[outside], right[outside]


def replace_by_median(y: Tensor, mask: Tensor, radius_px: int) -> Tensor:
    """Each masked pixel takes the median of the unmasked ones around it; the image is mirrored at its border.

    Parameters
    ----------
    y
        (B, C, H, W).
    mask
        Of ``stratified_mask``.
    radius_px
        Rows and columns that the pixels of a median may lie away.

    Returns
    -------
    Tensor
        (B, C, H, W).

    References
    ----------
    Hoeck et al., N2V2, ECCV workshops 2022, section 3.2.
    """
    shown = y.masked_fill(mask, torch.nan)
    shown = F.pad(shown, [radius_px] * 4, mode="reflect")
    image, _, row, column = torch.nonzero(mask, as_tuple=True)
    steps = torch.arange(2 * radius_px + 1, device=y.device)
    images = image.view(-1, 1, 1)
    rows = row.view(-1, 1, 1) + steps.view(1, -1, 1)
    columns = column.view(-1, 1, 1) + steps.view(1, 1, -1)
    windows = shown[images, :, rows, columns].flatten(1, 2)
    replaced = y.clone()
    replaced[image, :, row, column] = windows.nanmedian(dim=1).values
    return replaced


def replace_by_mean(y: Tensor, hidden: Tensor, radius_px: int) -> Tensor:
    """Each hidden pixel takes the mean of the shown ones around it, or of the whole image if there is none.

    Parameters
    ----------
    y
        (B, C, H, W).
    hidden
        (B, 1, H, W) bool.
    radius_px
        Rows and columns that the pixels of a mean may lie away.

    Returns
    -------
    Tensor
        (B, C, H, W).
    """
    side = 2 * radius_px + 1
    shown = (~hidden).to(y.dtype)
    values = y * shown
    total = torch.sum(values, (2, 3), keepdim=True)
    whole = total / torch.sum(shown, (2, 3), keepdim=True)
    summed = F.avg_pool2d(values, side, 1, radius_px)
    count = F.avg_pool2d(shown, side, 1, radius_px)
    around = torch.where(count > 0, summed / count, whole)
    return torch.where(hidden, around, y)


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
    return total / (weight.sum() * y.shape[1])


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
        if self.struct_px < 0 or 4 * self.struct_px >= min(self.spacing_px, 2 * self.radius_px):
            raise ConfigError(
                f"struct_px = {self.struct_px}: needs spacing_px above {4 * self.struct_px} and "
                f"radius_px above {2 * self.struct_px}, so that enough is shown"
            )


PRESETS = {
    # Departs from the paper: `cpu`: network, optimiser and precision are those of every method's `cpu`
    # preset, so that rows of a table differ in the method only; 6 % of the pixels are masked, so that a short
    # run sees enough of them.
    "cpu": N2VConfig(spacing_px=4),
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
