"""What a fixed network makes of the training images: of each computed when it is first drawn, then kept."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pairfree.data.patches import PatchPool

LARGEST_PX = 4_000_000
"""Larger images are not estimated whole: a patch is then estimated by itself."""


class Estimates:
    """Changes D = F(z) - z of the noisy training images: a patch's estimate is the patch plus its change.

    Parameters
    ----------
    noisy
        The images.
    apply
        F, (1, C, H, W) network units -> same shape, without gradients; H and W multiples of ``stride``.
    stride
        In pixels.

    Notes
    -----
    Each image costs one pass, however many patches are drawn from it: a tenth to a hundredth of estimating
    patch by patch.
    """

    def __init__(self, noisy: PatchPool, apply: Callable[[Tensor], Tensor], stride: int) -> None:
        self.noisy = noisy
        self.apply = apply
        self.stride = stride
        self.changes = noisy.like(torch.zeros_like(noisy.flat))
        self.known: set[int] = set()

    def __deepcopy__(self, memo: dict[int, object]) -> Estimates:
        """Nothing known yet: the copy's network may go another way."""
        return Estimates(self.noisy, copy.deepcopy(self.apply, memo), self.stride)

    def estimate_patches(self, patches: Tensor, places: Tensor) -> Tensor:
        """F(z) of the patches (B, C, P, P) that were gathered at ``places``."""
        images = places[:, 0]
        drawn = set(images.tolist())
        if any(self.is_large(index) for index in drawn):
            return self.apply(patches)
        for index in sorted(drawn - self.known):
            self.estimate_image(index)
        changes = self.changes.gather(places)
        return patches + changes

    def is_large(self, index: int) -> bool:
        """Whether the image has too many pixels to be estimated whole."""
        channel = self.noisy.plane(index)[0]
        return channel.numel() > LARGEST_PX

    @torch.no_grad()
    def estimate_image(self, index: int) -> None:
        """Compute the change of a whole image, grown to multiples of the stride on the way, and keep it."""
        image = self.noisy.plane(index)
        _, height, width = image.shape
        below = -height % self.stride
        right = -width % self.stride
        grown = F.pad(image[None], (0, right, 0, below), mode="replicate")
        made = self.apply(grown)
        estimate = made[0, :, :height, :width]
        change = self.changes.plane(index)
        change.copy_(estimate - image)
        self.known.add(index)
