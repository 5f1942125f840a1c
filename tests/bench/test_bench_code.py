"""What is half done is gone on with by the code that began it; committed results stay what they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pairfree.bench import code, harness, tables, training
from pairfree.bench.base import Cell, Experiment, Scored, Task
from pairfree.bench.work import Work

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
SETTINGS = {"width": 4, "patch_px": 16, "batch_size": 1, "precision": "float32"}
CELL = Cell("hum", "n2v", "cpu", settings=SETTINGS, minutes=0.005)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    pixels = np.random.default_rng(0).normal(100, 9, (1, 24, 24)).astype(np.float32)
    image = Scored("im", pixels, pixels, "a")
    tiny = Experiment("tiny", "Tiny", "PSNR", lambda preset: [CELL], lambda data, cell: None)
    return Work(tiny, CELL, Task([pixels], [image]), tmp_path / "runs" / "cell", "cpu")


def test_words_for_readers_are_no_other_code():
    plain = "def f(x):\n    return x + 1\n\nclass A:\n    a: int = 0\n"
    told = (
        '"""Words."""\n# more\ndef f(x):\n    """Words."""\n    return x + 1  # why\n'
        'class A:\n    """Words."""\n    a: int = 0\n    """Of a."""\n'
    )
    assert code.outline(plain) == code.outline(told)
    assert code.outline(plain) != code.outline(plain.replace("+ 1", "+ 2"))
    assert code.outline(plain) != code.outline(plain.replace("0", "'0'"))


def test_the_digest_follows_what_makes_numbers(monkeypatch, tmp_path: Path):
    def digest() -> str:
        code.digest_code.cache_clear()
        return code.digest_code()

    for name in ("methods/n2v.py", "cli/main.py", "training/report.py", "api.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a = 1\n")
    monkeypatch.setattr(code, "SOURCE", tmp_path)
    monkeypatch.setattr(code, "MATTERS", ("methods", "training", "api.py"))
    try:
        first = digest()
        for name, changes in [
            ("cli/main.py", False),
            ("training/report.py", False),
            ("methods/n2v.py", True),
            ("api.py", True),
        ]:
            (tmp_path / name).write_text("a = 2\n")
            assert (digest() != first) is changes, name
            first = digest()
    finally:
        code.digest_code.cache_clear()


def test_what_matters_is_there():
    for name in (*code.MATTERS, *code.ONLY_WORDS):
        assert (code.SOURCE / name).exists(), name


def test_a_run_of_other_code_is_begun_anew_with_a_word(work: Work, monkeypatch, caplog):
    def kill(*about):
        raise KeyboardInterrupt

    killed = Work(work.experiment, work.cell, work.task, work.folder, "cpu", kill)
    with pytest.raises(KeyboardInterrupt):
        training.train_cell(killed)
    begun = work.run / "environment.json"
    before = begun.read_bytes()
    training._make_room(work)
    assert caplog.text == ""
    assert begun.read_bytes() == before  # the same code goes on
    monkeypatch.setattr(training, "digest_code", lambda: "other")
    with pytest.raises(KeyboardInterrupt):
        training.train_cell(killed)
    assert "was begun by other code; begun anew" in caplog.text
    older = work.folder.with_name("cell.older")
    assert (older / "run" / "environment.json").read_bytes() == before
    assert "resumed" not in json.loads(begun.read_text())


def test_a_folder_of_other_data_is_kept_aside_with_a_word(work: Work, caplog):
    for count in (1, 2):
        work.folder.mkdir(parents=True)
        (work.folder / "mine").write_text(str(count))
        training._make_room(work)
        assert caplog.text.count("is of other data or settings") == count
        assert (work.folder.with_name("cell.older") / "mine").read_text() == str(count)
        (work.folder / "cell-key").write_text("x\ny")
        (work.folder / "cell-key").unlink()
        work.folder.rmdir()


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ({"code": "now", "commit": "abc"}, "measured before"),
        ({"code": "then", "commit": "abc"}, "measured before, by other code (commit abc)"),
        ({"commit": "def"}, "measured before"),
        ({"commit": "abc"}, "measured before, by other code (commit abc)"),
        ({}, "measured before"),
    ],
)
def test_a_result_of_other_code_is_named_so(stored, words, monkeypatch):
    monkeypatch.setattr(harness, "digest_code", lambda: "now")
    assert harness._tell_before(stored, "def") == words


def test_all_committed_results_are_read(caplog):
    folders = [one for one in RESULTS.iterdir() if one.is_dir()]
    files = [path for folder in folders for path in folder.glob("*.json")]
    assert len(files) > 300
    assert sum(len(tables.read_results(folder)) for folder in folders) == len(files)
    assert caplog.text == ""
