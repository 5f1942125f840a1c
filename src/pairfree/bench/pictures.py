"""Pictures that a measured cell leaves: what was denoised, and where it errs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pairfree.bench.base import Images, Scored, file_name
from pairfree.files.image import Image, samples_last
from pairfree.files.opening import save_image

WHITE_AT = 0.25
"""Share of the range that an error is drawn white from."""


def keep_pictures(outputs: Images, test: Sequence[Scored], folder: Path) -> None:
    """Denoised images as float32 TIFF, so that any other script can score them.

    Beside their folder lies one of heat maps of the errors. Groups have folders of their own where they share
    names of images.

    Parameters
    ----------
    outputs
        (C, H, W), in the order of ``test``.
    test
        What was denoised.
    folder
        For the denoised images.
    """
    groups = {image.group for image in test}
    names = {image.name for image in test}
    mixed = len(groups) > 1 and len(names) < len(test)
    errors = folder.parent / "errors"
    for image, output in zip(test, outputs, strict=True):
        place = Path(image.name)
        if mixed:
            place = file_name(image.group) / place
        pixels = samples_last(output).astype(np.float32)
        _save(pixels, folder / f"{place}.tif", "tiff")
        if image.clean is not None:
            error = output - image.clean
            heat = heat_map(error, image.data_range)
            _save(heat, errors / f"{place}.png", "png")


def _save(pixels: np.ndarray, path: Path, family: str) -> None:
    axes = "YX" if pixels.ndim == 2 else "YXS"
    image = Image(pixels, axes, family=family)
    save_image(image, path, overwrite=True)


def heat_map(error: np.ndarray, data_range: float) -> np.ndarray:
    """|error|, mean over channels, as colours: black at 0, then red, yellow, white.

    Parameters
    ----------
    error
        (C, H, W).
    data_range
        White minus black of the image; from a quarter of it on, an error is white.

    Returns
    -------
    np.ndarray
        (H, W, 3) bytes.
    """
    white = WHITE_AT * data_range
    size = np.abs(error).mean(0)
    height = size * (3.0 / white)
    colours = []
    for step in range(3):
        level = 255.0 * (height - step)
        level = np.rint(level)
        colours.append(np.clip(level, 0, 255))
    picture = np.stack(colours, -1)
    return picture.astype(np.uint8)
