"""Where patches could be cut out of images: a grid of candidates, strip by strip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.noise_patches import Places

FloatArray = NDArray[np.float64]

STRIDE_PX = 8
"""Distance of candidates, but where it would make too many or too few of them."""
LEAST_CANDIDATES = 2000
MOST_CANDIDATES = 2_000_000
STRIP_PX = 2**24
"""Pixels that are judged at once, at about 60 bytes each."""


def choose_stride(shapes: Sequence[tuple[int, ...]], patch_px: int) -> int:
    """Pixels from candidate to candidate, even.

    Parameters
    ----------
    shapes
        (C, H, W) of the images, each at least a patch large.
    patch_px
        Side of the patches.
    """
    area = 0
    for _, height, width in shapes:
        rows = height - patch_px + 1
        columns = width - patch_px + 1
        area += rows * columns
    widest = math.sqrt(area / LEAST_CANDIDATES)
    narrowest = math.sqrt(area / MOST_CANDIDATES)
    fine = max(2, 2 * math.floor(widest / 2))
    coarse = 2 * math.ceil(narrowest / 2)
    return max(min(STRIDE_PX, fine), coarse)


def cut_strips(
    image: np.ndarray,
    patch_px: int,
    stride: int,
) -> Iterator[tuple[int, FloatArray]]:
    """Pieces of an image (C, H, W), each with its first row.

    Every candidate lies in one, and running sums need memory for one only.
    """
    channels, height, width = image.shape
    candidates = max(1, STRIP_PX // (channels * width * stride))
    rows = candidates * stride
    overlap = patch_px - stride
    for top in range(0, height - patch_px + 1, rows):
        strip = image[:, top : top + rows + overlap]
        yield top, np.asarray(strip, dtype=np.float64)


def grid_places(index: int, top: int, shape: tuple[int, ...], stride: int) -> Places:
    """Of a grid of candidates of this shape in image ``index``, from row ``top`` on."""
    rows, columns = np.indices(shape).reshape(2, -1) * stride
    images = np.full(rows.size, index)
    places = np.stack([images, top + rows, columns], axis=1)
    return places.astype(np.int64)
