"""SWA and Lookahead against their closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pairfree.methods.parts.averages import SWA, Lookahead


def net_at(value: float) -> nn.Module:
    net = nn.BatchNorm2d(2).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(value)
        net.running_mean.fill_(10 * value)
    return net


def set_to(net: nn.Module, value: float) -> None:
    net.load_state_dict(net_at(value).state_dict())


def test_swa_is_the_plain_mean_since_the_beginning():
    net = net_at(3.0)
    average = SWA(net)
    set_to(net, 5.0)
    average.begin(net)
    weights = [5.0, 1.0, -2.0, 0.5, 7.0]
    for value in weights[1:]:
        set_to(net, value)
        average.add(net)
    torch.testing.assert_close(
        average.net.weight.detach(), torch.full((2,), sum(weights) / 5, dtype=torch.float64)
    )
    assert average.net.running_mean.tolist() == [70.0, 70.0]  # buffers are the latest
    assert int(average.count) == 5
    average.begin(net)
    assert average.net.weight.tolist() == [7.0, 7.0]


def test_the_count_is_part_of_the_state():
    net = net_at(1.0)
    average = SWA(net)
    for value in (2.0, 6.0):
        set_to(net, value)
        average.add(net)
    again = SWA(net_at(0.0))
    again.load_state_dict(average.state_dict())
    set_to(net, 7.0)
    for one in (average, again):
        one.add(net)
        assert one.net.weight.tolist() == pytest.approx([4.0, 4.0])


@pytest.mark.parametrize("every", [1, 3, 6])
@pytest.mark.parametrize("alpha", [0.5, 0.8, 1.0])
def test_lookahead_of_a_constant_drift(every, alpha):
    """theta gains d a step: after m rounds of k steps phi = m alpha k d, where theta starts again."""
    net, drift, rounds = net_at(0.0), 0.25, 4
    leash = Lookahead(net, every, alpha)
    for step in range(1, every * rounds + 1):
        with torch.no_grad():
            net.weight.add_(drift)
        leash.after_step(net, step)
        done = step // every
        assert leash.net.weight.tolist() == pytest.approx([done * alpha * every * drift] * 2)
        assert net.weight.tolist() == pytest.approx(
            [done * alpha * every * drift + (step % every) * drift] * 2
        )


def test_averages_take_no_gradient_and_run():
    net = net_at(1.0)
    x = torch.rand(2, 2, 3, 3, dtype=torch.float64)
    for average in (SWA(net), Lookahead(net)):
        assert not any(parameter.requires_grad for parameter in average.parameters())
        torch.testing.assert_close(average.eval()(x), net.eval()(x))
