"""Grey images of 16 bits as Netpbm writes them (binary PGM): a toy that follows the recipe of a format."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pairfree.errors import InputError
from pairfree.files.image import Image
from pairfree.files.limits import Limits, check_declared
from pairfree.files.messages import shown

HEADER = re.compile(rb"P5\n(\d{1,9}) (\d{1,9})\n65535\n")
TYPE = np.dtype(">u2")


def read_pgm(path: Path, limits: Limits) -> Image:
    """Read one plane. Comments and other depths are refused."""
    with path.open("rb") as file:
        header = HEADER.match(file.read(64))
        if header is None:
            raise InputError(f"{shown(path)}: no PGM of 16 bits; save it as TIFF")
        width, height = int(header[1]), int(header[2])
        left = path.stat().st_size - header.end()
        if check_declared(path, (height, width), TYPE, limits, left) != left:
            raise InputError(
                f"{shown(path)}: {left} bytes of pixels where its header says otherwise"
            )
        file.seek(header.end())
        pixels = np.frombuffer(file.read(), TYPE).reshape(height, width)
    metadata = {"header": header[0]}
    return Image(pixels.astype(np.uint16), "YX", source=path, family="pgm", metadata=metadata)


def write_pgm(image: Image, path: Path) -> None:
    """Write the plane under the header that it came with."""
    height, width = image.shape
    header = image.metadata.get("header", b"P5\n%d %d\n65535\n" % (width, height))
    path.write_bytes(header + image.pixels.astype(TYPE).tobytes())
