"""Null run, planted spots, resolution, error map, filters and laws: each against what is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.signal.windows import tukey

from pairfree.evidence.rows import WITHIN_90
from pairfree.examination.error_map import map_errors
from pairfree.examination.laws import ImageLaws, find_laws, pool_errors
from pairfree.examination.null_run import run_null
from pairfree.examination.places import find_places, measure_places
from pairfree.examination.plain_filter import compare_filters, pool_filters
from pairfree.examination.planted import STRENGTHS, WIDTHS_PX, plant_spots
from pairfree.examination.probe import Probe, probe_denoiser
from pairfree.examination.transfer import measure_rings, pool_rings
from pairfree.measure.noise_law import NoiseLaw
from pairfree.measure.variance_line import PoissonGaussian

SIDE, SIGMA = 256, 20.0
LAW = NoiseLaw(PoissonGaussian(0.0, SIGMA**2), False)


def scene(seed: int = 0) -> np.ndarray:
    rough = gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), 3.0)
    return 100.0 + 60.0 * rough / rough.std()


def noisy(seed: int = 0) -> np.ndarray:
    return scene() + SIGMA * np.random.default_rng(seed + 9).standard_normal((SIDE, SIDE))


def smooth(planes: np.ndarray, sigma: float = 1.5) -> np.ndarray:
    return np.asarray(gaussian_filter(planes, (0.0, sigma, sigma)))


def pool_filters_(images):
    return pool_filters(images, [SIDE**2] * len(images))


def probe(denoise=smooth, seed: int = 0) -> Probe:
    return probe_denoiser(denoise, noisy(seed)[None], [LAW], np.random.default_rng(seed + 70))


def null(denoise):
    return run_null(denoise, noisy()[None], [LAW], np.random.default_rng(3))


# -- null run ----------


def test_a_filter_shows_no_pattern_on_noise_alone():
    found = null(lambda planes: smooth(planes, 3.0))
    assert found.structure < 0.9
    assert found.pattern_z < 4.0
    assert found.step.z < 6.0


def test_what_is_done_to_nothing_is_all_there():
    assert null(lambda planes: planes).structure == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("size", [0.05, 0.15])
def test_a_pattern_that_is_always_added_is_measured(size):
    rough = gaussian_filter(np.random.default_rng(5).standard_normal((SIDE, SIDE)), 1.0)
    rough = (rough - rough.mean()) / rough.std()
    found = null(lambda planes: smooth(planes) + size * SIGMA * rough)
    assert found.pattern == pytest.approx(size, rel=0.15)
    assert found.pattern_z > 5.0


def test_a_checkerboard_is_measured_peak_to_peak():
    board = np.where(np.add.outer(np.arange(SIDE), np.arange(SIDE)) % 2, 1.0, -1.0)
    found = null(lambda planes: smooth(planes) + 0.05 * SIGMA * board)
    assert found.grid > 8.0
    assert found.grid_contrast == pytest.approx(0.1, rel=0.2)


# -- planted spots ----------


def plant(denoise):
    one = probe(denoise)
    rng = np.random.default_rng(4)
    return plant_spots(denoise, one.noisy, one.output, one.disturbance, [LAW], rng)


def test_nothing_done_keeps_all_spots_and_shows_none_where_none_is():
    found = plant(lambda planes: planes)
    assert found.kept == pytest.approx(np.ones_like(found.kept))
    assert found.nothing == pytest.approx(np.zeros_like(found.nothing), abs=1e-12)
    for width in WIDTHS_PX:
        assert found.survival(width).tolist() == [1.0] * len(STRENGTHS)
        lowest = STRENGTHS[0] / (math.sqrt(math.pi) * width)
        assert found.least_height(width) == pytest.approx(lowest)


@pytest.mark.parametrize("width", WIDTHS_PX)
def test_a_filter_keeps_of_a_spot_what_theory_says(width):
    """<G s, s> / <s, s> of Gaussians of deviations b and w: 2 w^2 / (2 w^2 + b^2)."""
    found = plant(lambda planes: smooth(planes, 1.5))
    expected = 2.0 * width**2 / (2.0 * width**2 + 1.5**2)
    for strength in STRENGTHS:
        kept = found.choose(strength, width)
        assert np.median(kept) == pytest.approx(expected, rel=0.05)


def test_spots_have_the_ratio_that_is_said():
    one = probe()
    rng = np.random.default_rng(4)
    spots: list[np.ndarray] = []

    def keep(planes: np.ndarray) -> np.ndarray:
        spots.append(planes - one.noisy)
        return planes

    found = plant_spots(keep, one.noisy, one.noisy, one.disturbance, [LAW], rng)
    power = float(np.sum(spots[0] ** 2)) / SIGMA**2
    assert power == pytest.approx(float(np.sum(found.strengths**2)), rel=0.02)


def test_spots_in_shared_noise_are_as_much_higher_as_it_is_louder_there():
    """Noise blurred by 1 px: through a spot of 3 px its power is nearly the sum of all its covariances."""
    place = np.fft.fftfreq(32)[:, None] ** 2 + np.fft.fftfreq(32) ** 2
    spectrum = np.exp(-4.0 * np.pi**2 * place)
    shared = NoiseLaw(PoissonGaussian(0.0, SIGMA**2), True, spectrum=spectrum / spectrum.mean())
    one = probe()
    added = {}

    def keep(planes: np.ndarray) -> np.ndarray:
        added[len(added)] = float(np.sum((planes - one.noisy) ** 2))
        return planes

    for law in (LAW, shared):
        rng = np.random.default_rng(4)
        plant_spots(keep, one.noisy, one.noisy, one.disturbance, [law], rng)
    assert 6.0 < added[1] / added[0] < 10.0


# -- resolution ----------


def true_correlation(output: np.ndarray) -> np.ndarray:
    taper = np.outer(tukey(SIDE, 0.4), tukey(SIDE, 0.4))
    one, other = (np.fft.fft2((image - image.mean()) * taper) for image in (output, scene()))
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij"))
    number = np.asarray(radius * 32, int).ravel()

    def add(values: np.ndarray) -> np.ndarray:
        return np.bincount(number, values.ravel(), minlength=16)[:16]

    shared = add((one * other.conj()).real)
    return shared / np.sqrt(add(np.abs(one) ** 2) * add(np.abs(other) ** 2))


def test_the_correlation_with_the_truth_is_found_without_it():
    rings = pool_rings([measure_rings(probe(seed=seed)) for seed in range(6)])
    true = np.mean([true_correlation(smooth(noisy(seed)[None])[0]) for seed in range(6)], axis=0)
    told = rings.truth > 0.5 * rings.noise
    assert told.sum() >= 3
    assert rings.correlation[told] == pytest.approx(true[told], abs=0.08)


def test_transfer_tells_what_is_too_weak():
    whole = pool_rings([measure_rings(probe(seed=seed)) for seed in range(4)])
    half = pool_rings(
        [measure_rings(probe(lambda y: 100 + 0.5 * (smooth(y) - 100), seed)) for seed in range(4)]
    )
    assert half.transfer[:3] == pytest.approx(2.0 * whole.transfer[:3], rel=0.05)


def test_what_the_truth_leaves_over_has_the_colour_of_the_noise():
    rings = pool_rings(
        [measure_rings(probe(lambda planes: scene()[None], seed)) for seed in range(6)]
    )
    assert rings.removed == pytest.approx(rings.noise, rel=0.2)
    assert rings.kept == pytest.approx(np.zeros(16), abs=1e-6 * rings.noise.max())
    assert rings.transfer[:3] == pytest.approx(np.ones(3), abs=0.05)


# -- error map ----------


def test_nine_of_ten_pixels_lie_within_their_intervals():
    covered = []
    for seed in range(4):
        one = probe(seed=seed)
        errors = np.abs(one.output[0] - scene())
        covered.append(float(np.mean(errors <= WITHIN_90 * map_errors(one)[0])))
    assert 0.87 <= np.mean(covered) <= 0.94


def test_places_that_are_wrong_are_less_sure():
    """A step that a wide filter blurs has larger errors than what is flat."""
    step = np.where(np.arange(SIDE) < SIDE // 2, 60.0, 160.0) * np.ones((SIDE, 1))
    given = step + SIGMA * np.random.default_rng(2).standard_normal((SIDE, SIDE))
    one = probe_denoiser(
        lambda planes: smooth(planes, 3.0), given[None], [LAW], np.random.default_rng(8)
    )
    errors = map_errors(one)[0]
    assert errors[:, 124:132].mean() > 2.0 * errors[:, 20:80].mean()


# -- places ----------


def test_no_place_stands_out_of_what_is_filtered_alike():
    assert max(np.abs(measure_places(probe(seed=seed), [LAW])).max() for seed in range(4)) < 5.0


@pytest.mark.parametrize("kind", ["blurred", "foreign"])
def test_a_place_that_was_blurred_or_pasted_is_found(kind):
    part = slice(96, 160), slice(64, 128)

    def spoil(planes: np.ndarray) -> np.ndarray:
        made = smooth(planes, 1.0)
        if kind == "blurred":
            made[0][part] = gaussian_filter(made[0], 3.0)[part]
        else:
            made[0][part] = scene(9)[part]
        return made

    first = find_places(measure_places(probe(spoil), [LAW]), 6.0)[0]
    assert 64 <= first.row <= 128
    assert 32 <= first.column <= 96
    assert (first.z > 0) == (kind == "blurred")


def test_a_paste_is_found_among_much_detail():
    """What is foreign changes the share of the whole: it must not hide itself by that."""

    def paste(planes: np.ndarray) -> np.ndarray:
        made = smooth(planes, 1.0)
        made[0, 96:160, 64:128] = 4.0 * scene(9)[96:160, 64:128] - 300.0
        return made

    found = find_places(measure_places(probe(paste), [LAW]), 6.0)
    assert any(abs(one.row - 96) <= 32 and abs(one.column - 64) <= 32 for one in found)


# -- plain filters ----------


def test_the_best_filter_is_as_good_as_itself_and_beats_a_bad_one():
    best = pool_filters_([compare_filters(probe())])
    assert best.better <= 0.0
    same = pool_filters_([compare_filters(probe(lambda y: smooth(y, best.width_px)))])
    assert same.better == pytest.approx(0.0, abs=1e-9)
    bad = pool_filters_([compare_filters(probe(lambda y: smooth(y, 5.0)))])
    true = np.mean((smooth(noisy()[None], 5.0)[0] - scene()) ** 2)
    good = np.mean((smooth(noisy()[None], best.width_px)[0] - scene()) ** 2)
    assert bad.better == pytest.approx(good - true, rel=0.1)


# -- laws ----------


def test_images_of_one_kind_share_their_law_and_know_it_better():
    images = [noisy(seed)[None] for seed in range(6)]
    alone = find_laws(images, differ=True)
    together = find_laws(images, differ=False)
    assert all(one is together[0] for one in together)
    assert together[0].error < alone[0].error
    assert together[0].chance < 0.7 * alone[0].chance
    variance = float(together[0].laws[0].noise.variance(np.array(100.0)))
    assert variance == pytest.approx(SIGMA**2, rel=0.05)


def test_texture_makes_a_law_less_certain_and_more_images_do_not_help():
    rough = gaussian_filter(np.random.default_rng(5).standard_normal((SIDE, SIDE)), 0.8)
    rough[:, : SIDE // 3] = 0.0
    textured = [noisy(seed)[None] + 2.0 * SIGMA * rough / rough.std() for seed in range(4)]
    smooth = find_laws([noisy(seed)[None] for seed in range(4)], differ=False)[0]
    together = find_laws(textured, differ=False)[0]
    assert together.texture > 3.0 * max(smooth.texture, 0.005)
    assert together.error > 0.9 * find_laws(textured[:2], differ=False)[0].error


def test_errors_of_single_images_add_up_by_chance_and_by_texture():
    laws = find_laws([noisy()[None]], differ=True)[0].laws
    ones = [ImageLaws(laws, 0.03, 0.0, False), ImageLaws(laws, 0.03, 0.0, False)]
    assert pool_errors(ones, [1.0, 1.0]) == pytest.approx(0.03 / np.sqrt(2.0))
    ones = [ImageLaws(laws, 0.0, 0.03, False), ImageLaws(laws, 0.0, 0.03, False)]
    assert pool_errors(ones, [1.0, 3.0]) == pytest.approx(0.03)
