"""What single measures say of noise that is known: calm blocks, spectra, lines, levels, JPEG, skewness."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pairfree.measure.calm_blocks import CalmBins, measure_calm_blocks, measure_texture
from pairfree.measure.fixed_pattern import measure_fixed_pattern
from pairfree.measure.grey_levels import find_step, measure_grey_levels
from pairfree.measure.jpeg_comb import measure_jpeg_comb
from pairfree.measure.skewness import measure_skewness
from pairfree.measure.stripes import measure_stripes
from pairfree.measure.variance_kinds import fit_variance_laws
from pairfree.measure.window_spectrum import measure_shared_noise


def hills(side: int = 256, seed: int = 0) -> np.ndarray:
    """A smooth scene from 20 to 200."""
    rng = np.random.default_rng(seed)
    rough = gaussian_filter(rng.standard_normal((side, side)), 24.0)
    return 20.0 + 180.0 * (rough - rough.min()) / np.ptp(rough)


def white(side: int = 256, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((side, side))


def test_calm_blocks_have_the_variance_of_white_noise():
    bins = measure_calm_blocks(hills() + 12.0 * white())
    np.testing.assert_allclose(bins.variance, 144.0, rtol=0.25)
    assert bins.variance.mean() == pytest.approx(144.0, rel=0.03)


def test_structure_beside_calm_blocks_does_not_count():
    scene = hills()
    scene[:, ::2][:128] += 60.0  # the upper half is full of stripes
    assert measure_calm_blocks(scene + 12.0 * white()).variance.mean() == pytest.approx(
        144.0, rel=0.15
    )


def test_texture_is_what_all_blocks_have_more_than_the_calmest():
    smooth = hills() + 12.0 * white()
    assert measure_texture(smooth, measure_calm_blocks(smooth)) < 0.03
    half = smooth.copy()
    half[:, :128] += 12.0 * white(seed=7)[:, :128]  # a part of every brightness is twice as rough
    assert 0.1 < measure_texture(half, measure_calm_blocks(half)) < 1.0


def test_clipped_blocks_are_left_out():
    dark = np.clip(hills() - 100.0 + 12.0 * white(), 0.0, None)
    bins = measure_calm_blocks(dark)
    assert bins.variance.min() > 100.0


@pytest.mark.parametrize(
    ("kind", "variance"),
    [
        ("constant", lambda x: 0 * x + 50.0),
        ("counts", lambda x: 3.0 * x),
        ("counts and read noise", lambda x: 3.0 * x + 300.0),
        ("multiplied", lambda x: 0.04 * x**2),
        ("multiplied and read noise", lambda x: 0.04 * x**2 + 200.0),
    ],
)
def test_each_law_of_the_variance_is_recognised(kind, variance):
    brightness = np.linspace(10.0, 200.0, 12)
    found = fit_variance_laws(CalmBins(brightness, variance(brightness), np.full(12, 0.03)))
    assert found.best.kind == kind
    expected = {"constant": 0.0, "counts": 3.0, "multiplied": 0.04}[kind.split(" and")[0]]
    assert found.best.slope == pytest.approx(expected, rel=1e-6)


def test_errors_of_the_slope_are_those_of_repetition():
    """The standard error that one fit states, against the scatter of many."""
    rng = np.random.default_rng(3)
    brightness = np.linspace(10.0, 200.0, 12)
    slopes, stated = [], []
    for _ in range(200):
        variance = (3.0 * brightness + 300.0) * (1.0 + 0.05 * rng.standard_normal(12))
        line = fit_variance_laws(CalmBins(brightness, variance, np.full(12, 0.03))).line
        slopes.append(line.slope)
        stated.append(line.slope_error)
    assert np.mean(slopes) == pytest.approx(3.0, rel=0.02)
    assert np.median(stated) == pytest.approx(np.std(slopes), rel=0.3)


@pytest.mark.parametrize(
    ("blur", "shared", "correlation"),
    [(0.0, False, 0.0), (0.6, True, 0.445), (1.0, True, 0.778)],
)
def test_spectra_tell_white_noise_from_noise_that_neighbours_share(blur, shared, correlation):
    noise = gaussian_filter(white(320), blur)[32:-32, 32:-32]
    found = measure_shared_noise(hills() + 20.0 * noise / noise.std())
    assert (found.finest < 0.5) is shared
    assert (found.whitest < 1.0) is shared
    covariance = np.fft.ifft2(found.spectrum).real
    assert found.spectrum.mean() == pytest.approx(1.0)
    assert covariance[0, 1] / covariance[0, 0] == pytest.approx(correlation, abs=0.08)


def test_images_smaller_than_a_window_have_no_spectrum():
    found = measure_shared_noise(white(31))
    assert found.spectrum is None
    assert np.isnan(found.finest)


@pytest.mark.parametrize("axis", [0, 1])
def test_lines_have_the_noise_that_they_share(axis):
    shape = [1, 1]
    shape[axis] = 256
    lines = 4.0 * np.random.default_rng(5).standard_normal(shape)
    found = measure_stripes(hills() + 10.0 * white() + lines)
    along, across = (found.rows, found.columns) if axis == 0 else (found.columns, found.rows)
    assert along == pytest.approx(4.0, rel=0.2)
    assert across < 1.0
    significances = found.rows_significance, found.columns_significance
    assert significances[axis] > 6.0 > significances[1 - axis]


@pytest.mark.parametrize(("step", "offset"), [(1.0, 0.0), (16.0, 3.0), (0.25, -1.0)])
def test_the_step_of_stored_values_is_found(step, offset):
    stored = step * np.rint((hills() + 5.0 * white()) / step) + offset
    assert find_step(stored) == pytest.approx(step)
    assert find_step(hills() + white()) == 0.0


def test_values_that_were_cut_off_pile_up_at_the_end():
    whole = np.rint(hills() + 30.0 * white())
    cut = measure_grey_levels(np.clip(whole, 40.0, 160.0))
    left = measure_grey_levels(whole)
    assert cut.at_least == pytest.approx(np.mean(whole <= 40.0))
    assert min(cut.pile_at_least, cut.pile_at_greatest) > 8.0
    assert max(left.pile_at_least, left.pile_at_greatest) < 8.0


@pytest.mark.parametrize("quality", [60, 75, 90])
def test_jpeg_leaves_its_comb(quality):
    grey = np.clip(hills() + 10.0 * white(), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=quality)
    compressed = measure_jpeg_comb(np.asarray(Image.open(buffer)).astype(np.float64))
    plain = measure_jpeg_comb(grey.astype(np.float64))
    assert compressed.aligned > 8.0 > plain.aligned
    assert compressed.aligned - compressed.elsewhere > 6.0


def test_an_empty_image_has_no_comb():
    assert measure_jpeg_comb(np.zeros((64, 64))).aligned == 0.0


def test_skewness_of_known_noise():
    drawn = np.random.default_rng(6)
    gamma = drawn.gamma(16.0, 1.0, (256, 256)) - 16.0  # skewness 2 / sqrt(16)
    lopsided = measure_skewness(hills() + gamma)
    symmetric = measure_skewness(hills() + 4.0 * white())
    assert 0.25 < lopsided.measured < 0.55  # calm blocks are those with the fewest outliers
    assert abs(symmetric.measured) < 4.0 * symmetric.error


def test_counts_clear_of_zero_are_less_lopsided_than_film():
    counts = measure_skewness(np.random.default_rng(7).poisson(hills() / 4.0) * 4.0)
    assert counts.measured < 0.2


def test_frames_of_one_scene_have_no_pattern_of_the_camera():
    scene = hills()
    assert measure_fixed_pattern([scene + white(256, seed) for seed in range(5)]) is None


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_what_frames_of_different_scenes_have_in_common(share):
    pattern = np.sqrt(share) * white(256, 99)
    own = np.sqrt(1.0 - share)
    planes = [hills(256, seed) + 5.0 * (pattern + own * white(256, seed)) for seed in range(6)]
    found = measure_fixed_pattern(planes)
    assert found is not None
    assert found.share == pytest.approx(share, abs=0.03)
    assert found.error < 0.01
