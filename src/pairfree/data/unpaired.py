"""What two unpaired sets must have in common, an intensity map, and what they must not: a scene."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from scipy import ndimage

from pairfree.data.normalize import Normalizer, fit_normalizer
from pairfree.data.sets import ImageSet

BLOCK_PX = 8
"""Scenes are compared after averaging blocks of this side, which leaves structures and takes most of the noise."""
SHADING_BLOCKS = 6.0
"""Smoothing, in blocks, of what is subtracted as slow shading."""
SAME_SCENE = 0.5
"""Correlation from which two images are taken for the same scene."""
LEAST_BLOCKS = 64
"""Smaller images have too few blocks for a correlation to mean anything."""
WIDE_PERCENTILES = (0.05, 99.95)


def fit_unpaired(noisy: ImageSet, clean: ImageSet, intensity: str = "auto") -> tuple[Normalizer, Normalizer]:
    """The intensity maps of the two domains. They see histograms only, never which noisy image is like which clean one.

    "common"    one map for both, so that a difference of brightness between the sets is a thing to learn (film, charge, CT):
                8-bit files 0..255, others the wider of the two sets' percentiles
    "separate"  each set by its own percentiles: sets whose numbers have nothing to do with each other. What is learned then is the shape
                of the noise, and the brightness of the noisy set stays.
    "auto"      "common" where both sets have the same pixel types, else "separate"
    """
    if intensity == "auto":
        intensity = "common" if set(noisy.dtypes) == set(clean.dtypes) else "separate"
    if intensity == "separate":
        return fit_normalizer(noisy.planes, noisy.dtypes, WIDE_PERCENTILES), fit_normalizer(clean.planes, clean.dtypes, WIDE_PERCENTILES)
    dtypes = [*noisy.dtypes, *clean.dtypes]
    first, second = (fit_normalizer(found.planes, dtypes, WIDE_PERCENTILES) for found in (noisy, clean))
    low = min(first.offset, second.offset)
    both = Normalizer(low, max(first.offset + first.scale, second.offset + second.scale) - low)
    return both, both


def shared_scenes(noisy: ImageSet, clean: ImageSet) -> list[tuple[str, str, float]]:
    """Pairs (noisy name, clean name, correlation) that show the same scene, strongest first; images of equal size are compared in place."""
    sides: dict[tuple[int, ...], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for which, found in enumerate((noisy, clean)):
        for index, plane in enumerate(found.planes):
            sides[plane.shape][which].append(index)
    pairs = []
    for shape, (ours, theirs) in sides.items():
        if not ours or not theirs or (shape[1] // BLOCK_PX) * (shape[2] // BLOCK_PX) < LEAST_BLOCKS:
            continue
        first, second = (np.stack([scene(found.planes[i]) for i in members]) for found, members in ((noisy, ours), (clean, theirs)))
        alike = first @ second.T
        pairs += [(noisy.names[ours[i]], clean.names[theirs[j]], float(alike[i, j])) for i, j in np.argwhere(alike >= SAME_SCENE)]
    return sorted(pairs, key=lambda pair: -pair[2])


def scene(plane: np.ndarray) -> np.ndarray:
    """What a plane (C, H, W) shows, apart from noise, shading, gain and offset: a unit vector of block means; zero for a blank plane."""
    grey = plane.astype(np.float64).mean(0)
    height, width = (side // BLOCK_PX * BLOCK_PX for side in grey.shape)
    blocks = grey[:height, :width].reshape(height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX).mean((1, 3))
    detail = blocks - ndimage.gaussian_filter(blocks, SHADING_BLOCKS)
    flat = (detail - detail.mean()).ravel()
    size = float(np.linalg.norm(flat))
    unit: np.ndarray = flat / size if size > 1e-9 * (1.0 + float(np.abs(blocks).max())) else np.zeros_like(flat)
    return unit
