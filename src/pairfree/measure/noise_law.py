"""The law of one plane's noise, as a value: what every part of the program that knows noise goes by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pairfree.measure.even_transform import EvenTransform
from pairfree.measure.variance_line import PoissonGaussian
from pairfree.noise.coloured import draw_coloured

FloatArray = NDArray[np.float64]

DIGITS = 6
"""Of the numbers of a spectrum, as they are written down."""


@dataclass(frozen=True)
class NoiseLaw:
    """What one plane's noise is like: gain, floor, and what neighbouring pixels share."""

    noise: PoissonGaussian
    """Its variance at each brightness; above 0 somewhere."""
    correlated: bool
    """Whether neighbouring pixels share noise."""
    darkest: float = math.inf
    """Brightness of the darkest areas, where it is known, intensity units."""
    spectrum: FloatArray | None = field(default=None, compare=False)
    """Power of the noise at the frequencies of 32 x 32 px, in the order of ``numpy.fft.fft2``, mean 1.

    None for white noise, and where it is not known.
    """

    @property
    def transform(self) -> EvenTransform:
        """What makes the noise even."""
        return EvenTransform(self.noise, self.darkest)

    def draw(self, shape: tuple[int, int], rng: Generator) -> FloatArray:
        """Normal noise of unit variance (H, W), shared between neighbours as this noise is."""
        return draw_coloured(self.spectrum if self.correlated else None, shape, rng)

    def correlation(self, down: int, across: int) -> float:
        """Of pixels that lie so many rows and columns apart, at most 16: -1 to 1; 0 for white noise."""
        if self.spectrum is None or not self.correlated:
            return float(down == 0 and across == 0)
        shared = np.fft.ifft2(self.spectrum).real
        return float(shared[down, across] / shared[0, 0])

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON writes it."""
        found: dict[str, Any] = {
            "gain": self.noise.gain,
            "floor": self.noise.floor,
            "correlated": self.correlated,
            "darkest": self.darkest if math.isfinite(self.darkest) else None,
        }
        if self.spectrum is not None and self.correlated:
            found["spectrum"] = np.round(self.spectrum, DIGITS).tolist()
        return found

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> NoiseLaw:
        """The law that ``as_dict`` wrote down."""
        spectrum = stored.get("spectrum")
        darkest = stored.get("darkest")
        return cls(
            PoissonGaussian(float(stored["gain"]), float(stored["floor"])),
            bool(stored["correlated"]),
            math.inf if darkest is None else float(darkest),
            None if spectrum is None else np.array(spectrum, np.float64),
        )
