"""Writes slides as Hamamatsu's scanners do: TIFF with places of 64 bits, and one JPEG a page.

After what tifffile and OpenSlide know of the format. Tiles are what lies between the restart marks of a JPEG;
tags say where each begins. They share the header of the JPEG.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
import PIL.Image

TEXT, SHORT, LONG, RATIONAL, SLONG, FLOAT = 2, 3, 4, 5, 9, 11
"""Types of values in tags."""
ROOM = 2**11
"""Bytes for a directory and what its entries point to."""


@dataclass(frozen=True)
class Page:
    """One page of a slide."""

    pixels: np.ndarray
    """(Y, X, 3), uint8; or (Y, X), uint16, of fluorescence, which is stored as JPEG XR without tiles."""
    blocks_of_tile: int = 0
    """0 for a page without tiles."""
    lens: float = 20.0
    """Magnification; -1 of the overview."""
    depth_nm: int = 0
    subsampling: int = 0
    """Of colours, as Pillow counts it: 0 for none, 2 for half of them in both directions."""


def encode(page: Page, quality: int = 90) -> bytes:
    """A JPEG with restart marks, or a JPEG XR."""
    if page.pixels.ndim == 2:
        return bytes(imagecodecs.jpegxr_encode(page.pixels, level=1.0))
    buffer = io.BytesIO()
    PIL.Image.fromarray(page.pixels).save(
        buffer,
        "JPEG",
        quality=quality,
        subsampling=page.subsampling,
        restart_marker_blocks=page.blocks_of_tile,
    )
    return buffer.getvalue()


def starts_of_tiles(jpeg: bytes) -> list[int]:
    """Behind the header of the scan, and behind each restart mark."""
    at = jpeg.index(b"\xff\xda")
    first = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    marks = re.finditer(rb"\xff[\xd0-\xd7]", jpeg[first:])
    return [first, *(first + mark.end() for mark in marks)]


def write_ndpi(
    path: Path, pages: Sequence[Page], begin: int = 12, micrometres_a_pixel: float = 0.5
) -> None:
    """Write a slide.

    Parameters
    ----------
    path
        Of the file.
    pages
        In the order of the file.
    begin
        Place of the first page. What lies before is a hole.
    micrometres_a_pixel
        Of all pages.
    """
    with path.open("wb") as file:
        file.write(b"II*\0" + struct.pack("<Q", begin))
        file.seek(begin)
        for number, page in enumerate(pages):
            _write_page(file, page, round(10000 / micrometres_a_pixel), number == len(pages) - 1)


def _write_page(file: BinaryIO, page: Page, pixels_a_cm: int, is_last: bool) -> None:
    """The directory, what its entries point to, and the JPEG."""
    jpeg = encode(page)
    here = file.tell()
    jpeg_at = here + ROOM
    following = 0 if is_last else jpeg_at + len(jpeg) + len(jpeg) % 2
    tags = _tags_of(page, jpeg, pixels_a_cm)
    tags[273] = (LONG, 1, struct.pack("<Q", jpeg_at))
    values_at = here + 2 + 16 * len(tags) + 8
    entries, upper, values = b"", b"", b""
    for code, (of_type, count, value) in sorted(tags.items()):
        inside = value.ljust(8, b"\0")
        if len(value) > 4 and code != 273:
            inside = struct.pack("<Q", values_at + len(values))
            values += value
        entries += struct.pack("<HHI", code, of_type, count) + inside[:4]
        upper += inside[4:]
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<Q", following) + upper
    assert len(directory + values) <= ROOM
    file.write((directory + values).ljust(ROOM, b"\0") + jpeg + bytes(len(jpeg) % 2))


def _tags_of(page: Page, jpeg: bytes, pixels_a_cm: int) -> dict[int, tuple[int, int, bytes]]:
    """Type, count and value by code, but for the place of the JPEG."""
    height, width = page.pixels.shape[:2]
    make, resolution = b"Hamamatsu\0", struct.pack("<II", pixels_a_cm, 1)
    starts = starts_of_tiles(jpeg) if page.blocks_of_tile else []
    values: dict[int, tuple[int, int, bytes]] = {
        256: (LONG, 1, struct.pack("<I", width)),
        257: (LONG, 1, struct.pack("<I", height)),
        258: (SHORT, 3, struct.pack("<3H", 8, 8, 8)),
        259: (SHORT, 1, struct.pack("<H", 7)),
        262: (SHORT, 1, struct.pack("<H", 6)),
        271: (TEXT, len(make), make),
        277: (SHORT, 1, struct.pack("<H", 3)),
        278: (LONG, 1, struct.pack("<I", height)),
        279: (LONG, 1, struct.pack("<I", len(jpeg))),
        282: (RATIONAL, 1, resolution),
        283: (RATIONAL, 1, resolution),
        296: (SHORT, 1, struct.pack("<H", 3)),
        65420: (LONG, 1, struct.pack("<I", 1)),
        65421: (FLOAT, 1, struct.pack("<f", page.lens)),
        65424: (SLONG, 1, struct.pack("<i", page.depth_nm)),
    }
    if page.pixels.ndim == 2:
        values[259] = (SHORT, 1, struct.pack("<H", 22610))
        values[65441] = (LONG, 1, struct.pack("<I", 17))
    if starts:
        values[65426] = (LONG, len(starts), struct.pack(f"<{len(starts)}I", *starts))
        values[65432] = (LONG, len(starts), bytes(4 * len(starts)))
    return values
