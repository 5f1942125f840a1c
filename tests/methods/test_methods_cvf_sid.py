"""CVF-SID: every term with NumPy, the parts' zero means, and a perfect decomposition that pays nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pairfree.methods.cvf_sid import (
    SIGNS,
    Parts,
    compose,
    identity_loss,
    recombination_loss,
    smooth_deviation,
    spread_loss,
    window_deviation,
    zero_loss,
)
from pairfree.nets.cvf_sid import NoiseParts


def parts(seed: int, shape=(2, 3, 9, 8)) -> Parts:
    rng = np.random.default_rng(seed)
    return Parts(*(torch.from_numpy(rng.normal(0.4, 1.0, shape)) for _ in range(3)))


def arrays(one: Parts) -> list[np.ndarray]:
    return [part.detach().numpy() for part in one]


def mse(a, b=0.0) -> float:
    return float(np.mean((a - b) ** 2))


def test_an_image_is_put_together_from_its_parts():
    c, d, i = arrays(parts(0))
    np.testing.assert_allclose(compose(parts(0), -1, 0.5).numpy(), c - c * d + 0.5 * i, rtol=1e-12)
    np.testing.assert_allclose(compose(parts(0)).numpy(), c + c * d + i, rtol=1e-12)


def test_terms_are_their_equations():
    own, of_c, of_d, of_i = (parts(seed) for seed in range(4))
    (c, d, i), (c1, d1, i1), (c2, d2, i2), (c3, _, i3) = (
        arrays(one) for one in (own, of_c, of_d, of_i)
    )
    assert identity_loss(own, of_c, of_d, of_i).item() == pytest.approx(
        mse(c1, c) + mse(c2, c) + mse(d2, d) + mse(i3, i), rel=1e-10
    )
    assert zero_loss(of_c, of_d, of_i).item() == pytest.approx(
        mse(c3) + mse(d1) + mse(i1) + mse(i2), rel=1e-10
    )
    found = [parts(10 + k) for k in range(len(SIGNS))]
    expected = 0.0
    for one, (a, b) in zip(found, SIGNS, strict=True):
        cc, dd, ii = arrays(one)
        expected += mse(cc, c) + mse(dd, a * d) + mse(ii, b * i)
    assert recombination_loss(own, found).item() == pytest.approx(expected, rel=1e-10)


def test_spread_is_its_equation():
    own, s = parts(0), torch.full((2, 3), 0.7, dtype=torch.float64)
    c, d, i = arrays(own)
    total = 0.0
    for b, k in itertools.product(range(2), range(3)):
        framed = np.pad(c[b, k], 3)
        blurred = [framed[y : y + 6, x : x + 6].mean() for y in range(10) for x in range(9)]
        power = np.mean(np.square(blurred))
        total += (np.sqrt(power * d[b, k].var(ddof=1) + i[b, k].var(ddof=1)) - 0.7) ** 2
    assert spread_loss(own, s).item() == pytest.approx(total / 6, rel=1e-9)


def test_window_deviation_is_the_mean_over_windows():
    y = parts(0).clean
    for b, k in itertools.product(range(2), range(3)):
        found = [y[b, k].numpy()[i : i + 6, j : j + 6].std() for i in range(4) for j in range(3)]
        assert window_deviation(y)[b, k].item() == pytest.approx(np.mean(found), rel=1e-10)


def test_window_deviation_of_white_noise_is_a_little_below_its_own():
    """E of the deviation of 36 normal values, about its own mean, divided by 36: 0.979 sigma."""
    y = 0.5 + 0.1 * torch.from_numpy(np.random.default_rng(0).standard_normal((1, 1, 400, 400)))
    assert window_deviation(y).item() == pytest.approx(0.0979, rel=0.01)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_smooth_windows_give_the_level_of_white_noise(share):
    y = 0.5 + 0.1 * torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 400, 400)))
    np.testing.assert_allclose(smooth_deviation(y, share).numpy(), 0.1, rtol=0.01)


def test_texture_that_fills_half_of_the_image_is_no_noise_to_the_smooth_windows():
    y = 0.1 * torch.from_numpy(np.random.default_rng(0).standard_normal((1, 1, 400, 400)))
    y[..., 200:] += torch.sin(torch.arange(200) * 1.5)
    assert window_deviation(y).item() > 0.35
    # The median of the smooth half: 9 % high.
    assert smooth_deviation(y, 0.25).item() == pytest.approx(0.1087, rel=0.01)


@pytest.mark.parametrize("loss", ["identity", "zero", "spread", "recombination"])
def test_gradients_are_right(loss):
    shape = (1, 1, 7, 7)
    leaves = [part.requires_grad_() for seed in range(2) for part in parts(seed, shape)]

    def value(*tensors):
        one, other = Parts(*tensors[:3]), Parts(*tensors[3:])
        if loss == "identity":
            return identity_loss(one, other, other, other)
        if loss == "zero":
            return zero_loss(one, other, one)
        if loss == "spread":
            return spread_loss(one, window_deviation(other.clean)) + compose(other).mean()
        return recombination_loss(one, [other] * len(SIGNS))

    assert torch.autograd.gradcheck(value, leaves)


def test_a_perfect_decomposition_pays_only_for_the_spread():
    """What comes apart into its parts with their signs, and into nothing else, has cost zero."""
    own = parts(0)
    nothing = torch.zeros_like(own.clean)
    of_c, of_d, of_i = (
        Parts(own.clean, nothing, nothing),
        Parts(own.clean, own.dependent, nothing),
        Parts(nothing, nothing, own.independent),
    )
    assert identity_loss(own, of_c, of_d, of_i).item() == 0.0
    assert zero_loss(of_c, of_d, of_i).item() == 0.0
    mixed = [Parts(own.clean, a * own.dependent, b * own.independent) for a, b in SIGNS]
    assert recombination_loss(own, mixed).item() == 0.0


@pytest.mark.parametrize("channels", [1, 3])
def test_both_noises_have_zero_mean(channels):
    torch.manual_seed(0)
    found = NoiseParts(channels, 4, 2, 1)(torch.rand(2, channels, 16, 24))
    for one in found:
        assert one.shape == (2, channels, 16, 24)
        assert one.std() > 0
        assert one.mean((2, 3)).abs().max() < 1e-6


def test_the_networks_are_the_papers():
    """10 shared convolutions and twice 4 of 64 channels, 1x1 ones at the ends."""
    count = sum(p.numel() for p in NoiseParts(3).parameters())
    first, inner, last = 9 * 3 * 64 + 64, 9 * 64 * 64 + 64, 64 * 3 + 3
    assert count == first + 9 * inner + 2 * (4 * inner + last)


def test_a_step_takes_ten_images_apart_at_once(small):
    """c, c + c d, i and the seven recombinations in two passes.

    One is over the noisy batch, one over all that is made of it.
    """
    method, data = small.method("cvf-sid"), small.data()
    sizes, forward = [], method.f
    method.f = lambda x: sizes.append(len(x)) or forward(x)
    small.run(method, data, steps=1)
    assert sizes == [2, 20]
