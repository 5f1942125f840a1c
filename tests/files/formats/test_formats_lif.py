"""LIF: axes, steps and names; liffile, which reads it, finds the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from makers_leica import Picture, write_lif

from pairfree.errors import InputError
from pairfree.files import Limits, open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.opening import count_scenes

liffile = pytest.importorskip("liffile")
RNG = np.random.default_rng(0)
STEPS = {"X": 1e-7, "Y": 1e-7, "Z": 3e-7, "T": 2.5, "λ": 5e-9, "Λ": 5e-9}
PIXEL = {"Y": (0.1, "µm"), "X": (0.1, "µm")}


def counts(*shape: int) -> np.ndarray:
    return RNG.integers(0, 4000, shape).astype(np.uint16)


@pytest.mark.parametrize("resident_bytes", [2**30, 10])
@pytest.mark.parametrize(
    ("axes", "letters", "spacing"),
    [
        ("YX", "YX", PIXEL),
        ("TYX", "TYX", {"T": (2.5, "s"), **PIXEL}),
        ("ZCYX", "ZCYX", {"Z": (0.3, "µm"), **PIXEL}),
        ("TZYX", "TZYX", {"T": (2.5, "s"), "Z": (0.3, "µm"), **PIXEL}),
        ("λYX", "CYX", PIXEL),
        ("λΛYX", "QQYX", PIXEL),
        ("MYX", "QYX", PIXEL),
        ("ZX", "YX", {"Y": (0.3, "µm"), "X": (0.1, "µm")}),
        ("YZX", "ZYX", {"Z": (0.1, "µm"), "Y": (0.3, "µm"), "X": (0.1, "µm")}),
        ("TX", "YX", {"X": (0.1, "µm")}),
    ],
)
def test_axes_and_steps(
    tmp_path: Path,
    axes: str,
    letters: str,
    spacing: dict[str, tuple[float, str]],
    resident_bytes: int,
) -> None:
    pixels = counts(*range(3, 1 + len(axes)), 24, 32)
    path = write_lif(tmp_path / "a.lif", [Picture(pixels, axes, STEPS)])
    image = open_image(path, Limits(resident_bytes=resident_bytes))
    assert (image.axes, image.spacing) == (letters, spacing)
    assert image.stored == (resident_bytes == 10)
    np.testing.assert_array_equal(image.pixels, pixels)
    with liffile.LifFile(path) as file:
        np.testing.assert_array_equal(file.images[0].asarray(), image.pixels)


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ("ZX", "its rows lie along z, its columns along x"),
        ("TX", "its rows lie along time, its columns along x"),
        ("TX", "its steps along time (2.5 s) are left out: OME-TIFF has no place for them"),
    ],
)
def test_what_an_image_of_other_axes_is_told_to_be(tmp_path: Path, axes: str, words: str) -> None:
    path = write_lif(tmp_path / "a.lif", [Picture(counts(24, 32), axes, STEPS)])
    assert words in open_image(path).metadata["warnings"]


def test_wavelengths_become_the_names_of_channels(tmp_path: Path) -> None:
    picture = Picture(counts(3, 24, 32), "λYX", STEPS, origin=5e-7)
    image = open_image(write_lif(tmp_path / "a.lif", [picture]))
    assert image.channel_names == ("500 nm", "505 nm", "510 nm")
    assert image.metadata["warnings"] == []


@pytest.mark.parametrize("tags", [(1, 2, 3), (3, 2, 1)])
def test_colours_are_red_first(tmp_path: Path, tags: tuple[int, ...]) -> None:
    pixels = RNG.integers(0, 255, (24, 32, 3)).astype(np.uint8)
    picture = Picture(pixels, "YXS", STEPS, bits=8, tags=tags)
    image = open_image(write_lif(tmp_path / "a.lif", [picture]))
    assert (image.axes, image.spacing) == ("YXS", PIXEL)
    np.testing.assert_array_equal(image.pixels, pixels[..., :: 2 - tags[0]])


def test_dyes_and_bits_come_back_in_ome_tiff(tmp_path: Path) -> None:
    picture = Picture(counts(4, 2, 24, 32), "TCYX", STEPS, dyes=["DAPI", "GFP"], bits=12)
    path = write_lif(tmp_path / "a.lif", [picture])
    image = open_image(path)
    assert (image.channel_names, image.bit_depth) == (("DAPI", "GFP"), 12)
    save_image(image, tmp_path / "out/a.tif")
    assert [one for one in compare(path, tmp_path / "out/a.tif") if one.kept is False] == []


def test_images_are_chosen_by_number(tmp_path: Path) -> None:
    pixels = [counts(24, 32), counts(3, 16, 16)]
    pictures = [
        Picture(one, "TYX"[3 - one.ndim :], STEPS, name)
        for one, name in zip(pixels, "ab", strict=True)
    ]
    path = write_lif(tmp_path / "a.lif", pictures)
    assert count_scenes(path) == 2
    (line,) = open_image(path).metadata["warnings"]
    assert line == "holds 2 images; only the first is used (choose with `scene`)"
    np.testing.assert_array_equal(open_image(path, Limits(), 1).pixels, pixels[1])
    with pytest.raises(InputError, match="has no image of number 2; it holds 2 images"):
        open_image(path, Limits(), 2)


def test_images_of_one_name_are_read_or_told(tmp_path: Path) -> None:
    """Older versions of liffile keep one of each name."""
    pictures = [Picture(counts(24, 32), "YX", STEPS, "a") for _ in range(2)]
    path = write_lif(tmp_path / "a.lif", pictures)
    (line,) = open_image(path).metadata["warnings"]
    told = "1 images have the name of another one" in line
    assert told == (count_scenes(path) == 1)


def test_a_line_is_no_image(tmp_path: Path) -> None:
    path = write_lif(tmp_path / "a.lif", [Picture(counts(32), "X", STEPS)])
    with pytest.raises(InputError, match=r"a\.lif: holds values along x, .* make no image"):
        open_image(path)


def test_a_block_that_is_shorter_than_its_image_is_refused(tmp_path: Path) -> None:
    path = write_lif(tmp_path / "a.lif", [Picture(counts(24, 32), "YX", STEPS)])
    declared = 'NumberOfElements="32"'.encode("utf-16-le")
    path.write_bytes(
        path.read_bytes().replace(declared, 'NumberOfElements="99"'.encode("utf-16-le"))
    )
    with pytest.raises(InputError, match="declares 24x99 uint16"):
        open_image(path)
