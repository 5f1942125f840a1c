"""What a fluorescence microscope shows: filaments, spots and nuclei that shine on a dark background."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pairfree.scenes.drawing import TINY, Canvas, Pixels
from pairfree.scenes.outlines import Points, outline_blob


def draw_filaments(canvas: Canvas) -> None:
    """Draw curved fibres, sharp and out of focus, alone or in a dense net."""
    rng = canvas.rng
    draw_haze(canvas)
    for _ in range(rng.integers(1, 4)):
        layer = draw_dark(canvas)
        thickness_px = int(rng.integers(1, 6))
        bend = canvas.draw_number(0.005, 0.15)
        for _ in range(canvas.draw_count(3, 60)):
            steps = canvas.draw_count(20, 400)
            brightness = canvas.draw_number(0.2, 1.0)
            curve = canvas.draw_walk(steps, bend)
            layer += brightness * canvas.stroke(curve, thickness_px)
        add_layer(canvas, layer, 1.0, 8.0)


def draw_spots(canvas: Canvas) -> None:
    """Draw small spots of different brightness, as vesicles and molecules look, scattered or in clusters."""
    rng = canvas.rng
    draw_haze(canvas)
    for _ in range(rng.integers(1, 4)):
        layer = draw_dark(canvas)
        count = canvas.draw_count(10, 2000)
        spread = rng.uniform(0.2, 1.0)
        places = draw_places(canvas, count)
        brightness = rng.lognormal(0.0, spread, len(places))
        np.add.at(layer, tuple(places.T), brightness)
        add_layer(canvas, layer, 1.2, 6.0)


def draw_places(canvas: Canvas, count: int) -> np.ndarray:
    """Draw rows and columns of at most ``count`` pixels, (N, 2) int, in half of the scenes in clusters."""
    rng = canvas.rng
    size = (canvas.height, canvas.width)
    places: Points = rng.random((count, 2)) * size
    if canvas.happens(0.5):
        clusters = places[: 1 + count // 30]
        chosen = clusters[rng.integers(len(clusters), size=count)]
        places = chosen + rng.normal(0.0, canvas.side / 16, (count, 2))
    pixels = np.floor(places).astype(int)
    inside = np.all((pixels >= 0) & (pixels < size), axis=1)
    return pixels[inside]


def draw_nuclei(canvas: Canvas) -> None:
    """Draw textured blobs with soft edges, as stained nuclei and cell bodies look, and their rims alone."""
    rng = canvas.rng
    draw_haze(canvas)
    layer = draw_dark(canvas)
    exponent = rng.uniform(1.0, 2.5)
    texture = canvas.draw_field(exponent, 2.0)
    grain = rng.uniform(0.0, 0.4)
    radius = canvas.draw_number(12.0, canvas.side / 4)
    for _ in range(canvas.draw_count(2, 40)):
        place = canvas.draw_place()
        size = radius * canvas.draw_number(0.7, 1.4)
        wobble = rng.uniform(0.05, 0.3)
        outline = outline_blob(rng, place, size, wobble)
        inside = canvas.find_inside(outline)
        body = inside.mask * (1.0 + grain * texture[inside.part])
        if canvas.happens(0.25):
            body -= inside.mask * ndimage.gaussian_filter(body, 4.0)
        brightness = canvas.draw_number(0.3, 1.0)
        layer[inside.part] += brightness * np.maximum(body, 0.0)
    add_layer(canvas, layer, 0.8, 5.0)


def draw_dark(canvas: Canvas) -> Pixels:
    """Begin a layer of light without any, (2 H, 2 W)."""
    return np.zeros((canvas.height, canvas.width), np.float32)


def draw_haze(canvas: Canvas) -> None:
    """Draw the light from out of focus: a level, and in most scenes clouds of it."""
    canvas.pixels[:] = canvas.draw_number(0.005, 0.2)
    if canvas.happens(0.7):
        clouds = canvas.draw_field(3.0, 8.0)
        brightness = canvas.draw_number(0.01, 0.3)
        add_light(canvas, np.maximum(clouds, 0.0), brightness)


def add_layer(canvas: Canvas, layer: Pixels, sharpest_px: float, softest_px: float) -> None:
    """Add a layer of light, blurred by a Gaussian of a deviation between two."""
    blur_px = canvas.draw_number(sharpest_px, softest_px)
    brightness = canvas.draw_number(0.2, 1.0)
    blurred = ndimage.gaussian_filter(layer, blur_px)
    add_light(canvas, blurred, brightness)


def add_light(canvas: Canvas, light: Pixels, brightness: float) -> None:
    """Add light whose brightest point is ``brightness``; in coloured scenes of one colour."""
    colour = np.ones(1)
    if canvas.channels > 1:
        even = np.full(canvas.channels, 0.7)
        colour = canvas.channels * canvas.rng.dirichlet(even)
    peak = max(float(light.max()), TINY)
    scaled = (brightness / peak) * light
    canvas.pixels[:] += scaled[..., None] * colour.astype(np.float32)
