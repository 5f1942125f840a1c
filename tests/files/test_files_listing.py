"""Inputs found and outputs planned before any work (reliability row R5)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from pairfree.errors import InputError, OutputError
from pairfree.files import Entry, find_images, plan_outputs
from pairfree.files.named import named_inputs
from pairfree.files.partners import partners


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b.tif",
        "a.PNG",
        "sub/c.npy",
        "sub/d.jpg",
        "sub/deep/e.ome.tiff",
        ".hidden.tif",
        ".git/x.tif",
        "notes.txt",
        "sub/f.xlsx",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


def relatives(entries: list[Entry]) -> list[str]:
    return [entry.relative.as_posix() for entry in entries]


def test_folders_files_and_globs(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = ["a.PNG", "b.tif", "sub/c.npy", "sub/d.jpg", "sub/deep/e.ome.tiff"]
    assert relatives(find_images([tree])) == everything
    assert relatives(find_images([str(tree / "**/*.n*")])) == ["sub/c.npy"]
    assert relatives(find_images([str(tree / "*.tif"), tree / "sub" / "c.npy"])) == [
        "b.tif",
        "c.npy",
    ]
    assert relatives(find_images([tree, tree / "b.tif"])) == everything
    monkeypatch.chdir(tree)
    assert relatives(find_images(["*"])) == everything
    assert relatives(find_images(["."])) == everything
    assert relatives(find_images(["../in/b.tif", "./sub/../a.PNG"])) == ["b.tif", "a.PNG"]


def test_name_with_glob_characters_is_a_file_first(tmp_path: Path) -> None:
    (tmp_path / "a[1].tif").touch()
    assert relatives(find_images([tmp_path / "a[1].tif"])) == ["a[1].tif"]


@pytest.mark.posix
def test_links_that_loop(tree: Path) -> None:
    (tree / "sub" / "loop").symlink_to(tree, target_is_directory=True)
    (tree / "dangling.tif").symlink_to(tree / "nowhere.tif")
    (tree / "dangling.txt").symlink_to(tree / "nowhere.tif")
    found = relatives(find_images([tree]))
    assert len(found) == 6
    assert "dangling.tif" in found  # so that whoever opens it tells


@pytest.mark.posix
def test_a_folder_that_cannot_be_looked_into_is_told(tree: Path, monkeypatch) -> None:
    true = os.scandir

    def refusing(path):
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return true(path)

    monkeypatch.setattr(os, "scandir", refusing)
    told = r"deep: cannot be looked into \(Permission denied\)"
    with pytest.raises(InputError, match=told):
        find_images([tree])
    locked: list[InputError] = []
    assert relatives(find_images([tree], locked=locked)) == [
        "a.PNG",
        "b.tif",
        "sub/c.npy",
        "sub/d.jpg",
    ]
    assert [bool(re.search(told, str(one))) for one in locked] == [True]
    with pytest.raises(InputError, match=told):
        find_images([tree / "sub/deep"], locked=[])


@pytest.mark.posix
def test_a_link_to_a_file_is_a_file_of_its_own(tree: Path, caplog) -> None:
    """Two noisy images may link to one clean one; a folder is read once, and what is left out is told."""
    (tree / "c.tif").symlink_to("b.tif")
    (tree / "sub/b.tif").symlink_to("../b.tif")
    everything = [
        "a.PNG",
        "b.tif",
        "c.tif",
        "sub/b.tif",
        "sub/c.npy",
        "sub/d.jpg",
        "sub/deep/e.ome.tiff",
    ]
    assert relatives(find_images([tree])) == everything
    assert relatives(find_images([tree, tree / "sub/../c.tif"])) == everything
    assert not caplog.records
    (tree / "twin").symlink_to("sub", target_is_directory=True)
    assert relatives(find_images([tree])) == everything
    assert "twin: is a link to a folder that is read already; left out" in caplog.text


def test_missing_inputs_suggest_a_neighbour(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no such file or folder: .*bb\.tif; did you mean .*b\.tif\?"
    ):
        find_images([tree / "bb.tif"])
    with pytest.raises(InputError, match="exists, check the rest"):
        find_images([tree / "no" / "such" / "folder"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no image; supported are \.tif"):
        find_images([tmp_path / "empty"])
    with pytest.raises(InputError, match=r"matches no image"):
        find_images([str(tree / "*.czi")])
    with pytest.raises(InputError, match=r"\.xlsx"):
        find_images([tree / "sub" / "f.xlsx"])
    with pytest.raises(InputError, match="no input"):
        find_images([])


@pytest.mark.parametrize("relative", ["../x.tif", "/x.tif", "a/../../x.tif"])
def test_relative_paths_that_climb_out_are_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(OutputError, match="outside"):
        plan_outputs([Entry(tmp_path / "x.tif", Path(relative))], tmp_path / "out")


def test_outputs_mirror_inputs_and_jpeg_becomes_png(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    targets = [
        target.relative_to(out).as_posix() for _, target in plan_outputs(find_images([tree]), out)
    ]
    assert targets == ["a.PNG", "b.tif", "sub/c.npy", "sub/d.png", "sub/deep/e.ome.tiff"]
    assert not out.exists()


def test_collisions_name_both_inputs(tree: Path, tmp_path: Path) -> None:
    (tree / "sub" / "d.png").touch()
    with pytest.raises(OutputError, match=r"d\.jpg and .*d\.png would both"):
        plan_outputs(find_images([tree]), tmp_path / "out")
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.tif").touch()
    with pytest.raises(OutputError, match=r"in/b\.tif and .*other/b\.tif would both"):
        plan_outputs(find_images([tree / "b.tif", other]), tmp_path / "out")


@pytest.mark.posix
def test_inputs_are_never_replaced(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is an input"):
        plan_outputs(find_images([tree]), tree, overwrite=True)
    with pytest.raises(OutputError, match="inside the output folder"):
        plan_outputs(find_images([tree / "sub"]), tree, overwrite=True)
    with pytest.raises(OutputError, match="inside the output folder"):
        plan_outputs(find_images([tree]), tmp_path, overwrite=True)
    (tmp_path / "link").symlink_to(tree)
    with pytest.raises(OutputError, match="is an input"):
        plan_outputs(find_images([tree]), tmp_path / "link", overwrite=True)
    (tmp_path / "out").mkdir()
    os.link(tree / "b.tif", tmp_path / "out" / "b.tif")
    with pytest.raises(OutputError, match="is an input"):
        plan_outputs(find_images([tree]), tmp_path / "out", overwrite=True)


def test_existing_outputs_and_bad_folders(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.PNG").touch()
    (out / "b.tif").touch()
    entries = find_images([tree])
    with pytest.raises(OutputError, match=r"a\.PNG and 1 more of 5"):
        plan_outputs(entries, out)
    assert len(plan_outputs(entries, out, overwrite=True)) == 5
    with pytest.raises(OutputError, match="is a file"):
        plan_outputs(entries, tree / "b.tif")
    with pytest.raises(OutputError, match="is a file"):
        plan_outputs(entries, tree / "b.tif" / "below")
    # Root may write anywhere, so a read-only folder is pretended.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="no permission"):
        plan_outputs(entries, tmp_path / "new")


def test_partners_are_matched_by_relative_path_or_else_by_stem(tmp_path: Path) -> None:
    """Two folders of one structure may use a name twice.

    A flat and a nested folder are matched by name alone.
    """
    for folder, suffix in (("noisy", ".tif"), ("denoised", ".ome.tif")):
        for name in ("a/1", "b/1"):
            path = tmp_path / folder / f"{name}{suffix}"
            path.parent.mkdir(parents=True)
            path.touch()
    found = partners(tmp_path / "noisy", tmp_path / "denoised")
    assert {name: second.parent.name for name, (_, second) in found.items()} == {
        "a/1": "a",
        "b/1": "b",
    }
    (tmp_path / "noisy/b/1.tif").rename(tmp_path / "noisy/b/2.tif")
    for name in ("1.png", "2.png", "3.png"):
        (tmp_path / "flat").mkdir(exist_ok=True)
        (tmp_path / "flat" / name).touch()
    assert list(partners(tmp_path / "noisy", tmp_path / "flat")) == ["1", "2"]
    with pytest.raises(InputError, match="no partner"):
        partners(tmp_path / "flat", tmp_path / "noisy")


@pytest.mark.parametrize("inputs", [[np.zeros((40, 40))], ["a.npy", np.zeros((40, 40))], 3, [None]])
def test_what_is_no_name_is_refused_in_one_line(
    inputs: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.zeros((40, 40), np.uint8))
    with pytest.raises(InputError, match=r"of type (ndarray|int|NoneType); give") as told:
        find_images(named_inputs(inputs))
    assert "\n" not in str(told.value)


def test_one_name_is_a_list_of_one() -> None:
    for one in ("a", Path("a")):
        assert named_inputs(one) == [one]
    assert named_inputs(("a", "b")) == ["a", "b"]
