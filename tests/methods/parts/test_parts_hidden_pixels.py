"""Hidden pixels: Noise2Self, Blind2Unblind, and Noise2Void's later options.

Equations with loops, and what a network cannot see.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import pairfree as pf
from pairfree.engine.memory import activation_bytes_per_px
from pairfree.errors import ConfigError
from pairfree.methods import PRESETS
from pairfree.methods.b2u import ramp_weight, revisible_loss
from pairfree.methods.base import At
from pairfree.methods.parts.hidden_pixels import Hidden, draw_phases, fill_hidden, grid_mask
from pairfree.methods.parts.masked_pixels import (
    find_greatest_within,
    replace_by_block,
    replace_by_mean,
    replace_by_median,
    stratified_mask,
)
from pairfree.nets import build
from pairfree.nets.receptive_field import measured_receptive_field_px
from pairfree.training.job import resolve
from pairfree.training.order import Order

AT = At(0, 3, "train", 3, 10)
CPU = torch.device("cpu")


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0.3, 1.5, shape))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lively(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    net = build("shuffle-unet", 1, 4, "residual").double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


# -- masks and what stands for a hidden pixel ----------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 3, 4])
def test_the_phases_of_the_grid_are_a_partition(width):
    shape = torch.Size((width**2, 2, 13, 10))
    masks = grid_mask(shape, width, torch.arange(width**2))
    assert masks.shape == (width**2, 1, 13, 10)
    assert (masks.sum(0) == 1).all()
    for phase, (i, j) in itertools.product(
        range(width**2), itertools.product(range(13), range(10))
    ):
        assert bool(masks[phase, 0, i, j]) == (
            i % width == phase // width and j % width == phase % width
        )


def test_phases_are_different_and_evenly_drawn():
    found = draw_phases(4000, 3, 4, rng(), CPU)
    assert all(len(set(row)) == 3 for row in found.tolist())
    counts = np.bincount(found.flatten().numpy(), minlength=16)
    assert (abs(counts - 750) < 5 * 750**0.5).all()


def test_a_hidden_pixel_takes_the_weighted_mean_of_its_neighbours():
    y, mask = some(2, 2, 6, 7), grid_mask(torch.Size((2, 2, 6, 7)), 3, torch.tensor([0, 5]))
    expected = y.numpy().copy()

    def mirrored(i: int, size: int) -> int:
        i = abs(i)
        return 2 * (size - 1) - i if i >= size else i

    weights = {
        (dy, dx): (1.0 if dy == 0 or dx == 0 else 0.5) / 6
        for dy, dx in itertools.product((-1, 0, 1), repeat=2)
        if (dy, dx) != (0, 0)
    }
    for b, c, i, j in itertools.product(range(2), range(2), range(6), range(7)):
        if mask[b, 0, i, j]:
            expected[b, c, i, j] = sum(
                w * y[b, c, mirrored(i + dy, 6), mirrored(j + dx, 7)].item()
                for (dy, dx), w in weights.items()
            )
    np.testing.assert_allclose(fill_hidden(y, mask).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("width", [2, 4])
def test_no_pixel_of_the_result_sees_itself(width):
    """d output[i] / d input[i] is exactly 0 everywhere, and not elsewhere.

    The bare network does see itself.
    """
    net, y = lively(), some(1, 1, 8, 8).requires_grad_()
    blind, bare = Hidden(net, width)(y), net(y)
    seen = 0
    for i, j in itertools.product(range(8), repeat=2):
        row = torch.autograd.grad(blind[0, 0, i, j], y, retain_graph=True)[0][0, 0]
        assert row[i, j] == 0.0
        seen += int((row != 0).sum())
        assert torch.autograd.grad(bare[0, 0, i, j], y, retain_graph=True)[0][0, 0, i, j] != 0.0
    assert seen > 40 * 64


def test_the_stride_holds_for_the_network_and_the_grid():
    assert Hidden(build("dncnn", 1, 4), 3).stride == 3
    assert Hidden(build("shuffle-unet", 1, 4), 4).stride == 8
    assert Hidden(build("unet", 1, 4), 3).stride == 24


@pytest.mark.parametrize("key", ["n2s", "b2u"])
def test_the_receptive_field_follows_from_the_networks(key, small):
    """One pass of the network says it; measured through all of them it is the same."""
    denoiser = small.method(key).denoiser

    class Measured(nn.Module):
        stride = denoiser.stride

        def __init__(self) -> None:
            super().__init__()
            self.inner = denoiser

        def forward(self, x):
            return self.inner(x)

    assert measured_receptive_field_px(denoiser, 1) == measured_receptive_field_px(Measured(), 1)


@pytest.mark.parametrize("key", ["n2s", "b2u"])
def test_memory_of_many_passes_is_that_of_one(key, small):
    plain, many = (activation_bytes_per_px(small.method(name), 1) for name in ("n2v", key))
    assert many == pytest.approx(plain, rel=0.05)


# -- Noise2Self ----------------------------------------------------------------------------------------------


class Flat(nn.Module):
    """f(y) = 0.5, the perfect denoiser of a flat scene."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.5))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.level.expand_as(y)


