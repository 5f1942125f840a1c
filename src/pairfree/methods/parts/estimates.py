"""What a fixed network makes of the training images: computed when an image is first drawn, kept until the network changes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from pairfree.data.patches import PatchPool

LARGEST_PX = 4_000_000
"""Larger images are not estimated whole: a patch is then estimated by itself."""


class Estimates:
    """Changes D = F(z) - z of the noisy training images, so that a patch's estimate is the patch plus its change.

    apply    F, (1, C, H, W) network units -> same shape, without gradients; H and W multiples of ``stride``

    Each image costs one pass, however many patches are drawn from it: a tenth to a hundredth of estimating patch by patch.
    """

    def __init__(self, noisy: PatchPool, apply: Callable[[Tensor], Tensor], stride: int) -> None:
        self.noisy, self.apply, self.stride = noisy, apply, stride
        self.changes = noisy.like(torch.zeros_like(noisy.flat))
        self.known: set[int] = set()

    def __deepcopy__(self, memo: dict[int, object]) -> Estimates:
        """Nothing known yet: the copy's network may go another way."""
        return Estimates(self.noisy, copy.deepcopy(self.apply, memo), self.stride)

    def of(self, patches: Tensor, places: Tensor) -> Tensor:
        """F(z) of the patches (B, C, P, P) that were gathered at ``places``."""
        images = sorted(set(places[:, 0].tolist()))
        if any(self.noisy.plane(index)[0].numel() > LARGEST_PX for index in images):
            return self.apply(patches)
        for index in images:
            if index not in self.known:
                self._estimate(index)
        return patches + self.changes.gather(places)

    @torch.no_grad()
    def _estimate(self, index: int) -> None:
        image = self.noisy.plane(index)
        height, width = image.shape[1:]
        grown = torch.nn.functional.pad(
            image[None], (0, -width % self.stride, 0, -height % self.stride), mode="replicate"
        )
        self.changes.plane(index).copy_(self.apply(grown)[0, :, :height, :width] - image)
        self.known.add(index)
