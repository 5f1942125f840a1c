"""OME-Zarr 0.1 to 0.5 and plain Zarr (formats 2 and 3): folders of chunks, as large as a disk. zarr is imported when one is met.

An image of several resolutions comes back with as many, each made anew from the denoised one before it. Axes, scales, units, channel names,
display settings and every other attribute are kept, chunk shapes and codecs too. Every chunk is written, also an empty one, under a codec
that notices a flipped bit, and the attributes say so: of such a folder, a missing chunk is an error and not a black square.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError, OutputError
from pairfree.files.formats.npy import guess_axes
from pairfree.files.formats.pyramid import block_means, edges, rounded
from pairfree.files.formats.tiff_meta import unit_name
from pairfree.files.image import AXES, Image, check_dtype
from pairfree.files.limits import Limits, check_declared
from pairfree.files.messages import shown, size_text

MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""Files that make a folder a Zarr group or array."""
OURS, ALL_WRITTEN = "pairfree", "all written"
MOST_METADATA_BYTES = 2**26
MOST_CHUNK_BYTES = 2**31
WRITTEN_BYTES = 2**24
CHUNK_PX = 512
UNITS = {
    "µm": "micrometer",
    "nm": "nanometer",
    "Å": "angstrom",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "s": "second",
}
FIRST, SERIES = "0", "OME"
"""Of bioformats2raw: the first image, and where it keeps the OME-XML of the file it converted."""
OLD_AXES = "tczyx"
"""Of OME-Zarr before 0.3, which names none."""


def is_zarr(path: Path) -> bool:
    """Whether ``path`` is a folder with Zarr metadata."""
    try:
        return path.is_dir() and any((path / mark).is_file() for mark in MARKS)
    except OSError:
        return False


@dataclass(frozen=True)
class Level:
    """One resolution: where it lies in the group and how its chunks are made."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    fill: Any
    filters: tuple[Any, ...]
    serializer: Any
    compressors: tuple[Any, ...]
    encoding: dict[str, str]
    names: tuple[str | None, ...] | None
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Carried:
    """zarr_format   2 or 3;  root, group   attributes of the folder, and of the image in it, at ``place``;  levels   finest first
    beside   groups in that of the image that are no resolutions of it, such as labels: copied as they are
    """

    zarr_format: int
    root: dict[str, Any]
    place: str
    group: dict[str, Any]
    levels: tuple[Level, ...]
    beside: tuple[str, ...] = ()

    @property
    def kind(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and native type of the finest level."""
        return self.levels[0].shape, self.levels[0].dtype.newbyteorder("=")


def read_zarr(path: Path, limits: Limits) -> Image:
    """Read the image of a Zarr folder, the first where it holds several. Raises InputError."""
    import zarr

    from pairfree.files.formats.zarr_chunks import ZarrPixels, quiet

    for mark in MARKS:
        if (path / mark).is_file() and (path / mark).stat().st_size > MOST_METADATA_BYTES:
            raise InputError(
                f"{shown(path)}: {mark} has more than {size_text(MOST_METADATA_BYTES)}; it is damaged, export the image again"
            )
    if not is_zarr(path):
        raise InputError(
            f"{shown(path)}: holds none of {', '.join(MARKS)}; it is no Zarr folder, or was not copied whole"
        )
    lines: list[str] = []
    with quiet():
        root = zarr.open(str(path), mode="r")
        if isinstance(root, zarr.Array):
            place, group, arrays = "", {}, [root]
        else:
            place, node = _image_node(root, path, lines)
            group = _plain(node.attrs)
            arrays = [_level(node, one, path) for one in _datasets(group, path)]
        levels = tuple(_described(array, str(array.path)[len(place) :].strip("/")) for array in arrays)
    array, first = arrays[0], levels[0]
    n_bytes = _check(first, path, limits)
    multiscale = _multiscales(group)[0] if group else {}
    letters, spacing = _axes(multiscale, first, path)
    if _marked(root, group):
        _check_all_written(root, path)
    of_image = {level.path.partition("/")[0] for level in levels}
    beside = (
        ()
        if isinstance(root, zarr.Array)
        else tuple(sorted({str(name) for name, _ in node.groups()} - of_image))
    )
    attributes = {} if isinstance(root, zarr.Array) else _plain(root.attrs)
    carried = Carried(int(array.metadata.zarr_format), attributes, place, group, levels, beside)
    names = _channel_names(group, first.shape[letters.index("C")] if "C" in letters else 0)
    pixels = ZarrPixels(array, shown(path))
    data = pixels if n_bytes > limits.resident_bytes else pixels.whole()
    return Image(
        data,
        letters,
        spacing,
        names,
        source=path,
        family="zarr",
        metadata={"zarr": carried, "warnings": lines},
    )


