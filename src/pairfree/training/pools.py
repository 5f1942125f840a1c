"""The noisy images as training draws patches of them."""

from __future__ import annotations

import torch

from pairfree.data.normalize import Normalizer
from pairfree.data.patches import PatchPool
from pairfree.data.sets import ImageSet

ENOUGH_ALIKE = 32
"""Images of like noise, from which others are left out."""


def pool_noisy(
    images: ImageSet, normalizer: Normalizer, device: torch.device, patch_px: int, alone: bool
) -> tuple[PatchPool, bool, list[str]]:
    """The noisy images, whether neighbouring pixels share noise in most, and a line on those left out.

    Where most do not, those that do teach a network to leave noise in; where they are ``alone``, without
    partners, and enough are left, they are left out. Six of 400 colour photographs, compressed and all but
    free of noise, cost 0.6 dB (``iddp``, 280 steps from the shipped start, 50 test photographs, one seed).
    """
    maps = [normalizer.map_whole(plane) for plane in images.planes]
    sharing = [one.correlated for one in maps]
    correlated = 2 * sum(sharing) > len(sharing)
    kept = list(range(len(maps)))
    if alone and not correlated and len(maps) - sum(sharing) >= ENOUGH_ALIKE:
        kept = [index for index in kept if not sharing[index]]
    of_kept = iter([maps[index] for index in kept])
    planes = [images.planes[index] for index in kept]
    pool = PatchPool(planes, device, patch_px, lambda plane: next(of_kept).apply(plane))
    told = []
    if len(kept) < len(maps):
        told.append(
            f"{len(maps) - len(kept)} of {len(maps)} images are not trained on: neighbouring pixels share "
            "their noise, or what is taken for it, unlike in the others"
        )
    return pool, correlated, told
