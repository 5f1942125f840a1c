"""Several images in one file: read by number, denoised one by one or all, each with a name of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

import pairfree as pf
from pairfree.errors import ConfigError, InputError
from pairfree.files import find_images, open_image, save_image
from pairfree.files.fidelity import verify
from pairfree.files.image import Image
from pairfree.files.opening import count_scenes

RNG = np.random.default_rng(0)
SIDES = (64, 80, 96)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A TIFF of three images of other sizes."""
    path = tmp_path / "in/cells.ome.tif"
    path.parent.mkdir()
    with tifffile.TiffWriter(path, ome=True) as writer:
        for side in SIDES:
            writer.write(RNG.poisson(50, (side, 64)).astype("u2"), metadata={"axes": "YX"})
    return path


def make_plate(path: Path) -> list[np.ndarray]:
    """An OME-Zarr plate of two wells with two fields each."""
    plate = {"wells": [{"path": "A/1"}, {"path": "B/2"}], "rows": [], "columns": []}
    root = zarr.open_group(str(path), mode="w", zarr_format=3)
    root.attrs["ome"] = {"version": "0.5", "plate": plate}
    arrays = []
    for well in ("A/1", "B/2"):
        fields = {"images": [{"path": "0"}, {"path": "1"}]}
        root.create_group(well).attrs["ome"] = {"version": "0.5", "well": fields}
        for field in ("0", "1"):
            arrays.append(RNG.integers(0, 99, (40, 48)).astype("u2"))
            made = Image(arrays[-1], "YX", {"X": (0.2, "µm"), "Y": (0.2, "µm")}, family="zarr")
            save_image(made, path / well / field)
    return arrays


def names(entries: list) -> list[str]:
    return [entry.relative.as_posix() for entry in entries]


def test_scenes_are_listed_by_number(scenes: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "in/one.npy", np.ones((8, 8)))
    assert names(find_images([scenes])) == ["cells.ome.tif"]
    assert names(find_images([scenes], 1)) == ["cells_scene1.ome.tif"]
    assert names(find_images([tmp_path / "in"], "all")) == [
        *(f"cells_scene{number}.ome.tif" for number in range(3)),
        "one.npy",
    ]
    assert [entry.open().height for entry in find_images([scenes], "all")] == list(SIDES)
    assert count_scenes(scenes) == 3
    with pytest.raises(InputError, match=r"one\.npy: has no image of number 1"):
        pf.denoise("shipped", tmp_path / "in", tmp_path / "out", scene=1)
    (tmp_path / "in/bad.tif").write_bytes(b"II*\0 and no more")
    done = pf.denoise("shipped", tmp_path / "in", tmp_path / "out", scene=1, skip_bad=True)
    assert [one.written.name for one in done] == ["cells_scene1.ome.tif"]
    with pytest.raises(ConfigError, match="must be a number from 0, or all"):
        find_images([scenes], "every")


def test_all_scenes_are_denoised_verified_and_left_alone_afterwards(
    scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = pf.denoise("shipped", scenes, out, scene="all", report=True)
    assert [one.written.name for one in done] == [f"cells_scene{n}.ome.tif" for n in range(3)]
    for side, one in zip(SIDES, done, strict=True):
        assert open_image(one.written).shape == (side, 64)
    found = verify(scenes, out, scene="all")
    assert len(found.files) == 3
    assert found.kept, found.lost
    assert verify(scenes, out / "cells_scene2.ome.tif", scene=2).kept
    again = pf.denoise("shipped", scenes, out, scene="all", skip_done=True)
    assert all(one.before for one in again)
    assert (out / "report.html").is_file()


def test_training_on_all_scenes(scenes: Path) -> None:
    model = pf.train(scenes, method="n2v", steps=1, scene="all", device="cpu", report=False)
    assert model.denoise(np.ones((64, 64), "u2")).shape == (64, 64)


def test_images_of_a_plate_and_of_a_collection(tmp_path: Path) -> None:
    arrays = make_plate(tmp_path / "p.zarr")
    assert ("images", "4; this is the first, choose another with `scene`") in pf.info(
        tmp_path / "p.zarr"
    )
    assert names(find_images([tmp_path / "p.zarr"], "all")) == [
        f"p_scene{n}.zarr" for n in range(4)
    ]
    for number, array in enumerate(arrays):
        image = open_image(tmp_path / "p.zarr", scene=number)
        np.testing.assert_array_equal(image.pixels, array)
        save_image(image, tmp_path / f"{number}.zarr")
        assert open_image(tmp_path / f"{number}.zarr").spacing == image.spacing
    with pytest.raises(InputError, match=r"plate of many images.*or choose with `scene`"):
        open_image(tmp_path / "p.zarr")
    plate = zarr.open_group(str(tmp_path / "p.zarr"), mode="r+")
    plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "../c.zarr"}]}}
    with pytest.raises(InputError, match="image outside of it"):
        open_image(tmp_path / "p.zarr", scene=0)
    root = zarr.open_group(str(tmp_path / "c.zarr"), mode="w", zarr_format=3)
    root.attrs["ome"] = {"bioformats2raw.layout": 3}
    for number, array in enumerate(arrays[:3]):
        save_image(Image(array, "YX", family="zarr"), tmp_path / f"c.zarr/{number}")
    assert count_scenes(tmp_path / "c.zarr") == 3
    np.testing.assert_array_equal(open_image(tmp_path / "c.zarr", scene=2).pixels, arrays[2])
