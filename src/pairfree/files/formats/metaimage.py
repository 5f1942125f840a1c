"""MetaImage: a text header (.mhd) with its pixels in other files, or both in one (.mha), as ITK, 3D Slicer
and elastix write them.

Kept: every line of the header but those that say where and how the pixels are stored, byte order,
compression, and which of the two it was.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from pairfree.errors import InputError, OutputError
from pairfree.files.image import Image, Stored, check_dtype
from pairfree.files.limits import DEFLATE, Limits, check_declared
from pairfree.files.messages import shown
from pairfree.files.stored import RawFile

TYPES = {
    "MET_CHAR": "int8", "MET_UCHAR": "uint8", "MET_SHORT": "int16", "MET_USHORT": "uint16", "MET_INT": "int32", "MET_UINT": "uint32",
    "MET_LONG": "int32", "MET_ULONG": "uint32", "MET_LONG_LONG": "int64", "MET_ULONG_LONG": "uint64", "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}  # fmt: skip
MOST_HEADER_BYTES = 2**20
OF_THE_STORAGE = ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData", "CompressedDataSize", "HeaderSize",
                  "ElementType", "ElementDataFile")  # fmt: skip
"""Keys that are written anew."""
OF_THE_PIXELS = ("ElementMin", "ElementMax")
"""Keys that are left out: they would be those of other pixels."""
NUMBERED = re.compile(r"[^%]*%0?\d?(\.\d)?[di][^%]*")
"""File names with a number in them, as printf has them."""
WRITTEN_BYTES = 2**24
MOST_FILES = 2**17


@dataclass(frozen=True)
class Carried:
    """fields   key and value of each line, in order;  kind   its MET_ type;  order   "<" or ">";  compressed
    the pixels are deflated"""

    fields: tuple[tuple[str, str], ...]
    kind: str
    order: Literal["<", ">"]
    compressed: bool

    @property
    def kept(self) -> list[tuple[str, str]]:
        """The fields that say nothing of how the pixels are stored, or of their values."""
        return [
            (key, value)
            for key, value in self.fields
            if key not in (*OF_THE_STORAGE, *OF_THE_PIXELS)
        ]


class Files(Stored):
    """Pixels in several raw files, one for each step of the first axis, or of the first few."""

    def __init__(self, parts: list[RawFile], outer: tuple[int, ...]) -> None:
        self.parts, self.outer = parts, outer
        self.shape, self.dtype, self.plane_axes = (
            (*outer, *parts[0].shape),
            parts[0].dtype,
            parts[0].plane_axes,
        )

    def region(self, index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
        outer = len(self.outer)
        return self.parts[int(np.ravel_multi_index(index[:outer], self.outer))].region(
            index[outer:], rows, columns
        )


def read_metaimage(path: Path, limits: Limits) -> Image:
    """Read an image of 2 or more dimensions, x first in the file and last here; channels of an element are
    samples. Raises InputError."""
    fields, names, start = _header(path)
    stated = dict(fields)
    shape, kind = _shape(stated, path), stated.get("ElementType", "")
    order: Literal["<", ">"] = ">" if _msb(stated) else "<"
    if kind not in TYPES:
        raise InputError(
            f"{shown(path)}: ElementType is {shown(kind)!r}; expected one of {', '.join(TYPES)}; export it as numbers"
        )
    dtype = np.dtype(TYPES[kind]).newbyteorder(order)
    check_dtype(dtype, shown(path))
    if not _true(stated, "BinaryData", "True"):
        raise InputError(
            f"{shown(path)}: its pixels are text (BinaryData = False); export it as binary"
        )
    carried = Carried(tuple(fields), kind, order, _true(stated, "CompressedData", "False"))
    channels = shape[-1] if _channels(stated, path) > 1 else 1
    axes = _axes(len(shape) - (channels > 1)) + ("S" if channels > 1 else "")
    files = _files(names, shape[: len(shape) - 2 - (channels > 1)], stated, path)
    skipped = int((_numbers(stated, "HeaderSize", path) or [0])[0])
    skipped = start if files == [path] and skipped == 0 else skipped
    lines: list[str] = []
    data: np.ndarray | Stored
    if carried.compressed:
        data = _inflated(files, skipped, shape, dtype, limits, path)
    else:
        data = _raw(files, skipped, shape, dtype, 2 + (channels > 1), limits, path, lines)
    spacing = _spacing(stated, axes, path)
    alpha = (
        channels == 4 and kind == "MET_UCHAR"
    )  # two, or four of other types: vectors and complex numbers
    metadata = {"metaimage": carried, "warnings": lines}
    return Image(
        data, axes, spacing, source=path, family="metaimage", metadata=metadata, alpha=alpha
    )


def _header(path: Path) -> tuple[list[tuple[str, str]], list[str], int]:
    """The lines up to the one that names the data, the names of a list after it, and where pixels in the same
    file would begin."""
    fields: list[tuple[str, str]] = []
    with path.open("rb") as file:
        while file.tell() < MOST_HEADER_BYTES:
            line = file.readline(MOST_HEADER_BYTES)
            key, *rest = (word.strip() for word in re.split("[=:]", _decoded(line), maxsplit=1))
            if not line or (key and not rest):
                raise InputError(
                    f"{shown(path)}: is no MetaImage header, or ends before ElementDataFile; export it again"
                )
            if not key:
                continue
            (value,) = rest or [""]
            fields.append((key, value))
            if key == "ElementDataFile":
                start = file.tell()
                listed = (
                    _decoded(file.read(MOST_HEADER_BYTES)).splitlines()
                    if value.split()[:1] == ["LIST"]
                    else [value]
                )
                return fields, [one.strip() for one in listed if one.strip()], start
    raise InputError(
        f"{shown(path)}: has no ElementDataFile in its first {MOST_HEADER_BYTES} bytes; it is no MetaImage header"
    )


def _decoded(data: bytes) -> str:
    """Headers are written in the encoding of file names; whatever is none of it comes back as it was."""
    return data.decode("utf-8", "surrogateescape")


def _true(stated: dict[str, str], key: str, usual: str) -> bool:
    return stated.get(key, usual)[:1].lower() in ("t", "1")


def _msb(stated: dict[str, str]) -> bool:
    return _true(
        stated,
        "BinaryDataByteOrderMSB" if "BinaryDataByteOrderMSB" in stated else "ElementByteOrderMSB",
        "False",
    )


def _numbers(stated: dict[str, str], key: str, path: Path) -> list[float]:
    try:
        return [float(word) for word in stated.get(key, "").split()]
    except ValueError:
        raise InputError(
            f"{shown(path)}: {key} is {shown(stated[key])!r}; expected numbers; correct the header"
        ) from None


def _channels(stated: dict[str, str], path: Path) -> int:
    return int((_numbers(stated, "ElementNumberOfChannels", path) or [1])[0])


def _shape(stated: dict[str, str], path: Path) -> tuple[int, ...]:
    """As the array has it: slowest first, samples last."""
    sizes = _numbers(stated, "DimSize", path)
    if (
        len(sizes) < 2
        or sizes != [int(n) for n in sizes]
        or len(sizes) != int((_numbers(stated, "NDims", path) or [0])[0])
    ):
        words = f"NDims = {stated.get('NDims', 'missing')} and DimSize = {shown(stated.get('DimSize', 'missing'))}"
        raise InputError(
            f"{shown(path)}: states {words}; an image needs as many whole numbers as dimensions, and two or more of them"
        )
    channels = _channels(stated, path)
    return (*(int(n) for n in reversed(sizes)), *((channels,) if channels > 1 else ()))


def _axes(dimensions: int) -> str:
    return ("Q" * (dimensions - 4) + "TZYX")[-dimensions:]


def _spacing(stated: dict[str, str], axes: str, path: Path) -> dict[str, tuple[float, str]]:
    """Millimetres, as all that read MetaImage take them."""
    steps = _numbers(stated, "ElementSpacing", path) or _numbers(stated, "ElementSize", path)
    pairs = zip(reversed(axes.removesuffix("S")), steps)
    return {
        axis: (step, "mm")
        for axis, step in pairs
        if axis in "ZYX" and math.isfinite(step) and step > 0
    }


def _files(
    names: list[str], leading: tuple[int, ...], stated: dict[str, str], path: Path
) -> list[Path]:
    """The files with the pixels, the header's own for LOCAL.

    InputError where one is missing or outside of the header's folder.

    leading   sizes of the axes in front of the last two, which several files share out
    """
    value = stated["ElementDataFile"]
    words = value.split()
    if value.upper() == "LOCAL":
        return [path]
    if words[:1] == ["LIST"]:
        planes = words[1].rstrip("dD") if len(words) > 1 else ""
        outer = len(leading) + 2 - int(planes) if planes.isdecimal() else 1
        names = names[: math.prod(leading[: max(0, outer)])]
    elif _is_numbered(words):
        if leading and leading[0] > MOST_FILES:
            raise InputError(
                f"{shown(path)}: declares {leading[0]} files, more than the limit of {MOST_FILES}; write them as one"
            )
        names = _numbered(words[0], [int(word) for word in words[1:]], leading[0] if leading else 1)
    if len(names) not in {math.prod(leading[:n]) for n in range(len(leading) + 1)}:
        raise InputError(
            f"{shown(path)}: names {len(names)} files for {leading} planes; expected one each, or one for all"
        )
    return [_file_beside(name, path) for name in names]


def _is_numbered(words: list[str]) -> bool:
    """Whether the files are named by a pattern, and up to three numbers: first, last and step."""
    if not words or not NUMBERED.fullmatch(words[0]) or len(words) > 4:
        return False
    return all(word.isdecimal() and len(word) < 7 for word in words[1:])


def _file_beside(name: str, path: Path) -> Path:
    """A file of the header's folder, which is there."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(
            f"{shown(path)}: its pixels are in {shown(name)}, outside of its folder; put the file beside it, and name it so"
        )
    file = path.parent / name
    if not file.is_file():
        raise InputError(
            f"{shown(path)}: its pixels are in {shown(file)}, which is not there; copy it beside the header"
        )
    return file


