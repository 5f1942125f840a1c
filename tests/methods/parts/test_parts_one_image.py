"""Deep Image Prior and Self2Self: their equations with loops, their networks, and learning.

Learning repeats, tells how far it is, and ends.
"""

from __future__ import annotations

import itertools
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import ndimage

import children
import pairfree as pf
from pairfree.api import plan_denoising
from pairfree.denoising.plan import seconds_needed
from pairfree.engine.predictor import Predictor
from pairfree.engine.run import RunFolder
from pairfree.errors import ConfigError, DivergedError
from pairfree.files import open_image
from pairfree.methods import PRESETS, build_method
from pairfree.methods.base import At
from pairfree.methods.dip import DIPFit, noise_rms, reconstruction_loss
from pairfree.methods.parts import one_image, spent
from pairfree.methods.parts.one_image import Fit, OneImage, OneImageConfig
from pairfree.methods.parts.optim import MuonAdam
from pairfree.methods.s2s import S2SFit, hidden_pixel_loss
from pairfree.nets.blocks import parameter_count
from pairfree.nets.one_image import PartialConv, PartialUNet, SkipNet, fill_hidden
from pairfree.training.job import resolve
from pairfree.training.order import Order, read_order
from pairfree.training.restoring import check_unchanged

TINY = {"dip": {"width": 8, "levels": 3, "inputs": 4}, "s2s": {"width": 6, "predictions": 4}}


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0.3, 1.5, shape))


