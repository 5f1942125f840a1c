"""Low-dose CT: the detector's moments, the geometry, and how the reconstructed noise follows the dose."""

import warnings

import numpy as np
import pytest

from pairfree.noise.ct import (
    MU_WATER_PER_MM,
    LowDoseCT,
    attenuation,
    back_project,
    measure,
    project,
)

ANGLES_DEG = np.arange(90) * 2.0


def disc(side: int, radius: float, level: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.where(np.hypot(y, x) <= radius, level, 0.0)


def test_window_maps_grey_to_attenuation():
    """Level 40, width 400: grey 102 is 0 HU, water; grey 0 and below is air; white is 240 HU."""
    got = attenuation(np.array([102.0, 0.0, -5.0, 255.0]), 40.0, 400.0)
    np.testing.assert_allclose(got, MU_WATER_PER_MM * np.array([1.0, 0.0, 0.0, 1.24]), rtol=1e-12)


def test_projection_of_a_disc_is_its_chord_and_comes_back():
    image = disc(101, 40.0, 1.0)
    sinogram = project(image, ANGLES_DEG)
    np.testing.assert_allclose(sinogram.max(axis=0), 80.0, rtol=0.03)
    back = back_project(sinogram, ANGLES_DEG, image.shape)
    assert back[40:61, 40:61].mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("depth", "electronic"), [(0.0, 0.0), (2.0, 10.0), (4.0, 30.0)])
def test_detector_noise_has_the_documented_variance(depth, electronic):
    photons, bins = 1e5, 400
    measured = measure(np.full((bins, bins), depth), photons, electronic, np.random.default_rng(0))
    counts = photons * np.exp(-depth)
    variance = 1 / counts + (electronic / counts) ** 2
    assert abs(measured.mean() - depth) < 5 * np.sqrt(variance) / bins + variance
    assert measured.var() == pytest.approx(variance, rel=5 * np.sqrt(2) / bins + 20 * variance)


def test_starved_rays_stay_finite():
    measured = measure(np.full((50, 50), 50.0), 1e4, 5.0, np.random.default_rng(0))
    assert np.isfinite(measured).all()
    assert measured.max() <= np.log(1e4)


def reconstructed(dose: float, **fields: float) -> np.ndarray:
    """Noise inside a water disc, grey levels, over 12 independent scans: (scans, pixels)."""
    clean = disc(48, 20.0, 102.0)
    model = LowDoseCT(dose=dose, electronic=0.0, views=60.0, **fields)
    inside = disc(48, 12.0, 1.0) > 0
    return np.stack(
        [(model.add(clean, np.random.default_rng(scan)) - clean)[inside] for scan in range(12)]
    )


def test_noise_variance_is_inverse_to_the_dose_and_the_mean_is_kept():
    full, quarter, tenth = (reconstructed(dose).var() for dose in (1.0, 0.25, 0.1))
    assert quarter / full == pytest.approx(4.0, rel=0.1)
    assert tenth / full == pytest.approx(10.0, rel=0.1)
    noise = reconstructed(0.25).mean(axis=1)
    assert abs(noise.mean()) < 5 * noise.std(ddof=1) / np.sqrt(len(noise))


def test_noise_in_grey_levels_shrinks_with_the_window():
    """At one dose HU noise is fixed: water seen through a window twice as wide has half the grey noise."""
    clean = disc(48, 20.0, 127.5)
    narrow, wide = (
        LowDoseCT(level=0.0, width=width, views=40.0).add(clean, np.random.default_rng(1)) - clean
        for width in (400.0, 800.0)
    )
    np.testing.assert_allclose(wide, narrow / 2.0, atol=1e-9)


def test_read_out_noise_adds_to_photon_noise():
    quiet, loud = (
        LowDoseCT(dose=0.01, electronic=electronic, views=40.0)
        .add(disc(40, 18.0, 102.0), np.random.default_rng(2))
        .std()
        for electronic in (0.0, 500.0)
    )
    assert loud > quiet


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 2), (16, 16), (17, 30), (8, 5, 3)])
def test_any_shape_works_without_warnings_about_the_field_of_view(shape):
    clean = np.full(shape, 120.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noisy = LowDoseCT(views=20.0).add(clean, np.random.default_rng(3))
    assert noisy.shape == shape
    assert np.isfinite(noisy).all()


def test_samples_are_separate_scans():
    noise = LowDoseCT(views=30.0).add(np.full((32, 32, 2), 120.0), np.random.default_rng(4)) - 120.0
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.3
