"""What every verb can be asked for: quiet, verbose, a log file; the version; the settings of a method."""

from __future__ import annotations

import numpy as np
import pytest

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
    monkeypatch.setenv("COLUMNS", "300")
    code, out, _ = pairfree("train", "--method", key, "--settings")
    assert code == 0
    for config in PRESETS[key].values():
        for name, value in vars(config).items():
            assert name in out
            assert str(value) in out


def test_settings_need_a_method_that_exists(pairfree):
    assert "--settings needs --method" in pairfree("train", "--settings")[2]
    assert "did you mean 'n2v'" in pairfree("train", "--settings", "--method", "n2vv")[2]
