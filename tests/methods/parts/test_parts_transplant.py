"""Transplanted noise: what undoes what, what a draw depends on, and that a resumed run draws the same."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from pairfree.data.patches import PatchPool, TrainingData
from pairfree.errors import ConfigError
from pairfree.measure.two_sets import Difference, noise_level
from pairfree.methods.base import At
from pairfree.methods.parts import transplant as module
from pairfree.methods.parts.transplant import Transplant


class Blurred(torch.nn.Module):
    """Takes what a 3 x 3 mean takes for noise; ``share`` of it."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(share))

    def forward(self, x):
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
        return self.share * (x - torch.nn.functional.avg_pool2d(padded, 3, 1))


def prepared(
    small, extractor: torch.nn.Module | None = None, channels: int = 1
) -> tuple[Transplant, TrainingData]:
    data = small.data(channels)
    made = Transplant(extractor or Blurred(), channels, lambda net, x: net(x).detach())
    made.prepare(data, 0)
    return made, data


def at(step: int, seed: int = 0) -> At:
    return At(seed, step, "start", step, 100)


def test_matching_undoes_gain_and_offset(small):
    made, _ = prepared(small)
    y = 2 * torch.rand(2, 1, 8, 8) - 1
    unit = (y + 1) / 2
    torch.testing.assert_close(made(2 * (made.gain * unit + made.offset) - 1), y)


def test_noise_is_put_on_by_the_model_and_ends_where_the_noisy_images_end(small):
    made, _ = prepared(small)
    made.exponent.fill_(1.0)
    y, n = 2 * torch.rand(1, 1, 8, 8) - 1, 0.02 * torch.randn(1, 1, 8, 8)
    found = dataclasses.replace(
        made.measured.difference, exponent=1.0, size=made.size.numpy().ravel()
    )
    weights = noise_level(((y + 1) / 2).numpy(), found)
    expected = torch.clamp(
        y + 2 * torch.from_numpy(weights).float() * n,
        made(-torch.ones(1, 1, 1)),
        made(torch.ones(1, 1, 1)),
    )
    torch.testing.assert_close(made.add_noise(y, n), expected)
    beyond = made.add_noise(y, torch.full_like(n, 50.0))
    torch.testing.assert_close(beyond, made(torch.ones(1, 1, 1)).expand_as(beyond))


def counts(made: Transplant) -> Difference:
    """``made`` is given noise of counts, of two strengths that leave it within the range."""
    values = {"dark": [0.02], "darkest": [0.05], "size": [0.4], "strengths": [[0.1], [0.4]]}
    found = dataclasses.replace(
        made.measured.difference,
        exponent=0.5,
        counts=True,
        **{name: np.array(one) for name, one in values.items()},
    )
    made.measured = made.measured._replace(difference=found)
    made.set_difference(found)
    return found


def skewed(y: np.ndarray, noise: np.ndarray, found: Difference, strength: float) -> np.ndarray:
    """Wilson & Hilferty's formula in NumPy, one channel."""
    power, size, dark = float(found.power[0]), float(found.size[0]), float(found.dark[0])
    a, s = strength**2 * power / size**2, strength * noise_level(y, found) * np.sqrt(power)
    g = np.clip(a**2 * (y + min(dark, 0.0)) / s**3, 1e-3, 2.0)
    return 2 * s / g * ((1 - g**2 / 36 + g * noise / (6 * s)) ** 3 - 1)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_noise_of_counts_is_put_on_by_the_model(small, strength):
    made, _ = prepared(small)
    found = counts(made)
    y, n = 2 * torch.rand(1, 1, 8, 8) - 1, 0.05 * torch.randn(1, 1, 8, 8)
    unit = ((y + 1) / 2).double().numpy()
    noised = unit + skewed(
        unit, strength * noise_level(unit, found) * n.double().numpy(), found, strength
    )
    low, high = (float(made(torch.full((1, 1, 1), end))) for end in (-1.0, 1.0))
    np.testing.assert_allclose(
        made.add_noise(y, n, strength).numpy(), np.clip(2 * noised - 1, low, high), atol=1e-5
    )


