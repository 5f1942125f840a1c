"""Whether a result has the intensities of its input, and whether each frame is the same scene.

The comparison is of means x, y of blocks, input and result. A denoiser may leave less variance than there
was, so x is regressed on y, whose residual is what was removed and knows nothing of what is left: x = (y -
offset) / gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from pairfree.files.checks import Check
from pairfree.files.dtypes import step_of
from pairfree.files.frames import find_strangers, thumbnail
from pairfree.files.image import Image, Index
from pairfree.files.spans import centre_of, length_of, split_into_blocks, split_into_spans

FloatArray = NDArray[np.float64]
Pair = tuple[FloatArray, FloatArray]
"""Of an input and of its result."""
BLOCK_PX = 16
"""Intensities are compared in means of blocks with this side."""
TILE_BLOCKS = 16
"""Blocks a side of a tile."""
GAIN = 0.01
"""A gain may differ from 1 by 1 % and some of its standard errors."""
SIGMAS = 3.0
"""Standard errors that the gain of a frame may differ by."""
TILE_SIGMAS = 6.0
"""Standard errors that the gain of one of many tiles may differ by."""
TILE_OFFSET_SIGMAS = 12.0
"""A tile's level may differ from its frame's by so many times the scatter of the frame's blocks."""
GAINS = ("gain by frame", "gain by tile")
"""Names of the checks that a change of scale fails."""
UNMEASURED = "not measured: too small or too little contrast"
LEAST_SIDE = 6
"""Blocks a side that a gain needs; small images have smaller blocks."""
BAND_BLOCKS = 64
"""Images are read in bands of so many blocks, or fewer."""
BAND_PX = 2**22
"""A band has no more pixels, unless a single block has."""
ROUNDING = 1e-9
"""A result whose blocks differ by less than this share of their level is constant."""
STRUCTURE = 0.5
"""Of the variance of blocks, means of 3 x 3 have a ninth where there is noise alone, in small images more."""
BEYOND_NOISE = 4.0
"""Times the variance that noise gives to blocks."""
MIDDLE_PX = 256
"""Side of the part of a plane whose neighbouring pixels are compared."""
FEW = 3.0
"""Degrees of freedom below which an error is known badly."""
RESCALED = 0.1
"""A frame's gain further from 1 than this is taken out before the levels of its tiles are compared."""


def check_intensities(a: Image, b: Image, any_scale: bool = False) -> list[Check]:
    """Compare gains, by frame and by tile, and whether each frame is the same scene.

    Parameters
    ----------
    a, b
        The input and its result, of one shape.
    any_scale
        Gains are stated; only blank frames and tiles are lost.
    """
    of_frames = _Gains(any_scale)
    of_tiles = _Gains(any_scale)
    thumbnails: list[Pair] = []
    frames = 0
    for name, (x, y), grain in _frames(a, b):
        frames += 1
        fit = _fit_gain(x, y, grain)
        if fit is not None:
            of_frames.add(name, fit)
        tiles = _tiles(x, y, block_px(a), fit, grain)
        for place, tile, moved in tiles:
            of_tiles.add(f"{name}, {place}", tile, moved)
        thumbnails.append((thumbnail(x), thumbnail(y)))
    strangers = find_strangers(thumbnails, step_of(a.dtype))
    own = "each frame its own"
    return [
        of_frames.check(GAINS[0], f"{of_frames.bad} of {frames} off"),
        of_tiles.check(GAINS[1], f"{of_tiles.bad} off"),
        Check("scene", own, strangers or own, not strangers),
    ]


@dataclass(frozen=True)
class Fit:
    """Gain of a result against its input."""

    gain: float
    """0 for a constant result of an input that is none."""
    error: float
    """How far it may be off: three standard errors by default, and what smoothing makes of it."""

    @property
    def blank(self) -> bool:
        """Whether nothing is left to see."""
        return self.gain == 0

    @property
    def off(self) -> bool:
        """Whether it is further from 1 than chance explains."""
        return abs(self.gain - 1) > GAIN + self.error


@dataclass(frozen=True)
class Grain:
    """How fine the values of a frame are."""

    step: float
    """Between two values: 1 for whole numbers."""
    variance: float
    """That blocks would have if the differences of neighbouring pixels were noise."""


