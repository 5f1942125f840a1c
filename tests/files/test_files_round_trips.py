"""Files of many kinds there and back: written by other packages, read by them again, and nothing is lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import mrcfile
import nibabel
import numcodecs
import numpy as np
import pytest
import SimpleITK
import tifffile
import zarr

from pairfree.files import open_image, save_image
from pairfree.files.fidelity import compare

RNG = np.random.default_rng(11)
WHOLE = ("u1", "i1", "u2", "i2", "u4", "i4")
FLOATS = ("f2", "f4", "f8")
Case = tuple[str, Callable[[Path], Any]]
"""Name of a file, and what writes it."""
LEAST = 300
"""Files of all kinds together."""


def values(dtype: str, *shape: int) -> np.ndarray:
    """Random values of a type, whole ones over all of its range."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return RNG.normal(0, 100, shape).astype(kind)
    bounds = np.iinfo(kind)
    return RNG.integers(bounds.min, bounds.max, shape, endpoint=True, dtype=kind.newbyteorder("="))


def tiffs() -> Iterator[Case]:
    packings = (None, "zlib", "lzw", "zstd", "packbits", "lzma")
    for dtype, order, packing, tile in itertools.product(
        (*WHOLE, *FLOATS), "<>", packings, (None, (16, 32))
    ):
        if dtype[1] == "1" and order == ">":
            continue
        words: dict[str, Any] = {"compression": packing, "tile": tile, "byteorder": order}
        words |= {"photometric": "minisblack", "metadata": None, "software": "written by a test"}
        if packing in ("zlib", "lzw", "zstd") and dtype != "f2":
            words["predictor"] = True
        pixels = values(dtype, 2, 37, 45)
        yield (
            f"{dtype}{'be' if order == '>' else ''}{packing}{tile is not None}.tif",
            lambda path, pixels=pixels, words=words: tifffile.imwrite(path, pixels, **words),
        )


def described_tiffs() -> Iterator[Case]:
    for dtype, big, axes in itertools.product(
        ("u1", "u2", "i2", "f4"), (False, True), ("ZYX", "TCYX")
    ):
        pixels = values(dtype, *((3, 37, 45) if axes == "ZYX" else (3, 2, 37, 45)))
        steps = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.2, "TimeIncrement": 2.0}
        words: dict[str, Any] = {"bigtiff": big, "photometric": "minisblack"}
        ome = {"axes": axes, **steps}
        yield (
            f"{dtype}{big}{axes}.ome.tif",
            lambda path, pixels=pixels, words=words, ome=ome: tifffile.imwrite(
                path, pixels, metadata=ome, ome=True, **words
            ),
        )
        if dtype in ("u1", "u2", "f4") and not big:
            of_imagej = {"axes": axes, "unit": "um", "spacing": 0.5, "finterval": 2.0}
            yield (
                f"{dtype}{axes}ij.tif",
                lambda path, pixels=pixels, of_imagej=of_imagej: tifffile.imwrite(
                    path, pixels, imagej=True, resolution=(10, 5), metadata=of_imagej
                ),
            )


def zarrs() -> Iterator[Case]:
    packings = (None, numcodecs.Zstd(), numcodecs.Blosc(), numcodecs.Zlib(), numcodecs.LZ4())
    for dtype, packing, order in itertools.product(
        ("<u2", ">u2", "u1", "<f4", "<i8"), packings, "CF"
    ):
        name = "none" if packing is None else packing.codec_id
        pixels = RNG.integers(0, 99, (3, 37, 45)).astype(dtype)
        words: dict[str, Any] = {"compressors": packing, "filters": None, "order": order}
        yield f"{dtype[-2:]}{dtype[0] == '>'}{name}{order}.zarr", make_zarr(pixels, 2, words)
    for dtype, shards in itertools.product((*WHOLE, *FLOATS), (None, (2, 32, 32))):
        pixels = values(dtype, 3, 37, 45)
        yield f"{dtype}{shards is not None}.zarr", make_zarr(pixels, 3, {"shards": shards})


def make_zarr(
    pixels: np.ndarray, zarr_format: int, words: dict[str, Any]
) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        form: Any = zarr_format
        array = zarr.create_array(
            str(path),
            shape=pixels.shape,
            dtype=pixels.dtype,
            chunks=(1, 16, 32),
            zarr_format=form,
            **words,
        )
        array[...] = pixels

    return write


