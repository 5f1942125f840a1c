"""Strips and tiles of a TIFF that are pictures with headers of their own, measured before decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tifffile

from pairfree.errors import InputError
from pairfree.files.formats.jpeg_header import has_restart_or_end, restart_interval
from pairfree.files.formats.tiff_codecs import (
    DEFLATE_CODES,
    PICTURES,
    UNCOMPRESSED_CODE,
    WHOLE,
    ZSTD_CODE,
    decompress,
    quiet_decoder,
)
from pairfree.files.image import Shape
from pairfree.files.messages import reason

LERC_PARAMETERS = 50674
"""Code of the tag that says what packs pages of LERC once more."""
LERC_SPARE_BYTES = 2**16
"""What LERC may add to values that do not compress."""
Shared = dict[str, bytes | None]
"""What the strips or tiles of a page share, as arguments of tifffile's decoder of JPEG: ``jpegtables``, and
``jpegheader``, which stands once at the beginning of a page of Hamamatsu's and is cut to the size of a tile.
"""


class PictureDecoder:
    """Decodes strips or tiles that are pictures.

    Parameters
    ----------
    key
        A page of an open file, with a layout that others of its series share.
    segment
        Rows, columns and samples of a strip or tile.
    segment_bytes
        Decoded bytes of it.
    """

    def __init__(self, key: tifffile.TiffPage, segment: Shape, segment_bytes: int) -> None:
        self.segment = segment
        self.segment_bytes = segment_bytes
        self.dtype = np.dtype(key.dtype)
        self.lerc_inside = _compression_of_lerc(key)
        self._measure = PICTURES[int(key.compression)]
        self._is_whole = WHOLE.get(int(key.compression), lambda data: True)
        # made while the file is open
        self._decode = quiet_decoder(int(key.compression), key.decode)

    def decode(self, data: bytes, shared: Shared, index: int, where: str) -> np.ndarray:
        """(rows, columns, samples) of a strip or tile.

        Parameters
        ----------
        data
            As stored.
        shared
            Of its page.
        index
            Number of the strip or tile, from 0.
        where
            File, page and strip, for messages.

        Raises
        ------
        InputError
            For a picture that is damaged, or of another size or type.
        """
        if self.lerc_inside != UNCOMPRESSED_CODE:
            bound = self.segment_bytes + LERC_SPARE_BYTES
            data = bytes(_undo(decompress, where, self.lerc_inside, data, bound))
        header = shared.get("jpegheader") or b""
        self._check_size(header + data, where)
        is_whole = has_restart_or_end if header else self._is_whole
        if not is_whole(data):
            raise InputError(
                f"{where} is damaged (a picture whose end is missing); copy or export the file again"
            )
        block, _, _ = _undo(self._decode, where, data, index, **shared)
        if block is None:
            raise InputError(f"{where} holds no picture; export the file again")
        plane: np.ndarray = np.asarray(block)[0]
        samples = self.segment[2]
        if plane.dtype != self.dtype or plane.shape[-1] != samples:
            raise InputError(
                f"{where}: a picture of {plane.dtype.name} and {plane.shape[-1]} samples in a file of "
                f"{self.dtype.name} and {samples}; export the file again"
            )
        return plane

    def _check_size(self, picture: bytes, where: str) -> None:
        declared = self._measure(picture)
        high, wide, _ = self.segment
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


def shared_of_jpeg(page: tifffile.TiffPage | tifffile.TiffFrame, where: str) -> Shared:
    """What the strips or tiles of a page in JPEG share.

    Parameters
    ----------
    page
        Of an open file.
    where
        File and page, for messages.

    Raises
    ------
    InputError
        Where tiles of Hamamatsu's run on from one row of tiles to the next.
    """
    own = page if isinstance(page, tifffile.TiffPage) else page.keyframe
    header = None if own is None else own.jpegheader
    if own is None or header is None:
        return {"jpegtables": page.jpegtables, "jpegheader": None}
    blocks_of_tile = restart_interval(header)
    columns_of_block = own.tilewidth // max(1, blocks_of_tile)
    blocks_of_row = -(-own.imagewidth // max(1, columns_of_block))
    if blocks_of_tile < 1 or blocks_of_row % blocks_of_tile:
        raise InputError(
            f"{where}: its tiles of {blocks_of_tile} blocks do not fill its rows of {blocks_of_row}; "
            "export the slide as TIFF"
        )
    return {"jpegtables": page.jpegtables, "jpegheader": header}


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
