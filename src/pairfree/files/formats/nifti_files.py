"""The files of a NIfTI or Analyze image: one, or a header (.hdr) and its pixels (.img), and what a header is.

Other programs name files alike: ENVI's headers, images of disks.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from pairfree.errors import InputError
from pairfree.files.formats.packing import PLAIN, bare_name, open_packed, packing_of
from pairfree.files.messages import shown

SINGLE_SUFFIXES = (".nii", ".nii.gz")
PAIR_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")
PARTNERS = {".hdr": ".img", ".img": ".hdr"}
HEAD_BYTES = 540
"""Of the larger of the headers, NIfTI-2."""
SIZES = {348: "NIfTI-1 or Analyze", HEAD_BYTES: "NIfTI-2"}
"""What a header begins with: its own size."""
PAIRED = (b"ni1\0", b"ni2\0")
"""Magic words of headers whose pixels are in another file."""
OF_SURFACES = range(3000, 3100)
"""Intents of CIFTI."""
MOST_HEADER_BYTES = 2**26
"""In front of the pixels, where the size of a file says little."""


class Head(NamedTuple):
    """What the first bytes of a header say."""

    size: int
    """A key of ``SIZES``."""
    magic: bytes
    """Of NIfTI; anything in Analyze."""
    offset: float
    """Where the pixels begin in their file."""
    intent: int
    """What the values are, by number."""

    @property
    def is_analyze(self) -> bool:
        """A header of Analyze 7.5."""
        return self.size != HEAD_BYTES and self.magic not in (PAIRED[0], b"n+1\0")


def parse_head(data: bytes) -> Head | None:
    """The first bytes of a file; None where they are no header."""
    for order in "<>":
        if len(data) < min(SIZES) or struct.unpack_from(f"{order}i", data)[0] not in SIZES:
            continue
        (size,) = struct.unpack_from(f"{order}i", data)
        if size == HEAD_BYTES and len(data) >= HEAD_BYTES:
            (offset,) = struct.unpack_from(f"{order}q", data, 168)
            (intent,) = struct.unpack_from(f"{order}i", data, 504)
            return Head(size, data[4:8], offset, intent)
        if size != HEAD_BYTES:
            (offset,) = struct.unpack_from(f"{order}f", data, 108)
            (intent,) = struct.unpack_from(f"{order}h", data, 68)
            return Head(size, data[344:348], offset, intent)
    return None


def partner_of(path: Path) -> Path | None:
    """The second file of an image of that name; None where it is one file."""
    bare = bare_name(path)
    other = PARTNERS.get(bare[-4:])
    if other is None:
        return None
    stem, packing = path.name[: len(bare) - 4], path.name[len(bare) :]
    if path.name[len(bare) - 4 : len(bare)].isupper():
        other = other.upper()
    return path.with_name(stem + other + packing)


def positions_beside(path: Path) -> Path:
    """Where SPM puts positions that a header has no room for: of Analyze, and of each volume of a series.

    Parameters
    ----------
    path
        Of an image, which is not looked at.
    """
    bare = bare_name(path)
    suffix = next(one for one in (".nii", *PARTNERS, "") if bare.endswith(one))
    return path.with_name(path.name[: len(bare) - len(suffix)] + ".mat")


def is_named_by_pixels(path: Path) -> bool:
    """Whether a path names the pixels of a pair, and not its header."""
    return bare_name(path).endswith(".img")


def pair_of(path: Path) -> tuple[Path, Path] | None:
    """Header and pixels, be they there or not; None where one file is both."""
    other = partner_of(path)
    if other is None:
        return None
    return (other, path) if is_named_by_pixels(path) else (path, other)


def is_nifti(path: Path) -> bool:
    """Whether a file of one of the suffixes is of the format, or may become so: one that is not there yet.

    Those of pairs are looked at, because other programs have files of these names.
    """
    pair = pair_of(path)
    if pair is None or not path.exists():
        return True
    header, pixels = pair
    if not (header.is_file() and pixels.is_file()):
        return False
    try:
        return parse_head(read_head(header)) is not None
    except (OSError, EOFError, zlib.error):
        return False


def read_head(path: Path) -> bytes:
    """First bytes of a file, unpacked."""
    with open_packed(path, packing_of(path)) as file:
        data: bytes = file.read(HEAD_BYTES)
        return data


def files_of(path: Path) -> tuple[Path, ...]:
    """Header and pixels of an image, as far as they are there."""
    pair = pair_of(path)
    if pair is None or not is_nifti(path):
        return (path,)
    return tuple(file for file in pair if file.exists()) or (path,)


def check_head(path: Path) -> Head | None:
    """Look at a header before nibabel does.

    Returns
    -------
    Head or None
        None for one file that begins with no header; nibabel has its own words for that.

    Raises
    ------
    InputError
        For half a pair, a header of another program, values that are no image, and a header too long.
    """
    pair = pair_of(path)
    header = path
    if pair is not None:
        header, pixels = pair
        missing = pixels if header.is_file() else header
        if not missing.is_file():
            raise InputError(
                f"{shown(path)}: an image of NIfTI or Analyze is two files, and {shown(missing.name)} is not "
                "there; copy it beside it, or name a file of another format"
            )
    data = read_head(header)
    head = parse_head(data)
    if head is None and pair is not None:
        kind = "of ENVI" if data.startswith(b"ENVI") else "of no format that is known"
        raise InputError(
            f"{shown(path)}: its header {shown(header.name)} is {kind}, expected NIfTI-1, NIfTI-2 or "
            "Analyze 7.5; export it as TIFF"
        )
    if head is not None:
        _check_kind(head, path, is_pair=pair is not None)
    return head


def _check_kind(head: Head, path: Path, is_pair: bool) -> None:
    if head.size == HEAD_BYTES and head.intent in OF_SURFACES:
        raise InputError(
            f"{shown(path)}: is CIFTI, which holds values on a brain's surface and no image; "
            "give the volume that they came from"
        )
    if is_pair and not head.is_analyze and head.magic not in PAIRED:
        raise InputError(
            f"{shown(path)}: its header says that the pixels follow in the same file; "
            "name it .nii where that is so, or export it again"
        )
    packed = packing_of(path) != PLAIN
    if packed and not 0 <= head.offset <= MOST_HEADER_BYTES:
        raise InputError(
            f"{shown(path)}: declares {head.offset:.0f} bytes in front of its pixels, "
            f"more than {MOST_HEADER_BYTES}; it is damaged, export it again"
        )
