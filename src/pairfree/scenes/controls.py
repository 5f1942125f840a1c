"""What no organism shows: letters, grids, bars and stars, for straight edges and patterns."""

from __future__ import annotations

import string
from collections.abc import Callable

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from pairfree.scenes.drawing import Canvas, Pixels

LETTERS = list(string.ascii_letters + string.digits)


def draw_controls(canvas: Canvas) -> None:
    """Draw one pattern, or two side by side, in two colours."""
    rng = canvas.rng
    pattern = draw_pattern(canvas)
    if canvas.happens(0.3):
        cut = rng.integers(canvas.width)
        pattern[:, cut:] = draw_pattern(canvas)[:, cut:]
    grey = rng.random()
    other_grey = (grey + rng.uniform(0.1, 0.9)) % 1.0
    ground = canvas.draw_colour(grey, 0.1)
    ink = canvas.draw_colour(other_grey, 0.1)
    canvas.pixels[:] = ground + (ink - ground) * pattern[..., None]
    if canvas.happens(0.5):
        shade = canvas.draw_field(3.0, 8.0)
        canvas.pixels[:] += canvas.draw_number(0.01, 0.1) * shade[..., None]


def draw_pattern(canvas: Canvas) -> Pixels:
    """Draw one of the patterns, (2 H, 2 W), 0 to 1."""
    patterns: list[Callable[[Canvas], Pixels]] = [
        draw_text,
        draw_lines,
        draw_squares,
        draw_star,
        draw_bars,
    ]
    chosen = patterns[canvas.rng.integers(len(patterns))]
    return chosen(canvas)


def draw_text(canvas: Canvas) -> Pixels:
    """Draw lines of letters of one size."""
    rng = canvas.rng
    size_px = canvas.draw_count(14, 80)
    font = ImageFont.load_default(size_px)
    picture = Picture.new("L", (canvas.width, canvas.height))
    pen = ImageDraw.Draw(picture)
    count = 2 + 2 * canvas.width // size_px
    for top in range(0, canvas.height, int(1.3 * size_px)):
        line = "".join(rng.choice(LETTERS, count))
        left = rng.uniform(-size_px, size_px)
        pen.text((left, top), line, fill=255, font=font)
    return np.array(picture, np.float32) / 255.0


def draw_lines(canvas: Canvas) -> Pixels:
    """Draw lines along rows and columns, one period apart."""
    rows, columns = draw_phases(canvas)
    share = canvas.rng.uniform(0.1, 0.5)
    return np.logical_or.outer(rows < share, columns < share).astype(np.float32)


def draw_squares(canvas: Canvas) -> Pixels:
    """Draw a chess board."""
    rows, columns = draw_phases(canvas)
    return np.not_equal.outer(rows < 0.5, columns < 0.5).astype(np.float32)


def draw_phases(canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Draw a period; where each row and each column lies in it, 0 to 1."""
    period_px = canvas.draw_number(8.0, 64.0)
    rows = np.arange(canvas.height) / period_px + canvas.rng.random()
    columns = np.arange(canvas.width) / period_px + canvas.rng.random()
    return rows % 1.0, columns % 1.0


def draw_star(canvas: Canvas) -> Pixels:
    """Draw wedges around a point, ever finer towards it."""
    row, column = canvas.draw_place()
    down = np.arange(canvas.height)[:, None] - row
    across = np.arange(canvas.width) - column
    wedges = canvas.rng.integers(4, 40)
    wave = np.sin(wedges * np.arctan2(down, across))
    return np.asarray(wave > 0, np.float32)


def draw_bars(canvas: Canvas) -> Pixels:
    """Draw stripes of one direction."""
    return 0.5 + 0.5 * canvas.draw_stripes()
