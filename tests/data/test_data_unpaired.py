"""Two unpaired sets: the common intensity map, and scenes that are in both."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pairfree.data.normalize import Normalizer
from pairfree.data.sets import array_set
from pairfree.data.unpaired import SAME_SCENE, fit_unpaired, scene, shared_scenes
from pairfree.noise.simulate import add_noise


def scenes(
    count: int, seed: int, shape: tuple[int, int] = (256, 320), dtype: type = np.float32
) -> list[np.ndarray]:
    """Blobs of 12 px, 20..230."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.standard_normal(shape), 6) for _ in range(count)]
    return [(np.interp(f, (f.min(), f.max()), (20, 230))).astype(dtype) for f in fields]


def noisy(images: list[np.ndarray], spec: str) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [add_noise(image, spec, rng)[0].astype(np.float32) for image in images]


def test_eight_bit_sets_keep_their_natural_scale():
    first, second = scenes(2, 0, dtype=np.uint8), scenes(2, 1, dtype=np.uint8)
    assert fit_unpaired(array_set(first), array_set(second)) == (Normalizer(0.0, 255.0),) * 2


def test_equal_types_get_one_map_that_holds_both():
    """The darker noisy set stays darker: that difference is what film noise does."""
    bright, dark = array_set(scenes(2, 0)), array_set([image * 0.5 for image in scenes(2, 1)])
    ours, theirs = fit_unpaired(dark, bright)
    assert ours == theirs
    assert all(
        (normalised := ours.apply(plane)).min() > -0.05 and normalised.max() < 1.05
        for plane in (*dark.planes, *bright.planes)
    )
    assert ours.apply(dark.planes[0]).mean() < ours.apply(bright.planes[0]).mean() - 0.1


def test_other_types_get_a_map_each():
    wide, narrow = (
        array_set([(image * 200).astype(np.uint16) for image in scenes(2, 0)]),
        array_set(scenes(2, 1, dtype=np.uint8)),
    )
    ours, theirs = fit_unpaired(wide, narrow)
    assert 190 < theirs.scale < 215
    assert ours.scale > 100 * 200
    assert abs(ours.apply(wide.planes[0]).mean() - 0.5) < 0.2


@pytest.mark.parametrize(("intensity", "same"), [("common", True), ("separate", False)])
def test_the_choice_can_be_made_by_hand(intensity, same):
    bright, dark = array_set(scenes(2, 0)), array_set([image * 0.5 for image in scenes(2, 1)])
    ours, theirs = fit_unpaired(dark, bright, intensity)
    assert (ours == theirs) is same


def test_the_map_does_not_know_which_image_goes_with_which():
    """Histograms only: shuffling the images of a set, or the pixels of an image, changes nothing."""
    images, clean = scenes(4, 0), scenes(4, 1)
    rng = np.random.default_rng(3)
    shuffled = [rng.permutation(image.ravel()).reshape(image.shape) for image in images[::-1]]
    small = [image[:64, :64] for image in clean]  # fewer pixels than are sampled
    assert fit_unpaired(array_set([i[:64, :64] for i in images]), array_set(small)) == fit_unpaired(
        array_set([i[:64, :64] for i in images[::-1]]), array_set(small[::-1])
    )
    whole, mixed = (
        fit_unpaired(array_set(found), array_set(clean))[0] for found in (images, shuffled)
    )
    assert whole.offset == pytest.approx(mixed.offset, abs=3.0)
    assert whole.scale == pytest.approx(mixed.scale, rel=0.02)


@pytest.mark.parametrize("spec", ["gaussian:sigma=50", "film", "charge", "correlated:sigma=50"])
def test_a_scene_is_known_again_under_noise(spec):
    """Image 1 of one set is image 2 of the other, noisy: found, and nothing else."""
    images = scenes(5, 0)
    first, second = array_set(noisy(images[:3], spec)), array_set([images[3], images[4], images[1]])
    found = shared_scenes(first, second)
    assert [(pair[0], pair[1]) for pair in found] == [(first.names[1], second.names[2])]
    assert found[0][2] > SAME_SCENE


@pytest.mark.parametrize("spec", ["gaussian:sigma=5", "film", "charge"])
def test_other_scenes_are_not(spec):
    assert shared_scenes(array_set(noisy(scenes(12, 0), spec)), array_set(scenes(12, 1))) == []


def test_images_of_other_sizes_blank_ones_and_tiny_ones_are_not_compared():
    image = scenes(1, 0)[0]
    blank = np.full_like(image, 7)
    assert shared_scenes(array_set([image]), array_set([image[:128]])) == []
    others = array_set([blank, scenes(1, 3)[0]])
    assert shared_scenes(array_set([image, blank]), others) == []
    assert shared_scenes(array_set([image[:40, :40]]), array_set([image[:40, :40]])) == []


def test_scene_is_blind_to_gain_and_offset():
    image = scenes(1, 0)[0][None]
    np.testing.assert_allclose(scene(image), scene(3.0 * image - 100.0), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(scene(image), axis=1), np.ones(4))


def test_a_common_caption_is_no_common_scene():
    """A burned-in bar over the lowest eighth, far stronger than anything else."""
    captioned = []
    for image in [*scenes(3, 0), *scenes(3, 1)]:
        image[224:] = np.random.default_rng(4).choice([0.0, 4000.0], (32, 20)).repeat(16, 1)
        captioned.append(image)
    assert shared_scenes(array_set(captioned[:3]), array_set(captioned[3:])) == []
