"""Noise found beside noise made: what the report shows of it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import ndimage

import pairfree as pf
from pairfree.errors import InputError
from pairfree.evidence.noise_view import NoiseSamples, contact_sheet, noise_view
from pairfree.evidence.report import ReportData, render_report
from pairfree.evidence.residual import autocorrelation


def white(count: int = 40, side: int = 32, std: float = 25.0, seed: int = 0) -> np.ndarray:
    return std * np.random.default_rng(seed).standard_normal((count, 1, side, side))


@pytest.mark.parametrize("axis", [2, 3])
def test_autocorrelation_is_its_definition(axis):
    patches = ndimage.gaussian_filter(white(3, 12), (0, 0, 1, 1))
    patches -= patches.mean()
    for lag in (1, 3):
        products = []
        for patch in patches[:, 0]:
            turned = patch if axis == 3 else patch.T
            products += [row[k] * row[k + lag] for row in turned for k in range(len(row) - lag)]
        assert autocorrelation(patches, axis)[lag - 1] == pytest.approx(
            np.mean(products) / np.mean(patches**2)
        )


def test_noise_that_is_alike_has_like_numbers():
    view = noise_view(NoiseSamples(white(), white(60, 48, seed=1)))
    (name, found, made), *lags = view["rows"]
    assert name == "Standard deviation"
    assert float(found) == pytest.approx(25, rel=0.03)
    assert float(made) == pytest.approx(25, rel=0.03)
    assert len(lags) == 8
    assert all(abs(float(one.replace("−", "-"))) <= 0.03 for _, *pair in lags for one in pair)
    assert view["found"].startswith("data:image/png;base64,")


def test_a_wrong_generator_is_seen_in_the_numbers():
    streaked = ndimage.uniform_filter1d(white(), 5, axis=3)
    rows = {
        name: (found, made)
        for name, found, made in noise_view(NoiseSamples(streaked, white()))["rows"]
    }
    found, made = (float(one.replace("−", "-")) for one in rows["Correlation at 1 px along rows"])
    assert found > 0.6
    assert abs(made) < 0.05
    assert abs(float(rows["Correlation at 1 px along columns"][0].replace("−", "-"))) < 0.1


def test_the_curves_reach_farther_than_the_table(monkeypatch):
    """Clouds of 10 px that the generator misses."""
    seen = {}
    monkeypatch.setattr(
        sys.modules[noise_view.__module__],
        "curves",
        lambda series, *words, **how: seen.update(series) or "",
    )
    clouds = ndimage.uniform_filter(white(40, 96, 250.0), (0, 0, 10, 10))
    noise_view(NoiseSamples(clouds, white(40, 96)))
    assert seen.keys() == {
        f"{name}, along {axis}" for name in ("found", "made") for axis in ("rows", "columns")
    }
    lags, found = seen["found, along rows"]
    assert list(lags) == list(range(1, 17))
    np.testing.assert_allclose(found[:9], 1 - np.arange(1, 10) / 10, atol=0.08)
    assert np.abs(seen["made, along columns"][1]).max() < 0.02


def test_the_sheet_shows_the_least_even_patches_too():
    """Patches come sorted: each is flat, of its own grey."""
    levels = np.linspace(-1.0, 1.0, 64)
    sheet = contact_sheet(np.ones((64, 1, 8, 8)) * levels[:, None, None, None], 9.0)
    shown = sheet[4::10, 4::10].ravel()
    assert shown[0] == levels[0]
    assert shown[-1] == levels[-1]
    assert np.ptp(np.diff(shown)) < 0.04


def test_one_patch_is_enough_and_none_is_refused():
    assert noise_view(NoiseSamples(white(1), white(2)))["window"]
    for bad in (
        np.zeros((0, 1, 8, 8)),
        np.zeros((8, 8)),
        np.full((1, 1, 8, 8), np.nan),
        np.zeros((2, 1, 3, 3)),
    ):
        with pytest.raises(InputError, match="noise samples"):
            noise_view(NoiseSamples(bad, white()))


def test_the_report_shows_it_where_there_is_any():
    data = {"title": "t", "command": "c", "method_key": "gan2gan", "method_title": "GAN2GAN"}
    assert "The noise, found and made" not in render_report(ReportData(**data))
    page = render_report(ReportData(**data, noise_samples=NoiseSamples(white(), white())))
    assert "The noise, found and made" in page
    assert page.count('<th scope="row">Correlation at') == 8


def test_a_run_that_imitates_noise_reports_it(tmp_path):
    rng = np.random.default_rng(3)
    images = [(120 + rng.normal(0, 20, (96, 96))).astype(np.float32) for _ in range(3)]
    settings = {
        "width": 4,
        "patch_px": 32,
        "batch_size": 2,
        "noise_patch_px": 32,
        "precision": "float32",
        "even": False,
    }
    pf.train(images, method="gan2gan", out=tmp_path / "run", steps=6, settings=settings)
    assert "The noise, found and made" in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert pf.load(tmp_path / "run").method.noise_samples() is None