def volumes() -> Iterator[Case]:
    for dtype, suffix in itertools.product(
        (*WHOLE, "f4", "f8", "i8", "u8"), (".nii", ".nii.gz", ".hdr")
    ):
        pixels = values(dtype, 3, 17, 25) if dtype not in ("i8", "u8") else values("u2", 3, 17, 25)
        yield f"{dtype}{suffix}", make_nifti(pixels.astype(dtype))
        if suffix == ".nii":
            yield f"{dtype}.mha", make_metaimage(pixels.astype(dtype))
            yield f"{dtype}.mhd", make_metaimage(pixels.astype(dtype))
    for dtype, suffix in itertools.product(
        ("i1", "i2", "u2", "f4", "f2"), (".mrc", ".st", ".map.gz", ".mrc.bz2", ".ccp4", ".preali")
    ):
        yield f"{dtype}{suffix}", make_mrc(values(dtype, 3, 17, 25))


def make_nifti(pixels: np.ndarray) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        kind = nibabel.Nifti1Pair if path.suffix == ".hdr" else nibabel.Nifti1Image
        made = kind(pixels.T, np.diag([0.5, 0.5, 3.0, 1.0]), dtype=pixels.dtype)
        made.to_filename(path)

    return write


def make_metaimage(pixels: np.ndarray) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        made = SimpleITK.GetImageFromArray(pixels)
        made.SetSpacing((0.5, 0.5, 3.0))
        SimpleITK.WriteImage(made, str(path))

    return write


def make_mrc(pixels: np.ndarray) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        packing = {".gz": "gzip", ".bz2": "bzip2"}.get(path.suffix)
        with mrcfile.new(path, pixels, compression=packing) as made:
            made.voxel_size = 1.3

    return write


def pictures() -> Iterator[Case]:
    for dtype, samples in itertools.product(("u1", "u2"), (1, 2, 3, 4)):
        pixels = values(dtype, 37, 45, samples) if samples > 1 else values(dtype, 37, 45)
        yield f"{dtype}{samples}.png", make_png(pixels)
    for dtype, order in itertools.product((*WHOLE, *FLOATS), "<>"):
        pixels = values(dtype, 2, 37, 45).astype(f"{order}{dtype}")
        yield f"{dtype}{order == '>'}.npy", make_npy(pixels)


def make_png(pixels: np.ndarray) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(imagecodecs.png_encode(pixels))


def make_npy(pixels: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path, pixels)


def read_by_others(path: Path) -> np.ndarray:
    """Pixels by the package that people would use."""
    if path.suffix == ".tif":
        return np.asarray(tifffile.imread(path))
    if path.suffix == ".zarr":
        return np.asarray(zarr.open_array(str(path), mode="r")[...])
    if path.suffix == ".png":
        return np.asarray(imagecodecs.png_decode(path.read_bytes()))
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    if ".nii" in path.name or path.suffix == ".hdr":
        return np.asarray(nibabel.load(path).dataobj).T  # type: ignore[attr-defined]
    if path.suffix in (".mha", ".mhd"):
        return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
    with mrcfile.open(path, permissive=True) as file:
        return np.array(file.data)


FAMILIES = {
    "tiffs": list(tiffs()),
    "described tiffs": list(described_tiffs()),
    "zarrs": list(zarrs()),
    "volumes": list(volumes()),
    "pictures": list(pictures()),
}


def test_they_are_many():
    assert sum(len(cases) for cases in FAMILIES.values()) >= LEAST


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_lost(tmp_path: Path, family: str) -> None:
    """Pixels by other readers, and all that verify looks at; what a copy lacks would be told by both."""
    (tmp_path / "out").mkdir()
    for name, write in FAMILIES[family]:
        path, copy = tmp_path / name, tmp_path / "out" / name
        write(path)
        image = open_image(path)
        save_image(image, copy)
        before, after = read_by_others(path), read_by_others(copy)
        assert (before.dtype.newbyteorder("="), before.shape) == (
            after.dtype.newbyteorder("="),
            after.shape,
        ), name
        np.testing.assert_array_equal(after, before, err_msg=name)
        np.testing.assert_array_equal(np.squeeze(image.pixels), np.squeeze(before), err_msg=name)
        lost = [
            (check.name, check.before, check.after)
            for check in compare(path, copy)
            if check.kept is False
        ]
        assert lost == [], name
