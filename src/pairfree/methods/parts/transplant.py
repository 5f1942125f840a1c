"""Noise taken out of noisy images and put on clean ones: what ISCL's `cpu` preset begins with, and where its noise adder gets its noise."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from pairfree.data import processes
from pairfree.data.patches import PatchPool, TrainingData
from pairfree.data.seeding import generator
from pairfree.errors import ConfigError
from pairfree.measure.two_sets import DARKEST, Difference, fields, measure, restored
from pairfree.methods.base import At, Needs, follow, require
from pairfree.methods.parts.unpaired import clip_signed, from_signed, to_signed
from pairfree.nets.traits import total_stride
from pairfree.sampling import spaced_indices

AT_FIRST = {
    "gain": 1.0,
    "offset": 0.0,
    "spread": 0.0,
    "size": 1.0,
    "dark": 0.0,
    "darkest": DARKEST,
    "power": 0.0,
}
"""What is measured of each channel (``measure.two_sets``), and what it is before."""
OF_COUNTS = ("dark", "darkest", "power")
"""Measured anew by each process that trains, as the spectrum is; not saved."""
LEAST_SKEW, MOST_SKEW = 1e-3, 2.0
"""Counts with less are as good as Gaussian; with more, a quarter of a count or less, the formula would move the mean."""
TRANSPOSED = 4
"""The bit of a patch's symmetry that turns rows into columns (``data.patches.symmetric``)."""
FIELDS = 64
"""Gaussian fields that noise is drawn from before any is extracted."""
BLOCK_PX = 512
"""Noise is extracted from blocks of at most this side."""
MOST_BLOCKS = 48
MOST_IMAGES = 200
"""Images of a set that are compared, spread evenly over it."""


