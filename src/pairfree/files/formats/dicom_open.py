"""Opening DICOM files: with or without their mark, inflated no further than their header declares."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

from pairfree.errors import InputError
from pairfree.files.formats import dicom_codecs
from pairfree.files.formats.dicom_pixels import PIXELS, find_layout
from pairfree.files.limits import DEFLATE, Limits, check_declared
from pairfree.files.messages import shown, size_text

PREAMBLE_BYTES = 128
MARK = b"DICM"
HEADER_BYTES = 2**24
"""A deflated header may inflate to so many."""
TRAILING_BYTES = 2**20
"""So many may follow the pixels of a deflated object."""
FIRST_ELEMENTS = 4
"""Of a file without the mark, so many elements are looked at."""
META_GROUP = 2
FIRST_GROUPS = (META_GROUP, 8)
"""Groups that an object begins with."""
LONG_LENGTH = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
"""Value representations whose length has 4 bytes, after 2 empty ones."""
UNDEFINED = 0xFFFFFFFF
"""Length of an element that lasts until its end is marked."""


def is_marked(path: Path) -> bool:
    """Whether a file bears DICOM's mark, whatever its name: archives export objects without a suffix."""
    try:
        if not path.is_file():  # a pipe would never answer
            return False
        return _has_mark(_first_bytes(path))
    except (OSError, ValueError):
        return False


def open_dataset(path: Path, limits: Limits) -> tuple[Any, list[str]]:
    """The data set of a file, with its pixels as they are stored, and what is to be told.

    A deflated one is inflated and is then one of explicit VR little endian.

    Raises
    ------
    InputError
        For what is no DICOM file, and for transfer syntaxes that are not read.
    """
    import pydicom

    _check_file(path, limits)
    head = _first_bytes(path)
    marked = _has_mark(head)
    if not marked and not begins_as_dicom(head):
        raise InputError(
            f"{shown(path)}: is no DICOM file (its mark DICM is missing, and it does not begin with "
            "elements of DICOM); check the name, or export it again"
        )
    told = []
    if not marked:
        told.append("lacks DICOM's preamble and mark; its result has them")
    meta, start = _read_meta(path, PREAMBLE_BYTES + len(MARK) if marked else 0)
    syntax = meta.get("TransferSyntaxUID")
    if syntax is not None:
        _check_syntax(syntax, path)
        if syntax.is_deflated:
            return _inflate(path, meta, start, limits), told
    dataset = pydicom.dcmread(path, force=not marked)
    if syntax is None:
        told.append(_state_syntax(dataset, path))
    return dataset, told


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2**12)


def _has_mark(head: bytes) -> bool:
    return head[PREAMBLE_BYTES : PREAMBLE_BYTES + len(MARK)] == MARK


def begins_as_dicom(head: bytes) -> bool:
    """Whether bytes can be the first elements of an object, in any of the three uncompressed encodings."""
    encodings = (("<", True), ("<", False), (">", True))
    return any(_elements_fit(head, order, explicit) for order, explicit in encodings)


def _elements_fit(head: bytes, order: str, explicit: bool) -> bool:
    """Whether the first elements have rising tags, known value representations and lengths that lead on."""
    at, last = 0, (0, 0)
    for number in range(FIRST_ELEMENTS):
        if at + 12 > len(head):
            return number > 1
        group, element = struct.unpack_from(f"{order}2H", head, at)
        if last[0] == META_GROUP != group:
            return True  # what follows the file's own elements may be encoded in another way
        rising = (group, element) > last
        if not rising or (number == 0 and group not in FIRST_GROUPS):
            return False
        step = _element_bytes(head, at, order, explicit)
        if step is None:
            return False
        at, last = at + step, (group, element)
    return True


def _element_bytes(head: bytes, at: int, order: str, explicit: bool) -> int | None:
    """Bytes of an element with its header; None where it cannot be one."""
    from pydicom.valuerep import VR

    size, length = 8, struct.unpack_from(f"{order}I", head, at + 4)[0]
    if explicit:
        kind = head[at + 4 : at + 6].decode("latin-1")
        if kind not in {one.value for one in VR}:
            return None
        length = struct.unpack_from(f"{order}H", head, at + 6)[0]
        if kind in LONG_LENGTH:
            size, length = 12, struct.unpack_from(f"{order}I", head, at + 8)[0]
    if length == UNDEFINED or length % 2 or at + size + length > len(head):
        return None
    return int(size + length)


