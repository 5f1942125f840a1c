"""Decoding of TIFF pages under limits: nothing is allocated beyond what the checked headers declare.

Strips and tiles are decoded here and not by tifffile because each codec must stop at the declared size of its
strip. A strip that is missing, short, or inflates beyond its size is an InputError, never zeros.
"""

from __future__ import annotations

import lzma
import math
import mmap
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from pairfree.errors import InputError
from pairfree.files.formats.jpeg_header import declared_size
from pairfree.files.image import Stored
from pairfree.files.limits import (
    DEFLATE,
    JPEG,
    LZW,
    PACKBITS,
    UNCOMPRESSED,
    ZSTD,
    Limits,
    check_pages,
)
from pairfree.files.messages import shown, size_text
from pairfree.files.stored import Kept

RATIOS = {
    1: UNCOMPRESSED,
    5: LZW,
    7: JPEG,
    8: DEFLATE,
    32946: DEFLATE,
    50013: DEFLATE,
    32773: PACKBITS,
    34925: ZSTD,
    50000: ZSTD,
}
KEPT_BYTES = 2**26
"""Of decoded strips and tiles, for the next region."""
_HEADERS = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}


def count_pages(path: Path, limits: Limits) -> int:
    """Number of pages in the chain of image file directories.

    InputError for no TIFF, a loop, a broken chain, or too many.
    """
    with path.open("rb") as file:
        head = file.read(16)
        if head[:4] not in _HEADERS or len(head) < 16:
            raise InputError(
                f"{shown(path)}: is no TIFF file (it begins with {head[:4]!r}); copy it again, or give it the suffix of its format"
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _walk(data, path, limits, *_HEADERS[head[:4]])


def _walk(data: mmap.mmap, path: Path, limits: Limits, byteorder: str, big: bool) -> int:
    entry_bytes = 20 if big else 12
    count_field, offset_field = (
        struct.Struct(byteorder + ("Q" if big else "H")),
        struct.Struct(byteorder + ("Q" if big else "I")),
    )
    (offset,) = offset_field.unpack_from(data, 8 if big else 4)
    seen: set[int] = set()
    size = len(data)
    while offset:
        if offset in seen:
            raise InputError(
                f"{shown(path)}: damaged TIFF, page {len(seen)} points back to an earlier page; export it again"
            )
        seen.add(offset)
        if len(seen) > limits.max_pages:
            check_pages(path, len(seen), limits)
        start = offset + count_field.size
        end = (
            start + count_field.unpack_from(data, offset)[0] * entry_bytes
            if start <= size
            else size
        )
        if end + offset_field.size > size:
            raise InputError(
                f"{shown(path)}: truncated TIFF, the directory of page {len(seen)} lies beyond the end; copy or export it again"
            )
        if len(seen) == 1:
            _check_description(data[start:end], byteorder, big, size, path)
        (offset,) = offset_field.unpack_from(data, end)
    if not seen:
        raise InputError(f"{shown(path)}: TIFF without any page; was it written completely?")
    return len(seen)


def _check_description(entries: bytes, byteorder: str, big: bool, size: int, path: Path) -> None:
    """InputError when the text that describes the file lies beyond its end: pixel size and axes would be lost
    without a word."""
    entry = struct.Struct(byteorder + ("HHQQ" if big else "HHII"))
    for code, _, length, place in entry.iter_unpack(entries):
        if code == 270 and length > (8 if big else 4) and place + length > size:
            raise InputError(
                f"{shown(path)}: truncated TIFF, its description lies beyond the end; copy or export it again"
            )


@dataclass(frozen=True)
class Places:
    """number   of the page, from 1;  offsets, counts   bytes, of its strips or tiles;  jpegtables   shared by
    them, or None"""

    number: int
    offsets: np.ndarray
    counts: np.ndarray
    jpegtables: bytes | None


class PageDecoder:
    """Decodes pages of one series, which share a layout: ``key.shaped`` (separate samples, depth, height,
    width, samples of a pixel)."""

    def __init__(self, key: tifffile.TiffPage, path: Path, limits: Limits, file_size: int) -> None:
        if key.dtype is None:
            raise InputError(
                f"{shown(path)}: TIFF pixel type is not supported; save it as 8-, 16- or 32-bit TIFF"
            )
        self.key, self.path, self.dtype = key, path, np.dtype(key.dtype)
        self.file_size, self.byteorder = file_size, key.parent.byteorder
        self.compression = int(key.compression)
        self.predictor = int(key.predictor)
        self._check_layout()
        _, _, height, width, samples = key.shaped
        if key.is_tiled:
            self.segment = (int(key.tilelength), int(key.tilewidth), samples)
        else:
            self.segment = (min(int(key.rowsperstrip), height) or height, width, samples)
        self.segment_bytes = math.prod(self.segment) * self.dtype.itemsize
        across = -(-width // self.segment[1]) if all(self.segment) else 0
        self.grid = (-(-height // self.segment[0]) if across else 0, across)
        bound = min(limits.max_bytes, file_size * RATIOS[self.compression] + 2**20)
        # A tile may be larger than its image, but not much: tiles are multiples of 16 pixels, rarely above
        # 4096.
        if not across or self.segment_bytes > min(bound, max(16 * key.nbytes, 2**28)):
            declared = "x".join(map(str, self.segment))
            raise InputError(
                f"{shown(path)}: damaged TIFF, tiles of {declared} pixels for an image of {height}x{width}; export it again"
            )

    def _check_layout(self) -> None:
        key, name = self.key, shown(self.path)
        if self.compression not in RATIOS:
            kind = getattr(key.compression, "name", str(key.compression))
            raise InputError(
                f"{name}: TIFF compression {kind} is not supported; save it uncompressed or with deflate, LZW or zstd"
            )
        packed = key.bitspersample != self.dtype.itemsize * 8
        if (
            packed
            or int(key.fillorder) != 1
            or key.shaped[1] != 1
            or (key.is_tiled and int(key.tiledepth) != 1)
        ):
            detail = (
                f"{key.bitspersample} bits, fill order {int(key.fillorder)}, depth {key.shaped[1]}"
            )
            raise InputError(
                f"{name}: this TIFF layout is not supported ({detail}); save it as plain 8-, 16- or 32-bit TIFF"
            )
        if self.predictor not in (1, 2, 3) or (self.predictor == 3 and self.dtype.kind != "f"):
            raise InputError(
                f"{name}: TIFF predictor {self.predictor} for {self.dtype.name} is not supported; save it without compression"
            )
        if key.sampleformat == 5 or (key.is_subsampled and self.compression != 7):
            raise InputError(
                f"{name}: this TIFF pixel layout (complex or subsampled) is not supported; save it as plain grey or RGB"
            )

    def places(self, page: tifffile.TiffPage | tifffile.TiffFrame, number: int) -> Places:
        """Where the strips or tiles of a page lie.

        ``number`` counts pages from 1 for messages. Raises InputError.
        """
        needed = self.key.shaped[0] * self.grid[0] * self.grid[1]
        offsets, counts = page.dataoffsets, page.databytecounts
        if not len(offsets) == len(counts) == needed:
            listed = f"{len(offsets)} places and {len(counts)} sizes"
            raise InputError(
                f"{shown(self.path)}: page {number} lists {listed} for {needed} strips or tiles; export the file again"
            )
        tables = page.jpegtables if self.compression == 7 else None
        return Places(number, np.array(offsets, np.int64), np.array(counts, np.int64), tables)

    def region(
        self, file: BinaryIO, places: Places, rows: slice, columns: slice, kept: Kept | None = None
    ) -> np.ndarray:
        """Rows and columns of a page from an open file: (separate samples, h, w, samples of a pixel).

        Raises InputError.
        """
        separate, _, height, _, samples = self.key.shaped
        high, wide, _ = self.segment
        out = np.empty(
            (separate, rows.stop - rows.start, columns.stop - columns.start, samples), self.dtype
        )
        for sample in range(separate):
            for down in range(rows.start // high, -(-rows.stop // high)):
                for across in range(columns.start // wide, -(-columns.stop // wide)):
                    index = (sample * self.grid[0] + down) * self.grid[1] + across
                    block = None if kept is None else kept.get((places.number, index))
                    if block is None:
                        block = self._segment(file, places, index, min(high, height - down * high))
                        if kept is not None:
                            kept.put((places.number, index), block)
                    top, left = down * high, across * wide
                    y, x = (
                        (max(rows.start, top), min(rows.stop, top + high)),
                        (max(columns.start, left), min(columns.stop, left + wide)),
                    )
                    inside = block[y[0] - top : y[1] - top, x[0] - left : x[1] - left]
                    out[
                        sample,
                        y[0] - rows.start : y[1] - rows.start,
                        x[0] - columns.start : x[1] - columns.start,
                    ] = inside
        return out

    def _segment(self, file: BinaryIO, places: Places, index: int, high: int) -> np.ndarray:
        """One strip or tile, (rows, columns, samples): all declared rows of a tile, at least ``high`` rows of
        a strip."""
        where = f"{shown(self.path)}: page {places.number}, {'tile' if self.key.is_tiled else 'strip'} {index + 1}"
        offset, count, dtype = int(places.offsets[index]), int(places.counts[index]), self.dtype
        row_bytes = self.segment[1] * self.segment[2] * dtype.itemsize
        least = row_bytes * (self.segment[0] if self.key.is_tiled else high)
        # Some writers state 0 for all uncompressed strips, or too large counts; a smaller one is a sign of
        # damage.
        stored = (
            least
            if self.compression == 1 and (count >= least or not places.counts.any())
            else count
        )
        if stored <= 0 or offset <= 0 or offset + stored > self.file_size:
            raise InputError(
                f"{where} is missing or cut off ({size_text(max(stored, 0))} at {offset}); copy or export the file again"
            )
        file.seek(offset)
        data = file.read(stored)
        if self.compression == 7:
            return self._jpeg(data, places, index, where)
        raw = data if self.compression == 1 else self._inflate(data, where)
        if len(raw) < least:
            raise InputError(
                f"{where} holds {len(raw)} of {least} bytes; the file is truncated or damaged, copy or export it again"
            )
        rows = min(len(raw) // row_bytes, self.segment[0])
        flat = np.frombuffer(raw, np.uint8, count=rows * row_bytes)
        if self.predictor == 3:
            return _undo_float_prediction(
                flat.reshape(rows, row_bytes), self.segment[1], self.segment[2], dtype
            )
        block = flat.view(dtype.newbyteorder(self.byteorder)).reshape(rows, *self.segment[1:])
        if self.predictor == 2:
            unsigned = block.astype(dtype).view(f"u{dtype.itemsize}")
            block = np.add.accumulate(unsigned, axis=1, dtype=unsigned.dtype).view(dtype)
        return block

    def _inflate(self, data: bytes, where: str) -> bytes | bytearray | memoryview:
        bound = self.segment_bytes
        try:
            raw = _decompress(self.compression, data, bound)
        except ImportError as error:
            raise InputError(
                f"{where} needs the package imagecodecs to decode; run: pip install imagecodecs"
            ) from error
        except (RuntimeError, ValueError, zlib.error, lzma.LZMAError, EOFError) as error:
            raise InputError(
                f"{where} is damaged or inflates beyond its declared {bound} bytes; export the file again"
            ) from error
        if len(raw) > bound:
            raise InputError(
                f"{where} inflates beyond its declared {bound} bytes; the file is damaged, export it again"
            )
        return raw

    def _jpeg(self, data: bytes, places: Places, index: int, where: str) -> np.ndarray:
        declared = declared_size(data)
        if declared is None or declared[0] > self.segment[0] or declared[1] > self.segment[1]:
            raise InputError(
                f"{where}: JPEG data of size {declared} in a strip or tile of {self.segment[:2]}; export the file again"
            )
        block, _, _ = self.key.decode(
            data, index, jpegtables=places.jpegtables, jpegheader=self.key.jpegheader
        )
        if block is None:
            raise InputError(f"{where} holds no JPEG data; export the file again")
        return np.asarray(block)[0]


def _decompress(compression: int, data: bytes, bound: int) -> bytes | bytearray | memoryview:
    """Decoded bytes; at most ``bound`` + 1 are produced, or the codec raises."""
    if compression in (8, 32946, 50013):
        try:
            import imagecodecs  # libdeflate inflates about twice as fast as zlib
        except ImportError:
            return zlib.decompressobj().decompress(data, bound + 1)
        return _deflate(imagecodecs, data, bound)
    if compression == 34925:
        return lzma.LZMADecompressor().decompress(data, bound + 1)
    import imagecodecs

    if compression == 5:
        return imagecodecs.lzw_decode(data, out=bound + 1)
    if compression == 32773:
        return imagecodecs.packbits_decode(data, out=bound)
    return imagecodecs.zstd_decode(data, out=bound)


def _deflate(imagecodecs: Any, data: bytes, bound: int) -> bytes | bytearray | memoryview:
    try:
        return imagecodecs.deflate_decode(data, out=bound)
    except imagecodecs.DelayedImportError:  # built without libdeflate
        return zlib.decompressobj().decompress(data, bound + 1)


def _undo_float_prediction(
    raw: np.ndarray, width: int, samples: int, dtype: np.dtype[Any]
) -> np.ndarray:
    """TIFF predictor 3: bytes are differences along the row, most significant bytes of all values first.
    (rows, width, samples)."""
    rows = raw.shape[0]
    summed = np.add.accumulate(raw.reshape(rows, -1, samples), axis=1, dtype=np.uint8).reshape(
        rows, dtype.itemsize, width * samples
    )
    big_endian = np.ascontiguousarray(summed.transpose(0, 2, 1))
    return big_endian.view(dtype.newbyteorder(">")).reshape(rows, width, samples).astype(dtype)


class TiffPages(Stored):
    """Pages of one series that stay in their file; strips and tiles are decoded as regions ask for them."""

    def __init__(
        self, decoder: PageDecoder, places: list[Places], shape: tuple[int, ...], plane_axes: int
    ) -> None:
        self.decoder, self.places, self.shape, self.dtype, self.plane_axes = (
            decoder,
            places,
            shape,
            decoder.dtype,
            plane_axes,
        )
        self._kept = Kept(KEPT_BYTES)

    def region(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        number = int(np.ravel_multi_index(index, self.shape[: len(index)])) if index else 0
        with self.decoder.path.open("rb") as file:
            found = self.decoder.region(file, self.places[number], rows, columns, self._kept)
        if self.plane_axes == 2:
            return found[0, ..., 0]
        return np.moveaxis(found[..., 0], 0, -1) if len(found) > 1 else found[0]
