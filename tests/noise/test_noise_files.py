"""Noisy copies of files, from Python as from the command line."""

import json

import numpy as np
import pytest
import tifffile

from pairfree.errors import ConfigError, OutputError
from pairfree.noise.files import simulate
from pairfree.noise.pixelwise import Gaussian
from pairfree.noise.simulate import add_noise, image_rng

SPEC = "gaussian:sigma=10..50"


@pytest.fixture
def clean(tmp_path):
    """A grey image and a stack of three planes."""
    folder = tmp_path / "clean"
    folder.mkdir()
    rows, columns = np.mgrid[:40, :48]
    scene = (120 + 60 * np.sin(rows / 7) * np.cos(columns / 5)).astype(np.uint8)
    tifffile.imwrite(folder / "one.tif", scene)
    tifffile.imwrite(folder / "stack.tif", np.stack([scene] * 3), photometric="minisblack")
    return folder


def test_the_function_and_the_verb_write_the_same_files(pairfree, clean, tmp_path):
    made = simulate(clean, SPEC, tmp_path / "python", seed=3)
    assert (
        pairfree("simulate", clean, "--noise", SPEC, "--out", tmp_path / "verb", "--seed", "3")[0]
        == 0
    )
    assert sorted(one.written.name for one in made) == ["one.tif", "stack.tif"]
    for path in (tmp_path / "python").iterdir():
        assert path.read_bytes() == (tmp_path / "verb" / path.name).read_bytes()


def test_one_file_a_list_and_a_folder_are_all_inputs(clean, tmp_path):
    for name, inputs in (
        ("file", clean / "one.tif"),
        ("text", str(clean / "one.tif")),
        ("folder", clean),
    ):
        simulate(inputs, SPEC, tmp_path / name)
    simulate([clean / "one.tif", clean / "stack.tif"], SPEC, tmp_path / "list")
    written = {
        (tmp_path / name / "one.tif").read_bytes() for name in ("file", "text", "folder", "list")
    }
    assert len(written) == 1


def test_each_plane_has_noise_of_its_own_and_the_record_repeats_it(clean, tmp_path):
    made = {
        one.written.name: one
        for one in simulate(clean, SPEC, tmp_path / "noisy", seed=1, as_float=True)
    }
    drawn = json.loads((tmp_path / "noisy/noise.json").read_text())["drawn"]
    assert list(drawn) == ["one", "stack[0]", "stack[1]", "stack[2]"]
    assert made["stack.tif"].spec == drawn["stack[2]"]
    scene = tifffile.imread(clean / "one.tif")
    noisy = tifffile.imread(tmp_path / "noisy/stack.tif")
    for plane in range(3):
        again, _ = add_noise(scene, SPEC, image_rng(1, f"stack[{plane}]"))
        np.testing.assert_array_equal(noisy[plane], again.astype(np.float32))


def test_clipped_pixels_are_counted_and_float_keeps_them(clean, tmp_path):
    model = Gaussian(200.0)
    (clipped,) = simulate(clean / "one.tif", model, tmp_path / "bytes")
    (kept,) = simulate(clean / "one.tif", model, tmp_path / "floats", as_float=True)
    noisy = tifffile.imread(kept.written)
    assert kept.clipped == 0
    assert clipped.clipped == np.count_nonzero((np.rint(noisy) < 0) | (np.rint(noisy) > 255))
    assert json.loads((tmp_path / "bytes/noise.json").read_text())["noise"] == "gaussian:sigma=200"


def test_what_exists_is_not_overwritten_unasked(clean, tmp_path):
    simulate(clean, SPEC, tmp_path / "noisy")
    with pytest.raises(OutputError):
        simulate(clean, SPEC, tmp_path / "noisy")
    simulate(clean, SPEC, tmp_path / "noisy", overwrite=True)
    with pytest.raises(ConfigError, match="seed"):
        simulate(clean, SPEC, tmp_path / "other", seed=-1)
