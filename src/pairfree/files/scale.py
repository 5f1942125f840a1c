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
from numpy.typing import NDArray

from pairfree.files.checks import Check
from pairfree.files.image import Image

FloatArray = NDArray[np.float64]
BLOCK_PX, TILE_BLOCKS = 16, 16
"""Intensities are compared in means of blocks; a tile has 16 x 16 of them."""
GAIN, SIGMAS, TILE_SIGMAS, TILE_OFFSET_SIGMAS = 0.01, 3.0, 6.0, 12.0
"""A gain may differ from 1 by 1 % and by so many of its standard errors: of a frame, of one of many tiles;
and a tile's level, in the scatter of its frame's blocks."""
GAINS = ("gain by frame", "gain by tile")
"""Names of the checks that a change of scale fails."""
UNMEASURED = "not measured: too small or too little contrast"
LEAST_SIDE = 6
"""Blocks a side that a gain needs; small images have smaller blocks."""
BAND_BLOCKS, BAND_PX = 64, 2**22
"""Images are read in bands of so many blocks, fewer where a band would have more than so many pixels."""
ROUNDING = 1e-9
"""A result whose blocks differ by less than this share of their level is constant."""
RESCALED = 0.1
"""A frame's gain further from 1 than this is taken out before the levels of its tiles are compared."""
LEAST_ALIKE = 0.1
"""Correlation of a frame with its result, below which they show different things."""
NEARER = 0.25
"""A result shows another frame where its distance to that one is less than this share of that to its own."""
FRAME_SIDE = 24
"""Frames are told apart by thumbnails of so many blocks a side."""
AT_ONCE = 256
"""Thumbnails that are compared with all others in one product."""


def check_intensities(a: Image, b: Image, any_scale: bool = False) -> list[Check]:
    """Compare gain and offset, by frame and by tile, and whether each frame is the same scene.

    Parameters
    ----------
    a, b
        The input and its result, of one shape.
    any_scale
        Gains are stated; only blank frames and tiles are lost.
    """
    of_frames, of_tiles = _Gains(any_scale), _Gains(any_scale)
    levels: list[float] = []
    thumbnails: list[tuple[FloatArray, FloatArray]] = []
    for name, x, y in _frames(a, b):
        levels.append(float((y - x).mean()))
        fit = _fit_gain(x, y)
        if fit is not None:
            of_frames.add(name, fit)
        for place, tile, moved in _tiles(x, y, block_px(a), fit):
            of_tiles.add(f"{name}, {place}", tile, moved)
        thumbnails.append((_thumbnail(x), _thumbnail(y)))
    strangers = _find_strangers(thumbnails)
    return [
        of_frames.check(GAINS[0], f"{of_frames.bad} of {len(levels)} off"),
        of_tiles.check(GAINS[1], f"{of_tiles.bad} off"),
        Check("offset", "0", f"{_range_text(levels)} intensity units", None),
        Check("scene", "each frame its own", strangers or "each frame its own", not strangers),
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
        return self.gain == 0

    @property
    def off(self) -> bool:
        return abs(self.gain - 1) > GAIN + self.error


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
        if fit is not None and abs(fit.gain - 1) > abs(self.worst - 1):
            self.worst, self.where = fit.gain, name
        self.bad += self._is_bad(fit, moved)

    def _is_bad(self, fit: Fit | None, moved: bool) -> bool:
        if self.any_scale:
            return fit is not None and fit.blank
        return moved or (fit is not None and fit.off)

    def check(self, name: str, counted: str) -> Check:
        if not self.measured:
            return Check(name, "1", UNMEASURED, None)
        kept: bool | None = self.bad == 0
        if kept and self.any_scale:
            kept = None
        return Check(name, "1", f"{self.worst:.4f} at worst ({self.where}), {counted}", kept)


def _range_text(levels: list[float]) -> str:
    if len(levels) == 1:
        return f"{levels[0]:.4g}"
    return f"{min(levels):.4g} .. {max(levels):.4g}"


def _frames(a: Image, b: Image) -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """(name, means of the input's blocks, of the result's) of each sample of each plane."""
    for index in a.planes():
        name = f"frame {list(index)}" if index else "image"
        for sample, x, y in _blocks(a, b, index):
            yield f"{name}, sample {sample}" if a.colours > 1 else name, x, y


def _blocks(
    a: Image, b: Image, index: tuple[int, ...]
) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    """(sample, means of the input's blocks, of the result's); blocks at the end may be smaller.

    Read in bands of rows.

    Blocks with NaN or Inf on either side take the mean of the others, on both: they then say nothing.
    """
    side = block_px(a)
    band_px = side * max(1, min(BAND_BLOCKS, BAND_PX // (side * a.width)))
    bands_of_a, bands_of_b = [], []
    for top in range(0, a.height, band_px):
        band = slice(top, min(top + band_px, a.height))
        bands_of_a.append(_band_means(a, index, band, side, a.colours))
        bands_of_b.append(_band_means(b, index, band, side, a.colours))
    x, y = np.concatenate(bands_of_a, axis=1), np.concatenate(bands_of_b, axis=1)
    for sample in range(a.colours):
        known = np.isfinite(x[sample]) & np.isfinite(y[sample])
        yield sample, _filled(x[sample], known), _filled(y[sample], known)


def _band_means(
    image: Image, index: tuple[int, ...], band: slice, side: int, colours: int
) -> FloatArray:
    """Means of the blocks of a band of rows: (samples, blocks down, blocks across)."""
    values = image.region(index, band, slice(0, image.width)).astype(np.float64)
    values = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)[:colours]
    rows, columns = np.arange(0, band.stop - band.start, side), np.arange(0, image.width, side)
    down = np.diff(np.append(rows, band.stop - band.start))
    across = np.diff(np.append(columns, image.width))
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=1), columns, axis=2)
    means: FloatArray = sums / (down[:, None] * across)
    return means