@dataclass
class _Gains:
    """The gains of all frames, or of all tiles, as they come."""

    any_scale: bool
    worst: float = 1.0
    where: str = "none"
    measured: int = 0
    bad: int = 0

    def add(self, name: str, fit: Fit | None, moved: bool = False) -> None:
        """One more: its gain, where it could be measured, and whether its level left that of its frame."""
        if fit is None and not moved:
            return
        self.measured += 1
        self.bad += self._is_bad(fit, moved)
        if fit is None:
            return
        if abs(fit.gain - 1) > abs(self.worst - 1):
            self.worst, self.where = fit.gain, name

    def _is_bad(self, fit: Fit | None, moved: bool) -> bool:
        if self.any_scale:
            return fit is not None and fit.blank
        return moved or (fit is not None and fit.off)

    def check(self, name: str, counted: str) -> Check:
        """What became of the gains, under a name; ``counted`` tells in words how many are bad."""
        if not self.measured:
            return Check(name, "1", UNMEASURED, None)
        told = f"{self.worst:.4f} at worst ({self.where}), {counted}"
        if self.bad:
            return Check(name, "1", told, False)
        return Check(name, "1", told, None if self.any_scale else True)


def _frames(a: Image, b: Image) -> Iterator[tuple[str, Pair, Grain]]:
    """Name, means of blocks, and grain of each sample of each plane.

    Blocks with NaN or Inf on either side take the mean of the others, on both: they then say nothing.
    """
    for index in a.planes():
        name = f"frame {list(index)}" if index else "image"
        of_a, of_b = _block_means(a, b, index)
        grains = _find_grains(a, index)
        for sample, (x, y) in enumerate(zip(of_a, of_b, strict=True)):
            known = np.isfinite(x) & np.isfinite(y)
            full_name = f"{name}, sample {sample}" if a.colours > 1 else name
            yield full_name, (_filled(x, known), _filled(y, known)), grains[sample]


def _find_grains(image: Image, index: Index) -> list[Grain]:
    """Of each sample of a plane, from its middle."""
    rows, columns = centre_of(image.height, image.width, MIDDLE_PX)
    pixels = image.region(index, rows, columns).astype(np.float64)
    steps = np.diff(pixels, axis=1)
    step = step_of(image.dtype)
    grains = []
    for sample in range(image.colours):
        own = steps if steps.ndim == 2 else steps[..., sample]
        known = own[np.isfinite(own)]
        noise = float((known**2).mean()) / 2 if known.size else 0.0
        grains.append(Grain(step, noise / block_px(image) ** 2))
    return grains


def _block_means(a: Image, b: Image, index: Index) -> Pair:
    """Means of the blocks of a plane, (samples, down, across).

    Read in bands of rows. Blocks at the end may be smaller.
    """
    side = block_px(a)
    most_blocks = BAND_PX // (side * a.width)
    band_px = side * max(1, min(BAND_BLOCKS, most_blocks))
    of_a: list[FloatArray] = []
    of_b: list[FloatArray] = []
    for band in split_into_spans(a.height, band_px):
        of_a.append(_band_means(a, index, band, side, a.colours))
        of_b.append(_band_means(b, index, band, side, a.colours))
    return np.concatenate(of_a, axis=1), np.concatenate(of_b, axis=1)


def _band_means(image: Image, index: Index, band: slice, side: int, colours: int) -> FloatArray:
    """Means of the blocks of a band of rows: (samples, blocks down, blocks across)."""
    pixels = image.region(index, band, slice(0, image.width))
    values = pixels.astype(np.float64)
    if values.ndim == 2:
        values = values[None]
    else:
        values = np.moveaxis(values, -1, 0)[:colours]
    height = length_of(band)
    rows = np.arange(0, height, side)
    columns = np.arange(0, image.width, side)
    down = np.diff(np.append(rows, height))
    across = np.diff(np.append(columns, image.width))
    row_sums = np.add.reduceat(values, rows, axis=1)
    sums = np.add.reduceat(row_sums, columns, axis=2)
    means: FloatArray = sums / (down[:, None] * across)
    return means


def _filled(blocks: FloatArray, known: NDArray[np.bool_]) -> FloatArray:
    """What is not known is the mean of what is."""
    usual = blocks[known].mean() if known.any() else 0.0
    return np.where(known, blocks, usual)


