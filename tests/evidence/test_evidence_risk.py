"""Risk without truth: the estimate against the error that is known, and corrections of known faults."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from pairfree.evidence.risk import estimate_risk
from pairfree.measure.noise_law import NoiseLaw
from pairfree.measure.variance_line import PoissonGaussian

SIDE, SIGMA = 256, 20.0
WHITE = NoiseLaw(PoissonGaussian(0.0, SIGMA**2), False)


def scene() -> np.ndarray:
    rng = np.random.default_rng(0)
    rough = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 3.0)
    return 100.0 + 60.0 * rough / rough.std()


def noisy(seed: int = 1) -> np.ndarray:
    return scene() + SIGMA * np.random.default_rng(seed + 1000).standard_normal((SIDE, SIDE))


def smooth(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image, 1.5)


def judge(denoise, seed: int = 1, draws: int = 1):
    rng = np.random.default_rng(seed + 50)
    return estimate_risk(plane_by_plane(denoise), noisy(seed)[None], [WHITE], rng, 0.0, draws)


def plane_by_plane(denoise):
    """(C, H, W) -> same."""
    return lambda planes: np.stack([denoise(plane) for plane in planes])


@pytest.mark.parametrize(
    ("denoise", "name"),
    [
        (lambda y: y, "nothing is done"),
        (smooth, "smoothed"),
        (lambda y: 0.0 * y + 100.0, "flat"),
        (lambda y: np.sign(y - 100.0) * np.abs(smooth(y) - 100.0) + 100.0, "not linear"),
    ],
)
def test_the_estimate_is_unbiased(denoise, name):
    """Mean over draws of the noise against the mean true error, for inputs that are noisier by alpha^2."""
    found, true = [], []
    for seed in range(8):
        found.append(judge(denoise, seed).mse)
        true.append(float(np.mean((denoise(noisy(seed)) - scene()) ** 2)))
    assert np.mean(found) == pytest.approx(np.mean(true), rel=0.12, abs=4.0)


def test_the_truth_has_no_error_and_needs_no_correction():
    risk = judge(lambda y: scene(), draws=2)
    assert abs(risk.mse) < 4.0 * risk.mse_se
    assert risk.worthwhile() == []


def test_errors_are_those_of_repetition():
    values = [judge(smooth, seed) for seed in range(16)]
    scatter = np.std([one.mse for one in values])
    assert scatter == pytest.approx(np.mean([one.mse_se for one in values]), rel=0.5)


def brightness(y: np.ndarray) -> np.ndarray:
    return smooth(y) + 6.0


def sharpened(y: np.ndarray) -> np.ndarray:
    good = smooth(y)
    return good + 3.0 * (good - gaussian_filter(good, 1.0))


def checked(y: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(y.shape)
    return smooth(y) + 3.0 * ((rows + columns) % 2 * 2 - 1)


@pytest.mark.parametrize(
    ("denoise", "direction", "sign"),
    [
        (brightness, "brightness", -1),
        (lambda y: 100.0 + 0.8 * (smooth(y) - 100.0), "contrast", 1),
        (sharpened, "fine detail", -1),
        (lambda y: gaussian_filter(y, 3.0), "middle detail", 1),
        (lambda y: 0.5 * y + 0.5 * smooth(y), "removed", -1),
        (checked, "checkerboard", 1),
        (lambda y: shift(smooth(y), (1, 0), mode="nearest"), "shift along columns", 1),
        (lambda y: shift(smooth(y), (0, 1), mode="nearest"), "shift along rows", 1),
    ],
)
def test_a_fault_is_found_along_its_direction(denoise, direction, sign):
    risk = judge(denoise)
    found = {one.name: one for one in risk.worthwhile()}
    assert direction in found
    assert np.sign(found[direction].share) == sign


def test_the_gain_is_what_the_correction_gains():
    risk = judge(brightness, draws=2)
    one = next(one for one in risk.corrections if one.name == "brightness")
    assert one.share == pytest.approx(-6.0, abs=0.5)
    assert one.gain == pytest.approx(36.0, rel=0.2)


def test_dose_is_the_number_of_frames_that_the_result_is_worth():
    """The mean of four frames has a quarter of the error of one."""
    rng = np.random.default_rng(4)
    others = [scene() + SIGMA * rng.standard_normal((SIDE, SIDE)) for _ in range(3)]
    risk = judge(lambda y: (y + sum(others)) / 4.0, draws=4)
    assert risk.dose == pytest.approx(4.0, rel=0.15)


def test_noise_that_neighbours_share_is_met_by_its_spectrum():
    white = np.random.default_rng(7).standard_normal((SIDE + 32, SIDE + 32))
    shared = gaussian_filter(white, 1.0)[16:-16, 16:-16]
    shared *= SIGMA / shared.std()
    frequencies = np.fft.fftfreq(32)
    power = np.exp(-4.0 * np.pi**2 * (frequencies[:, None] ** 2 + frequencies**2))
    law = NoiseLaw(PoissonGaussian(0.0, SIGMA**2), True, spectrum=power / power.mean())
    rng = np.random.default_rng(8)
    risk = estimate_risk(plane_by_plane(smooth), (scene() + shared)[None], [law], rng, 0.0, 2)
    true = float(np.mean((smooth(scene() + shared) - scene()) ** 2))
    assert risk.mse == pytest.approx(true, rel=0.12)


def test_channels_have_laws_of_their_own():
    louder = NoiseLaw(PoissonGaussian(0.0, 4.0 * SIGMA**2), False)
    rng = np.random.default_rng(5)
    planes = np.stack([noisy(1), scene() + 2.0 * SIGMA * rng.standard_normal((SIDE, SIDE))])
    risk = estimate_risk(plane_by_plane(smooth), planes, [WHITE, louder], rng, 0.0, 2)
    true = float(np.mean((plane_by_plane(smooth)(planes) - scene()) ** 2))
    assert risk.mse == pytest.approx(true, rel=0.15)
    assert risk.variance == pytest.approx(2.5 * SIGMA**2)
