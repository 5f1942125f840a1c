"""Risk without truth: the estimate against the error that is known, and corrections of known faults."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from pairfree.examination.probe import probe_denoiser
from pairfree.examination.risk import Correction, Risk, estimate_risk, pool_risks
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


def judge(denoise, seed: int = 1) -> Risk:
    rng = np.random.default_rng(seed + 50)
    return estimate_risk(
        probe_denoiser(plane_by_plane(denoise), noisy(seed)[None], [WHITE], rng), 0.0
    )


def judge_again(denoise, draws: int) -> Risk:
    """The mean over several draws of what is added."""
    rng = np.random.default_rng(51)
    probes = [
        probe_denoiser(plane_by_plane(denoise), noisy(1)[None], [WHITE], rng) for _ in range(draws)
    ]
    return pool_risks([estimate_risk(probe, 0.0) for probe in probes], 0.0)


def plane_by_plane(denoise):
    """(C, H, W) -> same."""
    return lambda planes: np.stack([denoise(plane) for plane in planes])


def found_in(risk: Risk) -> dict[str, Correction]:
    """Corrections that are no chance and gain something."""
    found = {}
    for one in risk.corrections:
        if abs(one.significance) > 4.0 and risk.worth_db(one) > 0.1:
            found[one.name] = one
    return found


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
    """Mean over draws of the noise against the mean true error."""
    found, true = [], []
    for seed in range(8):
        found.append(judge(denoise, seed).mse)
        true.append(float(np.mean((denoise(noisy(seed)) - scene()) ** 2)))
    assert np.mean(found) == pytest.approx(np.mean(true), rel=0.06, abs=4.0)


def test_the_truth_has_no_error_and_needs_no_correction():
    risk = judge(lambda y: scene())
    assert abs(risk.mse) < 4.0 * risk.mse_se
    assert found_in(risk) == {}


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
    found = found_in(risk)
    assert direction in found
    assert np.sign(found[direction].share) == sign


def test_the_gain_is_what_the_correction_gains():
    risk = judge_again(brightness, 2)
    one = next(one for one in risk.corrections if one.name == "brightness")
    assert one.share == pytest.approx(-6.0, abs=0.5)
    assert one.gain == pytest.approx(36.0, rel=0.2)


def test_dose_is_the_number_of_frames_that_the_result_is_worth():
    """The mean of four frames has a quarter of the error of one."""
    rng = np.random.default_rng(4)
    others = [scene() + SIGMA * rng.standard_normal((SIDE, SIDE)) for _ in range(3)]
    risk = judge_again(lambda y: (y + sum(others)) / 4.0, 4)
    dose, low, high = risk.dose
    assert dose == pytest.approx(4.0, rel=0.15)
    assert low < dose < high


def test_noise_that_neighbours_share_is_met_by_its_spectrum():
    white = np.random.default_rng(7).standard_normal((SIDE + 32, SIDE + 32))
    shared = gaussian_filter(white, 1.0)[16:-16, 16:-16]
    shared *= SIGMA / shared.std()
    frequencies = np.fft.fftfreq(32)
    power = np.exp(-4.0 * np.pi**2 * (frequencies[:, None] ** 2 + frequencies**2))
    law = NoiseLaw(PoissonGaussian(0.0, SIGMA**2), True, spectrum=power / power.mean())
    rng = np.random.default_rng(8)
    probe = probe_denoiser(plane_by_plane(smooth), (scene() + shared)[None], [law], rng)
    risk = estimate_risk(probe, 0.0)
    true = float(np.mean((smooth(scene() + shared) - scene()) ** 2))
    assert risk.mse == pytest.approx(true, rel=0.12)


def test_channels_have_laws_of_their_own():
    louder = NoiseLaw(PoissonGaussian(0.0, 4.0 * SIGMA**2), False)
    rng = np.random.default_rng(5)
    planes = np.stack([noisy(1), scene() + 2.0 * SIGMA * rng.standard_normal((SIDE, SIDE))])
    probe = probe_denoiser(plane_by_plane(smooth), planes, [WHITE, louder], rng)
    risk = estimate_risk(probe, 0.0)
    true = float(np.mean((plane_by_plane(smooth)(planes) - scene()) ** 2))
    assert risk.mse == pytest.approx(true, rel=0.15)
    assert risk.variance == pytest.approx(2.5 * SIGMA**2)


def test_the_error_of_the_law_is_carried():
    rng = np.random.default_rng(51)
    probe = probe_denoiser(plane_by_plane(smooth), noisy(1)[None], [WHITE], rng)
    sure, unsure = estimate_risk(probe, 0.0), estimate_risk(probe, 0.1)
    assert sure.mse == unsure.mse
    assert unsure.mse_se == pytest.approx(np.hypot(sure.mse_se, 0.1 * SIGMA**2), rel=1e-6)
    for one, other in zip(sure.corrections, unsure.corrections, strict=True):
        assert other.share_se >= one.share_se


def test_a_law_that_is_too_loud_moves_a_share_by_its_law_part():
    probes = []
    for variance in (SIGMA**2, 1.02 * SIGMA**2):
        rng = np.random.default_rng(51)
        law = NoiseLaw(PoissonGaussian(0.0, variance), False)
        probes.append(probe_denoiser(plane_by_plane(smooth), noisy(1)[None], [law], rng))
    first, second = (
        {one.name: one for one in estimate_risk(probe, 0.0).corrections} for probe in probes
    )
    moved = first["removed"].share - second["removed"].share
    assert moved == pytest.approx(0.02 * first["removed"].law_part, rel=0.1)


def test_pooled_images_count_by_their_pixels():
    one, other = judge(smooth, 1), judge(smooth, 2)
    pooled = pool_risks([one, other], 0.0)
    assert pooled.mse == pytest.approx((one.mse + other.mse) / 2.0)
    assert pooled.chance_se == pytest.approx(np.hypot(one.chance_se, other.chance_se) / 2.0)
    assert pooled.pixels == 2 * SIDE**2


def test_the_truth_written_anew_in_numpy():
    """Equation by equation, of one image and one direction."""
    rng = np.random.default_rng(51)
    probe = probe_denoiser(plane_by_plane(smooth), noisy(1)[None], [WHITE], rng)
    y, z = probe.noisy[0], probe.disturbance.noise[0]
    above, below = smooth(y + 0.15 * z), smooth(y - 0.15 * z)
    mse = np.mean(((above - y) ** 2 + (below - y) ** 2) / 2 - SIGMA**2 + (above - below) * z / 0.15)
    up, down = above - above.mean(), below - below.mean()
    top = (up * (y - above) + down * (y - below)) / 2 - (up - down) * z / 0.3
    share = np.sum(top) / np.sum((up**2 + down**2) / 2)
    risk = estimate_risk(probe, 0.0)
    found = next(one for one in risk.corrections if one.name == "contrast")
    assert risk.mse == pytest.approx(mse, rel=1e-9)
    assert found.share == pytest.approx(share, rel=1e-9)
