"""R23 and what is printed to nowhere: one line or none, the documented exit code, nothing half-written."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pairfree.cli import start
from pairfree.denoising import files
from pairfree.files.atomic import atomic_path

pytestmark = pytest.mark.posix
STOPPED = "pairfree: stopped; files that were finished stand, none is half-written\n"
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def begin(*arguments: str, **how) -> subprocess.Popen:
    command = [sys.executable, "-m", "pairfree", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **how)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_a_file_is_denoised_is_one_line(
    pairfree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((40, 40), np.float32))
    monkeypatch.chdir(tmp_path)

    def halt(planned, one, *others) -> None:
        with atomic_path(one.path) as temporary:
            temporary.write_bytes(b"half")
            assert len(list(Path("out").iterdir())) == 1
            signal.raise_signal(number)

    monkeypatch.setattr(files, "_denoise_file", halt)
    before = [signal.getsignal(one) for one in SIGNALS]
    code, out, err = pairfree("denoise", "shipped", "a.npy", "--out", "out")
    assert (code, out, err) == (130, "", STOPPED)
    assert list(Path("out").iterdir()) == []
    assert [signal.getsignal(one) for one in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_before_the_first_step_is_one_line(
    pairfree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    from pairfree.training import session

    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(9, 2, (40, 40)))
    monkeypatch.setattr(session, "_plan", lambda job: signal.raise_signal(number))
    run = tmp_path / "run"
    arguments = "--out", str(run), "--steps", "9", "--method", "iddp"
    code, out, err = pairfree("train", str(tmp_path), *arguments)
    assert (code, out, err) == (130, "", STOPPED)
    assert {path.name for path in run.iterdir()} == {"lock", "events.jsonl"}  # begun anew next time


def wait_inside(begin_with: Callable[[], None]) -> None:
    with start.interruptible():
        begin_with()
        time.sleep(9)


def test_a_signal_in_the_middle_of_an_import_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch and NumPy end in odd errors where their import is interrupted."""
    code = "import signal\nsignal.raise_signal(signal.SIGTERM)\nimported = True\n"
    (tmp_path / "halting.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(start.Interrupted):
        wait_inside(lambda: importlib.import_module("halting"))
    assert sys.modules.pop("halting").imported


def test_a_signal_that_is_lost_is_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a finalizer, which swallows what is raised."""
    monkeypatch.setattr(start, "PATIENCE_SECONDS", 0.05)

    def lose_one() -> None:
        with contextlib.suppress(start.Interrupted):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(start.Interrupted):
        wait_inside(lose_one)
    time.sleep(0.1)  # nothing comes afterwards


def test_signals_are_left_alone_in_other_threads() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def look() -> None:
        with start.interruptible():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_signal_at_the_start_is_one_line(tmp_path: Path) -> None:
    """While the command line itself is imported: its first import halts here."""
    (tmp_path / "typer.py").write_text(
        "import os, signal\nos.write(1, b'.')\nsignal.pause()\nsignal.pause()\n"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    how = {"env": {**os.environ, "PYTHONPATH": paths}, "stdout": subprocess.PIPE}
    process = begin("--version", **how)
    assert process.stdout is not None
    assert process.stdout.read(1) == "."
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "pairfree: stopped, nothing was begun\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_an_output_that_is_full_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        process = begin(*arguments, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == (
        "pairfree: the output cannot be written (No space left on device); send it elsewhere\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_where_nobody_can_be_told_the_exit_code_tells() -> None:
    command = [sys.executable, "-m", "pairfree", "demo", "--log-file", "/"]
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(command, stderr=full, stdout=full, timeout=60).returncode == 2
