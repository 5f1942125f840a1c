"""R28: an input that is replaced, written to, cut or removed while it is read gives no result and no mix."""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import children
import pairfree as pf
from children import Numbers, finish
from pairfree.api import plan_denoising
from pairfree.data.sets import read_set
from pairfree.denoising.files import denoise_files
from pairfree.engine.model import Model
from pairfree.errors import InputError, OutputError
from pairfree.files import open_image
from pairfree.files.atomic import announced, atomic_folder
from pairfree.files.image import Image
from pairfree.files.listing import Entry, find_images
from pairfree.files.unchanged import ChangedError, Watch, fingerprint

SIDE_PX, TILE_PX = 150, 64
SETTINGS = {"net": "dncnn", "even": False, "width": 4, "patch_px": 16, "batch_size": 2}


def noisy(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**16, (SIDE_PX, SIDE_PX)).astype(np.uint16)


@pytest.fixture(scope="module")
def model() -> Model:
    made = pf.train([noisy(9)[:64, :64]], method="n2v", steps=2, settings=SETTINGS, report=False)
    made.predictor.core_px = TILE_PX
    return made


@pytest.fixture(autouse=True)
def by_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images stay in their files too, and their results are journalled."""
    monkeypatch.setattr("pairfree.denoising.plan.RESIDENT_SHARE", 1e-6)


def write(path: Path, seed: int) -> Path:
    """An image that differs from that of another seed in every tile, and not in its bytes' number."""
    if path.suffix == ".zarr":
        array = zarr.create_array(
            str(path),
            shape=(SIDE_PX, SIDE_PX),
            chunks=(50, 50),
            dtype="uint16",
            compressors=None,
        )
        array[...] = noisy(seed)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, noisy(seed), tile=(64, 64))
    else:
        np.save(path, noisy(seed))
    return path


# -- what may happen to an input -----------------------------------------------------------------------------


def files_of(path: Path) -> list[Path]:
    return sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def replace(path: Path) -> None:
    """By another one of as many bytes, under the old name."""
    other = write(path.with_name(f"other{path.suffix}"), 2)
    remove(path)
    other.rename(path)


def write_over(path: Path) -> None:
    """Byte by byte, and each file's time is set back."""
    other = write(path.with_name(f"other{path.suffix}"), 2)
    for old, new in zip(files_of(path), files_of(other), strict=True):
        times = old.stat()
        old.write_bytes(new.read_bytes())
        os.utime(old, ns=(times.st_atime_ns, times.st_mtime_ns))
    remove(other)


