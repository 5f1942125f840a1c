"""IDDP's order of work: where gradients flow, what is clipped, how the prior follows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pairfree.methods import METHODS, PRESETS
from pairfree.methods.base import At
from pairfree.methods.iddp import sign_mask
from pairfree.methods.nb2nb import draw_neighbours, neighbor_risk, subsample

AT = At(3, 11, "iddp", 1, 10)


def tiny_net() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, 1, 3, padding=1))


def gradient(net: nn.Module, loss: torch.Tensor) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


def by_hand(
    net, y, stop: bool, alpha: float, scale: float, low: float, high: float
) -> torch.Tensor:
    """Equation 11 with y2 and the prior constant (stop) or not; 3x3 mean with mirrored borders."""
    blurred = nn.functional.conv2d(
        nn.functional.pad(y, (1, 1, 1, 1), mode="reflect"), torch.full((1, 1, 3, 3), 1 / 9)
    )
    f = net(y)
    prior = (f.detach() if stop else f).clamp(low, high)
    mask = sign_mask(y, AT.rng("mask"))
    y2 = (prior + scale * mask * (y - prior)).clamp(low, high)
    return alpha * ((f - blurred) ** 2).mean() + ((net(y2) - prior) ** 2).mean()


@pytest.mark.parametrize("alpha", [0.0, 0.001, 1.0])
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("stop", [True, False])
def test_gradients_stop_at_the_prior_exactly_when_asked(stop, scale, alpha, small):
    """Parameter gradients equal those of the equation written by hand, and the two settings differ."""
    net, data = tiny_net(), small.data()
    options = {
        "warm_share": 0.0,
        "turnovers": 0.0,
        "window": 0.0,
        "leverage": 0.0,
        "clip": False,
        "alpha": alpha,
        "noise_scale": scale,
    }
    method = small.method("iddp", net=net, stop_gradient=stop, **options)
    method.prepare(data, 0)
    y = data.batch(0, 0, 2).noisy
    found = gradient(net, method.risk(y, AT))
    wide = (-1e9, 1e9)
    torch.testing.assert_close(
        found, gradient(net, by_hand(net, y, stop, alpha, scale, *wide)), rtol=1e-4, atol=1e-7
    )
    other = gradient(net, by_hand(net, y, not stop, alpha, scale, *wide))
    assert (found - other).norm() > 2e-3 * found.norm()


@pytest.mark.parametrize("stop", [True, False])
def test_clip_keeps_prior_and_renoised_image_in_the_range_of_the_training_pixels(stop, small):
    net, data = tiny_net(), small.data()
    with torch.no_grad():
        net[2].bias.fill_(0.9)  # F(y) then leaves the range in places
    method = small.method(
        "iddp",
        net=net,
        alpha=0.001,
        warm_share=0.0,
        turnovers=0.0,
        leverage=0.0,
        clip=True,
        stop_gradient=stop,
    )
    method.prepare(data, 0)
    low, high = data.noisy.flat.min().item(), data.noisy.flat.max().item()
    assert (method.low, method.high) == (low, high)
    y = data.batch(0, 0, 2).noisy
    found = gradient(net, method.risk(y, AT))
    torch.testing.assert_close(
        found, gradient(net, by_hand(net, y, stop, 0.001, 1.0, low, high)), rtol=1e-4, atol=1e-7
    )
    unclipped = gradient(net, by_hand(net, y, stop, 0.001, 1.0, -1e9, 1e9))
    assert (found - unclipped).norm() > 1e-3 * found.norm()


@pytest.mark.parametrize("name", ["prior", "average"])
def test_an_average_gets_no_gradient_and_follows_after_the_step(name, small):
    """Of 10 steps: the prior moves turnovers/10 of the way, the average 1/(10 window)."""
    data, method = (
        small.data(),
        small.method(
            "iddp", turnovers=0.25 * AT.stage_steps, window=4.0 / AT.stage_steps, predict="image"
        ),
    )
    method.prepare(data, 0)
    slow = getattr(method, name)
    with torch.no_grad():
        for parameter in slow.parameters():
            parameter.add_(0.01)
    before = [p.clone() for p in slow.parameters()]
    start = [p.clone() for p in method.net.parameters()]
    method.step(data.batch(3, 11, 2), AT)
    assert all(p.grad is None and not p.requires_grad for p in slow.parameters())
    for old, mine, theirs, was in zip(
        before, slow.parameters(), method.net.parameters(), start, strict=True
    ):
        torch.testing.assert_close(mine, old + 0.25 * (theirs - old))
        assert not torch.equal(theirs, was)


@pytest.mark.parametrize(("window", "name"), [(0.1, "average"), (0.0, "net")])
def test_what_denoises_is_the_average_where_there_is_one(window, name, small):
    method = small.method("iddp", window=window)
    assert method.denoiser is method.networks[name]
    assert ("average" in method.networks) == (window > 0)


def test_the_averaged_prior_makes_the_targets(small):
    """With turnovers > 0 the constants y2 and F(y) come from the average.

    The trained network only sees y2 (and y for alpha).
    """
    data, method = (
        small.data(),
        small.method("iddp", net=tiny_net(), turnovers=2.0, leverage=0.0, alpha=0.0, clip=False),
    )
    method.prepare(data, 0)
    with torch.no_grad():
        for parameter in method.prior.parameters():
            parameter.mul_(0.5)
    y = data.batch(0, 0, 2).noisy
    prior = method.prior(y).detach()
    y2 = prior + sign_mask(y, AT.rng("mask")) * (y - prior)
    torch.testing.assert_close(method.risk(y, AT), ((method.net(y2) - prior) ** 2).mean())


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_leverage_makes_the_renoising_larger(power, small):
    """A prior that keeps the share 0.6 of whatever comes in has leverage 0.6 exactly."""
    data = small.data()
    method = small.method(
        "iddp",
        net=tiny_net(),
        turnovers=2.0,
        leverage=power,
        alpha=0.0,
        clip=False,
        precision="float32",
    )
    method.prepare(data, 0)
    method.prior = nn.Conv2d(1, 1, 1, bias=False).requires_grad_(False)
    nn.init.constant_(method.prior.weight, 0.6)
    y = data.batch(0, 0, 2).noisy
    y2 = 0.6 * y + 0.4 ** (-power / 2) * sign_mask(y, AT.rng("mask")) * 0.4 * y
    torch.testing.assert_close(
        method.risk(y, AT), ((method.net(y2) - 0.6 * y) ** 2).mean(), rtol=1e-3, atol=0.0
    )


@pytest.mark.parametrize(("stage_step", "gamma"), [(1, 0.0), (7, 0.7)])
def test_the_warm_start_is_neighbor2neighbor_and_takes_the_prior_along(stage_step, gamma, small):
    data, method = small.data(), small.method("iddp", predict="image")
    method.prepare(data, 0)
    at, batch = At(3, 1, "warm start", stage_step, 10), data.batch(3, 1, 2)
    cell1, cell2 = draw_neighbours(batch.noisy.shape, at.rng("neighbours"), torch.device("cpu"))
    with torch.no_grad():
        error = method.net(subsample(batch.noisy, cell1)) - subsample(batch.noisy, cell2)
        full = method.net(batch.noisy)
        expected = (error**2).mean() + gamma * (
            (error - subsample(full, cell1) + subsample(full, cell2)) ** 2
        ).mean()
    torch.testing.assert_close(method.step(batch, at)["loss"], expected)
    for prior, average, theirs in zip(
        method.prior.parameters(), method.average.parameters(), method.net.parameters(), strict=True
    ):
        assert torch.equal(prior, theirs)
        assert torch.equal(average, theirs)


@pytest.mark.parametrize(("prior_batch", "used"), [(1, 1), (2, 2), (5, 3), (0, 3)])
def test_equation_11_sees_the_first_patches_of_the_batch(prior_batch, used, small):
    """prior_batch of the patches drawn; 0, or more than there are, takes all.

    The warm start always takes all.
    """
    data, method = small.data(), small.method("iddp", prior_batch=prior_batch, predict="image")
    method.prepare(data, 0)
    batch = data.batch(3, 11, 3)
    expected = method.risk(batch.noisy[:used], AT).item()
    assert method.step(batch, AT)["loss"].item() == pytest.approx(expected, rel=1e-6)


def test_nb2nb_consistency_reference_is_a_constant(small):
    """Equation 7: no gradient through f(y); checked against the loss by hand, with and without the stop."""
    net, data = tiny_net(), small.data()
    method, y = small.method("nb2nb", net=net), data.batch(0, 0, 2).noisy
    cell1, cell2 = draw_neighbours(y.shape, AT.rng("neighbours"), torch.device("cpu"))

    def hand(full: torch.Tensor) -> torch.Tensor:
        error = net(subsample(y, cell1)) - subsample(y, cell2)
        return (error**2).mean() + 1.5 * (
            (error - subsample(full, cell1) + subsample(full, cell2)) ** 2
        ).mean()

    found = gradient(net, neighbor_risk(method, y, 1.5, AT))
    torch.testing.assert_close(found, gradient(net, hand(net(y).detach())), rtol=1e-4, atol=1e-7)
    assert (found - gradient(net, hand(net(y)))).norm() > 1e-2 * found.norm()


@pytest.mark.parametrize(
    ("channels", "started", "share"), [(1, True, 1.0), (3, True, 0.25), (3, False, 1.0)]
)
def test_the_rate_is_a_quarter_for_colours_that_begin_from_the_start(
    channels: int, started: bool, share: float
) -> None:
    method = METHODS["iddp"](PRESETS["iddp"]["cpu"], channels)
    method.started = started
    assert method.rate == method.config.lr * share
