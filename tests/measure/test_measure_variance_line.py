"""Poisson-Gaussian noise: its line found in images, its spread made even, and back without bias."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from scipy import ndimage

import pairfree as pf
from pairfree.errors import ConfigError, InputError
from pairfree.measure.variance_line import (
    PoissonGaussian,
    estimate_poisson_gaussian,
    stabilise,
    unstabilise,
)
from pairfree.methods.bm3d import BM3DConfig, denoise_image, denoise_stabilised
from pairfree.training.job import resolve
from pairfree.training.order import Order

needs_bm3d = pytest.mark.skipif(
    importlib.util.find_spec("bm3d") is None, reason="the optional package bm3d is not installed"
)


def scene(side: int = 256, low: float = 10.0, high: float = 240.0) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal((side, side)), 12)
    return np.interp(field, (field.min(), field.max()), (low, high))


def noisy(x: np.ndarray, gain: float, floor: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    counts = gain * rng.poisson(x / gain) if gain else x
    return counts + rng.normal(0, floor**0.5, x.shape)


@pytest.mark.parametrize(("gain", "floor"), [(0.5, 0.0), (2.0, 25.0), (8.0, 0.0), (1.0, 300.0)])
def test_gain_and_floor_are_found(gain, floor):
    """On the mean of four draws, because one draw of 256 x 256 px scatters by 2 to 5 %.

    It scatters by 15 % where the floor hides the gain.
    """
    found = [estimate_poisson_gaussian(noisy(scene(), gain, floor, seed)) for seed in range(4)]
    assert np.mean([one.gain for one in found]) == pytest.approx(
        gain, rel=0.1 if floor < 100 else 0.25
    )
    for level in (40.0, 128.0, 210.0):
        variance = np.mean([one.variance(np.array(level)) for one in found])
        assert variance == pytest.approx(gain * level + floor, rel=0.1)


def test_a_black_level_becomes_a_negative_floor():
    """var = gain (x - black)."""
    found = estimate_poisson_gaussian(noisy(scene(), 4.0, 0.0) + 500.0)
    assert found.gain == pytest.approx(4.0, rel=0.1)
    assert -found.floor / found.gain == pytest.approx(500.0, abs=15.0)


@pytest.mark.parametrize("white", [255.0, 240.0, 220.0])
def test_clipped_parts_do_not_draw_the_line_down(white):
    """Up to 6 % of the pixels at the white end of the detector."""
    y = np.clip(noisy(scene(256, 10, 300), 2.0, 0.0), 0, white)
    found = estimate_poisson_gaussian(y)
    assert found.gain == pytest.approx(2.0, rel=0.08)


def test_even_noise_has_no_gain_and_its_own_variance():
    found = estimate_poisson_gaussian(noisy(scene(), 0.0, 100.0))
    assert found.gain == 0.0
    assert found.floor == pytest.approx(100.0, rel=0.05)


def test_a_flat_image_and_a_small_one_have_no_line():
    flat = estimate_poisson_gaussian(noisy(np.full((64, 64), 50.0), 2.0, 0.0))
    assert flat == PoissonGaussian(0.0, flat.floor)
    assert flat.floor == pytest.approx(100.0, rel=0.1)
    assert 0.0 <= estimate_poisson_gaussian(noisy(scene(20), 2.0, 0.0)).gain < 6.0
    with pytest.raises(InputError, match="16 x 16"):
        estimate_poisson_gaussian(np.zeros((10, 40)))


def test_a_ramp_without_noise_has_none():
    assert estimate_poisson_gaussian(
        np.add.outer(np.arange(128.0), np.zeros(128))
    ) == PoissonGaussian(0.0, 0.0)


@pytest.mark.parametrize(("gain", "floor"), [(1.0, 0.0), (3.0, 90.0), (0.01, 0.0002), (2.0, -40.0)])
def test_stabilised_noise_has_unit_spread(gain, floor):
    rng = np.random.default_rng(0)
    read_out = max(floor, 0.0)
    black = max(-floor, 0.0) / gain
    for counts in (8.0, 30.0, 200.0):
        y = gain * rng.poisson(counts, 200_000) + rng.normal(0, read_out**0.5, 200_000) + black
        assert stabilise(y, PoissonGaussian(gain, floor)).std() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("counts", [0.5, 1.0, 3.0, 10.0, 100.0])
def test_the_way_back_has_no_bias(counts):
    """A denoiser makes the mean of the stabilised values: its inverse must be the mean of the counts.

    The square's inverse is below.
    """
    noise = PoissonGaussian(2.5, 0.0)
    y = 2.5 * np.random.default_rng(1).poisson(counts, 1_000_000)
    mean = stabilise(y, noise).mean()
    assert unstabilise(np.array(mean), noise) == pytest.approx(2.5 * counts, rel=0.02, abs=0.03)
    naive = 2.5 * (mean**2 / 4 - 0.375)
    assert naive < 2.5 * counts - 0.2


def test_there_and_back_is_nearly_the_same_for_many_counts():
    noise, y = PoissonGaussian(2.0, 30.0), np.linspace(200, 4000, 50)
    # The bias it takes off is a quarter of a gain.
    np.testing.assert_allclose(unstabilise(stabilise(y, noise), noise), y + 0.5, atol=0.05)


@needs_bm3d
def test_bm3d_of_stabilised_noise_is_better_where_noise_follows_the_signal():
    x = scene(128, 2.0, 200.0)
    y = noisy(x, 6.0, 0.0)
    plain, even = (
        np.sqrt(np.mean((denoise(y[None])[0] - x) ** 2))
        for denoise in (denoise_image, denoise_stabilised)
    )
    assert even < 0.95 * plain


def test_what_is_made_even_is_denoised_at_the_unit_level_that_it_has(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "pairfree.methods.bm3d.denoise_image", lambda image, sigma=0.0: seen.append(sigma) or image
    )
    x = np.full((128, 128), 90.0)
    x[:, 64:] = 200.0
    y = noisy(x, 6.0, 0.0)
    denoise_stabilised(y[None])
    assert seen == [1.0]


@needs_bm3d
def test_constant_and_flat_channels_come_through():
    x = scene(128, 20.0, 200.0)
    image = np.stack(
        [noisy(x, 4.0, 0.0), np.full(x.shape, 7.0), noisy(np.full(x.shape, 90.0), 0.0, 25.0)]
    )
    found = denoise_stabilised(image)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[1], 7.0, atol=0.5)
    assert abs(found[2].mean() - 90.0) < 0.5


@needs_bm3d
@pytest.mark.parametrize("denoise", [denoise_image, denoise_stabilised])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 4), (1, 8, 8), (2, 7, 40), (3, 5, 9)])
def test_bm3d_takes_any_size(denoise, shape):
    image = np.random.default_rng(3).random(shape)
    found = denoise(image)
    assert found.shape == shape
    assert np.isfinite(found).all()


@needs_bm3d
@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 0, 1), (0, 1, 0), (1, 2, 1), (0, 0, 0)])
@pytest.mark.parametrize("denoise", [denoise_image, denoise_stabilised])
def test_colours_without_a_third_kind_come_through(denoise, weights):
    """Grey kept as colour, magenta, green, blank: one of the opponent colours is the same everywhere."""
    x = scene(48, 20.0, 200.0)
    image = np.stack([weight * noisy(x, 0.0, 100.0) for weight in weights])
    found = denoise(image)
    truth = np.stack([weight * x for weight in weights])
    assert np.square(found - truth).mean() <= 0.5 * np.square(image - truth).mean()


@needs_bm3d
def test_even_noise_is_left_to_bm3d():
    y = noisy(scene(128), 0.0, 100.0)[None]
    np.testing.assert_array_equal(denoise_stabilised(y), denoise_image(y))


def test_a_level_and_stabilising_exclude_each_other():
    with pytest.raises(ConfigError, match="not both"):
        BM3DConfig(sigma=0.1, stabilise=True)


@needs_bm3d
def test_a_budget_that_is_not_used_is_told_and_the_report_takes_crops(tmp_path, monkeypatch):
    monkeypatch.setattr("pairfree.training.report.CROP_PX", 40)
    y = noisy(scene(64), 0.0, 100.0).astype(np.float32)
    job = resolve(Order([y], method="bm3d", minutes=3))
    assert job.warnings == ("method bm3d learns nothing: the budget is not used",)
    pf.train([y, y[:40, :40]], method="bm3d", out=tmp_path / "run")
    text = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "noisy image 0, its middle" in text
    assert "none, nothing is trained" in text
    assert "noisy image 1, its middle" not in text
