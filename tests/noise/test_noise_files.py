"""Noisy copies of files, from Python as from the command line."""

import json

import numpy as np
import pytest
import tifffile

from pairfree.errors import ConfigError, OutputError
from pairfree.files.opening import open_image
from pairfree.noise.files import simulate
from pairfree.noise.pixelwise import Gaussian
from pairfree.noise.simulate import add_noise, image_rng
from pairfree.scenes import draw_scene

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


def test_scenes_are_drawn_and_their_noisy_copies_written(pairfree, tmp_path):
    spec = "scenes:3:size=48,kind=organs,bits=16"
    made = simulate(spec, SPEC, tmp_path / "python", seed=5)
    names = ["scene-00000.tif", "scene-00001.tif", "scene-00002.tif"]
    assert [one.written.name for one in made] == names
    for number, name in enumerate(names):
        expected = draw_scene(number, 5, height=48, width=48, kind="organs")
        clean = tifffile.imread(tmp_path / "python" / "clean" / name)
        noisy = tifffile.imread(tmp_path / "python" / "noisy" / name)
        assert np.array_equal(clean, np.rint(expected.astype(np.float64) * 65535))
        assert noisy.dtype == np.uint16
        assert not np.array_equal(noisy, clean)
    code, text, _ = pairfree(
        "simulate", spec, "--noise", SPEC, "--out", tmp_path / "verb", "--seed", "5"
    )
    assert code == 0
    assert "3 files" in text
    for name in names:
        for part in ("clean", "noisy"):
            python = (tmp_path / "python" / part / name).read_bytes()
            assert python == (tmp_path / "verb" / part / name).read_bytes()


def test_scenes_in_colour_are_read_as_colour(tmp_path):
    simulate("scenes:1:size=32,channels=3", SPEC, tmp_path / "out")
    for part in ("clean", "noisy"):
        image = open_image(tmp_path / "out" / part / "scene-00000.tif")
        assert (image.axes, image.shape) == ("YXS", (32, 32, 3))


def test_scenes_replace_nothing_unasked(tmp_path):
    simulate("scenes:1:size=32", SPEC, tmp_path / "out")
    with pytest.raises(OutputError, match="holds files already"):
        simulate("scenes:1:size=32", SPEC, tmp_path / "out", seed=1)
    before = (tmp_path / "out" / "clean" / "scene-00000.tif").read_bytes()
    simulate("scenes:1:size=32", SPEC, tmp_path / "out", seed=1, overwrite=True)
    assert (tmp_path / "out" / "clean" / "scene-00000.tif").read_bytes() != before


@pytest.mark.parametrize(
    ("given", "noise", "words"),
    [
        (["scenes:2", "other"], SPEC, "given alone"),
        ("scenes:none", SPEC, "whole number"),
        ("scenes:2", "gausian", "did you mean 'gaussian'"),
        ("scenes:1:size=32", SPEC, "at least 0"),
    ],
)
def test_wrong_scenes_leave_nothing_behind(tmp_path, given, noise, words):
    with pytest.raises(ConfigError, match=words):
        simulate(given, noise, tmp_path / "out", seed=-1 if words == "at least 0" else 0)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_named_like_scenes_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "scenes:1"
    folder.mkdir()
    tifffile.imwrite(folder / "mine.tif", np.full((32, 32), 100, np.uint8))
    made = simulate("scenes:1", SPEC, "out")
    assert [one.written.name for one in made] == ["mine.tif"]