def shrink(path: Path) -> None:
    last = files_of(path)[0]
    os.truncate(last, last.stat().st_size // 2)


def grow(path: Path) -> None:
    with files_of(path)[0].open("ab") as file:
        file.write(b"more")


def remove_part(path: Path) -> None:
    """One chunk of a folder, which then reads as zeros."""
    files_of(path)[0].unlink()


CHANGES = [replace, write_over, shrink, grow, remove, remove_part]
EVENTS = [
    (Image, "region"),
    (Model, "check"),
    (Model, "warn_of_intensities"),
    (Watch, "check"),
]


def change_at(
    monkeypatch: pytest.MonkeyPatch, moment: int, change: Callable[[], None]
) -> list[int]:
    """Do ``change`` at the so-many-th of some events of a call; the list counts them."""
    count = [0]

    def counted(true: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **words: Any) -> Any:
            found = true(*given, **words)
            count[0] += 1
            if count[0] == moment:
                change()
            return found

        return call

    for owner, name in EVENTS:
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return count


def left_in(folder: Path) -> list[str]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [name for name in names if name != ".unfinished.jsonl"]


# -- the promise ---------------------------------------------------------------------------------------------


def expectations(
    model: Model | Path, folder: Path, suffix: str, **how: Any
) -> dict[int, np.ndarray]:
    """The results of two images, by their seed."""
    expected = {}
    for seed in (1, 2):
        (folder / f"{seed}").mkdir()
        path = write(folder / f"{seed}/a{suffix}", seed)
        (done,) = pf.denoise(model, path, folder / f"whole{seed}", **how)
        expected[seed] = open_image(done.written).pixels
    return expected


def check_refusal(error: InputError, path: Path, out: Path) -> None:
    assert "\n" not in str(error)
    assert str(path) in str(error)
    assert left_in(out) == []


@pytest.mark.parametrize(("suffix", "moments"), [(".tif", 20), (".zarr", 20), (".npy", 10)])
def test_a_change_at_any_moment_gives_no_mix(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, moments: int
) -> None:
    """Fifty moments: the result of one image, or none; the next call makes that of the new one."""
    expected = expectations(model, tmp_path, suffix)
    with monkeypatch.context() as patch:
        count = change_at(patch, 0, lambda: None)
        pf.denoise(model, tmp_path / "1", tmp_path / "counted")
    rng, refused = random.Random(suffix), 0
    for number in range(moments):
        folder, out = tmp_path / f"in{number}", tmp_path / f"out{number}"
        folder.mkdir()
        path, change = write(folder / f"a{suffix}", 1), rng.choice(CHANGES)
        with monkeypatch.context() as patch:
            change_at(patch, rng.randint(1, count[0]), partial(change, path))
            try:
                pf.denoise(model, folder, out)
            except InputError as error:
                refused += 1
                check_refusal(error, path, out)
        if (out / path.name).exists():
            found = open_image(out / path.name).pixels
            assert any(np.array_equal(found, one) for one in expected.values())
        elif change in (replace, write_over):
            pf.denoise(model, folder, out)
            np.testing.assert_array_equal(open_image(out / path.name).pixels, expected[2])
    assert refused > moments // 2


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
@pytest.mark.parametrize("change", [replace, write_over])
def test_what_a_stopped_call_left_of_another_image_is_not_gone_on_with(
    model: Model, tmp_path: Path, suffix: str, change: Callable[[Path], None]
) -> None:
    expected = expectations(model, tmp_path, suffix)
    path, out = tmp_path / f"1/a{suffix}", tmp_path / "out"

    def stop(pixels: int) -> None:
        if pixels < TILE_PX**2:  # the last tile of the first row
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pf.denoise(model, path, out, on_pixels=stop)
    assert left_in(out)
    change(path)
    pf.denoise(model, path, out)
    np.testing.assert_array_equal(open_image(out / path.name).pixels, expected[2])


def test_a_changed_file_is_left_out_where_that_is_asked_for(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    paths = [write(tmp_path / f"in/{name}.tif", 1) for name in "abc"]
    planned = plan_denoising(model, tmp_path / "in", tmp_path / "out", skip_bad=True)
    change_at(monkeypatch, 3, partial(replace, paths[0]))
    results = denoise_files(planned, None, None)
    assert [one.source.name for one in results] == ["b.tif", "c.tif"]
    (line,) = planned.bad
    assert "a.tif: changed while it was read (it was replaced or written to)" in line
    assert sorted(left_in(tmp_path / "out")) == ["b.tif", "c.tif"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove, "it is gone"),
        (grow, r"\d+ bytes became \d+"),
        (shrink, r"\d+ bytes became \d+"),
        (write_over, "it was replaced or written to"),
    ],
)
def test_the_line_says_what_happened(
    model: Model,
    tmp_path: Path,
    pairfree: Any,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    words: str,
) -> None:
    """And the exit code is 2."""
    path = write(tmp_path / "a.tif", 1)
    monkeypatch.setattr("pairfree.api.load", lambda *given, **more: model)
    change_at(monkeypatch, 5, partial(change, path))
    code, _, told = pairfree("denoise", "run", path, "--out", tmp_path / "out")
    assert code == 2
    assert re.search(rf"a\.tif: changed while it was read \({words}\)", " ".join(told.split()))
    assert left_in(tmp_path / "out") == []


