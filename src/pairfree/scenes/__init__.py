"""Scenes that a program draws: clean images from a seed, to train, test and teach with.

Nothing in them was photographed, so everything that is made from them may be shipped. What each kind shows is
in ``KINDS``; ``draw_scene`` draws one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import ndimage

from pairfree.config import choose
from pairfree.errors import ConfigError
from pairfree.scenes.controls import draw_controls
from pairfree.scenes.drawing import OVERSAMPLING, TINY, Canvas, Pixels, halve
from pairfree.scenes.electrons import draw_membranes, draw_particles
from pairfree.scenes.fluorescence import draw_filaments, draw_nuclei, draw_spots
from pairfree.scenes.leaves import draw_leaves
from pairfree.scenes.organs import draw_organs

KINDS: dict[str, Callable[[Canvas], None]] = {
    "leaves": draw_leaves,
    "filaments": draw_filaments,
    "spots": draw_spots,
    "nuclei": draw_nuclei,
    "membranes": draw_membranes,
    "particles": draw_particles,
    "organs": draw_organs,
    "controls": draw_controls,
}
"""What draws each kind."""
SHARES = {
    "leaves": 0.40,
    "filaments": 0.10,
    "spots": 0.08,
    "nuclei": 0.10,
    "membranes": 0.14,
    "particles": 0.06,
    "organs": 0.06,
    "controls": 0.06,
}
"""How often ``draw_scene`` chooses each kind."""
SMALLEST_PX, LARGEST_PX = 32, 16_384
"""Sides of the smallest and of the largest scene."""
ALL = "all"
"""In place of a kind: one of them, chosen by ``SHARES``."""


def draw_scene(
    index: int,
    seed: int = 0,
    *,
    height: int = 256,
    width: int = 256,
    channels: int = 1,
    kind: str = ALL,
) -> Pixels:
    """Draw a clean image.

    Parameters
    ----------
    index
        Number of the scene, from 0.
    seed
        Of the series of scenes.
    height, width
        Size in pixels, 32 to 16384. Another size is another picture, not a part of this one.
    channels
        1 for grey, 3 for colour.
    kind
        A key of ``KINDS``, or "all" for one that is chosen by ``SHARES``.

    Returns
    -------
    ndarray
        (H, W) or (H, W, 3) float32 from 0 to 1: a function of the arguments alone.

    Raises
    ------
    ConfigError
        For a kind that is not known, a negative index or seed, sides out of bounds, and other channels.
    """
    check_scene(index, seed, height, width, channels)
    rng = np.random.default_rng([seed, index])
    if kind == ALL:
        kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    draw = choose(kind, KINDS, "kind of scene")
    size = (OVERSAMPLING * height, OVERSAMPLING * width, channels)
    canvas = Canvas(np.zeros(size, np.float32), rng)
    draw(canvas)
    scene = expose(canvas)
    return scene[..., 0] if channels == 1 else scene


def draw_scenes(
    count: int, seed: int = 0, *, height: int = 256, width: int = 256, channels: int = 1
) -> Iterator[Pixels]:
    """The first ``count`` scenes of a series, one after the other; see ``draw_scene``."""
    for index in range(count):
        yield draw_scene(index, seed, height=height, width=width, channels=channels)


def check_scene(index: int, seed: int, height: int, width: int, channels: int) -> None:
    """Raise a ConfigError that names what is wrong with the arguments of ``draw_scene``."""
    if index < 0 or seed < 0:
        raise ConfigError(f"scene {index} of seed {seed}: both must be at least 0")
    if min(height, width) < SMALLEST_PX or max(height, width) > LARGEST_PX:
        raise ConfigError(
            f"scene of {height} x {width} pixels: both sides must be from {SMALLEST_PX} to {LARGEST_PX}"
        )
    if channels not in (1, 3):
        raise ConfigError(f"scene of {channels} channels: draw 1 (grey) or 3 (colour)")


def expose(canvas: Canvas) -> Pixels:
    """What optics and camera make of a scene: blur, a curve of brightness, contrast and an offset.

    Returns
    -------
    ndarray
        (H, W, C) float32 from 0 to 1. In one scene of seven some of it is clipped.
    """
    rng = canvas.rng
    blur_px = rng.uniform(0.25, 0.7)
    if canvas.happens(0.2):
        blur_px = canvas.draw_number(0.7, 2.5)
    blurred = ndimage.gaussian_filter(halve(canvas.pixels), (blur_px, blur_px, 0.0))
    low, high = np.percentile(blurred, (0.1, 99.9))
    span = high - low
    if canvas.happens(0.15):
        span *= rng.uniform(0.5, 0.9)
    level = np.clip((blurred - low) / max(span, TINY), 0.0, 1.0)
    curved = level ** canvas.draw_number(0.6, 1.7)
    contrast = 1.0
    if canvas.happens(0.5):
        contrast = rng.uniform(0.2, 1.0)
    offset = rng.uniform(0.0, 1.0 - contrast)
    return np.asarray(offset + contrast * curved, np.float32)
