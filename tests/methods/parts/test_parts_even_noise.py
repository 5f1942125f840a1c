"""Noise that grows with the brightness becomes even, and denoised values come back without bias.

Anscombe; Makitalo and Foi.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pairfree.methods.parts.even_noise import EvenNoise

GAIN, FLOOR = np.array([8.5 / 255, 0.0]), np.array([0.001, 0.01])


@pytest.fixture
def even() -> EvenNoise:
    made = EvenNoise(2)
    made.set_variance(GAIN, FLOOR, np.array([0.05, 0.05]), np.array([0.3, 0.3]), (-0.2, 1.2))
    return made


def test_it_is_the_identity_until_it_is_set_and_for_even_channels(even):
    x = torch.randn(3, 2, 8, 8)
    untouched = EvenNoise(2)
    assert not untouched.is_on
    assert untouched(x) is x
    assert untouched.back(x) is x
    assert torch.equal(even(x)[:, 1], x[:, 1])
    assert torch.equal(even.back(x)[:, 1], x[:, 1])
    assert not torch.equal(even(x)[:, 0], x[:, 0])


def test_the_equation_and_its_units_at_the_middle(even):
    """Against NumPy; value and slope at m are m and 1; straight on and rising below."""
    x = np.linspace(0.05, 1.2, 301)
    v = GAIN[0] * x + FLOOR[0]
    middle = GAIN[0] * 0.3 + FLOOR[0]
    expected = 0.3 + 2 * np.sqrt(middle) * (np.sqrt(v) - np.sqrt(middle)) / GAIN[0]
    both = torch.from_numpy(np.stack([x, x]))[None, :, None].double()
    np.testing.assert_allclose(even(both)[0, 0, 0].numpy(), expected, rtol=1e-6, atol=1e-6)
    around = even(
        torch.tensor([0.3 - 1e-3, 0.3, 0.3 + 1e-3], dtype=torch.float64).expand(1, 2, 1, 3)
    )[0, 0, 0]
    assert float(around[1]) == pytest.approx(0.3, abs=1e-7)
    assert float(around[2] - around[0]) == pytest.approx(2e-3, rel=1e-4)
    below = even(torch.linspace(-3, 0.05, 100).expand(1, 2, 1, 100))[0, 0, 0]
    assert (below.diff() > 0).all()


@pytest.mark.parametrize("brightness", [0.05, 0.1, 0.3, 0.6, 1.0])
def test_level_and_mean(even, brightness):
    """Poisson counts and normal noise of these gain and floor have one level and no bias.

    The level holds within 5 % (15 % at three counts and below), and the mean of many comes back
    within 0.2 % of the range; the plain inverse would be gain / 4 = 0.8 % too dark.
    """
    rng = np.random.default_rng(0)
    counts = rng.poisson(brightness / GAIN[0], 400_000) * GAIN[0] + rng.normal(
        0, np.sqrt(FLOOR[0]), 400_000
    )
    z = torch.from_numpy(np.stack([counts, counts]))[None, :, None]
    made = even(z)[0, 0, 0]
    assert float(made.std()) == pytest.approx(
        float(np.sqrt(GAIN[0] * 0.3 + FLOOR[0])), rel=0.05 if brightness > 0.1 else 0.15
    )
    mean = made.mean().expand(1, 2, 1, 1).float()
    assert float(even.back(mean)[0, 0]) == pytest.approx(brightness, abs=0.002)


@pytest.mark.parametrize("brightest", [1.2, 20.0, 200.0])
@pytest.mark.parametrize("darkest", [-0.2, -5.0])
def test_pixels_far_beyond_all_others_take_no_precision(brightest, darkest):
    """Hot and dead pixels: E[f(x + N)] of normal noise comes back as x, within 0.1 % of the range."""
    made = EvenNoise(2)
    made.set_variance(
        GAIN, FLOOR, np.array([0.05, 0.05]), np.array([0.3, 0.3]), (darkest, brightest)
    )
    for x in (0.06, 0.1, 0.3, 0.6, 1.0):
        noise = np.sqrt(GAIN[0] * x + FLOOR[0]) * np.random.default_rng(1).standard_normal(500_000)
        z = torch.from_numpy(x + np.concatenate([noise, -noise])).expand(1, 2, 1, 1_000_000)
        mean = made(z)[0, 0, 0].mean().expand(1, 2, 1, 1).float()
        assert float(made.back(mean)[0, 0]) == pytest.approx(x, abs=0.001)


def test_the_way_back_goes_straight_on_beyond_the_images(even):
    found = even.back(torch.tensor([-40.0, -39.0, 40.0, 41.0]).expand(1, 2, 1, 4))[0, 0, 0]
    assert (found.diff() > 0).all()
    assert torch.isfinite(found).all()


def test_it_is_saved_and_loaded(even):
    other = EvenNoise(2)
    other.load_state_dict(even.state_dict())
    x = torch.rand(2, 2, 5, 5)
    assert other.is_on
    assert torch.equal(other(x), even(x))
    assert torch.equal(other.back(x), even.back(x))
