"""Whether a result has the intensities of its input: gain and offset by frame and by tile, and whether each frame is the same scene."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairfree.files.image import Image

FloatArray = NDArray[np.float64]
BLOCK_PX, TILE_BLOCKS = 16, 16
"""Intensities are compared in means of blocks; a tile has 16 x 16 of them."""
GAIN, SIGMAS, TILE_SIGMAS, TILE_OFFSET_SIGMAS = 0.01, 3.0, 6.0, 12.0
"""A gain may differ from 1 by 1 % and by so many of its standard errors: of a frame, of one of many tiles; and a tile's level, in the
scatter of its frame's blocks."""
GAINS = ("gain by frame", "gain by tile")
"""Names of the checks that a change of scale fails."""
UNMEASURED = "not measured: too small or too little contrast"
LEAST_SIDE = 6
"""Blocks a side that a gain needs; small images have smaller blocks."""
BAND_BLOCKS, BAND_PX = 64, 2**22
"""Images are read in bands of so many blocks, or of fewer, so that a band has no more pixels than that if it can."""
LEAST_ALIKE = 0.1
FRAME_SIDE = 24
"""Frames are told apart by thumbnails of so many blocks a side."""


@dataclass(frozen=True)
class Check:
    """One property.  before, after   in words;  kept   None where it was only stated"""

    name: str
    before: str
    after: str
    kept: bool | None


def same(name: str, before: Any, after: Any) -> Check:
    return Check(name, words(before), words(after), bool(before == after))


def words(value: Any) -> str:
    text = " ".join(str(value).split())
    return (text[:60] + " ...") if len(text) > 64 else text or "none"


def intensities(a: Image, b: Image, any_scale: bool = False) -> list[Check]:
    """Gain and offset of the result against its input, by frame and by tile, and whether each frame is the same scene.

    From means x, y of blocks, input and result. A denoiser may leave less variance than there was, so x is regressed on y, whose residual
    is what was removed and knows nothing of what is left: x = (y - offset) / gain.

    any_scale   gains are stated; only blank frames and tiles are lost
    """
    worst_frame, worst_tile, levels = (1.0, "none"), (1.0, "none"), []
    bad_frames, bad_tiles, frames, fitted_frames, fitted_tiles = 0, 0, 0, 0, 0
    thumbnails: list[tuple[FloatArray, FloatArray]] = []
    for index in a.planes():
        for sample, x, y in _blocks(a, b, index):
            name = f"frame {list(index)}" if index else "image"
            name += f", sample {sample}" if a.colours > 1 else ""
            frames += 1
            fit = _fit(x, y)
            levels.append(float((y - x).mean()))
            if fit is not None:
                fitted_frames += 1
                if abs(fit.gain - 1) > abs(worst_frame[0] - 1):
                    worst_frame = fit.gain, name
                bad_frames += fit.blank if any_scale else fit.off
            for place, found, off in _tiles(x, y, block_px(a), fit):
                fitted_tiles += found is not None or off
                if found is not None and abs(found.gain - 1) > abs(worst_tile[0] - 1):
                    worst_tile = found.gain, f"{name}, {place}"
                bad_tiles += (
                    (found is not None and found.blank)
                    if any_scale
                    else (off or (found is not None and found.off))
                )
            thumbnails.append((_thumbnail(x), _thumbnail(y)))
    spread = f"{min(levels):.4g} .. {max(levels):.4g}" if len(levels) > 1 else f"{levels[0]:.4g}"
    moved = _strangers(thumbnails)
    kept = {True: None if any_scale else True, False: False}
    of_frames = f"{worst_frame[0]:.4f} at worst ({worst_frame[1]}), {bad_frames} of {frames} off"
    of_tiles = f"{worst_tile[0]:.4f} at worst ({worst_tile[1]}), {bad_tiles} off"
    return [
        Check(GAINS[0], "1", of_frames, kept[bad_frames == 0])
        if fitted_frames
        else Check(GAINS[0], "1", UNMEASURED, None),
        Check(GAINS[1], "1", of_tiles, kept[bad_tiles == 0])
        if fitted_tiles
        else Check(GAINS[1], "1", UNMEASURED, None),
        Check("offset", "0", f"{spread} intensity units", None),
        Check("scene", "each frame its own", moved or "each frame its own", not moved),
    ]


@dataclass(frozen=True)
class Fit:
    """gain   of the result;  error   how far it may be off: three standard errors by default, and what smoothing makes of it"""

    gain: float
    error: float

    @property
    def blank(self) -> bool:
        return self.gain == 0

    @property
    def off(self) -> bool:
        return abs(self.gain - 1) > GAIN + self.error


