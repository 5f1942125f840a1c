"""Residual evidence: an oracle scores what the noise model promises, and each fault is named."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter

from pairfree.errors import InputError
from pairfree.evidence.interpretation import (
    find_outliers,
    interpret,
    warn_of_invention,
    write_sentences,
)
from pairfree.evidence.noref import Evidence, pool, residual_evidence
from pairfree.evidence.numbers import format_number
from pairfree.evidence.residual import white_band
from pairfree.evidence.rows import worst_level
from pairfree.evidence.sites import site_map

SIDE = 256


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Cells with membranes and vesicles on a slow background: grey levels 20 to 230."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIDE, :SIDE]
    image = 90 + 40 * np.sin(x / 60) * np.cos(y / 45)
    for cy, cx, radius, level in zip(
        *rng.uniform(0, SIDE, (2, 40)), rng.uniform(5, 25, 40), rng.uniform(-50, 60, 40)
    ):
        image += level * (np.hypot(y - cy, x - cx) < radius)
    return np.clip(gaussian_filter(image, 0.8), 20, 230)


def noisy(scene: np.ndarray, sigma: float = 15.0, seed: int = 0) -> np.ndarray:
    return scene + np.random.default_rng(seed).normal(0, sigma, scene.shape)


def test_oracle_in_white_noise_has_its_expected_values(scene: np.ndarray) -> None:
    e = residual_evidence(noisy(scene), scene)
    n = scene.size
    assert abs(e.mean) < 5 * e.mean_se
    assert e.mean_se == pytest.approx(15 / math.sqrt(n), rel=0.3)
    assert e.std == pytest.approx(15, abs=5 * 15 / math.sqrt(2 * n))
    assert max(map(abs, e.autocorr_x + e.autocorr_y)) < 5 / math.sqrt(n)
    assert abs(e.corr_output) < 5 * e.corr_output_se
    assert e.corr_output_se == pytest.approx(1 / math.sqrt(n), rel=0.3)
    assert abs(e.gain) < 5 * e.gain_se
    assert abs(e.offset + e.gain * scene.mean() - 225) < 5 * 225 * math.sqrt(2 / n)
    assert abs(e.edge_power - 1) < 5 * e.edge_power_se
    assert abs(e.detail_support - 1) < 5 * e.detail_support_se
    assert e.detail_share < 25 / n
    assert e.tested_sites > 50
    assert (e.unsupported_sites, e.removed_sites) == (0, 0)
    assert worst_level(interpret(e)) == "ok", write_sentences(e)


def test_poisson_gaussian_gain_and_offset_are_found(scene: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    y = 4.0 * rng.poisson(scene / 4.0) + rng.normal(0, 6, scene.shape)
    e = residual_evidence(y, scene)
    assert abs(e.gain - 4) < 5 * e.gain_se
    assert abs(e.offset - 36) < 5 * e.offset_se
    assert e.gain_se < 0.2
    assert abs(e.edge_power - 1) < 5 * e.edge_power_se
    assert worst_level(interpret(e)) == "ok", write_sentences(e)


def test_correlated_noise_shows_its_own_autocorrelation(scene: np.ndarray) -> None:
    kernel = np.array([[0, 0, 0], [0.0, 1.0, 0.5], [0, 0, 0]])
    noise = convolve(np.random.default_rng(2).normal(0, 12, scene.shape), kernel, mode="wrap")
    e = residual_evidence(scene + noise, scene)
    tolerance = 5 / math.sqrt(scene.size)
    assert e.autocorr_x[0] == pytest.approx(0.5 / 1.25, abs=tolerance)
    assert max(map(abs, e.autocorr_x[1:] + e.autocorr_y)) < tolerance * 1.5
    assert any("correlated" in text for text in write_sentences(e))
    assert e.unsupported_sites == 0


def test_blur_is_flagged(scene: np.ndarray) -> None:
    y = noisy(scene)
    e = residual_evidence(y, gaussian_filter(y, 2))
    assert e.detail_support > 1.5
    assert e.edge_power > 1 + 5 * e.edge_power_se
    assert e.corr_output > 5 * e.corr_output_se
    assert any(text.startswith("Warning: ") and "softened" in text for text in write_sentences(e))
    assert any(text.startswith("Note: residual power at edges") for text in write_sentences(e))


@pytest.mark.parametrize("kind", ["white", "counts", "correlated"])
def test_removed_power_of_an_oracle_is_even(kind: str, scene: np.ndarray) -> None:
    rng = np.random.default_rng(7)
    image = {
        "white": lambda: noisy(scene),
        "counts": lambda: 4 * rng.poisson(scene / 4),
        "correlated": lambda: scene + 40 * gaussian_filter(rng.standard_normal(scene.shape), 1),
    }[kind]()
    e = residual_evidence(image, scene)
    assert e.uneven_power == pytest.approx(e.uneven_power_chance, rel=0.1)
    assert not any("uneven" in f.text for f in interpret(e))


def test_texture_that_was_taken_for_noise_is_flagged(scene: np.ndarray) -> None:
    """As fine and as strong as noise, in a part of the image: sites of 8 x 8 px do not tell."""
    texture = np.where(
        np.hypot(*(np.mgrid[:SIDE, :SIDE] - SIDE / 2)) < 40,
        np.random.default_rng(3).normal(0, 30, scene.shape),
        0.0,
    )
    e = residual_evidence(noisy(scene) + texture, scene)
    assert e.removed_sites <= 1
    (found,) = [f for f in interpret(e) if "uneven" in f.text]
    assert found.level == "warning"
    assert "Texture was taken for noise" in found.text
    pooled = pool([e, residual_evidence(noisy(scene, seed=1), scene)])
    assert pooled.uneven_power == pytest.approx(
        (e.uneven_power + e.uneven_power_chance) / 2, rel=0.1
    )
    assert math.isnan(residual_evidence(noisy(scene)[:32, :32], scene[:32, :32]).uneven_power)


@pytest.mark.parametrize(
    ("kind", "left"), [("white", 0.0), ("white", 0.9), ("correlated", 0.5), ("correlated", 0.95)]
)
def test_noise_that_is_left_is_told(kind: str, left: float, scene: np.ndarray) -> None:
    white = np.random.default_rng(11).standard_normal(scene.shape)
    noise = 15 * white if kind == "white" else 40 * gaussian_filter(white, 1)
    e = residual_evidence(scene + noise, scene + left * noise + 0.1 * white)
    assert left * 0.95 - 0.02 < e.noise_left < left + 0.1
    (found,) = [f for f in interpret(e) if "fine contrast" in f.text and "flattest" in f.text]
    assert (found.level, found.text.startswith("Noise may be left")) == (
        ("note", True) if left > 0.85 else ("ok", False)
    )
    assert pool([e, e]).noise_left == pytest.approx(e.noise_left)


def test_noise_left_needs_blocks_with_noise(scene: np.ndarray) -> None:
    small, dark = slice(0, 64), np.where(np.arange(SIDE) < SIDE / 2, 0.0, 1.0)
    assert math.isnan(residual_evidence(noisy(scene)[small, small], scene[small, small]).noise_left)
    y, f = dark * noisy(scene), dark * (noisy(scene) * 0.9 + scene * 0.1)
    assert residual_evidence(y, f).noise_left > 0.85  # blocks without noise say nothing
    assert math.isnan(
        pool([residual_evidence(noisy(scene)[small, small], scene[small, small])]).noise_left
    )


def test_sharpening_is_flagged(scene: np.ndarray) -> None:
    e = residual_evidence(noisy(scene), scene + 2 * (scene - gaussian_filter(scene, 2)))
    assert e.detail_support < 0.8
    assert any(
        "sharpened or invented" in text for text in write_sentences(e) if text.startswith("Warning")
    )


def test_invented_vesicles_are_found_where_they_are(scene: np.ndarray) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    spots = [(60, 70), (130, 200), (210, 40)]
    invented = scene + sum(40 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18) for cy, cx in spots)
    e, sites = residual_evidence(noisy(scene), invented), site_map(noisy(scene), invented)
    assert e.unsupported_sites == len(sites.unsupported) >= 3
    for top, left, height, width in sites.unsupported:
        assert (
            min(math.hypot(top + height / 2 - cy, left + width / 2 - cx) for cy, cx in spots) < 16
        )
    for cy, cx in spots:
        assert any(math.hypot(b[0] + 4 - cy, b[1] + 4 - cx) < 12 for b in sites.unsupported)
    assert write_sentences(e)[0].startswith("Warning: ")
    assert "do not support" in write_sentences(e)[0]


def test_removed_vesicles_are_found(scene: np.ndarray) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    specimen = scene + 50 * np.exp(-((y - 100) ** 2 + (x - 150) ** 2) / 18)
    sites = site_map(noisy(specimen), scene)
    assert sites.removed
    assert all(math.hypot(b[0] + 4 - 100, b[1] + 4 - 150) < 16 for b in sites.removed)


def test_oracle_raises_no_site_in_many_images(scene: np.ndarray) -> None:
    found = [site_map(noisy(scene, seed=seed), scene) for seed in range(20)]
    assert not any(s.unsupported or s.removed for s in found)


def test_what_is_made_up_is_told_and_nothing_else(scene: np.ndarray) -> None:
    """Texture that is laid over the truth; the truth itself, and a blur, make up nothing."""
    image = noisy(scene)
    texture = gaussian_filter(np.random.default_rng(5).normal(0, 1, scene.shape), 1.5)
    invented = warn_of_invention(residual_evidence(image, scene + 20 * texture / texture.std()))
    assert any("opposes" in line for line in invented)
    assert any("invented" in line for line in invented)
    for harmless in (scene, gaussian_filter(image, 2.0), image):
        assert warn_of_invention(residual_evidence(image, harmless)) == []


def test_shift_of_brightness_and_identity_are_named(scene: np.ndarray) -> None:
    y = noisy(scene)
    assert any(
        t.startswith("Warning: brightness")
        for t in write_sentences(residual_evidence(y, scene - 5))
    )
    assert write_sentences(residual_evidence(y, y)) == [
        "Warning: the output equals the input: nothing was removed."
    ]


def test_pool_of_tiles_agrees_with_the_whole_and_nests(scene: np.ndarray) -> None:
    y = noisy(scene)
    tiles = [
        residual_evidence(y[a : a + 128, b : b + 128], scene[a : a + 128, b : b + 128])
        for a in (0, 128)
        for b in (0, 128)
    ]
    whole, pooled = residual_evidence(y, scene), pool(tiles)
    assert (pooled.n_images, pooled.n_pixels) == (4, whole.n_pixels)
    assert pooled.mean == pytest.approx(whole.mean)
    assert pooled.std == pytest.approx(whole.std, rel=1e-3)
    assert pooled.autocorr_x == pytest.approx(whole.autocorr_x, abs=0.01)
    assert pooled.detail_support == pytest.approx(whole.detail_support, abs=0.03)
    nested = pool([pool(tiles[:2]), pool(tiles[2:])])
    assert (nested.mean, nested.std, nested.gain) == pytest.approx(
        (pooled.mean, pooled.std, pooled.gain)
    )
    assert pool(tiles[:1]).edge_power == pytest.approx(tiles[0].edge_power)


def test_a_flat_or_tiny_image_gives_numbers_and_sentences() -> None:
    rng = np.random.default_rng(3)
    for shape in ((8, 8), (9, 33), (64, 64)):
        e = residual_evidence(rng.normal(100, 5, shape), np.full(shape, 100.0))
        assert math.isnan(e.gain)
        assert math.isnan(e.detail_support)
        assert all(text.strip() for text in write_sentences(e))
        assert isinstance(pool([e, e]), Evidence)
    assert residual_evidence(np.zeros((8, 8)), np.zeros((8, 8))).removed_share == 0


def test_outliers_are_named_although_the_pool_hides_them(scene: np.ndarray) -> None:
    y = noisy(scene)
    good, bad = residual_evidence(y, scene), residual_evidence(y, gaussian_filter(y, 2))
    assert [name for name, _ in find_outliers([("a.tif", good), ("b.tif", bad)])] == ["b.tif"]


def test_unusable_pairs_are_refused() -> None:
    a = np.zeros((16, 16))
    for bad, message in [
        (np.zeros((16, 15)), "shape"),
        (np.full((16, 16), np.inf), "NaN or infinite"),
    ]:
        with pytest.raises(InputError, match=message):
            residual_evidence(a, bad)
    with pytest.raises(InputError, match="one by one"):
        residual_evidence(np.zeros((16, 16, 3)), np.zeros((16, 16, 3)))
    with pytest.raises(InputError, match="at least 8 px"):
        residual_evidence(np.zeros((4, 16)), np.zeros((4, 16)))
    with pytest.raises(InputError, match="no evidence"):
        pool([])


def test_evidence_is_plain_numbers(scene: np.ndarray) -> None:
    for value in dataclasses.asdict(residual_evidence(noisy(scene), scene)).values():
        assert all(
            type(v) in (int, float) for v in (value if isinstance(value, tuple) else (value,))
        )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.01234, "−0.0123"),
        (27.93, "27.9"),
        (12345.6, "12346"),
        (1e-9, "1.00e−09"),
        (float("nan"), "not defined"),
    ],
)
def test_numbers_read_well(value: float, text: str) -> None:
    assert format_number(value) == text


def test_white_band_holds_95_per_cent_of_white_noise() -> None:
    rng = np.random.default_rng(4)
    lags = [
        residual_evidence(rng.normal(0, 1, (48, 48)), np.zeros((48, 48))).autocorr_x[0]
        for _ in range(200)
    ]
    assert 0.9 < np.mean(np.abs(lags) < white_band(48 * 48)) < 0.99
