"""What a CT or MR scanner shows: smooth regions with sharp borders, one inside the other."""

from __future__ import annotations

import numpy as np

from pairfree.scenes.drawing import Canvas
from pairfree.scenes.outlines import Points, outline_blob, outline_ellipse


def draw_organs(canvas: Canvas) -> None:
    """Draw a body on an empty background, organs of little contrast in it, vessels and bones."""
    rng = canvas.rng
    middle = np.array([canvas.height, canvas.width]) / 2.0
    centre = rng.normal(middle, canvas.side / 10)
    body_px = rng.uniform(0.35, 0.8) * canvas.side
    tissue = rng.uniform(0.3, 0.7)
    contrast = canvas.draw_number(0.01, 0.3)
    canvas.pixels[:] = rng.uniform(0.0, 0.2)
    fill(canvas, outline_blob(rng, centre, body_px, 0.1), tissue)
    for _ in range(rng.integers(3, 14)):
        place = rng.normal(centre, body_px / 2)
        share = canvas.draw_number(0.05, 0.4)
        wobble = rng.uniform(0.05, 0.3)
        grey = rng.normal(tissue, contrast)
        outline = outline_blob(rng, place, share * canvas.side, wobble)
        fill(canvas, outline, grey)
    for _ in range(canvas.draw_count(2, 60)):
        place = rng.normal(centre, body_px / 2)
        radius = canvas.draw_number(2.0, 24.0)
        ratio = rng.uniform(0.3, 1.0)
        angle = canvas.draw_angle()
        grey = rng.normal(tissue, 2.0 * contrast)
        outline = outline_ellipse(place, radius, ratio, angle)
        fill(canvas, outline, grey)
    for _ in range(rng.integers(6)):
        place = rng.normal(centre, body_px / 1.5)
        radius = canvas.draw_number(6.0, canvas.side / 10)
        grey = rng.uniform(0.8, 1.0)
        outline = outline_blob(rng, place, radius, 0.3)
        fill(canvas, outline, grey)
    clouds = canvas.draw_field(3.0, 4.0)
    strength = canvas.draw_number(0.001, 0.03)
    canvas.pixels[:] += strength * clouds[..., None]


def fill(canvas: Canvas, outline: Points, grey: float) -> None:
    """Fill an outline evenly."""
    inside = canvas.find_inside(outline)
    colour = canvas.draw_colour(grey, 0.02)
    canvas.pixels[inside.part][inside.mask] = colour