def _filled(blocks: FloatArray, known: NDArray[np.bool_]) -> FloatArray:
    """What is not known is the mean of what is."""
    usual = blocks[known].mean() if known.any() else 0.0
    return np.where(known, blocks, usual)


def block_px(image: Image) -> int:
    """Side of a block of an image."""
    return max(1, min(BLOCK_PX, min(image.height, image.width) // LEAST_SIDE))


def _fit_gain(x: FloatArray, y: FloatArray, sigmas: float = SIGMAS) -> Fit | None:
    """Gain of blocks (h, w); None where there is too little contrast to tell.

    A constant result of an input that is none has gain 0.

    A denoiser that smooths takes contrast from small blocks and not from large ones, a changed scale from
    both alike: what is lost falls with the side of the block, so that the gain at 1 and at 3 blocks a side
    tells that of infinitely large ones.
    """
    if min(x.shape) < LEAST_SIDE or np.ptp(x) == 0:
        return None
    if np.ptp(y) <= ROUNDING * np.abs(y).max():
        return Fit(0.0, 0.0)
    fine = _regress(x, y)
    coarse = _regress(_smoothed(x), _smoothed(y), independent=1 / 9)
    if fine is None or coarse is None:
        return None
    gain = 1.5 * coarse[0] - 0.5 * fine[0]
    return Fit(gain, 1.5 * sigmas * coarse[1] + abs(coarse[0] - fine[0]))


def _regress(x: FloatArray, y: FloatArray, independent: float = 1.0) -> tuple[float, float] | None:
    """Gain and its standard error, where that share of the values is independent."""
    x, y = x.ravel() - x.mean(), y.ravel() - y.mean()
    power = float(y @ y)
    slope = float(x @ y) / power
    residual = x - slope * y
    freedom = max(1.0, x.size * independent - 2)
    error = math.sqrt(float(residual @ residual) / freedom / power)
    if slope <= SIGMAS * error:
        return None
    return 1 / slope, error / slope**2


def _smoothed(blocks: FloatArray) -> FloatArray:
    """Means of 3 x 3 neighbours, those inside: (h, w) -> (h - 2, w - 2)."""
    return np.asarray(np.lib.stride_tricks.sliding_window_view(blocks, (3, 3)).mean((2, 3)))


def _tiles(
    x: FloatArray, y: FloatArray, side: int, frame: Fit | None
) -> Iterator[tuple[str, Fit | None, bool]]:
    """(place, fit, whether its level has left that of the frame) of each tile of a frame that has several."""
    if max(x.shape) <= TILE_BLOCKS:
        return
    apart = x - y / _gain_to_undo(frame)
    middle = float(np.median(apart))
    scatter = float(1.4826 * np.median(np.abs(apart - middle)))
    far = TILE_OFFSET_SIGMAS * scatter + 1e-6 * float(np.abs(x).max())
    for top in range(0, x.shape[0], TILE_BLOCKS):
        for left in range(0, x.shape[1], TILE_BLOCKS):
            part = slice(top, top + TILE_BLOCKS), slice(left, left + TILE_BLOCKS)
            flat = bool(np.ptp(y[part]) == 0 and np.ptp(x[part]) > 0)
            away = abs(float(np.median(apart[part]) - middle)) > far
            place = f"row {top * side}, column {left * side}"
            yield place, _fit_gain(x[part], y[part], TILE_SIGMAS), flat or away


def _gain_to_undo(frame: Fit | None) -> float:
    """Of a frame whose scale was changed as a whole."""
    if frame is None or frame.gain <= 0 or abs(frame.gain - 1) <= RESCALED:
        return 1.0
    return frame.gain


def _thumbnail(blocks: FloatArray) -> FloatArray:
    """At most ``FRAME_SIDE`` means a side, of zero mean and unit length; zero where nothing is seen."""
    means = _means_along(_means_along(blocks, 0), 1)
    flat = np.nan_to_num((means - means.mean()).ravel())
    length = float(np.linalg.norm(flat))
    return flat / length if length > 0 else flat


def _means_along(blocks: FloatArray, axis: int) -> FloatArray:
    """Means of at most ``FRAME_SIDE`` groups of neighbours along an axis."""
    size = blocks.shape[axis]
    starts = np.linspace(0, size, min(FRAME_SIDE, size), endpoint=False).astype(int)
    starts = np.unique(starts)
    counts = np.diff(np.append(starts, size))
    sums = np.add.reduceat(blocks, starts, axis=axis)
    means: FloatArray = sums / (counts[:, None] if axis == 0 else counts)
    return means


def _find_strangers(pairs: list[tuple[FloatArray, FloatArray]]) -> str:
    """What is wrong where a result is much nearer to another frame than to its own, or like none."""
    x, y = np.stack([first for first, _ in pairs]), np.stack([second for _, second in pairs])
    visible = (np.linalg.norm(x, axis=1) > 0) & (np.linalg.norm(y, axis=1) > 0)
    alike = np.einsum("ij,ij->i", x, y)
    for start in range(0, len(x), AT_ONCE):
        apart = (
            1 - y[start : start + AT_ONCE] @ x.T
        )  # half the squared distance of vectors of unit length
        for frame, distances in enumerate(apart, start):
            nearest = int(distances.argmin())
            nearer = distances[nearest] < NEARER * distances[frame]
            if visible[frame] and nearest != frame and nearer:
                return f"frame {frame} shows frame {nearest}"
    lost = np.flatnonzero(visible & (alike < LEAST_ALIKE))
    if not lost.size:
        return ""
    return f"frame {lost[0]} shows something else (correlation {alike[lost[0]]:.2f})"
