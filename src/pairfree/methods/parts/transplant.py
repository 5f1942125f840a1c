"""Noise taken out of noisy images and put on clean ones.

ISCL's `cpu` preset begins with it, and its noise adder gets its noise from here.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pairfree.data import processes
from pairfree.data.patches import PatchPool, TrainingData
from pairfree.data.seeding import generator
from pairfree.errors import ConfigError
from pairfree.measure.spectra import draw_fields, restore_spectrum
from pairfree.measure.two_sets import DARKEST, Difference, measure_difference
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
"""Skewness that noise of counts is given: with less it is as good as Gaussian.

With more, a quarter of a count or less, the formula would move the mean.
"""
TRANSPOSED = 4
"""The bit of a patch's symmetry that turns rows into columns (``data.patches.symmetric``)."""
FIELDS = 64
"""Gaussian fields that noise is drawn from before any is extracted."""
BLOCK_PX = 512
"""Noise is extracted from blocks of at most this side."""
MOST_BLOCKS = 48
MOST_IMAGES = 200
"""Images of a set that are compared, spread evenly over it."""


class Measured(NamedTuple):
    """What ``prepare`` finds."""

    difference: Difference
    """Of the noisy from the clean set."""

    noisy: PatchPool
    """The noisy images."""

    seed: int
    """Of the training run."""


