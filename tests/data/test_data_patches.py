"""Patches: a batch is a function of (seed, step).

Gathers equal explicit slicing and the 8 symmetries; every place is equally likely.
"""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfree.data.patches import PatchPool, TrainingData
from pairfree.data.seeding import counted_seed, generator
from pairfree.errors import InputError

SHAPES = [(2, 5, 9), (2, 12, 4), (2, 4, 4), (2, 7, 7)]


def planes(shapes=SHAPES) -> list[np.ndarray]:
    """Planes whose pixels are all different, across planes and channels."""
    starts = itertools.accumulate([0] + [int(np.prod(shape)) for shape in shapes])
    return [
        np.arange(start, start + np.prod(shape), dtype=np.float32).reshape(shape)
        for start, shape in zip(starts, shapes)
    ]


def symmetry(patch: np.ndarray, k: int) -> np.ndarray:
    """(C, P, P): out[y, x] = patch[source of (y, x)].

    Bit 0 mirrors rows, bit 1 columns, bit 2 swaps them last.
    """
    patch = patch.transpose(0, 2, 1) if k & 4 else patch
    patch = patch[:, ::-1] if k & 1 else patch
    return patch[:, :, ::-1] if k & 2 else patch


@pytest.mark.parametrize("augment", [True, False])
def test_gather_equals_slicing_at_every_place_of_every_image(augment):
    made = planes()
    pool = PatchPool(made, "cpu", 4)
    places = [
        (i, top, left, k)
        for i, plane in enumerate(made)
        for top in range(plane.shape[1] - 3)
        for left in range(plane.shape[2] - 3)
        for k in range(8)
    ]
    found = pool.gather(torch.tensor(places), augment).numpy()
    assert found.shape == (len(places), 2, 4, 4)
    for patch, (i, top, left, k) in zip(found, places):
        cut = made[i][:, top : top + 4, left : left + 4]
        np.testing.assert_array_equal(patch, symmetry(cut, k) if augment else cut)


@pytest.mark.parametrize("augment", [True, False])
def test_the_gather_of_a_gpu_is_that_of_a_cpu(augment):
    """The index computation, done here: images higher than wide, wider than high, and several channels."""
    pool = PatchPool(planes(), "cpu", 4)
    places = pool.draw(0, 0, 200)
    assert set(places[:, 0].tolist()) == set(range(len(SHAPES)))
    found = pool._indexed(places, augment)
    assert torch.equal(found, pool.gather(places, augment))


def test_the_eight_augmentations_are_the_eight_symmetries_of_the_square():
    """All different, and each one of the rotations and mirrored rotations."""
    pool = PatchPool([np.arange(9, dtype=np.float32).reshape(1, 3, 3)], "cpu", 3)
    found = {
        tuple(p.flatten().tolist())
        for p in pool.gather(torch.tensor([(0, 0, 0, k) for k in range(8)]))
    }
    square = np.arange(9).reshape(3, 3)
    group = {tuple(np.rot90(s, k).flatten().tolist()) for s in (square, square.T) for k in range(4)}
    assert len(group) == 8
    assert found == group


def test_channels_and_target_move_together():
    noisy = planes()
    data = TrainingData(
        PatchPool(noisy, "cpu", 4), PatchPool([plane + 1000 for plane in noisy], "cpu", 4)
    )
    batch = data.batch(3, 5, 64)
    assert torch.equal(batch.target, batch.noisy + 1000)
    areas = np.cumsum([plane.size for plane in noisy])
    for patch in batch.noisy.numpy():
        image = np.searchsorted(areas, patch[0], side="right")
        assert (image == image.flat[0]).all()  # one image a patch
        np.testing.assert_array_equal(patch[1] - patch[0], noisy[image.flat[0]][0].size)


def test_the_clean_set_is_drawn_on_its_own():
    """Unpaired: other places than the noisy set's even where both sets have the same shapes."""
    pool = PatchPool(planes(), "cpu", 4)
    batch = TrainingData(pool, clean=pool).batch(0, 0, 64)
    assert batch.target is None
    assert not torch.equal(batch.clean, batch.noisy)
    assert TrainingData(pool).batch(0, 0, 4).clean is None


def test_a_batch_is_a_function_of_seed_and_step():
    """Whatever was drawn before, in whatever order, and whatever the global generators do."""
    data = TrainingData(PatchPool(planes(), "cpu", 4), clean=PatchPool(planes(), "cpu", 4))
    forward = [data.batch(1, step, 8) for step in range(6)]
    torch.manual_seed(99)
    for step in (5, 2, 0, 3):
        again = data.batch(1, step, 8)
        assert torch.equal(again.noisy, forward[step].noisy)
        assert torch.equal(again.clean, forward[step].clean)
    state = torch.get_rng_state()
    data.batch(1, 0, 8)
    assert torch.equal(torch.get_rng_state(), state)
    drawn = [tuple(batch.noisy.flatten().tolist()) for batch in [*forward, data.batch(2, 0, 8)]]
    assert len(set(drawn)) == 7


