"""Dead leaves: shapes that lie over one another, of all sizes, as most pictures of the world are made.

References
----------
Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 41, 2001; for training a denoiser: Achddou,
Gousseau, Ladjal, "Fully synthetic training for image restoration tasks", CVIU 233, 2023.
"""

from __future__ import annotations

import numpy as np

from pairfree.scenes.drawing import Canvas, Pixels, draw_power_law
from pairfree.scenes.outlines import (
    Points,
    outline_bar,
    outline_blob,
    outline_ellipse,
    outline_polygon,
)

COVER = 2.5
"""Area of all leaves together, in areas of the canvas."""
FEWEST_LEAVES, MOST_LEAVES = 20, 4000
"""Smaller leaves than fit into the latter number are left out of large canvases."""


def draw_leaves(canvas: Canvas) -> None:
    """Draw leaves of density radius^-3 over the whole canvas, the last on top."""
    rng = canvas.rng
    smallest = canvas.draw_number(3.0, 24.0)
    largest = rng.uniform(0.3, 1.0) * canvas.side
    textures = draw_textures(canvas)
    spread = rng.uniform(0.3, 3.0)
    vividness = rng.choice([0.02, 0.08, 0.2])
    canvas.pixels[:] = canvas.draw_colour(rng.beta(spread, spread), vividness)
    count = count_leaves(canvas, smallest, largest)
    for radius in draw_power_law(rng, smallest, largest, count):
        inside = canvas.find_inside(draw_outline(canvas, radius))
        shape = inside.mask.shape
        colour = canvas.draw_colour(rng.beta(spread, spread), vividness)
        leaf = np.broadcast_to(colour, (*shape, canvas.channels))
        if textures and canvas.happens(0.7):
            texture = textures[rng.integers(len(textures))]
            strength = canvas.draw_number(0.01, 0.2)
            leaf = leaf + strength * cut_texture(rng, texture, shape)
        if canvas.happens(0.3):
            leaf = leaf + draw_shade(rng, shape)
        canvas.pixels[inside.part][inside.mask] = leaf[inside.mask]


def count_leaves(canvas: Canvas, smallest: float, largest: float) -> int:
    """How many leaves of these radii cover the canvas ``COVER`` times."""
    mean_squared_radius = 2.0 * smallest**2 * np.log(largest / smallest)
    area = canvas.height * canvas.width
    wanted = COVER * area / (np.pi * mean_squared_radius)
    return int(np.clip(wanted, FEWEST_LEAVES, MOST_LEAVES))


def draw_outline(canvas: Canvas, radius: float) -> Points:
    """Draw the outline of one leaf: an ellipse, a blob, a polygon or a bar."""
    rng = canvas.rng
    centre = canvas.draw_place()
    kind = rng.random()
    if kind < 0.35:
        return outline_ellipse(centre, radius, rng.uniform(0.3, 1.0), canvas.draw_angle())
    if kind < 0.65:
        return outline_blob(rng, centre, radius, rng.uniform(0.1, 0.5))
    if kind < 0.85:
        return outline_polygon(rng, centre, radius, int(rng.integers(3, 8)))
    thickness = canvas.draw_number(2.0, 2.0 + radius)
    return outline_bar(centre, 2.0 * radius, thickness, canvas.draw_angle())


def draw_textures(canvas: Canvas) -> list[Pixels]:
    """Draw textures that the leaves of a scene share, each as large as the canvas; sometimes none."""
    rng = canvas.rng
    textures = []
    for _ in range(rng.integers(4)):
        if canvas.happens(0.2):
            textures.append(canvas.draw_stripes())
        else:
            exponent = rng.uniform(0.5, 3.0)
            textures.append(canvas.draw_field(exponent, rng.uniform(0.5, 2.0)))
    return textures


def cut_texture(rng: np.random.Generator, texture: Pixels, shape: tuple[int, ...]) -> Pixels:
    """Cut a part out of a texture at a random place, (h, w, 1)."""
    height, width = shape
    top = rng.integers(texture.shape[0] - height + 1)
    left = rng.integers(texture.shape[1] - width + 1)
    return texture[top : top + height, left : left + width, None]


def draw_shade(rng: np.random.Generator, shape: tuple[int, ...]) -> Pixels:
    """Draw a slope of brightness over a leaf, (h, w, 1)."""
    down, across = rng.normal(0.0, 0.15, 2)
    rows = np.linspace(-0.5, 0.5, shape[0])[:, None]
    columns = np.linspace(-0.5, 0.5, shape[1])
    slope = down * rows + across * columns
    return np.asarray(slope[..., None], np.float32)
