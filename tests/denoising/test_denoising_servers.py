"""Results that go to a server: those of a disk, sent whole, gone on with, refused before any work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

import pairfree as pf
from pairfree.cli.main import app
from pairfree.denoising import outbox
from pairfree.denoising.ledger import Ledger
from pairfree.engine.model import Model
from pairfree.errors import BusyError, InputError, OutputError
from pairfree.files import open_image, save_image, servers, sinks
from pairfree.files.atomic import _host
from pairfree.files.fidelity import verify
from pairfree.files.image import Image
from pairfree.files.servers import UNSENT, Upload

pytestmark = pytest.mark.usefixtures("server")
OUT = "memory://bucket/out"
NAMES = ("a.zarr", "more/b.zarr")


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """A folder of two images, the first with labels."""
    folder = tmp_path / "noisy"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        counts = np.random.default_rng(number).poisson(60.0, (2, 40, 48)).astype(np.uint16)
        spacing = {"Y": (0.1, "µm"), "X": (0.1, "µm")}
        save_image(Image(counts, "CYX", spacing, ("x", "y"), family="zarr"), folder / name)
    labels = zarr.open_group(str(folder / "a.zarr"), mode="r+").create_group("labels")
    labels.create_array("cells", data=np.arange(12, dtype="u4").reshape(3, 4))
    return folder


@pytest.fixture
def model() -> Model:
    return pf.load("shipped", device="cpu")


def left_waiting(tmp_path: Path) -> list[str]:
    folder = tmp_path / "caches/pairfree/unsent"
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def cut_line(patch: pytest.MonkeyPatch, name: str) -> None:
    """Nothing of an image gets to the server but its mark."""
    real = servers.ServerFolder.put

    def put(folder: Any, source: Path, names: list[str]) -> None:
        if folder.path.name == name:
            raise ConnectionResetError("the line is cut")
        real(folder, source, names)

    patch.setattr(servers.ServerFolder, "put", put)


def leave_unsent(monkeypatch: pytest.MonkeyPatch, model: Model, path: Path) -> None:
    """A result is made, and waits here: the line is cut."""
    with monkeypatch.context() as patch:
        cut_line(patch, path.name)
        with pytest.raises(OutputError):
            pf.denoise(model, path, OUT)


def forbid_denoising(patch: pytest.MonkeyPatch) -> None:
    def denoise_into(*given: Any) -> None:
        raise AssertionError("it was denoised before")

    patch.setattr(Model, "denoise_into", denoise_into)


def test_results_on_a_server_are_those_of_a_disk(
    tmp_path: Path, noisy: Path, server: Any, model: Model
) -> None:
    told = CliRunner().invoke(app, ["denoise", "shipped", str(noisy), "--out", OUT])
    assert told.exit_code == 0, told.exception
    assert f"2 files, 7680 pixels -> {OUT} (".replace("7680", "7,680") in told.output
    pf.denoise(model, noisy, tmp_path / "here")
    for name in NAMES:
        folder = tmp_path / "here" / name
        for file in folder.rglob("*"):
            if file.is_file():
                there = f"/bucket/out/{name}/{file.relative_to(folder).as_posix()}"
                assert server.cat_file(there) == file.read_bytes()
    assert len(server.find("/")) == sum(path.is_file() for path in (tmp_path / "here").rglob("*"))
    assert left_waiting(tmp_path) == []
    found = verify(noisy, OUT)
    assert found.kept
    assert sorted(found.files) == sorted(NAMES)
    assert verify(noisy / "a.zarr", f"{OUT}/a.zarr").kept
    assert not verify(noisy / "a.zarr", f"{OUT}/more/b.zarr").kept
    assert CliRunner().invoke(app, ["verify", str(noisy), OUT]).exit_code == 0
    server.rm("/bucket/out/more", recursive=True)
    assert [name for name, _ in verify(noisy, OUT).lost] == ["more/b.zarr"]


def test_results_that_are_there_stay_unless_told_otherwise(
    noisy: Path, server: Any, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pf.denoise(model, noisy / "a.zarr", OUT)
    before = server.cat_file("/bucket/out/a.zarr/0/c/0/0/0")
    with pytest.raises(OutputError, match=f"{OUT}/a.zarr exists already; pass `overw"):
        pf.denoise(model, noisy, OUT)
    results = pf.denoise(model, noisy, OUT, skip_done=True)
    assert [one.before for one in results] == [True, False]
    assert str(results[0].written) == str(Path(f"{OUT}/a.zarr"))
    server.pipe_file("/bucket/out/a.zarr/0/c/0/0/0", b"other")
    assert not pf.denoise(model, noisy, OUT, overwrite=True)[0].before
    assert server.cat_file("/bucket/out/a.zarr/0/c/0/0/0") == before
    with pytest.raises(OutputError, match=r"would be replaced|inside the output folder"):
        pf.denoise(model, f"{OUT}/a.zarr", OUT, overwrite=True)


def test_what_could_not_be_sent_is_sent_by_the_same_command(
    tmp_path: Path, noisy: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        cut_line(patch, "b.zarr")
        with pytest.raises(OutputError) as told:
            pf.denoise("shipped", noisy, OUT)
    assert "line is cut; the result waits in" in str(told.value)
    assert "\n" not in str(told.value)
    assert server.find("/bucket/out/more") == [f"/bucket/out/more/b.zarr/{UNSENT}"]
    with pytest.raises(InputError, match="nothing of it is there"):
        verify(f"{OUT}/more/b.zarr", noisy)
    planned = pf.api.plan_denoising("shipped", noisy, OUT)
    assert (planned.left.pixels, len(planned.before), len(planned.unsent)) == (0, 1, 1)
    foretold = CliRunner().invoke(
        app, ["denoise", "shipped", str(noisy), "--out", OUT, "--dry-run"]
    )
    assert f"{OUT}/a.zarr (done before)" in foretold.output
    assert f"{OUT}/more/b.zarr (made before, to be sent)" in foretold.output
    with monkeypatch.context() as patch:
        forbid_denoising(patch)
        results = pf.denoise("shipped", noisy, OUT)
    assert [one.before for one in results] == [True, False]
    assert verify(noisy, OUT).kept
    assert left_waiting(tmp_path) == []


def test_images_that_are_half_there_are_not_skipped(
    tmp_path: Path, noisy: Path, server: Any, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Upload, "finish", lambda upload: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            pf.denoise(model, noisy / "a.zarr", OUT)
    assert server.exists(f"/bucket/out/a.zarr/{UNSENT}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another computer"))
    (result,) = pf.denoise(model, noisy / "a.zarr", OUT, skip_done=True)
    assert not result.before
    assert verify(noisy / "a.zarr", OUT).kept
    assert not server.exists(f"/bucket/out/a.zarr/{UNSENT}")


@pytest.mark.parametrize("stopped", ["add", "finish", "forget"])
def test_a_process_that_is_killed_at_the_end_is_gone_on_with(
    stopped: str, tmp_path: Path, noisy: Path, server: Any, model: Model, monkeypatch: Any
) -> None:
    owner = Ledger if stopped == "add" else Upload
    real = getattr(owner, stopped)

    def stop(*given: Any, **named: Any) -> None:
        if server.exists("/bucket/out/a.zarr/zarr.json"):
            raise KeyboardInterrupt
        real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, stopped, stop)
        with pytest.raises(KeyboardInterrupt):
            pf.denoise(model, noisy / "a.zarr", OUT)
    is_marked = stopped != "forget"
    assert server.exists(f"/bucket/out/a.zarr/{UNSENT}") == is_marked
    assert left_waiting(tmp_path)
    with monkeypatch.context() as patch:
        forbid_denoising(patch)
        (result,) = pf.denoise(model, noisy / "a.zarr", OUT)
    assert result.before != is_marked
    assert not server.exists(f"/bucket/out/a.zarr/{UNSENT}")
    assert verify(noisy / "a.zarr", OUT).kept
    assert left_waiting(tmp_path) == []


def test_what_killed_processes_left_goes_where_results_wait(
    tmp_path: Path, noisy: Path, model: Model
) -> None:
    """An image begun under a temporary name takes as much of the disk as the whole."""
    waiting = outbox.open_outbox(Path(OUT)).folder
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for folder in (waiting, waiting / "more"):
        left = folder / f".b_zarr.partial-{process.pid}-{_host()}-0123abcd"
        (left / "0").mkdir(parents=True)
        (left / "0/zarr.json").touch()
    pf.denoise(model, noisy, OUT)
    assert left_waiting(tmp_path) == []
    assert not waiting.exists()


def test_what_waits_of_another_input_is_made_anew(
    noisy: Path, server: Any, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_unsent(monkeypatch, model, noisy / "a.zarr")
    other = np.full((2, 40, 48), 7, np.uint16)
    save_image(open_image(noisy / "a.zarr").with_pixels(other), noisy / "a.zarr", overwrite=True)
    pf.denoise(model, noisy / "a.zarr", OUT)
    assert abs(float(open_image(f"{OUT}/a.zarr").pixels.mean()) - 7.0) < 1.0


def test_what_was_sent_of_an_input_that_changed_meanwhile_is_none_of_the_new_one(
    noisy: Path, server: Any, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_unsent(monkeypatch, model, noisy / "a.zarr")
    other = np.full((2, 40, 48), 7, np.uint16)

    def change(*given: Any) -> Upload:
        changed = open_image(noisy / "a.zarr").with_pixels(other)
        save_image(changed, noisy / "a.zarr", overwrite=True)
        return Upload(*given)

    def stop(ledger: Ledger) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pairfree.denoising.files.Upload", change)
        patch.setattr(Ledger, "close", stop)
        with pytest.raises(KeyboardInterrupt):
            pf.denoise(model, noisy / "a.zarr", OUT)
    (result,) = pf.denoise(model, noisy / "a.zarr", OUT)
    assert not result.before
    assert abs(float(open_image(f"{OUT}/a.zarr").pixels.mean()) - 7.0) < 1.0


def test_large_results_go_on_within_an_image(
    tmp_path: Path, noisy: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "JOURNALED_PX", 10)
    real = sinks.JournalSink._store

    def stop(sink: Any, block: Any, pixels: Any) -> None:
        if block.index == (1,):
            raise KeyboardInterrupt
        real(sink, block, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(sinks.JournalSink, "_store", stop)
        with pytest.raises(KeyboardInterrupt):
            pf.denoise(model, noisy / "a.zarr", OUT)
    assert "journal.jsonl" in left_waiting(tmp_path)
    stored: list[Any] = []

    def count(sink: Any, block: Any, pixels: Any) -> None:
        stored.append(block.index)
        real(sink, block, pixels)

    monkeypatch.setattr(sinks.JournalSink, "_store", count)
    pf.denoise(model, noisy / "a.zarr", OUT)
    assert stored == [(1,)]
    assert verify(noisy / "a.zarr", OUT).kept
    assert left_waiting(tmp_path) == []


def test_one_process_at_a_time_makes_a_result(noisy: Path, model: Model) -> None:
    box = outbox.open_outbox(Path(OUT))
    with (
        box.held(Path(f"{OUT}/a.zarr")),
        pytest.raises(BusyError, match=f"{OUT}/a.zarr: in use by process"),
    ):
        pf.denoise(model, noisy / "a.zarr", OUT)


def test_refusals_come_before_the_model_is_loaded(
    tmp_path: Path, noisy: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **named: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(pf.api, "load", refuse)
    for out, options, words in (
        ("https://host/out", {}, r"https://host/out: .* can only be read"),
        ("nowhere://bucket/out", {}, "Protocol not known: nowhere"),
        (OUT, {"report": True}, r"report.html: reports are written to disks; leave out `report`"),
    ):
        with pytest.raises(OutputError, match=words) as told:
            pf.denoise("run", noisy, out, **options)
        assert "\n" not in str(told.value)
    assert server.find("/") == []
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"is a file; .* XDG_CACHE_HOME says where"):
        pf.denoise("run", noisy, OUT)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    with pytest.raises(OutputError, match=r"no home folder.* in XDG_CACHE_HOME"):
        pf.denoise("run", noisy, OUT)


def test_room_on_the_disk_is_that_of_the_largest(
    noisy: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_image(open_image(noisy / "a.zarr"), noisy / "c.zarr")
    planned = pf.api.plan_denoising(model, noisy, OUT)
    one = 2 * 40 * 48 * 2
    assert planned.left.disk.needed == one
    assert pf.api.plan_denoising(model, noisy, noisy.parent / "here").left.disk.needed == 3 * one
    monkeypatch.setattr("pairfree.files.atomic.free_bytes", lambda folder: one - 1)
    with pytest.raises(OutputError, match=r"not enough space in .*unsent.*XDG_CACHE_HOME says"):
        pf.denoise(model, noisy, OUT)


def test_what_cannot_lie_there_is_named_before_any_work(
    tmp_path: Path, noisy: Path, server: Any, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(noisy / "c.npy", np.ones((40, 48), np.float32))
    server.pipe_file("/bucket/out/more/b.zarr/thesis.tex", b"words")
    with monkeypatch.context() as patch:
        forbid_denoising(patch)
        with pytest.raises(OutputError, match=r"b.zarr exists already"):
            pf.denoise(model, noisy, OUT)
        with pytest.raises(InputError, match=r"c\.npy: .*only OME-Zarr.*b\.zarr: something"):
            pf.denoise(model, noisy, OUT, overwrite=True)
    results = pf.denoise(model, noisy, OUT, overwrite=True, skip_bad=True)
    assert [one.source.name for one in results] == ["a.zarr"]
    assert server.cat_file("/bucket/out/more/b.zarr/thesis.tex") == b"words"


def test_commands_without_servers_say_so(tmp_path: Path, noisy: Path, model: Model) -> None:
    with pytest.raises(
        OutputError, match=r"memory://bucket/out: .*only OME-Zarr.* place on a disk"
    ):
        pf.simulate(noisy, "gaussian:sigma=3", OUT)
    with pytest.raises(OutputError, match="place on a disk"):
        pf.train(noisy, method="n2v", steps=1, out=OUT)
    told = CliRunner().invoke(app, ["verify", str(noisy), str(noisy), "--json", f"{OUT}/a.json"])
    assert "place on a disk" in str(told.exception)
    assert not Path("memory:").exists()