def test_another_process_draws_the_same():
    code = (
        "import numpy as np; from pairfree.data.patches import PatchPool;"
        "pool = PatchPool([np.zeros((1, 30, 40))], 'cpu', 8); print(pool.draw(7, 123, 5).flatten().tolist())"
    )
    here = PatchPool([np.zeros((1, 30, 40))], "cpu", 8).draw(7, 123, 5).flatten().tolist()
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert there.strip() == str(here)


def test_counted_seeds_never_change():
    """Written down once: a checkpoint of today must resume the same with any later version."""
    assert counted_seed(0, 0, "patches") == 5821640704074881243
    assert counted_seed(1, 23, "mask") == 60517840441932769
    assert (
        torch.rand(1, generator=generator(0, 0, "patches"), dtype=torch.float64).item()
        == 0.13214078109768967
    )


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.text(max_size=10))
def test_counted_seeds_fit_a_generator_and_differ(seed, step, purpose):
    found = {
        counted_seed(seed, step, purpose),
        counted_seed(seed, step + 1, purpose),
        counted_seed(seed + 1, step, purpose),
    }
    assert len(found | {counted_seed(seed, step, purpose + "x")}) == 4
    assert all(0 <= value < 2**63 for value in found)


def test_every_place_and_symmetry_is_equally_likely():
    """Chi-square over all places of images of mixed shapes, and over the 8 symmetries.

    Large images get their share.
    """
    pool, draws = PatchPool(planes(), "cpu", 4), 40_000
    places = pool.draw(0, 0, draws).numpy()
    keys, counts = np.unique(places[:, :3], axis=0, return_counts=True)
    expected = {
        (i, top, left)
        for i, (_, h, w) in enumerate(SHAPES)
        for top in range(h - 3)
        for left in range(w - 3)
    }
    assert {tuple(key) for key in keys} == expected
    for found in (counts, np.bincount(places[:, 3], minlength=8)):
        mean = draws / len(found)
        freedom = len(found) - 1
        assert ((found - mean) ** 2 / mean).sum() < freedom + 5 * (2 * freedom) ** 0.5


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=4),
    st.integers(1, 12),
    st.integers(0, 99),
)
def test_patches_of_any_shapes_hold_pixels_of_one_image_only(shapes, patch_px, step):
    """Every patch value comes from the image drawn, none from its neighbours in memory.

    Images have any size, smaller than the patch, too.
    """
    made = planes([(1, *shape) for shape in shapes])
    pool = PatchPool(made, "cpu", patch_px)
    places = pool.draw(0, step, 16)
    for patch, place in zip(pool.gather(places).numpy(), places.tolist()):
        assert patch.shape == (1, patch_px, patch_px)
        assert np.isin(patch, made[place[0]]).all()


@pytest.mark.parametrize(("height", "width"), [(3, 10), (10, 3), (2, 3), (1, 1)])
def test_an_image_smaller_than_the_patch_is_mirrored(height, width):
    """symmetric: the edge pixel is repeated, d c b a | a b c d | d c b a."""

    def mirrored(i: int, size: int) -> int:
        i %= 2 * size
        return i if i < size else 2 * size - 1 - i

    plane = planes([(1, height, width)])[0]
    found = PatchPool([plane], "cpu", 8).gather(torch.tensor([[0, 0, 0, 0]]))[0, 0].numpy()
    for y, x in itertools.product(range(8), range(8)):
        assert found[y, x] == plane[0, mirrored(y, height), mirrored(x, width)]


def test_pools_are_float32_in_the_order_given():
    pool = PatchPool([np.full((1, 4, 4), k, np.float64) for k in range(3)], "cpu", 4)
    assert pool.flat.dtype == torch.float32
    assert len(pool) == 3
    assert pool.gather(torch.tensor([(k, 0, 0, 0) for k in range(3)]))[:, 0, 0, 0].tolist() == [
        0.0,
        1.0,
        2.0,
    ]


def test_pools_refuse_nothing_and_mixed_channels():
    with pytest.raises(InputError, match="at least one file"):
        PatchPool([], "cpu", 4)
    with pytest.raises(InputError, match=r"\[1, 3\] channels"):
        PatchPool([np.zeros((1, 4, 4)), np.zeros((3, 4, 4))], "cpu", 4)
