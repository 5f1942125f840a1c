"""What two unpaired sets must have in common, an intensity map, and what they must not: a scene."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from scipy import ndimage

from pairfree.data.normalize import EIGHT_BIT, Normalizer, fit_percentiles, is_eight_bit
from pairfree.data.sets import ImageSet

BLOCK_PX = 8
"""Scenes are compared after averaging blocks of this side: structures stay, most of the noise does not."""
SHADING_BLOCKS = 6.0
"""Smoothing, in blocks, of what is subtracted as slow shading."""
SAME_SCENE = 0.65
"""Correlation, in three of the four quarters, from which two images are taken for the same scene.

A scale bar or a burned-in caption fills one quarter or two. Measured: neighbouring sections of one block up
to 0.53, chests of two patients up to 0.53; one micrograph before and after film or charge noise 0.74 to 0.91,
a CT slice at full and quarter dose 1.00.
"""
LEAST_BLOCKS = 144
"""Smaller images have too few blocks for a correlation to mean anything."""
MOST_RATIO = 4.0
"""Ranges of sizes that differ by more have nothing to do with each other."""
WIDE_PERCENTILES = (0.05, 99.95)
"""Of a set's pixels, between which its range lies."""
INTENSITIES = ("auto", "common", "separate")


def fit_unpaired(
    noisy: ImageSet, clean: ImageSet, intensity: str = "auto"
) -> tuple[Normalizer, Normalizer]:
    """The intensity maps of the two domains.

    They see histograms only, never which noisy image is like which clean one.

    Parameters
    ----------
    noisy, clean
        The sets.
    intensity
        "common": one map for both, so that a difference of brightness between the sets is a thing to learn
        (film, charge, CT): 8-bit files 0..255, others the wider of the two sets' percentiles.

        "separate": each set by its own percentiles, for sets whose numbers have nothing to do with each
        other. Black and white of the two sets are then taken for the same; the output is on the noisy set's
        scale.

        "auto": "common" where both sets have the same pixel types, or ranges of a size that overlap, else
        "separate".

        "LOW,HIGH": a window of both, intensity units: for CT, where bone and air would squeeze soft tissue
        into a few per cent of the range.

    Returns
    -------
    tuple
        Of the noisy and of the clean set.
    """
    chosen = window(intensity)
    if chosen is not None:
        return chosen, chosen
    if intensity != "separate" and is_eight_bit([*noisy.dtypes, *clean.dtypes]):
        return EIGHT_BIT, EIGHT_BIT
    first = fit_percentiles(noisy.planes, WIDE_PERCENTILES)
    second = fit_percentiles(clean.planes, WIDE_PERCENTILES)
    if intensity == "separate":
        return first, second
    one_type = set(noisy.dtypes) == set(clean.dtypes)
    if intensity == "auto" and not (one_type or _comparable(first, second)):
        return first, second
    low = min(first.offset, second.offset)
    high = max(_high(first), _high(second))
    both = Normalizer(low, high - low)
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
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    return Normalizer(low, high - low) if low < high else None


def _high(found: Normalizer) -> float:
    """The intensity that becomes 1."""
    return found.offset + found.scale


def _comparable(first: Normalizer, second: Normalizer) -> bool:
    """Ranges that differ by less than ``MOST_RATIO`` in size and share half of the smaller one."""
    small, large = sorted((first.scale, second.scale))
    begin = max(first.offset, second.offset)
    shared = min(_high(first), _high(second)) - begin
    return large <= MOST_RATIO * small and shared >= small / 2.0


def shared_scenes(noisy: ImageSet, clean: ImageSet) -> list[tuple[str, str, float]]:
    """Pairs that show the same scene; images of equal size are compared in place.

    Parameters
    ----------
    noisy, clean
        The sets.

    Returns
    -------
    list of tuple
        Noisy name, clean name, correlation; strongest first.
    """
    of_noisy = _by_shape(noisy)
    of_clean = _by_shape(clean)
    pairs = []
    for shape, ours in of_noisy.items():
        theirs = of_clean.get(shape)
        if theirs is None or _count_blocks(shape) < LEAST_BLOCKS:
            continue
        first = _scenes(noisy, ours)
        second = _scenes(clean, theirs)
        correlations = first @ second.transpose(0, 2, 1)
        alike = np.sort(correlations, axis=0)[1]  # of four: three are as large
        for i, j in np.argwhere(alike >= SAME_SCENE):
            noisy_name = noisy.names[ours[i]]
            clean_name = clean.names[theirs[j]]
            pairs.append((noisy_name, clean_name, float(alike[i, j])))
    return sorted(pairs, key=lambda pair: -pair[2])


def _by_shape(images: ImageSet) -> dict[tuple[int, ...], list[int]]:
    """Which planes have each shape."""
    found = defaultdict(list)
    for index, plane in enumerate(images.planes):
        found[plane.shape].append(index)
    return found


def _count_blocks(shape: tuple[int, ...]) -> int:
    """Of a plane (C, H, W)."""
    _, height, width = shape
    return (height // BLOCK_PX) * (width // BLOCK_PX)


def _scenes(images: ImageSet, members: list[int]) -> np.ndarray:
    """(4, K, N): ``scene`` of some planes of one shape."""
    shown = [scene(images.planes[index]) for index in members]
    return np.stack(shown, axis=1)


def scene(plane: np.ndarray) -> np.ndarray:
    """What each quarter of a plane shows, apart from noise, shading, gain and offset.

    Parameters
    ----------
    plane
        (C, H, W).

    Returns
    -------
    ndarray
        (4, N) unit vectors of block means; zero for a blank quarter.
    """
    grey = plane.astype(np.float64).mean(0)
    rows, columns = (side // BLOCK_PX for side in grey.shape)
    whole = grey[: rows * BLOCK_PX, : columns * BLOCK_PX]
    blocks = whole.reshape(rows, BLOCK_PX, columns, BLOCK_PX).mean((1, 3))
    detail = blocks - ndimage.gaussian_filter(blocks, SHADING_BLOCKS)
    high = rows // 2
    wide = columns // 2
    quarters = []
    for top in (0, high):
        for left in (0, wide):
            quarter = detail[top : top + high, left : left + wide]
            quarters.append(quarter.ravel())
    vectors = np.stack(quarters)
    vectors -= vectors.mean(1, keepdims=True)
    sizes = np.linalg.norm(vectors, axis=1, keepdims=True)
    brightest = float(np.abs(blocks).max())
    blank = sizes <= 1e-9 * (1.0 + brightest)
    units = vectors / np.where(blank, 1.0, sizes)
    return np.where(blank, 0.0, units)
