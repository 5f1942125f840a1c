"""update() refuses before it changes anything, schedules have closed forms, settings are checked."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from pairfree.data.patches import Batch
from pairfree.errors import ConfigError, DivergedError
from pairfree.methods import PRESETS, build_method
from pairfree.methods.base import At, check_positive, flat_then_linear, follow, update, warm_cosine
from pairfree.methods.iddp import IDDPConfig
from pairfree.methods.iddp_short import ShortIDDPConfig
from pairfree.methods.n2c import N2CConfig
from pairfree.methods.n2v import N2VConfig
from pairfree.methods.nb2nb import Nb2NbConfig, neighbor_risk
from pairfree.methods.parts.single import SCHEDULES, resolve_precision

AT = At(0, 7, "train", 7, 10)


def linear(*weights: float) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    w = nn.Parameter(torch.tensor(weights, dtype=torch.float64))
    return w, torch.optim.SGD([w], lr=1.0)


def test_update_takes_the_optimisers_step():
    w, optimizer = linear(1.0, 2.0)
    update(optimizer, (w * torch.tensor([3.0, -4.0])).sum(), AT, "net")
    assert w.tolist() == [-2.0, 6.0]


def test_update_scales_the_joint_gradient_down_to_max_norm():
    """Gradient (3, -4) has norm 5; with max_norm 1 the step has length 1 and the same direction.

    A small gradient is left alone.
    """
    w, optimizer = linear(0.0, 0.0)
    update(optimizer, (w * torch.tensor([3.0, -4.0])).sum(), AT, "net", max_norm=1.0)
    torch.testing.assert_close(
        w.detach(), torch.tensor([-0.6, 0.8], dtype=torch.float64), rtol=1e-5, atol=0
    )
    w, optimizer = linear(0.0, 0.0)
    update(optimizer, (w * torch.tensor([0.3, -0.4])).sum(), AT, "net", max_norm=1.0)
    torch.testing.assert_close(w.detach(), torch.tensor([-0.3, 0.4], dtype=torch.float64))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("max_norm", [math.inf, 1.0])
def test_update_refuses_a_non_finite_loss(value, max_norm):
    w, optimizer = linear(1.0, 2.0)
    with pytest.raises(
        DivergedError, match=r"non-finite loss at step 7 \(train\) in network 'critic'"
    ):
        update(optimizer, w.sum() * 0 + value, AT, "critic", max_norm)
    assert w.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("max_norm", [math.inf, 1.0])
def test_update_refuses_a_non_finite_gradient_of_a_finite_loss(max_norm):
    """sqrt at 0: the loss is 0, its gradient infinite."""
    w, optimizer = linear(0.0, 2.0)
    with pytest.raises(DivergedError, match="non-finite gradient at step 7"):
        update(optimizer, w.sqrt()[0], AT, "net", max_norm)
    assert w.tolist() == [0.0, 2.0]


def test_update_forgets_the_gradients_of_earlier_steps():
    w, optimizer = linear(0.0)
    w.grad = torch.tensor([100.0], dtype=torch.float64)
    update(optimizer, w.sum(), AT, "net")
    assert w.tolist() == [-1.0]


def test_warm_cosine_closed_form():
    """Linear from nearly 0 to 1 over the first 3 %, then half a cosine: 1/2 halfway between, 0 at the end."""
    assert 0 < warm_cosine(0.0) < 0.05
    assert warm_cosine(0.015) == pytest.approx((0.015 + 1e-3) / (0.03 + 1e-3), rel=1e-12)
    assert warm_cosine(0.03) == pytest.approx(1.0, rel=1e-12)
    assert warm_cosine(0.5 * (1 + 0.03)) == pytest.approx(0.5, rel=1e-12)
    assert warm_cosine(0.5) == pytest.approx(math.cos(math.pi * 0.47 / 0.97 / 2) ** 2, rel=1e-12)
    assert warm_cosine(1.0) == pytest.approx(0.0, abs=1e-12)


def test_flat_then_linear_closed_form():
    assert [flat_then_linear(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1.0, 1.0, 1.0, 0.5, 0.0]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_scheduled_rate_reaches_the_optimiser(schedule, small):
    method, data = small.method("n2c", schedule=schedule), small.data()
    for k in (0, 5, 9):
        method.step(data.batch(0, k, 2), At(0, k, "train", k, 10))
        assert method.optimizers["net"].param_groups[0]["lr"] == method.config.lr * SCHEDULES[
            schedule
        ](k / 10)


@pytest.mark.parametrize(("constant_lr", "factor"), [(0.25, 0.25), (0.0, warm_cosine(0.5))])
def test_rate_of_equation_11_is_constant_or_scheduled(constant_lr, factor, small):
    """constant_lr is a fraction of lr, whatever the progress; 0 follows the schedule.

    The warm start always follows it.
    """
    method, data = small.method("iddp", constant_lr=constant_lr), small.data()
    method.prepare(data, 0)
    for stage, expected in zip(method.stages(), (warm_cosine(0.5), factor), strict=True):
        method.step(data.batch(0, 5, 2), At(0, 5, stage.name, 5, 10))
        assert method.optimizers["net"].param_groups[0]["lr"] == pytest.approx(
            method.config.lr * expected, rel=1e-12
        )


def test_progress_runs_from_0_to_below_1_in_each_stage():
    assert [At(0, 100 + k, "b", k, 4).progress for k in range(4)] == [0.0, 0.25, 0.5, 0.75]
    assert At(0, 0, "empty", 0, 0).progress == 0.0


def test_follow_moves_weights_by_the_rate_and_copies_buffers():
    slow, fast = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    with torch.no_grad():
        slow.weight.fill_(1.0)
        fast.weight.fill_(3.0)
        fast.running_mean.fill_(5.0)
    follow(slow, fast, 0.25)
    assert slow.weight.tolist() == [1.5, 1.5]
    assert slow.running_mean.tolist() == [5.0, 5.0]
    assert fast.weight.tolist() == [3.0, 3.0]
    follow(slow, fast, 1.0)
    assert torch.equal(slow.weight, fast.weight)


def test_n2n_copies_supervise_each_other_in_turn(small):
    """Even steps: f(noisy) against target; odd steps: f(target) against noisy."""
    method, data = small.method("n2n", predict="image"), small.data()
    for step in (4, 5):
        batch = data.batch(0, step, 2)
        first, second = (batch.noisy, batch.target) if step == 4 else (batch.target, batch.noisy)
        expected = ((method.denoise(first) - second) ** 2).mean().item()
        logged = method.step(batch, At(0, step, "train", step, 10))
        assert logged["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_n2c_is_supervised_by_the_partner(small):
    method, data = small.method("n2c", predict="image"), small.data()
    batch = data.batch(0, 1, 2)
    expected = ((method.denoise(batch.noisy) - batch.target) ** 2).mean().item()
    assert method.step(batch, AT)["loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("step", "gamma"), [(0, 0.0), (2, 0.0), (4, 0.8), (6, 1.2), (9, 1.8)])
def test_nb2nb_weight_grows_linearly_once_it_is_let_in(step, gamma, small):
    """gamma = gamma_end * progress from gamma_from on, 0 before it."""
    method, data = (
        small.method("nb2nb", gamma_end=2.0, gamma_from=0.4, predict="image"),
        small.data(),
    )
    batch, at = data.batch(0, step, 2), At(0, step, "train", step, 10)
    expected = neighbor_risk(method, batch.noisy, gamma, at).item()
    assert method.step(batch, at)["loss"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("key", "preset"), [(key, preset) for key in PRESETS for preset in PRESETS[key]]
)
def test_every_preset_constructs(key, preset):
    if key == "bm3d":
        pytest.importorskip("bm3d")
    config = PRESETS[key][preset]
    method = build_method(key, config, 1)
    assert method.config is config
    if method.trains:
        assert (config.minutes > 0) != (config.steps > 0)  # a budget, and only one


def test_paper_preset_of_iddp_has_the_papers_numbers():
    paper = PRESETS["iddp"]["paper"]
    found = vars(ShortIDDPConfig(**vars(paper)))  # with what the short preset adds: nothing
    expected = {
        "net": "unet",
        "alpha": 0.001,
        "beta": 1.0,
        "batch_size": 1,
        "patch_px": 128,
        "lr": 2e-4,
        "beta1": 0.5,
        "steps": 2_000_000,
        "minutes": 0,
        "optimizer": "adam",
        "schedule": "flat-then-linear",
        "warm_share": 0.0,
        "noise_scale": 1.0,
        "turnovers": 0.0,
        "window": 0.0,
        "leverage": 0.0,
        "constant_lr": 0.0,
        "prior_batch": 0,
        "stop_gradient": True,
        "precision": "float32",
    }
    assert {name: found[name] for name in expected} == expected
    assert paper.max_norm >= 1e6  # the paper clips no gradients
    assert build_method("iddp", paper, 1).net.predict == "image"
    assert [stage.name for stage in build_method("iddp", paper, 1).stages()] == ["iddp"]


def test_the_short_paper_preset_differs_in_length_only():
    assert (
        dataclasses.replace(PRESETS["iddp"]["paper-200k"], steps=2_000_000)
        == PRESETS["iddp"]["paper"]
    )


BAD = [
    (N2CConfig, {"patch_px": 0}, "patch_px"),
    (N2CConfig, {"batch_size": -1}, "batch_size"),
    (N2CConfig, {"lr": math.nan}, "lr"),
    (N2CConfig, {"schedule": "cosine"}, "warm-cosine"),
    (N2CConfig, {"precision": "float16"}, "bfloat16"),
    (N2CConfig, {"muon_ratio": 0.0}, "muon_ratio"),
    (N2CConfig, {"beta1": 1.0}, "beta1"),
    (N2CConfig, {"beta2": -0.1}, "beta2"),
    (N2CConfig, {"width": -1}, "width"),
    (N2CConfig, {"minutes": -1.0}, "minutes"),
    (N2CConfig, {"steps": -1}, "steps"),
    (N2VConfig, {"spacing_px": 1}, "spacing_px"),
    (N2VConfig, {"spacing_px": 7}, "patch_px"),
    (N2VConfig, {"radius_px": 0}, "radius_px"),
    (N2VConfig, {"radius_px": 64}, "radius_px"),
    (Nb2NbConfig, {"patch_px": 33}, "even"),
    (Nb2NbConfig, {"gamma_end": -1.0}, "gamma_end"),
    (IDDPConfig, {"blur_px": 201}, "blur_px"),
    (ShortIDDPConfig, {"noise_scale": -1.0}, "noise_scale"),
    (ShortIDDPConfig, {"constant_lr": -1.0}, "constant_lr"),
    (ShortIDDPConfig, {"prior_batch": -1}, "prior_batch"),
    (IDDPConfig, {"blur_px": 4}, "odd"),
    (IDDPConfig, {"blur_px": -3}, "odd"),
    (ShortIDDPConfig, {"warm_share": 1.0}, "warm_share"),
    (ShortIDDPConfig, {"turnovers": -1.0}, "turnovers"),
    (ShortIDDPConfig, {"leverage": 1.5}, "leverage"),
    (ShortIDDPConfig, {"window": -0.1}, "window"),
    (ShortIDDPConfig, {"stop_gradient": False, "turnovers": 2.0}, "averaged prior"),
    (ShortIDDPConfig, {"patch_px": 33}, "even"),
    (IDDPConfig, {"alpha": -1.0}, "negative"),
]


@pytest.mark.parametrize(("config", "changes", "named"), BAD)
def test_settings_without_a_meaning_are_refused(config, changes, named):
    with pytest.raises(ConfigError, match=named):
        config(**changes)


@pytest.mark.parametrize(
    ("key", "patch_px", "multiple"),
    [("n2c", 20, 8), ("n2v", 20, 8), ("nb2nb", 24, 16), ("nb2nb", 40, 16), ("iddp", 24, 16)],
)
def test_patches_that_do_not_fit_the_network_are_refused_at_the_start(
    key, patch_px, multiple, small
):
    """Neighbor2Neighbor's sub-images are half a patch wide, so its patches must fit twice the stride."""
    with pytest.raises(
        ConfigError,
        match=f"patch_px = {patch_px}: must be a multiple of {multiple} with the network '[a-z]+-unet'",
    ):
        small.method(key, patch_px=patch_px)