def _plain(attributes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dict(attributes)))
    return found


def _described(array: Any, path: str) -> Level:
    metadata = array.metadata
    if metadata.zarr_format == 3:
        encoding = {
            "name": str(metadata.chunk_key_encoding.name),
            "separator": str(metadata.chunk_key_encoding.separator),
        }
    else:
        encoding = {"name": "v2", "separator": str(metadata.dimension_separator)}
    return Level(
        path, tuple(array.shape), np.dtype(array.dtype), tuple(array.chunks), array.shards, array.fill_value, tuple(array.filters),
        array.serializer if metadata.zarr_format == 3 else "auto", tuple(array.compressors), encoding,
        getattr(metadata, "dimension_names", None), _plain(array.attrs),
    )  # fmt: skip


def _ome(group: dict[str, Any]) -> dict[str, Any]:
    """Where OME's attributes are: below "ome" from 0.5 on."""
    inside = group.get("ome")
    return inside if isinstance(inside, dict) else group


def _multiscales(group: dict[str, Any]) -> list[Any]:
    found = _ome(group).get("multiscales")
    return found if isinstance(found, list) else []


def _image_node(root: Any, path: Path, lines: list[str]) -> tuple[str, Any]:
    """The group of the image, and where it lies."""
    attributes = _plain(root.attrs)
    if _multiscales(attributes):
        return "", root
    if "plate" in _ome(attributes):
        wells = [str(one.get("path")) for one in _ome(attributes)["plate"].get("wells", [])][:1]
        raise InputError(
            f"{shown(path)}: is a plate of many images; name one of them, such as {shown(path / (wells or ['A/1'])[0] / '0')}"
        )
    if FIRST not in root or not _multiscales(_plain(root[FIRST].attrs)):
        inside = sorted(str(name) for name, _ in itertools.chain(root.arrays(), root.groups()))[:5]
        raise InputError(
            f"{shown(path)}: is a Zarr group without image metadata; name one of its arrays: {', '.join(inside)}"
        )
    others = sum(name.isdigit() for name, _ in root.groups())
    if others > 1:
        lines.append(f"{path.name}: holds {others} images; only the first is used")
    return FIRST, root[FIRST]


def _datasets(group: dict[str, Any], path: Path) -> list[str]:
    found = _multiscales(group)
    if len(found) > 1:
        raise InputError(
            f"{shown(path)}: describes {len(found)} multiscale images in one group; name the array of one of them"
        )
    return [str(one["path"]) for one in found[0]["datasets"]]


def _level(node: Any, name: str, path: Path) -> Any:
    import zarr

    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(
            f"{shown(path)}: its metadata name an array outside of it ({shown(name)}); export it again"
        )
    found = node.get(name)
    if not isinstance(found, zarr.Array):
        raise InputError(
            f"{shown(path)}: its resolution {shown(name)} is missing; it was not copied or written completely"
        )
    return found


def _check(level: Level, path: Path, limits: Limits) -> int:
    """Bytes of all pixels, after checking type and sizes that the metadata declare."""
    check_dtype(level.dtype, shown(path))
    if len(level.shape) < 2:
        raise InputError(
            f"{shown(path)}: has {len(level.shape)} dimension(s) {level.shape}; an image needs at least height and width"
        )
    chunk = math.prod(level.shards or level.chunks) * level.dtype.itemsize
    if not all(level.chunks) or chunk > MOST_CHUNK_BYTES:
        raise InputError(
            f"{shown(path)}: chunks of {level.chunks} ({size_text(chunk)}) do not fit into memory; export it with smaller ones"
        )
    return check_declared(
        path, level.shape, level.dtype, limits, 2**62, may_stay=True
    )  # chunks that are not stored hold one value