def flat_noise(small, sigma: float, batch: int = 64):
    from pairfree.data.patches import Batch

    y = (
        0.5
        + torch.from_numpy(np.random.default_rng(0).normal(0, sigma, (batch, 1, 64, 64))).float()
    )
    return Batch(y)


def test_noise2self_oracle_pays_the_noise_variance(small):
    method = small.method("n2s", net=Flat())
    found = method.step(flat_noise(small, 0.2), AT)["loss"].item()
    count = 64 * 16 * 16
    assert abs(found - 0.04) < 5 * 0.04 * (2 / count) ** 0.5


def test_noise2self_denoises_with_hidden_pixels_or_in_one_pass(small):
    x = torch.rand(1, 1, 16, 16)
    hidden, shown = (
        small.method("n2s", j_invariant=flag, predict="image") for flag in (True, False)
    )
    for method in (hidden, shown):
        for parameter in method.net.parameters():
            parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=rng(1)))
    with torch.no_grad():
        torch.testing.assert_close(shown.denoise(x), shown.net(x))
        expected = torch.zeros_like(x)
        for phase in range(16):
            mask = grid_mask(x.shape, 4, torch.tensor([phase]))
            expected[mask] = hidden.net(fill_hidden(x, mask))[mask]
        torch.testing.assert_close(hidden.denoise(x), expected)


# -- Blind2Unblind -------------------------------------------------------------------------------------------


def test_revisible_loss_is_its_equation():
    hidden, visible, y = (some(2, 3, 8, 8, seed=seed) for seed in range(3))
    mask = grid_mask(y.shape, 4, torch.tensor([3, 14]))
    total, count = 0.0, 0
    for b, c, i, j in itertools.product(range(2), range(3), range(8), range(8)):
        if mask[b, 0, i, j]:
            h, v, t = (one[b, c, i, j].item() for one in (hidden, visible, y))
            total += (h + 7.0 * v - 8.0 * t) ** 2 + 0.3 * (h - t) ** 2
            count += 1
    assert revisible_loss(hidden, visible, y, mask, 7.0, 0.3).item() == pytest.approx(
        total / count, rel=1e-10
    )
    hidden.requires_grad_()
    assert torch.autograd.gradcheck(lambda h: revisible_loss(h, visible, y, mask, 7.0), (hidden,))


def test_one_mask_a_step_costs_on_average_what_all_of_them_do(small):
    """The loss of all sixteen masks is the mean of those of one mask."""
    batch = flat_noise(small, 0.2, 4)
    all_of_them = small.method("b2u", masks=16)
    one = small.method("b2u", masks=1)
    one.net.load_state_dict(all_of_them.net.state_dict())
    losses = []
    for method, draws in ((all_of_them, 1), (one, 200)):
        found = []
        for draw in range(draws):
            method.descend = lambda loss, at: {"loss": loss.detach()}
            found.append(method.step(batch, At(0, draw, "train", 3, 10))["loss"].item())
        losses.append((np.mean(found), np.std(found) / len(found) ** 0.5))
    assert abs(losses[0][0] - losses[1][0]) < 5 * losses[1][1]


