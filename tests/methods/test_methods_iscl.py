"""ISCL: each equation against NumPy, the order of Algorithm 1, what gets which gradient."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage

from pairfree.errors import ConfigError
from pairfree.methods import PRESETS, iscl_short
from pairfree.methods import iscl as module
from pairfree.methods.base import At
from pairfree.methods.iscl import (
    adversarial_loss,
    boosting_loss,
    bypass_loss,
    critic_loss,
    cycle_loss,
    generator_loss,
    noise_consistency_loss,
    pseudo_noise_loss,
)
from pairfree.methods.iscl_short import ShortISCLConfig, weighted_bypass_loss
from pairfree.methods.parts.cooperation import Ensemble, Passes, without_noise
from pairfree.methods.parts.unpaired import Bounded, grid_loss, identity_loss, local_mean, to_signed

SHAPE = (3, 2, 4, 5)


def draw(count: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0.2, 0.8, shape) for _ in range(count)]


def mean_abs(values: np.ndarray) -> float:
    return float(np.abs(values).sum() / values.size)


def weighted_bypass_loss_of_a_third(denoised, pseudo_clean, y, y_again):
    return weighted_bypass_loss(denoised, pseudo_clean, y, y_again, 1 / 3)


# name of the function, number of image arguments, the equation in NumPy
EQUATIONS = [
    (adversarial_loss, 1, lambda d: -d.mean()),
    (identity_loss, 4, lambda x, gx, y, fy: mean_abs(gx - x) + mean_abs(fy - y)),
    (cycle_loss, 4, lambda x, gfx, y, fgy: mean_abs(x - gfx) + mean_abs(y - fgy)),
    (bypass_loss, 4, lambda fx, ybar, y, fyh: mean_abs(fx - ybar) + mean_abs(y - fyh)),
    (
        critic_loss,
        2,
        lambda real, fake: (
            np.where(real < 1, 1 - real, 0).mean() + np.where(fake > 0, fake, 0).mean()
        ),
    ),
    (boosting_loss, 2, lambda a, b: np.where(a > 0, a, 0).mean() + np.where(b > 0, b, 0).mean()),
    (
        weighted_bypass_loss_of_a_third,
        4,
        lambda fx, ybar, y, fyh: mean_abs(fx - ybar) / 3 + mean_abs(y - fyh),
    ),
    (pseudo_noise_loss, 3, lambda h, x, fx: mean_abs(h - (x - fx))),
    (noise_consistency_loss, 3, lambda y, gy, hgy: mean_abs(gy - y - hgy)),
]


@pytest.mark.parametrize(("loss", "count", "equation"), EQUATIONS)
@pytest.mark.parametrize("shape", [SHAPE, (2, 1, 1, 1)])
def test_losses_equal_their_equations(loss, count, equation, shape):
    arrays = draw(count, shape)
    found = loss(*(torch.from_numpy(a) for a in arrays)).item()
    np.testing.assert_allclose(found, equation(*arrays), rtol=1e-10)


@pytest.mark.parametrize(("loss", "count"), [row[:2] for row in EQUATIONS])
def test_gradients_of_the_losses(loss, count):
    inputs = [torch.from_numpy(a).requires_grad_() for a in draw(count, (2, 1, 3, 2))]
    assert torch.autograd.gradcheck(loss, inputs)


def test_generator_loss_is_equation_1():
    (d_y, d_x), nested = draw(2, (4, 1, 1, 1)), 0.37
    found = generator_loss(
        torch.from_numpy(d_y),
        torch.from_numpy(d_x),
        torch.tensor(nested, dtype=torch.float64),
        30.0,
    )
    np.testing.assert_allclose(found.item(), -d_y.mean() - d_x.mean() + 30.0 * nested, rtol=1e-10)


def test_the_clean_estimate_of_the_extractor_is_clipped():
    x, noise = draw(2)
    found = without_noise(torch.from_numpy(x), torch.from_numpy(noise)).numpy()
    np.testing.assert_allclose(found, np.clip(x - noise, -1, 1), rtol=1e-10)
    assert (np.abs(x - noise) > 1).any()


class Scaled(torch.nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return self.factor * x


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0])
def test_the_ensemble_is_equation_13(gamma):
    x = torch.rand(2, 1, 4, 4) * 2 - 1
    expected = gamma * 0.6 * x + (1 - gamma) * torch.clamp(x - 3.0 * x, -1, 1)
    torch.testing.assert_close(Ensemble(Scaled(0.6), Scaled(3.0), gamma)(x), expected)
    torch.testing.assert_close(Ensemble(Scaled(0.6), None, gamma)(x), 0.6 * x)


def test_a_denoiser_of_signed_images_is_applied_in_network_units():
    x = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(Bounded(Scaled(0.6))(x), (0.6 * (2 * x - 1) + 1) / 2)


def test_what_lies_beyond_the_training_range_comes_through():
    """F and H see the clipped image; the excess of a hot or a padding pixel is put back unchanged."""
    x = torch.tensor([-0.5, 0.0, 0.5, 1.0, 3.0]).view(1, 1, 1, 5)
    found = Bounded(Ensemble(Scaled(1.0), Scaled(0.0), 0.5))(x)
    torch.testing.assert_close(found, x)
    darker = Bounded(Ensemble(Scaled(0.5), Scaled(0.5), 0.5))(x)
    torch.testing.assert_close(darker[..., -1], darker[..., -2] + 2.0)
    torch.testing.assert_close(darker[..., 0], darker[..., 1] - 0.5)


NOTHING_ADDED = {field.name: field.default for field in dataclasses.fields(ShortISCLConfig)}


@pytest.fixture(params=["the paper's class", "the short preset's class, with nothing added"])
def published(request):
    """Settings that make a step Algorithm 1 as published."""
    if request.param == "the paper's class":
        return {"preset": "paper", "critic_norm": False, "share_passes": True}
    added = set(NOTHING_ADDED) - {field.name for field in dataclasses.fields(module.ISCLConfig)}
    return {**{name: NOTHING_ADDED[name] for name in added}, "swa_from": 0.6}


# -- the step


def stepped(small, monkeypatch, **changes):
    """One step of ISCL; of every update optimiser, loss, and which networks had changed by then."""
    method, data = small.method("iscl", **changes), small.data()
    before = small.copied(method)
    seen = []
    real = module.update

    def recording(optimizer, loss, at, network, *rest):
        now = method.tensors()
        weights = [key for key in before if key.startswith("net/") and "running" not in key]
        moved = [key for key in weights if not torch.equal(before[key], now[key])]
        changed = {key.split("/")[1] for key in moved}
        seen.append((network, loss.item(), changed))
        real(optimizer, loss, at, network, *rest)

    monkeypatch.setattr(module, "update", recording)
    batch = data.batch(0, 0, 2)
    method.step(batch, At(0, 0, "train", 0, 100))
    return method, batch, seen, before


@pytest.mark.parametrize("share", [True, False])
def test_the_order_of_algorithm_1(share, published, small, monkeypatch):
    changes = published | {"share_passes": share, "lookahead_every": 6}
    _, _, seen, _ = stepped(small, monkeypatch, **changes)
    assert [network for network, *_ in seen] == ["F, G", "D_X, D_Y", "H"]
    after_generators = {"F", "G", "F_swa", "G_swa"}  # not averaged yet: the averages follow
    assert [changed for *_, changed in seen] == [
        set(),
        after_generators,
        after_generators | {"D_X", "D_Y"},
    ]


@pytest.mark.parametrize(
    "switches", [{}, {"noise_consistency": False}, {"boost": False}, {"bypass": False}]
)
@pytest.mark.parametrize("share", [True, False])
def test_the_losses_of_a_step_are_the_equations(share, switches, published, small, monkeypatch):
    """Recomputed by hand from copies of the networks, in the order of Algorithm 1."""
    torch.manual_seed(0)
    changes = published | switches | {"share_passes": share}
    method, data = small.method("iscl", **changes), small.data()
    copies = small.method("iscl", **changes).networks
    for name, net in copies.items():
        net.load_state_dict(method.networks[name].state_dict())
        net.train()
    found = []
    real = module.update
    monkeypatch.setattr(
        module,
        "update",
        lambda o, loss, at, name, *rest: (
            found.append(loss.item()),
            real(o, loss, at, name, *rest),
        ),
    )
    batch = data.batch(0, 0, 2)
    F, G, H, D_X, D_Y = (copies[name] for name in ("F", "G", "H", "D_X", "D_Y"))
    x, y = (2 * batch.noisy - 1).clamp(-1, 1), (2 * batch.clean - 1).clamp(-1, 1)
    with torch.no_grad():
        fx, gy, hx = F(x), G(y), H(x)
        loss = (
            -D_Y(fx).mean()
            - D_X(gy).mean()
            + 30 * ((x - G(fx)).abs().mean() + (y - F(gy)).abs().mean())
        )
        if method.config.bypass:
            loss += 30 * ((fx - (x - hx).clamp(-1, 1)).abs().mean() + (y - F(y + hx)).abs().mean())
    method.step(batch, At(0, 0, "train", 0, 100))
    torch.testing.assert_close(found[0], loss.item(), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        if not share:
            F.load_state_dict(method.F.state_dict())
            G.load_state_dict(method.G.state_dict())
            fx, gy = F(x), G(y)
        judged = (
            (1 - D_Y(y)).relu().mean()
            + D_Y(fx).relu().mean()
            + (1 - D_X(x)).relu().mean()
            + D_X(gy).relu().mean()
        )
        if method.config.boost:
            judged += D_Y((x - hx).clamp(-1, 1)).relu().mean() + D_X(y + hx).relu().mean()
        learned = (hx - (x - fx)).abs().mean()
        if method.config.noise_consistency:
            learned += (gy - y - H(gy)).abs().mean()
    torch.testing.assert_close(found[1], judged.item(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[2], learned.item(), rtol=1e-5, atol=1e-6)


def test_critics_get_no_gradient_from_the_generators(published, small):
    method, data = small.method("iscl", **published), small.data()
    batch = data.batch(0, 0, 2)
    passes = method.run_networks(batch, At(0, 0, "train", 0, 100))
    loss = method.generators_loss(passes, At(0, 0, "train", 0, 100))
    loss.backward()
    assert all(
        p.grad is None for name in ("D_X", "D_Y", "H") for p in method.networks[name].parameters()
    )
    assert all(
        p.grad is not None for name in ("F", "G") for p in method.networks[name].parameters()
    )
    assert all(
        p.requires_grad for name in ("D_X", "D_Y") for p in method.networks[name].parameters()
    )


def test_averages_begin_once_at_their_share_of_the_steps(published, small):
    """Of 10 steps with swa_from = 0.6 weights after steps 7..10 (index 6..9); it begins at step 6."""
    method, data = small.method("iscl", **published), small.data()
    method.prepare(data, 0)
    seen = []
    for step in range(10):
        method.step(data.batch(0, step, 2), At(0, step, "train", step, 10))
        seen.append([p.detach().clone() for p in method.F.parameters()])
    assert int(method.F_swa.count) == 4
    for mine, *weights in zip(method.F_swa.net.parameters(), *seen[6:], strict=True):
        torch.testing.assert_close(mine, torch.stack(weights).mean(0), rtol=1e-4, atol=1e-6)


def test_what_denoises_is_the_average_and_the_slow_extractor(small):
    method = small.method("iscl")
    assert method.denoiser.net.denoise is method.F_swa.net
    assert method.denoiser.net.extract is method.networks["H_slow"].net


def test_finish_gives_the_average_statistics_of_its_own(published, small):
    method, data = small.method("iscl", **published), small.data()
    small.run(method, data, steps=4)
    before = method.F_swa.net.body[0].norm.running_mean.clone()
    method.finish(data, 0)
    once = small.copied(method)
    assert not torch.equal(before, method.F_swa.net.body[0].norm.running_mean)
    method.finish(data, 0)
    assert all(torch.equal(once[name], value) for name, value in method.tensors().items())


def test_the_rate_falls_linearly(published, small):
    method, data = small.method("iscl", **published, lr=1e-3, lr_end=1e-4), small.data()
    for step, rate in ((0, 1e-3), (5, 5.5e-4), (9, 1.9e-4)):
        method.step(data.batch(0, step, 2), At(0, step, "train", step, 10))
        assert [
            group["lr"] for o in method.optimizers.values() for group in o.param_groups
        ] == pytest.approx([rate] * 3)


def test_cyclegan_keeps_what_is_in_the_domain_already(small, monkeypatch):
    method, data = small.method("cyclegan"), small.data()
    found = []
    real = module.update
    monkeypatch.setattr(
        module,
        "update",
        lambda o, loss, at, name: (found.append(loss.item()), real(o, loss, at, name)),
    )
    F, G, D_X, D_Y = (method.networks[name] for name in ("F", "G", "D_X", "D_Y"))
    batch = data.batch(0, 0, 2)
    x, y = (2 * batch.noisy - 1).clamp(-1, 1), (2 * batch.clean - 1).clamp(-1, 1)
    with torch.no_grad():
        fx, gy = F(x), G(y)
        loss = (
            -D_Y(fx).mean()
            - D_X(gy).mean()
            + 30 * ((x - G(fx)).abs().mean() + (y - F(gy)).abs().mean())
        )
        loss += 15 * ((F(y) - y).abs().mean() + (G(x) - x).abs().mean())
    method.step(batch, At(0, 0, "train", 0, 100))
    torch.testing.assert_close(found[0], loss.item(), rtol=1e-5, atol=1e-6)


def test_cyclegan_has_no_extractor(small):
    method, data = small.method("cyclegan"), small.data()
    assert "H" not in method.networks
    assert method.denoiser.net.extract is None
    assert set(small.run(method, data)[0]) == {"loss", "critics", "accuracy", "contrast"}


def test_the_paper_preset_is_the_paper():
    paper = PRESETS["iscl"]["paper"]
    networks = {
        "width": 32,
        "blocks": 3,
        "extractor_width": 32,
        "extractor_depth": 20,
        "critic_width": 32,
    }
    patches = {
        "patch_px": 64,
        "batch_size": 64,
        "precision": "float32",
        "minutes": 0.0,
        "steps": 20 * 400,
    }
    rates = {"lr": 1e-4, "lr_end": 1e-6, "critic_lr": 0.0, "optimizer": "radam"}
    weights = {"nested_weight": 30.0, "gamma": 0.5, "agreement": 1.0, "critics_ramp": 0.0}
    switches = {
        "extract": True,
        "bypass": True,
        "boost": True,
        "noise_consistency": True,
        "share_passes": False,
    }
    averages = {"swa_from": 0.6, "lookahead_every": 6, "lookahead_alpha": 0.5}
    expected = {
        **networks,
        **patches,
        **rates,
        **weights,
        **switches,
        **averages,
        "start": 0.0,
        "nets": "iscl",
    }
    found = dataclasses.asdict(ShortISCLConfig(**vars(paper)))
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 0}, "width"),
        ({"blocks": -1}, "blocks"),
        ({"extractor_depth": 2}, "extractor_depth"),
        ({"patch_px": 48}, "power of two"),
        ({"gamma": 1.5}, "gamma"),
        ({"swa_from": -0.1}, "swa_from"),
        ({"lookahead_alpha": 2.0}, "lookahead_alpha"),
        ({"lookahead_every": 0}, "lookahead_every"),
        ({"extract": False}, "need the extractor"),
        ({"precision": "float16"}, "precision"),
        ({"intensity": "same"}, "intensity"),
        ({"minutes": -1.0}, "minutes"),
        ({"lr": float("nan")}, "lr"),
        ({"start": 1.5}, "start"),
        (
            {
                "start": 0.5,
                "extract": False,
                "bypass": False,
                "boost": False,
                "noise_consistency": False,
            },
            "what the extractor finds",
        ),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"critic_lr": -1.0}, "critic_lr"),
        ({"critics_ramp": 2.0}, "critics_ramp"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        ShortISCLConfig(**changes)


# -- the start, and Algorithm 1 after it


def test_the_start_trains_f_and_h_on_transplanted_noise(small, monkeypatch):
    method, data = small.method("iscl"), small.data()
    method.prepare(data, 0)
    before = small.copied(method)
    found = []
    real = iscl_short.update
    monkeypatch.setattr(
        iscl_short,
        "update",
        lambda o, loss, at, name: (found.append((name, loss.item())), real(o, loss, at, name)),
    )
    batch, at = data.batch(0, 0, 2), At(0, 0, "start", 0, 100)
    y = (2 * batch.clean - 1).clamp(-1, 1)
    noised = method.transplant.add_noise(y, method.transplant.draw_noise(2, at))
    with torch.no_grad():
        denoised, noise = method.F(noised), method.H(noised)
        expected = (
            30 * (y - denoised).abs().mean(),
            (noise - (noised - y)).abs().mean(),
        )
    method.step(batch, at)
    assert [name for name, _ in found] == ["F", "H"]
    assert [value for _, value in found] == pytest.approx(
        [value.item() for value in expected], rel=1e-5
    )
    now = method.tensors()
    changed = {
        key.split("/")[1]
        for key, value in now.items()
        if key.startswith("net/") and not torch.equal(before[key], value)
    }
    assert changed >= {"F", "H", "F_swa"}
    assert not changed & {"G", "D_X", "D_Y", "G_swa"}


def test_after_the_start_the_losses_use_transplanted_noise(small, monkeypatch):
    method, data = small.method("iscl"), small.data()
    method.prepare(data, 0)
    at = At(0, 3, "iscl", 15, 100)
    method.transplant.renew(method.H, len(iscl_short.RENEWALS))
    found = []
    real = module.update
    monkeypatch.setattr(
        module,
        "update",
        lambda o, loss, at, name, *rest: (
            found.append(loss.item()),
            real(o, loss, at, name, *rest),
        ),
    )
    batch = data.batch(0, 3, 2)
    F, G, H, D_X, D_Y = (method.networks[name] for name in ("F", "G", "H", "D_X", "D_Y"))
    x, y = method.transplant((2 * batch.noisy - 1).clamp(-1, 1)), (2 * batch.clean - 1).clamp(-1, 1)
    with torch.no_grad():
        made = method.transplant.add_noise(y, method.transplant.draw_noise(2, at))
        fx, gy, hx = F(x), G(made), H(x)
        ramp = 0.15 / 0.3
        loss = ramp * (-D_Y(fx).mean() - D_X(gy).mean()) + 30 * (
            (x - G(fx + hx)).abs().mean() + (y - F(gy)).abs().mean()
        )
        loss += 30 * (0.1 * (fx - (x - hx).clamp(-1, 1)).abs().mean() + (y - F(made)).abs().mean())
        loss += 300 * grid_loss(x - fx, 8)
        learned = (
            (hx - (x - fx)).abs().mean()
            + (gy - y - H(gy)).abs().mean()
            + (made - y - H(made)).abs().mean()
        )
        learned += 300 * grid_loss(hx, 8)
    method.step(batch, at)
    torch.testing.assert_close(
        [found[0], found[2]], [loss.item(), learned.item()], rtol=1e-5, atol=1e-6
    )


def test_after_the_start_a_cycle_does_not_teach_f_and_g_to_conspire(small):
    """G may not make noise that F finds easy, nor F leave noise for G: each cycle trains one of them."""
    method, data = small.method("iscl"), small.data()
    method.prepare(data, 0)
    batch, at = data.batch(0, 0, 2), At(0, 0, "iscl", 0, 100)
    x, y = method.transplant(to_signed(batch.noisy)), to_signed(batch.clean)
    made = method.transplant.add_noise(y, method.transplant.draw_noise(2, at))
    noise = method._run(method.H, x).detach()

    def gradient(net, **changes):
        for other in method.networks.values():
            other.zero_grad(set_to_none=True)
        denoised, noised = method._run(method.F, x), method._run(method.G, made)
        passes = Passes(x, y, made, denoised, noised, noise, made)
        method.generators_loss(dataclasses.replace(passes, **changes), at).backward()
        return [p.grad.clone() for p in method.networks[net].parameters() if p.grad is not None]

    # at progress 0 the critics have no say, so G learns from the cycle of x alone and F does not learn from
    # it
    other = torch.rand_like(x)
    assert all(
        torch.equal(a, b) for a, b in zip(gradient("G"), gradient("G", y=other), strict=True)
    )
    fixed = method._run(method.G, made).detach()
    before = gradient("F", made_noisy=fixed)
    with torch.no_grad():
        # Another G: its cycle of x changes, and nothing that F learns from while G(y) stays.
        method.G.last.bias += 0.5
        method.G.last.weight *= 1.5
    assert all(
        torch.equal(a, b) for a, b in zip(before, gradient("F", made_noisy=fixed), strict=True)
    )
    assert not all(torch.equal(a, b) for a, b in zip(before, gradient("F"), strict=True))


def test_of_calibrated_sets_the_critics_see_no_brightness(small):
    """What a clean set of another patient shows more of, fat or lung, must not move intensities."""
    method, data = small.method("iscl"), small.data()
    method.prepare(data, 0)
    image = torch.rand(2, 1, 32, 32)
    shade = torch.linspace(0, 1, 32).expand_as(image)
    even = method.score(method.D_Y, image)
    assert not torch.allclose(even, method.score(method.D_Y, image + 0.5), atol=1e-3)
    torch.testing.assert_close(even, method.D_Y(image))
    measured = method.transplant.measured
    uneven = dataclasses.replace(measured.difference, even=False)
    method.transplant.measured = measured._replace(difference=uneven)
    torch.testing.assert_close(
        method.score(method.D_Y, image + 0.5), method.score(method.D_Y, image), rtol=1e-4, atol=1e-5
    )
    side = iscl_short.DETAIL_PX
    inner = slice(side // 2, -(side // 2))
    torch.testing.assert_close(local_mean(shade, side)[..., inner], shade[..., inner])
    expected = ndimage.uniform_filter(image[0, 0].double().numpy(), side)
    torch.testing.assert_close(
        local_mean(image.double(), side)[0, 0, inner, inner],
        torch.from_numpy(expected)[inner, inner],
    )


def test_a_start_that_is_all_there_is_averages_and_slows_down(small):
    method, data = small.method("iscl", start=1.0, lr=1e-3, lr_end=1e-4, swa_from=0.5), small.data()
    assert [stage.name for stage in method.stages()] == ["start"]
    method.prepare(data, 0)
    for step in range(10):
        method.step(data.batch(0, step, 2), At(0, step, "start", step, 10))
    assert int(method.F_swa.count) == 5
    assert method.optimizers["F, G"].param_groups[0]["lr"] == pytest.approx(1.9e-4)


def test_the_denoiser_sees_the_matched_image(small):
    method, data = small.method("iscl"), small.data()
    method.prepare(data, 0)
    assert float(method.transplant.gain) != 1.0
    x = data.noisy.plane(0)[None, :, :32, :32]
    shown = method.transplant((2 * x - 1).clamp(-1, 1))
    first, second = method.F_swa.net(shown), (shown - method.leashes["H"].net(shown)).clamp(-1, 1)
    expected = ((first + second) / 2 + 1) / 2 + (x - x.clamp(0, 1))
    torch.testing.assert_close(method.denoise(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        method.disagreement(x), (first - second).abs() / 2, rtol=1e-5, atol=1e-5
    )


def test_grid_loss_is_the_variance_of_the_means_of_places():
    change = np.random.default_rng(0).normal(size=(3, 2, 16, 24))
    means = np.array(
        [[[change[:, c, i::4, j::4].mean() for j in range(4)] for i in range(4)] for c in range(2)]
    )
    expected = means.reshape(2, 16).var(axis=1).mean()
    assert grid_loss(torch.from_numpy(change), 4).item() == pytest.approx(expected, rel=1e-10)
    assert torch.autograd.gradcheck(
        lambda x: grid_loss(x, 4), torch.from_numpy(change[:1, :, :8, :8]).requires_grad_()
    )


def test_grid_loss_sees_a_grid_and_hardly_noise():
    rng = torch.Generator().manual_seed(0)
    noise = 0.3 * torch.randn(64, 1, 64, 64, generator=rng)
    floor = 0.3**2 * 8**2 / (64 * 64**2)
    assert grid_loss(noise, 8).item() == pytest.approx(floor, rel=0.5)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    for grid in (
        (-1.0) ** (rows + columns),
        (-1.0) ** (columns // 2) * torch.ones(64, 64),
        (-1.0) ** (rows // 4) * torch.ones(64, 64),
    ):
        assert grid_loss(noise + 0.1 * grid, 8).item() == pytest.approx(floor + 0.01, rel=0.02)
    # A cell as large as the patch sees all of it.
    assert grid_loss(torch.linspace(0, 9, 64).expand(1, 1, 64, 64) // 1, 64) > 0
    assert grid_loss(torch.full((2, 1, 16, 16), 3.0), 8).item() == 0.0
