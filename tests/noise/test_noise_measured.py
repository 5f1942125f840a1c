"""Noise by a law that was measured: what is diagnosed of it is what it was drawn by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import pairfree as pf
from pairfree.errors import ConfigError, InputError
from pairfree.noise.simulate import add_noise, parse_noise, spec_of

FLAT = np.full((400, 400), 60.0)


def write_laws(folder: Path, *laws: dict) -> str:
    path = folder / "noise.json"
    path.write_text(json.dumps({"files": [{"law": law} for law in laws]}))
    return f"law:{path}"


def white(gain: float, floor: float) -> dict:
    return {"gain": gain, "floor": floor, "correlated": False, "darkest": None}


@pytest.mark.parametrize(("gain", "floor"), [(0.0, 25.0), (3.0, 40.0), (3.0, -60.0), (0.0, 0.0)])
def test_moments_are_those_of_the_law(tmp_path, gain, floor):
    noisy, _ = add_noise(FLAT, write_laws(tmp_path, white(gain, floor)), np.random.default_rng(0))
    variance = gain * 60.0 + floor
    assert noisy.mean() == pytest.approx(60.0, abs=0.2)
    assert noisy.var() == pytest.approx(variance, rel=0.03)


def test_each_image_takes_one_of_the_laws(tmp_path):
    spec = write_laws(tmp_path, white(0.0, 1.0), white(0.0, 100.0))
    drawn = {spec_of(add_noise(FLAT, spec, np.random.default_rng(seed))[1]) for seed in range(12)}
    assert drawn == {f"{spec}#0", f"{spec}#1"}
    noisy, _ = add_noise(FLAT, f"{spec}#1", np.random.default_rng(0))
    assert noisy.std() == pytest.approx(10.0, rel=0.03)


def test_colours_have_noise_of_their_own(tmp_path):
    scene = np.full((200, 200, 3), 60.0)
    noisy, _ = add_noise(scene, write_laws(tmp_path, white(0.0, 25.0)), np.random.default_rng(0))
    first, second = noisy[..., 0] - 60.0, noisy[..., 1] - 60.0
    assert noisy.shape == scene.shape
    assert abs(np.mean(first * second)) < 0.5


def test_files_have_the_noise_that_was_diagnosed(tmp_path):
    """In their own intensities, whatever their type: a 16-bit law is none of 8-bit grey levels."""
    rng = np.random.default_rng(1)
    scene = np.linspace(2000.0, 9000.0, 256)[:, None] + np.zeros((256, 256))
    (tmp_path / "clean").mkdir()
    pf.save_image(
        pf.Image(scene.astype(np.uint16), "YX", family="tiff"), tmp_path / "clean" / "a.tif"
    )
    noisy = 40.0 * rng.poisson(scene / 40.0) + 100.0 * rng.standard_normal(scene.shape)
    law = tmp_path / "law.json"
    law.write_text(json.dumps(pf.diagnose([noisy]).as_dict()))
    pf.simulate(tmp_path / "clean", f"law:{law}", tmp_path / "out")
    again = pf.diagnose(tmp_path / "out").facts.files[0]
    assert again.gain.value == pytest.approx(40.0, rel=0.1)
    assert again.signs["grows"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no diagnosis"),
        ("[]", "is no diagnosis"),
        ('{"files": []}', "tells of no file"),
        ('{"files": [{}]}', "is no diagnosis"),
        ('{"files": [{"law": {"gain": -1, "floor": 3, "correlated": false}}]}', "no law of noise"),
        ('{"files": [{"law": {"gain": 0, "floor": -3, "correlated": false}}]}', "no law of noise"),
        (
            '{"files": [{"law": {"gain": 0, "floor": 1e300, "correlated": false}}]}',
            "no law of noise",
        ),
        ('{"files": [{"law": {"gain": "1", "floor": 0, "correlated": false}}]}', "gain"),
        (
            '{"files": [{"law": {"gain": 1, "floor": 0, "correlated": true, "spectrum": [[1]]}}]}',
            "32 x 32",
        ),
    ],
)
def test_what_is_no_diagnosis_is_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as refused:
        parse_noise(f"law:{path}")
    assert "bad.json" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_is_read_each_time(tmp_path):
    """One of the same name may hold other laws by then."""
    first, _ = add_noise(FLAT, write_laws(tmp_path, white(0.0, 1.0)), np.random.default_rng(0))
    second, _ = add_noise(FLAT, write_laws(tmp_path, white(0.0, 100.0)), np.random.default_rng(0))
    assert (round(first.std()), round(second.std())) == (1, 10)


def test_missing_files_and_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        parse_noise(f"law:{tmp_path / 'none.json'}")
    with pytest.raises(ConfigError, match="has 1 files"):
        parse_noise(write_laws(tmp_path, white(0.0, 1.0)) + "#1")
    with pytest.raises(ConfigError, match="law:FILE"):
        parse_noise("law")
