"""The difference between a noisy and a clean set of other scenes: what was planted comes back.

Planted are gain, offset, spectrum and exponent.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats

from pairfree.errors import InputError
from pairfree.measure import spectra
from pairfree.measure import two_sets as module
from pairfree.measure import windows as windows_module
from pairfree.measure.spectra import draw_fields, restore_spectrum
from pairfree.measure.two_sets import DARKEST, energy_distance, measure_difference, noise_level
from pairfree.measure.windows import cut_windows, power_spectrum


def scenes(count: int, seed: int, channels: int = 1, side: int = 256) -> list[np.ndarray]:
    """Blurred random blobs in 0.2..0.8, another set for each seed."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        smooth = np.stack(
            [
                ndimage.gaussian_filter(rng.standard_normal((side, side)), 2.0, mode="wrap")
                for _ in range(channels)
            ]
        )
        found.append(
            0.5
            + 0.12 * np.tanh(2.0 * smooth / smooth.std())
            + 0.08 * np.tanh(np.roll(smooth, 40, -1) / smooth.std())
        )
    return found


def coloured(rng: np.random.Generator, shape: tuple[int, ...], px: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), (0.0, px, px), mode="wrap")
    return noise / noise.std()


def noisy_set(
    exponent: float, gain: float = 0.7, offset: float = 0.05, deviation: float = 0.06, seed: int = 2
) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    made = []
    for scene in scenes(8, seed):
        weight = scene**exponent
        noise = deviation * (
            0.8 * coloured(rng, scene.shape, 0.6) + 0.6 * coloured(rng, scene.shape, 6.0)
        )
        made.append(gain * (scene + weight / np.sqrt(np.mean(weight**2)) * noise) + offset)
    return made


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_a_planted_difference_comes_back(exponent):
    found = measure_difference(noisy_set(exponent), scenes(8, 1))
    assert found.exponent == exponent
    assert found.gain == pytest.approx([0.7], rel=0.06)
    assert found.offset == pytest.approx([0.05], abs=0.03)
    assert np.sqrt(found.spectrum.mean()) == pytest.approx(0.06, rel=0.15)
    assert float(found.spread[0]) < 0.02


def test_the_spectrum_of_correlated_noise_has_its_shape():
    found = measure_difference(noisy_set(0.0), scenes(8, 1))
    pairs = zip(noisy_set(0.0), scenes(8, 2), strict=True)
    noise = [image - 0.7 * scene for image, scene in pairs]
    truth = power_spectrum(noise, 256)[0] / 0.49
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    for low, high in ((0.2, 0.3), (0.3, 0.5)):
        ring = (radius >= low) & (radius < high)
        # Noise in every octave: gain errs upwards.
        assert found.spectrum[0][ring].sum() == pytest.approx(truth[ring].sum(), rel=0.15)
    assert found.spectrum[0][radius < 0.05].mean() > 20 * found.spectrum[0][radius > 0.3].mean()


def test_images_whose_brightness_scatters_have_a_spread():
    shifted = [
        image + shift
        for image, shift in zip(noisy_set(0.0), np.linspace(-0.14, 0.14, 8), strict=True)
    ]
    assert measure_difference(shifted, scenes(8, 1)).spread == pytest.approx(
        [np.std(np.linspace(-0.14, 0.14, 8)) / 0.7], rel=0.1
    )


def test_channels_are_measured_apart():
    clean = scenes(6, 1, channels=2)
    rng = np.random.default_rng(5)
    noisy = [
        np.stack([0.5 * scene[0], 0.9 * scene[1]]) + 0.02 * rng.standard_normal(scene.shape)
        for scene in scenes(6, 2, channels=2)
    ]
    found = measure_difference(noisy, clean)
    assert found.gain == pytest.approx([0.5, 0.9], rel=0.1)
    assert found.spectrum.shape == (2, 256, 256)


def test_sets_without_a_difference_have_no_noise():
    found = measure_difference(scenes(8, 2), scenes(8, 1))
    assert np.sqrt(found.spectrum.mean()) < 0.03
    assert found.gain == pytest.approx([1.0], rel=0.08)


def test_small_and_uneven_images_are_measured():
    rng = np.random.default_rng(0)
    clean = [scene[:, :90, :70] for scene in scenes(5, 1)]
    noisy = [
        scene[:, :64, :200] + 0.1 * rng.standard_normal((1, 64, 200)) for scene in scenes(5, 2)
    ]
    found = measure_difference(noisy, clean)
    assert found.spectrum.shape == (1, 64, 64)
    assert np.sqrt(found.spectrum.mean()) == pytest.approx(0.1, rel=0.25)


def test_a_blank_set_is_refused():
    with pytest.raises(InputError, match="blank"):
        measure_difference([np.zeros((1, 80, 80))], scenes(2, 1))


