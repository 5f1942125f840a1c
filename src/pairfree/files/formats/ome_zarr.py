"""OME-Zarr 0.1 to 0.5 and plain Zarr (formats 2 and 3): folders of chunks, as large as a disk.

zarr is imported when one is met. Axes, scales, units, channel names, display settings and every
other attribute are kept, chunk shapes and codecs too; see ``zarr_write`` for what is written.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.npy import guess_axes
from pairfree.files.formats.tiff_meta import unit_name
from pairfree.files.formats.zarr_beside import find_others
from pairfree.files.formats.zarr_files import MARKS, ZarrFiles, files_at, join
from pairfree.files.formats.zarr_images import (
    FIRST,
    check_marks,
    images_of_collection,
    images_of_plate,
    list_images,
    multiscales_of,
    ome_of,
    read_ome_xml,
)
from pairfree.files.formats.zarr_internals import name_of_chunk
from pairfree.files.formats.zarr_layout import (
    ALL_WRITTEN,
    OURS,
    Attributes,
    Carried,
    Level,
    describe_level,
    find_consolidated,
    plain,
)
from pairfree.files.formats.zarr_zip import ZipFiles
from pairfree.files.image import AXES, Image, Spacing, Stored, check_dtype
from pairfree.files.limits import Limits, check_declared, check_scene
from pairfree.files.messages import address_of, shown, size_text
from pairfree.files.spans import count_chunks
from pairfree.files.wide_integers import is_wide, narrow

MOST_TINY_CHUNKS, TINY_PX = 2**16, 256
"""Chunks of fewer pixels in a plane may be so many: each takes a call, be it stored or not."""
OLD_AXES = "tczyx"
"""Of OME-Zarr before 0.3, which names none."""
ANY_SIZE = 2**62
"""Bytes that a folder may hold: chunks that are not stored hold one value."""
NAMED = 5
"""Of the arrays and groups of a folder without image metadata, so many are named."""


def is_zarr(path: Path) -> bool:
    """Whether ``path`` is a folder with Zarr metadata, on a disk or on a server."""
    if address_of(path) is not None:
        files = files_at(path)
        return any(files.size(mark) is not None for mark in MARKS)
    try:
        return path.is_dir() and any((path / mark).is_file() for mark in MARKS)
    except OSError:
        return False


def read_zarr(path: Path, limits: Limits, scene: int | None = None) -> Image:
    """Read an image of a Zarr folder, the first where it holds several.

    Parameters
    ----------
    path
        The folder.
    limits
        What it may declare.
    scene
        Number of the image, from 0, in the order of ``list_images``; it is read as if its folder were named.
        None: the folder itself.

    Raises
    ------
    InputError
        For what is no image, is damaged, or is not copied whole.
    """
    files = files_at(path)
    names = [""] if scene is None else list_images(files)
    check_scene(scene or 0, len(names), path)
    name = names[scene or 0]
    image = _read(files_at(path / name), "zarr", limits)
    if name:
        carried = replace(image.metadata["zarr"], ome_xml=read_ome_xml(files, name))
        image = replace(image, metadata={**image.metadata, "zarr": carried})
    return replace(image, source=path)


def read_zipped_zarr(path: Path, limits: Limits) -> Image:
    """Read the image of a Zarr that is one zip archive.

    Parameters
    ----------
    path
        Of the archive.
    limits
        What it may declare.

    Raises
    ------
    InputError
        As ``read_zarr``.
    """
    files = ZipFiles(path, limits)
    count = len(list_images(files))
    if count > 1:
        raise InputError(
            f"{shown(path)}: holds {count} images; unpack it, and choose one of its folder with `scene`"
        )
    return _read(files, "ozx", limits)


def _read(files: ZarrFiles, family: str, limits: Limits) -> Image:
    import zarr

    from pairfree.files.formats.zarr_bounds import quiet_and_bounded
    from pairfree.files.formats.zarr_chunks import ZarrPixels
    from pairfree.files.formats.zarr_codecs import check_codecs

    path = files.path
    check_marks(files)
    warnings: list[str] = []
    with quiet_and_bounded():
        root = zarr.open(files.store, mode="r")
        if isinstance(root, zarr.Array):
            arrays = [root]
            carried = _carry_array(root, files)
        else:
            arrays, carried = _carry_group(root, files, warnings)
    finest = carried.levels[0]
    n_bytes = _check_sizes(carried.levels, path, limits)
    for one in arrays:
        check_codecs(one, shown(path))
    multiscale = multiscales_of(carried.group)[0] if carried.group else {}
    axes, spacing = _read_axes(multiscale, finest, path)
    all_written = _is_marked(root, carried.group)
    if not files.lists:
        warnings.append(
            f"its server lists no folders ({files.why_not_listed}): what lies beside the image is left out, "
            "and chunks are looked for one by one"
        )
    elif all_written:
        for one in arrays:
            _check_all_written(one, files)
    channels = finest.shape[axes.index("C")] if "C" in axes else 0
    pixels = ZarrPixels(arrays[0], files, all_written)
    data: np.ndarray | Stored = pixels
    of_wide: dict[str, str] = {}
    if n_bytes <= limits.resident_bytes or is_wide(finest.dtype):
        data, of_wide = narrow(pixels.whole(), shown(path))
        files.close()
    return Image(
        data,
        axes,
        spacing,
        _channel_names(carried.group, channels),
        source=path,
        family=family,
        metadata={"zarr": carried, "warnings": warnings, **of_wide},
    )


def _carry_array(array: Any, files: ZarrFiles) -> Carried:
    """A folder that is one array."""
    name = str(array.path).strip("/")
    level = describe_level(array, name, files)
    return Carried(int(array.metadata.zarr_format), {}, "", (level,), files)


def _carry_group(root: Any, files: ZarrFiles, warnings: list[str]) -> tuple[list[Any], Carried]:
    """The arrays of all resolutions, finest first, and the layout of the folder."""
    path = files.path
    place, node, others = _find_image(root, path, warnings)
    arrays = []
    levels = []
    for name in _names_of_levels(plain(node.attrs), path):
        array = _open_level(node, name, path)
        below = str(array.path)[len(place) :]
        arrays.append(array)
        levels.append(describe_level(array, below.strip("/"), files))
    groups = _groups_on_the_way(root, place, levels)
    left_out = frozenset(others)
    names = [str(array.path).strip("/") for array in arrays]
    warnings += _tell_others(find_others(files, names, groups, left_out))
    carried = Carried(
        zarr_format=int(arrays[0].metadata.zarr_format),
        groups=groups,
        place=place,
        levels=tuple(levels),
        files=files,
        left_out=left_out,
        consolidated=find_consolidated(files, groups),
        comment=getattr(files, "comment", b""),
    )
    return arrays, carried


def _tell_others(found: Sequence[str]) -> list[str]:
    """A line about links and the like, which are no part of an image or of what lies beside it."""
    if not found:
        return []
    named = ", ".join(shown(one) for one in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return [f"links, pipes and devices within the folder are left out: {named}{more}"]


def _groups_on_the_way(root: Any, place: str, levels: Sequence[Level]) -> dict[str, Attributes]:
    """Attributes of all groups from the root to the arrays, by name."""
    found = {"": plain(root.attrs)}
    for name in [place, *(join(place, level.path) for level in levels)]:
        parts = name.split("/")
        inside = len(parts) if name == place else len(parts) - 1
        for depth in range(1, inside + 1):
            group = "/".join(parts[:depth])
            if group and group not in found:
                found[group] = plain(root[group].attrs)
    return found


def _find_image(root: Any, path: Path, warnings: list[str]) -> tuple[str, Any, set[str]]:
    """Where the group of the image lies, the group, and the names of images that are left out."""
    attributes = plain(root.attrs)
    if multiscales_of(attributes):
        return "", root, set()
    ome = ome_of(attributes)
    if "plate" in ome:
        one_image = path / images_of_plate(root, path)[0]
        raise InputError(
            f"{shown(path)}: is a plate of many images; "
            f"name one of them, such as {shown(one_image)}, or choose with `scene`"
        )
    if FIRST not in root or not multiscales_of(plain(root[FIRST].attrs)):
        members = itertools.chain(root.arrays(), root.groups())
        inside = sorted(str(name) for name, _ in members)
        named = ", ".join(inside[:NAMED])
        raise InputError(
            f"{shown(path)}: is a Zarr group without image metadata; "
            f"name one of its arrays: {named}"
        )
    images = images_of_collection(root)
    if len(images) > 1:
        warnings.append(f"holds {len(images)} images; only the first is used; choose with `scene`")
    return FIRST, root[FIRST], {*images} - {FIRST}


def _names_of_levels(group: Attributes, path: Path) -> list[str]:
    found = multiscales_of(group)
    if len(found) > 1:
        raise InputError(
            f"{shown(path)}: describes {len(found)} multiscale images in one group; "
            "name the array of one of them"
        )
    return [str(one["path"]) for one in found[0]["datasets"]]


def _open_level(node: Any, name: str, path: Path) -> Any:
    import zarr

    below = Path(name)
    if below.is_absolute() or ".." in below.parts:
        raise InputError(
            f"{shown(path)}: its metadata name an array outside of it ({shown(name)}); "
            "export it again"
        )
    found = node.get(name)
    if not isinstance(found, zarr.Array):
        raise InputError(
            f"{shown(path)}: its resolution {shown(name)} is missing; "
            "it was not copied or written completely"
        )
    return found


def _check_sizes(levels: Sequence[Level], path: Path, limits: Limits) -> int:
    """Bytes of all pixels, after checking type and sizes that the metadata declare."""
    finest = levels[0]
    check_dtype(finest.dtype, shown(path), wide=True)
    if len(finest.shape) < 2:
        raise InputError(
            f"{shown(path)}: has {len(finest.shape)} dimension(s) {finest.shape}; "
            "an image needs at least height and width"
        )
    for level in levels:
        if len(level.shape) != len(finest.shape):
            raise InputError(
                f"{shown(path)}: its resolution {shown(level.path)} has {len(level.shape)} axes and the "
                f"finest has {len(finest.shape)}; export it again"
            )
        check_dtype(level.dtype, f"{shown(path)}: resolution {shown(level.path)}", wide=True)
        _check_chunks(level, path, limits)
    may_stay = not is_wide(finest.dtype)
    return check_declared(path, finest.shape, finest.dtype, limits, ANY_SIZE, may_stay=may_stay)


def _check_chunks(level: Level, path: Path, limits: Limits) -> None:
    """InputError for chunks or shards too large for the memory, and for a plane of very many tiny ones."""
    sides = level.shards or level.chunks
    if not all(level.chunks) or level.stored_bytes > limits.piece_bytes:
        named = " x ".join(map(str, sides))
        kind = "shards" if level.shards else "chunks"
        raise InputError(
            f"{shown(path)}: {kind} of {named} ({size_text(level.stored_bytes)}), each held whole, do not "
            "fit into memory; export it with smaller ones, or raise `max_bytes`"
        )
    count = math.prod(count_chunks(level.shape[-2:], level.chunks[-2:]))
    height, width = level.chunks[-2:]
    if count > MOST_TINY_CHUNKS and height * width < TINY_PX:
        raise InputError(
            f"{shown(path)}: a plane has {count} chunks of {height} x {width} px, too many to read; "
            "export it with larger ones"
        )


def _read_axes(multiscale: Attributes, level: Level, path: Path) -> tuple[str, Spacing]:
    """Axes in pairfree's letters, and the size of a step along each.

    That is known where scale and unit are stated.
    """
    stated = _stated_axes(multiscale, level)
    if not stated:
        return guess_axes(level.shape, path), {}
    if len(stated) != len(level.shape):
        raise InputError(
            f"{shown(path)}: names {len(stated)} axes "
            f"for an array of {len(level.shape)} dimensions; export it again"
        )
    names = [str(one.get("name", "")).upper() for one in stated]
    if names[-2:] != ["Y", "X"]:
        raise InputError(
            f"{shown(path)}: its axes {', '.join(names)} do not end with y and x; "
            "export it in that order"
        )
    axes = "".join(_letter_of(name, names) for name in names)
    units = [unit_name(str(one.get("unit", ""))) for one in stated]
    scale = _scale(multiscale, len(axes))
    return axes, _spacing(axes, scale, units)


def _stated_axes(multiscale: Attributes, level: Level) -> list[Attributes]:
    """Name and unit of each axis, by OME's metadata or the array's; empty where none names them."""
    named: Sequence[Any] = multiscale.get("axes") or ()
    if not named and level.names and all(level.names):
        named = level.names
    if not named and multiscale:
        named = OLD_AXES[-len(level.shape) :]
    return [one if isinstance(one, dict) else {"name": one} for one in named]


def _letter_of(name: str, names: list[str]) -> str:
    """The letter that pairfree has for an axis; Q for what it has none for, or several of."""
    ours = AXES.replace("S", "")
    is_one = len(name) == 1 and names.count(name) == 1
    return name if is_one and name in ours else "Q"


def _scale(multiscale: Attributes, dimensions: int) -> list[float]:
    """The product of all scales that are stated for the finest level, along each axis."""
    scale = [1.0] * dimensions
    for change in _transformations(multiscale):
        steps = change.get("scale", [])
        if change.get("type") == "scale" and len(steps) == dimensions:
            scale = [a * float(b) for a, b in zip(scale, steps, strict=True)]
    return scale


def _transformations(multiscale: Attributes) -> Iterator[Attributes]:
    finest = (multiscale.get("datasets") or [{}])[0]
    yield from finest.get("coordinateTransformations", [])
    yield from multiscale.get("coordinateTransformations", [])


def _spacing(axes: str, scale: list[float], units: list[str | None]) -> Spacing:
    spacing: Spacing = {}
    for axis, step, unit in zip(axes, scale, units, strict=True):
        is_step = math.isfinite(step) and step > 0
        if axis in "TZYX" and is_step and unit and unit != "unit":
            spacing[axis] = (step, unit)
    return spacing


def _channel_names(group: Attributes, channels: int) -> tuple[str, ...]:
    listed = (ome_of(group).get("omero") or {}).get("channels") or []
    names = tuple(str(one.get("label", "")) for one in listed)
    return names if len(names) == channels and any(names) else ()


def _is_marked(root: Any, group: Attributes) -> bool:
    """Whether pairfree wrote the folder, and every chunk of it."""
    for attributes in (plain(root.attrs), group):
        mark = attributes.get(OURS) or {}
        if mark.get("chunks") == ALL_WRITTEN:
            return True
    return False


def _check_all_written(array: Any, files: ZarrFiles) -> None:
    """InputError naming a chunk that is missing from an array whose chunks were all written."""
    folder = str(array.path)
    present = {name[len(folder) :].lstrip("/") for name in files.below(folder)}
    grid = count_chunks(array.shape, array.shards or array.chunks)
    for number in itertools.product(*(range(n) for n in grid)):
        name = name_of_chunk(array, number)
        if name not in present:
            missing = join(folder, name)
            raise InputError(
                f"{shown(files.path)}: its chunk {shown(missing)} is missing; copy or write it again"
            )
