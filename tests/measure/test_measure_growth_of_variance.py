"""The page of ``pairfree.measure``: its fits of variance against brightness, on the same noise."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pairfree import measure
from pairfree.evidence.residual import fit_variance_line
from pairfree.measure import (
    noise_doubts,
    smooth_areas,
    two_sets,
    variance_in_patches,
    variance_in_sets,
    variance_line,
)
from pairfree.measure.noise_doubts import growth_with_brightness
from pairfree.measure.smooth_areas import extract_noise
from pairfree.measure.variance_in_patches import measure_growth
from pairfree.measure.variance_in_sets import measure_counts_law
from pairfree.measure.variance_line import estimate_poisson_gaussian

GAIN, FLOOR, WHITE = 2.0, 25.0, 255.0


def scene(seed: int) -> np.ndarray:
    """Smooth, from 10 to 190."""
    rough = gaussian_filter(np.random.default_rng(seed).normal(0, 1, (512, 512)), 30, mode="wrap")
    return 10 + 180 * (rough - rough.min()) / np.ptp(rough)


def unit_noise(seed: int, correlated: bool) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (512, 512))
    if correlated:
        noise = gaussian_filter(noise, 0.7)
    return noise / noise.std()


@pytest.mark.parametrize("correlated", [False, True])
def test_each_fit_answers_as_the_page_says(correlated):
    clean = [scene(seed) for seed in range(4)]
    noisy = [
        image + np.sqrt(GAIN * image + FLOOR) * unit_noise(seed, correlated)
        for seed, image in enumerate(clean)
    ]
    of_image = np.mean([estimate_poisson_gaussian(image).gain for image in noisy])
    if correlated:
        assert of_image < 0.2 * GAIN
    else:
        assert of_image == pytest.approx(GAIN, rel=0.05)

    planes = [image[None] for image in noisy]
    patches = extract_noise(planes)
    assert measure_growth(planes, patches).noise[0].gain == pytest.approx(GAIN, rel=0.25)
    assert growth_with_brightness(patches.passed, smooth_areas.PATCH_PX) > 0.25

    others = [scene(seed)[None] / WHITE for seed in range(10, 14)]
    law = measure_counts_law([np.clip(plane / WHITE, 0, 1) for plane in planes], others, 256, 0)
    noise = unit_noise(9, correlated)
    fine = np.mean((noise - gaussian_filter(noise, 1)) ** 2)
    assert WHITE * law.gain / fine == pytest.approx(GAIN, rel=0.2)

    oracle = [
        fit_variance_line(image - truth, truth) for image, truth in zip(noisy, clean, strict=True)
    ]
    assert np.mean([line.gain for line in oracle]) == pytest.approx(GAIN, rel=0.02)


def test_the_page_names_functions_that_exist():
    homes = (
        noise_doubts,
        smooth_areas,
        two_sets,
        variance_in_patches,
        variance_in_sets,
        variance_line,
    )
    for home in homes:
        assert home.__name__.rsplit(".", 1)[-1] in measure.__doc__
    for name, home in (
        ("estimate_poisson_gaussian", variance_line),
        ("fit_robust_line", variance_line),
        ("measure_growth", variance_in_patches),
        ("measure_counts_law", variance_in_sets),
        ("measure_difference", two_sets),
        ("growth_with_brightness", noise_doubts),
    ):
        assert name in measure.__doc__
        assert callable(getattr(home, name))