class Transplant(nn.Module):
    r"""Noise for clean patches: of two sets' spectra, later what an extractor takes out of noisy images.

    Parameters
    ----------
    extractor
        H, (B, C, H, W) in [-1, 1] -> noise of that shape; a copy is kept.
    channels
        Of the images.
    apply
        Runs a network on an image, in the precision of the training.

    Notes
    -----
    The two sets' difference is measured once (``measure.two_sets``). ``forward`` undoes its gain and offset,
    so that what is left of a noisy image is y + level(y) n. At first n are Gaussian fields of the measured
    spectrum; after each ``renew`` they are what the extractor of that moment finds in the noisy images,
    brought to that spectrum: with the streaks, blobs and grain that a spectrum does not know. Not so where
    structures fill the images unevenly: what is extracted at edges is not only noise, and n stays Gaussian.

    All images are (B, C, H, W) in [-1, 1], n in network units. Gain, offset, power law and the extractor of
    the last renewal are saved.
    """

    measured_from_data = True

    gain: Tensor
    offset: Tensor
    spread: Tensor
    size: Tensor
    dark: Tensor
    darkest: Tensor
    power: Tensor
    exponent: Tensor
    renewals: Tensor

    def __init__(
        self,
        extractor: nn.Module,
        channels: int,
        apply: Callable[[nn.Module, Tensor], Tensor],
    ) -> None:
        super().__init__()
        # the extractor of the last renewal; its name is part of checkpoints
        self.then = copy.deepcopy(extractor)
        self.then.requires_grad_(False)
        self.apply_to = apply
        for name, value in AT_FIRST.items():
            of_channels = torch.full((channels, 1, 1), value)
            saved = name not in OF_COUNTS
            self.register_buffer(name, of_channels, persistent=saved)
        for name in ("exponent", "renewals"):
            self.register_buffer(name, torch.zeros(()))
        self.measured: Measured | None = None
        self.bank: PatchPool | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> Transplant:
        """Without the noise at hand: it is made again when needed."""
        extractor = copy.deepcopy(self.then, memo)
        twin = Transplant(extractor, len(self.gain), self.apply_to)
        twin.to(self.gain.device)
        twin.load_state_dict(self.state_dict())
        twin.measured = self.measured
        for name in OF_COUNTS:
            measured: Tensor = getattr(twin, name)
            measured.copy_(getattr(self, name))
        return twin

    def prepare(self, data: TrainingData, seed: int) -> None:
        """Measure the difference between the noisy and the clean pool, unless that was done."""
        known = self.measured
        if known is not None and known.noisy is data.noisy and known.seed == seed:
            return
        noisy = _clipped_planes(data.noisy)
        clean = _clipped_planes(require(data.clean, Needs.CLEAN.value))
        difference = measure_difference(noisy, clean, seed)
        self.take(Measured(difference, data.noisy, seed))

    def take(self, measured: Measured) -> None:
        """From now on noise is as it was measured, here or by another."""
        self.set_difference(measured.difference)
        self.measured = measured
        self.bank = None

    def set_difference(self, difference: Difference) -> None:
        """From now on noise is this strong."""
        for name in AT_FIRST:
            found = torch.from_numpy(getattr(difference, name))
            of_channels: Tensor = getattr(self, name)
            of_channels.copy_(found.view(-1, 1, 1))
        self.exponent.fill_(difference.exponent)

    def forward(self, x: Tensor) -> Tensor:
        """A noisy image with the contrast and mean brightness of clean ones."""
        matched = (from_signed(x) - self.offset) / self.gain
        return to_signed(matched)

    def make_noisy(self, y: Tensor, at: At) -> Tensor:
        """Clean patches (B, C, P, P) with the noise of step ``at`` on them."""
        strengths = self._require_measured().difference.strengths
        rng = at.rng("strength of the noise")
        chosen = torch.randint(len(strengths), (len(y),), generator=rng)
        strength = torch.from_numpy(strengths)[chosen]
        strength = strength.to(y)[:, :, None, None]
        n = self.draw_noise(len(y), at)
        return self.add_noise(y, n, strength)

    def add_noise(self, y: Tensor, n: Tensor, strength: Tensor | float = 1.0) -> Tensor:
        """Clean images with noise n on them, cut off where the noisy images are.

        Parameters
        ----------
        y
            (B, C, H, W) in [-1, 1].
        n
            The same shape, network units.
        strength
            Of the noise of each image, (B, C, 1, 1): multiplies n.

        Returns
        -------
        Tensor
            (B, C, H, W).
        """
        noise = strength * self._size_at(y) * n
        if self._require_measured().difference.counts:
            noise = self._skew(y, noise, strength)
        end = torch.ones_like(self.gain)
        darkest = self(-end)
        brightest = self(end)
        return torch.clamp(y + 2.0 * noise, darkest, brightest)

    def draw_noise(self, count: int, at: At) -> Tensor:
        """Noise n for ``count`` patches of step ``at``, (count, C, P, P) in network units."""
        if self.bank is None:
            self.bank = self._fill_bank()
        places = self.bank.draw(at.seed, at.step, count, "transplanted noise")
        if self._require_measured().difference.directed:
            symmetries = places[:, 3]
            symmetries &= ~TRANSPOSED
        patches = self.bank.gather(places)
        rng = at.rng("mean of the noise")
        channels = len(self.gain)
        shift = torch.randn(count, channels, 1, 1, generator=rng)
        shift = shift.to(self.gain.device)
        return patches + self.spread * shift

    def turn_upright(self, x: Tensor, at: At) -> Tensor:
        """The noisy patches of a step; where the noise has a direction, transposed ones are turned back.

        Flips leave rows rows. Columns of scan lines, which no image shows, would be noise of another kind to
        learn.

        Parameters
        ----------
        x
            (B, C, P, P), as drawn from the noisy pool.
        at
            The step.
        """
        difference, noisy, _ = self._require_measured()
        if not difference.directed:
            return x
        places = noisy.draw(at.seed, at.step, len(x))
        symmetries = places[:, 3]
        turned = (symmetries & TRANSPOSED) > 0
        turned = turned.view(-1, 1, 1, 1).to(x.device)
        upright = x.transpose(-1, -2)
        return torch.where(turned, upright, x)

    def renew(self, extractor: nn.Module, due: int) -> None:
        """From now on the noise is what ``extractor`` finds, if a renewal is due.

        Parameters
        ----------
        extractor
            H.
        due
            Renewals that should have been made by now; fewer were, or nothing happens.
        """
        if due > int(self.renewals):
            follow(self.then, extractor, 1.0)
            processes.agree([self.then])  # running statistics are each process's own until then
            self.renewals.fill_(due)
            self.bank = None

    @property
    def calibrated(self) -> bool:
        """Whether intensities mean the same in both sets: noise has no mean and changes no contrast."""
        return not self._require_measured().difference.even

    @property
    def of_counts(self) -> bool:
        """Whether the noise is surely that of counts."""
        return self._require_measured().difference.counts

    def _require_measured(self) -> Measured:
        if self.measured is None:
            raise ConfigError("prepare must come before the first step")
        return self.measured

    def _size_at(self, y: Tensor) -> Tensor:
        """level(y): how strong noise is at each brightness, of n; as ``measure.two_sets.noise_level``."""
        above_dark = from_signed(y) + self.dark
        brightness = torch.maximum(above_dark, self.darkest)
        return brightness**self.exponent / self.size

    def _skew(self, y: Tensor, noise: Tensor, strength: Tensor | float) -> Tensor:
        r"""Gaussian noise of counts, strength level(y) n, with the skewness that counts have.

        noise' = 2 s / g ((1 - g^2 / 36 + g noise / (6 s))^3 - 1), with s the deviation of the noise, g = a^2
        (y + min(dark, 0)) / s^3 its skewness and a the variance that each unit of brightness adds.

        Notes
        -----
        Its mean is 0 but for s g^5 / 23,328 (g at most MOST_SKEW); few photons stay above 0, where a Gaussian
        would be cut off and brighten what is dark.

        References
        ----------
        Wilson & Hilferty, The distribution of chi-square, PNAS 1931.
        """
        s = strength * self._size_at(y) * self.power.sqrt()
        a = strength**2 * self.power / self.size**2
        counted = from_signed(y) + self.dark.clamp(max=0.0)
        g = a**2 * counted / s**3
        g = g.clamp(LEAST_SKEW, MOST_SKEW)
        root = 1.0 - g**2 / 36.0 + g * noise / (6.0 * s)
        return 2.0 * s / g * (root**3 - 1.0)

    @torch.no_grad()
    def _fill_bank(self) -> PatchPool:
        """Noise to draw patches of: Gaussian before any renewal and for uneven images, else extracted."""
        difference, noisy, seed = self._require_measured()
        if int(self.renewals) == 0 or not difference.even:
            spectral = generator(seed, 0, "spectral noise")
            rng = np.random.default_rng(spectral.initial_seed())
            fields = draw_fields(difference.spectrum, FIELDS, rng)
            planes = list(fields)
        else:
            blocks = _cut_blocks(noisy)
            extracted = [self._extract_noise(block) for block in blocks]
            planes = restore_spectrum(extracted, difference.spectrum)
        single = [plane.astype(np.float32) for plane in planes]
        return PatchPool(single, noisy.device, noisy.patch_px)

    def _extract_noise(self, block: Tensor) -> np.ndarray:
        """Noise n of a block (C, H, W) of network units."""
        height, width = block.shape[1:]
        stride = total_stride(self.then)
        right = -width % stride
        below = -height % stride
        grown = nn.functional.pad(block[None], (0, right, 0, below), mode="replicate")
        x = self(clip_signed(grown))
        noise = self.apply_to(self.then.eval(), x)
        size = self._size_at(x - noise)
        n = noise / (2.0 * size)
        inside = n[0, :, :height, :width]
        return inside.double().cpu().numpy()


