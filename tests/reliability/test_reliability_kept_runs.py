"""R24: run folders of this and of every earlier version load, denoise as they did, and go on.

They are made by ``keep_runs.py``, once a version, and never again.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from keep_runs import IMAGES, KEPT, SETTINGS, clean_for, corner

import pairfree as pf
from pairfree.data import even
from pairfree.engine import checkpoint
from pairfree.engine.run import RunFolder
from pairfree.version import __version__

ATOL = 1e-6 * 255
"""In grey levels; 1e-6 in the network's units."""
RUNS = sorted(path.parent for path in KEPT.glob("*/*/config.toml"))


@pytest.fixture(params=RUNS, ids=lambda path: f"{path.parent.name}-{path.name}")
def run(request, tmp_path):
    return shutil.copytree(request.param, tmp_path / "run")


def test_runs_of_this_version_are_kept():
    kept = {path.name for path in RUNS if path.parent.name == __version__}
    assert kept == SETTINGS.keys(), (
        f"python tests/reliability/keep_runs.py {__version__}, and commit what it made"
    )


def test_a_kept_run_denoises_as_it_did(run):
    made = pf.load(run, device="cpu").denoise(corner())
    expected = np.load(run / "stopped.npy")
    np.testing.assert_allclose(made, expected, rtol=0, atol=ATOL)
    assert np.abs(expected - corner()).max() > 1000 * ATOL


def test_a_kept_run_goes_on_to_the_result_it_had(run):
    """Weights, moments, averages, normaliser, plan and images are those that it had."""
    clean = clean_for(pf.load(run, device="cpu").method.key)
    model = pf.train(IMAGES / "noisy", out=run, resume=True, report=False, **clean)
    expected = np.load(run / "finished.npy")
    np.testing.assert_allclose(model.denoise(corner()), expected, rtol=0, atol=10 * ATOL)
    assert np.abs(expected - np.load(run / "stopped.npy")).max() > 100 * ATOL
    assert [event["step"] for event in RunFolder(run).read_events()] == list(range(6))


@pytest.mark.parametrize("key", ["iddp", "gan2gan"])
def test_a_run_by_another_measure_of_noise_does_not_go_on(tmp_path, monkeypatch, key):
    """Where that makes a difference; it still denoises, and is a start for another."""
    run = shutil.copytree(KEPT / __version__ / key, tmp_path / "run")
    monkeypatch.setattr(even, "REVISION", even.REVISION + 1)
    monkeypatch.setattr(even, "EVEN_LEVEL", 0.2)
    with pytest.raises(pf.CheckpointError, match=r"measured noise otherwise.*`init`"):
        pf.train(IMAGES / "noisy", out=run, resume=True, report=False)
    assert pf.load(run).denoise(corner()).shape == corner().shape
    again = tmp_path / "again"
    pf.train(IMAGES / "noisy", out=again, init=run, steps=2, report=False)
    words = checkpoint.listing(again / "checkpoints")[-1].read_text()
    assert json.loads(words)["normalizer"]["law"] == even.REVISION


def test_a_kept_run_says_what_it_says_today(run):
    """Nothing that a checkpoint of that version says is passed over."""
    words = checkpoint.listing(run / "checkpoints")[-1]
    facts = json.loads(words.read_text())
    again = checkpoint.load(words)
    written = {**again.record.as_facts(), checkpoint.COUNTS: again.counts}
    beside = {"format", "digest", "tensors_sha256"}
    assert {name: facts[name] for name in facts if name not in beside}.items() <= written.items()


def test_a_newer_checkpoint_is_refused_with_both_numbers(run):
    words = checkpoint.listing(run / "checkpoints")[-1]
    facts = {**json.loads(words.read_text()), "format": checkpoint.FORMAT + 1}
    words.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    newer = (
        f"format {checkpoint.FORMAT + 1} is newer than this pairfree reads .{checkpoint.FORMAT}."
    )
    with pytest.raises(pf.CheckpointError, match=newer):
        pf.load(run)
