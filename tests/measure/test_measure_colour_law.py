"""The laws of three colours: what is measured against what was drawn, and where differences do not tell."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter

from pairfree.measure.colour_law import measure_colour_laws
from pairfree.measure.plane_law import LEAST_LEVEL
from pairfree.scenes import draw_scene

SIDE = 192


def grass(colours: int = 3) -> np.ndarray:
    """Fine texture all over, the same in all colours but for their strengths; 20 to 220, (C, H, W)."""
    rng = np.random.default_rng(0)
    blades = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 0.7)
    hills = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 20.0)
    scene = 110.0 + 70.0 * hills / np.abs(hills).max() + 12.0 * blades / blades.std()
    strengths = np.array([1.0, 0.97, 0.94])[:colours, None, None]
    return np.clip(strengths * scene, 20.0, 220.0)


def meadow() -> np.ndarray:
    """Grass whose hue changes slowly."""
    fields = np.random.default_rng(7).standard_normal((3, SIDE, SIDE))
    hues = gaussian_filter(fields, (0, 24.0, 24.0))
    return np.clip(grass() + 30.0 * hues / np.abs(hues).max(), 0.0, 255.0)


def compress(planes: np.ndarray) -> np.ndarray:
    """The same as a JPEG, float64."""
    stored = io.BytesIO()
    as_bytes = np.clip(np.rint(np.moveaxis(planes, 0, -1)), 0, 255).astype(np.uint8)
    Picture.fromarray(as_bytes).save(stored, "JPEG", quality=92, subsampling=0)
    return np.moveaxis(np.asarray(Picture.open(stored)), -1, 0).astype(np.float64)


def noise(*deviations: float, seed: int = 1) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((3, SIDE, SIDE))
    return np.array(deviations)[:, None, None] * drawn


@pytest.mark.parametrize("deviations", [(4.0, 4.0, 4.0), (12.0, 12.0, 12.0), (9.0, 6.0, 12.0)])
def test_each_colour_has_its_level_under_texture(deviations):
    laws = measure_colour_laws(grass() + noise(*deviations))
    assert laws is not None
    for law, deviation in zip(laws, deviations, strict=True):
        assert law.noise.gain == 0
        assert not law.correlated
        assert np.sqrt(law.noise.floor) == pytest.approx(deviation, rel=0.08)


def test_an_image_without_noise_has_the_least_level():
    clean = np.rint(grass())
    laws = measure_colour_laws(clean)
    assert laws is not None
    least = LEAST_LEVEL * np.ptp(clean)
    assert [np.sqrt(law.noise.floor) for law in laws] == pytest.approx([least] * 3, rel=0.2)


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_counted_photons_have_one_line(gain):
    clean = grass()
    noisy = gain * np.random.default_rng(2).poisson(clean / gain)
    laws = measure_colour_laws(noisy.astype(np.float64))
    assert laws is not None
    for law in laws:
        assert law.noise.variance(np.array(110.0)) == pytest.approx(110.0 * gain, rel=0.12)
        assert law.noise.gain == pytest.approx(gain, rel=0.3)


@pytest.mark.parametrize("level", [10.0, 40.0])
def test_clipped_noise_is_measured_where_it_is_whole(level):
    bright = 1.8 * grass() - 60.0
    noisy = np.clip(np.rint(bright + noise(level, level, level)), 0.0, 255.0)
    assert np.mean((noisy == 0) | (noisy == 255)) > 0.005
    laws = measure_colour_laws(noisy)
    assert laws is not None
    for law in laws:
        assert np.sqrt(law.noise.variance(np.array(128.0))) == pytest.approx(level, rel=0.1)


def test_where_differences_do_not_tell_each_colour_is_left_to_itself():
    clean = grass()
    grey_as_rgb = np.repeat((clean + noise(8.0, 8.0, 8.0))[:1], 3, axis=0)
    one_much_quieter = clean + noise(20.0, 20.0, 2.0)
    other_gain = clean + noise(1.0, 1.0, 1.0)
    other_gain[0] = 8.0 * np.random.default_rng(3).poisson(clean[0] / 8.0)
    small = clean[:, :12, :12] + noise(8.0, 8.0, 8.0)[:, :12, :12]
    for planes in (grey_as_rgb, one_much_quieter, other_gain, small):
        assert measure_colour_laws(planes) is None


def test_three_stains_that_have_nothing_in_common():
    """Either refused, or no law is far off."""
    kinds = ("filaments", "nuclei", "spots")
    stains = [200.0 * draw_scene(1, 5, height=SIDE, width=SIDE, kind=kind) for kind in kinds]
    laws = measure_colour_laws(np.stack(stains) + noise(10.0, 10.0, 10.0))
    levels = [10.0] if laws is None else [np.sqrt(law.noise.floor) for law in laws]
    assert levels == pytest.approx([10.0] * len(levels), rel=0.1)


def test_the_answer_follows_from_the_pixels():
    planes = grass() + noise(8.0, 8.0, 8.0)
    assert measure_colour_laws(planes) == measure_colour_laws(planes.copy())


@pytest.mark.parametrize("compressed", [False, True])
def test_a_camera_that_interpolates_and_compresses_is_not_taken_for_quiet(compressed):
    """Chen's rule finds nearly nothing in such noise, in colours and in their differences alike."""
    clean = gaussian_filter(meadow(), (0, 0.6, 0.6))
    planes = gaussian_filter(meadow() + noise(16.0, 16.0, 16.0), (0, 0.6, 0.6))
    laws = measure_colour_laws(compress(planes) if compressed else planes)
    assert laws is not None
    assert all(law.correlated for law in laws)
    level = np.sqrt(laws[0].noise.floor)
    assert 0.5 * (planes - clean).std() < level < 1.3 * (planes - clean).std()


def test_a_compressed_photograph_without_noise_is_not_taken_for_noisy():
    """Its fine texture is shared by neighbours, as noise of a camera is, but also by its colours."""
    laws = measure_colour_laws(compress(meadow()))
    assert laws is not None
    assert max(np.sqrt(law.noise.floor) for law in laws) < 4.0