def _numbered(pattern: str, numbers: list[int], count: int) -> list[str]:
    """``count`` names; ``numbers`` are first, last and step, as far as they are stated."""
    first = numbers[0] if numbers else 1
    step = 1
    if len(numbers) > 1:
        step = numbers[2] if len(numbers) > 2 else max(1, (numbers[1] - first) // max(1, count - 1))
        count = min(count, (numbers[1] - first) // max(1, step) + 1)
    return [pattern % (first + place * max(1, step)) for place in range(count)]


def _raw(
    files: list[Path], skipped: int, shape: tuple[int, ...], dtype: np.dtype[Any], plane_axes: int, limits: Limits, path: Path,
    lines: list[str],
) -> np.ndarray | Stored:  # fmt: skip
    """Uncompressed pixels; left in their files where they are many."""
    outer = (
        next(n for n in range(len(shape)) if math.prod(shape[:n]) == len(files))
        if len(files) > 1
        else 0
    )
    of_one = shape[outer:]
    in_one = math.prod(of_one) * dtype.itemsize
    parts = []
    for file in files:
        size = file.stat().st_size
        offset = size - in_one if skipped == -1 else skipped
        check_declared(file, of_one, dtype, limits, size - max(0, offset), may_stay=True)
        if not 0 <= offset <= size - in_one:
            raise InputError(
                f"{shown(path)}: HeaderSize is {skipped} for {shown(file)} of {size} bytes; correct the header"
            )
        if size - offset > in_one:
            lines.append(
                f"{file.name}: {size - offset - in_one} bytes after the pixels are not used"
            )
        parts.append(RawFile(file, offset, of_one, dtype, plane_axes))
    total = check_declared(path, shape, dtype, limits, in_one * len(files), may_stay=True)
    data: Stored = parts[0] if len(parts) == 1 else Files(parts, shape[:outer])
    return data if total > limits.resident_bytes else data.whole()


def _inflated(
    files: list[Path],
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    limits: Limits,
    path: Path,
) -> np.ndarray:
    if len(files) > 1:
        raise InputError(
            f"{shown(path)}: its pixels are compressed in {len(files)} files; export it as one"
        )
    n_bytes = check_declared(path, shape, dtype, limits, files[0].stat().st_size - offset, DEFLATE)
    with files[0].open("rb") as file:
        file.seek(offset)
        inflate = zlib.decompressobj(wbits=47)  # zlib or gzip
        data = inflate.decompress(file.read(), n_bytes + 1)
    if len(data) != n_bytes:
        found = f"more than {n_bytes}" if len(data) > n_bytes else str(len(data))
        raise InputError(
            f"{shown(files[0])}: holds {found} bytes of pixels, {n_bytes} are declared; it is damaged, export it again"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def files_of(path: Path) -> tuple[Path, ...]:
    """Header and pixels of an image, as far as they are there."""
    try:
        fields, names, _ = _header(path)
        stated = dict(fields)
        dimensions = _shape(stated, path)
        leading = dimensions[: len(dimensions) - 2 - (_channels(stated, path) > 1)]
        return (path, *(one for one in _files(names, leading, stated, path) if one != path))
    except (InputError, OSError, LookupError, ValueError, ArithmeticError):
        return (path,)


def pixel_file(path: Path) -> Path | None:
    """Where the pixels of an image named ``path`` are written; None where they are in the same file."""
    return path.with_suffix(".raw") if path.suffix.lower() == ".mhd" else None


def write_metaimage(
    image: Image, path: Path, pixels: Path | None = None, pixels_name: str = "LOCAL"
) -> None:
    """Write header and pixels.

    pixels        the file for the pixels; None: they follow the header
    pixels_name   what the header calls it
    """
    carried = image.metadata.get("metaimage")
    if not isinstance(carried, Carried):
        raise OutputError(
            f"{shown(path)}: a MetaImage can only be written from a MetaImage; write TIFF instead"
        )
    dtype = np.dtype(TYPES[carried.kind]).newbyteorder(carried.order)
    if image.dtype != dtype.newbyteorder("=") or image.shape != _shape(dict(carried.fields), path):
        raise OutputError(
            f"{shown(path)}: {image.dtype} {image.shape} is not what its header describes; write TIFF instead"
        )
    msb = str(carried.order == ">")
    lines = [
        *carried.kept,
        ("BinaryData", "True"),
        ("BinaryDataByteOrderMSB", msb),
        ("CompressedData", str(carried.compressed)),
    ]
    with (pixels or path).open("wb") as file:
        if pixels is not None:
            written = _write_pixels(image, file, dtype, carried.compressed)
        else:
            # the size of compressed pixels stands before them: its place is kept, and filled in afterwards
            place = len(_text(lines)) + len("CompressedDataSize = ")
            sized = [*lines, ("CompressedDataSize", " " * 19)] if carried.compressed else lines
            file.write(
                _text([*sized, ("ElementType", carried.kind), ("ElementDataFile", pixels_name)])
            )
            written = _write_pixels(image, file, dtype, carried.compressed)
            if carried.compressed:
                file.seek(place)
                file.write(f"{written:<19}".encode())
    if pixels is not None:
        sized = [*lines, ("CompressedDataSize", str(written))] if carried.compressed else lines
        path.write_bytes(
            _text([*sized, ("ElementType", carried.kind), ("ElementDataFile", pixels_name)])
        )


def _text(lines: list[tuple[str, str]]) -> bytes:
    return "".join(f"{key} = {value}\n" for key, value in lines).encode("utf-8", "surrogateescape")


def _write_pixels(image: Image, file: BinaryIO, dtype: np.dtype[Any], compressed: bool) -> int:
    """Some rows at a time; the bytes that it took."""
    start, deflate = file.tell(), zlib.compressobj()
    step = max(1, WRITTEN_BYTES // max(1, image.width * image.samples * dtype.itemsize))
    for index in image.planes():
        for top in range(0, image.height, step):
            rows = image.region(
                index, slice(top, min(top + step, image.height)), slice(0, image.width)
            )
            data = np.ascontiguousarray(rows, dtype=dtype).data
            file.write(deflate.compress(data) if compressed else data)
    if compressed:
        file.write(deflate.flush())
    return file.tell() - start
