"""R29: every file that is read back may be damaged: it is used, set aside with a line, or refused in one.

No traceback, no waiting, no memory beyond its size.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from mutants import try_mutants

import pairfree as pf
from pairfree.bench import cache, tables
from pairfree.bench import cell as bench_cell
from pairfree.bench import harness as bench_harness
from pairfree.bench import training as bench_training
from pairfree.bench.base import Cell, Experiment, Scored, Task
from pairfree.bench.work import Work
from pairfree.denoising.ledger import FileResult, Ledger
from pairfree.engine.run import RunFolder
from pairfree.errors import PairfreeError
from pairfree.files.image import Image
from pairfree.files.journal import unfinished
from pairfree.files.listing import Entry, find_images
from pairfree.files.lock import Lock
from pairfree.files.sinks import JournalSink
from pairfree.files.unchanged import fingerprint
from pairfree.training.order import place_order
from pairfree.training.report import _curves
from pairfree.training.restoring import check_unchanged

SETTINGS = {"width": 4, "patch_px": 16, "batch_size": 1, "precision": "float32"}
IN_ORDINARY, IN_NIGHTLY = 50, 1000
Call = Callable[..., tuple[int, str, str]]
Try = Callable[["Place", Call, int, int], dict[str, float]]
"""Has so many mutants of a file read, one of every so many by commands; numbers for the record."""


def refusal(use: Callable[[], object]) -> str:
    """What was refused; "" for nothing."""
    try:
        use()
    except PairfreeError as error:
        return str(error)
    return ""


class Place:
    """A folder with noisy files, a finished run on them, and what denoising leaves when it is stopped."""

    def __init__(self, root: Path) -> None:
        self.root = root
        noisy = root / "noisy"
        noisy.mkdir()
        for number in range(2):
            pixels = np.random.default_rng(number).integers(0, 999, (24, 24)).astype(np.uint16)
            tifffile.imwrite(noisy / f"{number}.tif", pixels)
        self.noisy = noisy
        self.run = root / "whole" / "run"
        pf.train(noisy, method="n2v", steps=2, settings=SETTINGS, out=self.run, report=False)
        (self.run / "report.html").unlink(missing_ok=True)

    def copy_of_run(self) -> Path:
        run = self.root / "copy" / "run"
        run.parent.mkdir(exist_ok=True)
        self.renew_run()
        return run

    def renew_run(self) -> None:
        shutil.rmtree(self.root / "copy" / "run", ignore_errors=True)
        shutil.copytree(self.run, self.root / "copy" / "run")

    def stopped(self) -> Path:
        """An output folder of which one of two files is done."""
        out = self.root / "stopped" / "out"
        if not out.exists():

            def stop(*about: Any) -> None:
                raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                pf.denoise(self.run, self.noisy, out, on_file=stop)
        return out

    def copy_of_stopped(self) -> Path:
        out = self.root / "copied" / "out"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.stopped(), out)
        return out


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("read_back"))


def said_by(call: Call, *arguments: object) -> str:
    """What a command refused, in its own words; it ends well or with one line."""
    code, _, err = call(*arguments)
    lines = [line for line in err.splitlines() if line.startswith("pairfree: ")]
    assert code in (0, 2)
    assert len(lines) == (code == 2)
    return lines[0] if lines else ""


def use_by_commands(run: Path, name: str, call: Call) -> str:
    """Whatever reads a run folder, from the command line."""
    said = said_by(call, "info", run)
    if name == "config.toml":
        asked = ("--config", run / name, "--dry-run", "--out", run / "x")
        said += said_by(call, "train", *asked)
    resumed = said_by(call, "train", "--out", run, "--resume")
    assert name == "config.toml" or not resumed  # nothing else stands in the way
    assert name != "events.jsonl" or (run / "report.html").is_file()
    return said + resumed


def use_by_functions(run: Path) -> str:
    """What reads the small files of a run folder, without the network."""
    folder = RunFolder(run)
    _curves(folder.read_events())
    folder.read_environment()
    folder.rewind(1)
    folder.note_resumed(1, {"torch": "2"})
    assert folder.read_environment()["resumed"].endswith("at step 1: 2")
    said = refusal(folder.read_config)
    said += refusal(lambda: check_unchanged(run, {"seed": 0}, {"width": "4"}))
    return said + refusal(lambda: place_order({}, run / "config.toml"))


def of_run(name: str) -> Try:
    """Mutants of a small file of a run folder."""

    def try_them(place: Place, call: Call, count: int, every: int) -> dict[str, float]:
        run = place.copy_of_run()
        turn = 0

        def use() -> str:
            nonlocal turn
            turn += 1
            if turn % every == 0:
                return use_by_commands(run, name, call)
            return use_by_functions(run)

        return try_mutants(run / name, use, place.renew_run, count, 10.0)

    return try_them


def use_ledger(out: Path, entries: list[Entry], identity: dict[str, Any]) -> str:
    """What denoising does with it: it is read, written on, read again, and closed."""
    ledger = Ledger(out, out)
    assert out / "1.tif" not in ledger.paths
    ledger.belongs_to(identity)
    known = ledger.result(entries[0], out / "0.tif", None)
    done = FileResult(entries[0].path, out / "0.tif", 576, 0, ())
    ledger.add(known or done, None, fingerprint(entries[0].path))
    again = Ledger(out, out)
    assert again.belongs_to(identity)
    assert again.result(entries[0], out / "0.tif", None) is not None
    ledger.close()
    assert not (out / ".unfinished.jsonl").exists()
    return ""


def of_ledger(place: Place, call: Call, count: int, every: int) -> dict[str, float]:
    out = place.copy_of_stopped()

    identity = pf.load(place.run, device="cpu").identity
    entries = find_images([place.noisy])
    turn = 0

    def use() -> str:
        nonlocal turn
        turn += 1
        ways = ((), ("--skip-done",))
        if turn % every:
            return use_ledger(out, entries, identity)
        said = said_by(call, "denoise", place.run, place.noisy, "--out", out, *ways[0])
        if said:  # what is done is not known any more: both ways on are open
            assert "skip-done" in said
            assert not said_by(call, "denoise", place.run, place.noisy, "--out", out, *ways[1])
        assert sorted(one.name for one in out.glob("*.tif")) == ["0.tif", "1.tif"]
        return said

    def put_back() -> None:
        place.copy_of_stopped()

    return try_mutants(out / ".unfinished.jsonl", use, put_back, count, 10.0)


LIKE = Image(np.arange(2 * 12 * 10, dtype=np.uint16).reshape(2, 12, 10), "ZYX", family="tiff")
HALVES = [slice(0, 7), slice(7, 12)]


def of_journal(name: str) -> Try:
    """Mutants of what lies in the folder of an unfinished result."""

    def try_them(place: Place, call: Call, count: int, every: int) -> dict[str, float]:
        path = place.root / f"journal-{name}" / "o.tif"
        path.parent.mkdir(exist_ok=True)
        columns = slice(0, 10)

        def begin() -> None:
            shutil.rmtree(path.parent)
            path.parent.mkdir()
            with JournalSink(LIKE, path, False, {"model": "a"}) as sink:
                for index in ((0,), (1,)):
                    rows = HALVES[0]
                    sink.write(index, LIKE.data[index][rows], rows, columns)

        def use() -> str:
            with JournalSink(LIKE, path, False, {"model": "a"}) as sink:
                for index in ((0,), (1,)):
                    for rows in HALVES:
                        if not sink.finished(index, rows, columns):
                            sink.write(index, LIKE.data[index][rows], rows, columns)
                sink.commit()
            found = tifffile.imread(path)
            assert found.shape == LIKE.shape
            return ""

        begin()
        return try_mutants(unfinished(path) / name, use, begin, count, 10.0)

    return try_them


def of_lock(place: Place, call: Call, count: int, every: int) -> dict[str, float]:
    path = place.root / "locked" / "run" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("process 1 on a-host\n", encoding="utf-8")

    def use() -> str:
        lock = Lock(path, path.parent)
        said = refusal(lambda: Lock(path, path.parent))
        lock.release()
        assert "in use by process" in said
        return said

    return try_mutants(path, use, lambda: None, count, 10.0)


CELL = Cell("hum", "n2v", "cpu", settings=SETTINGS)


def work_of(folder: Path) -> Work:
    image = Scored("im", np.ones((1, 8, 8), np.float32), np.ones((1, 8, 8), np.float32), "a")
    experiment = Experiment("tiny", "Tiny", "PSNR", lambda preset: [CELL], lambda data, cell: None)
    return Work(experiment, CELL, Task([image.noisy], [image]), folder, "cpu")


SCORE = {"psnr_db": 30.5, "ssim": 0.9, "n": 1}
RESULT: dict[str, Any] = {
    "cell": CELL.name,
    "revision": cache.revision_of(CELL),
    "scores": {"all": SCORE},
    "evidence": {"noise left": 0.5},
    "training": {
        "seconds": 12.5,
        "steps": [["train", 40]],
        "config": cache.settings_of(CELL),
        "scores_after": {},
    },
    "environment": {"date": "2026-11-30 10:00 UTC", "processor": "a chip", "threads": 1},
    "key": "0" * 64,
}


def of_bench_result(place: Place, call: Call, count: int, every: int) -> dict[str, float]:
    path = place.root / "results" / "tiny" / f"{CELL.slug}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(RESULT), encoding="utf-8")
    work = work_of(place.root / "cell")

    def use() -> str:
        results = tables.read_results(path.parent)
        tables.markdown(work.experiment, "cpu", [CELL], results)
        stored = bench_harness._stored(path)
        if stored is not None:
            cache.holds(stored, work.task, CELL)
            bench_harness._tell_before(stored["environment"], "abc")
        return ""

    return try_mutants(path, use, lambda: None, count, 10.0)


def of_bench_folder(name: str) -> Try:
    """Mutants of what a cell keeps for a process that goes on."""

    def try_them(place: Place, call: Call, count: int, every: int) -> dict[str, float]:
        folder = place.root / f"cells-{name[:5]}" / "cell"
        work = work_of(folder)

        bench_training._make_room(work)
        marker = (folder / "cell-key").read_bytes()

        def begin() -> None:
            shutil.rmtree(folder.parent, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / "cell-key").write_bytes(marker)
            probes = [{"step": 3, "seconds": None, "scores": {"all": SCORE}}]
            (folder / "probes.json").write_text(json.dumps(probes), encoding="utf-8")
            np.savez(folder / "0.npz", output=np.ones((1, 8, 8), np.float32), seconds=1.5)

        def use() -> str:
            bench_training._make_room(work)
            assert (folder / "cell-key").is_file()
            assert isinstance(bench_training._read_probes(folder / "probes.json"), list)
            kept = bench_cell._read_learned(folder / "0.npz", (1, 8, 8))
            assert kept is None or kept[0].shape == (1, 8, 8)
            return ""

        begin()
        return try_mutants(folder / name, use, begin, count, 10.0)

    return try_them


READ_BACK: dict[str, Try] = {
    "config.toml": of_run("config.toml"),
    "events.jsonl": of_run("events.jsonl"),
    "environment.json": of_run("environment.json"),
    "ledger": of_ledger,
    "journal.jsonl": of_journal("journal.jsonl"),
    "blocks": of_journal("blocks"),
    "lock": of_lock,
    "result of bench": of_bench_result,
    "cell-key": of_bench_folder("cell-key"),
    "probes.json": of_bench_folder("probes.json"),
    "0.npz": of_bench_folder("0.npz"),
}


@pytest.mark.parametrize("name", READ_BACK)
def test_50_mutants_are_used_set_aside_or_refused(name: str, place: Place, pairfree: Call) -> None:
    READ_BACK[name](place, pairfree, IN_ORDINARY, 25)


@pytest.mark.nightly
@pytest.mark.parametrize("name", READ_BACK)
def test_1000_mutants_are_used_set_aside_or_refused(
    name: str, place: Place, pairfree: Call, record_property: Callable[[str, object], None]
) -> None:
    for what, number in READ_BACK[name](place, pairfree, IN_NIGHTLY, 10).items():
        record_property(what, number)
