"""MetaImage: a text header (.mhd) with its pixels in other files, or both in one (.mha).

ITK, 3D Slicer and elastix write them. Kept: every line of the header but those that say where and how the
pixels are stored, byte order, compression, and which of the two it was.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pairfree.errors import InputError, OutputError
from pairfree.files.formats.metaimage_header import TYPES, Header, header_text, read_header
from pairfree.files.image import DType, Image, Index, Shape, Stored, check_dtype
from pairfree.files.limits import DEFLATE, Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.spans import split_into_spans
from pairfree.files.stored import RawFile
from pairfree.files.wide_integers import is_wide, narrow, type_in_file

WRITTEN_BYTES = 2**24
"""Pixels are written so many at a time."""
SIZE = "CompressedDataSize"
SIZE_DIGITS = 19
"""Room that is kept for a size in front of pixels that are not yet compressed."""


class Files(Stored):
    """Pixels in several raw files, one for each step of the first axis, or of the first few."""

    def __init__(self, parts: list[RawFile], outer: Shape) -> None:
        self.parts, self.outer = parts, outer
        first = parts[0]
        self.shape = (*outer, *first.shape)
        self.dtype, self.plane_axes = first.dtype, first.plane_axes

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``."""
        outer = len(self.outer)
        number = np.ravel_multi_index(index[:outer], self.outer)
        return self.parts[int(number)].region(index[outer:], rows, columns)


def read_metaimage(path: Path, limits: Limits) -> Image:
    """Read an image of 2 or more dimensions; channels of an element are samples. Raises InputError."""
    header = read_header(path)
    shape, kind = header.shape, header.kind
    if kind not in TYPES:
        raise InputError(
            f"{shown(path)}: ElementType is {shown(kind)!r}; expected one of {', '.join(TYPES)}; "
            "export it as numbers"
        )
    dtype = _dtype_of(header)
    check_dtype(dtype, shown(path), wide=True)
    if not header.is_true("BinaryData", "True"):
        raise InputError(
            f"{shown(path)}: its pixels are text (BinaryData = False); export it as binary"
        )
    files = header.files()
    skipped = header.whole_number("HeaderSize", 0)
    if files == [path] and skipped == 0:
        skipped = header.end
    lines: list[str] = []
    data: np.ndarray | Stored
    if header.compressed:
        data = _inflate(path, files, skipped, shape, dtype, limits)
    else:
        data, lines = _open_raw(header, files, skipped, limits)
    of_wide: dict[str, str] = {}
    if isinstance(data, np.ndarray):
        data, of_wide = narrow(data, shown(path))
    return Image(
        data,
        header.axes,
        header.spacing,
        source=path,
        family="metaimage",
        metadata={"metaimage": header, "warnings": lines, **of_wide},
        # Two samples, or four of other types: vectors and complex numbers.
        alpha=header.channels == 4 and kind == "MET_UCHAR",
    )


def _dtype_of(header: Header) -> DType:
    """In the file's byte order."""
    return np.dtype(TYPES[header.kind]).newbyteorder(header.order)


def _open_raw(
    header: Header, files: list[Path], skipped: int, limits: Limits
) -> tuple[np.ndarray | Stored, list[str]]:
    """Uncompressed pixels, left in their files where they are many.

    Parameters
    ----------
    header
        What they are.
    files
        Where they are, one part each.
    skipped
        Bytes in front of the pixels of each file; -1: they are at its end.
    limits
        Of what may be declared, and read at once.

    Returns
    -------
    tuple
        The pixels, and a line about each file that has more than them.
    """
    shape, dtype = header.shape, _dtype_of(header)
    counts = [math.prod(shape[:outer]) for outer in range(len(shape))]
    outer = counts.index(len(files))
    part_shape = shape[outer:]
    part_bytes = math.prod(part_shape) * dtype.itemsize
    may_stay = not is_wide(dtype)
    parts: list[RawFile] = []
    lines: list[str] = []
    for file in files:
        size = file.stat().st_size
        offset = size - part_bytes if skipped == -1 else skipped
        stored = size - max(0, offset)
        check_declared(file, part_shape, dtype, limits, stored, may_stay=may_stay)
        unused = size - offset - part_bytes
        if offset < 0 or unused < 0:
            raise InputError(
                f"{shown(header.path)}: HeaderSize is {skipped} for {shown(file)} of {size} bytes; "
                "correct the header"
            )
        if unused:
            lines.append(f"{file.name}: {unused} bytes after the pixels are not used")
        parts.append(RawFile(file, offset, part_shape, dtype, header.plane_axes))
    stored_bytes = part_bytes * len(files)
    total = check_declared(header.path, shape, dtype, limits, stored_bytes, may_stay=may_stay)
    data: Stored = parts[0] if len(parts) == 1 else Files(parts, shape[:outer])
    if may_stay and total > limits.resident_bytes:
        return data, lines
    return data.whole(), lines


