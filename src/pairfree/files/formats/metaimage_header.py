"""The header of a MetaImage: lines of text, what they state, and the files that they name."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pairfree.errors import InputError
from pairfree.files.image import Shape, Spacing, volume_axes
from pairfree.files.messages import shown

TYPES = {
    "MET_CHAR": "int8",
    "MET_UCHAR": "uint8",
    "MET_SHORT": "int16",
    "MET_USHORT": "uint16",
    "MET_INT": "int32",
    "MET_UINT": "uint32",
    "MET_LONG": "int32",
    "MET_ULONG": "uint32",
    "MET_LONG_LONG": "int64",
    "MET_ULONG_LONG": "uint64",
    "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}
"""NumPy's types by those of the format."""
OF_THE_STORAGE = (
    "BinaryData",
    "BinaryDataByteOrderMSB",
    "ElementByteOrderMSB",
    "CompressedData",
    "CompressedDataSize",
    "HeaderSize",
    "ElementType",
    "ElementDataFile",
)
"""Keys that are written anew."""
OF_THE_PIXELS = ("ElementMin", "ElementMax")
"""Keys that are left out: they would be those of other pixels."""
NUMBERED = re.compile(r"[^%]*%0?\d?(\.\d)?[di][^%]*")
"""File names with a number in them, as printf has them."""
MOST_HEADER_BYTES = 2**20
MOST_FILES = 2**17


@dataclass(frozen=True)
class Header:
    """The lines of a header, up to the one that names the pixels.

    What is asked for and is no number where one is expected raises InputError.
    """

    path: Path
    """Of the header's file."""
    fields: tuple[tuple[str, str], ...]
    """Key and value of each line, in order."""
    names: tuple[str, ...]
    """Of the files with the pixels, as the last line or the list after it has them."""
    end: int
    """Where pixels in the same file would begin, bytes."""

    @cached_property
    def stated(self) -> dict[str, str]:
        """Values by key."""
        return dict(self.fields)

    @property
    def kept(self) -> list[tuple[str, str]]:
        """The fields that say nothing of how the pixels are stored, or of their values."""
        left_out = (*OF_THE_STORAGE, *OF_THE_PIXELS)
        return [(key, value) for key, value in self.fields if key not in left_out]

    def is_true(self, key: str, usual: str = "False") -> bool:
        """Whether a line says yes; ``usual`` is what it says where it is missing."""
        return self.stated.get(key, usual)[:1].lower() in ("t", "1")

    def numbers(self, key: str) -> list[float]:
        """What a line states; none where it is missing."""
        try:
            return [float(word) for word in self.stated.get(key, "").split()]
        except ValueError:
            raise InputError(
                f"{shown(self.path)}: {key} is {shown(self.stated[key])!r}; expected numbers; "
                "correct the header"
            ) from None

    def whole_number(self, key: str, usual: int) -> int:
        """The first number of a line, ``usual`` where there is none."""
        found = self.numbers(key)
        return int(found[0]) if found else usual

    @property
    def kind(self) -> str:
        """The MET_ type of the pixels; empty where none is stated."""
        return self.stated.get("ElementType", "")

    @property
    def order(self) -> Literal["<", ">"]:
        """Of the bytes of a pixel, as NumPy spells it."""
        key = "ElementByteOrderMSB"
        if "BinaryDataByteOrderMSB" in self.stated:
            key = "BinaryDataByteOrderMSB"
        return ">" if self.is_true(key) else "<"

    @property
    def compressed(self) -> bool:
        """The pixels are deflated."""
        return self.is_true("CompressedData")

    @property
    def channels(self) -> int:
        """Samples of a pixel."""
        return self.whole_number("ElementNumberOfChannels", 1)

    @property
    def plane_axes(self) -> int:
        """Dimensions of a plane: 2, or 3 with samples."""
        return 3 if self.channels > 1 else 2

    @property
    def shape(self) -> Shape:
        """As the array has it: slowest first, samples last. InputError for what is no image."""
        sizes = self.numbers("DimSize")
        whole = all(size.is_integer() for size in sizes)
        if len(sizes) < 2 or not whole or len(sizes) != self.whole_number("NDims", 0):
            dimensions = self.stated.get("NDims", "missing")
            stated = shown(self.stated.get("DimSize", "missing"))
            raise InputError(
                f"{shown(self.path)}: states NDims = {dimensions} and DimSize = {stated}; "
                "an image needs as many whole numbers as dimensions, and two or more of them"
            )
        found = tuple(int(size) for size in reversed(sizes))
        return (*found, self.channels) if self.channels > 1 else found

    @property
    def leading(self) -> Shape:
        """Sizes of the axes in front of Y, which several files share out."""
        shape = self.shape
        return shape[: len(shape) - self.plane_axes]

    @property
    def axes(self) -> str:
        """A letter for each dimension of the array."""
        letters = volume_axes(len(self.leading) + 2)
        return letters + "S" if self.channels > 1 else letters

    @property
    def spacing(self) -> Spacing:
        """Millimetres, as all that read MetaImage take them."""
        steps = self.numbers("ElementSpacing") or self.numbers("ElementSize")
        found: Spacing = {}
        for axis, step in zip(reversed(self.axes.removesuffix("S")), steps):
            if axis in "ZYX" and math.isfinite(step) and step > 0:
                found[axis] = (step, "mm")
        return found

    def files(self) -> list[Path]:
        """The files with the pixels: the header's own for LOCAL.

        InputError where one is missing or outside of the header's folder.
        """
        if self.stated["ElementDataFile"].upper() == "LOCAL":
            return [self.path]
        names = self._names_of_files()
        leading = self.leading
        counts = [math.prod(leading[:outer]) for outer in range(len(leading) + 1)]
        if len(names) not in counts:
            raise InputError(
                f"{shown(self.path)}: names {len(names)} files for {leading} planes; "
                "expected one each, or one for all"
            )
        return [_file_beside(name, self.path) for name in names]

    def _names_of_files(self) -> list[str]:
        words = self.stated["ElementDataFile"].split()
        leading = self.leading
        if words[:1] == ["LIST"]:
            planes = words[1].rstrip("dD") if len(words) > 1 else ""
            outer = 1
            if planes.isdecimal():
                outer = max(0, len(leading) + 2 - int(planes))
            return list(self.names[: math.prod(leading[:outer])])
        if not _is_numbered(words):
            return list(self.names)
        count = leading[0] if leading else 1
        if count > MOST_FILES:
            raise InputError(
                f"{shown(self.path)}: declares {count} files, more than the limit of {MOST_FILES}; "
                "write them as one"
            )
        return _numbered_names(words[0], [int(word) for word in words[1:]], count)


