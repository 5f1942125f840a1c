"""Corrections: offered by an examination, applied on request, told, and the same in tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

import pairfree
from pairfree.cli.main import app
from pairfree.data.directions import REACH_PX, Change
from pairfree.engine.predictor import Predictor
from pairfree.training.examining import tell_unexamined

SIDE, SIGMA = 192, 20.0


def noisy(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rough = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 4.0)
    scene = 100.0 + 40.0 * np.tanh(2.0 * rough / rough.std())
    return (scene + SIGMA * rng.standard_normal((SIDE, SIDE))).astype(np.float32)


MODEL = pairfree.load("shipped")


@pytest.mark.parametrize("name", REACH_PX)
def test_a_correction_is_the_same_in_tiles_and_leaves_the_model_as_it_is(name):
    change = Change(name, 0.2)
    before = MODEL.denoise(noisy())
    whole = MODEL.corrected(change)
    small = Predictor(MODEL.method, MODEL.predictor.normalizer, 1, core_px=64)
    small.change_by(change)
    in_tiles = small.predict(noisy()[None])[0]
    assert whole.denoise(noisy()) == pytest.approx(in_tiles.astype(np.float32), abs=1e-3)
    assert np.array_equal(MODEL.denoise(noisy()), before)
    assert not np.array_equal(whole.denoise(noisy()), before)


def test_what_is_applied_is_what_was_asked():
    output, given = np.random.default_rng(1).uniform(0, 100, (2, 1, 32, 32))
    fine = output - gaussian_filter(output, (0, 1, 1))
    assert Change("fine detail", -0.3).apply(output, given) == pytest.approx(output - 0.3 * fine)
    assert Change("removed", 0.3).apply(output, given) == pytest.approx(0.7 * output + 0.3 * given)
    assert Change("brightness", 2.0).apply(output, given) == pytest.approx(output + 2.0)


def test_an_examination_offers_what_it_is_worth():
    def sharpen(planes: np.ndarray) -> np.ndarray:
        good = MODEL.denoise(planes[0].astype(np.float32))[None].astype(np.float64)
        return good + 4.0 * (good - gaussian_filter(good, (0, 1, 1)))

    found = pairfree.examine(sharpen, [noisy()], quick=True)
    assert found.change is not None
    assert found.change.share < 0
    mended = pairfree.examine(
        lambda planes: found.change.apply(sharpen(planes), planes), [noisy()], quick=True
    )
    assert mended.risk.mse < found.risk.mse


def write(folder: Path) -> Path:
    folder.mkdir()
    np.save(folder / "a.npy", noisy())
    return folder


def test_the_verb_corrects_says_so_and_writes_it_down(tmp_path, monkeypatch):
    given = write(tmp_path / "in")
    change = Change("fine detail", -0.25)

    def find(*args, **options):
        return pairfree.Examination((), change=change)

    monkeypatch.setattr("pairfree.training.examining.examine_model", find)
    done = CliRunner().invoke(
        app, ["denoise", "shipped", str(given), "--out", str(tmp_path / "out"), "--correct"]
    )
    assert done.exit_code == 0, done.output
    assert "correction: fine detail -0.25" in done.output
    expected = MODEL.corrected(change).denoise(noisy())
    assert np.load(tmp_path / "out" / "a.npy") == pytest.approx(expected, abs=1e-3)
    assert "corrected: fine detail -0.25" in MODEL.corrected(change).derivation
    assert MODEL.corrected(change).identity != MODEL.identity


def test_where_nothing_is_to_be_mended_nothing_is_done(tmp_path):
    given = write(tmp_path / "in")
    pairfree.denoise("shipped", given, tmp_path / "out", correct=True)
    assert np.load(tmp_path / "out" / "a.npy") == pytest.approx(MODEL.denoise(noisy()), abs=1e-3)


def test_a_model_is_corrected_once(tmp_path):
    given = write(tmp_path / "in")
    corrected = MODEL.corrected(Change("fine detail", -0.25))
    with pytest.raises(pairfree.ConfigError, match="corrected already"):
        pairfree.denoise(corrected, given, tmp_path / "out", correct=True)


def test_what_cannot_be_read_and_what_was_made_before_is_not_examined(tmp_path, monkeypatch):
    given = write(tmp_path / "in")
    (given / "bad.png").write_bytes(b"no picture")
    seen = []

    def find(model, planes, *rest, **options):
        seen.append([name for name, _ in planes])
        return tell_unexamined("it is not asked here")

    monkeypatch.setattr("pairfree.training.examining.examine_model", find)
    for _ in range(2):
        pairfree.denoise(
            "shipped", given, given / "out", correct=True, skip_bad=True, skip_done=True
        )
    assert len(seen) == 2
    assert len(seen[0]) == len(seen[1]) == 1


def test_unlike_images_are_not_corrected_alike():
    """One image is too sharp, another too smooth: what gains for both together harms one."""

    def spoil(planes: np.ndarray) -> np.ndarray:
        good = MODEL.denoise(planes[0].astype(np.float32))[None].astype(np.float64)
        fine = good - gaussian_filter(good, (0, 1, 1))
        return good + (5.0 if planes.mean() > 300.0 else -0.9) * fine

    bright = noisy(1) + 400.0
    both = pairfree.examine(spoil, [noisy(0), bright], quick=True)
    alone = pairfree.examine(spoil, [bright], quick=True)
    assert alone.change is not None
    assert both.change is None