@pytest.mark.parametrize("blank_in_both", [True, False])
def test_a_channel_that_shows_nothing_gets_no_noise(blank_in_both):
    """Two dyes in an image of three colours."""
    rng = np.random.default_rng(5)
    clean = [np.concatenate([scene, 0.0 * scene[:1]]) for scene in scenes(6, 1, channels=2)]
    noisy = [
        np.concatenate([scene + 0.05 * rng.standard_normal(scene.shape), 0.0 * scene[:1]])
        for scene in scenes(6, 2, channels=2)
    ]
    clean = (
        clean
        if blank_in_both
        else [scene + np.pad(scene[:1], ((2, 0), (0, 0), (0, 0))) for scene in clean]
    )
    found = measure_difference(noisy, clean)
    assert np.sqrt(found.spectrum.mean((1, 2))) == pytest.approx([0.05, 0.05, 0.0], rel=0.25)
    assert (found.gain[2], found.offset[2], found.spread[2]) == (1.0, 0.0, 0.0)
    assert np.isfinite(noise_level(np.stack(clean), found)).all()


def test_outliers_are_cut_in_each_channel_by_its_own_deviation():
    quiet, loud = np.random.default_rng(3).standard_normal((2, 1, 128, 128))
    quiet[0, 5, 5] = 50.0
    spectrum = np.ones((2, 128, 128))
    for scale in (1.0, 100.0):
        (made,) = restore_spectrum([np.concatenate([quiet, scale * loud])], spectrum)
        assert made[0, 5, 5] < 5.0


def test_the_level_has_unit_mean_square_and_never_vanishes():
    clean = scenes(4, 1)
    found = measure_difference(noisy_set(1.0), clean)
    values = np.stack([noise_level(scene, found) for scene in clean])
    assert np.mean(values**2) == pytest.approx(1.0)
    assert noise_level(np.zeros((1, 2, 2)), found).min() == pytest.approx(DARKEST / found.size[0])


def test_drawn_fields_have_the_spectrum():
    spectrum = (
        np.exp(-((np.abs(np.fft.fftfreq(64))[:, None] / 0.1) ** 2))
        * np.ones((2, 64, 64))
        * np.array([1.0, 4.0])[:, None, None]
    )
    made = draw_fields(spectrum, 200, np.random.default_rng(0))
    assert made.shape == (200, 2, 64, 64)
    power = (np.abs(np.fft.fft2(made)) ** 2).mean(0) / 64**2
    assert np.abs(power / spectrum - 1.0)[spectrum > 0.01].mean() < 0.1
    np.testing.assert_allclose(made.var((0, 2, 3)), spectrum.mean((1, 2)), rtol=0.05)


def test_restored_noise_has_the_power_back_and_stays_what_it_is():
    """Streaks extracted at half their size, in one band of frequencies: power and spikes come back."""
    rng = np.random.default_rng(3)
    truth = []
    for _ in range(12):
        streaks = ndimage.gaussian_filter1d(
            rng.standard_normal((1, 256, 256)), 12.0, axis=2, mode="wrap"
        )
        truth.append(np.sign(streaks) * np.maximum(np.abs(streaks) / streaks.std() - 1.0, 0.0))
    spectrum = power_spectrum(truth, 256)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    damping = 1.0 - 0.5 * np.exp(-((radius / 0.3) ** 2))
    extracted = [np.fft.ifft2(np.fft.fft2(plane) * damping).real for plane in truth]
    back = restore_spectrum(extracted, spectrum)
    assert np.mean([plane.var() for plane in extracted]) < 0.75 * np.mean(
        [plane.var() for plane in truth]
    )
    assert np.mean([plane.var() for plane in back]) == pytest.approx(
        np.mean([plane.var() for plane in truth]), rel=0.07
    )
    kurtosis = [stats.kurtosis(np.ravel(planes)) for planes in (back, truth)]
    assert kurtosis[0] == pytest.approx(kurtosis[1], rel=0.3)
    assert np.corrcoef(np.ravel(back), np.ravel(truth))[0, 1] > 0.97


def test_restoring_does_not_amplify_without_bound():
    rng = np.random.default_rng(4)
    faint = [1e-6 * rng.standard_normal((1, 128, 96)) for _ in range(3)]
    back = restore_spectrum(faint, np.ones((1, 64, 64)))
    assert max(np.abs(plane).max() for plane in back) < 2.0 * spectra.MOST_GAIN * max(
        np.abs(plane).max() for plane in faint
    )


def test_energy_distance_is_its_definition_and_tells_distributions_apart():
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((40, 3)), rng.standard_normal((30, 3)) + 0.5
    pairs = lambda p, q: np.mean([[np.sqrt(((one - two) ** 2).sum()) for two in q] for one in p])  # noqa: E731
    np.testing.assert_allclose(
        energy_distance(a, b), 2 * pairs(a, b) - pairs(a, a) - pairs(b, b), rtol=1e-10
    )
    assert energy_distance(a, a) == pytest.approx(0.0, abs=1e-12)


def test_windows_are_spread_over_a_large_set(monkeypatch):
    monkeypatch.setattr(windows_module, "MOST_WINDOWS", 10)
    planes = [np.full((1, 64, 64), float(index)) for index in range(100)]
    seen = [float(window[0, 0, 0]) for window in cut_windows(planes, 64)]
    assert seen == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]


