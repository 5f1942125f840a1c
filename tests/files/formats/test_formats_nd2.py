"""ND2: frames, positions and steps, against what nd2 reads."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from makers_nikon import depths, positions, times, write_nd2

from pairfree.errors import InputError
from pairfree.files import Limits, open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.opening import count_scenes

nd2 = pytest.importorskip("nd2")
RNG = np.random.default_rng(0)
LOOPS = (times(3, 2500.0), positions(2), depths(4, 0.5))


def counts(*shape: int) -> np.ndarray:
    return RNG.integers(0, 4000, shape).astype(np.uint16)


@pytest.mark.parametrize("resident_bytes", [2**30, 10])
@pytest.mark.parametrize("packed", [False, True])
def test_positions_are_images(tmp_path: Path, packed: bool, resident_bytes: int) -> None:
    frames = counts(24, 20, 30, 2)
    path = write_nd2(tmp_path / "a.nd2", frames, LOOPS, ["DAPI", "GFP"], packed)
    assert count_scenes(path) == 2
    (line,) = open_image(path).metadata["warnings"]
    assert line == "holds 2 positions; only the first is used (choose with `scene`)"
    for scene in range(2):
        image = open_image(path, Limits(resident_bytes=resident_bytes), scene)
        assert (image.axes, image.channel_names) == ("TZCYX", ("DAPI", "GFP"))
        assert (image.stored, image.bit_depth) == (resident_bytes == 10, 12)
        assert image.spacing == {
            "X": (0.25, "µm"),
            "Y": (0.25, "µm"),
            "Z": (0.5, "µm"),
            "T": (2.5, "s"),
        }
        with nd2.ND2File(path) as file:
            expected = file.asarray(position=scene).squeeze()
        np.testing.assert_array_equal(image.pixels, expected)
        part = image.region((1, 2, 1), slice(3, 9), slice(20, 30))
        np.testing.assert_array_equal(part, expected[1, 2, 1, 3:9, 20:30])
    with pytest.raises(InputError, match="has no image of number 2; it holds 2 images"):
        open_image(path, Limits(), 2)


def test_one_frame_and_its_result(tmp_path: Path) -> None:
    frames = counts(1, 20, 30, 1)
    path = write_nd2(tmp_path / "a.nd2", frames)
    image = open_image(path)
    assert (image.axes, image.metadata["warnings"]) == ("YX", [])
    np.testing.assert_array_equal(image.pixels, frames[0, ..., 0])
    save_image(image, tmp_path / "out/a.tif")
    assert [one for one in compare(path, tmp_path / "out/a.tif") if one.kept is False] == []


@pytest.mark.parametrize("packed", [False, True])
def test_rows_with_unused_ends(tmp_path: Path, packed: bool) -> None:
    frames = counts(2, 20, 30, 2)
    loops = [times(2, 100.0)]
    path = write_nd2(tmp_path / "a.nd2", frames, loops, ["a", "b"], packed, unused=3)
    image = open_image(path)
    np.testing.assert_array_equal(image.pixels, frames.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(image.pixels, nd2.imread(path))


def test_colours(tmp_path: Path) -> None:
    frames = RNG.integers(0, 255, (1, 20, 30, 3)).astype(np.uint8)
    image = open_image(write_nd2(tmp_path / "a.nd2", frames))
    assert image.axes == "YXS"
    np.testing.assert_array_equal(image.pixels, frames[0])


def test_frames_that_were_never_recorded_are_told(tmp_path: Path) -> None:
    """nd2 gives black ones without a word."""
    frames = counts(3, 20, 30, 1)
    path = write_nd2(tmp_path / "a.nd2", frames, [times(3, 100.0)], left_out=[2])
    image = open_image(path)
    (line,) = image.metadata["warnings"]
    assert line == "1 of 3 frames were never recorded; their pixels are zero"
    np.testing.assert_array_equal(image.pixels[:2], frames[:2, ..., 0])
    assert not image.pixels[2].any()


def test_a_frame_that_inflates_beyond_its_size_is_refused(tmp_path: Path) -> None:
    frames = np.zeros((1, 2000, 3000, 1), np.uint16)
    path = write_nd2(tmp_path / "a.nd2", frames, packed=True)
    small = zlib.compress(frames.tobytes())
    data = path.read_bytes().replace(b'uiWidth" ', b"")
    for before, after in ((b"3000", b"0030"), (b"6000", b"0060"), (b"2000", b"0020")):
        data = data.replace(b'value="' + before, b'value="' + after)
    assert small in data
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"frame 0 cannot be read \(1201 bytes, 1200 expected"):
        open_image(path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-100], "ends without its map of frames"),
        (lambda data: b"\0\0\0\x0c" + data[4:], "from before 2010"),
        (lambda data: b"GIF8" + data[4:], "is no ND2 file"),
        (
            lambda data: data.replace(b'value="20"', b'value="99"').replace(b'"30"', b'"99"'),
            "declares",
        ),
    ],
    ids=["cut", "legacy", "another", "lie"],
)
def test_damaged_files_are_one_line(tmp_path: Path, damage: object, words: str) -> None:
    path = write_nd2(tmp_path / "a.nd2", counts(1, 20, 30, 3))
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(InputError, match=words) as caught:
        open_image(path)
    assert "\n" not in str(caught.value)