def scene(sigma: float, side: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clean = ndimage.gaussian_filter(rng.standard_normal((side, side)), 5)
    clean = 0.5 + 0.15 * clean / clean.std()
    return clean.astype(np.float32), (clean + rng.normal(0, sigma, clean.shape)).astype(np.float32)


# -- equations -----------------------------------------------------------------------------------------------


def test_losses_are_their_equations():
    made, y = some(2, 3, 5, 4), some(2, 3, 5, 4, seed=1)
    shown = torch.from_numpy((np.random.default_rng(2).random((2, 3, 5, 4)) < 0.7).astype(float))
    assert reconstruction_loss(made, y).item() == pytest.approx(
        np.mean((made.numpy() - y.numpy()) ** 2), rel=1e-10
    )
    total = sum(
        (made[at].item() - y[at].item()) ** 2
        for at in itertools.product(*map(range, made.shape))
        if shown[at] == 0
    )
    assert hidden_pixel_loss(made, y, shown).item() == pytest.approx(
        total / float((shown == 0).sum()), rel=1e-10
    )
    made.requires_grad_()
    assert torch.autograd.gradcheck(lambda m: hidden_pixel_loss(m, y, shown), (made,))


def test_self2self_oracle_pays_the_noise_variance():
    x, n = (
        torch.full((4, 1, 64, 64), 0.5, dtype=torch.float64),
        0.2 * some(4, 1, 64, 64).sub(0.3).div(1.5),
    )
    shown = (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.7).double()
    count = float((1 - shown).sum())
    assert abs(hidden_pixel_loss(x, x + n, shown).item() - 0.04) < 5 * 0.04 * (2 / count) ** 0.5


@pytest.mark.parametrize("gain", [0.0, 0.04])
def test_the_noise_to_come_down_to_is_that_of_the_image(gain):
    """White, or growing with the signal; of each channel."""
    clean = np.stack([np.maximum(scene(0.0, 192, seed)[0], 0.05) for seed in (0, 1)])
    deviation = np.sqrt(gain * clean) if gain else np.array([0.05, 0.2])[:, None, None]
    noise = deviation * np.random.default_rng(3).standard_normal(clean.shape)
    found = noise_rms(torch.from_numpy(clean + noise).float()[None])
    assert found == pytest.approx(np.sqrt(np.mean(noise**2)), rel=0.06)
    assert noise_rms(torch.rand(1, 1, 12, 64)) == 0.0
    assert noise_rms(torch.full((1, 1, 64, 64), 0.5)) == 0.0


def test_a_partial_convolution_counts_shown_values_only():
    torch.manual_seed(0)
    layer = PartialConv(2, 3).double()
    x, mask = some(1, 2, 5, 6), torch.zeros(1, 2, 5, 6, dtype=torch.float64)
    mask[:, :, :, :3] = torch.from_numpy(
        (np.random.default_rng(1).random((1, 2, 5, 3)) < 0.6).astype(float)
    )
    found, known = layer(x, mask)
    weight, bias = (
        layer.convolution.weight.detach().numpy(),
        layer.convolution.bias.detach().numpy(),
    )
    shown_x = np.pad((x * mask).numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    counted = np.pad(mask.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=1.0)
    for o, i, j in itertools.product(range(3), range(5), range(6)):
        window = np.s_[0, :, i : i + 3, j : j + 3]
        k = counted[window].sum()
        value = (weight[o] * shown_x[window]).sum() * 18 / k + bias[o] if k else 0.0
        assert found[0, o, i, j].item() == pytest.approx(
            value if value > 0 else 0.1 * value, rel=1e-9, abs=1e-12
        )
        assert known[0, 0, i, j].item() == float(k > 0)
    assert known.min() == 0


def test_networks_are_the_published_ones():
    """About 2.2 million weights for the hourglass and 1 million for the partial U-Net, as the papers say."""
    assert parameter_count(SkipNet(32, 3, 128, 5)) == pytest.approx(2.2e6, rel=0.02)
    assert parameter_count(PartialUNet(3, 48)) == pytest.approx(1.0e6, rel=0.02)
    for net in (SkipNet(4, 2, 8, 3), PartialUNet(2, 6)):
        x = torch.rand(1, 2, 2 * net.stride, net.stride)
        made = (
            net(torch.rand(1, 4, *x.shape[2:]))
            if isinstance(net, SkipNet)
            else net(x, torch.ones_like(x))
        )
        assert made.shape == x.shape


def test_hidden_values_are_filled_with_the_mean_of_those_shown_around_them():
    x, mask = (
        some(1, 2, 7, 6),
        torch.from_numpy((np.random.default_rng(1).random((1, 2, 7, 6)) < 0.5).astype(float)),
    )
    mask[0, 0, :3, :3] = 0.0
    found = fill_hidden(x, mask).numpy()
    values, shown = (
        np.pad(one.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge") for one in (x, mask)
    )
    for c, i, j in itertools.product(range(2), range(7), range(6)):
        window = np.s_[0, c, i : i + 3, j : j + 3]
        count = shown[window].sum()
        mean = (values[window] * shown[window]).sum() / count if count else 0.0
        assert found[0, c, i, j] == pytest.approx(
            x[0, c, i, j].item() if mask[0, c, i, j] else mean, abs=1e-12
        )
    assert found[0, 0, 1, 1] == 0.0


@pytest.mark.parametrize("fill", [False, True])
def test_hidden_pixels_do_not_reach_self2selfs_network(fill):
    torch.manual_seed(0)
    net, x = PartialUNet(1, 6, fill=fill), torch.rand(1, 1, 32, 32)
    shown = (torch.rand(x.shape) < 0.7).float()
    x.requires_grad_()
    torch.manual_seed(1)
    (gradient,) = torch.autograd.grad(net(x, shown, torch.Generator().manual_seed(0)).sum(), x)
    assert (gradient[shown == 0] == 0).all()
    assert (gradient[shown == 1] != 0).float().mean() > 0.9


# -- learning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["dip", "s2s"])
def test_it_denoises_a_smooth_scene(key):
    clean, noisy = scene(0.15)
    settings = {**TINY[key], "lr": 1e-2}
    model = pf.train([noisy], method=key, steps=300, settings=settings, report=False)
    error = np.sqrt(np.mean((model.denoise(noisy) - clean) ** 2))
    assert error < 0.6 * np.sqrt(np.mean((noisy - clean) ** 2))


@pytest.mark.parametrize("key", ["dip", "s2s"])
def test_it_repeats_by_seed_and_steps(key, tmp_path):
    _, noisy = scene(0.1, 40)
    first = pf.train(
        [noisy], method=key, steps=4, settings=TINY[key], seed=1, out=tmp_path / "run", report=False
    ).denoise(noisy)
    torch.manual_seed(99)
    np.testing.assert_array_equal(pf.load(tmp_path / "run").denoise(noisy), first)
    other = pf.train(
        [noisy], method=key, steps=4, settings=TINY[key], seed=2, report=False
    ).denoise(noisy)
    assert not np.array_equal(first, other)


def test_learning_leaves_the_global_generator_alone():
    _, noisy = scene(0.1, 40)
    for key in ("dip", "s2s"):
        model = pf.train([noisy], method=key, steps=2, settings=TINY[key], report=False)
        torch.manual_seed(5)
        model.denoise(noisy)
        drawn = torch.rand(3)
        torch.manual_seed(5)
        assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (33, 7), (3, 40, 20)])
@pytest.mark.parametrize("key", ["dip", "s2s"])
def test_any_size_and_colour(key, shape):
    noisy = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)
    train = np.random.default_rng(1).normal(100, 10, (*shape[:-2], 48, 48)).astype(np.float32)
    model = pf.train([train], method=key, steps=2, settings=TINY[key], report=False)
    found = model.denoise(noisy)
    assert found.shape == noisy.shape
    assert np.isfinite(found).all()


