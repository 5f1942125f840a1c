"""Smooth patches: the rules against literal implementations, noise that comes out against what went in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pairfree.errors import ConfigError, InputError
from pairfree.measure.local_moments import haar, window_moments
from pairfree.measure.noise_doubts import list_doubts
from pairfree.measure.smooth_areas import (
    GCBD_MEAN,
    GCBD_SUB_PX,
    GCBD_VARIANCE,
    _pick_one_level,
    extract_noise,
    find_uniform,
    unevenness,
)
from pairfree.noise.simulate import add_noise


def scene(seed: int, shape: tuple[int, int] = (240, 320)) -> np.ndarray:
    """Half slow shading, half texture; (1, H, W) grey levels."""
    rng = np.random.default_rng(seed)
    shading = ndimage.gaussian_filter(rng.standard_normal(shape), 80)
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5)
    texture[:, : shape[1] // 2] = 0
    return (128 + 10 * shading / shading.std() + 40 * texture / texture.std())[None]


def noisy(count: int, spec: str, shape: tuple[int, int] = (240, 320)) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [add_noise(scene(seed, shape)[0], spec, rng)[0][None] for seed in range(count)]


# -- against literal implementations -------------------------------------------------------------------------


def without_plane(image: np.ndarray) -> np.ndarray:
    """(H, W) minus its least squares plane."""
    rows, columns = np.indices(image.shape)
    design = np.stack([np.ones(image.size), rows.ravel(), columns.ravel()], axis=1)
    return image - (design @ np.linalg.lstsq(design, image.ravel(), rcond=None)[0]).reshape(
        image.shape
    )


def literal_unevenness(patch: np.ndarray) -> float:
    """Eq. (4) on one patch (H, W), coefficient by coefficient; the plane is taken off the band of means."""
    bands = []
    for signs in ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1)):
        block = [patch[0::2, 0::2], patch[0::2, 1::2], patch[1::2, 0::2], patch[1::2, 1::2]]
        band = sum(sign * part for sign, part in zip(signs, block, strict=True)) / 2
        bands.append(np.std(without_plane(band) if not bands else band))
    mean = sum(bands) / 4
    return sum(abs(one - mean) for one in bands) / 4 / mean


def test_the_wavelet_rule_is_equation_4():
    images = noisy(2, "gaussian:sigma=20", (110, 131))
    found = extract_noise(images, patch_px=64, stride_px=6, threshold=0.5)
    smooth = 0
    places = list(itertools.product(range(0, 110 - 64 + 1, 6), range(0, 131 - 64 + 1, 6)))
    for image in images:
        for top, left in places:
            patch = image[0, top : top + 64, left : left + 64]
            smooth += literal_unevenness(patch) <= 0.5
    assert len(found.places) == smooth
    for (index, top, left), value in zip(found.places.tolist(), found.unevenness, strict=True):
        assert value == pytest.approx(
            literal_unevenness(images[index][0, top : top + 64, left : left + 64]), rel=1e-6
        )
    assert found.unevenness.tolist() == sorted(found.unevenness)
    assert found.threshold == found.unevenness[-1]


def test_gcbds_rule_is_equation_3():
    image = noisy(1, "gaussian:sigma=12", (130, 200))[0]
    good = find_uniform(image, 64, 8)
    for row, top in enumerate(range(0, 130 - 64 + 1, 8)):
        for column, left in enumerate(range(0, 200 - 64 + 1, 8)):
            patch = image[0, top : top + 64, left : left + 64]
            parts = [
                patch[i : i + 16, j : j + 16]
                for i in range(0, 64, GCBD_SUB_PX)
                for j in range(0, 64, GCBD_SUB_PX)
            ]
            passes = all(
                abs(part.mean() - patch.mean()) <= GCBD_MEAN * patch.mean()
                and abs(part.var() - patch.var()) <= GCBD_VARIANCE * patch.var()
                for part in parts
            )
            assert good[row, column] == passes
    assert 0 < good.mean() < 1


@given(
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    side=st.integers(1, 8),
    stride=st.integers(1, 5),
    offset=st.sampled_from([0.0, 1e6]),
)
@settings(max_examples=60, deadline=None)
def test_window_moments_are_those_of_each_window(height, width, side, stride, offset):
    values = np.random.default_rng(height * width).normal(offset, 3.0, (2, height, width))
    mean, variance = window_moments(values, side, stride)
    for i, top in enumerate(range(0, height - side + 1, stride)):
        for j, left in enumerate(range(0, width - side + 1, stride)):
            window = values[:, top : top + side, left : left + side]
            np.testing.assert_allclose(mean[:, i, j], window.mean((1, 2)), rtol=1e-9)
            np.testing.assert_allclose(variance[:, i, j], window.var((1, 2)), atol=1e-7)


def test_the_haar_transform_keeps_the_energy():
    image = np.random.default_rng(0).normal(size=(2, 9, 12))
    bands = haar(image)
    assert bands.shape == (2, 4, 4, 6)
    assert np.sum(bands**2) == pytest.approx(np.sum(image[:, :8] ** 2))


def test_unevenness_does_not_depend_on_the_level_and_is_zero_in_proportion():
    gains = np.array([2.0, 1.0, 0.5, 0.5])
    deviations = np.random.default_rng(0).uniform(1, 2, (5, 4))
    np.testing.assert_allclose(unevenness(7 * deviations, gains), unevenness(deviations, gains))
    assert unevenness(3 * gains, gains) == pytest.approx(0)
    assert np.isinf(unevenness(np.zeros(4), gains))


# -- what comes out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "deviation"),
    [("gaussian:sigma=25", 25.0), ("gaussian:sigma=8", 8.0), ("correlated:sigma=25", 19.13)],
)
def test_the_deviation_of_the_noise_comes_out(spec, deviation):
    """Within 3 %, though half of each image is texture.

    Proportions of the sub-bands tell white noise from correlated.
    """
    found = extract_noise(noisy(6, spec))
    assert np.median(found.deviations) == pytest.approx(deviation, rel=0.03)
    assert abs(found.pixels.mean(axis=(2, 3))).max() < 1e-3
    assert (found.places[:, 2] < 160).mean() > 0.95
    assert (found.gains[0] > 1.1) == spec.startswith("correlated")


def test_of_patches_that_pass_those_of_the_noises_own_level_are_taken():
    """Faint structure raises the level of a patch by a few per cent, which evenness does not see.

    One in three here has it.
    """
    rng = np.random.default_rng(0)
    levels = 25.0 * rng.normal(1.0, 0.008, 900)
    structured = rng.random(900) < 0.3
    levels[structured] *= 1.06
    kept = _pick_one_level(levels, 600)
    assert not structured[kept].any()
    assert len(kept) > 0.95 * np.count_nonzero(~structured[:600])
    assert len(_pick_one_level(np.linspace(1.0, 9.0, 300), 300)) == 64


def test_the_wavelet_rule_is_not_taken_in_by_repeating_patterns():
    """Fine stripes look alike in all sub-patches, so eq.

    (3) takes them for noise (the paper's Figure 2 b).
    """
    rng = np.random.default_rng(0)
    stripes = np.zeros((240, 320))
    stripes[:, 160:] = 20 * np.sin(2 * np.pi * np.arange(160) / 8)
    images = [(128 + stripes + rng.normal(0, 25, stripes.shape))[None] for _ in range(4)]
    wavelet, gcbd = (extract_noise(images, rule=rule).deviations for rule in ("wavelet", "gcbd"))
    assert np.median(wavelet) == pytest.approx(25, rel=0.02)
    assert gcbd.std() > wavelet.std()


def test_patches_are_what_lies_at_their_places():
    images = noisy(2, "gaussian:sigma=25")
    found = extract_noise(images, most=100)
    assert len(found.pixels) == 100
    for patch, (index, top, left) in zip(found.pixels, found.places.tolist(), strict=True):
        cut = images[index][0, top : top + 96, left : left + 96]
        np.testing.assert_allclose(patch[0], without_plane(cut), atol=1e-3)


@pytest.mark.parametrize("rule", ["wavelet", "gcbd"])
def test_what_passed_is_described(rule):
    images = noisy(4, "gaussian:sigma=8")
    passed = extract_noise(images, rule=rule).passed
    for (index, top, left), mean, deviation in list(
        zip(passed.places.tolist(), passed.means, passed.deviations, strict=True)
    )[::50]:
        cut = images[index][0, top : top + 96, left : left + 96]
        assert mean == pytest.approx(cut.mean())
        assert deviation == pytest.approx(without_plane(cut).std(), rel=1e-5)


def test_colour_images_give_colour_noise():
    rng = np.random.default_rng(0)
    images = [
        np.concatenate([scene(seed)] * 3)
        + rng.normal(0, [[[5.0]], [[10.0]], [[20.0]]], (3, 240, 320))
        for seed in range(4)
    ]
    found = extract_noise(images)
    np.testing.assert_allclose(
        np.median(found.pixels.std(axis=(2, 3)), axis=0), [5, 10, 20], rtol=0.04
    )


def test_the_same_images_give_the_same_patches():
    images = noisy(2, "gaussian:sigma=25")
    np.testing.assert_array_equal(extract_noise(images).pixels, extract_noise(images).pixels)


def test_images_without_a_smooth_area_are_refused():
    rng = np.random.default_rng(0)
    stripes = []
    for _ in range(3):
        rows = 100 * np.sign(np.sin(np.arange(200) / rng.uniform(2, 4)))
        stripes.append((rows + rng.normal(0, 5, (200, 200)))[None])
    with pytest.raises(InputError, match="no smooth area"):
        extract_noise(stripes)
    with pytest.raises(InputError, match="no smooth area"):
        extract_noise(stripes, rule="gcbd")


def test_a_blank_channel_does_not_hide_the_noise_of_the_others():
    images = [
        np.concatenate([image, np.full_like(image, 7.0)]) for image in noisy(3, "gaussian:sigma=25")
    ]
    found = extract_noise(images)
    assert np.median(found.pixels[:, 0].std(axis=(1, 2))) == pytest.approx(25, rel=0.03)
    assert not found.pixels[:, 1].any()


def test_strips_of_a_large_image_give_the_same_patches(monkeypatch):
    images = noisy(2, "gaussian:sigma=8", (300, 260))
    whole = [extract_noise(images, rule=rule) for rule in ("wavelet", "gcbd")]
    monkeypatch.setattr("pairfree.measure.candidate_grid.STRIP_PX", 8000)
    for one, other in zip(
        whole, [extract_noise(images, rule=rule) for rule in ("wavelet", "gcbd")], strict=True
    ):
        np.testing.assert_array_equal(one.places, other.places)
        np.testing.assert_allclose(one.unevenness, other.unevenness, rtol=1e-9)


def test_patches_of_many_channels_are_fewer(monkeypatch):
    monkeypatch.setattr("pairfree.measure.smooth_areas.MOST_BYTES", 4 * 96**2 * 90)
    assert len(extract_noise(noisy(2, "gaussian:sigma=25")).pixels) == 90


def test_images_smaller_than_a_patch_are_passed_over_or_refused():
    images = noisy(2, "gaussian:sigma=25")
    found = extract_noise([images[0][:, :50], images[1]])
    assert set(found.places[:, 0]) == {1}
    with pytest.raises(InputError, match="no image is as large as a noise patch"):
        extract_noise([image[:, :50] for image in images])
    with pytest.raises(
        InputError, match=r"have 9 places .* larger or more images, or smaller patches"
    ):
        extract_noise([images[0][:, :100, :100]])


@pytest.mark.parametrize(
    "wrong",
    [{"rule": "wave"}, {"patch_px": 33}, {"patch_px": 16}, {"patch_px": 40, "rule": "gcbd"}],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        extract_noise(noisy(1, "gaussian:sigma=25"), **wrong)


# -- doubts --------------------------------------------------------------------------------------------------


def test_white_and_correlated_noise_leave_no_doubt():
    for spec in ("gaussian:sigma=25", "correlated:sigma=25"):
        assert list_doubts(extract_noise(noisy(4, spec))) == []


def test_texture_that_looks_like_noise_is_told():
    """Texture all over the images passes for correlated noise: only the user can tell them apart."""
    rng = np.random.default_rng(0)
    textures = [ndimage.gaussian_filter(rng.standard_normal((240, 320)), 1.5) for _ in range(6)]
    (line,) = list_doubts(
        extract_noise(
            [(128 + 20 * one / one.std() + rng.normal(0, 10, one.shape))[None] for one in textures]
        )
    )
    assert "strongly correlated" in line
    assert "texture" in line


def test_a_single_small_spot_is_told():
    (line,) = list_doubts(
        extract_noise([128 + np.random.default_rng(0).normal(0, 25, (1, 120, 120))])
    )
    assert "same few smooth spots" in line


def test_noise_that_follows_the_brightness_is_told():
    (line,) = list_doubts(extract_noise(noisy(6, "poisson:lam=20")))
    assert "depends on the brightness" in line
    assert "iddp" in line


def test_images_of_two_noise_levels_are_told():
    rng = np.random.default_rng(0)
    images = [scene(0) + rng.normal(0, 10 if seed % 2 else 14, (1, 240, 320)) for seed in range(6)]
    (line,) = list_doubts(extract_noise(images, threshold=0.1))
    assert "differ in level" in line


def test_noise_that_may_shift_the_brightness_is_told():
    """One-sided noise: of an exponential distribution."""
    rng = np.random.default_rng(0)
    (line,) = list_doubts(
        extract_noise([scene(seed) + rng.exponential(12, (1, 240, 320)) for seed in range(4)])
    )
    assert "lopsided (skewness +" in line
    assert "iscl" in line
