"""How a Zarr image is made, kept to write it back: groups, attributes, resolutions, chunks and codecs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.zarr_beside import find_beside
from pairfree.files.formats.zarr_files import (
    ARRAY,
    CONSOLIDATED,
    OF_FORMAT_3,
    ZarrFiles,
    join,
)
from pairfree.files.image import DType, Shape
from pairfree.files.messages import shown

OURS = "pairfree"
"""Attribute of folders that pairfree wrote."""
ALL_WRITTEN = "all written"
"""What it says of their chunks: a missing one is an error."""
CHECKSUM = "crc32c"
"""Name of the codec that notices a flipped bit, in format 3."""
SHARDING = "sharding_indexed"
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
    names: tuple[str | None, ...] | None
    """Of the dimensions, where the array states them."""
    attributes: Attributes
    metadata: Attributes
    """Of the array as its file has them (``.zarray``, or ``zarr.json``), without the attributes."""

    @property
    def stored_bytes(self) -> int:
        """Bytes of the values of a file of chunks, before it is compressed."""
        return math.prod(self.shards or self.chunks) * self.dtype.itemsize


@dataclass(frozen=True)
class Carried:
    """What writing a Zarr image back as it was needs."""

    zarr_format: int
    """2 or 3."""
    groups: dict[str, Attributes]
    """Attributes of the groups on the way to the arrays, by their names; empty for an array without any."""
    place: str
    """Name of the image's group; empty where the folder is the group."""
    levels: tuple[Level, ...]
    """Finest first."""
    files: ZarrFiles | None = None
    """What the image was read from."""
    left_out: frozenset[str] = frozenset()
    """Other images of its collection."""
    consolidated: tuple[str, ...] = ()
    """Groups with a copy of the metadata of all that lies in them."""
    comment: bytes = field(default=b"")
    """Of a zip archive."""
    ome_xml: bytes = field(default=b"")
    """What the OME-XML of its collection says of it, where the image was chosen from one."""

    @cached_property
    def beside(self) -> tuple[str, ...]:
        """Files and folders that are no part of the image, such as labels: copied as they are.

        Looked for when it is asked for: an array may have a million chunks beside them.
        """
        if self.files is None:
            return ()
        arrays = [join(self.place, level.path) for level in self.levels]
        found = find_beside(self.files, arrays, self.groups)
        return tuple(name for name in found if name.rstrip("/") not in self.left_out)

    @property
    def kind(self) -> tuple[Shape, DType]:
        """Shape and native type of the finest level."""
        finest = self.levels[0]
        return finest.shape, finest.dtype.newbyteorder("=")

    @property
    def group(self) -> Attributes:
        """Attributes of the image's group; empty for an array without one."""
        return self.groups.get(self.place, {})


def plain(attributes: Any) -> Attributes:
    """Attributes of a group or an array as JSON has them."""
    found: Attributes = json.loads(json.dumps(dict(attributes)))
    return found


def describe_level(array: Any, path: str, files: ZarrFiles) -> Level:
    """One resolution, from the array that holds it.

    Parameters
    ----------
    array
        zarr's.
    path
        Where it lies in the image's group.
    files
        Of the image.

    Raises
    ------
    InputError
        Where a copy of its metadata says something else than its own file.
    """
    of_format_3 = array.metadata.zarr_format == 3
    name = join(str(array.path).strip("/"), OF_FORMAT_3 if of_format_3 else ARRAY)
    metadata = files.read_json(name)
    metadata.pop("attributes", None)
    if metadata:
        _check_consolidated(
            array, metadata, f"{shown(files.path)}: its array {shown(path or name)}"
        )
    return Level(
        path=path,
        shape=tuple(array.shape),
        dtype=np.dtype(array.dtype),
        chunks=tuple(array.chunks),
        shards=array.shards,
        names=getattr(array.metadata, "dimension_names", None),
        attributes=plain(array.attrs),
        metadata=metadata,
    )


def _check_consolidated(array: Any, metadata: Attributes, label: str) -> None:
    """InputError where zarr decodes by a copy of the metadata, and the result would be written by others."""
    kind = type(array.metadata)
    stated = kind.from_dict({**metadata, "attributes": {}}).to_dict()
    used = array.metadata.to_dict()
    for key in (*stated, *used):
        if key != "attributes" and repr(stated.get(key)) != repr(used.get(key)):
            raise InputError(
                f"{label}: its {key} is another one in the consolidated metadata; "
                "consolidate them anew, or export the image again"
            )


def describe_new_level(shape: Shape, dtype: DType, chunks: Shape, names: Iterable[str]) -> Level:
    """The one resolution of an image that was no Zarr, in format 3."""
    metadata: Attributes = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 3, "checksum": True}},
        ],
        "dimension_names": list(names),
        "storage_transformers": [],
    }
    return Level("0", shape, dtype, chunks, None, tuple(names), {}, metadata)


def find_consolidated(files: ZarrFiles, groups: Iterable[str]) -> tuple[str, ...]:
    """Those of the groups with a copy of the metadata of all that lies in them."""
    found = []
    for group in groups:
        of_format_2 = files.size(join(group, CONSOLIDATED)) is not None
        if of_format_2 or files.read_json(join(group, OF_FORMAT_3)).get("consolidated_metadata"):
            found.append(group)
    return tuple(found)


def with_checksum(metadata: Attributes) -> Attributes:
    """Metadata of an array of format 3 whose codecs notice a flipped bit; in shards, in each chunk."""
    changed: Attributes = json.loads(json.dumps(metadata))
    codecs = changed["codecs"]
    if codecs[-1].get("name") == SHARDING:
        codecs = codecs[-1]["configuration"]["codecs"]
    if not any(one.get("name") == CHECKSUM for one in codecs):
        codecs.append({"name": CHECKSUM})
    return changed


def without_checksum(metadata: Any) -> Any:
    """Metadata of an array without the codec that notices flipped bits, wherever it stands."""
    if isinstance(metadata, dict):
        return {key: without_checksum(value) for key, value in metadata.items()}
    if isinstance(metadata, list):
        others = [one for one in metadata if not _is_checksum(one)]
        return [without_checksum(one) for one in others]
    return metadata


def _is_checksum(codec: Any) -> bool:
    return isinstance(codec, dict) and codec.get("name") == CHECKSUM
