"""R15: prediction is stopped or killed at any moment, and the same call goes on.

The final name is absent or complete.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import children
import pairfree as pf
from children import Numbers
from pairfree.denoising.plan import memory_of_whole
from pairfree.errors import InputError, OutputError
from pairfree.files import open_image
from pairfree.files.limits import DEFAULT

SIDE_PX, TILE_BYTES = 700, 3e7


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("denoising") / "run"
    settings = {"width": 4, "patch_px": 32, "batch_size": 2}
    pf.train([noisy(64, 9)], method="n2v", steps=3, out=folder, settings=settings, report=False)
    return folder


def noisy(side_px: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**16, (side_px, side_px)).astype(np.uint16)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(3):
        tifffile.imwrite(
            tmp_path / "in" / f"{number}.tif", noisy(SIDE_PX, number), compression="zlib"
        )
    return tmp_path / "in"


@pytest.fixture
def journalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairfree.files.sinks.JOURNALED_PX", 1000)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def denoise(
    run: Path, files: Path, out: Path, stop_after: int = -1, **options: Any
) -> tuple[int, list[Any]]:
    """Number of tiles that were done here, and the results.

    Stopped as by Ctrl-C after ``stop_after`` tiles.
    """
    count = 0

    def on_pixels(pixels: int) -> None:
        nonlocal count
        count += 1
        if count == stop_after:
            raise KeyboardInterrupt

    found = pf.denoise(run, files, out, max_bytes=TILE_BYTES, on_pixels=on_pixels, **options)
    return count, found


@pytest.mark.usefixtures("journalled")
@pytest.mark.parametrize("resident", [True, False])
def test_a_stopped_call_made_again_goes_on(
    run: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resident: bool
) -> None:
    if not resident:
        monkeypatch.setattr("pairfree.denoising.plan.RESIDENT_SHARE", 1e-6)
    total, results = denoise(run, files, tmp_path / "whole")
    assert total >= 3 * 4
    expected = digests(tmp_path / "whole")
    assert list(expected) == ["0.tif", "1.tif", "2.tif"]
    for stop in (1, total // 2 + 1, total):
        out = tmp_path / f"out{stop}"
        with pytest.raises(KeyboardInterrupt):
            denoise(run, files, out, stop)
        for name, digest in digests_of_finals(out).items():
            assert expected[name] == digest
        before = {path: path.stat().st_mtime_ns for path in out.glob("*.tif")}
        _, again = denoise(run, files, out)
        assert digests(out) == expected  # and nothing else lies there
        assert {path: path.stat().st_mtime_ns for path in before} == before
        assert [result.before for result in again] == [
            out / result.source.name in before for result in again
        ]
        assert [(r.pixels, r.clipped, r.warnings) for r in again] == [
            (r.pixels, r.clipped, r.warnings) for r in results
        ]


def digests_of_finals(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tif")
    }


@pytest.mark.usefixtures("journalled")
def test_no_tile_is_done_twice(
    run: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairfree.engine.predictor import Predictor

    applied, true = [0], Predictor._apply_to_tile

    def counted(self: Predictor, *given: Any) -> np.ndarray:
        applied[0] += 1
        return true(self, *given)

    monkeypatch.setattr(Predictor, "_apply_to_tile", counted)
    denoise(run, files, tmp_path / "whole")
    total, applied[0] = applied[0], 0
    with pytest.raises(KeyboardInterrupt):
        denoise(run, files, tmp_path / "out", total // 2)
    denoise(run, files, tmp_path / "out")
    assert applied[0] == total


def test_what_another_model_or_another_file_left_is_not_taken_over(
    run: Path, files: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        stop_after_file(run, files, tmp_path / "out")
    settings = {"width": 4, "patch_px": 32, "batch_size": 2}
    pf.train(
        [noisy(64, 9)],
        method="n2v",
        steps=4,
        out=tmp_path / "other",
        settings=settings,
        report=False,
    )
    with pytest.raises(OutputError, match=r"exists? already"):
        denoise(tmp_path / "other", files, tmp_path / "out")
    tifffile.imwrite(files / "0.tif", noisy(SIDE_PX, 7))
    assert [
        result.before for result in denoise(run, files, tmp_path / "out", overwrite=True)[1]
    ] == [False] * 3
    with pytest.raises(OutputError, match=r"exists? already"):
        denoise(run, files, tmp_path / "out")


def killed_over_the_name(
    run: Path, inputs: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process leaves that ends between the first output's rename and the line about it."""

    def killed(*words: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pairfree.denoising.ledger.Ledger.add", killed)
        with pytest.raises(KeyboardInterrupt):
            pf.denoise(run, inputs, out, max_bytes=TILE_BYTES)


@pytest.mark.parametrize("count", [1, 3])
def test_a_process_killed_over_the_name_of_its_output_goes_on(
    run: Path, files: Path, tmp_path: Path, count: int, monkeypatch
) -> None:
    """The same call again needs no --overwrite where the list of what is done lags behind.

    The output stands, and the list does not name it yet.
    """
    some = sorted(files.iterdir())[:count]
    pf.denoise(run, some, tmp_path / "whole", max_bytes=TILE_BYTES)
    killed_over_the_name(run, some, tmp_path / "out", monkeypatch)
    assert (tmp_path / "out" / some[0].name).is_file()
    pf.denoise(run, some, tmp_path / "out", max_bytes=TILE_BYTES)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_file_that_the_user_put_there_since_is_not_replaced(
    run: Path, files: Path, tmp_path: Path, monkeypatch
) -> None:
    killed_over_the_name(run, files, tmp_path / "out", monkeypatch)
    name = sorted(files.iterdir())[0].name
    tifffile.imwrite(tmp_path / "other.tif", noisy(SIDE_PX, 9))
    (tmp_path / "other.tif").replace(tmp_path / "out" / name)
    with pytest.raises(OutputError, match="exist"):
        pf.denoise(run, files, tmp_path / "out", max_bytes=TILE_BYTES)


def test_a_file_that_is_read_whole_and_takes_more_than_the_bound_is_told(
    run: Path, tmp_path: Path, monkeypatch
) -> None:
    imageio = pytest.importorskip("PIL.Image")
    imageio.fromarray(noisy(SIDE_PX, 0).astype(np.uint8)).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", noisy(SIDE_PX, 0), tile=(64, 64))
    monkeypatch.setattr("pairfree.denoising.plan.WHOLE", 1e4)
    monkeypatch.setattr("pairfree.denoising.plan.RESIDENT_SHARE", 1e-6)
    whole, by_tiles = pf.denoise(
        run, [tmp_path / "a.png", tmp_path / "b.tif"], tmp_path / "out", max_bytes=TILE_BYTES
    )
    assert [line for line in whole.warnings if "read whole" in line and "`max_bytes`" in line]
    assert not [line for line in by_tiles.warnings if "read whole" in line]


def test_what_does_not_fit_into_the_free_memory_is_refused_before_it_is_read(
    run: Path, tmp_path: Path, monkeypatch
) -> None:
    Memory = namedtuple("Memory", "available")
    monkeypatch.setattr(
        "pairfree.denoising.plan.psutil.virtual_memory", lambda: Memory(4 * SIDE_PX**2 - 4)
    )
    np.save(tmp_path / "a.npy", noisy(SIDE_PX, 0).astype(np.uint8).T)  # in Fortran order
    with pytest.raises(InputError, match="read whole"):
        pf.denoise(run, tmp_path / "a.npy", tmp_path / "out", max_bytes=1e12)


def test_a_chunk_that_is_decoded_in_one_piece_counts_and_is_refused_where_it_is_too_large(
    run: Path, tmp_path: Path
) -> None:
    """A header of 1 KB that asks for 2 GB at once; nothing is read or written."""
    side = 46_000
    zarr.create_array(tmp_path / "a.zarr", shape=(side, side), chunks=(side, side), dtype="u1")
    with pytest.raises(InputError, match=r"chunks of 46000 x 46000 .* raise `max_bytes`"):
        pf.denoise(run, tmp_path / "a.zarr", tmp_path / "out", max_bytes=1e9)
    assert not (tmp_path / "out").exists()
    zarr.create_array(
        tmp_path / "b.zarr", shape=(256, 128), chunks=(32, 32), shards=(64, 64), dtype="u2"
    )
    image = open_image(tmp_path / "b.zarr", replace(DEFAULT, resident_bytes=10))
    assert memory_of_whole(image) == 3 * 64 * 64 * 2


def stop_after_file(run: Path, files: Path, out: Path) -> None:
    def on_file(done: int, total: int, result: Any) -> None:
        raise KeyboardInterrupt

    pf.denoise(run, files, out, max_bytes=TILE_BYTES, on_file=on_file)


def work(run: Path, files: Path, out: Path) -> None:
    """In the child: denoise with slow tiles."""
    import torch

    from pairfree.denoising import plan
    from pairfree.files import sinks

    torch.set_num_threads(1)
    sinks.JOURNALED_PX = 1000
    plan.RESIDENT_SHARE = 1e-6
    pf.denoise(run, files, out, max_bytes=TILE_BYTES, on_pixels=lambda count: time.sleep(0.05))


@pytest.mark.nightly
def test_killed_at_random_moments(
    run: Path, files: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    denoise(run, files, tmp_path / "whole")
    expected = digests(tmp_path / "whole")
    rng, kills, numbers = random.Random(0), 0, Numbers()
    while kills < 10:
        out = tmp_path / f"out{numbers.n}"
        with numbers.trial():
            for _ in range(3):
                process = children.start(work, run, files, out)
                process.join(rng.uniform(0.2, 2.5))
                if process.is_alive():
                    process.kill()
                    kills += 1
                process.join()
                for name, digest in (digests_of_finals(out) if out.is_dir() else {}).items():
                    assert expected[name] == digest
            unfinished = (out / ".unfinished.jsonl").exists()
            if unfinished or digests_of_finals(out).keys() != expected.keys():
                denoise(run, files, out)
            found = digests(out).items()
            assert {name: one for name, one in found if not name.startswith(".")} == expected
    numbers.record(record_property, kills=kills)


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A disk of 32 MB in memory, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.nightly
def test_a_disk_that_is_full_from_the_start_or_on_the_way(
    run: Path,
    tmp_path: Path,
    small_disk: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """R4: a full disk is refused before any work, or told in one line when it happens.

    What has its final name is whole, and with space again the call goes on.
    """
    (tmp_path / "in").mkdir()
    for number in range(7):
        tifffile.imwrite(tmp_path / "in" / f"{number}.tif", noisy(1550, number))
    out = small_disk / "out"
    started = time.monotonic()
    with pytest.raises(
        OutputError, match=r"not enough space in .*out: needed .* bytes\), free .* bytes\)"
    ):
        denoise(run, tmp_path / "in", out)
    refused_s = time.monotonic() - started
    assert refused_s < children.patience(5)
    assert list(small_disk.iterdir()) == []
    for number in range(3, 7):
        (tmp_path / "in" / f"{number}.tif").unlink()
    denoise(run, tmp_path / "in", tmp_path / "whole")
    expected = digests(tmp_path / "whole")

    def fill(done: int, total: int, result: Any) -> None:
        if done == 1:
            (small_disk / "other").write_bytes(b"x" * 20_000_000)

    with pytest.raises(OutputError, match=r"needed .* bytes\).*free .* bytes\)"):
        denoise(run, tmp_path / "in", out, on_file=fill)
    assert digests_of_finals(out) == {"0.tif": expected["0.tif"]}
    (small_disk / "other").unlink()
    _, results = denoise(run, tmp_path / "in", out)
    assert [result.before for result in results] == [True, False, False]
    assert digests(out) == expected
    record_property("n", 2)
    record_property("failures", 0)
    record_property("slowest refusal s", round(refused_s, 2))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "small").mkdir()
    for number in range(3):
        tifffile.imwrite(tmp_path / "small" / f"{number}.tif", noisy(64, number))
    return tmp_path / "small"


def no_room_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of a folder is full; all others are empty."""

    def free(place: Path) -> int:
        return 10 if place == folder else 2**60

    monkeypatch.setattr("pairfree.files.atomic.free_bytes", free)


def test_the_space_for_all_results_is_asked_for_before_the_first(
    run: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Already where everything is only planned, and for what all files together take."""
    out = tmp_path / "out"
    no_room_in(out, monkeypatch)
    needed = 3 * 2 * 64**2
    with pytest.raises(OutputError, match=rf"not enough space in .*out: needed .*\({needed} bytes"):
        pf.api.plan_denoising(run, small, out)
    assert not out.exists()


def test_the_space_for_all_maps_is_asked_for_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Path(__file__).parent / "old_runs"
    maps = tmp_path / "maps"
    no_room_in(maps, monkeypatch)
    with pytest.raises(OutputError, match=r"not enough space in .*maps"):
        pf.api.plan_denoising(old / "iscl", old / "noisy", tmp_path / "out", disagreement=maps)


def stop_after_one(run: Path, small: Path, out: Path) -> Path:
    """The list of what is done, of a call that was stopped after its first file."""
    with pytest.raises(KeyboardInterrupt):
        stop_after_file(run, small, out)
    return out / ".unfinished.jsonl"


@pytest.mark.parametrize("damage", ["a line", "the end"])
def test_a_damaged_line_of_what_is_done_is_told_and_the_rest_used(
    run: Path, small: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The end is what a killed process leaves, and no damage."""
    listed = stop_after_one(run, small, tmp_path / "out")
    bad = '{"output": 5}\n' if damage == "a line" else '{"output": "1.t'
    with listed.open("a") as file:
        file.write(bad)
    before = listed.read_bytes()
    caplog.clear()
    results = denoise(run, small, tmp_path / "out")[1]
    assert [result.before for result in results] == [True, False, False]
    told = [one.getMessage() for one in caplog.records if "damaged" in one.getMessage()]
    aside = listed.with_name(".unfinished.jsonl.damaged")
    if damage == "a line":
        (line,) = told
        assert "tells of 1 files is used" in line
        assert aside.read_bytes() == before
    else:
        assert told == []
        assert not aside.exists()


def test_a_list_of_what_is_done_that_cannot_be_read_replaces_nothing_unasked(
    run: Path, small: Path, tmp_path: Path
) -> None:
    """Whose files stand there is not known: they are left, or replaced, as the user says."""
    listed = stop_after_one(run, small, tmp_path / "out")
    listed.write_bytes(b"\0" * 100)
    with pytest.raises(OutputError, match="pass `overwrite` or `skip_done`"):
        denoise(run, small, tmp_path / "out")
    results = denoise(run, small, tmp_path / "out", skip_done=True)[1]
    assert [result.before for result in results] == [True, False, False]
    assert listed.with_name(".unfinished.jsonl.damaged").read_bytes() == b"\0" * 100
    assert not listed.exists()
