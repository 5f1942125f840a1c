"""What every verb can be asked for: quiet, verbose, a log file; the version; the settings of a method."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from pairfree.methods import METHODS, PRESETS
from pairfree.version import __version__

SETTINGS = ["--set", "patch_px=16", "--set", "batch_size=1", "--set", "width=4"]


@pytest.fixture
def noisy(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "noisy"
    folder.mkdir()
    np.save(folder / "a.npy", rng.normal(100, 10, (40, 40)).astype(np.float32))
    np.save(folder / "b.npy", np.zeros((40, 40), np.float32))  # worth a warning
    return folder


def test_version(pairfree):
    assert pairfree("--version") == (0, f"pairfree {__version__}\n", "")


@pytest.mark.parametrize(
    ("flags", "warns", "tells"),
    [([], True, False), (["--quiet"], False, False), (["--verbose"], True, True)],
)
def test_how_much_is_said(pairfree, noisy, tmp_path, flags, warns, tells):
    code, out, err = pairfree(
        "train",
        noisy,
        "--out",
        tmp_path / "run",
        "--method",
        "n2v",
        "--steps",
        2,
        *SETTINGS,
        *flags,
    )
    assert code == 0
    assert ("warning: b.npy: all pixels are 0" in err) == warns
    assert ("planned: train 2 steps" in err) == tells
    assert f"run:    {tmp_path / 'run'}" in out  # a result, not a message


def test_a_log_file_holds_all_messages_whatever_is_shown(pairfree, noisy, tmp_path):
    log = tmp_path / "log.txt"
    run = ["train", noisy, "--out", tmp_path / "run", "--method", "n2v", "--steps", 2, *SETTINGS]
    code, _, err = pairfree(*run, "--quiet", "--log-file", log)
    assert (code, err) == (0, "")
    lines = log.read_text().splitlines()
    assert any("WARNING b.npy: all pixels are 0" in line for line in lines)
    assert any("INFO planned: train 2 steps" in line for line in lines)


def test_a_log_file_that_cannot_be_written_is_one_line(pairfree, noisy, tmp_path):
    code, out, err = pairfree("info", noisy / "a.npy", "--log-file", tmp_path / "none" / "log.txt")
    assert (code, out) == (2, "")
    assert err.startswith("pairfree: --log-file")
    assert len(err.splitlines()) == 1


def test_quiet_and_verbose_exclude_each_other(pairfree, noisy):
    code, _, err = pairfree("info", noisy / "a.npy", "--quiet", "--verbose")
    assert code == 2
    assert "--quiet and --verbose exclude each other" in err


@pytest.mark.parametrize("key", METHODS)
def test_settings_of_a_method_are_listed(pairfree, key, monkeypatch):
    monkeypatch.setattr("pairfree.cli.terminal.out._width", 300)
    code, out, _ = pairfree("train", "--method", key, "--settings")
    assert code == 0
    for config in PRESETS[key].values():
        for name, value in vars(config).items():
            assert name in out
            assert str(value) in out


def test_settings_need_a_method_that_exists(pairfree):
    assert "--settings needs --method" in pairfree("train", "--settings")[2]
    assert "did you mean 'n2v'" in pairfree("train", "--settings", "--method", "n2vv")[2]


def test_settings_that_do_not_exist_are_not_passed_over(pairfree):
    code, _, said = pairfree("train", "--method", "n2v", "--settings", "--set", "widht=3")
    assert code == 2
    assert "did you mean 'width'?" in said


def test_notes_are_said_unless_quiet_and_kept_in_the_log_file(pairfree, tmp_path):
    spec = ("simulate", "scenes:1:size=32", "--noise", "gaussian:sigma=90", "--out")
    _, _, said = pairfree(*spec, tmp_path / "a")
    assert said.startswith("note: ")
    assert "--float keeps them" in said
    _, _, said = pairfree(*spec, tmp_path / "b", "--quiet", "--log-file", tmp_path / "log")
    assert said == ""
    assert "NOTE" in (tmp_path / "log").read_text()


def test_a_failure_is_in_the_log_file(pairfree, tmp_path):
    code, _, said = pairfree("info", tmp_path / "nothing", "--log-file", tmp_path / "log")
    assert code == 2
    words = said.removeprefix("pairfree: ").strip()
    assert words in (tmp_path / "log").read_text()


@pytest.mark.posix
def test_an_output_that_nobody_reads_is_no_loss(tmp_path):
    """``pairfree verify A B | head`` ends with 141, as other programs do, and not with 1."""
    tifffile.imwrite(tmp_path / "one.tif", np.zeros((32, 32), np.uint8))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pairfree", "verify", "one.tif", "one.tif"]
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
