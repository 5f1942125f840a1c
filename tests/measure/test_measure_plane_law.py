"""The law of one plane's noise: what is measured against what was drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pairfree.measure.plane_law import measure_noise_law
from pairfree.scenes import draw_scene


def smooth_scene(side: int = 192) -> np.ndarray:
    """Hills from 20 to 200, float64."""
    rng = np.random.default_rng(0)
    hills = gaussian_filter(rng.standard_normal((side, side)), 24.0)
    share = (hills - hills.min()) / np.ptp(hills)
    return 20.0 + 180.0 * share


def white(shape: tuple[int, int], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("level", [3.0, 20.0])
def test_even_noise_has_no_gain_and_its_level(level):
    clean = smooth_scene()
    law = measure_noise_law(clean + level * white(clean.shape))
    assert law.noise.gain == 0
    assert not law.correlated
    assert np.sqrt(law.noise.floor) == pytest.approx(level, rel=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_smooth_structure_all_over_does_not_make_noise_too_small(seed):
    """As of sections in electron microscopes: few of the eigenvalues of patches are noise alone."""
    rough = gaussian_filter(white((256, 256), seed), 1.5)
    clean = 128.0 + 30.0 * rough / rough.std()
    law = measure_noise_law(clean + 10.0 * white(clean.shape, seed + 10))
    assert law.noise.gain == 0
    assert np.sqrt(law.noise.floor) == pytest.approx(10.0, rel=0.05)


@pytest.mark.parametrize("gain", [0.5, 4.0])
def test_counted_photons_have_their_gain(gain):
    clean = smooth_scene()
    counts = gain * np.random.default_rng(2).poisson(clean / gain)
    law = measure_noise_law(counts + 2.0 * white(clean.shape))
    middle = law.noise.variance(np.array([100.0]))
    assert law.noise.gain == pytest.approx(gain, rel=0.15)
    assert middle == pytest.approx(100.0 * gain + 4.0, rel=0.08)
    assert not law.correlated


@pytest.mark.parametrize("kind", ["leaves", "spots", "nuclei", "organs"])
@pytest.mark.parametrize("level", [0.06, 0.2])
def test_white_noise_on_scenes_is_not_taken_for_correlated(kind, level):
    scene = draw_scene(1, 5, height=192, width=192, kind=kind)
    assert not measure_noise_law(scene + level * white(scene.shape)).correlated


@pytest.mark.parametrize(("axis", "correlated"), [(0, True), (1, True), (None, False)])
def test_faint_streaks_are_recognised_where_an_image_is_nearly_all_noise(axis, correlated):
    """A correlation of a tenth along rows or columns, as of a camera's readout."""
    noise = white((320, 320))
    if axis is not None:
        noise = noise + 0.1 * np.roll(noise, 1, axis)
    assert measure_noise_law(smooth_scene(320) + 300.0 * noise).correlated is correlated


@pytest.mark.parametrize("blur_px", [0.7, 1.5])
def test_correlated_noise_is_recognised_and_its_level_measured(blur_px):
    clean = smooth_scene()
    noise = gaussian_filter(white(clean.shape), blur_px)
    law = measure_noise_law(clean + 15.0 * noise / noise.std())
    assert law.correlated
    assert np.sqrt(law.noise.variance(np.array([100.0]))) == pytest.approx(15.0, rel=0.2)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (16, 16)])
def test_small_planes_and_planes_without_noise_have_a_level_above_zero(shape):
    for plane in (
        np.zeros(shape),
        np.full(shape, 7.0),
        white(shape),
        np.arange(float(np.prod(shape))).reshape(shape),
    ):
        noise = measure_noise_law(plane).noise
        assert noise.gain > 0 or noise.floor > 0


def test_a_plane_without_noise_is_not_blown_up():
    """Its noise is taken for a thousandth of its range at least, and for less than a hundredth."""
    law = measure_noise_law(smooth_scene())
    assert 0.1 < np.sqrt(law.noise.variance(np.array([100.0])))[0] < 1.8


@pytest.mark.parametrize("black", [0.3, 0.5])
def test_areas_that_are_black_all_over_do_not_hide_the_noise(black):
    clean = smooth_scene()
    noisy = np.clip(clean + 10.0 * white(clean.shape), 0.0, None)
    noisy[:, : int(black * noisy.shape[1])] = 0.0
    level = np.sqrt(measure_noise_law(noisy).noise.variance(np.array([100.0])))
    assert level == pytest.approx(10.0, rel=0.15)


@pytest.mark.parametrize("offset", [-1000.0, -100.0, 0.0, 100.0, 30_000.0])
def test_an_offset_moves_no_brightness(offset):
    counts = np.random.default_rng(3).poisson(smooth_scene()) + offset
    transform = measure_noise_law(counts).transform
    smooth = gaussian_filter(transform.forward(counts), 3.0)
    assert transform.back(smooth).mean() == pytest.approx(counts.mean(), abs=0.7)


def test_an_image_without_noise_is_taken_to_have_a_little():
    """Else it would outweigh all others in training: in units of its noise its range would be endless."""
    rows = np.mgrid[:128, :128][0]
    for clean in (100.0 + 50.0 * np.sin(rows / 20.0), np.repeat(rows, 1).reshape(128, 128) * 1.0):
        law = measure_noise_law(clean)
        low, high = np.percentile(clean, [0.5, 99.5])
        assert law.noise.floor**0.5 >= 0.006 * (high - low) * (1 - 1e-9)


@pytest.mark.parametrize("height", [128.5, 180.0, 200.0, 300.0])
@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_a_slope_without_noise_comes_back_as_it_was(height, scale):
    """What is left of rounding grows with the brightness, too; it is no noise."""
    slope = scale * (height - 0.9 * np.mgrid[:128, :128][0])
    law = measure_noise_law(np.rint(slope) if scale > 1 else slope.astype(np.float32).astype(float))
    assert law.noise.variance(np.array(slope.max())) < (0.01 * np.ptp(slope)) ** 2
    even = law.transform.forward(slope)
    assert np.abs(even).max() < 1e5
    assert law.transform.back(even + 1.0) == pytest.approx(slope, abs=0.02 * np.ptp(slope))


def test_noise_that_seems_to_end_within_the_image_has_no_darker_black_level():
    """A line through little noise may fall to 0 at a brightness that the image has."""
    slope = 1000.0 + 30.0 * np.mgrid[:128, :128][0]
    deviation = np.sqrt(1e-4 * np.maximum(slope - 2500.0, 0.0))
    law = measure_noise_law(slope + deviation * white(slope.shape))
    even = law.transform.forward(slope)
    assert law.transform.back(even) == pytest.approx(slope, abs=0.01 * np.ptp(slope))
