"""Whether a TIFF can be written, found by writing a small one with all that is stated of the large one."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from pairfree.files.formats.tiff_carried import Carried
from pairfree.files.formats.tiff_write import check_planes, write_tiff
from pairfree.files.image import Image

SIDE_PX = 64
"""Of the small image."""
MOST_PLANES = 2
"""Of the small image along each axis."""


def rehearse_tiff(image: Image, path: Path) -> None:
    """Write a small image in place of ``image``, with its tags, descriptions and layout, and remove it.

    Parameters
    ----------
    image
        What is to be written; its pixels are not looked at.
    path
        Of the output, for messages.

    Raises
    ------
    OutputError
        As ``write_tiff``; whatever tifffile raises besides.
    """
    check_planes(image, path)
    small = _shrink(image)
    with tempfile.TemporaryDirectory(prefix="pairfree-") as folder:
        write_tiff(small, Path(folder) / "rehearsal")


def _shrink(image: Image) -> Image:
    carried = image.metadata.get("tiff")
    shape = []
    for axis, size in zip(image.axes, image.shape, strict=True):
        most = SIDE_PX if axis in "YX" else MOST_PLANES
        shape.append(size if axis in "CS" else min(size, most))
    if isinstance(carried, Carried) and carried.slices:
        shape[-3] = image.shape[-3]  # a page holds all of them
    pixels = np.zeros(shape, image.dtype)
    if not isinstance(carried, Carried):
        return replace(image, data=pixels)
    smaller = replace(carried, shape=pixels.shape, levels=carried.levels and ((8, 8),))
    if carried.shape != image.shape:
        smaller = carried  # it is described anew, and will be
    return replace(image, data=pixels, metadata={**image.metadata, "tiff": smaller})
