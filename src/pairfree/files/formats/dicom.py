"""DICOM images: intensities (HU for CT) in, the same kind of object back with new UIDs, marked as derived.

Read: single and multi-frame, native, deflated and RLE, integers and floats, grey, RGB, YBR_FULL and tables of
colours, mosaics of slices; grey ones also in the JPEG family. Written uncompressed. Intensities are stored
values times RescaleSlope plus RescaleIntercept. Padding, which is no measurement, is filled with the image's
lowest measured value on reading and restored on writing. pydicom is imported when a DICOM file is met.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError, OutputError
from pairfree.files.formats.dicom_colour import (
    PALETTE,
    YBR,
    palette_to_rgb,
    read_table,
    shows_greys,
    ybr_to_rgb,
)
from pairfree.files.formats.dicom_header import (
    check_writable,
    derive,
    repair_signs,
    save_dataset,
    set_extremes,
    set_pixels,
)
from pairfree.files.formats.dicom_mosaic import Mosaic, split_mosaic
from pairfree.files.formats.dicom_open import is_marked, open_dataset
from pairfree.files.formats.dicom_pixels import Layout, decode_words, find_layout
from pairfree.files.formats.dicom_rescale import (
    Rescale,
    find_padding,
    functional_groups,
    read_rescale,
    split_frames,
)
from pairfree.files.formats.dicom_words import Words, split_words, tell_bits, true_layout
from pairfree.files.image import Image, Spacing
from pairfree.files.limits import Limits, check_declared
from pairfree.files.messages import shown

__all__ = ["STACKS", "Carried", "is_marked", "read_dicom", "write_dicom"]

STACKS = {
    "CT": "Z",
    "MR": "Z",
    "PT": "Z",
    "NM": "Z",
    "US": "T",
    "XA": "T",
    "RF": "T",
}
"""Axis of the frames by modality; Q for any other."""


@dataclass(frozen=True)
class Carried:
    """What writing a DICOM object back needs."""

    dataset: Any
    """All elements but the pixels."""
    keyword: str
    """Of the element with the pixels."""
    rescale: Rescale
    words: Words
    """How values are stored, and the bits beside them."""
    mosaic: Mosaic | None
    padding: tuple[np.ndarray, np.ndarray] | None
    """Stored values where the image is padding, and a mask of where that is; None without padding."""

    @property
    def limits(self) -> tuple[float, float] | None:
        """Least and greatest intensity that BitsStored can hold; None for floats."""
        ends = self.words.stored_range
        return None if ends is None else self.rescale.limits(*ends)


def read_dicom(path: Path, limits: Limits) -> Image:
    """Read one DICOM file; InputError for what is none, is not understood, or could not be written back."""
    dataset, told = open_dataset(path, limits)
    layout = find_layout(dataset, path)
    dtype = layout.words.dtype
    size = layout.full_size(len(dataset[layout.keyword].value or b""))
    check_declared(path, layout.shape, dtype, limits, size, layout.ratio)
    words = decode_words(dataset, layout, path)
    del dataset[layout.keyword]
    told += repair_signs(dataset)
    words, places, of_colours = _as_intensities(dataset, layout, words, limits, path)
    words, mosaic, of_mosaic = split_mosaic(dataset, words)
    places, of_places = true_layout(words, places)
    stored, kept = split_words(words, places)
    told += [*of_colours, *of_mosaic, *of_places, *tell_bits(dataset, kept)]
    rescale = read_rescale(dataset, len(stored), path)
    _check_intensities(stored, rescale, limits, path)
    intensity = rescale.intensities(stored)
    mask = find_padding(dataset, stored, words, kept, rescale)
    padding = None
    if mask is not None:
        padding = stored[mask], mask
        intensity[mask] = np.nanmin(intensity[~mask])
    check_writable(dataset, path)
    carried = Carried(dataset, layout.keyword, rescale, kept, mosaic, padding)
    axes = _axes(dataset, stored, mosaic)
    return Image(
        intensity if len(stored) > 1 else intensity[0],
        axes,
        _spacing(dataset, axes),
        bit_depth=None if dtype.kind == "f" else kept.bits,
        source=path,
        family="dicom",
        metadata={"dicom": carried, "warnings": told},
        alpha=False,
        limits=carried.limits,
    )


def _check_intensities(stored: np.ndarray, rescale: Rescale, limits: Limits, path: Path) -> None:
    """InputError where intensities, which may be wider than stored values, take more memory than allowed."""
    kind = rescale.type_of(stored.dtype)
    check_declared(path, stored.shape, kind, limits, stored.size * kind.itemsize)


def _as_intensities(
    dataset: Any, layout: Layout, words: np.ndarray, limits: Limits, path: Path
) -> tuple[np.ndarray, Words, list[str]]:
    """Words that hold intensities, how, and what is to be told: other colours become RGB."""
    if layout.kind in YBR:
        rgb, told = ybr_to_rgb(dataset, words)
        return rgb, layout.words, told
    if layout.kind != PALETTE:
        return words, layout.words, []
    big = not dataset.file_meta.TransferSyntaxUID.is_little_endian
    table, first = read_table(dataset, big, path)
    if shows_greys(table):
        return words, layout.words, []
    values, kept = split_words(words, layout.words)
    if kept.beside is not None:
        raise InputError(
            f"{shown(path)}: its pixels are indices of colours with other bits beside them, which "
            "RGB cannot hold; convert it to RGB"
        )
    size = words.nbytes * 3 * table.dtype.itemsize
    check_declared(path, (*layout.shape[:3], 3), table.dtype, limits, size)
    colours, told = palette_to_rgb(dataset, values, table, first)
    return colours, Words(table.dtype, 8 * table.dtype.itemsize), told


def _axes(dataset: Any, stored: np.ndarray, mosaic: Mosaic | None) -> str:
    """Axes of stored values, frames first."""
    axes = "YX" if stored.ndim == 3 else "YXS"
    if len(stored) == 1:
        return axes
    if mosaic is not None:
        return "Z" + axes
    return STACKS.get(str(dataset.get("Modality", "")), "Q") + axes


def _spacing(dataset: Any, axes: str) -> Spacing:
    """Millimetres a pixel, and between the frames of a volume, where they are stated."""
    measures = [dataset, *functional_groups(dataset, "PixelMeasuresSequence")]
    found: Spacing = {}
    for one in measures:
        sides = one.get("PixelSpacing") or one.get("ImagerPixelSpacing")
        if sides is not None and len(sides) == 2:
            down, across = sides
            found["Y"] = (float(down), "mm")
            found["X"] = (float(across), "mm")
        between = one.get("SpacingBetweenSlices")
        if "Z" in axes and between is not None:
            found["Z"] = (abs(float(between)), "mm")
    return {axis: step for axis, step in found.items() if step[0] > 0}


def write_dicom(image: Image, path: Path) -> None:
    """Write ``image`` as a derived object: new UIDs, padding restored, everything else kept.

    Stored values are found by the inverse rescale; those beyond the range of BitsStored are clipped.
    ``image.metadata["derivation"]`` says what was done ("derived" in one word, for the series' name); UIDs
    are a function of it and of the original's, so that slices of one series stay in one series.
    """
    carried = image.metadata.get("dicom")
    if not isinstance(carried, Carried):
        raise OutputError(
            f"{shown(path)}: a DICOM file can only be written from a DICOM file; write TIFF instead"
        )
    derivation = str(image.metadata.get("derivation", "processed with pairfree"))
    suffix = f" ({image.metadata.get('derived', 'derived')})"
    dataset = derive(carried.dataset, derivation, suffix, path.name)
    stored = _stored_values(image, carried)
    if carried.words.stored_range is not None:
        set_extremes(dataset, stored)
    words = carried.words.join(stored)
    if carried.mosaic is not None:
        words = carried.mosaic.join(words)
    set_pixels(dataset, carried.keyword, words)
    save_dataset(dataset, path)


def _stored_values(image: Image, carried: Carried) -> np.ndarray:
    """An image's intensities as they are stored, frames first."""
    pixels = image.pixels if image.leading else image.pixels[np.newaxis]
    ends = carried.words.stored_range
    stored = np.empty(pixels.shape, carried.words.dtype)
    for some in split_frames(pixels.shape):
        values = carried.rescale.stored(pixels[some], some)
        stored[some] = values if ends is None else np.clip(np.rint(values), *ends)
    if carried.padding is not None:
        values, mask = carried.padding
        stored[mask] = values
    return stored