def test_blind2unblind_oracle_pays_what_theory_says(small):
    """On a flat scene with f = x: ((1 + lambda)^2 + eta) sigma^2."""
    method = small.method("b2u", net=Flat(), masks=16, weight=2.0)
    found = method.step(flat_noise(small, 0.2, 16), AT)["loss"].item()
    expected = (9.0 + 1.0) * 0.04
    assert abs(found - expected) < 5 * expected * (2 / (16 * 64 * 64)) ** 0.5


def test_the_visible_pass_is_a_constant(small):
    """The gradient is that of the blind pass alone."""
    method, batch = small.method("b2u", masks=2), flat_noise(small, 0.2, 2)
    kept = {}
    method.descend = lambda loss, at: kept.update(loss=loss) or {"loss": loss.detach()}
    method.step(batch, AT)
    found = torch.autograd.grad(kept["loss"], list(method.net.parameters()))
    y = batch.noisy
    phases = draw_phases(2, 2, 4, AT.rng("phases"), CPU).flatten()
    many, seen = y.repeat_interleave(2, 0), method.net(y).detach().repeat_interleave(2, 0)
    mask = grid_mask(many.shape, 4, phases)
    h = method.net(fill_hidden(many, mask))
    expected = torch.autograd.grad(
        (((h + 2 * seen - 3 * many) ** 2 + (h - many) ** 2)[mask]).mean(),
        list(method.net.parameters()),
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_lambda_stays_then_grows_to_its_end():
    config = replace(PRESETS["b2u"]["paper"], ramp_from=0.8)
    assert [ramp_weight(p, config) for p in (0.0, 0.5, 0.8)] == [2.0, 2.0, 2.0]
    assert ramp_weight(0.9, config) == pytest.approx(11.0)
    assert ramp_weight(1.0, config) == pytest.approx(20.0)


def test_blind2unblind_mixes_both_passes_at_the_end(small):
    method, x = small.method("b2u"), torch.rand(1, 1, 16, 16)
    for parameter in method.net.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=rng(1)))
    with torch.no_grad():
        expected = (Hidden(method.net, 4)(x) + 20 * method.net(x)) / 21
        torch.testing.assert_close(method.denoise(x), expected)


# -- Noise2Void's options ------------------------------------------------------------------------------------


def mirrored(at: int, radius: int, size: int) -> list[int]:
    """Places from ``at`` - radius to ``at`` + radius, those beyond 0 .. size - 1 mirrored back."""
    places = [abs(place) for place in range(at - radius, at + radius + 1)]
    return [place if place < size else 2 * (size - 1) - place for place in places]


@pytest.mark.parametrize(("spacing", "radius"), [(2, 1), (4, 2), (4, 5)])
def test_the_median_is_that_of_the_shown_pixels_around(spacing, radius):
    y = some(2, 3, 12, 8)
    mask = stratified_mask(y.shape, spacing, rng(1), y.device)
    expected = y.numpy().copy()
    for b, i, j in itertools.product(range(2), range(12), range(8)):
        if not mask[b, 0, i, j]:
            continue
        rows, columns = mirrored(i, radius, 12), mirrored(j, radius, 8)
        for c in range(3):
            values = sorted(
                y[b, c, r, q].item() for r in rows for q in columns if not mask[b, 0, r, q]
            )
            middle = (len(values) - 1) // 2  # the lower of two, as PyTorch has it
            expected[b, c, i, j] = values[middle]
    np.testing.assert_array_equal(replace_by_median(y, mask, radius).numpy(), expected)


