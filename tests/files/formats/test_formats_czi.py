"""CZI: tiles, scenes, compressions, metadata, against Zeiss' own writer and czifile where they are there."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from makers_zeiss import Tile, planes_of, write_czi, xml_of

from pairfree.errors import InputError
from pairfree.files import Limits, open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.formats.quiet import quiet_library
from pairfree.files.opening import count_scenes

RNG = np.random.default_rng(0)
STEPS = {"X": 1e-7, "Y": 1e-7, "Z": 5e-7}


def counts(*shape: int, dtype: type = np.uint16) -> np.ndarray:
    return RNG.integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("resident_bytes", [2**30, 10])
def test_planes_with_pixel_size_time_step_and_names(tmp_path: Path, resident_bytes: int) -> None:
    pixels = counts(2, 3, 4, 40, 50)
    xml = xml_of(STEPS, ["DAPI", "GFP"], seconds=2.5)
    path = write_czi(tmp_path / "a.czi", planes_of(pixels, "CTZ"), xml)
    image = open_image(path, Limits(resident_bytes=resident_bytes))
    assert (image.axes, image.channel_names) == ("TCZYX", ("DAPI", "GFP"))
    assert (image.stored, image.bit_depth) == (resident_bytes == 10, 12)
    assert image.metadata["warnings"] == []
    assert image.spacing == {
        "X": (0.1, "µm"),
        "Y": (0.1, "µm"),
        "Z": (0.5, "µm"),
        "T": (2.5, "s"),
    }
    expected = pixels.swapaxes(0, 1)
    np.testing.assert_array_equal(image.pixels, expected)
    part = image.region((1, 0, 2), slice(3, 9), slice(40, 50))
    np.testing.assert_array_equal(part, expected[1, 0, 2, 3:9, 40:50])
    save_image(image, tmp_path / "out/a.tif")
    with tifffile.TiffFile(tmp_path / "out/a.tif") as file:
        assert file.is_ome
        np.testing.assert_array_equal(file.asarray(), expected)
    assert [one for one in compare(path, tmp_path / "out/a.tif") if one.kept is False] == []


@pytest.mark.parametrize("compression", [0, 2, 4, 5, 6])
def test_compressions(tmp_path: Path, compression: int) -> None:
    pixels = counts(3, 24, 32)
    path = write_czi(tmp_path / "a.czi", planes_of(pixels, "T", compression))
    np.testing.assert_array_equal(open_image(path).pixels, pixels)


@pytest.mark.parametrize("compression", [0, 5])
def test_colours_are_red_first(tmp_path: Path, compression: int) -> None:
    pixels = counts(24, 32, 3, dtype=np.uint8)
    path = write_czi(tmp_path / "a.czi", [Tile(pixels, {}, compression)])
    image = open_image(path)
    assert image.axes == "YXS"
    np.testing.assert_array_equal(image.pixels, pixels[..., ::-1])


def test_tiles_lie_where_they_say_and_later_ones_cover_earlier_ones(tmp_path: Path) -> None:
    first, second = counts(20, 30), counts(20, 30)
    tiles = [
        Tile(second, {"X": -70, "Y": 105, "M": 1}),
        Tile(first, {"X": -90, "Y": 100, "M": 0}),
    ]
    image = open_image(write_czi(tmp_path / "a.czi", tiles), Limits(resident_bytes=10))
    expected = np.zeros((25, 50), np.uint16)
    expected[:20, :30] = first
    expected[5:, 20:] = second
    np.testing.assert_array_equal(image.pixels, expected)
    part = image.region((), slice(3, 22), slice(15, 45))
    np.testing.assert_array_equal(part, expected[3:22, 15:45])


def test_lower_resolutions_are_left_out(tmp_path: Path) -> None:
    pixels = counts(40, 60)
    tiles = [Tile(pixels, {}), Tile(counts(20, 30), {}, times=2)]
    image = open_image(write_czi(tmp_path / "a.czi", tiles))
    np.testing.assert_array_equal(image.pixels, pixels)


def test_scenes_without_names(tmp_path: Path) -> None:
    scenes = [counts(20, 30), counts(24, 16), counts(8, 8)]
    tiles = [Tile(one, {"S": i, "X": 500 * i}) for i, one in enumerate(scenes)]
    path = write_czi(tmp_path / "a.czi", tiles)
    assert count_scenes(path) == 3
    for number, expected in enumerate(scenes):
        image = open_image(path, Limits(), number)
        np.testing.assert_array_equal(image.pixels, expected)
        assert image.metadata["warnings"] == []
    (line,) = open_image(path).metadata["warnings"]
    assert line == "holds 3 scenes; only the first is used (choose with `scene`)"
    for number in (3, -1):
        with pytest.raises(
            InputError, match=f"has no image of number {number}; .* 3 images, numbers 0 to 2"
        ):
            open_image(path, Limits(), number)


def test_planes_that_were_never_recorded_are_told(tmp_path: Path) -> None:
    pixels = counts(2, 3, 16, 16)
    path = write_czi(tmp_path / "a.czi", planes_of(pixels, "TZ")[:-2])
    image = open_image(path)
    assert image.metadata["warnings"] == [
        "2 of 6 planes were never recorded; their pixels are zero"
    ]
    assert not image.pixels[1, 1:].any()
    np.testing.assert_array_equal(image.pixels[0], pixels[0])


@pytest.mark.parametrize(
    "xml",
    [
        "<ImageDocument>",
        b"\xff\xfe\x00\xd8",
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><ImageDocument>&b;</ImageDocument>',
    ],
)
def test_damaged_metadata_are_told(tmp_path: Path, xml: str | bytes) -> None:
    pixels = counts(16, 16)
    image = open_image(write_czi(tmp_path / "a.czi", [Tile(pixels, {})], xml))
    np.testing.assert_array_equal(image.pixels, pixels)
    (line,) = image.metadata["warnings"]
    assert "metadata are damaged" in line
    assert image.spacing == {}


@pytest.mark.parametrize(
    ("tile", "words"),
    [
        (Tile(counts(16, 16), {}, data=b"short"), "cannot be decoded .*5 bytes of 512"),
        (
            Tile(counts(64, 64), {}, 5, data=imagecodecs.zstd_encode(bytes(2**26))),
            "cannot be decoded",
        ),
        (
            Tile(counts(16, 16), {}, 4, data=imagecodecs.jpegxr_encode(counts(900, 900))),
            r"a picture of size \(900, 900\), \(16, 16\) expected",
        ),
        (
            Tile(counts(64, 64), {}, 4, data=imagecodecs.jpegxr_encode(counts(64, 64))[:-50]),
            "a picture whose end is missing",
        ),
    ],
    ids=["short", "zstd bomb", "jpeg xr bomb", "jpeg xr cut off"],
)
def test_tiles_that_lie_are_refused(tmp_path: Path, tile: Tile, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        open_image(write_czi(tmp_path / "a.czi", [tile]))
    assert "\n" not in str(caught.value)


def test_a_corner_far_away_is_no_image_of_gigabytes(tmp_path: Path) -> None:
    tiles = [Tile(counts(16, 16), {}), Tile(counts(16, 16), {"X": 2**30, "Y": 2**30})]
    with pytest.raises(InputError, match="declares 1073741840x1073741840"):
        open_image(write_czi(tmp_path / "a.czi", tiles))


def test_limits_hold(tmp_path: Path) -> None:
    path = write_czi(tmp_path / "a.czi", [Tile(counts(64, 64), {})])
    with pytest.raises(InputError, match="limit of 1000 pixels"):
        open_image(path, Limits(max_pixels=1000))


@pytest.mark.parametrize("compression", ["uncompressed:", "zstd0:ExplicitLevel=2", None])
def test_files_of_zeiss_library(tmp_path: Path, compression: str | None) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    pixels = counts(2, 3, 40, 50)
    path = tmp_path / "a.czi"
    with czi.create_czi(str(path), compression_options=compression) as document:
        for channel, z in np.ndindex(2, 3):
            plane = {"C": channel, "Z": z, "T": 0}
            document.write(pixels[channel, z, :, :, None], plane=plane)
        document.write_metadata(
            document_name="a",
            channel_names={0: "DAPI", 1: "GFP"},
            scale_x=1e-7,
            scale_y=1e-7,
            scale_z=5e-7,
        )
    image = open_image(path)
    assert (image.axes, image.channel_names) == ("CZYX", ("DAPI", "GFP"))
    assert image.spacing == {"X": (0.1, "µm"), "Y": (0.1, "µm"), "Z": (0.5, "µm")}
    np.testing.assert_array_equal(image.pixels, pixels)


def test_czifile_reads_what_we_write_here(tmp_path: Path) -> None:
    """The writer of these tests is right: another reader finds the same."""
    czifile = pytest.importorskip("czifile")
    pixels = counts(2, 3, 40, 50)
    path = write_czi(tmp_path / "a.czi", planes_of(pixels, "CZ"), xml_of(STEPS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = czifile.imread(str(path))
    np.testing.assert_array_equal(np.squeeze(found), pixels.swapaxes(0, 1))


def test_a_decoder_that_prints_is_not_heard(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """Jxrlib tells of unknown tags on the terminal, once or many times; the file is read all the same."""
    pixels = counts(16, 16)
    packed = imagecodecs.jpegxr_encode(pixels)
    first_tag = int.from_bytes(packed[4:8], "little") + 2
    odd = packed[:first_tag] + b"\x01\x40" + packed[first_tag + 2 :]
    for data in (packed, odd):
        write_czi(tmp_path / "a.czi", [Tile(pixels, {}, 4, data=data)])
        with contextlib.suppress(InputError):
            _ = open_image(tmp_path / "a.czi").pixels
        assert capfd.readouterr() == ("", "")
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_calls_that_print_may_overlap(capfd: pytest.CaptureFixture) -> None:
    with quiet_library():
        with quiet_library():
            os.write(2, b"inner")
        os.write(2, b"outer")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