def _blocks(a: Image, b: Image, index: tuple[int, ...]) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    """(sample, means of the input's blocks, of the result's); blocks at the end may be smaller. Read in bands of rows.

    Blocks with NaN or Inf on either side take the mean of the others, on both: they then say nothing.
    """
    side = block_px(a)
    columns = np.arange(0, a.width, side)
    across = np.diff(np.append(columns, a.width))
    band_px = side * max(1, min(BAND_BLOCKS, BAND_PX // (side * a.width)))
    found: list[list[FloatArray]] = [[], []]
    for top in range(0, a.height, band_px):
        band = slice(top, min(top + band_px, a.height))
        rows = np.arange(0, band.stop - band.start, side)
        down = np.diff(np.append(rows, band.stop - band.start))
        for bands, image in zip(found, (a, b), strict=True):
            values = image.region(index, band, slice(0, image.width)).astype(np.float64)
            values = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)[: a.colours]
            bands.append(
                np.add.reduceat(np.add.reduceat(values, rows, axis=1), columns, axis=2)
                / (down[:, None] * across)
            )
    x, y = (np.concatenate(bands, axis=1) for bands in found)
    for sample in range(a.colours):
        known = np.isfinite(x[sample]) & np.isfinite(y[sample])
        first, second = (
            np.where(known, one[sample], one[sample][known].mean() if known.any() else 0.0) for one in (x, y)
        )
        yield sample, first, second


def block_px(image: Image) -> int:
    return max(1, min(BLOCK_PX, min(image.height, image.width) // LEAST_SIDE))


def _fit(x: FloatArray, y: FloatArray, sigmas: float = SIGMAS) -> Fit | None:
    """Gain of blocks (h, w); None where there is too little contrast to tell. A constant result of an input that is none has gain 0.

    A denoiser that smooths takes contrast from small blocks and not from large ones, a changed scale from both alike: what is lost falls
    with the side of the block, so that the gain at 1 and at 3 blocks a side tells that of infinitely large ones.
    """
    if min(x.shape) < LEAST_SIDE or np.ptp(x) == 0:
        return None
    if np.ptp(y) <= 1e-9 * np.abs(y).max():
        return Fit(0.0, 0.0)
    fine, coarse = _gain(x, y), _gain(_smoothed(x), _smoothed(y), independent=1 / 9)
    if fine is None or coarse is None:
        return None
    return Fit(1.5 * coarse[0] - 0.5 * fine[0], 1.5 * sigmas * coarse[1] + abs(coarse[0] - fine[0]))


def _gain(x: FloatArray, y: FloatArray, independent: float = 1.0) -> tuple[float, float] | None:
    """Gain and its standard error, where that share of the values is independent."""
    x, y = x.ravel() - x.mean(), y.ravel() - y.mean()
    power = float(y @ y)
    slope = float(x @ y) / power
    residual = x - slope * y
    error = math.sqrt(float(residual @ residual) / max(1.0, x.size * independent - 2) / power)
    return None if slope <= SIGMAS * error else (1 / slope, error / slope**2)


def _smoothed(blocks: FloatArray) -> FloatArray:
    """Means of 3 x 3 neighbours, those inside: (h, w) -> (h - 2, w - 2)."""
    return np.asarray(np.lib.stride_tricks.sliding_window_view(blocks, (3, 3)).mean((2, 3)))


def _tiles(
    x: FloatArray, y: FloatArray, side: int, frame: Fit | None
) -> Iterator[tuple[str, Fit | None, bool]]:
    """(place, fit, whether its level has left that of the frame) of each tile of a frame that has several."""
    if max(x.shape) <= TILE_BLOCKS:
        return
    apart = x - y / (
        frame.gain if frame is not None and frame.gain > 0 and abs(frame.gain - 1) > 0.1 else 1.0
    )
    middle = float(np.median(apart))
    scatter = float(1.4826 * np.median(np.abs(apart - middle)))
    for top in range(0, x.shape[0], TILE_BLOCKS):
        for left in range(0, x.shape[1], TILE_BLOCKS):
            part = slice(top, top + TILE_BLOCKS), slice(left, left + TILE_BLOCKS)
            flat = bool(np.ptp(y[part]) == 0 and np.ptp(x[part]) > 0)
            away = abs(float(np.median(apart[part]) - middle)) > TILE_OFFSET_SIGMAS * scatter + 1e-6 * float(
                np.abs(x).max()
            )
            yield f"row {top * side}, column {left * side}", _fit(x[part], y[part], TILE_SIGMAS), flat or away


def _thumbnail(blocks: FloatArray) -> FloatArray:
    """At most ``FRAME_SIDE`` means a side, of zero mean and unit length; all zero where there is nothing to see."""
    for axis in (0, 1):
        starts = np.unique(
            np.linspace(0, blocks.shape[axis], min(FRAME_SIDE, blocks.shape[axis]), endpoint=False).astype(
                int
            )
        )
        counts = np.diff(np.append(starts, blocks.shape[axis]))
        blocks = np.add.reduceat(blocks, starts, axis=axis) / (counts[:, None] if axis == 0 else counts)
    flat = np.nan_to_num((blocks - blocks.mean()).ravel())
    length = float(np.linalg.norm(flat))
    return flat / length if length > 0 else flat


def _strangers(pairs: list[tuple[FloatArray, FloatArray]]) -> str:
    """What is wrong where a result is much nearer to another frame than to its own, or like none."""
    x, y = (np.stack([pair[i] for pair in pairs]) for i in (0, 1))
    seen = (np.linalg.norm(x, axis=1) > 0) & (np.linalg.norm(y, axis=1) > 0)
    alike = np.einsum("ij,ij->i", x, y)
    for start in range(0, len(x), 256):
        apart = 1 - y[start : start + 256] @ x.T  # half the squared distance of vectors of unit length
        for frame, row in enumerate(apart, start):
            nearest = int(row.argmin())
            if seen[frame] and nearest != frame and row[nearest] < 0.25 * row[frame]:
                return f"frame {frame} shows frame {nearest}"
    lost = np.flatnonzero(seen & (alike < LEAST_ALIKE))
    return f"frame {lost[0]} shows something else (correlation {alike[lost[0]]:.2f})" if lost.size else ""
