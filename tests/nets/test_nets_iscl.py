"""ISCL's networks: sizes as published, shapes, padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pairfree.nets.blocks import parameter_count
from pairfree.nets.iscl import Critic, Extractor, Generator, pad_symmetrically
from pairfree.nets.receptive_field import measured_receptive_field_px


@pytest.mark.parametrize(
    ("made", "millions"), [(Generator, 1.15), (Extractor, 0.17), (Critic, 2.8)]
)
def test_sizes_are_those_of_the_authors(made, millions):
    assert parameter_count(made()) / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("made", "sides"), [(Generator, (4, 12, 64)), (Extractor, (1, 7, 33))])
def test_shape_comes_back(made, sides, channels):
    net = made(channels, 4).eval()
    for side in sides:
        x = torch.rand(2, channels, side, side * 2) * 2 - 1
        assert net(x).shape == x.shape


@pytest.mark.parametrize("patch_px", [16, 32, 64, 128])
def test_a_critic_gives_one_score_a_patch(patch_px):
    assert Critic(1, 4, patch_px)(torch.rand(3, 1, patch_px, patch_px)).shape == (3, 1, 1, 1)


@pytest.mark.parametrize("patch_px", [4, 24, 100])
def test_a_critic_refuses_other_sides(patch_px):
    with pytest.raises(ValueError, match="power of two"):
        Critic(1, 4, patch_px)


def test_generator_stays_in_range():
    out = Generator(1, 4)(10 * torch.randn(2, 1, 16, 16))
    assert out.abs().max() <= 1


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_pad_symmetricallyding_is_numpy_s(reach):
    x = np.arange(2 * 4 * 5, dtype=np.float32).reshape(1, 2, 4, 5)
    expected = np.pad(x, [(0, 0), (0, 0), (reach, reach), (reach, reach)], mode="symmetric")
    np.testing.assert_array_equal(pad_symmetrically(torch.from_numpy(x), reach).numpy(), expected)


def test_receptive_fields():
    """H: one pixel a 3x3 layer. F: at least that of its residual blocks at a quarter of the resolution."""
    assert measured_receptive_field_px(Extractor(1, 4, 20), 1) == 20
    assert measured_receptive_field_px(Generator(1, 4, 3), 1) >= 4 * 6
