"""Pixelwise noise has the moments that its docstrings promise, on every level and for every sample."""

import numpy as np
import pytest
from scipy.stats import kurtosis

from pairfree.errors import ConfigError, InputError
from pairfree.noise.model import NoiseModel, Range
from pairfree.noise.pixelwise import Gaussian, MixtureA, MixtureB, Poisson, Speckle
from pairfree.noise.simulate import add_noise

SIDE = 400
LEVELS = (0.0, 10.0, 100.0, 255.0)
CASES = [
    (Gaussian(25.0), lambda x: 625.0),
    (Gaussian(0.0), lambda x: 0.0),
    (Poisson(30.0), lambda x: 255.0 * x / 30.0),
    (Poisson(5.0), lambda x: 255.0 * x / 5.0),
    (Speckle(0.1), lambda x: 0.1 * x**2),
    (MixtureA(15.0), lambda x: 0.7 * 0.01 + 0.2 * 1.0 + 0.1 * 15.0**2 / 3),
    (MixtureB(50.0), lambda x: 0.7 * 225.0 + 0.2 * 625.0 + 0.1 * 50.0**2 / 3),
]


def assert_moments(noise: np.ndarray, mean: float, variance: float) -> None:
    """Mean and variance of independent values within 5 standard errors.

    The variance's error follows from the kurtosis.
    """
    if variance == 0.0:
        np.testing.assert_allclose(noise, mean, atol=1e-9)
        return
    assert abs(noise.mean() - mean) < 5 * np.sqrt(variance / noise.size)
    spread = np.sqrt((kurtosis(noise, axis=None) + 2.0) / noise.size)
    assert abs(noise.var() / variance - 1.0) < 5 * spread


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("model", "variance"), CASES, ids=lambda case: str(case)[:24])
def test_mean_and_variance_are_those_of_the_docstring(model, variance, level):
    noisy = model.add(np.full((SIDE, SIDE), level), np.random.default_rng(1))
    assert_moments(noisy, level, variance(level))


@pytest.mark.parametrize(("model", "variance"), CASES, ids=lambda case: str(case)[:24])
def test_pixels_and_samples_are_independent(model, variance):
    noise = model.add(np.full((SIDE, SIDE, 2), 100.0), np.random.default_rng(2)) - 100.0
    if variance(100.0) == 0.0:
        return
    unit = noise / noise.std()
    pairs = (unit[..., 0] * unit[..., 1], unit[1:] * unit[:-1], unit[:, 1:] * unit[:, :-1])
    for products in pairs:
        assert abs(products.mean()) < 5 * products.std() / np.sqrt(products.size)


def test_poisson_values_are_whole_photons():
    noisy = Poisson(30.0).add(np.full((20, 20), 77.0), np.random.default_rng(3))
    photons = noisy * 30.0 / 255.0
    np.testing.assert_allclose(photons, np.rint(photons), atol=1e-9)


def test_poisson_counts_negative_pixels_as_black():
    assert (Poisson().add(np.full((5, 5), -3.0), np.random.default_rng(3)) == 0.0).all()


def test_speckle_deviation_is_bounded_by_the_half_width():
    noisy = Speckle(0.2).add(np.full((300, 300), 100.0), np.random.default_rng(4))
    relative = np.abs(noisy / 100.0 - 1.0)
    assert relative.max() <= np.sqrt(0.6)
    assert relative.max() > 0.99 * np.sqrt(0.6)


@pytest.mark.parametrize("model", [MixtureA(25.0), MixtureB(50.0)])
def test_mixture_shares_are_70_20_10(model):
    """The distribution function at a few points equals the mixture's."""
    from scipy.stats import norm, uniform

    noise = model.add(np.zeros((SIDE, SIDE)), np.random.default_rng(5))
    sigmas = (0.1, 1.0) if isinstance(model, MixtureA) else (15.0, 25.0)
    for point in (-20.0, -1.0, -0.05, 0.02, 0.5, 12.0, 24.0):
        uniform_share = uniform.cdf(point, -model.s, 2 * model.s)
        expected = (
            0.7 * norm.cdf(point, 0, sigmas[0])
            + 0.2 * norm.cdf(point, 0, sigmas[1])
            + 0.1 * uniform_share
        )
        assert abs((noise <= point).mean() - expected) < 5 * np.sqrt(0.25 / noise.size)


def test_nothing_is_clipped_and_the_clean_image_stays():
    clean = np.full((64, 64), 250, np.uint8)
    noisy, _ = add_noise(clean, Gaussian(50.0), np.random.default_rng(6))
    assert noisy.dtype == np.float64
    assert noisy.max() > 255.0
    assert (clean == 250).all()


@pytest.mark.parametrize(
    "clean",
    [
        np.zeros(5),
        np.zeros((0, 4)),
        np.full((2, 2), np.nan),
        np.zeros((2, 2), complex),
        np.zeros((1, 1, 1, 1)),
    ],
)
def test_impossible_images_are_refused(clean):
    with pytest.raises(InputError):
        Gaussian().add(clean, np.random.default_rng(0))


def test_a_range_must_be_drawn_before_it_is_added():
    model: NoiseModel = Gaussian(Range(0.0, 50.0))
    with pytest.raises(ConfigError, match="drawn"):
        model.add(np.zeros((2, 2)), np.random.default_rng(0))
