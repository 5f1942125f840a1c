"""OIF and OIB: planes, steps and dyes, against what oiffile reads where it is there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from makers_olympus import write_oib, write_oif

from pairfree.errors import InputError
from pairfree.files import Limits, open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.formats.table import read_from
from pairfree.files.listing import find_images
from pairfree.files.opening import count_scenes

RNG = np.random.default_rng(0)


def counts(*shape: int) -> np.ndarray:
    return RNG.integers(0, 4000, shape).astype(np.uint16)


def written(path: Path, pixels: np.ndarray) -> Path:
    if path.suffix == ".oif":
        return write_oif(path, pixels)
    pytest.importorskip("olefile")
    return write_oib(path, pixels)


@pytest.mark.parametrize("resident_bytes", [2**30, 10])
@pytest.mark.parametrize("name", ["a.oif", "a.oib"])
def test_planes_steps_and_dyes(tmp_path: Path, name: str, resident_bytes: int) -> None:
    pixels = counts(2, 3, 2, 40, 50)
    path = written(tmp_path / name, pixels)
    image = open_image(path, Limits(resident_bytes=resident_bytes))
    assert (image.axes, image.channel_names) == ("CZTYX", ("Dye 1", "Dye 2"))
    assert (image.stored, image.bit_depth) == (resident_bytes == 10, 12)
    assert image.spacing == {
        "Z": (0.5, "µm"),
        "T": (2.5, "s"),
        "Y": (0.31, "µm"),
        "X": (0.31, "µm"),
    }
    assert (image.metadata["warnings"], count_scenes(path)) == ([], 1)
    np.testing.assert_array_equal(image.pixels, pixels)
    part = image.region((1, 2, 0), slice(3, 9), slice(40, 50))
    np.testing.assert_array_equal(part, pixels[1, 2, 0, 3:9, 40:50])
    save_image(image, tmp_path / "out/a.tif")
    assert [one for one in compare(path, tmp_path / "out/a.tif") if one.kept is False] == []
    with pytest.raises(InputError, match="has no image of number 1; it holds one image"):
        open_image(path, Limits(), 1)


@pytest.mark.parametrize("name", ["a.oif", "a.oib"])
def test_oiffile_reads_what_we_write_here(tmp_path: Path, name: str) -> None:
    """The writer of these tests is right: another reader finds the same."""
    oiffile = pytest.importorskip("oiffile")
    pixels = counts(2, 3, 4, 40, 50)
    with oiffile.OifFile(written(tmp_path / name, pixels)) as file:
        found = file.asarray()
    if found.shape[0] == 4:  # T, Z, C, in newer versions
        found = found.transpose(2, 1, 0, 3, 4)
    np.testing.assert_array_equal(found, pixels)


def test_a_folder_of_planes_holds_no_images_of_its_own(tmp_path: Path) -> None:
    path = write_oif(tmp_path / "a.oif", counts(1, 1, 1, 40, 50))
    plane = tmp_path / "a.oif.files/s_C001Z001T001.tif"
    assert [one.path for one in find_images([tmp_path])] == [path]
    assert plane in read_from(path)
    path.unlink()
    assert [one.path for one in find_images([tmp_path])] == [plane]


def test_one_plane(tmp_path: Path) -> None:
    pixels = counts(1, 1, 1, 40, 50)
    image = open_image(write_oif(tmp_path / "a.oif", pixels))
    assert (image.axes, image.channel_names) == ("YX", ("Dye 1",))
    np.testing.assert_array_equal(image.pixels, pixels[0, 0, 0])


def test_rows_along_another_axis_are_told(tmp_path: Path) -> None:
    image = open_image(write_oif(tmp_path / "a.oif", counts(1, 1, 1, 40, 50), order="XZ"))
    assert "its rows lie along z, its columns along x" in image.metadata["warnings"]


def test_fewer_planes_than_planned_are_told(tmp_path: Path) -> None:
    path = write_oif(tmp_path / "a.oif", counts(1, 1, 3, 40, 50))
    (tmp_path / "a.oif.files/s_C001Z001T003.tif").unlink()
    image = open_image(path)
    assert (image.axes, image.shape) == ("TYX", (2, 40, 50))
    assert image.metadata["warnings"] == ["its settings declare 3 planes along t, 2 are there"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "s_C001Z002T001.tif").unlink(), "1 of 12 planes are missing"),
        (
            lambda folder: (folder / "s_C002Z001T001.tif").write_bytes(b"II"),
            "C002Z001T001.*cannot be read",
        ),
        (
            lambda folder: folder.rename(folder.with_name("b")),
            "put the folder a.oif.files beside it",
        ),
        (lambda folder: [one.unlink() for one in folder.iterdir()], "holds no planes"),
    ],
    ids=["a plane", "bytes", "the folder", "all planes"],
)
def test_what_is_missing_is_named(tmp_path: Path, damage: object, words: str) -> None:
    path = write_oif(tmp_path / "a.oif", counts(2, 3, 2, 40, 50))
    damage(tmp_path / "a.oif.files")  # type: ignore[operator]
    with pytest.raises(InputError, match=words) as caught:
        open_image(path)
    assert "\n" not in str(caught.value)


def test_a_plane_of_another_size_is_refused(tmp_path: Path) -> None:
    path = write_oif(tmp_path / "a.oif", counts(2, 1, 1, 40, 50))
    write_oif(tmp_path / "b.oif", counts(1, 1, 1, 30, 50))
    other = tmp_path / "b.oif.files/s_C001Z001T001.tif"
    other.rename(tmp_path / "a.oif.files/s_C002Z001T001.tif")
    with pytest.raises(InputError, match=r"s_C002Z001T001.tif is \(30, 50\) uint16, \(40, 50\)"):
        open_image(path)


@pytest.mark.posix
def test_a_plane_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    """It would never answer."""
    write_oif(tmp_path / "a.oif", np.zeros((1, 1, 1, 24, 20), np.uint16))
    (plane,) = (tmp_path / "a.oif.files").glob("*.tif")
    plane.unlink()
    os.mkfifo(plane)
    with pytest.raises(InputError, match="is no regular file"):
        open_image(tmp_path / "a.oif")
