"""Crops that stand for planes too many to be trained on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np

from pairfree.files.image import Image

CROP_PX = 512
"""Side of the crops that are taken of sets which are too large."""


def training_bytes(image: Image) -> int:
    """What the pixels take in training, as float32."""
    planes = math.prod(image.leading)
    return 4 * image.colours * image.width * image.height * planes


def draw_crops(name: str, height: int, width: int, share: float) -> Iterator[tuple[slice, slice]]:
    """Squares of ``CROP_PX`` that make up about that share of a plane, anywhere in it.

    At random, one more or less.
    """
    if share >= 1:
        yield slice(0, height), slice(0, width)
        return
    seed = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    rng = np.random.default_rng(list(seed))
    high, wide = min(CROP_PX, height), min(CROP_PX, width)
    count = int(share * height * width / (high * wide) + rng.random())
    tops = rng.integers(0, height - high + 1, count)
    lefts = rng.integers(0, width - wide + 1, count)
    for top, left in zip(tops.tolist(), lefts.tolist(), strict=True):
        yield slice(top, top + high), slice(left, left + wide)