def uneven_scenes(count: int, seed: int) -> list[np.ndarray]:
    """Few bright discs on a calm ground: most windows show nothing.

    How much there is differs from set to set.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:256, :256]
    found = []
    for _ in range(count):
        image = np.full((256, 256), 0.4)
        for _ in range(int(rng.integers(3, 9))):
            image[
                np.hypot(rows - rng.integers(256), columns - rng.integers(256))
                < rng.integers(10, 50)
            ] = rng.uniform(0.2, 0.8)
        found.append(ndimage.gaussian_filter(image, 1.0)[None])
    return found


def test_uneven_images_are_compared_where_they_are_calm():
    """CT: other structures in either set.

    Noise comes from the calm windows, and intensities are not touched.
    """
    rng = np.random.default_rng(0)
    clean = [scene + 0.01 * rng.standard_normal(scene.shape) for scene in uneven_scenes(4, 1)]
    noisy = [scene + 0.05 * coloured(rng, scene.shape, 0.8) for scene in uneven_scenes(4, 2)]
    assert module.is_uneven(clean)
    found = measure_difference(noisy, clean)
    assert not found.even
    assert found.gain.tolist() == [1.0]
    assert found.offset.tolist() == [0.0]
    assert np.sqrt(found.spectrum.mean()) == pytest.approx(0.05, rel=0.15)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    truth = power_spectrum([0.05 * coloured(rng, (1, 256, 256), 0.8) for _ in range(4)], 256)[0]
    for low, high in ((0.1, 0.25), (0.25, 0.5)):
        ring = (radius >= low) & (radius < high)
        assert found.spectrum[0][ring].mean() == pytest.approx(truth[ring].mean(), rel=0.25)


def test_even_images_are_not_taken_for_uneven():
    assert not module.is_uneven(scenes(3, 1))
    assert measure_difference(noisy_set(0.0), scenes(8, 1)).even


def test_what_is_clipped_is_not_calm():
    """Air below the window is black everywhere: no noise is seen there."""
    rng = np.random.default_rng(1)
    noisy = []
    for scene in uneven_scenes(3, 5):
        image = scene + 0.05 * rng.standard_normal(scene.shape)
        image[:, :, :128] = 0.0
        noisy.append(image)
    calm = module._calmest_windows(noisy)
    assert len(calm) >= module.LEAST_CALM
    assert min(float(window.std()) for window in calm) > 0.03


def lit_scenes(count: int, seed: int) -> list[np.ndarray]:
    """Fluorescence: few structures on a dark ground, bright, dim and half out of focus.

    The ground holds most of the calm windows.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:256, :256]
    found = []
    for _ in range(count):
        image = np.full((256, 256), 0.04)
        for _ in range(int(rng.integers(6, 16))):
            disc = np.hypot(rows - rng.integers(256), columns - rng.integers(256)) < rng.integers(
                8, 40
            )
            image += rng.uniform(0.05, 0.5) * ndimage.gaussian_filter(
                disc.astype(float), rng.uniform(1.0, 8.0)
            )
        found.append(np.minimum(image, 0.8)[None])
    return found


GAIN, READ_OUT = 0.02, 0.01


def counted(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each photon adds GAIN; read-out noise of deviation READ_OUT; cut off at 0 and 1 as files are."""
    return np.clip(
        GAIN * rng.poisson(scene / GAIN) + READ_OUT * rng.standard_normal(scene.shape), 0.0, 1.0
    )


@pytest.mark.parametrize("brighter", [0.8, 1.2])
def test_noise_of_counts_is_measured_at_all_brightnesses(brighter):
    """Of a clean set that is brighter or darker, too."""
    rng = np.random.default_rng(3)
    found = measure_difference(
        [counted(scene, rng) for scene in lit_scenes(6, 7)],
        [brighter * scene for scene in lit_scenes(4, 8)],
    )
    assert found.counts
    assert not found.even
    for y in (0.1, 0.3, 0.6):
        deviation = float(noise_level(np.full((1, 1, 1), y), found)[0, 0, 0]) * np.sqrt(
            found.power[0]
        )
        assert deviation == pytest.approx(np.sqrt(GAIN * y + READ_OUT**2), rel=0.15)


def test_noise_that_does_not_grow_is_not_taken_for_counts():
    rng = np.random.default_rng(4)
    noisy = [scene + 0.05 * rng.standard_normal(scene.shape) for scene in lit_scenes(6, 7)]
    assert not measure_difference(noisy, lit_scenes(4, 8)).counts


def test_each_noisy_image_has_its_strength():
    """A set of three exposures, all stretched to the same brightness.

    An image of half as many photons has noise stronger by sqrt(2).
    """
    rng = np.random.default_rng(6)
    times = (0.5, 1.0, 2.0, 0.5, 1.0, 2.0)
    noisy = [
        np.clip(GAIN / t * rng.poisson(scene * t / GAIN), 0.0, 1.0)
        for scene, t in zip(lit_scenes(6, 7), times, strict=True)
    ]
    found = measure_difference(noisy, lit_scenes(4, 8))
    assert found.counts
    relative = found.strengths[:, 0] / found.strengths[[1, 4], 0].mean()
    assert relative == pytest.approx(1.0 / np.sqrt(times), rel=0.12)
