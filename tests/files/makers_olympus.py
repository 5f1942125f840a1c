"""Small OIF and OIB files: settings and a TIFF for each plane, in a folder or in a compound file."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import tifffile

FREE, END, OF_FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
"""What the table of a compound file says of its sectors."""


def settings_of(shape: tuple[int, ...], order: str = "XYCZT") -> bytes:
    """Of (C, Z, T, H, W): pixels of 0.31 µm, planes 500 nm and 2500 ms apart, 12 bits."""
    channels, depth, times, height, width = shape
    axes = [
        ("X", width, width * 0.31, "um"),
        ("Y", height, height * 0.31, "um"),
        ("L", 1, 0, "nm"),
        ("Z", depth, 500.0 * (depth - 1), "nm"),
        ("T", times, 2500.0 * (times - 1), "ms"),
        ("C", channels, 0, ""),
        ("A", 1, 0, "deg"),
        ("P", 1, 0, ""),
    ]
    lines = ["[ProfileSaveInfo]", 'Name="FV10"', 'Version="2"']
    lines += ["[Axis Parameter Common]", f'AxisOrder="{order}"']
    for i, (code, size, end, unit) in enumerate(axes):
        lines += [f"[Axis {i} Parameters Common]", f'AxisCode="{code}"', f"MaxSize={size}"]
        lines += ["StartPosition=0.0", f"EndPosition={end}", f'UnitName="{unit}"']
    lines += ["[Reference Image Parameter]", "ValidBitCounts=12"]
    lines += [
        "WidthConvertValue=0.31",
        "HeightConvertValue=0.31",
        'WidthUnit="um"',
        'HeightUnit="um"',
    ]
    for i in range(channels):
        lines += [f"[Channel {i + 1} Parameters]", f'DyeName="Dye {i + 1}"']
    return b"\xff\xfe" + "\r\n".join([*lines, ""]).encode("utf-16-le")


def _planes(pixels: np.ndarray) -> dict[str, bytes]:
    found = {}
    for c, z, t in np.ndindex(pixels.shape[:3]):
        packed = io.BytesIO()
        tifffile.imwrite(packed, pixels[c, z, t], metadata=None)
        found[f"s_C{c + 1:03d}Z{z + 1:03d}T{t + 1:03d}.tif"] = packed.getvalue()
    return found


def write_oif(path: Path, pixels: np.ndarray, order: str = "XYCZT") -> Path:
    """An OIF file of (C, Z, T, H, W), and its folder."""
    path.write_bytes(settings_of(pixels.shape, order))
    folder = path.with_name(path.name + ".files")
    folder.mkdir(exist_ok=True)
    for name, content in _planes(pixels).items():
        (folder / name).write_bytes(content)
    (folder / "s_C001.pty").write_bytes(b"no plane")
    return path


def write_oib(path: Path, pixels: np.ndarray) -> Path:
    """An OIB file of (C, Z, T, H, W)."""
    files = {"a.oif": settings_of(pixels.shape)}
    files |= {f"Storage00001/{name}": content for name, content in _planes(pixels).items()}
    info = ["[OibSaveInfo]", "Name=a", "Version=2", "Compression=0", "MainFileName=Stream00000"]
    info += [f"Stream{i:05d}={name}" for i, name in enumerate(files)]
    top = {"OibInfo.txt": b"\xff\xfe" + "\r\n".join([*info, ""]).encode("utf-16-le")}
    inner = {}
    for i, (name, content) in enumerate(files.items()):
        (inner if "/" in name else top)[f"Stream{i:05d}"] = content
    path.write_bytes(compound_file(top, inner))
    return path


def compound_file(top: dict[str, bytes], inner: dict[str, bytes]) -> bytes:
    """Streams beside and within one storage, each of 4096 bytes at least ([MS-CFB], version 3)."""
    body, table = bytearray(), []

    def put(data: bytes) -> int:
        first, sectors = len(table), -(-len(data) // 512)
        body.extend(data.ljust(sectors * 512, b"\0"))
        table.extend([*range(first + 1, first + sectors), END])
        return first

    names = ["Storage00001", *top, *inner]
    beside = _chain(["Storage00001", *top]) | _chain(list(inner))
    numbers = {name: i for i, name in enumerate(names, 1)} | {"": FREE}
    first_inner, first_top = (
        numbers[min(one, key=_order)] for one in (inner, ["Storage00001", *top])
    )
    listing = _entry("Root Entry", 5, child=first_top, first=END)
    listing += _entry("Storage00001", 1, numbers[beside["Storage00001"]], first_inner)
    for name, content in {**top, **inner}.items():
        padded = content.ljust(4096, b"\0")
        if name == "OibInfo.txt":  # text to its end
            padded = content.ljust(4096, b" ")
        right = numbers[beside[name]]
        listing += _entry(name, 2, right, first=put(padded), size=len(padded))
    while len(listing) % 512:
        listing += _entry("", 0)
    directory = put(listing)
    of_table = 1
    while of_table * 128 < len(table) + of_table:
        of_table += 1
    places = list(range(len(table), len(table) + of_table))
    table += [OF_FAT] * of_table
    table += [FREE] * (of_table * 128 - len(table))
    head = struct.pack(
        "<8s16s6H", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"", 0x3E, 3, 0xFFFE, 9, 6, 0
    )
    head += struct.pack("<10I", 0, 0, of_table, directory, 0, 4096, END, 0, END, 0)
    head += struct.pack("<109I", *places, *[FREE] * (109 - of_table))
    return head + bytes(body) + struct.pack(f"<{len(table)}I", *table)


def _order(name: str) -> tuple[int, str]:
    return len(name), name.upper()


def _chain(names: list[str]) -> dict[str, str]:
    """The sibling to the right of each entry: a tree without branches."""
    ordered = sorted(names, key=_order)
    return dict(zip(ordered, [*ordered[1:], ""], strict=True))


def _entry(
    name: str, kind: int, right: int = FREE, child: int = FREE, first: int = 0, size: int = 0
) -> bytes:
    raw = (name + "\0").encode("utf-16-le") if name else b""
    head = struct.pack("<64sHBBIII16sI", raw, len(raw), kind, 1, FREE, right, child, b"", 0)
    return head + struct.pack("<QQIQ", 0, 0, first, size)