def block_px(image: Image) -> int:
    """Side of a block of an image."""
    shorter = min(image.height, image.width)
    return max(1, min(BLOCK_PX, shorter // LEAST_SIDE))


def _fit_gain(x: FloatArray, y: FloatArray, grain: Grain, sigmas: float = SIGMAS) -> Fit | None:
    """Gain of blocks (h, w); None where there is too little contrast to tell.

    A constant result of an input that shows more than noise has gain 0. Of whole numbers, rounding makes
    contrast of its own.

    A denoiser that smooths takes contrast from small blocks and not from large ones, a changed scale from
    both alike: what is lost falls with the side of the block, so that the gain at 1 and at 3 blocks a side
    tells that of infinitely large ones.
    """
    if min(x.shape) < LEAST_SIDE or np.ptp(x) == 0:
        return None
    level = np.abs(y).max()
    if np.ptp(y) <= ROUNDING * level:
        return Fit(0.0, 0.0) if _has_structure(x, grain) else None
    if y.std() < grain.step:
        return None
    fine = _regress(x, y)
    coarse = _regress(_smoothed(x), _smoothed(y), independent=1 / 9)
    if fine is None or coarse is None:
        return None
    gain = 1.5 * coarse.gain - 0.5 * fine.gain
    error = 1.5 * sigmas * coarse.error + abs(coarse.gain - fine.gain)
    return Fit(gain, error)


def _has_structure(blocks: FloatArray, grain: Grain) -> bool:
    """Whether blocks vary more than neighbouring pixels explain, or means of blocks almost as they do."""
    together = _smoothed(blocks).var() > STRUCTURE * blocks.var()
    return bool(together or blocks.var() > BEYOND_NOISE * grain.variance)


def _regress(x: FloatArray, y: FloatArray, independent: float = 1.0) -> Fit | None:
    """Gain and one standard error of it, where that share of the values is independent.

    Of few values it is more, by Student's t.
    """
    x = x.ravel() - x.mean()
    y = y.ravel() - y.mean()
    power = float(y @ y)
    if power == 0:
        return None
    slope = float(x @ y) / power
    residual = x - slope * y
    freedom = max(1.0, x.size * independent - 2)
    left = float(residual @ residual)
    few = 1.0
    if freedom < FEW:
        few = float(stdtrit(freedom, ndtr(SIGMAS))) / SIGMAS
    error = few * math.sqrt(left / freedom / power)
    if slope <= SIGMAS * error:
        return None
    return Fit(1 / slope, error / slope**2)


def _smoothed(blocks: FloatArray) -> FloatArray:
    """Means of 3 x 3 neighbours, those inside: (h, w) -> (h - 2, w - 2)."""
    neighbours = sliding_window_view(blocks, (3, 3))
    return np.asarray(neighbours.mean((2, 3)))


def _tiles(
    x: FloatArray, y: FloatArray, side: int, frame: Fit | None, grain: Grain
) -> Iterator[tuple[str, Fit | None, bool]]:
    """(place, fit, whether its level has left that of the frame) of each tile of a frame that has several."""
    if max(x.shape) <= TILE_BLOCKS:
        return
    apart = x - y / _gain_to_undo(frame)
    middle = float(np.median(apart))
    deviation = np.abs(apart - middle)
    scatter = float(1.4826 * np.median(deviation))
    rounding = 1e-6 * float(np.abs(x).max())
    far = TILE_OFFSET_SIGMAS * scatter + rounding
    for part in split_into_blocks(x.shape, (TILE_BLOCKS, TILE_BLOCKS)):
        of_x, of_y = x[part], y[part]
        flat = np.ptp(of_y) == 0 and min(of_x.shape) > 2 and _has_structure(of_x, grain)
        moved = float(np.median(apart[part]) - middle)
        rows, columns = part
        top = rows.start * side
        left = columns.start * side
        fit = _fit_gain(of_x, of_y, grain, TILE_SIGMAS)
        yield f"row {top}, column {left}", fit, bool(flat or abs(moved) > far)


def _gain_to_undo(frame: Fit | None) -> float:
    """Of a frame whose scale was changed as a whole."""
    if frame is None or frame.gain <= 0:
        return 1.0
    kept = abs(frame.gain - 1) <= RESCALED
    return 1.0 if kept else frame.gain
