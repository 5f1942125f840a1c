"""Colours of DICOM objects as RGB: luminance and chrominance, and tables of colours.

A table that only shows greys in rising order is kept: its indices are intensities.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.messages import shown

COLOURS = ("Red", "Green", "Blue")
YBR = ("YBR_FULL", "YBR_FULL_422")
PALETTE = "PALETTE COLOR"
OF_THE_TABLE = (
    "PaletteColorLookupTableUID",
    "AlphaPaletteColorLookupTableData",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in COLOURS),
    *(f"{colour}PaletteColorLookupTableData" for colour in COLOURS),
)
"""Elements that say nothing of an image that has become RGB."""


def ybr_to_rgb(dataset: Any, words: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Luminance and chrominance of 8 bits, (frames, rows, columns, 3), as RGB; and what is to be told.

    The data set says so from then on.
    """
    from pydicom.pixels.processing import convert_color_space

    kind = dataset.PhotometricInterpretation
    out = np.empty_like(words)
    for number, frame in enumerate(words):
        out[number] = convert_color_space(frame, "YBR_FULL", "RGB")
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    return out, [f"its colours are stored as {kind}; they are written back as RGB"]


def read_table(dataset: Any, big: bool, path: Path) -> tuple[np.ndarray, int]:
    """A table of colours and the first value that it has one for.

    Parameters
    ----------
    dataset
        With the table.
    big
        Whether the object's words have their high byte first.
    path
        Of the file, for messages.

    Returns
    -------
    tuple
        (entries, 3) of uint8 or uint16, and the value.

    Raises
    ------
    InputError
        For a table that is missing, in segments, or not as long as it states, and for tables of red, green
        and blue that differ in length or in the value they begin at (PS3.3, C.7.6.3.1.5).
    """
    channels = []
    firsts = set()
    for colour in COLOURS:
        descriptor = dataset.get(f"{colour}PaletteColorLookupTableDescriptor")
        data = dataset.get(f"{colour}PaletteColorLookupTableData")
        if not isinstance(data, bytes) or descriptor is None or len(descriptor) != 3:
            segmented = f"Segmented{colour}PaletteColorLookupTableData" in dataset
            kind = "is stored in segments" if segmented else "is missing"
            raise InputError(
                f"{shown(path)}: its table of colours {kind}; convert it to grey or RGB"
            )
        entries, first, bits = (int(number) for number in descriptor)
        firsts.add(first)
        entries = entries or 2**16
        found = _entries_of(data, entries, big, path)
        if bits == 8 and found.max() < 2**8:
            found = found.astype(np.uint8)
        channels.append(found)
    sizes = {(len(one), one.dtype) for one in channels}
    if len(sizes) > 1 or len(firsts) > 1:
        raise InputError(
            f"{shown(path)}: its tables of red, green and blue differ in length or begin; export it again"
        )
    return np.stack(channels, axis=1), firsts.pop()


def _entries_of(data: bytes, entries: int, big: bool, path: Path) -> np.ndarray:
    """One channel of a table: 8 or 16 bits an entry, as its length says (some have a word for 8 bits)."""
    if len(data) >= 2 * entries:
        return np.frombuffer(data, ">u2" if big else "<u2", entries).astype(np.uint16)
    if len(data) >= entries:
        return np.frombuffer(data, np.uint8, entries)
    raise InputError(
        f"{shown(path)}: its table of colours has {len(data)} bytes for {entries} entries; "
        "export it again"
    )


def shows_greys(table: np.ndarray) -> bool:
    """Whether a table only shows greys, none of them darker than the one before."""
    red = table[:, :1]
    if not (table == red).all():
        return False
    steps = np.diff(red[:, 0].astype(np.int64))
    return bool((steps >= 0).all() and (steps > 0).any())


def palette_to_rgb(
    dataset: Any, values: np.ndarray, table: np.ndarray, first: int
) -> tuple[np.ndarray, list[str]]:
    """The colours of indices, (frames, rows, columns, 3), and what is to be told.

    The data set is that of an RGB image from then on.
    """
    colours = np.empty((*values.shape, 3), table.dtype)
    for number, frame in enumerate(values):
        places = np.clip(frame.astype(np.int64) - first, 0, len(table) - 1)
        colours[number] = table[places]
    bits = 8 * table.dtype.itemsize
    dataset.PhotometricInterpretation = "RGB"
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    for name in OF_THE_TABLE:
        if name in dataset:
            delattr(dataset, name)
    return colours, ["its pixels are indices of colours; they are written back as RGB"]
