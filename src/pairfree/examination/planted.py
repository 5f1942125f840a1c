"""Small spots, planted in one's own noisy image: which of them survive, and what appears where none is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pairfree.examination.probe import Denoise, Disturbance
from pairfree.measure.noise_law import NoiseLaw

FloatArray = NDArray[np.float64]

WIDTHS_PX = (0.8, 1.5, 3.0)
"""Deviations of the Gaussian spots; they look 2.4 times as wide."""
STRENGTHS = (2.0, 4.0, 8.0, 16.0)
"""Signal-to-noise ratios of the spots to one who knows where to look: 5 is the custom to call it seen."""
CELL_PX = 32
"""Each spot has a cell of its own."""
KEPT = 0.5
"""Of a spot's contrast: with less it is lost."""
FULL_WIDTH = 2.0 * math.sqrt(2.0 * math.log(2.0))


@dataclass(frozen=True)
class Planted:
    """What became of planted spots; of several images they are put together."""

    kept: FloatArray
    """(N,) share of its contrast that each spot kept."""
    widths_px: FloatArray
    """(N,) its deviation."""
    strengths: FloatArray
    """(N,) its signal-to-noise ratio."""
    nothing: FloatArray
    """(M,) what appeared in cells without a spot, as a share of one of ratio 8."""

    def choose(self, strength: float, width_px: float | None = None) -> FloatArray:
        """Shares of the spots of a ratio, and of a width."""
        chosen = self.strengths == strength
        if width_px is not None:
            chosen &= self.widths_px == width_px
        return np.asarray(self.kept[chosen])

    def survival(self, width_px: float) -> FloatArray:
        """(STRENGTHS,) share of the spots of a width that keep half their contrast."""
        shares = []
        for strength in STRENGTHS:
            kept = self.choose(strength, width_px)
            shares.append(float(np.mean(kept >= KEPT)) if kept.size else math.nan)
        return np.array(shares)

    def least_height(self, width_px: float, share: float = 0.9) -> float:
        """From which spots of a width survive, in deviations of the noise; infinite where none do."""
        good = self.survival(width_px) >= share
        for number, strength in enumerate(STRENGTHS):
            if good[number:].all():
                return find_height(strength, width_px)
        return math.inf


def plant_spots(
    denoise: Denoise,
    noisy: FloatArray,
    output: FloatArray,
    disturbance: Disturbance,
    laws: Sequence[NoiseLaw],
    rng: Generator,
) -> Planted:
    """Add spots to a noisy image, denoise it again, and look what became of them.

    Parameters
    ----------
    denoise
        What is examined; called once.
    noisy, output
        (C, H, W): the image, and what the denoiser made of it.
    disturbance, laws
        Their variance tells how high a spot must be; where neighbours share noise, their spectrum, too.
    rng
        For sizes, strengths, signs and places.

    Notes
    -----
    A spot of deviation w and height h has the ratio h w sqrt(pi) / sigma in white noise. Where neighbours
    share noise, sigma is that of the noise seen through the spot. What it kept is
    <F(y + s) - F(y), s> / <s, s> within its cell. Its own counting noise is left out.
    """
    spots, cells = _draw_spots(disturbance.variance, laws, rng)
    answer = denoise(noisy + spots) - output
    kept, widths, strengths, nothing = [], [], [], []
    for channel, top, left, width, strength, template in cells:
        here = slice(top, top + CELL_PX), slice(left, left + CELL_PX)
        answered = answer[channel][here]
        if strength == 0.0:
            nothing.append(abs(float(np.sum(answered * template))) / float(np.sum(template**2)))
            continue
        kept.append(float(np.sum(answered * template)) / float(np.sum(template**2)))
        widths.append(width)
        strengths.append(strength)
    return Planted(*(np.array(one) for one in (kept, widths, strengths, nothing)))


def pool_planted(images: Sequence[Planted]) -> Planted | None:
    """Spots of several images together; None of none."""
    if not images:
        return None
    return Planted(
        *(
            np.concatenate([getattr(one, name) for one in images])
            for name in ("kept", "widths_px", "strengths", "nothing")
        )
    )


_Cell = tuple[int, int, int, float, float, FloatArray]


def _draw_spots(
    variance: FloatArray, laws: Sequence[NoiseLaw], rng: Generator
) -> tuple[FloatArray, list[_Cell]]:
    """An image of spots, and the list of its cells; one in thirteen stays empty."""
    spots = np.zeros_like(variance)
    cells: list[_Cell] = []
    kinds = [(width, strength) for width in WIDTHS_PX for strength in STRENGTHS]
    kinds.append((WIDTHS_PX[1], 0.0))
    channels, height, width_px = variance.shape
    number = 0
    for channel in range(channels):
        loudness = {width: _see_noise(laws[channel], width) for width in WIDTHS_PX}
        order = rng.permutation(len(kinds))
        for top in range(0, height - CELL_PX + 1, CELL_PX):
            for left in range(0, width_px - CELL_PX + 1, CELL_PX):
                width, strength = kinds[order[number % len(kinds)]]
                number += 1
                row, column = rng.uniform(CELL_PX / 2 - 4, CELL_PX / 2 + 4, 2)
                sign = rng.choice((-1.0, 1.0))
                here = slice(top, top + CELL_PX), slice(left, left + CELL_PX)
                middle = variance[channel, top + int(row), left + int(column)]
                level = math.sqrt(float(middle) * loudness[width])
                shown = find_height(strength or STRENGTHS[2], width)
                template = sign * shown * level * _draw_spot(row, column, width)
                cells.append((channel, top, left, width, strength, template))
                if strength:
                    spots[channel][here] += template
    return spots, cells


def _see_noise(law: NoiseLaw, width_px: float) -> float:
    """Power of the noise seen through a spot, over that of white noise of the same variance."""
    if law.spectrum is None or not law.correlated:
        return 1.0
    side = len(law.spectrum)
    place = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.fftfreq(side) ** 2
    seen = np.exp(-4.0 * math.pi**2 * width_px**2 * place)
    return float(np.sum(seen * law.spectrum) / np.sum(seen) / law.spectrum.mean())


def _draw_spot(row: float, column: float, width_px: float) -> FloatArray:
    """A Gaussian of height 1 in a cell."""
    down = np.arange(CELL_PX) - row
    across = np.arange(CELL_PX) - column
    return np.asarray(np.exp(-(down[:, None] ** 2 + across[None] ** 2) / (2.0 * width_px**2)))


def find_height(strength: float, width_px: float) -> float:
    """Of a spot of that ratio, in deviations of white noise: the ratio over the root of its squares."""
    return strength / (math.sqrt(math.pi) * width_px)