def test_self2self_averages_predictions_of_flipped_images():
    config = replace(PRESETS["s2s"]["cpu"], **TINY["s2s"])
    y = torch.rand(1, 1, 32, 64)
    fit = S2SFit(y, 3, config)

    class Shown(torch.nn.Module):
        def forward(self, x, shown, rng):
            return x  # the image as it was turned: the mean of predictions must turn it back

    fit.slow = Shown()
    torch.testing.assert_close(fit.result(), y)
    turned = {tuple(fit._predict(fit.slow, y, draw, "learning")[2]) for draw in range(40)}
    assert turned == {(), (-2,), (-1,), (-2, -1)}
    shares = [fit._predict(fit.slow, y, draw, "learning")[1].mean().item() for draw in range(40)]
    assert np.mean(shares) == pytest.approx(0.7, abs=0.01)


def test_self2self_learns_from_pieces_all_over_the_image():
    config = replace(PRESETS["s2s"]["cpu"], **TINY["s2s"], patch_px=32)
    y = torch.arange(64 * 96.0).reshape(1, 1, 64, 96)
    fit, seen = S2SFit(y, 3, config), []

    class Kept(torch.nn.Module):
        def forward(self, x, shown, rng):
            seen.append(x)
            return x.clone().requires_grad_()

    fit.net = Kept()
    for step in range(200):
        # The piece as it was turned is what it is compared with.
        assert fit.loss(At(3, step, "image", step, 200)).item() == 0.0
    assert {tuple(piece.shape) for piece in seen} == {(1, 1, 32, 32)}
    corners = torch.stack([piece.min() for piece in seen])
    down, right = corners // 96, corners % 96
    assert (down.min(), right.min()) == (0, 0)
    assert (down.max(), right.max()) == (32, 64)
    assert S2SFit(y[..., :32, :32], 3, replace(config, patch_px=64)).step_px == 32 * 32
    assert S2SFit(y, 3, replace(config, patch_px=0)).step_px == y.numel()


def test_self2self_predicts_with_the_average_of_its_weights():
    config = replace(PRESETS["s2s"]["cpu"], **TINY["s2s"], average=0.25)
    fit, mean = S2SFit(torch.rand(1, 1, 32, 32), 0, config), None
    for step in range(8):
        fit.step(At(0, step, "image", step, 8))
        (latest, *_), share = fit.net.parameters(), max(0.25, 1 / (step + 1))
        latest = latest.detach().double().numpy()
        mean = latest if mean is None else mean + share * (latest - mean)
    np.testing.assert_allclose(next(fit.slow.parameters()).numpy(), mean, rtol=1e-5, atol=1e-7)
    assert not np.allclose(mean, latest, rtol=1e-4)


@pytest.mark.parametrize(("key", "fit"), [("s2s", S2SFit), ("dip", DIPFit)])
def test_the_rate_falls_over_the_second_half_where_the_preset_says_so(key, fit):
    for falling, rates in ((True, [1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]), (False, [1.0] * 8)):
        config, found = replace(PRESETS[key]["cpu"], **TINY[key], lr=1e-3, falling=falling), []
        one = fit(torch.rand(1, 1, 32, 32), 0, config)
        for step in range(8):
            one.step(At(0, step, "image", step, 8))
            found.append(one.optimizer.param_groups[0]["lr"])
        assert found == pytest.approx([1e-3 * rate for rate in rates])


