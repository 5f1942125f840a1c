"""The start's network: brightness does not matter, and its grid can be taken off."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from pairfree.nets.blocks import ZeroSumConv2d
from pairfree.nets.even_unet import EvenUNet, measure_grid
from pairfree.nets.receptive_field import measured_receptive_field_px
from pairfree.nets.shuffle_unet import ShuffleUNet


@pytest.fixture
def net() -> EvenUNet:
    """With a last layer that does something, and a bias that differs from place to place."""
    torch.manual_seed(0)
    made = EvenUNet(2, width=8).eval()
    torch.nn.init.normal_(made.last.weight, 0.0, 0.1)
    torch.nn.init.normal_(made.last.bias, 0.0, 0.1)
    return made


def noise(count: int, seed: int = 1, side: int = 64) -> Tensor:
    return torch.randn(count, 2, side, side, generator=torch.Generator().manual_seed(seed))


def test_a_fresh_network_changes_nothing():
    x = noise(1)
    assert torch.equal(EvenUNet(2, width=8)(x), x)


@pytest.mark.parametrize("offset", [-40.0, 3.0, 1000.0])
def test_a_constant_that_is_added_comes_through_borders_included(net, offset):
    x = noise(2)
    with torch.no_grad():
        change = net(x) - x
        shifted = net(x + offset) - (x + offset)
    assert change.abs().max() > 0.1
    assert torch.allclose(change, shifted, atol=2e-6 * abs(offset) + 1e-5)


def test_a_kernel_that_adds_up_to_zero_sees_no_constant():
    layer = ZeroSumConv2d(3, 5, 3)
    bias = layer.bias.detach()[:, None, None]
    flat = torch.full((1, 3, 12, 12), 7.0)
    assert torch.allclose(layer(flat), bias.expand(1, 5, 12, 12), atol=1e-5)


def test_it_sees_as_far_as_the_network_that_it_is_made_of():
    expected = measured_receptive_field_px(ShuffleUNet(1, width=8), 1)
    assert measured_receptive_field_px(EvenUNet(1, width=8), 1) == expected > 20


def test_the_measured_receptive_field_is_the_one_it_has(net):
    """Nothing farther away changes a pixel; something at that distance does."""
    reach = measured_receptive_field_px(net, 2)
    x = noise(1, side=256).requires_grad_()
    torch.nn.init.normal_(net.last.weight, 0.0, 1.0)
    (gradient,) = torch.autograd.grad(net(x)[..., 128:136, 128:136].sum(), x)
    touched = gradient.abs().sum((0, 1)) > 0
    rows = torch.nonzero(touched.any(1)).flatten()
    assert int(rows.min()) >= 128 - reach
    assert int(rows.max()) <= 135 + reach
    assert int(rows.max()) - int(rows.min()) > reach


class Grid(torch.nn.Module):
    """Adds a pattern to each cell, and blurs in a way that no cell knows of."""

    def __init__(self, pattern: Tensor) -> None:
        super().__init__()
        self.pattern = pattern

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[-2] // 8, x.shape[-1] // 8
        return torch.nn.functional.avg_pool2d(x, 3, 1, 1) + self.pattern.repeat(1, rows, columns)


def test_a_grid_is_measured_whatever_the_patches_show():
    torch.manual_seed(0)
    pattern = torch.randn(2, 8, 8)
    pattern -= pattern.mean((1, 2), keepdim=True)
    scene = 100.0 * noise(2, side=64).cumsum(-1)
    found = measure_grid(Grid(pattern), scene, 8)
    assert torch.allclose(found, pattern, atol=1e-3)


def test_a_grid_that_is_settled_is_gone_on_other_inputs(net):
    with torch.no_grad():
        before = measure_grid(net, noise(4, seed=2, side=128), 8).std()
        net.settle_grid(noise(4, seed=3, side=128))
        after = measure_grid(net, noise(4, seed=2, side=128), 8).std()
        bright = measure_grid(net, noise(4, seed=2, side=128) + 90.0, 8).std()
    assert before > 0.1
    assert after < 0.1 * before
    assert bright == pytest.approx(float(after), rel=0.02)


def test_a_grid_that_is_settled_again_is_the_same(net):
    net.settle_grid(noise(2, seed=3))
    first = net.grid.clone()
    net.settle_grid(noise(2, seed=3))
    assert torch.equal(net.grid, first)


def test_the_grid_is_kept_with_the_weights(net):
    net.settle_grid(noise(1, seed=3))
    other = EvenUNet(2, width=8).eval()
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    assert torch.equal(net(noise(1)), other(noise(1)))
