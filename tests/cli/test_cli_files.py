"""``pairfree denoise`` and ``pairfree verify`` on files of several formats, as a user calls them."""

import json
import os

import numpy as np
import pytest
import tifffile
import zarr
from scipy.ndimage import gaussian_filter

import pairfree as pf
from pairfree.files import Image, open_image, save_image


@pytest.fixture(autouse=True)
def _there(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def scene(seed, shape=(3, 120, 130)):
    rng = np.random.default_rng(seed)
    clean = gaussian_filter(rng.normal(0, 1, shape), (0, 5, 5))
    return (
        (2000 + 600 * clean / clean.std() + rng.normal(0, 100, shape))
        .clip(0, 65535)
        .astype(np.uint16)
    )


@pytest.fixture
def files(tmp_path, pairfree):
    """A folder with an OME-TIFF, an OME-Zarr, an MRC and a PNG, and a run trained on them for a moment."""
    save_image(
        Image(
            scene(0), "ZYX", {"Z": (0.5, "µm"), "Y": (0.1, "µm"), "X": (0.1, "µm")}, family="tiff"
        ),
        tmp_path / "in/a.ome.tif",
    )
    save_image(
        Image(
            scene(1), "ZYX", {"Z": (0.5, "µm"), "Y": (0.1, "µm"), "X": (0.1, "µm")}, family="zarr"
        ),
        tmp_path / "in/b.ome.zarr",
    )
    save_image(
        Image(
            scene(2).astype(np.int16),
            "ZYX",
            {"Z": (5.0, "Å"), "Y": (5.0, "Å"), "X": (5.0, "Å")},
            family="mrc",
        ),
        tmp_path / "in/c.mrc",
    )
    save_image(Image(scene(3)[0], "YX", family="png"), tmp_path / "in/deep/d.png")
    pf.train(
        [scene(9)[0]],
        method="n2v",
        steps=3,
        out=tmp_path / "run",
        settings={"width": 4, "patch_px": 32, "batch_size": 2},
        report=False,
    )
    return tmp_path / "in"


def test_a_dry_run_tells_what_it_takes_and_writes_nothing(pairfree, files, tmp_path):
    code, said, _ = pairfree("denoise", "run", "in", "--out", "out", "--dry-run")
    assert code == 0
    for words in (
        "deep/d.png",
        "4, 156,000 pixels, 156,000 of them to do",
        "tiles:   512 px, on cpu",
        "1.9 GiB (2000000000 bytes) allowed",
        "free",
        "a megapixel",
    ):
        assert words in said
    assert not (tmp_path / "out").exists()


def test_all_formats_at_once_and_what_was_kept(pairfree, files, tmp_path):
    code, said, _ = pairfree("denoise", "run", "in", "--out", "out")
    assert code == 0
    assert "4 files, 156,000 pixels -> out (" in said
    assert "pixels clipped, 0 warnings)" in said
    # after three steps the level is not yet what it was
    code, said, _ = pairfree("verify", "in", "out", "--any-scale", "--json", "kept.json")
    assert code == 0, said
    assert "4 files: nothing lost" in said
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert set(kept) == {"a.ome.tif", "b.ome.zarr", "c.mrc", "deep/d.png"}
    assert all(one["kept"] is not False for checks in kept.values() for one in checks)
    code, said, _ = pairfree("verify", "in/b.ome.zarr", "out/b.ome.zarr", "--any-scale")
    assert code == 0
    assert "1 file: nothing lost" in said


def test_a_loss_is_exit_code_1(pairfree, files, tmp_path):
    pairfree("denoise", "run", "in", "--out", "out")
    tifffile.imwrite(tmp_path / "out/a.ome.tif", open_image(tmp_path / "out/a.ome.tif").pixels * 2)
    (tmp_path / "out/c.mrc").unlink()
    root = zarr.open_group(str(tmp_path / "out/b.ome.zarr"), mode="a")
    # What is ours alone is no loss.
    root.attrs.put({key: value for key, value in root.attrs.items() if key != "pairfree"})
    code, said, err = pairfree("verify", "in", "out")
    assert code == 1
    assert err == ""
    lost = [line.split("│")[1].strip() for line in said.splitlines() if "LOST" in line]
    assert {"pixel size", "gain by frame", "file"} <= set(lost)
    assert f"4 files: {len(lost)} properties lost" in said
    assert "--any-scale only states it" in said
    code, said, _ = pairfree("verify", "in/a.ome.tif", "out/a.ome.tif", "--any-scale")
    assert code == 1
    assert [line.split("│")[4].strip() for line in said.splitlines() if "gain by" in line] == [
        "stated"
    ] * 2


def test_verify_refuses_what_is_not_there(pairfree, files):
    for given in (("in", "nowhere"), ("nowhere", "in"), ("in/c.mrc", "in/nothing.mrc")):
        code, _, err = pairfree("verify", *given)
        assert code == 2
        assert err.count("\n") == 1
        assert "no such" in err


def test_an_image_larger_than_its_share_of_memory_is_denoised_as_the_same_in_memory(
    pairfree, files, tmp_path, monkeypatch
):
    """So that tiles of a file that is never loaded are those of one that is."""
    pairfree("denoise", "run", "in", "--out", "loaded")
    monkeypatch.setattr("pairfree.denoising.plan.RESIDENT_SHARE", 1e-9)
    pairfree("denoise", "run", "in", "--out", "stays")
    for name in ("a.ome.tif", "b.ome.zarr", "c.mrc", "deep/d.png"):
        np.testing.assert_array_equal(
            open_image(tmp_path / "stays" / name).pixels,
            open_image(tmp_path / "loaded" / name).pixels,
        )
    assert not list((tmp_path / "stays").glob(".*"))


def test_nan_in_an_image_that_stays_in_its_file_names_its_place(
    pairfree, files, tmp_path, monkeypatch
):
    pixels = scene(5).astype(np.float32)
    pixels[1, 77, 33] = np.nan
    (tmp_path / "nan").mkdir()
    np.save(tmp_path / "nan/n.npy", pixels)
    monkeypatch.setattr("pairfree.denoising.plan.RESIDENT_SHARE", 1e-9)
    code, _, err = pairfree("denoise", "run", "nan", "--out", "out")
    assert code == 2
    assert "n.npy[1]: 1 of" in " ".join(err.split())
    assert "row 77, column 33" in " ".join(err.split())
    assert not (tmp_path / "out/n.npy").exists()


def test_the_companion_of_a_set_comes_along(pairfree, files, tmp_path):
    """Without it the results could not be opened as a set."""
    folder = tmp_path / "set"
    folder.mkdir()
    name = '<BinaryOnly MetadataFile="s.companion.ome" UUID="urn:uuid:1"/>'
    text = f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{name}</OME>'
    tifffile.imwrite(folder / "s-Z1.ome.tif", scene(4)[0], description=text, metadata=None)
    (folder / "s.companion.ome").write_text("<OME/>")
    code, _, complaint = pairfree("denoise", "run", folder, "--out", "out")
    assert code == 0, complaint
    assert (tmp_path / "out/s.companion.ome").read_text() == "<OME/>"


def test_skip_done_leaves_what_stands_and_does_the_rest(pairfree, files, tmp_path):
    """A folder that grew since: without the option it is refused, with it the new file alone is done."""
    assert pairfree("denoise", "run", "in", "--out", "out")[0] == 0
    before = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    save_image(Image(scene(4)[0], "YX", family="png"), tmp_path / "in/new.png")
    code, _, err = pairfree("denoise", "run", "in", "--out", "out")
    assert code == 2
    assert "pass --overwrite or --skip-done" in err
    code, said, _ = pairfree("denoise", "run", "in", "--out", "out", "--skip-done")
    assert code == 0
    assert "5 files, 171,600 pixels -> out (" in said
    assert "4 done before" in said
    assert (tmp_path / "out/new.png").is_file()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    code, _, err = pairfree("denoise", "run", "in", "--out", "out", "--skip-done", "--overwrite")
    assert code == 2
    assert "exclude each other" in err


def test_results_within_the_folder_of_the_inputs_are_no_inputs(pairfree, files, tmp_path):
    """The same command goes on, verify finds what belongs together, and the folder itself is refused."""
    where = ("denoise", "run", "in", "--out", "in/done")
    assert pairfree(*where)[0] == 0
    assert "exists already" in pairfree(*where)[2] or "exist already" in pairfree(*where)[2]
    code, said, _ = pairfree(*where, "--skip-done")
    assert (code, "4 done before" in said) == (0, True)
    assert (
        pairfree("verify", "--any-scale", "in", "in/done")[1].splitlines()[-1].startswith("4 files")
    )
    assert "is an input" in pairfree("denoise", "run", "in", "--out", "in", "--overwrite")[2]


@pytest.mark.posix
def test_json_never_replaces_an_image_and_goes_into_pipes(pairfree, files, tmp_path):
    """A regular file that is no .json stands, a device stays one."""
    before = (tmp_path / "in/c.mrc").read_bytes()
    code, _, said = pairfree("verify", "in/c.mrc", "in/c.mrc", "--json", "in/c.mrc")
    assert (code, "in/c.mrc exists and is no .json file" in said) == (2, True)
    assert (tmp_path / "in/c.mrc").read_bytes() == before
    code, _, said = pairfree("evaluate", "--denoised", "in", "--noisy", "in", "--json", "in/c.mrc")
    assert (code, "is no .json file" in said) == (2, True)
    for _ in range(2):
        assert pairfree("verify", "in/c.mrc", "in/c.mrc", "--json", "a.json")[0] == 0
    assert "c.mrc" in json.loads((tmp_path / "a.json").read_text())
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert pairfree("verify", "in/c.mrc", "in/c.mrc", "--json", "pipe")[0] == 0
    assert json.loads(os.read(reader, 2**16))
    os.close(reader)


@pytest.mark.posix
def test_what_is_called_an_image_and_is_none_is_named(pairfree, files, tmp_path):
    """A Zarr whose metadata were not copied, and a pipe."""
    (tmp_path / "in/lost.zarr/0").mkdir(parents=True)
    os.mkfifo(tmp_path / "in/pipe.png")
    code, said, warned = pairfree("denoise", "run", "in", "--out", "out", "--skip-bad")
    assert code == 1
    assert "lost.zarr" in said + warned
    assert "pipe.png" in said + warned


def test_an_empty_name_is_refused(pairfree, files):
    code, _, said = pairfree("denoise", "run", "", "--out", "out")
    assert (code, "empty name" in said) == (2, True)
