r"""Resolution without a second exposure: how much of each fineness the output keeps, and how sure it is.

Never from two denoised halves: what a network invents agrees in both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.signal.windows import tukey

from pairfree.examination.probe import ALPHA, Passes

FloatArray = NDArray[np.float64]

RINGS = 16
"""Between frequency 0 and half a cycle a pixel."""
RESOLVED = 0.5
"""Correlation with the truth down to which detail counts as resolved: 1/7 between two halves, the custom."""
TAPER = 0.2
"""Share of each side over which the image fades out."""


@dataclass(frozen=True)
class Rings:
    """Sums over rings of frequencies; of several images they add up."""

    shared: FloatArray
    """(RINGS,) of output and truth."""
    output: FloatArray
    """Power of the output."""
    truth: FloatArray
    """Power of the truth: of the noisy image, less that of the noise."""
    noise: FloatArray
    """Power of the noise."""
    removed: FloatArray
    """Power of what was removed."""
    kept: FloatArray
    """Power that output and noise share: what of the noise is still there."""

    @property
    def frequencies(self) -> FloatArray:
        """Middles of the rings, cycles a pixel."""
        return np.asarray((np.arange(RINGS) + 0.5) / (2.0 * RINGS), np.float64)

    @property
    def transfer(self) -> FloatArray:
        """T(k), regression of the truth on the output: 1 calibrated, below it invented or noise left.

        Above 1 smoothed more than was needed.
        """
        return self.shared / np.maximum(self.output, 1e-300)

    @property
    def correlation(self) -> FloatArray:
        """Of output and truth, 0 to 1; NaN where the truth cannot be told from none."""
        floor = 0.02 * self.noise
        known = self.truth > floor
        product = np.sqrt(np.maximum(self.output, 1e-300) * np.maximum(self.truth, floor + 1e-300))
        return np.where(known, np.clip(self.shared / product, -1.0, 1.0), math.nan)

    @property
    def resolution_px(self) -> float:
        """Finest period that is resolved, pixels: 2 where all is; infinite where nothing is."""
        values = np.nan_to_num(self.correlation, nan=0.0)
        below = np.flatnonzero(values < RESOLVED)
        if not below.size:
            return 2.0
        first = int(below[0])
        if first == 0:
            return math.inf
        upper, lower = values[first - 1], values[first]
        part = (upper - RESOLVED) / (upper - lower)
        frequency = self.frequencies[first - 1] + part / (2.0 * RINGS)
        return float(1.0 / frequency)

    @property
    def resolved(self) -> int:
        """How many rings are resolved."""
        return min(int(2.0 * RINGS / self.resolution_px), RINGS)


def measure_rings(probe: Passes) -> Rings:
    r"""Sums over rings for one image.

    Notes
    -----
    With G+-, Y, Z the transforms of the tapered g+-, y and z (see ``risk.estimate_risk``), the power that
    output and truth share in a ring is

    C = sum Re[ (G+ Y* + G- Y*) / 2 - (G+ - G-) Z* / (2 alpha) ], as y + alpha z and y - z / alpha are
    independent halves of one exposure; T = C / sum |G|^2, and the correlation C / sqrt(sum |G|^2 sum |X|^2),
    where sum |X|^2 = sum |Y|^2 - sum |N|^2. What was removed has the power |N|^2 - 2 D + M in a ring, where D
    is what output and noise share and M the error's power; a calibrated output has D = M, so |N|^2 - D.

    After Banterle et al., "Fourier ring correlation"; Nieuwenhuizen et al., Nature Methods 10, 557 (2013).
    """
    number, inside = _number_rings(probe.noisy.shape[1:])
    taper = _taper(probe.noisy.shape[1:])
    means = probe.noisy.mean(axis=(1, 2), keepdims=True)

    def transform(planes: FloatArray) -> NDArray[np.complex128]:
        return np.asarray(np.fft.rfft2((planes - means) * taper))

    noisy = transform(probe.noisy)
    noise = np.fft.rfft2(probe.disturbance.noise * taper)
    above, below = transform(probe.above), transform(probe.below)
    shared = ((above + below) / 2.0 * noisy.conj()).real
    crossed = ((above - below) * noise.conj()).real / (2.0 * ALPHA)
    output = (np.abs(above) ** 2 + np.abs(below) ** 2) / 2.0
    removed = (np.abs(noisy - above) ** 2 + np.abs(noisy - below) ** 2) / 2.0

    def add_up(values: FloatArray) -> FloatArray:
        weights = (values.sum(axis=0) * _doubled(probe.noisy.shape[2]))[inside]
        return np.asarray(np.bincount(number[inside], weights, minlength=RINGS)[:RINGS], np.float64)

    of_noise = add_up(np.abs(noise) ** 2)
    return Rings(
        shared=add_up(shared - crossed),
        output=add_up(output),
        truth=add_up(np.abs(noisy) ** 2) - of_noise,
        noise=of_noise,
        removed=add_up(removed),
        kept=add_up(crossed),
    )


def pool_rings(images: Sequence[Rings]) -> Rings:
    """Of several images."""
    names = [one.name for one in fields(Rings)]
    return Rings(**{name: sum(getattr(one, name) for one in images) for name in names})


def _number_rings(shape: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Ring of each frequency, and which frequencies lie in one; the mean is left out."""
    down, across = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    radius = np.hypot(down, across)
    number = np.asarray(radius * 2.0 * RINGS, dtype=np.intp)
    return number, (number < RINGS) & (radius > 0)


def _doubled(width: int) -> FloatArray:
    """How often each column of a real transform stands in the whole one."""
    count = width // 2 + 1
    times = np.full(count, 2.0)
    times[0] = 1.0
    if width % 2 == 0:
        times[-1] = 1.0
    return times


def _taper(shape: tuple[int, ...]) -> FloatArray:
    down, across = (tukey(side, 2.0 * TAPER) for side in shape)
    return np.asarray(np.outer(down, across))
