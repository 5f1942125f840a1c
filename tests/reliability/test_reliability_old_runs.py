"""Run folders of November 2026, from before the code was restructured, work as they did.

They resume, denoise and are told of as they were. Each was stopped after 6 of 12 steps (seed 1,
float32, one thread); ``denoised.npy`` is what the run made of noisy/0.tif when it was trained to
its end by the code of that time. Sums may differ from machine to machine, hence the tolerance, in
grey levels of 255.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

import pairfree as pf
from pairfree.engine import checkpoint
from pairfree.engine.run import RunFolder
from pairfree.engine.trainer import Stopped
from pairfree.methods import EXTENDED, PRESETS, settings_beside

OLD = Path(__file__).parent / "old_runs"
TOLERANCE = 0.05


@pytest.fixture
def run(request, tmp_path):
    return shutil.copytree(OLD / request.param, tmp_path / "run")


KEYS = pytest.mark.parametrize("run", ["n2v", "iddp", "gan2gan", "iscl"], indirect=True)


@KEYS
def test_an_old_run_resumes_to_the_same_result(run):
    key = pf.load(run).method.key
    clean = {"clean": OLD / "clean"} if key == "iscl" else {}
    model = pf.train(OLD / "noisy", out=run, resume=True, report=False, **clean)
    image = tifffile.imread(OLD / "noisy" / "0.tif").astype(np.float32)
    expected = np.load(run / "denoised.npy")
    assert np.abs(model.denoise(image) - expected).max() < TOLERANCE
    assert np.abs(expected - image).max() > 20 * TOLERANCE


@KEYS
def test_an_old_run_is_loaded_and_told_of(run, pairfree):
    image = tifffile.imread(OLD / "noisy" / "0.tif")
    done = pf.load(run).denoise(image)
    assert (done.shape, done.dtype) == (image.shape, image.dtype)
    code, out, _ = pairfree("info", run)
    assert code == 0
    assert "stopped at step 6 of 12" in out


@KEYS
def test_an_old_run_is_a_start_for_another(run, tmp_path):
    """Its settings keep their meaning, whatever class they are read into."""
    key = pf.load(run).method.key
    clean = {"clean": OLD / "clean"} if key == "iscl" else {}
    settings = {
        "patch_px": 32,
        "batch_size": 1,
        **({"noise_patch_px": 32} if key == "gan2gan" else {}),
    }
    model = pf.train(
        OLD / "noisy", method=key, init=run, steps=4, settings=settings, report=False, **clean
    )
    assert model.method.config.width == 4 != PRESETS[key]["cpu"].width


SMALL = {"width": 4, "patch_px": 32, "batch_size": 1, "precision": "float32"}
PAPER = {
    "iddp": SMALL,
    "gan2gan": SMALL
    | {"noise_patch_px": 32, "rule": "wavelet", "rough_width": 4}
    | {"critic_width": 4, "generative_batch": 2},
}
"""Settings of small runs with preset paper."""


def train_paper(key, out, **options):
    return pf.train(
        OLD / "noisy",
        out=out,
        method=key,
        preset="paper",
        settings=PAPER[key],
        steps=12,
        seed=1,
        report=False,
        **options,
    )


def write_as_before(run, key):
    """Give a run the settings of what the short preset adds.

    Runs had them before it had a class of its own.
    """
    folder = RunFolder(run)
    stored = folder.read_config()
    settings = settings_beside(key, stored["settings"])
    assert settings.keys() > stored["settings"].keys()
    folder.write_config({**stored, "settings": settings})
    last, _ = checkpoint.load_latest(folder.checkpoints)
    record = dataclasses.replace(last.record, config=settings_beside(key, last.record.config))
    checkpoint.save(folder.checkpoints, record, last.tensors)


@pytest.mark.parametrize("key", PAPER)
def test_a_paper_run_from_before_the_split_goes_on_as_it_was(key, tmp_path):
    image = tifffile.imread(OLD / "noisy" / "0.tif").astype(np.float32)
    whole = train_paper(key, tmp_path / "whole")
    with pytest.raises(Stopped):
        train_paper(key, tmp_path / "run", on_step=lambda done, *_: done == 7)
    write_as_before(tmp_path / "run", key)
    assert type(pf.load(tmp_path / "run").method) is EXTENDED[key]
    model = pf.train(OLD / "noisy", out=tmp_path / "run", resume=True, report=False)
    np.testing.assert_array_equal(model.denoise(image), whole.denoise(image))


@pytest.mark.parametrize("key", PAPER)
def test_a_paper_run_from_before_the_split_is_a_start_for_another(key, tmp_path):
    train_paper(key, tmp_path / "run")
    write_as_before(tmp_path / "run", key)
    again = train_paper(key, None, init=tmp_path / "run")
    assert again.method.config.width == 4
    repeated = pf.train(config=tmp_path / "run" / "config.toml", report=False)
    image = tifffile.imread(OLD / "noisy" / "0.tif").astype(np.float32)
    np.testing.assert_array_equal(repeated.denoise(image), pf.load(tmp_path / "run").denoise(image))


def test_a_paper_run_takes_a_value_that_only_the_short_preset_knows(pairfree, tmp_path):
    paper = ["--method", "gan2gan", "--preset", "paper", "--set", "start=recorrupted"]
    said = pairfree("train", OLD / "noisy", "--out", tmp_path / "run", *paper, "--dry-run")
    assert said[0] == 0
    assert 'start = "recorrupted"' in said[1]
    assert "second_copy = true" in said[1]  # of the short preset, at a value that adds nothing
