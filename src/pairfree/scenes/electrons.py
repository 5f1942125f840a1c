"""What an electron microscope shows: membranes and vesicles of tissue, and particles on grain."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from pairfree.scenes.drawing import Canvas, Pixels
from pairfree.scenes.outlines import outline_blob, outline_ellipse


def draw_membranes(canvas: Canvas) -> None:
    """Draw cells side by side, their membranes dark lines, with folds, vesicles and granules inside."""
    rng = canvas.rng
    cells, border_px = draw_cells(canvas)
    brightness = rng.uniform(0.45, 0.9)
    greys = rng.normal(brightness, 0.08, cells.max() + 1)
    picture = greys[cells].astype(np.float32)
    exponent = rng.uniform(1.0, 2.5)
    roughness = canvas.draw_number(0.005, 0.08)
    picture += roughness * canvas.draw_field(exponent, 1.5)
    darkness = rng.uniform(0.2, 0.6)
    thickness_px = canvas.draw_number(2.0, 8.0)
    picture -= darkness * np.exp(-((border_px / thickness_px) ** 2))
    add_folds(canvas, picture, darkness)
    for _ in range(rng.integers(4)):
        add_vesicles(canvas, picture, darkness)
    blur_px = canvas.draw_number(0.5, 3.0)
    blurred = ndimage.gaussian_filter(picture, blur_px)
    if canvas.happens(0.2):
        blurred = 1.0 - blurred
    paint(canvas, blurred)


def draw_cells(canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Draw cells of about one size, with wavy borders.

    Returns
    -------
    tuple
        The number of each pixel's cell, (2 H, 2 W) int, and the distance from the border, pixels.
    """
    rng = canvas.rng
    size_px = canvas.draw_number(24.0, canvas.side / 2)
    area = np.array([canvas.height, canvas.width]) + 2.0 * size_px
    count = 4 + int(area.prod() / size_px**2)
    centres = rng.random((count, 2)) * area - size_px
    swing_px = rng.uniform(0.05, 0.5) * size_px
    places = np.indices((canvas.height, canvas.width), np.float32)
    for axis in range(2):
        places[axis] += swing_px * canvas.draw_field(3.0, size_px / 8)
    distances, nearest = cKDTree(centres).query(np.moveaxis(places, 0, -1), k=2)
    border_px = (distances[..., 1] - distances[..., 0]) / 2.0
    return nearest[..., 0], border_px


def add_folds(canvas: Canvas, picture: Pixels, darkness: float) -> None:
    """Draw the membranes inside of cells: curves, often several side by side."""
    rng = canvas.rng
    for _ in range(canvas.draw_count(1, 20)):
        steps = canvas.draw_count(10, 80)
        bend = canvas.draw_number(0.02, 0.2)
        gap_px = rng.uniform(4.0, 11.0)
        curve = canvas.draw_walk(steps, bend)
        for _ in range(rng.integers(1, 5)):
            thickness_px = int(rng.integers(1, 5))
            depth = darkness * rng.uniform(0.3, 1.0)
            picture -= depth * canvas.stroke(curve, thickness_px)
            curve = curve + gap_px


def add_vesicles(canvas: Canvas, picture: Pixels, darkness: float) -> None:
    """Draw rings, or dark grains, of about one size."""
    rng = canvas.rng
    radius = canvas.draw_number(4.0, 40.0)
    rim_px = canvas.draw_number(1.0, 4.0)
    filled = canvas.happens(0.4)
    for _ in range(canvas.draw_count(2, 60)):
        place = canvas.draw_place()
        size = radius * rng.uniform(0.8, 1.2)
        outline = outline_blob(rng, place, size, 0.1)
        inside = canvas.find_inside(outline)
        mask = inside.mask
        if not filled:
            depth_px = ndimage.distance_transform_edt(mask)
            mask = mask & (depth_px <= rim_px)
        picture[inside.part][mask] -= darkness * rng.uniform(0.5, 1.0)


def draw_particles(canvas: Canvas) -> None:
    """Draw faint particles of one or two kinds on grain, as frozen or stained molecules look."""
    rng = canvas.rng
    exponent = rng.uniform(0.5, 2.0)
    roughness = canvas.draw_number(0.005, 0.05)
    unevenness = rng.uniform(0.0, 0.1)
    picture = roughness * canvas.draw_field(exponent, 2.0)
    picture += unevenness * canvas.draw_field(3.0, canvas.side / 8)
    sign = rng.choice([-1.0, 1.0])
    for _ in range(rng.integers(1, 3)):
        contrast = sign * canvas.draw_number(0.05, 0.5)
        add_particles(canvas, picture, contrast)
    blur_px = canvas.draw_number(0.8, 4.0)
    blurred = ndimage.gaussian_filter(picture, blur_px)
    paint(canvas, 0.5 + blurred)


def add_particles(canvas: Canvas, picture: Pixels, contrast: float) -> None:
    """Draw particles of one shape in all directions."""
    rng = canvas.rng
    radius = canvas.draw_number(5.0, 60.0)
    ratio = rng.uniform(0.3, 1.0)
    texture = canvas.draw_field(1.5, 2.0)
    for _ in range(canvas.draw_count(3, 150)):
        place = canvas.draw_place()
        angle = canvas.draw_angle()
        outline = outline_ellipse(place, radius, ratio, angle)
        inside = canvas.find_inside(outline)
        body = contrast * (1.0 + 0.3 * texture[inside.part])
        picture[inside.part] += body * inside.mask


def paint(canvas: Canvas, picture: Pixels) -> None:
    """Lay a grey picture on the canvas; in coloured scenes dark and bright have a tint each."""
    dark = canvas.draw_colour(0.0, 0.05)
    bright = canvas.draw_colour(1.0, 0.05)
    canvas.pixels[:] = dark + (bright - dark) * picture[..., None]
