"""FreeSurfer's volumes: read as nibabel reads them, and written back with every other byte as it was."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

import pairfree as pf
from pairfree.errors import InputError, OutputError
from pairfree.files import Image, Limits, open_image, save_image
from pairfree.files.fidelity import compare

AFFINE = np.array([[0, -1.5, 0, 10.0], [1.5, 0, 0, -5], [0, 0, 3, 2], [0, 0, 0, 1]])
TAGS = b"\0\0\0\x03mri_convert and what else was done"
SUFFIXES = (".mgz", ".mgh", ".mgh.gz")


def plain(path: Path) -> bytes:
    data = path.read_bytes()
    return data if path.suffix == ".mgh" else gzip.decompress(data)


def write(path: Path, stored: np.ndarray, repetition_ms: float = 0.0, tags: bytes = TAGS) -> None:
    """By nibabel, which writes no tags."""
    made = nibabel.MGHImage(stored, AFFINE)
    if repetition_ms:
        made.header["tr"] = repetition_ms
    made.to_filename(path.with_name("made.mgh"))
    data = path.with_name("made.mgh").read_bytes() + tags
    path.write_bytes(data if path.suffix == ".mgh" else gzip.compress(data))
    path.with_name("made.mgh").unlink(missing_ok=True)


def values(shape: tuple[int, ...] = (7, 9, 5), dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 120, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("shape", "repetition_ms", "axes"),
    [((7, 9, 5), 0.0, "ZYX"), ((7, 9, 5, 3), 0.0, "QZYX"), ((7, 9, 5, 3), 2000.0, "TZYX")],
)
def test_there_and_back(tmp_path, shape, repetition_ms, axes, suffix, dtype):
    path, out = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write(path, values(shape, dtype), repetition_ms)
    image = open_image(path)
    assert (image.axes, image.dtype.name, image.metadata["warnings"]) == (axes, dtype, [])
    np.testing.assert_array_equal(image.pixels, values(shape, dtype).T)
    assert {axis: image.spacing[axis] for axis in "ZYX"} == {
        "Z": (3.0, "mm"),
        "Y": (1.5, "mm"),
        "X": (1.5, "mm"),
    }
    assert image.spacing.get("T") == ((2000.0, "ms") if "T" in axes else None)
    save_image(image, out)
    assert plain(out) == plain(path)
    assert [one.name for one in compare(path, out) if one.kept is False] == []
    changed = image.with_pixels((image.pixels + 1).astype(dtype))
    save_image(changed, tmp_path / f"c{suffix}")
    assert plain(tmp_path / f"c{suffix}").endswith(TAGS)
    if suffix != ".mgh.gz":  # which nibabel does not know
        by_others = nibabel.load(tmp_path / f"c{suffix}")
        np.testing.assert_array_equal(np.asarray(by_others.dataobj).T, changed.pixels)
        np.testing.assert_allclose(by_others.affine, AFFINE)


def test_what_is_written_is_the_same_each_time(tmp_path):
    write(tmp_path / "a.mgz", values())
    for name in ("b.mgz", "c.mgz"):
        save_image(open_image(tmp_path / "a.mgz"), tmp_path / name)
    assert (tmp_path / "b.mgz").read_bytes() == (tmp_path / "c.mgz").read_bytes()


def test_pixels_of_a_large_file_stay_in_it(tmp_path):
    write(tmp_path / "a.mgh", values())
    image = open_image(tmp_path / "a.mgh", Limits(resident_bytes=10))
    assert image.stored
    np.testing.assert_array_equal(image.pixels, values().T)
    save_image(image, tmp_path / "b.mgh")
    assert (tmp_path / "b.mgh").read_bytes() == (tmp_path / "a.mgh").read_bytes()


def test_a_lost_tag_is_found(tmp_path):
    write(tmp_path / "a.mgz", values())
    write(tmp_path / "b.mgz", values(), tags=b"")
    lost = [
        one.name for one in compare(tmp_path / "a.mgz", tmp_path / "b.mgz") if one.kept is False
    ]
    assert lost == ["scan parameters and tags"]


def test_no_position_is_no_pixel_size(tmp_path):
    write(tmp_path / "a.mgh", values())
    data = bytearray((tmp_path / "a.mgh").read_bytes())
    data[28:30] = b"\0\0"
    (tmp_path / "a.mgh").write_bytes(data)
    assert open_image(tmp_path / "a.mgh").spacing == {}


@pytest.mark.parametrize(
    ("place", "content", "words"),
    [
        (0, struct.pack(">i", 7), "version 1"),
        (20, struct.pack(">i", 2), "number 2, expected one of 0"),
        (4, struct.pack(">3i", 30000, 30000, 3000), "declares"),
        (4, struct.pack(">i", -3), "holds no pixels"),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_headers_that_lie(tmp_path, suffix, place, content, words):
    path = tmp_path / f"a{suffix}"
    write(path, values())
    data = bytearray(plain(path))
    data[place : place + len(content)] = content
    path.write_bytes(bytes(data) if suffix == ".mgh" else gzip.compress(bytes(data)))
    with pytest.raises(InputError, match=words) as caught:
        open_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("keep", [0, 100, 400])
def test_files_that_end_early_are_refused(tmp_path, suffix, keep):
    path = tmp_path / f"a{suffix}"
    write(path, values())
    data = plain(path)[:keep]
    path.write_bytes(data if suffix == ".mgh" else gzip.compress(data))
    with pytest.raises(InputError):
        open_image(path)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="only be written from one"):
        save_image(Image(values((4, 5)), "YX", family="mgh"), tmp_path / "a.mgz")
    write(tmp_path / "a.mgz", values())
    image = open_image(tmp_path / "a.mgz")
    with pytest.raises(OutputError, match="not what its header describes"):
        save_image(image.with_pixels(image.pixels.astype(np.float32)), tmp_path / "b.mgz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mgz"]


def test_a_folder_of_volumes_is_denoised(tmp_path):
    (tmp_path / "in").mkdir()
    noisy = np.random.default_rng(0).poisson(60, (48, 64, 3)).astype(np.int16)
    write(tmp_path / "in" / "a.mgz", noisy)
    wanted = {"method": "n2v", "device": "cpu", "report": False}
    pf.train(tmp_path / "in", steps=2, out=tmp_path / "run", **wanted)
    pf.denoise(tmp_path / "run", [tmp_path / "in"], tmp_path / "out")
    assert pf.verify(tmp_path / "in", tmp_path / "out").kept
    assert not np.array_equal(open_image(tmp_path / "out" / "a.mgz").pixels, noisy.T)