def drawn(made: Transplant, found: Difference, y: float) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian noise at a brightness, and what is made of it, network units."""
    image = np.full((60, 1, 256, 256), y)
    gaussian = (
        noise_level(image, found)
        * np.sqrt(found.power[0])
        * np.random.default_rng(5).standard_normal(image.shape)
    )
    return gaussian, made._skew(
        torch.from_numpy(2 * image - 1), torch.from_numpy(gaussian), 1.0
    ).numpy()


def law(small, gain: float, dark: float) -> tuple[Transplant, Difference]:
    """Noise of counts of which each adds ``gain``, and whose variance is 0 at brightness -``dark``."""
    made, _ = prepared(small)
    power = 0.05**2 * np.ones((1, 64, 64))
    values = {
        "dark": np.array([dark]),
        "darkest": np.array([1e-3]),
        "size": np.sqrt(np.array([0.05**2 / gain])),
    }
    found = dataclasses.replace(
        made.measured.difference, exponent=0.5, counts=True, spectrum=power, **values
    )
    made.set_difference(found)
    return made, found


def test_skewed_noise_has_the_mean_the_variance_and_the_skewness_of_counts(small):
    made, found = law(small, 0.02, 0.005)
    for y in (0.01, 0.05, 0.2, 0.6):
        gaussian, skew = drawn(made, found, y)
        expected = 0.02**2 * y / gaussian.std() ** 3
        assert abs(skew.mean()) < 3e-3 * skew.std()
        assert skew.std() == pytest.approx(gaussian.std(), rel=0.02)
        assert stats.skew(skew.ravel()) == pytest.approx(expected, rel=0.05)


def test_fewer_photons_than_the_formula_serves_keep_their_mean(small):
    """Far below one count, or below black, skewness is cut off: noise must not move what is dark."""
    made, found = law(small, 0.05**2 / 0.09, -0.004)
    for y in (0.0, 0.003, 0.006, 0.02):
        gaussian, skew = drawn(made, found, y)
        assert abs(skew.mean()) < 5e-3 * gaussian.std()


def test_each_patch_gets_the_strength_of_some_noisy_image(small):
    made, _ = prepared(small)
    counts(made)
    y = torch.zeros(40, 1, 32, 32)
    added = made.make_noisy(y, at(0)) - y
    torch.testing.assert_close(made.make_noisy(y, at(0)) - y, added, rtol=0, atol=0)
    ratio = added.std((1, 2, 3)) / made.draw_noise(40, at(0)).std((1, 2, 3))
    strong = ratio > ratio.mean()
    assert 8 < int(strong.sum()) < 32
    assert float(ratio[strong].mean() / ratio[~strong].mean()) == pytest.approx(4.0, rel=0.1)


def test_a_copy_puts_the_same_noise_on(small):
    made, _ = prepared(small)
    counts(made)
    y = torch.zeros(3, 1, 32, 32)
    torch.testing.assert_close(
        copy.deepcopy(made).make_noisy(y, at(4)), made.make_noisy(y, at(4)), rtol=0, atol=0
    )


def test_a_draw_is_a_function_of_seed_and_step(small):
    made, _ = prepared(small)
    first = made.draw_noise(3, at(0))
    assert first.shape == (3, 1, 32, 32)
    torch.testing.assert_close(made.draw_noise(3, at(0)), first, rtol=0, atol=0)
    assert not torch.equal(made.draw_noise(3, at(1)), first)
    assert not torch.equal(made.draw_noise(3, at(0, seed=1)), first)


def test_the_gaussian_noise_has_the_measured_power(small):
    made, _ = prepared(small)
    made.spread.zero_()
    drawn = torch.cat([made.draw_noise(16, at(step)) for step in range(20)])
    assert float(drawn.var()) == pytest.approx(
        float(made.measured.difference.spectrum.mean()), rel=0.1
    )


def test_a_spread_moves_whole_patches(small):
    made, _ = prepared(small)
    made.spread.fill_(3.0)
    drawn = made.draw_noise(400, at(0))
    assert float(drawn.mean((1, 2, 3)).std()) == pytest.approx(3.0, rel=0.15)


def test_noise_is_renewed_once_for_each_time_it_is_due(small):
    made, _ = prepared(small)
    gaussian = made.draw_noise(2, at(0))
    extractor = Blurred(0.9)
    made.renew(extractor, 0)
    torch.testing.assert_close(made.draw_noise(2, at(0)), gaussian, rtol=0, atol=0)
    made.renew(extractor, 1)
    extracted = made.draw_noise(2, at(0))
    assert not torch.equal(extracted, gaussian)
    made.renew(Blurred(0.1), 1)  # made already
    torch.testing.assert_close(made.draw_noise(2, at(0)), extracted, rtol=0, atol=0)
    assert float(made.then.share) == pytest.approx(0.9)


def test_uneven_images_keep_their_gaussian_noise(small):
    made, _ = prepared(small)
    uneven = dataclasses.replace(made.measured.difference, even=False)
    made.measured = made.measured._replace(difference=uneven)
    gaussian = made.draw_noise(2, at(0))
    made.renew(Blurred(0.9), 1)
    torch.testing.assert_close(made.draw_noise(2, at(0)), gaussian, rtol=0, atol=0)


def test_few_of_many_images_are_compared(monkeypatch):
    monkeypatch.setattr(module, "MOST_IMAGES", 3)
    pool = PatchPool(
        [np.full((1, 32, 32), value, np.float32) for value in (-0.5, 0.2, 0.5, 0.8, 1.5)], "cpu", 32
    )
    assert [float(plane.mean()) for plane in module._clipped_planes(pool)] == pytest.approx(
        [0.0, 0.5, 1.0]
    )


def test_extracted_noise_is_that_of_the_images_at_their_level(small):
    made, data = prepared(small)
    made.exponent.fill_(1.0)
    block = data.noisy.plane(0)
    x = made((2 * block[None] - 1).clamp(-1, 1))
    noise = Blurred()(x).detach()
    expected = noise / 2 / ((((x - noise) + 1) / 2).clamp(min=module.DARKEST) / made.size)
    np.testing.assert_allclose(
        made._extract_noise(block), expected[0].numpy(), rtol=1e-5, atol=1e-6
    )


def test_a_resumed_run_draws_the_same_noise(small):
    made, data = prepared(small)
    made.renew(Blurred(0.7), 2)
    kept = made.state_dict()
    again = Transplant(Blurred(), 1, lambda net, x: net(x).detach())
    again.prepare(data, 0)
    again.load_state_dict(kept)
    torch.testing.assert_close(
        again.draw_noise(3, at(5)), made.draw_noise(3, at(5)), rtol=0, atol=0
    )
    again.renew(Blurred(0.2), 2)  # due and made before the interruption
    torch.testing.assert_close(
        again.draw_noise(3, at(5)), made.draw_noise(3, at(5)), rtol=0, atol=0
    )


def test_a_copy_goes_its_own_way(small):
    made, _ = prepared(small)
    before = made.draw_noise(2, at(0))
    twin = copy.deepcopy(made)
    twin.renew(Blurred(0.5), 1)
    assert not torch.equal(twin.draw_noise(2, at(0)), before)
    torch.testing.assert_close(made.draw_noise(2, at(0)), before, rtol=0, atol=0)


def test_blocks_cover_images_and_leave_out_slivers(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_PX", 64)
    noisy = PatchPool(
        [np.zeros((1, 150, 70), np.float32), np.zeros((1, 40, 40), np.float32)], "cpu", 32
    )
    shapes = [tuple(block.shape[1:]) for block in module._cut_blocks(noisy)]
    assert shapes == [(64, 64), (64, 64), (40, 40)]
    monkeypatch.setattr(module, "MOST_BLOCKS", 2)
    assert len(module._cut_blocks(noisy)) == 2


def test_a_draw_before_prepare_is_refused():
    with pytest.raises(ConfigError, match="prepare"):
        Transplant(Blurred(), 1, lambda net, x: net(x)).draw_noise(1, at(0))


def test_prepare_needs_a_clean_set(small):
    data = small.data()
    with pytest.raises(ConfigError, match="`clean`"):
        Transplant(Blurred(), 1, lambda net, x: net(x)).prepare(TrainingData(data.noisy), 0)


def streaked(count: int, seed: int, sigma: float) -> list[np.ndarray]:
    """Scenes with noise along the rows: each row has an offset of its own, over white noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:96, :96] / 8
    scenes = [0.5 + 0.1 * np.sin(rows + k) * np.cos(columns + seed) for k in range(count)]
    noisy = []
    for scene in scenes:
        offsets = sigma * rng.standard_normal((96, 1))
        white = 0.3 * sigma * rng.standard_normal((96, 96))
        noisy.append((scene + offsets + white)[None])
    return noisy