@pytest.mark.parametrize("shape", ["cross", "square"])
def test_structured_masks_hide_what_lies_near(shape):
    mask = torch.zeros(1, 1, 11, 12, dtype=torch.bool)
    mask[0, 0, 5, 4] = True
    found = find_greatest_within(mask.double(), shape, 2)[0, 0]
    for i, j in itertools.product(range(11), range(12)):
        dy, dx = abs(i - 5), abs(j - 4)
        near = max(dy, dx) <= 2 and (shape == "square" or 0 in (dy, dx))
        assert bool(found[i, j]) == near


def test_hidden_pixels_take_the_mean_of_shown_ones():
    y, hidden = (
        some(1, 2, 9, 9),
        torch.from_numpy(np.random.default_rng(3).random((1, 1, 9, 9)) < 0.4),
    )
    found = replace_by_mean(y, hidden, 2)
    for c, i, j in itertools.product(range(2), range(9), range(9)):
        window = np.s_[max(0, i - 2) : i + 3, max(0, j - 2) : j + 3]
        shown = y[0, c].numpy()[window][~hidden[0, 0].numpy()[window]]
        assert found[0, c, i, j].item() == pytest.approx(
            shown.mean() if hidden[0, 0, i, j] else y[0, c, i, j].item(), rel=1e-10
        )
    everything_near = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    everything_near[..., 8, 8] = False
    assert replace_by_mean(y, everything_near, 1)[0, 0, 0, 0] == y[0, 0, 8, 8]


@pytest.mark.parametrize(
    ("shape", "reach", "radius"), [("cross", 1, 3), ("square", 1, 5), ("cross", 2, 5)]
)
def test_all_that_is_hidden_is_moved_as_one_piece(shape, reach, radius):
    y, mask = some(3, 2, 21, 20), torch.zeros(3, 1, 21, 20, dtype=torch.bool)
    mask[:, 0, 10, 9] = True
    hidden = find_greatest_within(mask.double(), shape, reach) > 0
    found = replace_by_block(y, mask, shape, reach, radius, rng(1))
    assert torch.equal(torch.where(hidden, y, found), y)
    offsets = set()
    for b in range(3):
        places = [
            (dy, dx)
            for dy in range(-radius, radius + 1)
            for dx in range(-radius, radius + 1)
            if max(abs(dy), abs(dx)) > 2 * reach
        ]
        fitting = [
            one
            for one in places
            if torch.equal(
                y[b].roll((-one[0], -one[1]), (1, 2))[:, hidden[b, 0]], found[b][:, hidden[b, 0]]
            )
        ]
        assert len(fitting) == 1
        offsets.update(fitting)
    assert len(offsets) > 1


def test_pieces_that_meet_hidden_pixels_take_the_mean_of_shown_ones():
    y, mask = (
        some(1, 1, 16, 16),
        stratified_mask(torch.Size((1, 1, 16, 16)), 8, rng(4), torch.device("cpu")),
    )
    hidden = find_greatest_within(mask.double(), "square", 1) > 0
    means, shown = replace_by_mean(y, hidden, 5), set(y[~hidden].tolist())
    found = [replace_by_block(y, mask, "square", 1, 5, rng(seed)) for seed in range(40)]
    values = torch.stack(found)[:, hidden]
    known = torch.tensor([[one in shown for one in row] for row in values.tolist()])
    assert 0.5 < known.float().mean() < 1.0
    assert torch.equal(values[~known], means[hidden].expand_as(values)[~known])


@pytest.mark.parametrize(
    "changes",
    [
        {"replacement": "median", "predict": "image"},
        {"struct_px": 1, "spacing_px": 8},
        {"struct_px": 1, "spacing_px": 8, "struct": "square"},
    ],
)
def test_masked_and_hidden_pixels_do_not_reach_the_network(changes, small):
    method = small.method("n2v", **changes)
    y = some(1, 1, 16, 16).requires_grad_()
    mask = stratified_mask(y.shape, method.config.spacing_px, rng(1), y.device)
    hidden = find_greatest_within(mask.double(), method.config.struct, method.config.struct_px) > 0
    seen = method._replace_masked(y, mask, AT)
    (gradient,) = torch.autograd.grad((seen * some(1, 1, 16, 16, seed=2)).sum(), y)
    assert (gradient[hidden] == 0).all()
    assert (gradient[~hidden] != 0).all()