def test_iddp_without_neighbor2neighbor_takes_any_patch_of_the_stride(small):
    data, method = small.data(patch_px=24), small.method("iddp", patch_px=24, warm_share=0.0)
    small.run(method, data)


def test_all_problems_of_an_iddp_config_come_in_one_message():
    with pytest.raises(ConfigError, match=r"(?s)blur_px.*warm_share.*leverage"):
        ShortIDDPConfig(blur_px=2, warm_share=-1, leverage=2)
    with pytest.raises(ConfigError, match=r"a = 0, c = inf"):
        check_positive("x", [("a", 0), ("b", 1), ("c", math.inf)])


def test_precision_is_what_was_asked_for():
    device = torch.device("cpu")
    assert resolve_precision("float32", device) == "float32"
    assert resolve_precision("bfloat16", device) == "bfloat16"
    assert resolve_precision("auto", device) in ("float32", "bfloat16")


@pytest.mark.parametrize(
    ("amx", "avx512", "name", "expected"),
    [
        (True, True, "Intel Xeon", "bfloat16"),
        (False, True, "Intel Xeon", "float32"),
        (False, True, "AMD EPYC", "bfloat16"),
        (False, True, None, "bfloat16"),
        (False, False, "AMD EPYC", "float32"),
    ],
)
def test_bfloat16_is_taken_where_it_is_faster(monkeypatch, amx, avx512, name, expected):
    """AVX512-BF16 of Intel's processors is slower than their float32."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"cpu_name": name} if name else {}, raising=False
    )
    assert resolve_precision("auto", torch.device("cpu")) == expected


def test_losses_are_float32_in_bfloat16_training(small):
    """Weights and losses stay float32 whatever the convolutions compute in."""
    method, data = small.method("n2c", precision="bfloat16"), small.data()
    batch = Batch(data.batch(0, 0, 2).noisy, data.batch(0, 0, 2).target)
    assert method.f(batch.noisy).dtype == torch.float32
    assert method.step(batch, AT)["loss"].dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in method.net.parameters())
