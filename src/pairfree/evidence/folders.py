"""A folder of denoised files against one of clean files."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pairfree.errors import InputError
from pairfree.evidence.metrics import Score, score
from pairfree.files.formats.table import open_image
from pairfree.files.image import Image
from pairfree.files.listing import partners

CLIPPED_SHARE = 0.01
"""Share of a clean image's pixels that may lie outside the range of a score before this is said."""
_say = logging.getLogger("pairfree")


def evaluate(
    denoised: str | Path,
    clean: str | Path,
    data_range: float,
    *,
    low: float = 0.0,
    fit: bool = False,
    luma: bool = False,
) -> dict[str, Score]:
    """Scores of a folder of denoised files against clean ones of the same name, by stem.

    data_range   of the clean images, intensity units;  low   subtracted first;  both sides are then clipped to [0, data_range]
    fit          fit gain and offset of the denoised image first;  luma   score the Y channel (BT.601) of RGB
    """
    pairs = partners(clean, denoised)
    found = {}
    for name, (first, second) in pairs.items():
        images = [open_image(path) for path in (first, second)]
        outside = float(np.mean((images[0].pixels < low) | (images[0].pixels > low + data_range)))
        if outside > CLIPPED_SHARE:
            _say.warning(
                "%s: %.0f %% of its pixels lie outside %g .. %g and are clipped",
                first,
                100 * outside,
                low,
                low + data_range,
            )
        with named(second, first):
            found[name] = score(
                _intensities(images[0]), _intensities(images[1]), data_range, low, True, fit, luma
            )
    return found


@contextmanager
def named(denoised: Path, other: Path) -> Iterator[None]:
    """What is wrong with a pair of images, with the names of their files."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{denoised} against {other}: {error}") from None


def _intensities(image: Image) -> np.ndarray:
    """Pixels without transparency, which is not denoised and not scored; samples that are no RGB as images of their own."""
    if not image.axes.endswith("S"):
        return image.pixels
    pixels = image.pixels[..., : image.colours]
    return pixels if image.colours == 3 else np.moveaxis(pixels, -1, 0)