@pytest.mark.parametrize("directed", [True, False])
def test_noise_with_a_direction_is_flipped_but_not_turned(directed):
    """Rows of patches and drawn noise stay rows; without a direction all eight symmetries are seen."""
    sigma = 0.1 if directed else 0.0
    rng = np.random.default_rng(5)
    noisy = [
        plane + (0.0 if directed else 0.1 * rng.standard_normal(plane.shape))
        for plane in streaked(4, 1, sigma)
    ]
    pool, clean = (PatchPool(planes, "cpu", 32) for planes in (noisy, streaked(4, 2, 0.0)))
    made = Transplant(Blurred(), 1, lambda net, x: net(x).detach())
    made.prepare(TrainingData(pool, clean=clean), 0)
    assert made.measured.difference.directed == directed

    def along_rows(patches: torch.Tensor) -> torch.Tensor:
        """Power that rows have in common against power that columns have in common, each patch."""
        return patches.mean(3).var(1 if patches.ndim == 3 else 2) / patches.mean(2).var(
            1 if patches.ndim == 3 else 2
        )

    places = pool.draw(0, 7, 64)
    x = pool.gather(places)
    upright = made.turn_upright(x, at(7))
    expected = pool.gather(torch.cat([places[:, :3], places[:, 3:] & 3], 1)) if directed else x
    for patch, other, k in zip(upright, expected, places[:, 3].tolist(), strict=True):
        allowed = [other]
        if directed and k & 4:  # which flip a transposition leaves behind does not matter
            allowed += [other.flip(-1), other.flip(-2), other.flip((-1, -2))]
        assert any(torch.equal(patch, one) for one in allowed)
    shares = along_rows(made.draw_noise(64, at(3)))[:, 0]
    assert (
        (shares > 1).float().mean() > 0.95 if directed else 0.2 < (shares > 1).float().mean() < 0.8
    )
