"""Correlated, film and charge noise: moments over draws, closed-form correlation, what is shared."""

import numpy as np
import pytest

from pairfree.noise.model import NoiseModel
from pairfree.noise.structured import (
    ETA,
    Charge,
    Correlated,
    Film,
    correlate,
    padded_shape,
    smooth_field,
    standard_islands,
    standard_streaks,
)

C = (1.0 - ETA) / np.sqrt(255.0)


def closed_form(dy: int, dx: int) -> float:
    """The covariance that Correlated's docstring states, for sigma = 1."""

    def in_window(y: int, x: int) -> bool:
        return -8 <= y <= 7 and -8 <= x <= 7

    overlap = max(16 - abs(dy), 0) * max(16 - abs(dx), 0)
    own = (ETA - C) ** 2 if (dy, dx) == (0, 0) else 0.0
    return C**2 * overlap + C * (ETA - C) * (in_window(dy, dx) + in_window(-dy, -dx)) + own


def test_correlated_noise_equals_the_equation_written_as_a_loop():
    white = np.random.default_rng(0).standard_normal(padded_shape((5, 7)))
    slow = np.zeros((5, 7))
    for row in range(5):
        for column in range(7):
            neighbours = white[row : row + 16, column : column + 16].copy()
            own, neighbours[8, 8] = neighbours[8, 8], 0.0
            slow[row, column] = own / np.sqrt(2) + (
                1 - 1 / np.sqrt(2)
            ) * neighbours.sum() / np.sqrt(255)
    np.testing.assert_allclose(correlate(white), slow, atol=1e-12)


def test_correlated_variance_is_the_documented_one_not_sigma_squared():
    assert closed_form(0, 0) == pytest.approx(ETA**2 + (1 - ETA) ** 2)
    assert closed_form(0, 1) / closed_form(0, 0) == pytest.approx(0.181, abs=5e-4)


def test_correlated_noise_has_the_closed_form_covariance():
    """Spread of each lag's estimate over independent draws gives its own standard error."""
    lags = [
        (0, 0),
        (0, 1),
        (1, 0),
        (3, 2),
        (-3, 2),
        (0, 7),
        (8, 0),
        (8, 8),
        (12, 5),
        (15, 15),
        (20, 0),
    ]
    estimates = np.zeros((24, len(lags)))
    for draw in range(len(estimates)):
        noise = Correlated(25.0).add(np.full((160, 160), 50.0), np.random.default_rng(draw)) - 50.0
        core = noise[20:-20, 20:-20]
        for index, (dy, dx) in enumerate(lags):
            estimates[draw, index] = np.mean(core * noise[20 + dy : 140 + dy, 20 + dx : 140 + dx])
    error = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
    expected = np.array([625.0 * closed_form(*lag) for lag in lags])
    assert (np.abs(estimates.mean(axis=0) - expected) < 5 * error).all()


def test_correlated_samples_are_independent():
    noise = Correlated().add(np.zeros((200, 200, 2)), np.random.default_rng(1))
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("scale_px", [0.3, 0.6, 2.7, 9.0, 40.0])
def test_smooth_field_is_standard_normal_with_the_documented_correlation(scale_px):
    """Each pixel over many draws of a small field; correlation at one and two scales' distance."""
    draws = 2500
    lags = [lag for lag in {round(scale_px), round(2 * scale_px)} if lag > 0]
    width = 1 + max(lags, default=1)
    fields = np.stack(
        [
            smooth_field((3, width), (scale_px, scale_px), np.random.default_rng(draw))
            for draw in range(draws)
        ]
    )
    assert (np.abs(fields.mean(axis=0)) < 5 / np.sqrt(draws)).all()
    assert (np.abs(fields.var(axis=0) - 1.0) < 5 * np.sqrt(2 / draws)).all()
    for lag in lags:
        # Below a pixel the lattice of pixels is coarser than the kernel: the formula holds from scale 1 on.
        if scale_px >= 1.0:
            correlation = np.mean(fields[:, 1, 0] * fields[:, 1, lag])
            assert abs(correlation - np.exp(-(lag**2) / (4 * scale_px**2))) < 5 / np.sqrt(draws)


def test_islands_and_streaks_have_zero_mean_and_unit_variance():
    normal = np.random.default_rng(2).standard_normal(1_000_000)
    for values in (standard_islands(normal, 1.0), standard_streaks(normal, 1.0)):
        assert abs(values.mean()) < 5e-3
        error = np.std((values - values.mean()) ** 2) / 1e3
        assert abs(values.var() - 1.0) < 5 * error


def over_draws(model: NoiseModel, level: float, draws: int = 1500) -> np.ndarray:
    """Values of a few distant pixels of a flat image over many draws: (draws, pixels)."""
    clean = np.full((12, 12), level)
    return np.stack(
        [model.add(clean, np.random.default_rng(draw))[::11, ::11].ravel() for draw in range(draws)]
    )


def assert_moments(values: np.ndarray, mean: float, variance: float) -> None:
    """Each pixel's mean and variance over draws within 5 standard errors."""
    count = len(values)
    assert (np.abs(values.mean(axis=0) - mean) <= 5 * np.sqrt(variance / count)).all()
    squares = (values - values.mean(axis=0)) ** 2
    assert (
        np.abs(squares.mean(axis=0) - variance) <= 5 * squares.std(axis=0) / np.sqrt(count)
    ).all()


@pytest.mark.parametrize("level", [0.0, 40.0, 200.0])
def test_film_loses_the_documented_brightness_and_scales_with_the_signal(level):
    strength = 0.15**2 * 3
    assert_moments(
        over_draws(Film(), level), 0.65 * level, 0.65**2 * (np.exp(strength) - 1) * level**2
    )


@pytest.mark.parametrize("level", [0.0, 200.0])
def test_charge_adds_the_documented_mean_and_variance_at_any_level(level):
    assert_moments(over_draws(Charge(), level), level + 22.0, 22.0**2 + 16.0**2 + 8.0**2)


def test_film_multiplies_and_charge_adds():
    clean = np.random.default_rng(3).uniform(10, 250, (40, 50))
    film = [Film().add(scale * clean, np.random.default_rng(4)) for scale in (1.0, 2.0)]
    np.testing.assert_allclose(film[1], 2.0 * film[0])
    charge = [
        Charge().add(scale * clean, np.random.default_rng(4)) - scale * clean
        for scale in (1.0, 2.0)
    ]
    np.testing.assert_allclose(charge[0], charge[1], atol=1e-10)


def test_all_samples_share_one_plate_and_one_specimen():
    clean = np.stack([np.full((30, 20), level) for level in (50.0, 100.0, 200.0)], axis=2)
    transmission = Film().add(clean, np.random.default_rng(5)) / clean
    np.testing.assert_allclose(transmission, transmission[..., :1].repeat(3, axis=2))
    charge = Charge().add(clean, np.random.default_rng(5)) - clean
    np.testing.assert_allclose(charge, charge[..., :1].repeat(3, axis=2), atol=1e-10)


def test_charge_streaks_run_along_the_scan_lines():
    noise = Charge(blob=0.0, grain=0.0).add(np.zeros((300, 300)), np.random.default_rng(6)) - 22.0
    along, across = (noise[:, 8:] * noise[:, :-8]).mean(), (noise[8:] * noise[:-8]).mean()
    assert along > 0.8 * noise.var()
    assert abs(across) < 0.2 * noise.var()