def test_a_structured_mask_cannot_copy_correlated_noise(small):
    """Noise equal in pairs of neighbours: what plain Noise2Void shows beside a masked pixel is its noise.

    The cross hides it.
    """
    n = some(8, 1, 32, 16, seed=5).repeat_interleave(2, 3)
    for struct_px, least, most in ((0, 0.3, 1.0), (1, -0.1, 0.1)):
        method = small.method("n2v", struct_px=struct_px, spacing_px=8)
        mask = stratified_mask(n.shape, 8, rng(2), n.device)
        mask &= (torch.arange(32) % 2 == 0)[None, None, None]  # so that the twin is on the right
        shown = method._replace_masked(n, mask, AT)
        twin = shown.roll(-1, 3)[mask]
        found = np.corrcoef(n[mask].numpy(), twin.numpy())[0, 1]
        assert least < found <= most or (struct_px == 0 and found == pytest.approx(1.0))


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("n2s", {"mask_width": 1}),
        ("n2s", {"mask_width": 65}),
        ("n2s", {"j_invariant": False}),
        ("b2u", {"masks": 17}),
        ("b2u", {"predict": "residual"}),
        ("b2u", {"predict": ""}),
        ("n2v", {"replacement": "median"}),
        ("n2v", {"replacement": "median", "net": "blur-unet"}),
        ("n2s", {"j_invariant": False, "predict": "", "net": "dncnn"}),
        ("b2u", {"masks": 0}),
        ("b2u", {"ramp_from": 1.0}),
        ("b2u", {"eta": -1.0}),
        ("n2v", {"replacement": "mode"}),
        ("n2v", {"struct": "line"}),
        ("n2v", {"struct_px": 1, "spacing_px": 8, "replacement": "median"}),
        ("n2v", {"struct_px": 2}),
        ("n2v", {"struct_px": -1}),
        ("cvf-sid", {"recombined": -0.1}),
        ("cvf-sid", {"noise_width": 0}),
        ("cvf-sid", {"smooth_share": 1.0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(key, wrong):
    with pytest.raises(ConfigError):
        replace(PRESETS[key]["cpu"], **wrong)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("n2v", {"replacement": "median", "predict": "image"}),
        ("n2v", {"replacement": "median", "net": "Own"}),
        ("n2s", {"j_invariant": False, "predict": "", "net": "unet"}),
        ("b2u", {"predict": "", "net": "plain-dncnn"}),
    ],
)
def test_networks_that_predict_the_image_may_see_the_pixel(key, changes):
    assert replace(PRESETS[key]["cpu"], **changes).predicts in ("image", "")


def test_fine_tuning_does_not_make_a_residual_network_of_blind2unblind(tmp_path):
    images = [
        np.random.default_rng(seed).normal(100, 9, (40, 40)).astype(np.float32) for seed in range(2)
    ]
    tiny = {"width": 4, "patch_px": 16, "batch_size": 2}
    pf.train(images, method="nb2nb", settings=tiny, steps=1, out=tmp_path / "run", report=False)
    with pytest.raises(ConfigError, match="give predict=image, and `init` of a run that has it"):
        resolve(Order(images, method="b2u", settings=tiny, steps=1, init=tmp_path / "run"))
    pf.train(
        images,
        method="nb2nb",
        settings=tiny | {"predict": "image"},
        steps=1,
        out=tmp_path / "image",
        report=False,
    )
    job = resolve(Order(images, method="b2u", settings=tiny, steps=1, init=tmp_path / "image"))
    assert job.method.config.predicts == "image"