@pytest.mark.parametrize(("key", "fit"), [("s2s", S2SFit), ("dip", DIPFit)])
def test_muon_learns_where_the_settings_give_it_a_rate(key, fit):
    for ratio, kind in ((2.0, MuonAdam), (0.0, torch.optim.Adam)):
        one = fit(
            torch.rand(1, 1, 32, 32), 0, replace(PRESETS[key]["cpu"], **TINY[key], muon_ratio=ratio)
        )
        assert type(one.optimizer) is kind
        learned = {
            id(parameter) for group in one.optimizer.param_groups for parameter in group["params"]
        }
        assert learned == {id(parameter) for parameter in one.net.parameters()}


class Scripted(torch.nn.Module):
    """What a network would make, step by step."""

    def __init__(self, images) -> None:
        super().__init__()
        self.images, self.step = images, 0
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, z):
        made = self.images[min(self.step, len(self.images) - 1)]
        self.step += 1
        return made + 0.0 * self.weight


def test_learning_ends_when_what_is_taken_off_is_as_strong_as_the_noise():
    """Its output comes nearer to the noisy image step by step, and would end at it."""
    config = replace(PRESETS["dip"]["cpu"], **TINY["dip"], smoothing=1.0, discrepancy=0.8)
    clean, noisy = (torch.from_numpy(image)[None, None] for image in scene(0.1, 128))
    images = [
        noisy + distance * torch.randn(noisy.shape) for distance in np.linspace(0.3, 0.0, 301)
    ]

    def taught(config, steps=300):
        fit = DIPFit(noisy, 0, config)
        fit.net = Scripted(images)
        fit.optimizer = torch.optim.Adam(fit.net.parameters())
        for step in range(steps):
            fit.step(At(0, step, "image", step, steps))
            if fit.settled:
                break
        return fit

    fit = taught(config)
    off = float((fit.result() - noisy).square().mean().sqrt())
    assert off == pytest.approx(0.8 * float((noisy - clean).square().mean().sqrt()), rel=0.06)
    assert fit.net.step == pytest.approx(300 * (1 - off / 0.3), abs=5)
    whole = taught(replace(config, discrepancy=0.0))
    assert not whole.settled
    assert whole.net.step == 300
    assert not taught(
        replace(config, discrepancy=10.0), steps=50
    ).settled  # the first outputs are no result


# -- budgets and progress ------------------------------------------------------------------------------------


class Counting(Fit):
    steps = 0
    progress: ClassVar[list[float]] = []

    def __init__(self, y, seed):
        super().__init__(y, seed, OneImageConfig(), torch.nn.Linear(1, 1))

    def loss(self, at):
        return torch.zeros(())

    def step(self, at):
        Counting.steps += 1
        Counting.progress.append(at.progress)

    def result(self, tell=None, until=0.0):
        return self.y


