"""The noise-level estimate against noise of known level, on synthetic and real images."""

from pathlib import Path

import numpy as np
import pytest
from skimage import io

from pairfree.errors import InputError
from pairfree.noise.estimate import (
    KEPT_SHARE,
    MAX_PATCHES,
    estimate_sigma,
    noise_variance,
    patch_side,
    roughness,
    roughness_limit,
    take_patches,
)
from pairfree.noise.simulate import image_rng, simulate

BSD68 = Path(__file__).parents[3] / "shared/data/natural/bsd68"


def smooth_scene(side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side] / side
    return 128 + 80 * np.sin(5 * x + 2 * y) + 30 * np.cos(9 * y)


@pytest.mark.parametrize("sigma", [1.0, 5.0, 25.0, 50.0])
@pytest.mark.parametrize("scene", ["flat", "smooth"])
def test_within_3_percent_on_flat_and_smooth_images(scene, sigma):
    clean = np.full((256, 256), 90.0) if scene == "flat" else smooth_scene(256)
    noisy = clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)
    assert estimate_sigma(noisy) == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize("side", [16, 24, 32, 64])
def test_small_images_are_right_on_average(side):
    rng = np.random.default_rng(1)
    answers = [estimate_sigma(10.0 * rng.standard_normal((side, side))) for _ in range(20)]
    assert np.mean(answers) == pytest.approx(10.0, rel=0.08)


@pytest.mark.skipif(not BSD68.is_dir(), reason="the BSD68 images are not at ../shared/data/natural/bsd68")
@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_within_8_percent_on_real_images(sigma):
    """On a fixed tenth of BSD68. At sigma 15 one of the seven is texture all over and counts it as noise (of all 68, two do)."""
    paths = sorted(BSD68.glob("*.png"))[::10]
    noisy = [simulate(io.imread(path), f"gaussian:sigma={sigma}", image_rng(0, path.stem))[0] for path in paths]
    error = np.array([estimate_sigma(image) / sigma - 1.0 for image in noisy])
    assert np.median(np.abs(error)) < 0.04
    assert np.sum(np.abs(error) > 0.08) <= (1 if sigma == 15 else 0)
    assert np.abs(error).max() < 0.12


def test_a_constant_image_has_no_noise():
    assert estimate_sigma(np.full((40, 40), 1e6)) == 0.0


def test_scale_and_offset():
    noise = np.random.default_rng(2).standard_normal((128, 128))
    assert estimate_sigma(7.0 * noise + 1e5) == pytest.approx(7.0 * estimate_sigma(noise), rel=1e-6)


def test_samples_are_pooled_by_variance():
    noise = np.random.default_rng(3).standard_normal((256, 256, 2)) * [3.0, 4.0]
    assert estimate_sigma(noise) == pytest.approx(np.sqrt(12.5), rel=0.03)


def test_large_images_are_subsampled_the_same_way_each_time():
    noise = np.random.default_rng(4).standard_normal((600, 600))
    assert len(take_patches(noise, 8)) == MAX_PATCHES
    assert estimate_sigma(noise) == estimate_sigma(noise.copy())
    assert estimate_sigma(noise) == pytest.approx(1.0, rel=0.02)


def test_rule_drops_the_eigenvalues_of_the_image():
    assert noise_variance(np.array([900.0, 50.0, 4.0, 4.0, 4.0])) == 4.0
    assert noise_variance(np.array([5.0, 4.0, 3.0])) == 4.0


@pytest.mark.parametrize("side_px", [3, 5, 8])
def test_roughness_limit_keeps_the_share_and_undoes_the_loss(side_px):
    patches = np.random.default_rng(5).standard_normal((40_000, side_px, side_px))
    limit, shrinkage = roughness_limit(side_px)
    kept = roughness(patches) <= limit
    assert kept.mean() == pytest.approx(KEPT_SHARE, abs=0.02)
    assert patches[kept].var() / patches.var() == pytest.approx(shrinkage, abs=0.01)


def test_patches_shrink_with_the_image():
    assert [patch_side(side, side) for side in (16, 32, 48, 64, 1000)] == [3, 4, 6, 8, 8]


def test_tiny_images_are_refused():
    with pytest.raises(InputError, match="16 x 16"):
        estimate_sigma(np.zeros((15, 40)))
