"""Iterative Noisy N2N: each round's pair, whose estimates it uses, the noise without its dark level."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from pairfree.data.patches import PatchPool, TrainingData
from pairfree.errors import ConfigError
from pairfree.methods.base import At


@pytest.fixture
def prepared(small):
    method, data = small.method("noisy-n2n"), small.data()
    method.prepare(data, 0)
    return method, data


def test_the_first_round_learns_the_given_estimate_from_itself_with_noise(prepared):
    method, data = prepared
    batch, at = data.batch(0, 0, 2), At(0, 0, "Noisy N2N 1", 0, 10)
    level = float(np.mean(data.noise.flat.double().numpy()))
    with torch.no_grad():
        seen = batch.target + batch.noise - level
        expected = float(((method.f(seen) - batch.target).double() ** 2).mean())
    assert method.step(batch, at)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_later_rounds_estimate_the_noisy_images_with_the_network_before(prepared):
    method, data = prepared
    before = copy.deepcopy(method.net).eval()
    method.step(data.batch(0, 5, 2), At(0, 5, "Noisy N2N 2", 0, 10))
    method.step(data.batch(0, 6, 2), At(0, 6, "Noisy N2N 2", 1, 10))
    kept = method.rounds.estimates
    for index in kept.known:
        image = data.noisy.plane(index)[None]
        with torch.no_grad():
            torch.testing.assert_close(
                kept.changes.plane(index), (before(image) - image)[0], atol=1e-5, rtol=1e-4
            )


def test_a_dark_level_of_the_noise_images_is_not_learned(small):
    """Noise images about 0 and about 0.3 lead to the same step."""
    data = small.data()
    losses = []
    for level in (0.0, 0.3):
        noise = data.noise.like(data.noise.flat + level)
        method = small.method("noisy-n2n")
        shifted = TrainingData(data.noisy, data.target, noise=noise)
        method.prepare(shifted, 0)
        losses.append(
            method.step(shifted.batch(0, 0, 2), At(0, 0, "Noisy N2N 1", 0, 10))["loss"].item()
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_dark_level_is_that_of_each_channel(small):
    method, data = small.method("noisy-n2n", channels=3), small.data(channels=3)
    levels = torch.tensor([0.1, 0.4, -0.2])
    noise = data.noise.like(
        torch.cat(
            [
                (data.noise.plane(index) + levels.view(-1, 1, 1)).flatten()
                for index in range(len(data.noise))
            ]
        )
    )
    method.prepare(TrainingData(data.noisy, data.target, noise=data.noise), 0)
    before = method.level.flatten()
    method.prepare(TrainingData(data.noisy, data.target, noise=noise), 0)
    torch.testing.assert_close(method.level.flatten() - before, levels, atol=1e-5, rtol=0)


def test_a_step_before_prepare_is_refused(small):
    method, data = small.method("noisy-n2n"), small.data()
    with pytest.raises(ConfigError, match="prepare must come before"):
        method.step(data.batch(0, 0, 2), At(0, 0, "Noisy N2N 2", 0, 10))


def test_it_approaches_the_wiener_gain_of_theorem_1(small):
    """Independent Gaussian pixels: the best pixelwise map of X' + n is (1 + y) / (1 + y + noise).

    It is the gain of eq. (2).
    """
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (1, 256, 256))
    y, noise = 0.5, 0.8

    def pool(values):
        return PatchPool([values], "cpu", 32)

    given = pool(x + rng.normal(0, y**0.5, x.shape))
    data = TrainingData(
        pool(x + rng.normal(0, noise**0.5, x.shape)),
        given,
        noise=pool(rng.normal(0, noise**0.5, x.shape)),
    )

    class Gain(torch.nn.Module):
        stride = 1

        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(0.1))

        def forward(self, image):
            return self.gain * image

    method = small.method("noisy-n2n", net=Gain(), optimizer="adam", batch_size=16, lr=0.02)
    method.prepare(data, 0)
    for step in range(300):
        method.step(data.batch(0, step, 16), At(0, step, "Noisy N2N 1", step, 300))
    assert method.net.gain.item() == pytest.approx((1 + y) / (1 + y + noise), abs=0.02)
