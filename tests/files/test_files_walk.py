"""Folders of any depth, names that are one on other systems, and folders of very many files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pairfree as pf
from pairfree.errors import OutputError
from pairfree.files import find_images, plan_outputs
from pairfree.files.atomic import _host, atomic_folder, make_folder, remove_stale
from pairfree.files.formats.zarr_beside import find_others
from pairfree.files.formats.zarr_files import FolderFiles
from pairfree.files.listing import Entry
from pairfree.files.unchanged import fingerprint
from pairfree.files.walk import RealPaths

PIXELS = np.zeros((8, 8), np.uint8)
DEEP = "d/" * 1050
"""More folders than functions may call themselves."""


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The deepest of many folders; removed by rm, since shutil calls itself once per folder."""
    monkeypatch.chdir(tmp_path)
    make_folder(Path("in", DEEP))
    np.save(Path("in", DEEP, "a.npy"), PIXELS)
    yield Path("in", DEEP)
    subprocess.run(["rm", "-rf", "in", "out"], check=True)


@pytest.mark.posix
def test_a_file_below_a_thousand_folders_is_denoised_and_a_pattern_refused(deep: Path) -> None:
    assert [entry.path for entry in find_images(["in"])] == [deep / "a.npy"]
    (done,) = pf.denoise("shipped", "in", "out")
    assert done.written == Path("out", DEEP, "a.npy")
    assert done.written.is_file()
    with pytest.raises(pf.InputError, match="nested too deeply") as refused:
        find_images(["in/**/*.npy"])
    assert "\n" not in str(refused.value)
    before = fingerprint(Path("in"))
    np.save(deep / "a.npy", PIXELS[1:])
    assert fingerprint(Path("in")) != before


@pytest.mark.posix
def test_a_link_in_a_folder_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to("..")
    before = fingerprint(tmp_path / "in")
    (tmp_path / "in/link").unlink()
    (tmp_path / "in/link").symlink_to("../..")
    assert fingerprint(tmp_path / "in") != before


class DeepFiles(FolderFiles):
    """A file in each of more folders within each other than functions may call themselves."""

    def members(self, folder: str) -> tuple[list[str], list[str]]:
        return (["d"] if len(folder) < 2 * 1050 else []), ["x"]

    def others(self, folder: str) -> list[str]:
        return []


def test_files_in_deep_folders_of_an_image_are_listed(tmp_path: Path) -> None:
    names = list(DeepFiles(tmp_path).below(""))
    assert len(names) > 1050
    assert names[:3] == ["x", "d/x", "d/d/x"]
    assert find_others(DeepFiles(tmp_path), [], [""], []) == []


@pytest.mark.nightly
@pytest.mark.posix
def test_what_is_too_deep_to_be_removed_ends_nothing(deep: Path, record_property) -> None:
    record_property("folders", len(deep.parts))
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = Path(f".x.partial-{process.pid}-{_host()}-01234567")
    Path("in").rename(left)
    assert remove_stale(Path()) in ([], [left])  # later versions of Python can
    if left.exists():
        left.rename("in")
    with atomic_folder(Path("out")) as temporary:
        temporary.mkdir()
    make_folder(Path("in", DEEP))
    Path("out").rmdir()
    Path("in").rename("out")
    with atomic_folder(Path("out"), overwrite=True) as temporary:
        temporary.mkdir()
    assert list(Path("out").iterdir()) == []
    subprocess.run("rm -rf .out.partial-*", shell=True, check=True)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.tif", "A.tif"),
        ("a.tif", "a.TIF"),
        ("sub/a.tif", "Sub/a.tif"),
        ("caf\u00e9.tif", "cafe\u0301.tif"),
        ("stra\u00dfe.tif", "STRASSE.tif"),
        ("\u212b.tif", "a\u030a.tif"),
        ("a.jpg", "A.png"),
    ],
)
def test_names_that_are_one_elsewhere_are_refused(tmp_path: Path, first: str, second: str) -> None:
    entries = [Entry(tmp_path / "in" / name, Path(name)) for name in (first, second)]
    with pytest.raises(OutputError, match="would both be written") as refused:
        plan_outputs(entries, tmp_path / "out")
    for name in (first, second):
        assert str(tmp_path / "in" / name) in str(refused.value)
    assert "macOS and Windows" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_names_that_are_one_everywhere_are_told_without_systems(tmp_path: Path) -> None:
    entries = [Entry(tmp_path / one / "a.tif", Path("a.tif")) for one in "xy"]
    with pytest.raises(OutputError) as refused:
        plan_outputs(entries, tmp_path / "out")
    assert "macOS" not in str(refused.value)


@pytest.mark.posix
def test_real_paths_are_those_of_python(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a/b")
    (tmp_path / "a/b/to_one").symlink_to("../one")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("none/of/these")
    real = RealPaths()
    names = ["a", "a/one", "link", "link/x", "link/to_one", "link/..", "link/../one", "loop"]
    names += ["nowhere", "none/x", ".", "..", "a/b/"]
    for name in [str(tmp_path / one) for one in names] + ["", ".", "x", "../x"]:
        assert real.of(name) == os.path.realpath(name), name


@pytest.mark.posix
def test_links_that_lead_to_themselves_close_no_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "loop.npy").symlink_to("loop.npy")
    assert [entry.path.name for entry in find_images([tmp_path])] == ["a.npy", "loop.npy"]
    with pytest.raises(pf.InputError, match=r"loop\.npy") as refused:
        pf.denoise("shipped", tmp_path, tmp_path / "../out")
    assert "a.npy" not in str(refused.value)


@pytest.mark.nightly
def test_a_hundred_thousand_files_are_planned_quickly(tmp_path: Path, record_property) -> None:
    """Measured 43 s before and 15 s after each name was looked at once; the bound is for slow machines."""
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "one.npy", PIXELS)
    data = (tmp_path / "one.npy").read_bytes()
    for number in range(100_000):
        (tmp_path / f"in/{number}.npy").write_bytes(data)
    from pairfree.api import plan_denoising

    started = time.process_time()
    planned = plan_denoising("shipped", tmp_path / "in", tmp_path / "out")
    seconds = time.process_time() - started
    record_property("planning s", round(seconds, 1))
    shutil.rmtree(tmp_path / "in")
    assert len(planned.files) == 100_000
    assert seconds < 40