def read_header(path: Path) -> Header:
    """The header at the beginning of a file; InputError where there is none."""
    fields: list[tuple[str, str]] = []
    with path.open("rb") as file:
        while file.tell() < MOST_HEADER_BYTES:
            line = _decoded(file.readline(MOST_HEADER_BYTES))
            words = [word.strip() for word in re.split("[=:]", line, maxsplit=1)]
            if not line or (words[0] and len(words) == 1):
                raise InputError(
                    f"{shown(path)}: is no MetaImage header, or ends before ElementDataFile; "
                    "export it again"
                )
            if not words[0]:
                continue
            key, value = words
            fields.append((key, value))
            if key == "ElementDataFile":
                end = file.tell()
                listed = [value]
                if value.split()[:1] == ["LIST"]:
                    listed = _decoded(file.read(MOST_HEADER_BYTES)).splitlines()
                names = [one.strip() for one in listed if one.strip()]
                return Header(path, tuple(fields), tuple(names), end)
    raise InputError(
        f"{shown(path)}: has no ElementDataFile in its first {MOST_HEADER_BYTES} bytes; "
        "it is no MetaImage header"
    )


def _decoded(data: bytes) -> str:
    """Headers are written in the encoding of file names; whatever is none of it comes back as it was."""
    return data.decode("utf-8", "surrogateescape")


def header_text(lines: list[tuple[str, str]]) -> bytes:
    """Keys and values as they stand in a file."""
    text = "".join(f"{key} = {value}\n" for key, value in lines)
    return text.encode("utf-8", "surrogateescape")


def _is_numbered(words: list[str]) -> bool:
    """Whether the files are named by a pattern, and up to three numbers: first, last and step."""
    if not words or not NUMBERED.fullmatch(words[0]) or len(words) > 4:
        return False
    return all(word.isdecimal() and len(word) < 7 for word in words[1:])


def _numbered_names(pattern: str, numbers: list[int], count: int) -> list[str]:
    """``count`` names; ``numbers`` are first, last and step, as far as they are stated."""
    first = numbers[0] if numbers else 1
    step = 1
    if len(numbers) > 2:
        step = max(1, numbers[2])
    elif len(numbers) == 2:
        step = max(1, (numbers[1] - first) // max(1, count - 1))
    if len(numbers) > 1:
        count = min(count, (numbers[1] - first) // step + 1)
    return [pattern % (first + place * step) for place in range(count)]


def _file_beside(name: str, path: Path) -> Path:
    """A file of the header's folder, which is there."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(
            f"{shown(path)}: its pixels are in {shown(name)}, outside of its folder; "
            "put the file beside it, and name it so"
        )
    file = path.parent / name
    if not file.is_file():
        raise InputError(
            f"{shown(path)}: its pixels are in {shown(file)}, which is not there; "
            "copy it beside the header"
        )
    return file
