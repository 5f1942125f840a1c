"""Noise power and detectability against what noise and lesions of known statistics must give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pairfree.errors import InputError
from pairfree.evidence.ct import (
    detectability,
    flat_regions,
    laguerre_gauss,
    noise_power,
    squared_index,
)

SIDE = 33


def white(count: int, std: float, seed: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, side, side)) * std


def disc(radius_px: float, side: int = SIDE) -> np.ndarray:
    along = np.arange(side) - (side - 1) / 2
    return (along[:, None] ** 2 + along[None, :] ** 2 <= radius_px**2).astype(np.float64)


# -- noise power spectrum ------------------------------------------------------------------------------------


def test_white_noise_has_a_flat_spectrum_of_variance_times_pixel_area():
    found = noise_power(white(200, 12.0, 0), pixel_mm=0.7)
    assert np.allclose(found.power, 12.0**2 * 0.7**2, rtol=0.05)
    assert found.std == pytest.approx(12.0, rel=0.01)
    assert found.frequency[0] == pytest.approx(1 / (SIDE * 0.7))
    assert found.frequency[-1] <= 0.5 / 0.7


def test_what_all_draws_share_is_no_noise():
    scene = 300 * disc(9.0)
    assert noise_power(white(5, 3.0, 1) + scene).std == pytest.approx(
        noise_power(white(5, 3.0, 1)).std
    )


def test_few_draws_estimate_the_deviation_without_bias():
    found = [noise_power(white(2, 5.0, seed)).std ** 2 for seed in range(100)]
    assert np.mean(found) == pytest.approx(25.0, abs=5 * np.std(found) / 10)


def test_blotches_have_a_lower_mean_frequency_than_white_noise():
    fine = white(20, 1.0, 2, side=64)
    coarse = (fine + np.roll(fine, 1, 1) + np.roll(fine, 1, 2) + np.roll(fine, (1, 1), (1, 2))) / 4
    assert noise_power(coarse).mean_frequency < 0.75 * noise_power(fine).mean_frequency


def test_identical_draws_have_no_noise_and_no_frequency():
    found = noise_power(np.ones((3, 8, 8)))
    assert found.std == 0
    assert math.isnan(found.mean_frequency)


@pytest.mark.parametrize(
    "draws",
    [np.zeros((1, 8, 8)), np.zeros((4, 8, 9)), np.zeros((8, 8)), np.full((3, 8, 8), np.nan)],
)
def test_draws_that_are_no_stack_of_squares_are_refused(draws):
    with pytest.raises(InputError, match="draws"):
        noise_power(draws)


# -- detectability -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_squared_index_of_few_draws_has_no_bias(shift):
    rng = np.random.default_rng(0)
    mix = np.array([[1.0, 0.5, 0.0], [0.0, 2.0, 0.3], [0.0, 0.0, 0.1]])
    mean = shift * np.array([1.0, -1.0, 0.05])
    trials = 2000
    found = [
        squared_index(rng.standard_normal((10, 3)) @ mix + mean, rng.standard_normal((12, 3)) @ mix)
        for _ in range(trials)
    ]
    expected = mean @ np.linalg.solve(mix.T @ mix, mean)
    assert np.mean(found) == pytest.approx(expected, abs=5 * np.std(found) / math.sqrt(trials))


def test_standard_error_is_the_scatter_over_draws():
    lesion = 10.0 * disc(4.0)
    found = [
        detectability(white(10, 20.0, 2 * t) + lesion, white(10, 20.0, 2 * t + 1), 4.0)
        for t in range(300)
    ]
    assert np.std([one.index for one in found]) == pytest.approx(
        np.median([one.se for one in found]), rel=0.25
    )


def test_area_under_the_curve_counts_the_right_choices_of_a_reader():
    found = detectability(white(2000, 20.0, 5) + 6 * disc(4.0), white(2000, 20.0, 6), 4.0)
    responses = np.random.default_rng(0).standard_normal((2, 200_000))
    assert found.area == pytest.approx(
        np.mean(responses[0] + found.index > responses[1]), abs=0.005
    )


def test_the_level_of_the_background_is_no_sign_of_a_lesion():
    lesion = 8 * disc(4.0)
    plain = detectability(white(10, 20.0, 1) + lesion, white(10, 20.0, 2), 4.0)
    shifted = detectability(white(10, 20.0, 1) + lesion + 500, white(10, 20.0, 2), 4.0)
    assert shifted.index == pytest.approx(plain.index)


def test_linear_change_of_contrast_leaves_the_index():
    lesion = 8 * disc(4.0)
    images = white(10, 20.0, 1) + lesion, white(10, 20.0, 2)
    assert detectability(0.1 * images[0], 0.1 * images[1], 4.0).index == pytest.approx(
        detectability(*images, 4.0).index
    )


@pytest.mark.parametrize("radius_px", [2.0, 5.0, 8.0])
def test_channels_hold_most_of_a_disc(radius_px):
    lesion = disc(radius_px, 65) - disc(radius_px, 65).mean()
    basis = np.linalg.qr(laguerre_gauss(65, radius_px).reshape(3, -1).T)[0]
    assert np.sum((basis.T @ lesion.ravel()) ** 2) / np.sum(lesion**2) > 0.84


def test_too_few_draws_and_regions_of_two_sizes_are_refused():
    with pytest.raises(InputError, match="at least 9"):
        detectability(white(4, 1.0, 0), white(4, 1.0, 1), 4.0)
    with pytest.raises(InputError, match="differ in size"):
        detectability(white(6, 1.0, 0), white(6, 1.0, 1, side=31), 4.0)


# -- flat regions --------------------------------------------------------------------------------------------


def test_flat_regions_are_the_flattest_squares_within_the_range():
    image = np.full((64, 70), -1000.0)
    image[:32, :64] = white(1, 1.0, 0, 64)[0][:32] + 50
    image[:16, :16] += 30 * np.arange(16)
    mask = flat_regions(image, -160, 240, side_px=16, share=0.5)
    assert mask.sum() == 4 * 16 * 16  # of the seven squares of tissue that stay in range
    assert not mask[:16, :16].any()
    assert not mask[32:].any()
    assert not mask[:, 64:].any()


def test_an_image_without_such_a_square_is_refused():
    with pytest.raises(InputError, match="no square"):
        flat_regions(np.full((32, 32), -1000.0), -160, 240)
