"""Pixels masked at random places, and what they become: for Noise2Void, N2V2 and structN2V."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SHAPES = ("cross", "square")
"""Of what is hidden around a masked pixel."""


def stratified_mask(
    shape: torch.Size,
    spacing_px: int,
    rng: torch.Generator,
    device: torch.device,
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
    pixels = torch.arange(area, device=device)
    mask = place == pixels
    mask = mask.view(*cells, spacing_px, spacing_px)
    mask = mask.permute(0, 1, 2, 4, 3, 5)
    return mask.reshape(batch, 1, height, width)


def replace_by_neighbours(
    y: Tensor,
    mask: Tensor,
    radius_px: int,
    rng: torch.Generator,
) -> Tensor:
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
    mask_of_pixels = mask[:, 0]
    side = 2 * radius_px + 1
    window = side * side
    draw = torch.randint(window - 1, mask_of_pixels.shape, generator=rng, device=y.device)
    from_centre = draw >= window // 2
    draw = draw + from_centre  # the centre is left out
    down = draw // side - radius_px
    right = draw % side - radius_px
    drawn = _number_pixels_beside(y, down, right)
    shown = _find_shown(mask_of_pixels)
    source = shown.gather(1, drawn)
    taken = _take_pixels(y, source)
    return torch.where(mask, taken, y)


def _number_pixels_beside(y: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Numbers row * width + column of pixels so far from each pixel, mirrored in at the border.

    Parameters
    ----------
    y
        Images (B, C, H, W).
    down, right
        Rows and columns, (B, H, W).

    Returns
    -------
    Tensor
        (B, H * W) int64.
    """
    height, width = y.shape[2:]
    rows = torch.arange(height, device=y.device)
    columns = torch.arange(width, device=y.device)
    rows = rows.view(1, -1, 1) + down
    columns = columns.view(1, 1, -1) + right
    rows = _mirror(rows, height)
    columns = _mirror(columns, width)
    numbers = rows * width + columns
    return numbers.flatten(1)


def _mirror(index: Tensor, size: int) -> Tensor:
    """Places in a line of that size that is mirrored at its ends, edge values once."""
    index = index.abs()
    from_end = 2 * (size - 1) - index
    return torch.where(index >= size, from_end, index)


def _find_shown(mask: Tensor) -> Tensor:
    """Number of each pixel that is not masked, of one beside it for each that is: (B, H, W) -> (B, H * W)."""
    _, height, width = mask.shape
    own = torch.arange(height * width, device=mask.device)
    own = own.view(1, height, width)
    right = ~mask[:, :, 1:]
    right_is_shown = F.pad(right, (0, 1), value=False)
    beside = torch.where(right_is_shown, own + 1, own - 1)
    shown = torch.where(mask, beside, own)
    return shown.flatten(1)


def _take_pixels(y: Tensor, source: Tensor) -> Tensor:
    """Pixels of (B, C, H, W) by their number, (B, H * W), in all channels: (B, C, H, W)."""
    channels = y.shape[1]
    source = source[:, None]
    source = source.expand(-1, channels, -1)
    taken = y.flatten(2).gather(2, source)
    return taken.view_as(y)


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
    y: Tensor,
    mask: Tensor,
    shape: str,
    reach_px: int,
    radius_px: int,
    rng: torch.Generator,
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
    down, right = _offsets_outside(2 * reach_px, radius_px, y.device)
    drawn = torch.randint(len(down), mask.shape, generator=rng, device=y.device)
    # numbers of offsets, from 1; 0 where nothing is hidden
    numbers = mask * (drawn + 1)
    numbers = numbers.to(torch.float32)
    numbers = find_greatest_within(numbers, shape, reach_px)
    hidden = numbers > 0
    offset = numbers[:, 0].long() - 1
    offset = offset.clamp(min=0)
    source = _number_pixels_beside(y, down[offset], right[offset])
    source_is_shown = _take_pixels(~hidden, source)
    moved = _take_pixels(y, source)
    mean = replace_by_mean(y, hidden, radius_px)
    replaced = torch.where(source_is_shown, moved, mean)
    return torch.where(hidden, replaced, y)


def _offsets_outside(
    inner_px: int,
    outer_px: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
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
    sides = [radius_px] * 4
    shown = y.masked_fill(mask, torch.nan)
    shown = F.pad(shown, sides, mode="reflect")
    image, _, row, column = torch.nonzero(mask, as_tuple=True)
    steps = torch.arange(2 * radius_px + 1, device=y.device)
    images = image.view(-1, 1, 1)
    rows = row.view(-1, 1, 1)
    rows = rows + steps.view(1, -1, 1)
    columns = column.view(-1, 1, 1)
    columns = columns + steps.view(1, 1, -1)
    windows = shown[images, :, rows, columns]
    windows = windows.flatten(1, 2)
    medians = windows.nanmedian(dim=1).values
    replaced = y.clone()
    replaced[image, :, row, column] = medians
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
    total = values.sum((2, 3), keepdim=True)
    pixels = shown.sum((2, 3), keepdim=True)
    whole = total / pixels
    summed = F.avg_pool2d(values, side, 1, radius_px)
    count = F.avg_pool2d(shown, side, 1, radius_px)
    around = torch.where(count > 0, summed / count, whole)
    return torch.where(hidden, around, y)
