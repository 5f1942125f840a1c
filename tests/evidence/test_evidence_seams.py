"""Seams of tiles, on a flat scene."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pairfree.evidence.seams import find_step

SIDE, SIGMA = 384, 20.0
BORDERS = (128, 256)


def tiled(step: float) -> np.ndarray:
    signs = np.random.default_rng(3).choice([-1.0, 1.0], (3, 3))
    signs[:, 1] = -signs[:, 0]
    signs[1] = -signs[0]
    return step * signs.repeat(128, 0).repeat(128, 1)


@pytest.mark.parametrize("seed", range(4))
def test_seams_of_a_twentieth_of_the_noise_are_found_on_a_flat_scene(seed):
    noise = SIGMA * np.random.default_rng(seed).standard_normal((SIDE, SIDE))
    good = gaussian_filter(noise, 2.0)
    assert find_step(good).z < 5.0
    found = find_step(good + tiled(0.05 * SIGMA))
    assert found.z > 6.0
    assert found.place in BORDERS
    assert found.height > 0.015 * SIGMA


def test_a_constant_image_has_no_seam():
    assert find_step(np.full((64, 64), 7.0)).z == 0.0
