"""What two unpaired sets must have in common, an intensity map, and what they must not: a scene."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from scipy import ndimage

from pairfree.data.normalize import EIGHT_BIT, Normalizer, fit_percentiles, is_eight_bit
from pairfree.data.sets import ImageSet

BLOCK_PX = 8
"""Scenes are compared after averaging blocks of this side, which leaves structures and takes most of the noise."""
SHADING_BLOCKS = 6.0
"""Smoothing, in blocks, of what is subtracted as slow shading."""
SAME_SCENE = 0.65
"""Correlation, in three of the four quarters, from which two images are taken for the same scene: a scale bar or a burned-in caption fills
one or two. Measured: neighbouring sections of one block up to 0.53, chests of two patients up to 0.53; one micrograph before and after film
or charge noise 0.74 to 0.91, a CT slice at full and quarter dose 1.00."""
LEAST_BLOCKS = 144
"""Smaller images have too few blocks for a correlation to mean anything."""
MOST_RATIO = 4.0
WIDE_PERCENTILES = (0.05, 99.95)
INTENSITIES = ("auto", "common", "separate")


def fit_unpaired(
    noisy: ImageSet, clean: ImageSet, intensity: str = "auto"
) -> tuple[Normalizer, Normalizer]:
    """The intensity maps of the two domains. They see histograms only, never which noisy image is like which clean one.

    "common"    one map for both, so that a difference of brightness between the sets is a thing to learn (film, charge, CT):
                8-bit files 0..255, others the wider of the two sets' percentiles
    "separate"  each set by its own percentiles: sets whose numbers have nothing to do with each other. Black and white of the two sets
                are then taken for the same; the output is on the noisy set's scale.
    "auto"      "common" where both sets have the same pixel types, or ranges of a size that overlap, else "separate"
    "LOW,HIGH"  a window of both, intensity units: for CT, where bone and air would squeeze soft tissue into a few per cent of the range
    """
    if (chosen := window(intensity)) is not None:
        return chosen, chosen
    if intensity != "separate" and is_eight_bit([*noisy.dtypes, *clean.dtypes]):
        return EIGHT_BIT, EIGHT_BIT
    first, second = (fit_percentiles(found.planes, WIDE_PERCENTILES) for found in (noisy, clean))
    alike = set(noisy.dtypes) == set(clean.dtypes) or _comparable(first, second)
    if intensity == "separate" or (intensity == "auto" and not alike):
        return first, second
    low = min(first.offset, second.offset)
    both = Normalizer(low, max(first.offset + first.scale, second.offset + second.scale) - low)
    return both, both


def intensity_problems(text: str) -> list[str]:
    """What is wrong with a setting ``intensity``: nothing, or one phrase."""
    if text in INTENSITIES or window(text) is not None:
        return []
    return [f'intensity = {text!r} must be one of {", ".join(INTENSITIES)}, or a window "LOW,HIGH"']


def window(text: str) -> Normalizer | None:
    """The map of "LOW,HIGH" to 0 and 1; None for anything else."""
    try:
        low, high = (float(one) for one in text.split(","))
    except ValueError:
        return None
    return (
        Normalizer(low, high - low)
        if math.isfinite(low) and math.isfinite(high) and low < high
        else None
    )


def _comparable(first: Normalizer, second: Normalizer) -> bool:
    """Ranges that differ by less than ``MOST_RATIO`` in size and share half of the smaller one."""
    small, large = sorted((first.scale, second.scale))
    shared = min(first.offset + first.scale, second.offset + second.scale) - max(
        first.offset, second.offset
    )
    return large <= MOST_RATIO * small and shared >= small / 2.0


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
        first, second = (
            np.stack([scene(found.planes[i]) for i in members], 1)
            for found, members in ((noisy, ours), (clean, theirs))
        )
        alike = np.sort(first @ second.transpose(0, 2, 1), 0)[
            1
        ]  # of four correlations the second smallest: three are as large
        pairs += [
            (noisy.names[ours[i]], clean.names[theirs[j]], float(alike[i, j]))
            for i, j in np.argwhere(alike >= SAME_SCENE)
        ]
    return sorted(pairs, key=lambda pair: -pair[2])


def scene(plane: np.ndarray) -> np.ndarray:
    """What each quarter of a plane (C, H, W) shows, apart from noise, shading, gain and offset: unit vectors (4, N) of block means.

    Zero for a blank quarter.
    """
    grey = plane.astype(np.float64).mean(0)
    height, width = (side // BLOCK_PX * BLOCK_PX for side in grey.shape)
    blocks = (
        grey[:height, :width]
        .reshape(height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX)
        .mean((1, 3))
    )
    detail = blocks - ndimage.gaussian_filter(blocks, SHADING_BLOCKS)
    half = detail.shape[0] // 2, detail.shape[1] // 2
    quarters = np.stack(
        [
            detail[r : r + half[0], c : c + half[1]].ravel()
            for r in (0, half[0])
            for c in (0, half[1])
        ]
    )
    quarters -= quarters.mean(1, keepdims=True)
    sizes = np.linalg.norm(quarters, axis=1, keepdims=True)
    blank = sizes <= 1e-9 * (1.0 + float(np.abs(blocks).max()))
    units: np.ndarray = np.where(blank, 0.0, quarters / np.where(blank, 1.0, sizes))
    return units
