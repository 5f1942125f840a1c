"""Generated noise against the noise it imitates: deviation, distribution, correlation, no seams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from pairfree.errors import InputError
from pairfree.measure.copula import (
    TABLE_END,
    Copula,
    autocovariance,
    fit_copula,
    normal_copula,
    power_lost_with_planes,
)
from pairfree.measure.noise_patches import measure_shared, subtract_planes
from pairfree.nets.gan2gan import CopulaNoise
from pairfree.noise.simulate import add_noise

SPECS = ("gaussian:sigma=25", "correlated:sigma=25", "mixture-a:s=25", "mixture-b:s=50")


def fields(spec: str, count: int = 150, side: int = 96) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack(
        [add_noise(np.full((side, side), 128.0), spec, rng)[0] - 128 for _ in range(count)]
    )[:, None].astype(np.float32)


def patches(spec: str, count: int = 150, side: int = 96) -> np.ndarray:
    return subtract_planes(fields(spec, count, side)).astype(np.float32)


def noise_of(copula: Copula) -> CopulaNoise:
    return CopulaNoise(copula.filters, copula.table, TABLE_END)


def sample(copula, shape=(8, 256, 256)) -> np.ndarray:
    return noise_of(copula).sample(shape, torch.Generator().manual_seed(1)).numpy()


@pytest.mark.parametrize("spec", SPECS)
def test_deviation_distribution_and_correlation_come_back(spec):
    given, made = patches(spec), sample(fit_copula(patches(spec)))
    assert abs(made.mean()) < 0.03 * given.std()
    assert made.std() == pytest.approx(fields(spec).std(), rel=0.03)
    assert stats.kurtosis(made.ravel()[::7]) == pytest.approx(
        stats.kurtosis(given.ravel()[::7]), rel=0.15, abs=0.1
    )
    assert stats.ks_2samp(made.ravel()[::50], given.ravel()[::50]).statistic < 0.02
    ours, theirs = (
        autocovariance(field.astype(np.float64), 6)[0, 0] / field.var()
        for field in (made, fields(spec))
    )
    assert np.abs(ours - theirs).max() < 0.02


def test_lags_beyond_the_neighbours_come_back():
    """GAN2GAN's correlated noise: faint, but 15 px far. Without it, flat areas would show no clouds."""
    given, made = (
        fields("correlated:sigma=25", 400),
        sample(fit_copula(patches("correlated:sigma=25", 400)), (24, 256, 256)),
    )
    ours, theirs = (
        autocovariance(field.astype(np.float64), 12)[0, 0] / field.var() for field in (made, given)
    )
    assert np.abs(ours - theirs).max() < 0.02
    assert ours[12, 4] == pytest.approx(theirs[12, 4], rel=0.25)


def test_what_planes_take_off_is_added():
    """Of white noise, three parts of P^2.

    Of noise that reaches far, much more: the covariance comes back at every lag.
    """
    assert power_lost_with_planes(np.ones((1, 1, 1, 1)), 96)[0, 0, 0, 0] == pytest.approx(
        3 / (96**2 - 3)
    )
    whole = fields("correlated:sigma=25", 1200)
    found = autocovariance(subtract_planes(whole).astype(np.float64), 16)
    mended = (found + power_lost_with_planes(found, 96))[0, 0, 16]
    expected = autocovariance(whole.astype(np.float64), 16)[0, 0, 16]
    assert np.abs(found[0, 0, 16] - expected).max() > 0.008 * whole.var()
    assert np.abs(mended - expected).max() < 0.004 * whole.var()


def test_a_blank_channel_gets_no_noise():
    given = np.concatenate(
        [patches("gaussian:sigma=25", 40), np.zeros((40, 1, 96, 96), np.float32)], axis=1
    )
    made = sample(fit_copula(given), (4, 128, 128))
    assert not made[:, 1].any()
    assert made[:, 0].std() == pytest.approx(25, rel=0.03)


def test_autocovariance_is_that_of_literal_pairs():
    fields = np.random.default_rng(0).normal(size=(3, 2, 20, 20))
    found = autocovariance(fields, 4)
    for dy, dx in ((0, 0), (2, 3), (-4, 1), (0, -2)):
        first = fields[:, :, max(0, -dy) : 20 - max(0, dy), max(0, -dx) : 20 - max(0, dx)]
        second = fields[:, :, max(0, dy) : 20 + min(0, dy), max(0, dx) : 20 + min(0, dx)]
        expected = np.einsum("naij,nbij->ab", first, second) / (3 * (20 - abs(dy)) * (20 - abs(dx)))
        np.testing.assert_allclose(found[:, :, 4 + dy, 4 + dx], expected, atol=1e-12)


