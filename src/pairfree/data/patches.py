"""Images -> batches: all training pixels live as one flat tensor on the device and patches are gathered there.

A batch is a function of (seed, step, purpose): no worker processes, no epoch state, nothing to carry across a resume. Images may differ
in height and width; only the number of channels is common.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pairfree.data import processes
from pairfree.data.seeding import generator
from pairfree.errors import InputError


@dataclass(frozen=True)
class Batch:
    """What a method's step sees. All tensors (B, C, P, P) float32 in network units, on the training device.

    noisy       patches of the noisy set
    target      the same patches of the partner files (clean for n2c, a second noisy copy for n2n); None where the method has no pairs
    clean       patches of the unpaired clean set, other scenes; None where the method does not need it
    noise       patches of images of the noise alone; likewise
    """

    noisy: Tensor
    target: Tensor | None = None
    clean: Tensor | None = None
    noise: Tensor | None = None


class PatchPool:
    """Planes (C, H_i, W_i) of one domain as one flat tensor; ``gather`` crops and augments by index arithmetic alone."""

    def __init__(
        self,
        planes: Sequence[np.ndarray],
        device: torch.device | str,
        patch_px: int,
        normalise: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """normalise   applied to one plane after the other, so that no second copy of all is held"""
        if not planes:
            raise InputError("no training images: give at least one file")
        channels = {plane.shape[0] for plane in planes}
        if len(channels) > 1:
            raise InputError(
                f"training images have {sorted(channels)} channels: train grey and colour images apart"
            )
        self.channels = channels.pop()
        self.patch_px = patch_px
        self.device = torch.device(device)
        self.heights, self.widths = (
            torch.tensor([max(patch_px, plane.shape[axis]) for plane in planes]) for axis in (1, 2)
        )
        sizes = self.channels * self.heights * self.widths
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)[:-1]])
        places = ((self.heights - patch_px + 1) * (self.widths - patch_px + 1)).double()
        self.cumulative = (places.cumsum(0) / places.sum()).contiguous()
        flat = np.empty(int(sizes.sum()), np.float32)
        for plane, start, size in zip(planes, self.starts.tolist(), sizes.tolist(), strict=True):
            values = plane if normalise is None else normalise(plane)
            flat[start : start + size] = _pad_to_patch(values, patch_px).reshape(-1)
        self.flat = torch.from_numpy(flat).to(self.device)
        self._rows = torch.arange(patch_px, device=self.device)

    def __len__(self) -> int:
        return len(self.heights)

    def __deepcopy__(self, memo: dict[int, object]) -> PatchPool:
        """Itself: pixels of a pool are never changed, and a copy of a method must not double them."""
        return self

    def plane(self, index: int) -> Tensor:
        """Image ``index`` as stored, (C, H, W), a view: at least a patch large."""
        shape = (self.channels, int(self.heights[index]), int(self.widths[index]))
        start = int(self.starts[index])
        return self.flat[start : start + shape[0] * shape[1] * shape[2]].view(shape)

    def arrays(self) -> list[np.ndarray]:
        """All images, (C, H, W) float32; views where the pool lies in main memory."""
        return [self.plane(index).cpu().numpy() for index in range(len(self))]

    def like(self, flat: Tensor) -> PatchPool:
        """A pool of images of the same shapes with other pixels: what ``draw`` says of one holds for the other."""
        twin = copy.copy(self)
        twin.flat = flat
        return twin

    def draw(self, seed: int, step: int, batch: int, purpose: str = "patches") -> Tensor:
        """Where the patches of this step lie: (B, 4) int64 rows of image, top, left, augmentation 0..7. Every place is equally likely.

        Of several processes each gets its own rows of what one alone would draw for all of them.
        """
        u = torch.rand(
            batch * processes.count(),
            4,
            generator=generator(seed, step, purpose),
            dtype=torch.float64,
        )
        u = u[batch * processes.rank() :][:batch]
        image = torch.searchsorted(self.cumulative, u[:, 0].contiguous(), right=True).clamp_(
            max=len(self) - 1
        )
        top = (u[:, 1] * (self.heights[image] - self.patch_px + 1)).long()
        left = (u[:, 2] * (self.widths[image] - self.patch_px + 1)).long()
        return torch.stack([image, top, left, (u[:, 3] * 8).long()], dim=1)

    def gather(self, places: Tensor, augment: bool = True) -> Tensor:
        """Patches (B, C, P, P) at ``places``: one index computation on a GPU; slices on a CPU, where they take a tenth of the time."""
        return (
            self._slices(places, augment)
            if self.device.type == "cpu"
            else self._indexed(places, augment)
        )

    def _slices(self, places: Tensor, augment: bool) -> Tensor:
        out = torch.empty(len(places), self.channels, self.patch_px, self.patch_px)
        for patch, (image, top, left, k) in zip(out, places.tolist(), strict=True):
            crop = self.plane(image)[:, top : top + self.patch_px, left : left + self.patch_px]
            patch.copy_(symmetric(crop, k) if augment else crop)
        return out

    def _indexed(self, places: Tensor, augment: bool) -> Tensor:
        image, top, left, symmetry = places.unbind(1)
        start = self.starts[image] + top * self.widths[image] + left
        meta = torch.stack(
            [start, self.widths[image], self.heights[image] * self.widths[image], symmetry]
        ).to(self.device, non_blocking=True)
        start, width, plane_size, symmetry = (row.view(-1, 1, 1) for row in meta)
        rows, columns = self._rows.view(1, -1, 1), self._rows.view(1, 1, -1)
        y, x = _symmetry(rows, columns, symmetry, self.patch_px) if augment else (rows, columns)
        inside = start + y * width + x
        channel = torch.arange(self.channels, device=self.device).view(1, -1, 1, 1)
        return self.flat[inside.unsqueeze(1) + channel * plane_size.unsqueeze(1)]


def symmetric(crop: Tensor, k: int) -> Tensor:
    """One of the 8 symmetries of a square (..., P, P): bit 0 of k flips rows, bit 1 flips columns, bit 2 transposes."""
    if k & 4:
        crop = crop.transpose(-1, -2)
    flips = [axis for bit, axis in ((1, -2), (2, -1)) if k & bit]
    return crop.flip(flips) if flips else crop


def _symmetry(rows: Tensor, columns: Tensor, k: Tensor, patch_px: int) -> tuple[Tensor, Tensor]:
    """Source row and column of each patch pixel under symmetry k: bit 0 flips rows, bit 1 flips columns, bit 2 transposes."""
    rows, columns = torch.broadcast_tensors(rows, columns)
    y = torch.where((k & 1).bool(), patch_px - 1 - rows, rows)
    x = torch.where((k & 2).bool(), patch_px - 1 - columns, columns)
    transpose = (k & 4).bool()
    return torch.where(transpose, x, y), torch.where(transpose, y, x)


def _pad_to_patch(plane: np.ndarray, patch_px: int) -> np.ndarray:
    """Mirror an image that is smaller than a patch up to patch size; larger ones are returned as they are."""
    height, width = plane.shape[1:]
    if height >= patch_px and width >= patch_px:
        return np.ascontiguousarray(plane, dtype=np.float32)
    grow = [(0, 0), (0, max(0, patch_px - height)), (0, max(0, patch_px - width))]
    return np.ascontiguousarray(np.pad(plane, grow, mode="symmetric"), dtype=np.float32)


@dataclass(frozen=True)
class TrainingData:
    """The pools a training run draws from, and ``batch(seed, step, size)``."""

    noisy: PatchPool
    target: PatchPool | None = None
    clean: PatchPool | None = None
    noise: PatchPool | None = None

    @property
    def nbytes(self) -> int:
        """Of all pixels, as they are held."""
        return sum(pool.flat.nbytes for pool in self.pools)

    @property
    def pools(self) -> list[PatchPool]:
        return [
            pool for pool in (self.noisy, self.target, self.clean, self.noise) if pool is not None
        ]

    def batch(self, seed: int, step: int, size: int) -> Batch:
        places = self.noisy.draw(seed, step, size)
        return Batch(
            noisy=self.noisy.gather(places),
            target=None if self.target is None else self.target.gather(places),
            clean=None
            if self.clean is None
            else self.clean.gather(self.clean.draw(seed, step, size, "clean patches")),
            noise=None
            if self.noise is None
            else self.noise.gather(self.noise.draw(seed, step, size, "noise patches")),
        )
