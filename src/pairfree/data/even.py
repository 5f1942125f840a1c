"""Even noise: intensities in which a plane's noise has one size everywhere, and the way back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pairfree.measure.colour_law import measure_colour_laws
from pairfree.measure.even_transform import EvenTransform
from pairfree.measure.noise_law import NoiseLaw
from pairfree.measure.plane_law import measure_noise_law
from pairfree.measure.variance_line import PoissonGaussian

REVISION = 3
"""Of the law that is measured, from 1: raised where networks see other numbers by it.

A run goes on by the law that it began with, or not at all.
"""
REVISION_OF_RESULTS = 2
"""The last one that moved results by more than a seed does.

The third moved those of the shipped network, on the seven sets of the table of a minute, by at most 0.006 dB.
"""
EVEN_LEVEL = 0.1
"""Deviation of even noise, network units; 25 grey levels of 255 are 0.098."""
SAMPLE_PX = 1 << 20
"""Pixels of a plane that its noise is measured on, at most."""
TILE_PX = 256
"""Side of the tiles that stand for a larger plane."""

Read = Callable[[slice, slice], np.ndarray]
"""Rows and columns within a plane -> intensities (C, h, w)."""


@dataclass(frozen=True)
class EvenMap:
    """Intensities of one plane <-> network units in which its noise has the deviation ``EVEN_LEVEL``."""

    laws: tuple[NoiseLaw, ...]
    """Of each channel."""
    middles: tuple[float, ...]
    """What becomes 0 in each channel, in deviations of the noise."""

    @cached_property
    def transforms(self) -> tuple[EvenTransform, ...]:
        """Of each channel."""
        return tuple(law.transform for law in self.laws)

    @property
    def correlated(self) -> bool:
        """Whether neighbouring pixels share noise, in most channels."""
        return sum(law.correlated for law in self.laws) * 2 > len(self.laws)

    def apply(self, intensity: np.ndarray) -> np.ndarray:
        """Intensities (C, h, w) of any dtype -> float32 network units, same shape."""
        return np.asarray(EVEN_LEVEL * self._centre(intensity), dtype=np.float32)

    def add(self, intensity: np.ndarray, change: np.ndarray) -> np.ndarray:
        """What a network makes of intensities (C, h, w) by a change in network units: float64 intensities.

        Where the noise is even by itself, no change leaves the intensities exactly as they are; else the way
        back is the exact unbiased inverse, which takes the sum for an expected value.
        """
        made = np.empty(intensity.shape, np.float64)
        for index, (law, transform) in enumerate(zip(self.laws, self.transforms, strict=True)):
            values = intensity[index].astype(np.float64)
            step = change[index] / EVEN_LEVEL
            if law.noise.gain > 0:
                made[index] = transform.back(transform.forward(values) + step)
            else:
                made[index] = values + step * math.sqrt(law.noise.floor)
        return made

    def widen(self, intensity: np.ndarray, apart: np.ndarray) -> np.ndarray:
        """A distance in network units at intensities (C, h, w), in intensity units."""
        levels = [
            _level_at(values, law.noise) for values, law in zip(intensity, self.laws, strict=True)
        ]
        return np.asarray(np.stack(levels) * apart / EVEN_LEVEL)

    def _centre(self, intensity: np.ndarray) -> NDArray[np.float64]:
        """In deviations of the noise, less the middles."""
        centred = np.empty(intensity.shape, np.float64)
        for index, (transform, middle) in enumerate(
            zip(self.transforms, self.middles, strict=True)
        ):
            centred[index] = transform.forward(intensity[index].astype(np.float64)) - middle
        return centred


def _level_at(intensity: np.ndarray, noise: PoissonGaussian) -> NDArray[np.float64]:
    """Deviation of the noise at intensities (h, w)."""
    if noise.gain == 0:
        return np.full(intensity.shape, math.sqrt(noise.floor))
    return np.asarray(np.sqrt(noise.variance(intensity.astype(np.float64))))


def measure_even_map(read: Read, height: int, width: int, one_law: bool = False) -> EvenMap:
    """Measure the noise of a plane, and so the map that makes it even.

    Parameters
    ----------
    read
        Gives a part of the plane.
    height, width
        Of the plane, pixels.
    one_law
        The middle channel stands for all; where it is empty, the one of the widest range.

    Returns
    -------
    EvenMap
        A function of the plane's pixels alone; of a plane of more than ``SAMPLE_PX`` pixels, of tiles whose
        places follow from its shape.
    """
    sample = _sample(read, height, width).astype(np.float64)
    channels = len(sample)
    if one_law:
        chosen = channels // 2
        if np.ptp(sample[chosen]) == 0:  # an empty slice has no law
            chosen = int(np.argmax(np.ptp(sample, axis=(1, 2))))
        sample = sample[chosen : chosen + 1]
    laws = measure_laws(sample)
    middles = []
    for channel, law in zip(sample, laws, strict=True):
        middles.append(float(np.median(law.transform.forward(channel))))
    times = channels if one_law else 1
    return EvenMap(laws * times, tuple(middles) * times)


def measure_laws(sample: NDArray[np.float64]) -> tuple[NoiseLaw, ...]:
    """The law of the noise of each channel of a plane (C, H, W): of three colours, by their differences."""
    return measure_colour_laws(sample) or tuple(measure_noise_law(channel) for channel in sample)


def _sample(read: Read, height: int, width: int) -> np.ndarray:
    """The plane (C, h, w), or tiles of it side by side."""
    if height * width <= SAMPLE_PX:
        return read(slice(0, height), slice(0, width))
    high, wide = min(TILE_PX, height), min(TILE_PX, width)
    rng = np.random.default_rng((height, width))
    count = max(1, SAMPLE_PX // (high * wide))
    tiles = []
    for _ in range(count):
        top = int(rng.integers(0, height - high + 1))
        left = int(rng.integers(0, width - wide + 1))
        tiles.append(read(slice(top, top + high), slice(left, left + wide)))
    across = math.isqrt(count)
    rows = [
        np.concatenate(tiles[first : first + across], axis=2) for first in range(0, count, across)
    ]
    whole = [row for row in rows if row.shape[2] == across * wide]
    return np.concatenate(whole, axis=1)
