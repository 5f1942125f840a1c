"""Small EMD files (of NCEM) and DM3 files (of Gatan)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Axis = tuple[str, float, str]
"""Name, step and unit."""


def write_emd(path: Path, images: Sequence[tuple[np.ndarray, Sequence[Axis]]]) -> Path:
    """An EMD file of arrays with an axis for each dimension, slowest first."""
    import pytest

    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
        for number, (pixels, axes) in enumerate(images):
            group = file.create_group(f"experimental/a{number}")
            group.attrs["emd_group_type"] = 1
            group.create_dataset("data", data=pixels.T)
            for i, (name, step, unit) in enumerate(axes[::-1]):
                places = np.arange(pixels.T.shape[i]) * step
                axis = group.create_dataset(f"dim{i + 1}", data=places)
                axis.attrs["name"], axis.attrs["units"] = np.bytes_(name), np.bytes_(unit)
    return path


TYPES = {"int16": 1, "float32": 2, "uint8": 6, "uint16": 10, "colours": 23}
"""Gatan's numbers of pixel types."""
CODES = {"int16": 2, "float32": 6, "uint8": 10, "uint16": 4, "colours": 5}
"""Of the elements of arrays in the file."""


def write_dm3(path: Path, pixels: np.ndarray, axes: Sequence[Axis]) -> Path:
    """A DM3 file of an array, or of a picture (H, W, 4) of blue, green, red and alpha."""
    in_colour = pixels.ndim == 3 and pixels.shape[-1] == 4 and pixels.dtype == np.uint8
    kind = "colours" if in_colour else pixels.dtype.name
    shape = pixels.shape[:2] if in_colour else pixels.shape
    steps = [{"Origin": 0.0, "Scale": step, "Units": unit} for _, step, unit in axes[::-1]]
    image = {
        "ImageData": {
            "Calibrations": {
                "Brightness": {"Origin": 0.0, "Scale": 1.0, "Units": ""},
                "Dimension": steps,
            },
            "Data": (CODES[kind], int(np.prod(shape)), pixels.tobytes()),
            "DataType": TYPES[kind],
            "Dimensions": list(shape[::-1]),
            "PixelDepth": pixels.itemsize,
        },
        "ImageTags": {"a": 1},
        "Name": "a",
    }
    body = _group({"ImageList": [image]})
    path.write_bytes(struct.pack(">III", 3, len(body), 1) + body + bytes(8))
    return path


def _group(content: dict[str, Any] | list[Any]) -> bytes:
    named = content.items() if isinstance(content, dict) else [("", one) for one in content]
    out = struct.pack(">BBI", 1, 0, len(named))
    for name, value in named:
        is_group = isinstance(value, dict | list)
        out += struct.pack(">BH", 20 if is_group else 21, len(name)) + name.encode()
        out += _group(value) if is_group else _value(value)
    return out


def _value(value: Any) -> bytes:
    if isinstance(value, tuple):
        code, count, data = value
        return b"%%%%" + struct.pack(">4I", 3, 20, code, count) + data
    if isinstance(value, str):
        data = value.encode("utf-16-le")
        return b"%%%%" + struct.pack(">4I", 3, 20, 4, len(value)) + data
    if isinstance(value, float):
        return b"%%%%" + struct.pack(">2I", 1, 6) + struct.pack("<f", value)
    return b"%%%%" + struct.pack(">2I", 1, 5) + struct.pack("<I", value)