def test_an_older_result_stays_where_the_new_one_is_refused(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a folder, which is moved away before the new one gets its name."""
    path = write(tmp_path / "a.zarr", 1)
    pf.denoise(model, path, tmp_path / "out")
    before = open_image(tmp_path / "out/a.zarr").pixels
    change_at(monkeypatch, 5, partial(replace, path))
    with pytest.raises(ChangedError):
        pf.denoise(model, path, tmp_path / "out", overwrite=True)
    np.testing.assert_array_equal(open_image(tmp_path / "out/a.zarr").pixels, before)


def test_a_folder_that_is_refused_its_name_leaves_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/old").touch()

    def refuse(temporary: Path, final: Path) -> None:
        raise OutputError("no")

    def write_anew() -> None:
        with announced(refuse), atomic_folder(tmp_path / "a", overwrite=True) as temporary:
            temporary.mkdir()

    with pytest.raises(OutputError):
        write_anew()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "old"]


# -- real processes ------------------------------------------------------------------------------------------


def denoise_slowly(argv: list[Any], log: str) -> None:
    """In the child: the command, with slow tiles of files that are read as they are needed."""
    from pairfree.denoising import plan
    from pairfree.engine.predictor import Predictor

    children.begin(log)
    plan.RESIDENT_SHARE = 1e-6
    true = Predictor._apply_to_tile

    def slow(self: Predictor, *given: Any) -> np.ndarray:
        time.sleep(0.05)
        return true(self, *given)

    Predictor._apply_to_tile = slow  # type: ignore[method-assign]
    children.run_command(argv, log)


@pytest.mark.posix
@pytest.mark.nightly
@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_a_change_under_a_real_process_gives_no_mix(
    tmp_path: Path, suffix: str, record_property: Callable[[str, object], None]
) -> None:
    """Fifty of them, changed at random moments: exit 2 and one line, or the result of one image.

    That is what was there before, or what is there now: a change may come before the process looks, and
    a Zarr array without one of its chunks is an image.
    """
    run, log, out = tmp_path / "run", tmp_path / "log", tmp_path / "out"
    pf.train([noisy(9)], method="n2v", steps=2, settings=SETTINGS, out=run, report=False)
    before = expectations(run, tmp_path, suffix, max_bytes=4e6)[1]
    rng, numbers, refused = random.Random(suffix), Numbers(), 0
    for number in range(50):
        folder, out = tmp_path / f"in{number}", tmp_path / f"out{number}"
        folder.mkdir()
        path, change = write(folder / f"a{suffix}", 1), rng.choice(CHANGES)
        with numbers.trial():
            command = ["denoise", run, path, "--out", out, "--max-memory", "4MB"]
            process = children.start(denoise_slowly, command, str(log))
            time.sleep(rng.uniform(0, 1.5))
            change(path)
            code, words = finish(process, log)
            if code == 2:
                refused += 1
                assert words.count("\n") == 1
                assert left_in(out) == []
            else:
                assert code == 0, words
                found = open_image(out / path.name).pixels
                (now,) = pf.denoise(run, path, tmp_path / f"now{number}", max_bytes=4e6)
                of_now = open_image(now.written).pixels
                assert np.array_equal(found, before) or np.array_equal(found, of_now)
        numbers.note_memory(log)
    numbers.record(record_property, refused=refused)


# -- training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tif", ".zarr", ".npy"])
@pytest.mark.parametrize("change", CHANGES)
def test_training_is_refused_images_that_change_while_they_are_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    change: Callable[[Path], None],
) -> None:
    """After the look at all headers, and after a crop was read."""
    whole = 2 * 4 * SIDE_PX**2
    for moment in (0, 1):
        folder = tmp_path / f"{moment}"
        folder.mkdir()
        paths = [write(folder / f"{name}{suffix}", 1) for name in "ab"]
        with monkeypatch.context() as patch:
            if moment:
                change_at(patch, moment, partial(change, paths[0]))
            else:
                at_planning(patch, partial(change, paths[0]))
            with pytest.raises(InputError, match=rf"a\{suffix}: ") as told:
                read_set(find_images([folder]), most_bytes=whole // 2)
        assert "\n" not in str(told.value)


def at_planning(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """As soon as all headers were looked at: the second file's is the last."""
    true, count = Entry.open, [0]

    def counted(self: Entry, *given: Any) -> Image:
        count[0] += 1
        image = true(self, *given)
        if count[0] == 2:
            change()
        return image

    monkeypatch.setattr(Entry, "open", counted)


# -- what is compared ----------------------------------------------------------------------------------------


def test_of_many_files_names_and_folders_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a bound: a file that is added, removed or replaced shows, one that is written over does not."""
    monkeypatch.setattr("pairfree.files.unchanged.MOST_FILES", 3)
    path = write(tmp_path / "a.zarr", 1)
    first = fingerprint(path)
    (path / ".DS_Store").touch()
    os.utime(path, (0, 0))
    last = files_of(path / "c")[-1]
    with last.open("ab") as file:
        file.write(b"more")
    assert fingerprint(path) == first
    other = last.with_name("other")
    shutil.copy2(last, other)
    os.utime(last.parent, (0, 0))
    other.replace(last)
    assert fingerprint(path) != first
