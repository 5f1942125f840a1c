"""Pictures that a measured cell leaves: what was denoised, and where it errs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pairfree.bench.base import Scored, file_name
from pairfree.files.formats.table import save_image
from pairfree.files.image import Image, samples_last


def keep_pictures(outputs: Sequence[np.ndarray], test: Sequence[Scored], folder: Path) -> None:
    """Denoised images as float32 TIFF, so that any other script can score them, one folder a group; beside them heat maps of the errors."""
    groups = len({image.group for image in test}) > 1 and len({image.name for image in test}) < len(
        test
    )
    for image, output in zip(test, outputs, strict=True):
        path = folder / (file_name(image.group) if groups else "") / f"{image.name}.tif"
        pixels = samples_last(output).astype(np.float32)
        save_image(
            Image(pixels, "YX" if pixels.ndim == 2 else "YXS", family="tiff"), path, overwrite=True
        )
        if image.clean is not None:
            heat = Image(heat_map(output - image.clean, image.data_range), "YXS", family="png")
            save_image(
                heat,
                folder.parent / "errors" / path.relative_to(folder).with_suffix(".png"),
                overwrite=True,
            )


def heat_map(error: np.ndarray, data_range: float) -> np.ndarray:
    """|error| of (C, H, W), mean over channels, as (H, W, 3) colours: black at 0, red, yellow, white from a quarter of the range on."""
    height = np.abs(error).mean(0) * (4.0 * 3.0 / data_range)
    return np.stack(
        [np.clip(np.rint(255.0 * (height - step)), 0, 255) for step in range(3)], -1
    ).astype(np.uint8)
