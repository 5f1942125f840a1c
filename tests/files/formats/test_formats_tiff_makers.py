"""TIFF under makers' suffixes. The files are written here, after the makers' descriptions of their tags."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from makers_hamamatsu import Page, write_ndpi

from pairfree.errors import InputError
from pairfree.files import Limits, open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.formats.tiff_tags import Edit, edit_tags
from pairfree.files.image import Stored

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


def waves(height: int, width: int) -> np.ndarray:
    """Colours without noise, which JPEG keeps well."""
    y, x = np.mgrid[:height, :width] / 9
    return np.stack([np.sin(y), np.cos(x), np.sin(x + y)], -1) * 60 + 128


def picture(height: int, width: int) -> np.ndarray:
    return waves(height, width).astype("u1")


@pytest.mark.parametrize(("subsampling", "width"), [(0, 256), (0, 250), (2, 256), (2, 250)])
def test_hamamatsu(tmp_path: Path, subsampling: int, width: int) -> None:
    """A slide with its lower resolution, and an overview. tifffile decodes the same tiles."""
    slide = Page(picture(100, width), 4, subsampling=subsampling)
    path = tmp_path / "a.ndpi"
    write_ndpi(path, [slide, Page(picture(50, width // 2)), Page(picture(30, 40), lens=-1.0)])
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ndpi
        of_tiles, whole = np.zeros((128, 320, 3), "u1"), tiff.asarray()
        for tile, (_, _, y, x, _), (_, high, wide, _) in tiff.pages[0].aspage().segments():
            assert tile is not None
            of_tiles[y : y + high, x : x + wide] = tile[0]
    image = open_image(path)
    np.testing.assert_array_equal(image.pixels, of_tiles[:100, :width])
    if (
        subsampling == 0
    ):  # else colours at the edge of a tile depend on whether its neighbour is known
        np.testing.assert_array_equal(image.pixels, whole)
    most = 12 if subsampling == 0 else 40
    assert np.abs(image.pixels - slide.pixels.astype(float)).max() < most
    assert image.spacing == {"Y": (0.5, "µm"), "X": (0.5, "µm")}
    assert "holds 2 images" in image.metadata["warnings"][0]
    assert open_image(path, scene=1).shape == (30, 40, 3)
    check_copy(path)


def test_depths_of_hamamatsu_stay_in_the_file(tmp_path: Path) -> None:
    """Pages of one size are depths, each with its own JPEG header; large ones are decoded when asked for."""
    pages = [Page(picture(64, 128) + 3 * n, 4, depth_nm=-500 + 500 * n) for n in range(3)]
    write_ndpi(tmp_path / "a.ndpi", pages)
    image = open_image(tmp_path / "a.ndpi", Limits(resident_bytes=1000))
    assert isinstance(image.data, Stored)
    assert (image.axes, image.spacing["Z"]) == ("ZYXS", (0.5, "µm"))
    np.testing.assert_array_equal(image.pixels, tifffile.imread(tmp_path / "a.ndpi"))


def test_fluorescence_of_hamamatsu(tmp_path: Path) -> None:
    """Its tags speak of colours all the same; CaptureMode tells what it is."""
    pixels = counts(48, 64) * 200
    write_ndpi(tmp_path / "a.ndpi", [Page(pixels), Page(pixels[::2, ::2])])
    image = open_image(tmp_path / "a.ndpi")
    assert (image.axes, image.dtype) == ("YX", np.uint16)
    np.testing.assert_array_equal(image.pixels, pixels)
    check_copy(tmp_path / "a.ndpi")


def test_hamamatsu_beyond_4_gb(tmp_path: Path) -> None:
    path = tmp_path / "A.NDPI"
    write_ndpi(path, [Page(picture(40, 64), 4), Page(picture(20, 32))], begin=2**32 + 4096)
    np.testing.assert_array_equal(open_image(path).pixels, tifffile.imread(path))


def edit_tag(path: Path, code: int, index: int, value: int) -> None:
    """Change a number of the list that a tag of the first page holds."""
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[0].aspage().tags[code].valueoffset
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, place + 4 * index, value)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("code", "index", "value", "found"),
    [
        (65426, 0, 2**31, "does not say where its tiles begin"),
        (65432, 0, 1, "does not say where its tiles begin"),
        (65426, 5, 0, "tile 5 is missing or cut off"),
        (65432, 5, 2**31 - 1, "tile 5 is missing or cut off"),
        (256, 0, 128, "places and"),
        (256, 0, 2**30, "declares"),
        (273, 0, 2**20, "strip 1 is missing or cut off"),
    ],
)
def test_lies_of_hamamatsu_are_refused(
    tmp_path: Path, code: int, index: int, value: int, found: str
) -> None:
    path = tmp_path / "a.ndpi"
    write_ndpi(path, [Page(picture(100, 256), 4)])
    edit_tag(path, code, index, value)
    with pytest.raises(InputError, match=found) as caught:
        open_image(path)
    assert "\n" not in str(caught.value)


def test_tiles_that_run_on_into_the_next_row_are_refused(tmp_path: Path) -> None:
    """22 blocks a row in tiles of 4; the number of tiles alone would be right."""
    write_ndpi(tmp_path / "a.ndpi", [Page(picture(8, 176), 4)])
    with pytest.raises(InputError, match="tiles of 4 blocks do not fill its rows of 22"):
        open_image(tmp_path / "a.ndpi")


def test_a_tile_cannot_be_larger_than_its_page_says(tmp_path: Path) -> None:
    """The size in the JPEG's header is not believed, nor one in the middle of the tiles."""
    path = tmp_path / "a.ndpi"
    write_ndpi(path, [Page(picture(16, 64), 4)])
    data = path.read_bytes()
    at = data.index(b"\xff\xc0") + 5
    path.write_bytes(data[:at] + struct.pack(">HH", 65000, 65000) + data[at + 4 :])
    assert open_image(path).shape == (16, 64, 3)
    path.write_bytes(data.replace(b"\xff\xdd\x00\x04\x00\x04", b"\xff\xdd\x00\x04\x1f\xf0"))
    with pytest.raises(InputError, match="places and"):
        open_image(path)


def test_mutants_of_makers_tags_are_read_or_refused(tmp_path: Path) -> None:
    write_lsm(tmp_path / "a.lsm", counts(2, 3, 24, 20))
    write_stk(tmp_path / "a.stk", counts(2, 24, 20))
    write_ndpi(tmp_path / "a.ndpi", [Page(picture(16, 64), 4), Page(picture(8, 32))])
    for path in (tmp_path / "a.lsm", tmp_path / "a.stk", tmp_path / "a.ndpi"):
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