def _clipped_planes(pool: PatchPool) -> list[np.ndarray]:
    """Some of the images as the networks see them: clipped to 0..1."""
    planes = []
    for index in spaced_indices(len(pool), MOST_IMAGES):
        plane = pool.plane(index)
        values = plane.cpu().numpy()
        planes.append(np.clip(values, 0.0, 1.0))
    return planes


def _cut_blocks(noisy: PatchPool) -> list[Tensor]:
    """Blocks (C, H, W) of the images, at most MOST_BLOCKS, spread evenly over them."""
    places = list(_block_corners(noisy))
    blocks = []
    for chosen in spaced_indices(len(places), MOST_BLOCKS):
        index, top, left = places[chosen]
        rows = slice(top, top + BLOCK_PX)
        columns = slice(left, left + BLOCK_PX)
        blocks.append(noisy.plane(index)[:, rows, columns])
    return blocks


def _block_corners(noisy: PatchPool) -> Iterator[tuple[int, int, int]]:
    """Number of the image, top and left of each block."""
    for index in range(len(noisy)):
        height = int(noisy.heights[index])
        width = int(noisy.widths[index])
        tops = _block_starts(height, noisy.patch_px)
        lefts = _block_starts(width, noisy.patch_px)
        for top, left in itertools.product(tops, lefts):
            yield index, top, left


def _block_starts(length: int, least_px: int) -> list[int]:
    """Where blocks begin along a side; a rest that is smaller than a patch is left out."""
    starts = range(0, length, BLOCK_PX)
    return [start for start in starts if start == 0 or length - start >= least_px]