def test_channels_share_noise_as_given():
    rng = np.random.default_rng(0)
    common, own = rng.normal(0, 10, (100, 1, 64, 64)), rng.normal(0, 5, (100, 2, 64, 64))
    given = (np.concatenate([common, 0.5 * common], 1) + own).astype(np.float32)
    made = sample(fit_copula(given))
    expected = np.corrcoef(given[:, 0].ravel(), given[:, 1].ravel())[0, 1]
    assert np.corrcoef(made[:, 0].ravel(), made[:, 1].ravel())[0, 1] == pytest.approx(
        expected, abs=0.03
    )
    np.testing.assert_allclose(made.std((0, 2, 3)), given.std((0, 2, 3)), rtol=0.03)


@pytest.mark.parametrize("shift", [(0, 1), (2, 0), (0, -3)])
def test_noise_that_moves_from_channel_to_channel_moves_the_same_way(shift):
    """The second channel is the first one, moved: so it is in what is made."""
    first = np.random.default_rng(0).normal(0, 10, (100, 1, 64, 64))
    made = sample(
        fit_copula(np.concatenate([first, np.roll(first, shift, (2, 3))], 1).astype(np.float32))
    )
    there, opposite = (
        np.roll(made[:, 0], (sign * shift[0], sign * shift[1]), (1, 2)) for sign in (1, -1)
    )
    assert np.corrcoef(there.ravel(), made[:, 1].ravel())[0, 1] > 0.8
    assert abs(np.corrcoef(opposite.ravel(), made[:, 1].ravel())[0, 1]) < 0.2


def test_a_part_of_a_larger_field_is_the_field():
    """No size, no seams: the same white noise gives the same noise, whatever the window."""
    noise = noise_of(fit_copula(patches("correlated:sigma=25", 40)))
    z = torch.randn(1, 1, 232, 200, generator=torch.Generator().manual_seed(0))
    whole = noise(z)
    part = noise(z[:, :, 40:140, 30:130])
    side = 100 - 2 * noise.reach
    torch.testing.assert_close(part, whole[:, :, 40 : 40 + side, 30 : 30 + side])


def test_white_noise_needs_no_wide_filter():
    assert noise_of(fit_copula(patches("gaussian:sigma=25"))).reach <= 2
    assert noise_of(fit_copula(patches("correlated:sigma=25"))).reach >= 8


def test_noise_repeats_nowhere():
    field = sample(fit_copula(patches("gaussian:sigma=25", 40)), (1, 512, 512))[0, 0]
    transform = np.fft.rfft2(field - field.mean())
    correlation = np.fft.irfft2(np.abs(transform) ** 2) / field.size / field.var()
    correlation[0, 0] = 0
    assert np.abs(correlation).max() < 6 / 512


def test_patches_without_noise_or_too_small_are_refused():
    with pytest.raises(InputError, match="no noise at all"):
        fit_copula(np.zeros((4, 1, 96, 96), np.float32))
    with pytest.raises(InputError, match="too small"):
        fit_copula(patches("gaussian:sigma=25", 4, 32))


def test_the_filter_is_a_plain_convolution():
    rng = np.random.default_rng(0)
    filters, table = rng.normal(size=(2, 2, 7, 7)), np.tile(np.linspace(-9, 9, 19), (2, 1))
    z = torch.from_numpy(rng.normal(size=(3, 2, 20, 17)) / 50).float()
    expected = torch.nn.functional.conv2d(z, torch.from_numpy(filters).float().flip((-2, -1)))
    torch.testing.assert_close(CopulaNoise(filters, table, 9.0)(z), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("blurred", "expected"), [(False, 0.0), (True, 0.5)])
@pytest.mark.parametrize("curved", [0.0, 3.0])
def test_shared_noise_is_told_from_what_curves_slowly_under_it(blurred, expected, curved):
    """Shading of three times the noise's deviation, a period of four patches, counts as none."""
    rng = np.random.default_rng(0)
    white = rng.normal(size=(20, 1, 96, 97))
    noise = (white[..., 1:] + white[..., :-1]) / 2**0.5 if blurred else white[..., 1:]
    shade = curved * np.sin(2.0 * np.pi * np.arange(96) / 384.0)[:, None]
    pixels = subtract_planes(noise + shade).astype(np.float32)
    assert measure_shared(pixels) == pytest.approx(expected, abs=0.02)


def test_patches_without_noise_share_none():
    assert measure_shared(np.zeros((2, 1, 96, 96), np.float32)) == 0.0


def test_normal_noise_keeps_the_correlation_and_takes_the_deviation():
    filters = np.array([[[[0.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 0.0]]]])
    made = normal_copula(filters, 3.0)
    assert made.deviations == pytest.approx([3.0], rel=1e-3)
    again = made.normal(0.5)
    assert again.deviations == pytest.approx([0.5], rel=1e-3)
    assert np.array_equal(again.filters, filters)


def test_a_blank_channel_stays_without_noise():
    filters = np.eye(2)[:, :, None, None]
    rising = np.linspace(-1.0, 1.0, 513)
    made = Copula(filters, np.stack([rising, 0.0 * rising])).normal(2.0)
    assert made.deviations == pytest.approx([2.0, 0.0], rel=1e-3)
