"""How a Zarr folder is made, kept to write it back: groups, attributes, resolutions, chunks and codecs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairfree.files.image import DType, Shape

OURS = "pairfree"
"""Attribute of folders that pairfree wrote."""
ALL_WRITTEN = "all written"
"""What it says of their chunks: a missing one is an error."""
Attributes = dict[str, Any]


@dataclass(frozen=True)
class Level:
    """One resolution."""

    path: str
    """Where it lies in the group."""
    shape: Shape
    dtype: DType
    chunks: Shape
    shards: Shape | None
    """Of files that hold several chunks; None where each chunk is a file."""
    fill: Any
    """What a chunk without a file holds."""
    filters: tuple[Any, ...]
    serializer: Any
    """What makes bytes of values, in format 3."""
    compressors: tuple[Any, ...]
    encoding: dict[str, str]
    """How the names of chunks are made: name and separator."""
    names: tuple[str | None, ...] | None
    """Of the dimensions, where the array states them."""
    attributes: Attributes


@dataclass(frozen=True)
class Carried:
    """What writing a Zarr folder back as it was needs."""

    zarr_format: int
    """2 or 3."""
    root: Attributes
    """Of the folder."""
    place: str
    """Of the image's group in the folder; empty where the folder is the group."""
    group: Attributes
    """Of the image's group; empty for an array without one."""
    levels: tuple[Level, ...]
    """Finest first."""
    beside: tuple[str, ...] = ()
    """Groups in that of the image that are no resolutions of it, such as labels: copied as they are."""

    @property
    def kind(self) -> tuple[Shape, DType]:
        """Shape and native type of the finest level."""
        finest = self.levels[0]
        return finest.shape, finest.dtype.newbyteorder("=")


def plain(attributes: Any) -> Attributes:
    """Attributes of a group or an array as JSON has them."""
    found: Attributes = json.loads(json.dumps(dict(attributes)))
    return found


def describe_level(array: Any, path: str) -> Level:
    """One resolution, from the array that holds it."""
    metadata = array.metadata
    of_format_3 = metadata.zarr_format == 3
    if of_format_3:
        keys = metadata.chunk_key_encoding
        encoding = {"name": str(keys.name), "separator": str(keys.separator)}
    else:
        encoding = {"name": "v2", "separator": str(metadata.dimension_separator)}
    return Level(
        path=path,
        shape=tuple(array.shape),
        dtype=np.dtype(array.dtype),
        chunks=tuple(array.chunks),
        shards=array.shards,
        fill=array.fill_value,
        filters=tuple(array.filters),
        serializer=array.serializer if of_format_3 else "auto",
        compressors=tuple(array.compressors),
        encoding=encoding,
        names=getattr(metadata, "dimension_names", None),
        attributes=plain(array.attrs),
    )
