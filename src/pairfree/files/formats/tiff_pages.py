"""Decoding of TIFF pages under limits: no more is allocated than what the checked headers declare.

Strips and tiles are decoded here and not by tifffile because each codec must stop at the declared
size of its strip. A strip that is missing, short, or inflates beyond its size is an InputError,
never zeros.
"""

from __future__ import annotations

import itertools
import lzma
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from pairfree.errors import InputError
from pairfree.files.formats.tiff_codecs import (
    DEFLATE_CODES,
    JPEG_CODE,
    PICTURES,
    RATIOS,
    UNCOMPRESSED_CODE,
    ZSTD_CODE,
    Bytes,
    decompress,
    quiet_decoder,
    undo_float_prediction,
    undo_prediction,
    unpack_bits,
)
from pairfree.files.image import Index, Shape, Stored
from pairfree.files.limits import Limits
from pairfree.files.messages import reason, shown, size_text
from pairfree.files.spans import length_of, numbers_of_chunks, overlap, relative_to
from pairfree.files.stored import Kept

KEPT_BYTES = 2**26
"""Of decoded strips and tiles, for the next region."""
LARGEST_TILE_BYTES = 2**28
"""A tile of more may be no more than sixteen times its page."""
LERC_PARAMETERS = 50674
"""Code of the tag that says what packs pages of LERC once more."""
LERC_SPARE_BYTES = 2**16
"""What LERC may add to values that do not compress."""
LEAST_FIRST = 2
"""Of FillOrder: the first bit of a byte is the least significant."""


@dataclass(frozen=True)
class Places:
    """Where the strips or tiles of a page lie in its file."""

    number: int
    """Of the page, from 1."""
    offsets: np.ndarray
    """Bytes from the beginning of the file, for each strip or tile."""
    counts: np.ndarray
    """Bytes of each."""
    jpegtables: bytes | None
    """Shared by them, or None."""