def _axes(multiscale: dict[str, Any], level: Level, path: Path) -> tuple[str, dict[str, tuple[float, str]]]:
    """Axes in pairfree's letters, and the size of a step along each where scale and unit are stated."""
    named = multiscale.get("axes") or (level.names if level.names and all(level.names) else None)
    if named is None and multiscale:
        named = list(OLD_AXES[-len(level.shape) :])
    if named is None:
        return guess_axes(level.shape, path), {}
    words = [one if isinstance(one, dict) else {"name": one} for one in named]
    if len(words) != len(level.shape):
        raise InputError(
            f"{shown(path)}: names {len(words)} axes for an array of {len(level.shape)} dimensions; export it again"
        )
    letters = [str(one.get("name", "")).upper() for one in words]
    if letters[-2:] != ["Y", "X"]:
        raise InputError(
            f"{shown(path)}: its axes {', '.join(letters)} do not end with y and x; export it in that order"
        )
    text = "".join(
        one if len(one) == 1 and one in AXES.replace("S", "") and letters.count(one) == 1 else "Q"
        for one in letters
    )
    scale = [1.0] * len(letters)
    datasets = multiscale.get("datasets") or [{}]
    for one in (
        *datasets[0].get("coordinateTransformations", []),
        *multiscale.get("coordinateTransformations", []),
    ):
        if one.get("type") == "scale" and len(one.get("scale", [])) == len(scale):
            scale = [a * float(b) for a, b in zip(scale, one["scale"], strict=True)]
    spacing = {}
    for letter, step, one in zip(text, scale, words, strict=True):
        unit = unit_name(str(one.get("unit", "")))
        if letter in "TZYX" and unit and unit != "unit" and math.isfinite(step) and step > 0:
            spacing[letter] = (step, unit)
    return text, spacing


def _channel_names(group: dict[str, Any], channels: int) -> tuple[str, ...]:
    listed = (_ome(group).get("omero") or {}).get("channels") or []
    names = tuple(str(one.get("label", "")) for one in listed)
    return names if len(names) == channels and any(names) else ()


def _marked(root: Any, group: dict[str, Any]) -> bool:
    return any((found.get(OURS) or {}).get("chunks") == ALL_WRITTEN for found in (_plain(root.attrs), group))