class Clock:
    """Time that passes only where somebody says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Slow(Fit):
    """A step takes 2 ms of ``clock``, its result as long as 100 of them."""

    finishing = 100.0
    clock: ClassVar[Clock]
    learned: ClassVar[int] = 0

    def __init__(self, y, seed):
        super().__init__(y, seed, OneImageConfig(), torch.nn.Linear(1, 1))

    def loss(self, at):
        return torch.zeros(())

    def step(self, at):
        Slow.clock.now += 0.002
        Slow.learned += 1

    def result(self, tell, until):
        for number in range(100):
            if number and Slow.clock.now >= until:
                break
            Slow.clock.now += 0.002
            tell((number + 1) / 100)
        return self.y


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(Slow, "clock", Clock(), raising=False)
    monkeypatch.setattr(Slow, "learned", 0)
    monkeypatch.setattr(one_image, "time", Slow.clock)
    monkeypatch.setattr(spent, "time", Slow.clock)
    return Slow.clock


@pytest.mark.parametrize(("minutes", "steps", "made"), [(0.01, 200, 100), (0.005, 75, 75)])
def test_the_minutes_of_an_image_hold_its_result_too(minutes, steps, made, clock):
    """Where the result alone would take most of them, half are left for learning.

    The result is what the rest allows.
    """
    told, net = [], OneImage(OneImageConfig(minutes=minutes, steps=0), 4, Slow)
    net.progress = told.append
    assert net.seconds(1, 8, 12) == pytest.approx(60 * minutes)
    net(torch.rand(1, 1, 8, 12))
    assert clock.now - 100 == pytest.approx(60 * minutes, abs=0.005)
    assert Slow.learned == pytest.approx(steps, abs=2)
    assert told == sorted(told)
    assert told[steps // 2] == pytest.approx(0.002 * steps / 2 / (60 * minutes), rel=0.05)
    assert told[-1] == pytest.approx(0.5 + 0.5 * made / 100 if steps == 75 else 1.0, abs=0.03)


def test_a_clock_that_has_not_moved_yet_stops_nothing(clock, monkeypatch):
    def coarse(self, at):
        clock.now += 0.1 * (at.step > 0)

    monkeypatch.setattr(Slow, "step", coarse)
    x = torch.rand(1, 1, 8, 12)
    assert torch.equal(OneImage(OneImageConfig(minutes=0.01, steps=0), 4, Slow)(x), x)
    assert clock.now > 100.3


def test_the_time_of_steps_holds_that_of_the_result(clock):
    net, told = OneImage(OneImageConfig(steps=50), 4, Slow), []
    assert net.seconds(1, 8, 12) == pytest.approx(150 * 0.002)
    net.progress = told.append
    net(torch.rand(1, 1, 8, 12))
    assert told == pytest.approx(
        [(number + 1) / 100 for number in range(50)]
        + [0.5 + (number + 1) / 200 for number in range(100)]
    )


def test_self2self_makes_as_many_predictions_as_there_is_time_for():
    config = replace(PRESETS["s2s"]["cpu"], **TINY["s2s"])
    fit, told = S2SFit(torch.rand(1, 1, 64, 96), 3, replace(config, patch_px=32)), []
    assert fit.finishing == 4 * 6 / 2
    every = fit.result(told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]
    one = fit.result(told.append, time.monotonic())
    assert told[4:] == [0.25]
    assert not torch.equal(one, every)
    made, _, flips = fit._predict(fit.slow, fit.y, 0, "prediction")
    torch.testing.assert_close(one, made.flip(flips).detach())


def measure_memory(key: str, preset: str, side: int, log: str) -> None:
    """In the child: what the network says that it needs, and what it takes, bytes."""
    children.begin(log)
    brief = {"predictions": 1} if key == "s2s" else {}
    net = build_method(key, replace(PRESETS[key][preset], **brief), 1).net
    assert isinstance(net, OneImage)
    fixed, each = net.whole_bytes(1)
    before = 0
    # the small one for what torch takes once, in the first pass of a process
    for size in (64, side):
        before = children.peak_bytes()
        fit = net.make(torch.rand(1, 1, size, size), 0)
        for step in range(2):
            fit.step(At(0, step, "image", step, 2))
        fit.result()
    Path(log).write_text(f"{fixed + each * side**2} {children.peak_bytes() - before}")


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize(
    ("key", "preset", "side"), [("dip", "cpu", 384), ("s2s", "cpu", 512), ("s2s", "paper", 192)]
)
def test_the_memory_it_says_is_what_it_takes_and_not_much_more(key, preset, side, tmp_path):
    log = tmp_path / "log"
    code, words = children.finish(children.start(measure_memory, key, preset, side, str(log)), log)
    assert code == 0, words
    said, took = map(float, log.read_text().split())
    assert 0.3 * said <= took <= said


def test_a_budget_is_one_for_each_image_and_progress_reaches_the_end():
    Counting.steps, told = 0, []
    net = OneImage(OneImageConfig(steps=5), 4, Counting)
    net.progress = told.append
    x = torch.rand(2, 1, 8, 12)
    assert torch.equal(net(x), x)
    assert Counting.steps == 10
    assert told == pytest.approx([k / 10 for k in range(1, 11)])
    assert Counting.progress == [k / 5 for k in range(5)] * 2
    Counting.progress.clear()
    told.clear()
    timed = OneImage(OneImageConfig(minutes=0.002, steps=0), 4, Counting)
    timed.progress = told.append
    assert torch.equal(timed(x[:1]), x[:1])
    # Each stands where the time stood that the steps before it took.
    steps = np.arange(len(told))[20:]
    assert Counting.progress[0] == 0.0
    assert Counting.progress[20:] == pytest.approx(
        np.minimum(told[19:-1], steps / (steps + 1)), rel=0.03
    )
    assert Counting.steps > 100


def test_the_budget_of_the_command_is_that_of_an_image():
    _, noisy = scene(0.1, 40)
    assert resolve(Order([noisy], method="dip", minutes=3)).method.config == replace(
        PRESETS["dip"]["cpu"], minutes=3.0, steps=0
    )
    assert resolve(Order([noisy], method="dip", steps=70)).method.config == replace(
        PRESETS["dip"]["cpu"], minutes=0.0, steps=70
    )
    assert resolve(Order([noisy], method="dip")).method.config == PRESETS["dip"]["cpu"]


@pytest.mark.parametrize("key", ["dip", "s2s"])
def test_a_resumed_run_and_one_made_from_its_config_learn_as_long(key, tmp_path):
    """Neither takes the one step that the run recorded for the steps of an image."""
    _, noisy = scene(0.1, 40)
    options = {"settings": TINY[key], "seed": 1, "report": False}
    first = pf.train([noisy], method=key, steps=4, out=tmp_path / "run", **options)
    expected = first.denoise(noisy)
    resumed = pf.train([noisy], out=tmp_path / "run", resume=True, report=False)
    np.testing.assert_array_equal(resumed.denoise(noisy), expected)
    again_ = read_order(tmp_path / "run" / "config.toml")
    assert "steps" not in again_
    assert again_["settings"]["steps"] == 4
    check_unchanged(tmp_path / "run", {"steps": 4}, {})
    with pytest.raises(ConfigError, match="the run has 4"):
        check_unchanged(tmp_path / "run", {"steps": 5}, {})


def test_an_image_that_memory_cannot_learn_is_refused_at_once():
    _, noisy = scene(0.1, 64)
    model = pf.train([noisy], method="dip", steps=2, settings=TINY["dip"], report=False)
    fixed, each = model.method.denoiser.whole_bytes(1)
    assert 200 < each < 5000
    tight = Predictor(
        model.method, model.predictor.normalizer, 1, max_bytes=fixed + 1.01 * each * 64 * 64
    )
    tight.predict(noisy[None])
    with pytest.raises(
        ConfigError, match=r"70 x 64 px whole needs .* crop it to 64 x 64 px, or raise `max_bytes`"
    ):
        tight.predict(np.zeros((1, 70, 64), np.float32))


def test_an_image_that_no_crop_makes_small_enough_is_refused_with_what_helps():
    model = pf.train([scene(0.1, 64)[1]], method="s2s", steps=2, settings=TINY["s2s"], report=False)
    with pytest.raises(ConfigError, match=r"whole needs .* allowed: raise `max_bytes`$"):
        Predictor(model.method, model.predictor.normalizer, 1, max_bytes=1e6).predict(
            np.zeros((1, 64, 64), np.float32)
        )


def test_a_shortage_of_memory_ends_it_and_does_not_begin_it_anew(monkeypatch):
    model = pf.train([scene(0.1, 64)[1]], method="dip", steps=2, settings=TINY["dip"], report=False)
    fits = []

    def short(self, *_):
        fits.append(self)
        raise MemoryError

    monkeypatch.setattr(DIPFit, "result", short)
    with pytest.raises(ConfigError, match="the whole image does not fit"):
        model.denoise(scene(0.1, 64)[1])
    assert len(fits) == 1


def test_one_image_of_many_that_memory_cannot_learn_is_refused_before_the_first(tmp_path):
    for name, side in (("a", 64), ("b", 4096)):
        np.save(tmp_path / f"{name}.npy", np.ones((side, side), np.float32))
    model = pf.train([scene(0.1, 64)[1]], method="dip", steps=2, settings=TINY["dip"], report=False)
    with pytest.raises(ConfigError, match=r"4096 x 4096 px whole"):
        pf.denoise(model, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_time_it_will_take_is_told_without_learning(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 41, 51), np.float32))  # no multiples of the stride
    for budget, least, most in (({"minutes": 2.0}, 360.0, 360.0), ({"steps": 500}, 0.5, 300.0)):
        model = pf.train(
            [scene(0.1, 40)[1]], method="dip", settings=TINY["dip"], report=False, **budget
        )
        planned = plan_denoising(model, tmp_path, tmp_path / "out")
        told = [
            seconds_needed(planned) for _ in range(3)
        ]  # timed: others may keep the machine busy
        assert least <= min(seconds for seconds, _ in told) <= most
        assert all("for each of 3 planes" in why for _, why in told)


def test_what_was_done_with_other_settings_is_not_gone_on_with():
    _, noisy = scene(0.1, 40)
    found = [
        pf.train([noisy], method="dip", steps=steps, settings=TINY["dip"], report=False)
        for steps in (2, 2, 3)
    ]
    assert found[0].identity == found[1].identity
    assert found[0].identity != found[2].identity
    assert found[0].derivation == found[1].derivation != found[2].derivation


def test_divergence_names_the_image(tmp_path):
    _, noisy = scene(0.1, 40)
    np.save(tmp_path / "a.npy", noisy)
    model = pf.train(
        [noisy], method="dip", steps=30, settings={**TINY["dip"], "lr": 1e30}, report=False
    )
    with pytest.raises(DivergedError, match=r"a\.npy: non-finite .* lower rate"):
        model.denoise_image(open_image(tmp_path / "a.npy"))


def test_pixels_are_told_while_an_image_is_learned():
    _, noisy = scene(0.1, 40)
    model = pf.train([noisy], method="dip", steps=4, settings=TINY["dip"], report=False)
    told = []
    model.predictor.predict(noisy[None], told.append)
    assert sum(told) == noisy.size
    assert len([count for count in told if count > 0]) == 4


def test_the_report_says_how_images_are_learned_and_learns_none(tmp_path, monkeypatch):
    monkeypatch.setattr("pairfree.engine.predictor.Predictor.predict", None)
    _, noisy = scene(0.1, 300)
    pf.train([noisy], method="s2s", steps=2, settings=TINY["s2s"], out=tmp_path / "run")
    text = RunFolder(tmp_path / "run").report_path.read_text(encoding="utf-8")
    assert "each image was learned by itself for at most 2 steps" in text
    assert "2 steps for each image, spent when it is denoised" in text


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("dip", {"steps": 0}),
        ("dip", {"minutes": -1.0}),
        ("dip", {"lr": 0.0}),
        ("dip", {"levels": 0}),
        ("dip", {"smoothing": 0.0}),
        ("dip", {"discrepancy": -1.0}),
        ("s2s", {"hidden": 0.0}),
        ("s2s", {"dropout": 1.0}),
        ("s2s", {"predictions": 0}),
        ("s2s", {"width": 2}),
        ("s2s", {"patch_px": 48}),
        ("s2s", {"average": 0.0}),
        ("s2s", {"muon_ratio": -1.0}),
        ("dip", {"muon_ratio": -1.0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(key, wrong):
    with pytest.raises(ConfigError):
        replace(PRESETS[key]["cpu"], **wrong)


@pytest.mark.parametrize("key", ["dip", "s2s"])
def test_slices_around_each_are_refused(key):
    with pytest.raises(ConfigError, match="leave `slices_around` out"):
        resolve(Order(np.stack([scene(0.1, 40)[1]] * 9), method=key, slices_around=1))


@pytest.mark.parametrize("key", ["dip", "s2s", "bm3d"])
def test_a_network_of_ones_own_is_refused(key):
    if key == "bm3d":
        pytest.importorskip("bm3d")
    with pytest.raises(ConfigError, match="takes no net"):
        build_method(key, PRESETS[key]["cpu"], 1, net=torch.nn.Identity())
