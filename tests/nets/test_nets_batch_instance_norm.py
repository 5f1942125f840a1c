"""Batch-instance normalisation against NumPy, and that no result depends on batch or tile."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pairfree.nets.batch_instance_norm import (
    EPS,
    BatchInstanceNorm,
    clip_rho,
    drop_statistics,
    find_norms,
    hold_statistics,
    recompute_running_statistics,
    take_statistics,
)

SHAPE = (3, 2, 5, 7)


def made(seed: int = 0) -> BatchInstanceNorm:
    torch.manual_seed(seed)
    layer = BatchInstanceNorm(SHAPE[1]).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand(SHAPE[1]))
        layer.running_mean.copy_(torch.randn(SHAPE[1]))
        layer.running_var.copy_(torch.rand(SHAPE[1]) + 0.5)
    return layer


def images(seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(SHAPE, dtype=torch.float64) * 2 + torch.arange(SHAPE[0]).view(-1, 1, 1, 1)


def by_hand(
    x: np.ndarray,
    layer: BatchInstanceNorm,
    mean_b: np.ndarray,
    var_b: np.ndarray,
    axes: tuple[int, ...] = (2, 3),
) -> np.ndarray:
    """rho BN + (1 - rho) IN, then gain and bias."""
    numbers = (layer.rho.detach(), layer.weight.detach(), layer.bias.detach(), mean_b, var_b)
    rho, gain, bias, mean_b, var_b = (np.asarray(one).reshape(1, -1, 1, 1) for one in numbers)
    mean_i, var_i = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    of_batch = rho * (x - mean_b) / np.sqrt(var_b + EPS)
    of_image = (1 - rho) * (x - mean_i) / np.sqrt(var_i + EPS)
    return gain * (of_batch + of_image) + bias


def test_training_uses_statistics_of_batch_and_sample():
    layer, x = made(), images()
    values = x.numpy()
    found = layer(x).detach().numpy()
    np.testing.assert_allclose(
        found,
        by_hand(values, layer, values.mean((0, 2, 3)), values.var((0, 2, 3))),
        rtol=1e-10,
        atol=1e-12,
    )


def test_training_moves_the_running_statistics_as_batch_norm_does():
    layer, reference, x = made(), nn.BatchNorm2d(SHAPE[1]).double(), images()
    reference.running_mean.copy_(layer.running_mean)
    reference.running_var.copy_(layer.running_var)
    layer(x)
    layer(100 * x)  # only the first batch since the last time counts
    kept = layer.running_mean.clone()
    take_statistics(layer)
    assert not torch.equal(layer.running_mean, kept)
    reference(x)
    torch.testing.assert_close(layer.running_mean, reference.running_mean)
    torch.testing.assert_close(layer.running_var, reference.running_var)


def test_evaluation_uses_running_statistics_and_those_of_each_sample():
    layer, x = made().eval(), images()
    found = layer(x).detach().numpy()
    np.testing.assert_allclose(
        found,
        by_hand(x.numpy(), layer, layer.running_mean, layer.running_var),
        rtol=1e-10,
        atol=1e-12,
    )


def test_gradients():
    layer, x = made(), images().requires_grad_()
    inputs = (x, layer.rho, layer.weight, layer.bias)

    def run(x, rho, weight, bias):
        return torch.func.functional_call(layer, {"rho": rho, "weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, inputs)


def test_a_batch_of_one_equals_a_batch_of_many():
    layer, x = made().eval(), images()
    torch.testing.assert_close(
        torch.cat([layer(one[None]) for one in x]), layer(x), rtol=1e-12, atol=1e-12
    )


def test_held_statistics_are_those_of_the_whole_and_end_with_the_block():
    layer, x = made().eval(), images()
    whole = layer(x[:1])
    with hold_statistics(layer, lambda: layer(x[:1])):
        torch.testing.assert_close(
            layer(x[:1, :, :2, :3]), whole[..., :2, :3], rtol=1e-12, atol=1e-12
        )
    assert (layer(x[:1, :, :2, :3]) - whole[..., :2, :3]).abs().max() > 1e-3
    with hold_statistics(layer, lambda: layer(x)):
        found = layer(x).detach().numpy()
    expected = by_hand(x.numpy(), layer, layer.running_mean, layer.running_var, (0, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_held_statistics_are_taken_layer_by_layer():
    torch.manual_seed(2)
    net = nn.Sequential(made(3), nn.Conv2d(2, 2, 1).double(), made(4)).eval()
    x = images()
    with hold_statistics(net, lambda: net(x[:1])):
        inside = net(x[:1, :, 1:4])
    torch.testing.assert_close(inside, net(x[:1])[:, :, 1:4], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fails", [True, False])
def test_held_statistics_are_released_whatever_happens(fails):
    layer, x = made().eval(), images()
    try:
        with hold_statistics(layer, lambda: layer(x)):
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert layer.held is None
    assert not layer.holds


def test_rho_is_clipped():
    net = nn.Sequential(made(), made(1))
    with torch.no_grad():
        find_norms(net)[0].rho.copy_(torch.tensor([-0.2, 0.4]))
        find_norms(net)[1].rho.copy_(torch.tensor([1.3, 0.0]))
    clip_rho(net)
    assert find_norms(net)[0].rho.tolist() == pytest.approx([0.0, 0.4])
    assert find_norms(net)[1].rho.tolist() == pytest.approx([1.0, 0.0])


def test_recomputed_running_statistics_are_the_mean_over_the_batches():
    layer, batches = made().eval(), [images(seed) for seed in range(4)]
    recompute_running_statistics(layer, iter(batches))
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variances = torch.stack([batch.var((0, 2, 3), correction=1) for batch in batches]).mean(0)
    torch.testing.assert_close(layer.running_mean, means)
    torch.testing.assert_close(layer.running_var, variances)
    assert not layer.training


def test_statistics_can_be_dropped():
    layer = made()
    kept = layer.running_mean.clone()
    layer(images())
    drop_statistics(layer)
    take_statistics(layer)
    assert torch.equal(layer.running_mean, kept)
    copy.deepcopy(layer(images()).grad_fn and layer)  # what was seen carries no graph
