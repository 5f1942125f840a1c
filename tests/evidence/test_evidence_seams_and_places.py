"""Seams at the borders of tiles, and places where structure was removed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pairfree.evidence.local import find_places, measure_excess
from pairfree.evidence.seams import measure_seams
from pairfree.measure.noise_law import NoiseLaw
from pairfree.measure.variance_line import PoissonGaussian

SIDE, SIGMA = 384, 20.0
BORDERS = (128, 256)
LAW = NoiseLaw(PoissonGaussian(0.0, SIGMA**2), False)


def scene(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rough = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 3.0)
    return 100.0 + 30.0 * rough / rough.std()


def noisy(seed: int = 0) -> np.ndarray:
    return scene(seed) + SIGMA * np.random.default_rng(seed + 100).standard_normal((SIDE, SIDE))


def tiled(step: float) -> np.ndarray:
    signs = np.random.default_rng(3).choice([-1.0, 1.0], (3, 3))
    signs[:, 1] = -signs[:, 0]
    signs[1] = -signs[0]
    return step * signs.repeat(128, 0).repeat(128, 1)


@pytest.mark.parametrize("seed", range(4))
def test_seams_of_a_twentieth_of_the_noise_are_found_and_none_where_there_are_none(seed):
    good = gaussian_filter(noisy(seed), 1.5)
    plain = measure_seams(good, noisy(seed), BORDERS, BORDERS)
    seamed = measure_seams(good + tiled(0.05 * SIGMA), noisy(seed), BORDERS, BORDERS)
    assert len(plain) == 4
    assert np.abs(plain).max() < 3.5
    assert np.sqrt(np.mean(seamed**2)) > 4.0


def test_an_edge_of_the_scene_is_no_seam():
    step = np.zeros((SIDE, SIDE))
    step[:, 128:] = 80.0
    image = noisy() + step
    assert len(measure_seams(gaussian_filter(noisy(), 1.5) + step, image, (), (128,))) == 0


def test_noise_alone_leaves_no_place():
    excess = measure_excess(noisy(), scene(), LAW)
    assert excess.shape == (3, 23, 23)
    assert find_places(excess, 7.0) == []


@pytest.mark.parametrize("kind", ["blurred", "pasted"])
def test_a_place_where_structure_was_removed_or_pasted_is_found(kind):
    denoised = scene()
    part = slice(160, 224), slice(96, 160)
    denoised[part] = gaussian_filter(scene(), 6.0)[part] if kind == "blurred" else scene(9)[part]
    first = find_places(measure_excess(noisy(), denoised, LAW), 7.0)[0]
    assert 144 <= first.row <= 208
    assert 80 <= first.column <= 144
    assert first.scale_px > 0