def _read_meta(path: Path, start: int) -> tuple[Any, int]:
    """The elements of the file's group 2, and where they end."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset

    def is_past(tag: int, kind: str | None, length: int) -> bool:
        return tag >> 16 != META_GROUP

    with path.open("rb") as file:
        file.seek(start)
        elements = read_dataset(file, False, True, stop_when=is_past)
        meta = FileMetaDataset(elements)
        meta.set_original_encoding(False, True, "iso8859")
        return meta, file.tell()


def _check_syntax(syntax: Any, path: Path) -> None:
    """InputError for a transfer syntax that is not read.

    Before the data set is: it may be compressed as a whole.
    """
    from pydicom.uid import RLELossless

    read = not syntax.is_compressed or syntax == RLELossless or syntax in dicom_codecs.CODECS
    if not read:
        raise InputError(
            f"{shown(path)}: is compressed as {syntax.name}; "
            "decompress it first, for example with gdcmconv --raw"
        )


def _state_syntax(dataset: Any, path: Path) -> str:
    """Set the transfer syntax that a file does not state, as its elements were read; what is to be told."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        raise InputError(
            f"{shown(path)}: states no transfer syntax, and its pixels are compressed; "
            "export it again"
        )
    implicit, little = dataset.original_encoding
    syntax = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    if implicit:
        syntax = ImplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = syntax
    return f"states no transfer syntax; its elements are read as {syntax.name}"


def _check_file(path: Path, limits: Limits) -> None:
    """InputError for a file of more bytes than may be read whole: its elements are, before they are known."""
    size = path.stat().st_size
    if size > limits.max_bytes:
        raise InputError(
            f"{shown(path)}: has {size_text(size)}, more than the {size_text(limits.max_bytes)} that may be "
            "read whole; split it into files of fewer frames"
        )


def _inflate(path: Path, meta: Any, start: int, limits: Limits) -> Any:
    """The data set of a deflated object, its header first, and then what that declares."""
    from pydicom.uid import ExplicitVRLittleEndian

    packed = path.read_bytes()[start:]
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    first = unpacker.decompress(packed, HEADER_BYTES)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if unpacker.eof:
        return _parse(first, meta)[0]
    header, pixels_at = _parse(first, meta, stop=True)
    if pixels_at is None:
        whole = unpacker.unconsumed_tail
        told = f"inflates to more than {size_text(HEADER_BYTES)}" if whole else "is cut off"
        raise InputError(f"{shown(path)}: its deflated header {told}; export it again")
    layout = find_layout(header, path)
    size = layout.full_size(len(packed))
    declared = check_declared(path, layout.shape, layout.words.dtype, limits, size, DEFLATE)
    most = pixels_at + declared + TRAILING_BYTES
    rest = unpacker.decompress(unpacker.unconsumed_tail, max(1, most - len(first)))
    if not unpacker.eof:
        told = "more than it declares" if unpacker.unconsumed_tail else "less than it declares"
        raise InputError(f"{shown(path)}: inflates to {told}; copy or export it again")
    return _parse(first + rest, meta)[0]


def _parse(data: bytes, meta: Any, stop: bool = False) -> tuple[Any, int | None]:
    """The data set of inflated bytes; with ``stop``, up to its pixels, and where these are, or None."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataset import FileDataset
    from pydicom.filereader import read_dataset

    pixel_tags = {tag_for_keyword(name): name for name in PIXELS}
    found: list[int] = []

    def is_pixels(tag: int, kind: str | None, length: int) -> bool:
        if stop and tag in pixel_tags:
            found.append(int(tag))
        return bool(found)

    file = BytesIO(data)
    elements = read_dataset(file, False, True, stop_when=is_pixels)
    dataset = FileDataset(file, elements, b"\0" * PREAMBLE_BYTES, meta, False, True)
    if not found:
        return dataset, None
    setattr(dataset, pixel_tags[found[0]], b"")
    return dataset, file.tell()