class PageDecoder:
    """Decodes pages of one series, which share a layout.

    Parameters
    ----------
    key
        A page of it. ``key.shaped`` is (separate samples, depth, height, width, samples of a pixel).
    path
        The file.
    limits
        What it may declare.
    file_size
        Its bytes.

    Raises
    ------
    InputError
        For a layout that is not supported, or cannot be true.
    """

    def __init__(self, key: tifffile.TiffPage, path: Path, limits: Limits, file_size: int) -> None:
        if key.dtype is None:
            raise InputError(
                f"{shown(path)}: TIFF pixel type is not supported; "
                "save it as 8-, 16- or 32-bit TIFF"
            )
        self.key = key
        self.path = path
        self.dtype = np.dtype(key.dtype)
        self.file_size = file_size
        self.byteorder = key.parent.byteorder
        self.compression = int(key.compression)
        self.predictor = int(key.predictor)
        self.lerc_inside = _compression_of_lerc(key)
        self._check_layout()
        _, _, height, width, samples = key.shaped
        if key.is_tiled:
            self.segment = (int(key.tilelength), int(key.tilewidth), samples)
        else:
            self.segment = (min(int(key.rowsperstrip), height) or height, width, samples)
        self.bits = int(key.bitspersample)
        high, wide, _ = self.segment
        self.row_bytes = -(-wide * samples * self.bits // 8)
        self.segment_bytes = high * self.row_bytes
        self.grid = (0, 0)
        if all(self.segment):
            self.grid = (-(-height // self.segment[0]), -(-width // self.segment[1]))
        self._check_segment(limits)
        if self.compression in PICTURES:  # made while the file is open
            self.decode_picture = quiet_decoder(self.compression, key.decode)

    def _check_layout(self) -> None:
        name = shown(self.path)
        key = self.key
        if self.compression not in RATIOS:
            kind = getattr(key.compression, "name", str(key.compression))
            raise InputError(
                f"{name}: TIFF compression {kind} is not supported; "
                "save it uncompressed or with deflate, LZW or zstd"
            )
        if (key.is_tiled and int(key.tiledepth) != 1) or key.shaped[1] != 1:
            raise InputError(
                f"{name}: its pages have a depth of {key.shaped[1]}; save it as a stack of pages"
            )
        if self._is_packed() and (self.dtype.kind != "u" or self.predictor != 1):
            raise InputError(
                f"{name}: {key.bitspersample} bits a pixel are read of unsigned integers without a "
                "predictor alone; save it with 8, 16 or 32 bits"
            )
        of_floats = self.predictor == 3
        if self.predictor not in (1, 2, 3) or (of_floats and self.dtype.kind != "f"):
            raise InputError(
                f"{name}: TIFF predictor {self.predictor} for {self.dtype.name} is not supported; "
                "save it without compression"
            )

    def _is_packed(self) -> bool:
        """Whether values are no whole bytes."""
        return int(self.key.bitspersample) != self.dtype.itemsize * 8

    def _check_segment(self, limits: Limits) -> None:
        """InputError for a tile that is larger than its file or its page explain."""
        bound = min(limits.max_bytes, self.file_size * RATIOS[self.compression] + 2**20)
        # A tile may be larger than its image, but not much: tiles are multiples of 16 pixels,
        # rarely above 4096.
        most = min(bound, max(16 * self.key.nbytes, LARGEST_TILE_BYTES))
        if not all(self.segment) or self.segment_bytes > most:
            declared = "x".join(map(str, self.segment))
            _, _, height, width, _ = self.key.shaped
            raise InputError(
                f"{shown(self.path)}: damaged TIFF, tiles of {declared} pixels "
                f"for an image of {height}x{width}; export it again"
            )

    def places(self, page: tifffile.TiffPage | tifffile.TiffFrame, number: int) -> Places:
        """Where the strips or tiles of a page lie.

        Parameters
        ----------
        page
            Of the series.
        number
            Of the page, from 1, for messages.

        Raises
        ------
        InputError
            Where it lists too many or too few.
        """
        needed = self.key.shaped[0] * math.prod(self.grid)
        offsets = page.dataoffsets
        counts = page.databytecounts
        if not len(offsets) == len(counts) == needed:
            listed = f"{len(offsets)} places and {len(counts)} sizes"
            raise InputError(
                f"{shown(self.path)}: page {number} lists {listed} for {needed} strips or tiles; "
                "export the file again"
            )
        tables = page.jpegtables if self.compression == JPEG_CODE else None
        return Places(number, np.array(offsets, np.int64), np.array(counts, np.int64), tables)

    def region(
        self, file: BinaryIO, places: Places, rows: slice, columns: slice, kept: Kept | None = None
    ) -> np.ndarray:
        """A part of a page.

        Parameters
        ----------
        file
            Open for reading.
        places
            Of the page's strips or tiles.
        rows, columns
            With a start and a stop within the page, and no step.
        kept
            Decoded strips and tiles of earlier regions; gets those of this one.

        Returns
        -------
        ndarray
            (separate samples, h, w, samples of a pixel).

        Raises
        ------
        InputError
            Where the file does not hold what it declared.
        """
        separate, _, _, _, samples = self.key.shaped
        high, wide, _ = self.segment
        out = np.empty((separate, length_of(rows), length_of(columns), samples), self.dtype)
        all_down = numbers_of_chunks(rows, high)
        all_across = numbers_of_chunks(columns, wide)
        for sample, down, across in itertools.product(range(separate), all_down, all_across):
            index = (sample * self.grid[0] + down) * self.grid[1] + across
            block = self._decoded(file, places, index, kept)
            top = down * high
            left = across * wide
            y = overlap(rows, slice(top, top + high))
            x = overlap(columns, slice(left, left + wide))
            inside = block[relative_to(y, top), relative_to(x, left)]
            out[sample, relative_to(y, rows.start), relative_to(x, columns.start)] = inside
        return out

    def _decoded(self, file: BinaryIO, places: Places, index: int, kept: Kept | None) -> np.ndarray:
        """One strip or tile, from what is kept or from the file."""
        if kept is None:
            return self._segment(file, places, index)
        key = (places.number, index)
        block = kept.get(key)
        if block is None:
            block = self._segment(file, places, index)
            kept.put(key, block)
        return block

    def _segment(self, file: BinaryIO, places: Places, index: int) -> np.ndarray:
        """One strip or tile, (rows, columns, samples).

        All declared rows of a tile; of a strip at least those that lie in the image.
        """
        kind = "tile" if self.key.is_tiled else "strip"
        where = f"{shown(self.path)}: page {places.number}, {kind} {index + 1}"
        least = self.row_bytes * self._rows_needed(index)
        data = self._read(file, places, index, least, where)
        if self.compression in PICTURES:
            return self._picture(data, places, index, where)
        raw: Bytes = data
        if self.compression != UNCOMPRESSED_CODE:
            raw = self._inflate(data, where)
        if len(raw) < least:
            raise InputError(
                f"{where} holds {len(raw)} of {least} bytes; "
                "the file is truncated or damaged, copy or export it again"
            )
        rows = min(len(raw) // self.row_bytes, self.segment[0])
        return self._values(raw, rows)

    def _values(self, raw: Bytes, rows: int) -> np.ndarray:
        """Bytes of so many rows as (rows, columns, samples)."""
        _, width, samples = self.segment
        if self._is_packed():
            whole = memoryview(raw)[: rows * self.row_bytes]
            packed = unpack_bits(whole, rows, width * samples, self.bits, self.dtype)
            return packed.reshape(rows, width, samples)
        flat = np.frombuffer(raw, np.uint8, count=rows * self.row_bytes)
        if self.predictor == 3:
            by_row = flat.reshape(rows, self.row_bytes)
            return undo_float_prediction(by_row, width, samples, self.dtype)
        in_file = self.dtype.newbyteorder(self.byteorder)
        block = flat.view(in_file).reshape(rows, width, samples)
        if self.predictor == 2:
            block = undo_prediction(block, self.dtype)
        return block

    def _rows_needed(self, index: int) -> int:
        """All rows of a tile; those of a strip that lie in the image."""
        high = self.segment[0]
        if self.key.is_tiled:
            return high
        top = index % self.grid[0] * high
        return min(high, self.key.shaped[2] - top)

    def _read(self, file: BinaryIO, places: Places, index: int, least: int, where: str) -> bytes:
        """Bytes of a strip or tile, as stored."""
        offset = int(places.offsets[index])
        stored = int(places.counts[index])
        # Some writers state 0 for all uncompressed strips, or too large counts; a smaller one is a
        # sign of damage.
        if self.compression == UNCOMPRESSED_CODE and (stored >= least or not places.counts.any()):
            stored = least
        if stored <= 0 or offset <= 0 or offset + stored > self.file_size:
            found = f"{size_text(max(stored, 0))} at {offset}"
            raise InputError(
                f"{where} is missing or cut off ({found}); copy or export the file again"
            )
        file.seek(offset)
        data = file.read(stored)
        if int(self.key.fillorder) == LEAST_FIRST:
            import imagecodecs

            data = bytes(imagecodecs.bitorder_decode(data))
        return data

    def _inflate(self, data: bytes, where: str) -> Bytes:
        bound = self.segment_bytes
        try:
            raw = decompress(self.compression, data, bound)
        except ImportError as error:
            raise InputError(
                f"{where} needs the package imagecodecs to decode; run: pip install imagecodecs"
            ) from error
        except (RuntimeError, ValueError, zlib.error, lzma.LZMAError, EOFError) as error:
            raise InputError(
                f"{where} is damaged or inflates beyond its declared {bound} bytes; "
                "export the file again"
            ) from error
        if len(raw) > bound:
            raise InputError(
                f"{where} inflates beyond its declared {bound} bytes; "
                "the file is damaged, export it again"
            )
        return raw

    def _picture(self, data: bytes, places: Places, index: int, where: str) -> np.ndarray:
        """A strip or tile that is a picture of its own, decoded after its header was looked at."""
        measure = PICTURES[self.compression]
        if self.lerc_inside != UNCOMPRESSED_CODE:
            bound = self.segment_bytes + LERC_SPARE_BYTES
            data = bytes(_undo(decompress, where, self.lerc_inside, data, bound))
        declared = measure(data)
        high, wide, samples = self.segment
        if declared is None:
            raise InputError(
                f"{where}: a picture whose header states no size that is understood; "
                "save the file with deflate"
            )
        if declared[0] > high or declared[1] > wide:
            raise InputError(
                f"{where}: a picture of size {declared} in a strip or tile of {(high, wide)}; "
                "export the file again"
            )
        tables = {"jpegtables": places.jpegtables, "jpegheader": self.key.jpegheader}
        block, _, _ = _undo(self.decode_picture, where, data, index, **tables)
        if block is None:
            raise InputError(f"{where} holds no picture; export the file again")
        plane: np.ndarray = np.asarray(block)[0]
        if plane.dtype != self.dtype or plane.shape[-1] != samples:
            raise InputError(
                f"{where}: a picture of {plane.dtype.name} and {plane.shape[-1]} samples in a file of "
                f"{self.dtype.name} and {samples}; export the file again"
            )
        return plane


def _undo(decode: Callable[..., Any], where: str, *given: Any, **words: Any) -> Any:
    """What a codec makes of data; InputError for whatever it raises on damaged ones."""
    try:
        return decode(*given, **words)
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(
            f"{where} is damaged ({reason(error)}); copy or export the file again"
        ) from error


def _compression_of_lerc(key: tifffile.TiffPage) -> int:
    """What packs pages of LERC once more, as a code of Compression."""
    tag = key.tags.get(LERC_PARAMETERS)
    if tag is None or not isinstance(tag.value, tuple) or len(tag.value) < 2:
        return UNCOMPRESSED_CODE
    return {1: DEFLATE_CODES[0], 2: ZSTD_CODE}.get(int(tag.value[1]), UNCOMPRESSED_CODE)


class TiffPages(Stored):
    """Pages of one series that stay in their file; regions are decoded as they are asked for.

    Parameters
    ----------
    decoder
        Of the series.
    places
        Of each page, in order.
    shape
        Of all pixels, samples last.
    plane_axes
        2, or 3 where the last axis is S.
    """

    def __init__(
        self, decoder: PageDecoder, places: list[Places], shape: Shape, plane_axes: int
    ) -> None:
        self.decoder = decoder
        self.places = places
        self.shape = shape
        self.dtype = decoder.dtype
        self.plane_axes = plane_axes
        self._kept = Kept(KEPT_BYTES)

    def region(self, index: Index, rows: slice, columns: slice) -> np.ndarray:
        """As ``Stored.region``."""
        number = 0
        if index:
            number = int(np.ravel_multi_index(index, self.shape[: len(index)]))
        with self.decoder.path.open("rb") as file:
            found = self.decoder.region(file, self.places[number], rows, columns, self._kept)
        if self.plane_axes == 2:
            plane = found[0, ..., 0]
        elif len(found) == 1:
            plane = found[0]
        else:
            plane = np.moveaxis(found[..., 0], 0, -1)
        return np.asarray(plane)