def _inflate(
    path: Path, files: list[Path], offset: int, shape: Shape, dtype: DType, limits: Limits
) -> np.ndarray:
    """Compressed pixels, which are in one file."""
    if len(files) > 1:
        raise InputError(
            f"{shown(path)}: its pixels are compressed in {len(files)} files; export it as one"
        )
    file_size = files[0].stat().st_size - offset
    n_bytes = check_declared(path, shape, dtype, limits, file_size, DEFLATE)
    with files[0].open("rb") as file:
        file.seek(offset)
        inflate = zlib.decompressobj(wbits=47)  # zlib or gzip
        data = inflate.decompress(file.read(), n_bytes + 1)
    if len(data) != n_bytes:
        found = f"more than {n_bytes}" if len(data) > n_bytes else str(len(data))
        raise InputError(
            f"{shown(files[0])}: holds {found} bytes of pixels, {n_bytes} are declared; "
            "it is damaged, export it again"
        )
    pixels = np.frombuffer(data, dtype).reshape(shape)
    return pixels.astype(dtype.newbyteorder("="), copy=False)


def files_of(path: Path) -> tuple[Path, ...]:
    """Header and pixels of an image, as far as they are there."""
    try:
        others = [file for file in read_header(path).files() if file != path]
    except (InputError, OSError, LookupError, ValueError, ArithmeticError):
        return (path,)
    return (path, *others)


def pixel_file(path: Path) -> Path | None:
    """Where the pixels of an image named ``path`` are written; None where they are in the same file."""
    return path.with_suffix(".raw") if path.suffix.lower() == ".mhd" else None


def pixels_name(path: Path) -> str:
    """What the header of an image named ``path`` calls the file of its pixels."""
    second = pixel_file(path)
    return "LOCAL" if second is None else second.name


def write_metaimage(
    image: Image, path: Path, pixels: Path | None = None, *, pixels_name: str
) -> None:
    """Write header and pixels; OutputError for an image that was no MetaImage.

    Parameters
    ----------
    image
        Read by ``read_metaimage``, perhaps with other pixels.
    path
        The file for the header.
    pixels
        The file for the pixels; None: they follow the header.
    pixels_name
        What the header calls it.
    """
    header = image.metadata.get("metaimage")
    if not isinstance(header, Header):
        raise OutputError(
            f"{shown(path)}: a MetaImage can only be written from a MetaImage; write TIFF instead"
        )
    dtype = _dtype_of(header)
    native = dtype.newbyteorder("=")
    if type_in_file(image) != native or image.shape != header.shape:
        raise OutputError(
            f"{shown(path)}: {image.dtype} {image.shape} is not what its header describes; "
            "write TIFF instead"
        )
    first = [
        *header.kept,
        ("BinaryData", "True"),
        ("BinaryDataByteOrderMSB", str(header.order == ">")),
        ("CompressedData", str(header.compressed)),
    ]
    last = [("ElementType", header.kind), ("ElementDataFile", pixels_name)]
    if pixels is not None:
        with pixels.open("wb") as file:
            written = _write_pixels(image, file, dtype, header.compressed)
        size = [(SIZE, str(written))] if header.compressed else []
        path.write_bytes(header_text([*first, *size, *last]))
        return
    # The size of compressed pixels stands before them: its place is kept, and filled in afterwards.
    size = [(SIZE, " " * SIZE_DIGITS)] if header.compressed else []
    with path.open("wb") as file:
        file.write(header_text([*first, *size, *last]))
        written = _write_pixels(image, file, dtype, header.compressed)
        if header.compressed:
            file.seek(len(header_text(first)) + len(f"{SIZE} = "))
            file.write(f"{written:<{SIZE_DIGITS}}".encode())


def _write_pixels(image: Image, file: BinaryIO, dtype: DType, compressed: bool) -> int:
    """Some rows at a time; the bytes that it took."""
    start, deflate = file.tell(), zlib.compressobj()
    row_bytes = image.width * image.samples * dtype.itemsize
    rows_at_once = max(1, WRITTEN_BYTES // max(1, row_bytes))
    for index in image.planes():
        for rows in split_into_spans(image.height, rows_at_once):
            part = image.region(index, rows, slice(0, image.width))
            data = np.ascontiguousarray(part, dtype=dtype).data
            file.write(deflate.compress(data) if compressed else data)
    if compressed:
        file.write(deflate.flush())
    return file.tell() - start
