"""Run folders of November 2026, before the code was restructured: they resume, denoise and are told of as they were.

Each was stopped after 6 of 12 steps (seed 1, float32, one thread); ``denoised.npy`` is what the run made of noisy/0.tif when it was trained to
its end by the code of that time. Sums may differ from machine to machine, hence the tolerance, in grey levels of 255.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

import pairfree as pf
from pairfree.methods import PRESETS

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
