"""Small LIF files, as Leica's programs lay them out."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

NUMBERS = {"X": 1, "Y": 2, "Z": 3, "T": 4, "λ": 5, "Λ": 9, "M": 10}
"""Leica's, by liffile's names of dimensions."""


@dataclass
class Picture:
    """An image: axes slowest first, C for channels, S for colours; steps in metres, or seconds along T."""

    pixels: np.ndarray
    axes: str
    steps: dict[str, float] = field(default_factory=dict)
    name: str = "a"
    dyes: Sequence[str] = ()
    bits: int = 16
    origin: float = 0.0
    tags: Sequence[int] = ()
    """1 red, 2 green, 3 blue."""


def write_lif(path: Path, pictures: Sequence[Picture]) -> Path:
    """A file of these images."""
    elements, blocks = "", b""
    for number, one in enumerate(pictures, 1):
        elements += _element(one, number)
        name = f"MemBlock_{number}".encode("utf-16-le")
        head = struct.pack(
            "<IIBQBI", 0x70, 14 + len(name), 0x2A, one.pixels.nbytes, 0x2A, len(name) // 2
        )
        blocks += head + name + one.pixels.tobytes()
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="p"><Children>'
        f"{elements}</Children></Element></LMSDataContainerHeader>"
    ).encode("utf-16-le")
    path.write_bytes(struct.pack("<IIBI", 0x70, 5 + len(xml), 0x2A, len(xml) // 2) + xml + blocks)
    return path


def _element(one: Picture, number: int) -> str:
    stride, dimensions, of_channel = one.pixels.itemsize, "", 0
    for axis, size in zip(one.axes[::-1], one.pixels.shape[::-1], strict=True):
        if axis in "CS":
            of_channel = stride
        else:
            length = one.steps.get(axis, 0.0) * (size - 1)
            dimensions += (
                f'<DimensionDescription DimID="{NUMBERS[axis]}" NumberOfElements="{size}" '
                f'Origin="{one.origin}" Length="{length}" Unit="{"s" if axis == "T" else "m"}" '
                f'BitInc="0" BytesInc="{stride}"/>'
            )
        stride *= size
    count = 1
    for axis, size in zip(one.axes, one.pixels.shape, strict=True):
        count *= size if axis in "CS" else 1
    channels, tags = "", one.tags or [0] * count
    for i in range(count):
        dye = ""
        if one.dyes:
            dye = (
                f"<ChannelProperty><Key>DyeName</Key><Value>{one.dyes[i]}</Value></ChannelProperty>"
            )
        channels += (
            f'<ChannelDescription DataType="0" ChannelTag="{tags[i]}" Resolution="{one.bits}" '
            'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" LUTName="Gray" IsLUTInverted="0" '
            f'BytesInc="{i * of_channel}" BitInc="0">{dye}</ChannelDescription>'
        )
    return (
        f'<Element Name="{one.name}" UniqueID="{number}"><Data><Image><ImageDescription>'
        f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions>"
        f'</ImageDescription></Image></Data><Memory Size="{one.pixels.nbytes}" '
        f'MemoryBlockID="MemBlock_{number}"/><Children/></Element>'
    )
