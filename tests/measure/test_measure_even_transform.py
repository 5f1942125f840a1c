"""The transform that makes noise even: its level, its way back, and laws at the edge of sense."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pairfree.measure.even_transform import EvenTransform
from pairfree.measure.variance_line import PoissonGaussian, stabilise


def draw(counts: float, gain: float, read: float, size: int = 200_000) -> np.ndarray:
    rng = np.random.default_rng(int(1000 * counts))
    return gain * (rng.poisson(counts, size) + read * rng.standard_normal(size))


@pytest.mark.parametrize("read", [0.0, 0.5, 3.0, 40.0])
@pytest.mark.parametrize("counts", [0.0, 0.7, 6.0, 55.0, 80.0, 3000.0])
def test_the_mean_of_even_values_comes_back_as_the_mean(counts, read):
    gain = 2.5
    transform = EvenTransform(PoissonGaussian(gain, (gain * read) ** 2))
    noisy = draw(counts, gain, read)
    back = float(transform.back(transform.forward(noisy).mean()))
    error = gain * math.sqrt((counts + read**2) / len(noisy))
    assert back == pytest.approx(gain * counts, abs=5.0 * error + 0.002 * gain * (1.0 + counts))


@pytest.mark.parametrize(("counts", "read"), [(8.0, 0.0), (50.0, 1.0), (60.0, 5.0), (900.0, 20.0)])
def test_noise_is_even_where_there_is_enough_of_it(counts, read):
    transform = EvenTransform(PoissonGaussian(1.0, read**2))
    assert transform.forward(draw(counts, 1.0, read)).std() == pytest.approx(1.0, abs=0.06)


def test_a_black_level_is_read_off_a_floor_below_zero():
    transform = EvenTransform(PoissonGaussian(2.0, -200.0))
    noisy = 100.0 + draw(20.0, 2.0, 0.0)
    assert float(transform.back(transform.forward(noisy).mean())) == pytest.approx(140.0, rel=0.002)


def test_a_black_level_below_zero_is_read_off_the_darkest_areas():
    """Gain 2, offset -500: the variance at intensity 0 is 1,000, and none of it is the camera's."""
    transform = EvenTransform(PoissonGaussian(2.0, 1000.0), darkest=-499.0)
    noisy = -500.0 + draw(20.0, 2.0, 0.0)
    even = transform.forward(noisy)
    assert float(transform.back(even.mean())) == pytest.approx(-460.0, abs=0.5)
    assert even.std() == pytest.approx(1.0, abs=0.06)


def test_far_above_the_table_it_is_the_root_of_anscombe():
    noise = PoissonGaussian(3.0, 9.0)
    bright = np.linspace(500.0, 60_000.0, 50)
    assert np.allclose(EvenTransform(noise).forward(bright), stabilise(bright, noise))


def test_back_rises_without_a_jump_from_below_the_table_to_beyond_it():
    transform = EvenTransform(PoissonGaussian(1.0, 0.3))
    back = transform.back(np.linspace(-4.0, 40.0, 4001))
    steps = np.diff(back)
    assert (steps > 0).all()
    assert (steps[1:] < 1.5 * steps[:-1] + 1e-3).all()


@pytest.mark.parametrize("share", [1e8, 1e-12, -1e8])
@pytest.mark.parametrize("gain", [1e-6, 1.0, 1e6])
def test_laws_at_the_edge_of_sense_stay_finite_and_small(gain, share):
    transform = EvenTransform(PoissonGaussian(gain, share * gain**2))
    values = np.array([-1e5, 0.0, 1.0, 6e4])
    even = transform.forward(values)
    assert np.isfinite(even).all()
    assert np.isfinite(transform.back(even)).all()
    assert transform._table[0].nbytes < 1e5
