"""MuonAdam: its Adam half is Adam, its Muon half is the published update.

The update is written again here one matrix at a time, in float64.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pairfree.errors import ConfigError
from pairfree.methods import PRESETS
from pairfree.methods.n2c import N2CConfig
from pairfree.methods.parts.optim import MIN_CHANNELS, MuonAdam, orthogonalize


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1, shape))


def descend(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
    """Gradients that differ from step to step and in size by 1000."""
    for step in range(steps):
        for index, parameter in enumerate(net.parameters()):
            parameter.grad = some(*parameter.shape, seed=100 * step + index) * 10.0 ** (
                index % 4 - 2
            )
        optimizer.step()


def test_without_wide_kernels_it_is_adam():
    """Biases, norms and narrow layers: the same weights as torch.optim.Adam's."""
    torch.manual_seed(0)
    make = nn.Sequential(
        nn.Conv2d(1, 40, 3), nn.BatchNorm2d(40), nn.Conv2d(40, MIN_CHANNELS - 1, 3)
    ).double()
    weights = {key: value.clone() for key, value in make.state_dict().items()}
    ends = []
    for optimizer in (
        lambda p: MuonAdam(p, 1e-2, (0.8, 0.95)),
        lambda p: torch.optim.Adam(p, 1e-2, (0.8, 0.95)),
    ):
        make.load_state_dict(weights)
        descend(make, optimizer(make.parameters()))
        ends.append([parameter.detach().clone() for parameter in make.parameters()])
    for mine, theirs, start in zip(
        *ends, (weights[key] for key, _ in make.named_parameters()), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)
        assert not torch.equal(mine, start)


def muon_by_hand(
    weight: np.ndarray, gradients: list[np.ndarray], rate: float, beta: float
) -> np.ndarray:
    rows = weight.shape[0]
    weight, momentum = weight.reshape(rows, -1).copy(), np.zeros((rows, weight.size // rows))
    for gradient in gradients:
        g = gradient.reshape(rows, -1)
        momentum = beta * momentum + (1 - beta) * g
        x = (1 - beta) * g + beta * momentum  # Nesterov
        x = x / np.sqrt((x**2).sum())
        for _ in range(5):
            if rows <= x.shape[1]:
                s = x @ x.T
                x = 3.4445 * x - 4.7750 * s @ x + 2.0315 * s @ s @ x
            else:
                s = x.T @ x
                x = 3.4445 * x - 4.7750 * x @ s + 2.0315 * x @ s @ s
        weight -= rate * max(1.0, rows / x.shape[1]) ** 0.5 * x
    return weight


@pytest.mark.parametrize("shape", [(16, 16, 3, 3), (32, 16, 1, 1), (64, 20, 1, 1), (20, 64, 2, 2)])
def test_wide_kernels_take_the_muon_step(shape):
    """Several kernels of one shape are stacked inside; each must still be updated by its own gradient."""
    kernels = nn.ParameterList([nn.Parameter(some(*shape, seed=s)) for s in (1, 2)])
    optimizer = MuonAdam(kernels, 1e-2, (0.9, 0.99), momentum=0.9, muon_ratio=3.0)
    gradients = [[some(*shape, seed=10 * step + k) for k in range(2)] for step in range(3)]
    for pair in gradients:
        for kernel, gradient in zip(kernels, pair, strict=True):
            kernel.grad = gradient.clone()
        optimizer.step()
    for k, kernel in enumerate(kernels):
        expected = muon_by_hand(
            some(*shape, seed=k + 1).numpy(), [pair[k].numpy() for pair in gradients], 3e-2, 0.9
        )
        np.testing.assert_allclose(
            kernel.detach().numpy().reshape(shape[0], -1), expected, rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize("shape", [(3, 16, 144), (2, 64, 16), (1, 32, 128)])
def test_orthogonalize_keeps_directions_and_levels_singular_values(shape):
    x = some(*shape)
    found = orthogonalize(x)
    assert found.shape == x.shape
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    core = u.transpose(1, 2) @ found @ v.transpose(1, 2)
    values = torch.diagonal(core, dim1=1, dim2=2)
    assert ((values > 0.6) & (values < 1.25)).all()
    assert (core - torch.diag_embed(values)).abs().max() < 1e-10


def test_the_size_of_the_gradient_does_not_matter_and_no_gradient_moves_nothing():
    x = some(1, 16, 20)
    torch.testing.assert_close(orthogonalize(1e6 * x), orthogonalize(x))
    assert orthogonalize(torch.zeros(1, 16, 20)).abs().max() == 0.0


def test_the_paper_presets_use_the_papers_optimizers():
    for key, presets in PRESETS.items():
        published = "radam" if key in ("iscl", "cyclegan") else "adam"
        for name, preset in presets.items():
            if "paper" in name:
                assert getattr(preset, "optimizer", published) == published


def test_optimizer_names_are_checked():
    with pytest.raises(ConfigError, match="optimizer = 'sgd': must be one of muon, adam"):
        N2CConfig(optimizer="sgd")


@pytest.mark.parametrize(("name", "kind"), [("muon", MuonAdam), ("adam", torch.optim.Adam)])
def test_the_optimizer_is_the_one_asked_for_and_its_state_is_saved(name, kind, small):
    """Wide enough for both halves of MuonAdam; a loaded state makes the same next step bit for bit."""
    data = small.data()
    method, loaded = (small.method("nb2nb", seed=s, width=16, optimizer=name) for s in (0, 1))
    assert type(method.optimizers["net"]) is kind
    small.run(method, data)
    loaded.load_tensors(small.copied(method))
    for each in (method, loaded):
        small.last_stage_step(each, data)
    assert any("exp_avg" in key for key in method.tensors())
    assert any("momentum" in key for key in method.tensors()) == (name == "muon")
    for key, value in method.tensors().items():
        assert torch.equal(value, loaded.tensors()[key]), key
