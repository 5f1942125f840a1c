"""Gain and floor of noise from smooth patches: known ones come back, and even noise has none.

Correlation does not matter.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pairfree.measure.smooth_areas import extract_noise
from pairfree.measure.variance_in_patches import Growth, measure_growth


def measured(
    gain: float, sigma: float, correlated: bool, channels: int = 1, textured: bool = False
) -> Growth:
    """Of four scenes from 10 to 200, with noise of variance gain x + sigma^2.

    Half of each is smooth, and half is textured where asked for.
    """
    rng, images = np.random.default_rng(1), []
    for _ in range(4):
        scene = 10 + 190 * np.linspace(0, 1, 300)[:, None] ** 2 * np.ones((300, 300))
        if textured:
            scene[:, 150:] += 15 * ndimage.gaussian_filter(rng.normal(size=(300, 150)), 1.5) / 0.19
        white = rng.normal(size=(channels, 300, 301))
        noise = (
            (white[..., 1:] + 0.5 * white[..., :-1]) / 1.25**0.5 if correlated else white[..., 1:]
        )
        spread = np.sqrt(np.maximum(gain * scene + sigma**2, 0))
        images.append(
            (scene + noise * spread * np.arange(1, channels + 1)[:, None, None]).astype(np.float32)
        )
    return measure_growth(images, extract_noise(images, 48))


@pytest.mark.parametrize("textured", [False, True])
@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize(("gain", "sigma"), [(2.0, 5.0), (5.0, 0.0), (0.5, 10.0)])
def test_gain_and_floor_come_back(gain, sigma, correlated, textured):
    found = measured(gain, sigma, correlated, textured=textured)
    assert found.noise[0].gain == pytest.approx(gain, rel=0.15)
    assert gain * 100 + sigma**2 == pytest.approx(
        found.noise[0].gain * 100 + found.noise[0].floor, rel=0.1
    )
    assert 5 < found.dark[0] < found.typical[0] < 200


@pytest.mark.parametrize("correlated", [False, True])
def test_even_noise_has_no_gain_and_its_variance_for_floor(correlated):
    found = measured(0.0, 12.0, correlated)
    assert found.noise[0].gain == 0
    assert found.noise[0].floor == pytest.approx(144, rel=0.1)


def test_each_channel_has_its_own():
    """Noise of twice the deviation has four times the gain."""
    found = measured(1.0, 4.0, False, channels=2)
    assert [one.gain for one in found.noise] == [
        pytest.approx(1.0, rel=0.15),
        pytest.approx(4.0, rel=0.15),
    ]