def _check_all_written(root: Any, path: Path) -> None:
    """InputError naming a chunk that is missing from a folder whose chunks were all written."""
    import zarr

    members = (
        [root] if isinstance(root, zarr.Array) else [member for _, member in root.members(max_depth=None)]
    )
    for array in (one for one in members if isinstance(one, zarr.Array)):
        folder = path / str(array.path)
        present = {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}
        grid = [
            -(-size // chunk) for size, chunk in zip(array.shape, array.shards or array.chunks, strict=True)
        ]
        if sum(not name.startswith((".", "zarr.json")) for name in present) >= math.prod(grid):
            continue
        for place in itertools.product(*(range(n) for n in grid)):
            name = array.metadata.encode_chunk_key(place)
            if name not in present:
                raise InputError(
                    f"{shown(path)}: its chunk {shown(Path(str(array.path)) / name)} is missing; copy or write it again"
                )


def write_zarr(image: Image, path: Path) -> None:
    """Write ``image`` as the folder ``path`` with the layout its source had; one of another origin as OME-Zarr 0.5."""
    import zarr

    from pairfree.files.formats.zarr_chunks import quiet

    carried = image.metadata.get("zarr")
    if not isinstance(carried, Carried) or carried.kind != (image.shape, image.dtype):
        carried = _anew(image)
    mark = {
        OURS: {
            "derivation": str(image.metadata.get("derivation", "written with pairfree")),
            "chunks": ALL_WRITTEN,
        }
    }
    with quiet():
        if carried.group or carried.place:
            root = zarr.open_group(str(path), mode="w", zarr_format=carried.zarr_format)  # type: ignore[arg-type]
            node = root.require_group(carried.place) if carried.place else root
            previous = None
            for level in carried.levels:
                array = _create(node.store_path, level, carried.zarr_format)
                if previous is None:
                    _fill(array, image)
                else:
                    _shrink(previous, array)
                previous = array
            if carried.place:
                node.attrs.put(carried.group)
                root.attrs.put({**carried.root, **mark})
                if image.source is not None and (image.source / SERIES).is_dir():
                    shutil.copytree(image.source / SERIES, path / SERIES)
            else:
                root.attrs.put({**carried.group, **mark})
            if image.source is not None:
                for name in carried.beside:
                    shutil.copytree(image.source / carried.place / name, path / carried.place / name)
        else:
            level = carried.levels[0]
            array = _create(str(path), level, carried.zarr_format)
            _fill(array, image)
            array.attrs.put({**level.attributes, **mark})


def _create(store: Any, level: Level, zarr_format: Any) -> Any:
    """An array like one that was read, with a codec that notices damage."""
    import zarr
    from zarr.codecs import Crc32cCodec

    compressors: Sequence[Any] = level.compressors
    if zarr_format == 3:
        if not any(isinstance(one, Crc32cCodec) for one in compressors):
            compressors = (*compressors, Crc32cCodec())
    elif not any(_checks(one) for one in compressors):
        from numcodecs import Zstd

        compressors = (Zstd(level=3, checksum=True),)
    options: dict[str, Any] = (
        {"serializer": level.serializer, "dimension_names": level.names} if zarr_format == 3 else {}
    )
    return zarr.create_array(
        store, name=level.path or None, shape=level.shape, dtype=level.dtype, chunks=level.chunks, shards=level.shards,
        filters=level.filters or None, compressors=compressors, fill_value=level.fill, chunk_key_encoding=level.encoding,  # type: ignore[arg-type]
        attributes=level.attributes, zarr_format=zarr_format, config={"write_empty_chunks": True}, overwrite=True, **options,
    )  # fmt: skip


def _checks(codec: Any) -> bool:
    """Whether a codec of Zarr format 2 notices a flipped bit: those with a checksum in their stream."""
    words = codec.get_config()
    return words["id"] in ("zlib", "gzip") or (words["id"] == "zstd" and bool(words.get("checksum")))


def _parts(array: Any) -> Iterator[tuple[slice, ...]]:
    """The array in pieces of whole chunks, or shards, up to ``WRITTEN_BYTES``: several are encoded side by side."""
    units = list(array.shards or array.chunks)
    for axis in reversed(range(len(units))):
        room = WRITTEN_BYTES // (math.prod(units) * array.dtype.itemsize)
        units[axis] *= max(1, min(room, -(-array.shape[axis] // units[axis])))
    for start in itertools.product(
        *(range(0, size, unit) for size, unit in zip(array.shape, units, strict=True))
    ):
        yield tuple(
            slice(i, min(i + unit, size)) for i, unit, size in zip(start, units, array.shape, strict=True)
        )


def _fill(array: Any, image: Image) -> None:
    for part in _parts(array):
        *leading, rows, columns = part
        block = np.empty([one.stop - one.start for one in part], image.dtype)
        for index in itertools.product(*(range(one.start, one.stop) for one in leading)):
            block[tuple(i - one.start for i, one in zip(index, leading, strict=True))] = image.region(
                index, rows, columns
            )
        array[part] = block


def _shrink(fine: Any, coarse: Any) -> None:
    """Each value of ``coarse`` is the mean of those of ``fine`` that it covers, rounded."""
    places = [edges(a, b) for a, b in zip(fine.shape, coarse.shape, strict=True)]
    for part in _parts(coarse):
        wanted = [found[one.start : one.stop + 1] for one, found in zip(part, places, strict=True)]
        begins = [min(int(found[0]), size - 1) for found, size in zip(wanted, fine.shape, strict=True)]
        block = np.asarray(
            fine[
                tuple(
                    slice(begin, max(begin + 1, int(found[-1])))
                    for begin, found in zip(begins, wanted, strict=True)
                )
            ]
        )
        for axis, (begin, found) in enumerate(zip(begins, wanted, strict=True)):
            block = block_means(block, axis, found - begin)
        coarse[part] = rounded(block, coarse.dtype)


def _anew(image: Image) -> Carried:
    """The layout of an image that was no Zarr: one resolution, chunks of a plane."""
    if image.axes.endswith("S"):
        raise OutputError(
            "an image with samples (RGB) cannot be written as OME-Zarr, which has channels; write TIFF"
        )
    from zarr.codecs import ZstdCodec

    chunks = (*(1,) * len(image.leading), min(CHUNK_PX, image.height), min(CHUNK_PX, image.width))
    kinds = {"T": "time", "C": "channel", "Q": "other"}
    axes = []
    for number, letter in enumerate(image.axes):
        name = letter.lower() if letter != "Q" else f"q{number}"
        axes.append({"name": name, "type": kinds.get(letter, "space")})
        if letter in image.spacing:
            axes[-1]["unit"] = UNITS.get(image.spacing[letter][1], image.spacing[letter][1])
    scale = [image.spacing.get(letter, (1.0, ""))[0] for letter in image.axes]
    multiscale = {
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
    }
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [multiscale]}
    if image.channel_names:
        ome["omero"] = {"channels": [{"label": name} for name in image.channel_names]}
    level = Level(
        "0", image.shape, image.dtype, chunks, None, 0, (), "auto", (ZstdCodec(level=3, checksum=True),),
        {"name": "default", "separator": "/"}, tuple(str(one["name"]) for one in axes), {},
    )  # fmt: skip
    return Carried(3, {}, "", {"ome": ome}, (level,))
