"""PNG (read and write), JPEG and BMP (read; their results are written as PNG).

So nothing gains new artefacts of compression. ``png_chunks`` checks a PNG before it is decoded here;
density, text, colour profile and EXIF are written back.
"""

from __future__ import annotations

import io
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from pairfree.errors import InputError, OutputError
from pairfree.files.formats.png_chunks import (
    Chunk,
    Header,
    density_chunk,
    density_spacing,
    insert_chunks,
    scan_chunks,
)
from pairfree.files.image import Image, Step
from pairfree.files.limits import JPEG, Limits, check_declared
from pairfree.files.messages import shown, size_text

BMP_RATIO = 1100.0
"""Run-length coded and 1-bit BMPs are smaller than their pixels, by so much at most."""
CONVERTED = {"P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
"""Pillow's modes of JPEG and BMP that are no intensities, and what they become."""
MOST_DPI = 2**32 / 40
"""A chunk of PNG holds no greater density."""
METRES = {
    "m": 1.0,
    "cm": 1e-2,
    "mm": 1e-3,
    "µm": 1e-6,
    "nm": 1e-9,
    "pm": 1e-12,
    "Å": 1e-10,
    "inch": 0.0254,
}
_PIL_LIMIT = threading.Lock()


def read_png(path: Path, limits: Limits) -> Image:
    """Read a PNG: grey, grey + alpha, RGB, RGBA with 8 or 16 bits.

    Palettes become RGB, 2 and 4 bits become 8.

    Parameters
    ----------
    path
        The file.
    limits
        What it may declare.

    Raises
    ------
    InputError
        For a file that is damaged, animated, or a mask of 1 bit.
    """
    data = _read_whole(path, limits)
    scan = scan_chunks(data, path, limits)
    head = scan.header
    if scan.animated:
        raise InputError(
            f"{shown(path)}: is an animated PNG; "
            "export its frames as single files or as one TIFF stack"
        )
    if head.depth == 1 and head.colour == 0:
        raise _mask_error(path)
    if head.depth == 16 and head.colour != 0:
        pixels = _codec().png_decode(data)  # Pillow would drop the low 8 bits
    else:
        palette = "RGBA" if scan.transparent else "RGB"
        modes = {"P": palette, "PA": "RGBA"}
        pixels = _pixels_from_pillow(data, limits, modes, scan.warnings)
        if pixels.dtype.kind == "i":
            pixels = pixels.astype(np.uint16)  # Pillow before 11.2 decodes 16-bit grey into int32
    if head.depth < 8 and head.colour == 0:
        scan.warnings.append(f"{head.depth}-bit grey was spread over 8 bits")
    if scan.transparent and _lacks_transparency(pixels, head):
        scan.warnings.append("the transparent colour was dropped")
    return _image(pixels, path, "png", scan.kept, scan.warnings)


def read_jpeg(path: Path, limits: Limits) -> Image:
    """Read a JPEG (grey, RGB; CMYK becomes RGB). Its family is ``jpeg``, written as PNG."""
    return _read_with_pillow(path, limits, "jpeg", JPEG)


def read_bmp(path: Path, limits: Limits) -> Image:
    """Read a BMP (grey, RGB; palettes become RGB). Its family is ``bmp``, written as PNG."""
    return _read_with_pillow(path, limits, "bmp", BMP_RATIO)


def _read_with_pillow(path: Path, limits: Limits, family: str, max_ratio: float) -> Image:
    data = _read_whole(path, limits)
    with _opened(data, limits, [family.upper()]) as picture:
        shape = (picture.height, picture.width, len(picture.getbands()))
        mode = picture.mode
        info = {str(key): value for key, value in picture.info.items()}
    if mode == "1":
        raise _mask_error(path)
    check_declared(path, shape, np.dtype(np.uint8), limits, len(data), max_ratio)
    warnings: list[str] = []
    pixels = _pixels_from_pillow(data, limits, CONVERTED, warnings)
    return _image(pixels, path, family, _chunks_from_info(info), warnings)


def _read_whole(path: Path, limits: Limits) -> bytes:
    if path.stat().st_size > limits.max_bytes:
        most = size_text(limits.max_bytes)
        raise InputError(
            f"{shown(path)}: is larger than the {most} that may be read whole; crop it"
        )
    return path.read_bytes()


def _mask_error(path: Path) -> InputError:
    return InputError(
        f"{shown(path)}: is a 1-bit black-and-white mask; "
        "convert it to 8-bit grey if you mean to denoise it"
    )


@contextmanager
def _opened(
    data: bytes, limits: Limits, formats: list[str] | None = None
) -> Iterator[PIL.Image.Image]:
    """A picture, with our bound in place of Pillow's guard, which is a global."""
    with _PIL_LIMIT:
        before = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = limits.max_pixels
        try:
            with PIL.Image.open(io.BytesIO(data), formats=formats) as picture:
                yield picture
        except PIL.UnidentifiedImageError:
            raise ValueError(f"it begins with {data[:4]!r}") from None
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = before


def _pixels_from_pillow(
    data: bytes, limits: Limits, modes: dict[str, str], warnings: list[str]
) -> np.ndarray:
    """Decode with Pillow: (H, W) or (H, W, S).

    ``modes`` maps a stored mode to the one to convert it to, with a note.
    """
    with _opened(data, limits) as picture:
        picture.load()
        target = modes.get(picture.mode)
        if target is None:
            return np.array(picture)
        warnings.append(f"{picture.mode} pixels were converted to {target}")
        return np.array(picture.convert(target))


def _lacks_transparency(pixels: np.ndarray, head: Header) -> bool:
    """Whether a transparent colour that the file names is not in the decoded pixels."""
    if head.colour == 3:
        return False
    if head.colour == 0:
        return pixels.ndim == 2
    return pixels.ndim == 3 and pixels.shape[2] == 3


def _image(
    pixels: np.ndarray, path: Path, family: str, chunks: list[Chunk], warnings: list[str]
) -> Image:
    axes = "YX" if pixels.ndim == 2 else "YXS"
    metadata: dict[str, Any] = {"chunks": chunks, "warnings": warnings}
    spacing = density_spacing(chunks)
    return Image(pixels, axes, spacing, source=path, family=family, metadata=metadata)


def _chunks_from_info(info: dict[str, Any]) -> list[Chunk]:
    """PNG chunks for what a JPEG or BMP states: density, comment, EXIF, colour profile."""
    chunks: list[Chunk] = []
    if info.get("icc_profile"):
        profile = zlib.compress(info["icc_profile"])
        chunks.append((b"iCCP", b"icc\0\0" + profile))
    dpi = info.get("dpi")
    if dpi and all(0 < float(d) < MOST_DPI for d in dpi):
        x, y = [round(float(d) / 0.0254) for d in dpi]
        chunks.append(density_chunk(x, y))
    if isinstance(info.get("comment"), bytes):
        comment = info["comment"].replace(b"\0", b" ")
        chunks.append((b"tEXt", b"Comment\0" + comment))
    if isinstance(info.get("exif"), bytes):
        exif = info["exif"].removeprefix(b"Exif\0\0")
        chunks.append((b"eXIf", exif))
    return chunks


def write_png(image: Image, path: Path) -> None:
    """Write one plane of uint8 or uint16 with 1 to 4 samples.

    Parameters
    ----------
    image
        Of any origin.
    path
        Is made.

    Raises
    ------
    OutputError
        For what PNG cannot hold.
    """
    one_plane = image.axes in ("YX", "YXS") and image.samples <= 4
    if not one_plane or image.dtype not in (np.uint8, np.uint16):
        found = f"{image.dtype.name} {image.shape} ({image.axes})"
        raise OutputError(
            f"{shown(path)}: PNG holds one uint8 or uint16 plane of 1 to 4 samples, not {found}; "
            "write TIFF or .npy"
        )
    pixels = image.pixels
    if image.samples == 1:
        pixels = pixels.reshape(image.shape[:2])
    pixels = np.ascontiguousarray(pixels)
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        encoded = bytes(_codec().png_encode(pixels))  # Pillow has no 16-bit colour
    else:
        buffer = io.BytesIO()
        PIL.Image.fromarray(pixels).save(buffer, format="PNG")
        encoded = buffer.getvalue()
    path.write_bytes(insert_chunks(encoded, _consistent(image)))


def _consistent(image: Image) -> list[Chunk]:
    """The kept chunks, with the density replaced where the image states another pixel size."""
    chunks = list(image.metadata.get("chunks", []))
    stated = {axis: image.spacing[axis] for axis in "YX" if axis in image.spacing}
    if density_spacing(chunks) == stated:
        return chunks
    chunks = [chunk for chunk in chunks if chunk[0] != b"pHYs"]
    x = _per_metre(image.spacing.get("X"))
    y = _per_metre(image.spacing.get("Y"))
    if 0 < x < 2**31 and 0 < y < 2**31:
        chunks.append(density_chunk(x, y))
    return chunks


def _per_metre(step: Step | None) -> int:
    """Pixels in a metre; 0 where no length is stated."""
    size, unit = step or (0.0, "")
    if unit not in METRES:
        return 0
    return round(1 / (size * METRES[unit]))


def _codec() -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise InputError(
            "16-bit colour PNG needs the package imagecodecs; run: pip install imagecodecs"
        ) from error
    return imagecodecs
