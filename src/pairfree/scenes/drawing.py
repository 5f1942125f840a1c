"""What scenes are drawn on: a canvas that knows its size and its randomness.

Scenes are drawn on a canvas of twice their size and halved at the end, so that edges fall between pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw
from scipy import ndimage

from pairfree.scenes.outlines import TURN, Points, corners_of, directions_of

Pixels = NDArray[np.float32]
"""Values of a picture, about 0 to 1: (H, W) or (H, W, C)."""

OVERSAMPLING = 2
"""Pixels of the canvas along a pixel of the scene."""
TINY = 1e-12
"""In place of a deviation of 0."""


@dataclass(frozen=True)
class Canvas:
    """Where a scene is drawn, and what its randomness comes from."""

    pixels: Pixels
    """(2 H, 2 W, C), drawn upon in place."""
    rng: np.random.Generator
    """Randomness of this scene."""

    @property
    def height(self) -> int:
        """Rows of the canvas."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of the canvas."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1 for grey scenes, 3 for coloured ones."""
        return int(self.pixels.shape[2])

    @property
    def side(self) -> int:
        """The shorter of height and width."""
        return min(self.height, self.width)

    def happens(self, probability: float) -> bool:
        """Whether something happens in this scene."""
        return bool(self.rng.random() < probability)

    def draw_number(self, low: float, high: float) -> float:
        """Draw a number from ``low`` to ``high`` whose logarithm is uniform."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def draw_count(self, low: int, high: int) -> int:
        """Draw a whole number from ``low`` to ``high`` whose logarithm is about uniform."""
        return int(self.draw_number(low, high + 1))

    def draw_angle(self) -> float:
        """Draw a direction, 0 to pi."""
        return self.rng.uniform(0.0, np.pi)

    def draw_place(self) -> Points:
        """Draw a place anywhere on the canvas, (2,)."""
        return self.rng.random(2) * (self.height, self.width)

    def draw_colour(self, grey: float, vividness: float) -> Pixels:
        """Draw a colour around a grey value, (C,): the channels leave it by normal steps of mean 0."""
        if self.channels == 1:
            return np.array([grey], np.float32)
        steps = self.rng.normal(0.0, vividness, self.channels)
        return np.asarray(grey + steps - steps.mean(), np.float32)

    def draw_field(self, exponent: float, smooth_px: float = 0.0) -> Pixels:
        """Draw a random field with the power spectrum 1 / f^exponent.

        Parameters
        ----------
        exponent
            0 is white, 2 looks like clouds, 3 is smooth.
        smooth_px
            Deviation of a Gaussian that the field is smoothed with besides, pixels of the canvas.

        Returns
        -------
        ndarray
            (2 H, 2 W) of mean 0 and deviation 1; its ends go together.
        """
        rows = np.fft.fftfreq(self.height)[:, None]
        columns = np.fft.rfftfreq(self.width)
        squared = rows**2 + columns**2
        squared[0, 0] = 1.0
        amplitude = np.exp(-2.0 * (np.pi * smooth_px) ** 2 * squared)
        amplitude *= squared ** (-exponent / 4.0)
        amplitude[0, 0] = 0.0
        shape = (self.height, self.width)
        white = self.rng.standard_normal(shape, np.float32)
        spectrum = amplitude * np.fft.rfft2(white)
        field = np.fft.irfft2(spectrum, s=shape)
        deviation = max(float(field.std()), TINY)
        return np.asarray(field / deviation, np.float32)

    def draw_stripes(self) -> Pixels:
        """Draw straight stripes of one period and direction, (2 H, 2 W), from -1 to 1, soft or hard."""
        period = self.draw_number(6.0, 64.0)
        angle = self.draw_angle()
        rows = np.arange(self.height)[:, None]
        columns = np.arange(self.width)
        along = rows * np.sin(angle) + columns * np.cos(angle)
        phase = 2.0 * self.draw_angle()
        wave = np.sin(TURN / period * along + phase)
        steepness = self.draw_number(0.5, 8.0)
        return np.asarray(np.tanh(steepness * wave), np.float32)

    def draw_walk(self, steps: int, bend: float) -> Points:
        """Draw a smooth curve of steps of 4 px; ``bend`` is the deviation of a step's turn in radians."""
        turns = self.rng.normal(0.0, bend, steps)
        slow_turns = 3.0 * ndimage.gaussian_filter1d(turns, 3.0)
        start = self.draw_place()
        heading = 2.0 * self.draw_angle()
        strides = directions_of(heading + np.cumsum(slow_turns))
        return start + 4.0 * np.cumsum(strides, axis=0)

    def stroke(self, curve: Points, thickness_px: int) -> Pixels:
        """Draw a curve with a pen of some thickness, (2 H, 2 W), 0 and 1."""
        picture = Picture.new("L", (self.width, self.height))
        pen = ImageDraw.Draw(picture)
        corners = corners_of(curve)
        pen.line(corners, fill=1, width=thickness_px, joint="curve")
        return np.asarray(picture, np.float32)

    def find_inside(self, outline: Points) -> Inside:
        """Find the pixels inside a closed outline, which may lie partly or wholly outside of the canvas."""
        first = np.maximum(np.floor(outline.min(axis=0)), 0.0)
        last = np.ceil(outline.max(axis=0)) + 1.0
        end = np.minimum(last, (self.height, self.width))
        top, left = first.astype(int).tolist()
        bottom, right = np.maximum(end, first).astype(int).tolist()
        mask = np.zeros((bottom - top, right - left), bool)
        if mask.size:
            picture = Picture.new("L", (right - left, bottom - top))
            pen = ImageDraw.Draw(picture)
            corners = corners_of(outline - first)
            pen.polygon(corners, fill=1)
            mask = np.asarray(picture, bool)
        rows = slice(top, bottom)
        columns = slice(left, right)
        return Inside((rows, columns), mask)


@dataclass(frozen=True)
class Inside:
    """The pixels inside an outline."""

    part: tuple[slice, slice]
    """Rows and columns of the smallest part of the canvas that holds it."""
    mask: NDArray[np.bool_]
    """Which pixels of this part lie inside, (h, w)."""


def draw_power_law(
    rng: np.random.Generator, low: float, high: float, count: int
) -> NDArray[np.float64]:
    """Draw sizes with density size^-3, (count,): each octave covers the same area."""
    most, least = low**-2.0, high**-2.0
    share = rng.random(count)
    return np.asarray(1.0 / np.sqrt(most - share * (most - least)))


def halve(pixels: Pixels) -> Pixels:
    """Means of 2 x 2 pixels: (2 H, 2 W, C) -> (H, W, C)."""
    height, width, channels = pixels.shape
    cells = pixels.reshape(height // 2, 2, width // 2, 2, channels)
    return np.asarray(cells.mean(axis=(1, 3)), np.float32)