class Transplant(nn.Module):
    r"""Noise for clean patches: drawn from the spectra of the two sets, later what an extractor takes out of the noisy images.

    The two sets' difference is measured once (``measure.two_sets``). ``forward`` undoes its gain and offset, so that what is left of a
    noisy image is y + level(y) n. At first n are Gaussian fields of the measured spectrum; after each ``renew`` they are what the extractor
    of that moment finds in the noisy images, brought to that spectrum: with the streaks, blobs and grain that a spectrum does not know.
    Not so where structures fill the images unevenly: what is extracted at edges is not only noise, and n stays Gaussian.

    All images (B, C, H, W) in [-1, 1], n in network units. Gain, offset, power law and the extractor of the last renewal are saved.
    """

    measured_from_data = True

    def __init__(
        self, extractor: nn.Module, channels: int, apply: Callable[[nn.Module, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.then = copy.deepcopy(extractor).requires_grad_(False)
        self.apply_to = apply
        for name, value in AT_FIRST.items():
            self.register_buffer(name, torch.full((channels, 1, 1), value), persistent=name not in OF_COUNTS)
        for name in ("exponent", "renewals"):
            self.register_buffer(name, torch.zeros(()))
        self.gain: Tensor
        self.offset: Tensor
        self.spread: Tensor
        self.size: Tensor
        self.dark: Tensor
        self.darkest: Tensor
        self.power: Tensor
        self.exponent: Tensor
        self.renewals: Tensor
        self.measured: tuple[Difference, PatchPool, int] | None = None
        self.bank: PatchPool | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> Transplant:
        """Without the noise at hand: it is made again when needed."""
        twin = Transplant(copy.deepcopy(self.then, memo), len(self.gain), self.apply_to).to(self.gain.device)
        twin.load_state_dict(self.state_dict())
        twin.measured = self.measured
        for name in OF_COUNTS:
            getattr(twin, name).copy_(getattr(self, name))
        return twin

    def prepare(self, data: TrainingData, seed: int) -> None:
        """Measure the difference between the noisy and the clean pool."""
        noisy, clean = _shown(data.noisy), _shown(require(data.clean, Needs.CLEAN.value))
        found = measure(noisy, clean, seed)
        self.take(found)
        self.measured, self.bank = (found, data.noisy, seed), None

    def take(self, found: Difference) -> None:
        """The noise is this one."""
        for name in AT_FIRST:
            getattr(self, name).copy_(torch.from_numpy(getattr(found, name)).view(-1, 1, 1))
        self.exponent.fill_(found.exponent)

    def forward(self, x: Tensor) -> Tensor:
        """A noisy image with the contrast and mean brightness of clean ones."""
        return to_signed((from_signed(x) - self.offset) / self.gain)

    def noised(self, y: Tensor, at: At) -> Tensor:
        """Clean patches (B, C, P, P) with the noise of step ``at`` on them."""
        strengths = self._measured()[0].strengths
        chosen = torch.randint(len(strengths), (len(y),), generator=at.rng("strength of the noise"))
        strength = torch.from_numpy(strengths)[chosen].to(y)[:, :, None, None]
        return self.put(y, self.draw(len(y), at), strength)

    def put(self, y: Tensor, n: Tensor, strength: Tensor | float = 1.0) -> Tensor:
        """Clean images with noise n on them, cut off where the noisy images are."""
        ends = torch.ones_like(self.gain)
        noise = strength * self._level(y) * n
        if self._measured()[0].counts:
            noise = self._skewed(y, noise, strength)
        return torch.clamp(y + 2.0 * noise, self(-ends), self(ends))

    def draw(self, count: int, at: At) -> Tensor:
        """n for ``count`` patches."""
        if self.bank is None:
            self.bank = self._filled()
        places = self.bank.draw(at.seed, at.step, count, "transplanted noise")
        if self._measured()[0].directed:
            places[:, 3] &= ~TRANSPOSED
        patches = self.bank.gather(places)
        shift = torch.randn(count, len(self.gain), 1, 1, generator=at.rng("mean of the noise"))
        return patches + self.spread * shift.to(self.gain.device)

    def upright(self, x: Tensor, at: At) -> Tensor:
        """The noisy patches (B, C, P, P) of step ``at``; those that were transposed turned back, where the noise has a direction.

        Flips leave rows rows. Columns of scan lines, which no image shows, would be noise of another kind to learn.
        """
        found, noisy, _ = self._measured()
        if not found.directed:
            return x
        turned = (noisy.draw(at.seed, at.step, len(x))[:, 3] & TRANSPOSED) > 0
        return torch.where(turned.view(-1, 1, 1, 1).to(x.device), x.transpose(-1, -2), x)

    def renew(self, extractor: nn.Module, due: int) -> None:
        """From now on the noise is what ``extractor`` finds, if ``due`` renewals should have been made and were not."""
        if due > int(self.renewals):
            follow(self.then, extractor, 1.0)
            processes.agree([self.then])  # running statistics are each process's own until then
            self.renewals.fill_(due)
            self.bank = None

    @property
    def calibrated(self) -> bool:
        """Whether the two sets' intensities are taken to mean the same, so that noise has no mean and changes no contrast."""
        return not self._measured()[0].even

    def _measured(self) -> tuple[Difference, PatchPool, int]:
        if self.measured is None:
            raise ConfigError("prepare must come before the first step")
        return self.measured

    def _level(self, y: Tensor) -> Tensor:
        return torch.maximum(from_signed(y) + self.dark, self.darkest) ** self.exponent / self.size

    def _skewed(self, y: Tensor, noise: Tensor, strength: Tensor | float) -> Tensor:
        r"""Gaussian noise of counts, strength level(y) n, with the skewness that counts have.

        Equation   noise' = 2 s / g ((1 - g^2 / 36 + g noise / (6 s))^3 - 1),   s the deviation of the noise, g = a^2 (y + min(dark, 0)) /
                   s^3 its skewness, a the variance that each unit of brightness adds. Its mean is 0 but for s g^5 / 23,328 (g at most
                   MOST_SKEW), few photons stay above 0, where a Gaussian would be cut off and brighten what is dark
        Source     Wilson & Hilferty, The distribution of chi-square, PNAS 1931
        """
        s = strength * self._level(y) * self.power.sqrt()
        counted = from_signed(y) + self.dark.clamp(max=0.0)
        g = ((strength**2 * self.power / self.size**2) ** 2 * counted / s**3).clamp(LEAST_SKEW, MOST_SKEW)
        return 2.0 * s / g * ((1.0 - g**2 / 36.0 + g * noise / (6.0 * s)) ** 3 - 1.0)

    @torch.no_grad()
    def _filled(self) -> PatchPool:
        found, noisy, seed = self._measured()
        if int(self.renewals) == 0 or not found.even:
            rng = np.random.default_rng(generator(seed, 0, "spectral noise").initial_seed())
            planes = list(fields(found.spectrum, FIELDS, rng))
        else:
            planes = restored([self._extracted(block) for block in _blocks(noisy)], found.spectrum)
        return PatchPool([plane.astype(np.float32) for plane in planes], noisy.device, noisy.patch_px)

    def _extracted(self, block: Tensor) -> np.ndarray:
        """n of a block (C, H, W) of network units."""
        height, width = block.shape[1:]
        stride = total_stride(self.then)
        grown = nn.functional.pad(block[None], (0, -width % stride, 0, -height % stride), mode="replicate")
        x = self(clip_signed(grown))
        noise = self.apply_to(self.then.eval(), x)
        n = noise / (2.0 * self._level(x - noise))
        return n[0, :, :height, :width].double().cpu().numpy()


def _shown(pool: PatchPool) -> list[np.ndarray]:
    """Some of the images as the networks see them: clipped to 0..1."""
    return [
        np.clip(pool.plane(index).cpu().numpy(), 0.0, 1.0) for index in spaced_indices(len(pool), MOST_IMAGES)
    ]


def _blocks(noisy: PatchPool) -> list[Tensor]:
    """Blocks (C, H, W) of the images, at most MOST_BLOCKS, spread evenly over them."""
    places = [
        (index, top, left)
        for index in range(len(noisy))
        for top in _starts(int(noisy.heights[index]), noisy.patch_px)
        for left in _starts(int(noisy.widths[index]), noisy.patch_px)
    ]
    chosen = (places[k] for k in spaced_indices(len(places), MOST_BLOCKS))
    return [
        noisy.plane(index)[:, top : top + BLOCK_PX, left : left + BLOCK_PX] for index, top, left in chosen
    ]


def _starts(length: int, least_px: int) -> list[int]:
    """Where blocks begin; a rest that is smaller than a patch is left out."""
    return [start for start in range(0, length, BLOCK_PX) if start == 0 or length - start >= least_px]
