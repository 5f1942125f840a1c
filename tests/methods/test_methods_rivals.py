"""UIDNet and Quan et al.: losses against NumPy, the order of their updates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from pairfree.errors import ConfigError
from pairfree.methods import iscl, quan, uidnet
from pairfree.methods.base import At
from pairfree.methods.quan import QuanConfig, kept_loss, three_way_cycle_loss
from pairfree.methods.uidnet import (
    UIDNetConfig,
    gradient_penalty,
    pseudo_pair_loss,
    sharpened,
    wasserstein_loss,
)

SHAPE = (3, 2, 4, 5)


def draw(count: int, shape: tuple[int, ...] = SHAPE) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0.2, 0.8, shape) for _ in range(count)]


EQUATIONS = [
    (wasserstein_loss, 2, lambda real, fake: fake.mean() - real.mean()),
    (gradient_penalty, 1, lambda g: np.mean((np.sqrt((g**2).sum((1, 2, 3))) - 1) ** 2)),
    (kept_loss, 2, lambda y, kept: np.abs(kept - y).mean()),
    (pseudo_pair_loss, 2, lambda f, y: np.mean((f - y) ** 2)),
    (
        three_way_cycle_loss,
        6,
        lambda x, x2, y, y2, n, n2: (
            np.abs(x - x2).mean() + np.abs(y - y2).mean() + np.abs(n - n2).mean()
        ),
    ),
]


@pytest.mark.parametrize(("loss", "count", "equation"), EQUATIONS)
def test_losses_equal_their_equations(loss, count, equation):
    arrays = draw(count)
    np.testing.assert_allclose(
        loss(*(torch.from_numpy(a) for a in arrays)).item(), equation(*arrays), rtol=1e-10
    )


@pytest.mark.parametrize(("loss", "count"), [row[:2] for row in EQUATIONS])
def test_gradients_of_the_losses(loss, count):
    assert torch.autograd.gradcheck(
        loss, [torch.from_numpy(a).requires_grad_() for a in draw(count, (2, 1, 3, 2))]
    )


def test_sharpened_stacks_the_image_and_what_a_mean_filter_takes_away():
    (x,) = draw(1, (2, 3, 6, 5))
    found = sharpened(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(found[:, :3], x)
    inside = (x - ndimage.uniform_filter(x, (1, 1, 3, 3)))[..., 1:-1, 1:-1]
    np.testing.assert_allclose(found[:, 3:, 1:-1, 1:-1], inside, atol=1e-12)
    np.testing.assert_allclose(
        found[0, 3, 0, 0], x[0, 0, 0, 0] - x[0, 0, :2, :2].mean(), atol=1e-12
    )


@pytest.mark.parametrize(
    ("key", "module", "order", "changes"),
    [
        ("uidnet", uidnet, ["D", "G", "f"], {}),
        ("uidnet", uidnet, ["D", "D", "D", "G", "f"], {"critic_steps": 3}),
        ("quan", quan, ["F, G", "D_X, D_Y, D_N"], {}),
        ("quan", quan, ["F, G", "D_X, D_Y, D_N"], {"identity": 0.0}),
    ],
)
def test_order_of_the_updates(key, module, order, changes, small, monkeypatch):
    method, data, seen, real = small.method(key, **changes), small.data(), [], module.update
    monkeypatch.setattr(
        module,
        "update",
        lambda o, loss, at, name, *rest: (seen.append(name), real(o, loss, at, name, *rest)),
    )
    method.step(data.batch(0, 0, 2), At(0, 0, "train", 0, 10))
    assert seen == order


def test_the_penalty_of_a_linear_critic_is_known(small):
    """D(x) = w . x has the gradient w everywhere."""
    method, data = small.method("uidnet"), small.data()
    weight = torch.randn(1, 2, 32, 32)
    method.D = lambda x: (weight * x).sum((1, 2, 3))
    batch = data.batch(0, 0, 2)
    found = method._penalty(batch.noisy, batch.clean, At(0, 0, "train", 0, 10), 0)
    torch.testing.assert_close(found, (weight.norm() - 1) ** 2)


@pytest.mark.parametrize(
    ("key", "module"), [("uidnet", uidnet), ("quan", quan), ("iscl", iscl), ("cyclegan", iscl)]
)
def test_each_loss_reaches_the_weights_of_its_own_networks_only(key, module, small, monkeypatch):
    """What one update makes for another is a constant to it."""
    method, data, real = small.method(key), small.data(), module.update

    def checked(optimizer, loss, at, names, *rest):
        trained = {
            name: [p for p in net.parameters() if p.requires_grad]
            for name, net in method.networks.items()
        }
        everything = [p for parameters in trained.values() for p in parameters]
        gradients = iter(
            torch.autograd.grad(loss, everything, retain_graph=True, allow_unused=True)
        )
        reached = {
            name
            for name, parameters in trained.items()
            for _ in parameters
            if next(gradients) is not None
        }
        assert reached == set(names.split(", "))
        real(optimizer, loss, at, names, *rest)

    monkeypatch.setattr(module, "update", checked)
    method.prepare(data, 0)
    method.step(data.batch(0, 0, 2), At(0, 0, method.stages()[-1].name, 0, 10))


@pytest.mark.parametrize(
    ("config", "changes", "says"),
    [
        (UIDNetConfig, {"penalty": 0.0}, "penalty"),
        (UIDNetConfig, {"critic_steps": 0}, "critic_steps"),
        (UIDNetConfig, {"patch_px": 40}, "power of two"),
        (UIDNetConfig, {"beta1": 1.0}, "beta1"),
        (UIDNetConfig, {"width": -1}, "width"),
        (UIDNetConfig, {"intensity": "both"}, "intensity"),
        (QuanConfig, {"cycle_weight": 0.0}, "cycle_weight"),
        (QuanConfig, {"identity": -0.5}, "identity"),
        (QuanConfig, {"blocks": -1}, "blocks"),
        (QuanConfig, {"beta1": -0.5}, "beta1"),
        (QuanConfig, {"precision": "half"}, "precision"),
        (QuanConfig, {"steps": -1}, "steps"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config, changes, says):
    with pytest.raises(ConfigError, match=says):
        config(**changes)
