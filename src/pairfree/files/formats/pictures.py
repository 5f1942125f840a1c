"""PNG (read and write), JPEG and BMP (read; their results are written as PNG, without new compression
artefacts).

PNG chunks are walked before decoding: sizes, checksums, and what the pixel stream inflates to, so that a bomb
stops at its declared size. Ancillary chunks (density, text, colour profile, EXIF) are kept byte for byte and
written back.
"""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from pairfree.errors import InputError, OutputError
from pairfree.files.image import Image
from pairfree.files.limits import DEFLATE, JPEG, Limits, check_declared
from pairfree.files.messages import shown, size_text

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> values per pixel
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_KEPT = (
    b"pHYs",
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"iCCP",
    b"eXIf",
    b"tIME",
    b"sBIT",
)
# A finer density than this is a pixel size; a coarser one (72, 96, 300 dpi: 350 to 85 µm) is how large to
# print the picture.
COARSEST_PIXEL_UM = 20.0
_PIL_LIMIT = threading.Lock()
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # x, y, step x, step y


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    @property
    def stream_bytes(self) -> int:
        """Length of the inflated pixel stream: rows with their filter byte, of each interlace pass."""
        bits = self.depth * _SAMPLES[self.colour]
        if not self.interlaced:
            return self.height * (1 + (self.width * bits + 7) // 8)
        total = 0
        for x, y, step_x, step_y in _ADAM7:
            columns, rows = -(-(self.width - x) // step_x), -(-(self.height - y) // step_y)
            if columns > 0 and rows > 0:
                total += rows * (1 + (columns * bits + 7) // 8)
        return total


@dataclass
class _Scan:
    """What a walk over the chunks found."""

    header: _Header
    kept: list[tuple[bytes, bytes]] = field(default_factory=list)
    transparent: bool = False
    animated: bool = False
    warnings: list[str] = field(default_factory=list)


def _chunks(data: bytes, path: Path) -> Iterator[tuple[bytes, memoryview]]:
    """(name, content) of each chunk up to IEND.

    InputError where a chunk is cut off or its checksum is wrong.
    """
    view, at = memoryview(data), len(_SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise InputError(
                f"{shown(path)}: truncated PNG, it ends without an end mark; copy or export it again"
            )
        length, name = struct.unpack(">I4s", view[at : at + 8])
        if at + 12 + length > len(data):
            raise InputError(
                f"{shown(path)}: truncated PNG, chunk {shown(name.decode('latin-1'))} is cut off; copy or export it again"
            )
        content = view[at + 8 : at + 8 + length]
        (crc,) = struct.unpack(">I", view[at + 8 + length : at + 12 + length])
        if crc != zlib.crc32(view[at + 4 : at + 8 + length]):
            raise InputError(
                f"{shown(path)}: damaged PNG, wrong checksum in chunk {shown(name.decode('latin-1'))}; copy or export it again"
            )
        yield name, content
        if name == b"IEND":
            return
        at += 12 + length


def _header(content: memoryview, path: Path) -> _Header:
    if len(content) != 13:
        raise InputError(
            f"{shown(path)}: damaged PNG header ({len(content)} bytes, expected 13); export it again"
        )
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", content)
    if colour not in _SAMPLES or depth not in _DEPTHS[colour] or interlace > 1:
        raise InputError(
            f"{shown(path)}: damaged PNG header (colour type {colour}, {depth} bits, interlace {interlace}); export it again"
        )
    return _Header(width, height, depth, colour, interlace == 1)


def _scan(data: bytes, path: Path, limits: Limits) -> _Scan:
    """Walk and check all chunks; inflate the pixel stream without keeping it. Raises InputError."""
    if not data.startswith(_SIGNATURE):
        raise InputError(
            f"{shown(path)}: is no PNG file (it begins with {data[:8]!r}); give it the suffix of its real format"
        )
    scan: _Scan | None = None
    inflater, produced = zlib.decompressobj(), 0
    for name, content in _chunks(data, path):
        if scan is None:
            if name != b"IHDR":
                raise InputError(
                    f"{shown(path)}: damaged PNG, its first chunk is not the header; export it again"
                )
            scan = _Scan(_header(content, path))
            head = scan.header
            dtype = np.dtype(np.uint16 if head.depth == 16 else np.uint8)
            ratio = DEFLATE * 8 / min(head.depth, 8)
            check_declared(
                path,
                (head.height, head.width, _SAMPLES[head.colour]),
                dtype,
                limits,
                len(data),
                ratio,
            )
        elif name == b"IDAT":
            produced += _inflated(inflater, content, scan.header.stream_bytes - produced, path)
        elif name in _KEPT:
            scan.kept.append((name, bytes(content)))
        elif name == b"tRNS":
            scan.transparent = True
        elif name == b"acTL":
            scan.animated = True
    if scan is None or produced < scan.header.stream_bytes:
        raise InputError(
            f"{shown(path)}: truncated PNG, pixel data end early ({produced} bytes); copy or export it again"
        )
    return scan


def _inflated(inflater: Any, content: memoryview, room: int, path: Path) -> int:
    """Bytes that ``content`` inflates to, at most ``room``; InputError beyond. Holds 1 MiB at a time."""
    produced, pending = 0, bytes(content)
    while pending:
        piece = inflater.decompress(pending, 2**20)
        produced += len(piece)
        if produced > room:
            raise InputError(
                f"{shown(path)}: damaged PNG, pixel data inflate beyond the declared size; export it again"
            )
        pending = inflater.unconsumed_tail
        if not piece and inflater.eof:
            break
    return produced


def _pixels_from_pillow(
    data: bytes, path: Path, limits: Limits, modes: dict[str, str], warnings: list[str]
) -> np.ndarray:
    """Decode with Pillow; ``modes`` maps a stored mode to the one to convert it to, with a note. (H, W) or
    (H, W, S)."""
    with _PIL_LIMIT:  # the guard is a global of Pillow; ours replaces it while this file is decoded
        before, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, limits.max_pixels
        try:
            with PIL.Image.open(io.BytesIO(data)) as picture:
                picture.load()
                target = modes.get(picture.mode)
                if target is not None:
                    warnings.append(f"{picture.mode} pixels were converted to {target}")
                    return np.array(picture.convert(target))
                return np.array(picture)
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = before


def read_png(path: Path, limits: Limits) -> Image:
    """Read a PNG: grey, grey + alpha, RGB, RGBA with 8 or 16 bits; palettes become RGB, 2 and 4 bits become
    8."""
    if path.stat().st_size > limits.max_bytes:
        raise InputError(
            f"{shown(path)}: is larger than the {size_text(limits.max_bytes)} that may be read whole; crop it"
        )
    data = path.read_bytes()
    scan = _scan(data, path, limits)
    head = scan.header
    if scan.animated:
        raise InputError(
            f"{shown(path)}: is an animated PNG; export its frames as single files or as one TIFF stack"
        )
    if head.depth == 1 and head.colour == 0:
        raise InputError(
            f"{shown(path)}: is a 1-bit black-and-white mask; convert it to 8-bit grey if you mean to denoise it"
        )
    if head.depth == 16 and head.colour != 0:
        pixels = _codec().png_decode(data)  # Pillow would drop the low 8 bits
    else:
        palette = "RGBA" if scan.transparent else "RGB"
        pixels = _pixels_from_pillow(
            data, path, limits, {"P": palette, "PA": "RGBA"}, scan.warnings
        )
        if pixels.dtype.kind == "i":
            pixels = pixels.astype(np.uint16)  # Pillow before 11.2 decodes 16-bit grey into int32
    if head.depth < 8 and head.colour == 0:
        scan.warnings.append(f"{head.depth}-bit grey was spread over 8 bits")
    if (
        scan.transparent
        and head.colour != 3
        and pixels.ndim == (2 if head.colour == 0 else 3)
        and pixels.shape[2:] in ((), (3,))
    ):
        scan.warnings.append("the transparent colour was dropped")
    metadata: dict[str, Any] = {"chunks": scan.kept, "warnings": scan.warnings}
    axes = "YX" if pixels.ndim == 2 else "YXS"
    return Image(
        pixels, axes, _density_spacing(scan.kept), source=path, family="png", metadata=metadata
    )


def _density_spacing(chunks: list[tuple[bytes, bytes]]) -> dict[str, tuple[float, str]]:
    """Pixel size in µm from pHYs where it is fine enough to be one."""
    for name, content in chunks:
        if name == b"pHYs" and len(content) == 9:
            x, y, unit = struct.unpack(">IIB", content)
            if unit == 1 and x and y and max(1e6 / x, 1e6 / y) <= COARSEST_PIXEL_UM:
                return {"Y": (1e6 / y, "µm"), "X": (1e6 / x, "µm")}
    return {}


def _read_with_pillow(path: Path, limits: Limits, family: str, max_ratio: float) -> Image:
    if path.stat().st_size > limits.max_bytes:
        raise InputError(
            f"{shown(path)}: is larger than the {size_text(limits.max_bytes)} that may be read whole; crop it"
        )
    data = path.read_bytes()
    with _PIL_LIMIT:
        before, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, limits.max_pixels
        try:
            with PIL.Image.open(io.BytesIO(data), formats=[family.upper()]) as picture:
                width, height, bands = picture.width, picture.height, len(picture.getbands())
                mode, info = picture.mode, {str(key): value for key, value in picture.info.items()}
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = before
    if mode == "1":
        raise InputError(
            f"{shown(path)}: is a 1-bit black-and-white mask; convert it to 8-bit grey if you mean to denoise it"
        )
    check_declared(path, (height, width, bands), np.dtype(np.uint8), limits, len(data), max_ratio)
    warnings: list[str] = []
    pixels = _pixels_from_pillow(
        data,
        path,
        limits,
        {"P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"},
        warnings,
    )
    chunks = _chunks_from_info(info)
    axes = "YX" if pixels.ndim == 2 else "YXS"
    metadata: dict[str, Any] = {"chunks": chunks, "warnings": warnings}
    return Image(
        pixels, axes, _density_spacing(chunks), source=path, family=family, metadata=metadata
    )


def read_jpeg(path: Path, limits: Limits) -> Image:
    """Read a JPEG (grey, RGB; CMYK becomes RGB). Its family is ``jpeg``, which is written as PNG."""
    return _read_with_pillow(path, limits, "jpeg", JPEG)


def read_bmp(path: Path, limits: Limits) -> Image:
    """Read a BMP (grey, RGB; palettes become RGB). Its family is ``bmp``, which is written as PNG."""
    return _read_with_pillow(
        path, limits, "bmp", 1100.0
    )  # run-length coded and 1-bit BMPs are smaller than their pixels


def _chunks_from_info(info: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """PNG chunks for what a JPEG or BMP states: density, comment, EXIF, colour profile."""
    chunks: list[tuple[bytes, bytes]] = []
    if info.get("icc_profile"):
        chunks.append((b"iCCP", b"icc\0\0" + zlib.compress(info["icc_profile"])))
    dpi = info.get("dpi")
    if dpi and all(0 < float(d) < 2**32 / 40 for d in dpi):
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(float(d) / 0.0254) for d in dpi), 1)))
    if isinstance(info.get("comment"), bytes):
        chunks.append((b"tEXt", b"Comment\0" + info["comment"].replace(b"\0", b" ")))
    if isinstance(info.get("exif"), bytes):
        chunks.append((b"eXIf", info["exif"].removeprefix(b"Exif\0\0")))
    return chunks


def write_png(image: Image, path: Path) -> None:
    """Write one plane of uint8 or uint16 with 1 to 4 samples; OutputError for what PNG cannot hold."""
    if (
        image.axes not in ("YX", "YXS")
        or image.samples > 4
        or image.dtype not in (np.uint8, np.uint16)
    ):
        found = f"{image.dtype.name} {image.shape} ({image.axes})"
        raise OutputError(
            f"{shown(path)}: PNG holds one uint8 or uint16 plane of 1 to 4 samples, not {found}; write TIFF or .npy"
        )
    pixels = np.ascontiguousarray(
        image.pixels.reshape(image.shape[:2]) if image.samples == 1 else image.pixels
    )
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        encoded = bytes(_codec().png_encode(pixels))  # Pillow has no 16-bit colour
    else:
        buffer = io.BytesIO()
        PIL.Image.fromarray(pixels).save(buffer, format="PNG")
        encoded = buffer.getvalue()
    path.write_bytes(_with_chunks(encoded, _consistent(image)))


def _consistent(image: Image) -> list[tuple[bytes, bytes]]:
    """The kept chunks, with the density replaced where the image states another pixel size."""
    chunks = [
        (name, content) for name, content in image.metadata.get("chunks", []) if name in _KEPT
    ]
    if _density_spacing(chunks) != {
        axis: image.spacing[axis] for axis in "YX" if axis in image.spacing
    }:
        chunks = [(name, content) for name, content in chunks if name != b"pHYs"]
        per_metre = [_per_metre(image.spacing.get(axis)) for axis in "XY"]
        if all(0 < n < 2**31 for n in per_metre):
            chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    return chunks


def _per_metre(step: tuple[float, str] | None) -> int:
    metres = {
        "m": 1.0,
        "cm": 1e-2,
        "mm": 1e-3,
        "µm": 1e-6,
        "nm": 1e-9,
        "pm": 1e-12,
        "Å": 1e-10,
        "inch": 0.0254,
    }
    return 0 if step is None or step[1] not in metres else round(1 / (step[0] * metres[step[1]]))


def _with_chunks(encoded: bytes, chunks: list[tuple[bytes, bytes]]) -> bytes:
    # Right after the header (8 + 25 bytes) is a valid place for every kept chunk: before PLTE and IDAT.
    middle = b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks
    )
    return encoded[:33] + middle + encoded[33:]


def _codec() -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise InputError(
            "16-bit colour PNG needs the package imagecodecs; run: pip install imagecodecs"
        ) from error
    return imagecodecs
