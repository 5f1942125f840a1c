"""TIFF under makers' suffixes. The files are written here, after the makers' descriptions of their tags."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pairfree.errors import InputError
from pairfree.files import open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.formats.tiff_tags import Edit, edit_tags

RNG = np.random.default_rng(3)
LSM_INFO, UIC1, UIC2 = 34412, 33628, 33629


def counts(*shape: int, dtype: str = "u2") -> np.ndarray:
    return RNG.integers(0, 250, shape).astype(dtype)


def write_lsm(path: Path, pixels: np.ndarray) -> None:
    """(Z, C, Y, X): a page a slice with its channels one after the other, and a thumbnail of each."""
    info = np.zeros(1, tifffile.TIFF.CZ_LSMINFO)
    depth, channels, height, width = pixels.shape
    for name, value in {
        "MagicNumber": 67127628,
        "StructureSize": info.nbytes,
        "DimensionX": width,
        "DimensionY": height,
        "DimensionZ": depth,
        "DimensionChannels": channels,
        "DimensionTime": 1,
        "DataType": 2,
        "VoxelSizeX": 1e-7,
        "VoxelSizeY": 1e-7,
        "VoxelSizeZ": 4e-7,
        "ScanType": 0,
        "TimeIntervall": 2.5,
    }.items():
        info[name] = value
    tags = [(LSM_INFO, 1, info.nbytes, info.tobytes(), True)]
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(pixels):
            writer.write(
                page,
                photometric="minisblack",
                planarconfig="separate",
                metadata=None,
                extratags=tags if number == 0 else (),
            )
            thumbnail = np.zeros((3, 8, 10), "u1")
            writer.write(thumbnail, photometric="rgb", planarconfig="separate", subfiletype=1)


def write_stk(path: Path, pixels: np.ndarray) -> None:
    """(Z, Y, X): one page, behind whose strip the other planes follow."""
    planes, height, _ = pixels.shape
    tifffile.imwrite(path, pixels[0], photometric="minisblack", metadata=None, rowsperstrip=height)
    with tifffile.TiffFile(path) as tiff:
        (offset,) = tiff.pages[0].aspage().dataoffsets
    data = path.read_bytes()
    end = offset + pixels[0].nbytes
    assert not data[end:].strip(b"\0")  # pixels stand last
    path.write_bytes(data[:end] + pixels[1:].tobytes())
    at = path.stat().st_size + 16
    sizes = struct.pack("<4I", 13, 100, 13, 100) + struct.pack("<I", 3) + b"um\0"
    with path.open("ab") as file:
        file.write(bytes(16) + sizes)
    uic1 = struct.pack("<8I", 4, at, 5, at + 8, 6, at + 16, 0, planes)
    uic2 = struct.pack("<6I", 1, 2, 2451545, 1000, 2451545, 1000) * planes
    tags = ((UIC1, 4, len(uic1) // 8, uic1), (UIC2, 5, planes, uic2))
    edit_tags(path, Edit(frozenset(), tags))


def check_copy(path: Path) -> None:
    """Nothing but the maker's own tags is lost."""
    copy = path.with_name("copies") / f"{path.stem}.tif"
    save_image(open_image(path), copy)
    assert [check.name for check in compare(path, copy) if check.kept is False] == []


def test_zeiss(tmp_path: Path) -> None:
    pixels = counts(3, 3, 40, 50)  # of two channels, tifffile looks elsewhere for bits a sample
    write_lsm(tmp_path / "a.lsm", pixels)
    image = open_image(tmp_path / "a.lsm")
    assert (image.axes, image.metadata["warnings"]) == ("ZCYX", [])
    np.testing.assert_array_equal(image.pixels, pixels)
    steps = {axis: (round(step, 9), unit) for axis, (step, unit) in image.spacing.items()}
    assert steps == {"Z": (0.4, "µm"), "Y": (0.1, "µm"), "X": (0.1, "µm")}
    check_copy(tmp_path / "a.lsm")


def test_metamorph(tmp_path: Path) -> None:
    pixels = counts(4, 40, 50)
    write_stk(tmp_path / "a.stk", pixels)
    image = open_image(tmp_path / "a.stk")
    assert image.axes == "ZYX"
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.spacing == {"Z": (0.5, "µm"), "Y": (0.13, "µm"), "X": (0.13, "µm")}
    check_copy(tmp_path / "a.stk")


def test_aperio(tmp_path: Path) -> None:
    slide, label = counts(200, 300, 3, dtype="u1"), counts(64, 64, 3, dtype="u1")
    said = "Aperio Image Library v12.0.15\r\n300x200 [0,0 300x200] (64x64)|AppMag = 20|MPP = 0.499"
    with tifffile.TiffWriter(tmp_path / "a.svs") as writer:
        writer.write(slide, photometric="rgb", tile=(64, 64), description=said, metadata=None)
        writer.write(label, photometric="rgb", description="Aperio\r\nlabel 64x64", metadata=None)
    image = open_image(tmp_path / "a.svs")
    np.testing.assert_array_equal(image.pixels, slide)
    assert image.spacing == {"Y": (0.499, "µm"), "X": (0.499, "µm")}
    assert "holds 2 images" in image.metadata["warnings"][0]
    np.testing.assert_array_equal(open_image(tmp_path / "a.svs", scene=1).pixels, label)
    check_copy(tmp_path / "a.svs")


@pytest.mark.parametrize("suffix", [".scn", ".qptiff", ".bif"])
def test_other_slides_have_the_resolution_of_their_tags(tmp_path: Path, suffix: str) -> None:
    slide = counts(200, 300, 3, dtype="u1")
    path = tmp_path / f"a{suffix}"
    tifffile.imwrite(
        path, slide, photometric="rgb", tile=(64, 64), resolution=(20000, 20000), resolutionunit=3
    )
    image = open_image(path)
    np.testing.assert_array_equal(image.pixels, slide)
    assert image.spacing == {"Y": (0.5, "µm"), "X": (0.5, "µm")}
    check_copy(path)


def test_mutants_of_makers_tags_are_read_or_refused(tmp_path: Path) -> None:
    write_lsm(tmp_path / "a.lsm", counts(2, 3, 24, 20))
    write_stk(tmp_path / "a.stk", counts(2, 24, 20))
    for path in (tmp_path / "a.lsm", tmp_path / "a.stk"):
        whole = path.read_bytes()
        for _ in range(200):
            data = bytearray(whole)
            for _ in range(int(RNG.integers(1, 8))):
                data[int(RNG.integers(len(data)))] = int(RNG.integers(256))
            path.write_bytes(bytes(data))
            try:
                open_image(path)
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017 - either of two things is right
