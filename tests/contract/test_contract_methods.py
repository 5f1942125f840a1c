"""One contract for every method of METHODS: a new method is tested the day it is added."""

from __future__ import annotations

import copy
import importlib.util
import math
import re
from pathlib import Path

import pytest
import torch

from pairfree.config import field_docs
from pairfree.errors import ConfigError, DivergedError
from pairfree.methods import (
    DEFAULT_NOISY_ONLY,
    EXTENDED,
    METHODS,
    PRESETS,
    build_method,
    describe_methods,
)
from pairfree.methods.base import At, Method, Needs
from pairfree.nets.receptive_field import measured_receptive_field_px
from pairfree.nets.traits import total_stride
from pairfree.training.order import Order

DOCS = Path(__file__).resolve().parents[2] / "docs"
no_bm3d = pytest.mark.skipif(
    importlib.util.find_spec("bm3d") is None, reason="the optional package bm3d is not installed"
)
ALL = [pytest.param(key, marks=no_bm3d) if key == "bm3d" else key for key in METHODS]
TRAINED = [key for key in METHODS if METHODS[key].trains]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


PROMISED = (
    "iscl gan2gan iddp n2c n2n n2v n2s nb2nb b2u cvf-sid dip s2s "
    "gcbd cyclegan quan uidnet dncnn-b bm3d"
)


def test_tables_agree():
    assert set(PROMISED.split()) <= METHODS.keys()
    assert METHODS.keys() == PRESETS.keys()
    assert DEFAULT_NOISY_ONLY in METHODS
    assert METHODS[DEFAULT_NOISY_ONLY].needs is Needs.NOISY
    assert all({"cpu", "paper"} <= presets.keys() for presets in PRESETS.values())


@pytest.mark.parametrize("key", METHODS)
def test_each_preset_is_of_a_type_that_builds_a_method(key):
    """The paper's settings of the method's own type.

    Those that add to it of the extended type, at whose defaults nothing is added.
    """
    types = [METHODS[key].config_type, *([EXTENDED[key].config_type] if key in EXTENDED else [])]
    assert all(type(preset) in types for preset in PRESETS[key].values())
    assert type(PRESETS[key]["paper"]) is types[0]
    if key in EXTENDED:
        assert issubclass(EXTENDED[key], METHODS[key])
        assert issubclass(types[1], types[0])
        assert EXTENDED[key].key == key


@pytest.mark.parametrize("key", EXTENDED)
def test_at_its_defaults_the_extended_method_is_the_papers(key, small):
    """The same networks, stages and numbers after steps in every stage, bit for bit."""
    config = small.config(key, "paper")
    extended = EXTENDED[key].config_type(**vars(config))
    found = []
    for one in (config, extended):
        torch.manual_seed(0)
        method = build_method(key, one, 1)
        small.run(method, small.data())
        found.append(method)
    assert [type(one) for one in found] == [METHODS[key], EXTENDED[key]]
    assert found[0].stages() == found[1].stages()
    assert found[0].sources == found[1].sources
    assert same(found[0].tensors(), found[1].tensors())


@pytest.mark.parametrize("key", METHODS)
def test_a_method_says_what_it_is(key):
    method = METHODS[key]
    assert issubclass(method, Method)
    assert method.key == key
    assert isinstance(method.needs, Needs)
    for text in (method.title, method.citation, method.assumption):
        assert len(text.strip()) > 3


@pytest.mark.parametrize("key", ALL)
def test_shares_of_the_stages_sum_to_one(key, small):
    for preset in PRESETS[key]:
        stages = build_method(key, small.config(key, preset), 1).stages()
        assert sum(stage.share for stage in stages) == pytest.approx(1.0, abs=1e-12)
        assert all(0 < stage.share <= 1 for stage in stages)
        assert len({stage.name for stage in stages}) == len(stages)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("key", ALL)
def test_steps_run_and_denoise_keeps_shape_and_type(key, channels, small):
    method, data = small.method(key, channels), small.data(channels)
    for logged in small.run(method, data):
        assert "loss" in logged
        assert all(
            math.isfinite(value.item()) and not value.requires_grad for value in logged.values()
        )
    side = -(-16 // total_stride(method.denoiser)) * total_stride(method.denoiser)
    x = torch.rand(2, channels, side, 2 * side)
    with torch.no_grad():
        out = method.denoise(x)
    assert (out.shape, out.dtype) == (x.shape, torch.float32)
    assert torch.isfinite(out).all()


def learned(method):
    """Weights that an optimiser changes, by network and name."""
    held = {
        id(value)
        for one in method.optimizers.values()
        for group in one.param_groups
        for value in group["params"]
    }
    named = (
        (f"{name}/{key}", value)
        for name, net in method.networks.items()
        for key, value in net.named_parameters()
    )
    return {name: value.detach().clone() for name, value in named if id(value) in held}


@pytest.mark.parametrize("key", TRAINED)
def test_every_stage_changes_weights_and_all_networks_change(key, small):
    method, data, steps = small.method(key), small.data(), 2
    first, everything = learned(method), small.copied(method)
    method.prepare(data, 0)
    for number, stage in enumerate(method.stages()):
        before = learned(method)
        for k in range(steps):
            at = At(0, number * steps + k, stage.name, k, steps)
            method.step(data.batch(0, at.step, 2), at)
        assert any(
            not torch.equal(before[name], value) for name, value in learned(method).items()
        ), stage.name
    after, copied = learned(method), small.copied(method)
    for network in method.networks:
        names = [name for name in after if name.startswith(f"{network}/")]
        assert not names or any(not torch.equal(first[name], after[name]) for name in names)
        stored = [name for name in everything if name.startswith(f"net/{network}/")]
        assert any(not torch.equal(everything[name], copied[name]) for name in stored)


@pytest.mark.parametrize("key", TRAINED)
def test_same_seed_same_weights_other_seed_other_weights(key, small):
    def trained(seed: int) -> dict[str, torch.Tensor]:
        method = small.method(key, seed=seed)
        small.run(method, small.data(), seed)
        return method.tensors()

    first = trained(1)
    assert same(first, trained(1))
    assert not same(first, trained(2))


@pytest.mark.parametrize("key", TRAINED)
def test_the_steps_depend_on_the_seed_alone(key, small):
    """Same start, global generator elsewhere, other run seed: randomness is counted, not carried.

    It is a function of (seed, step).
    """

    def after(seed: int, noise: int) -> dict[str, torch.Tensor]:
        method, data = small.method(key, seed=0), small.data()
        torch.manual_seed(noise)
        small.run(method, data, seed)
        return method.tensors()

    assert same(after(1, 10), after(1, 20))
    assert not same(after(1, 10), after(2, 10))


@pytest.mark.parametrize("key", ALL)
def test_tensors_carry_the_whole_state(key, small):
    """A method loaded from tensors() is the method: same tensors, and the same next step bit for bit.

    The optimiser is included.
    """
    data, method = small.data(), small.method(key)
    small.run(method, data)
    stored = small.copied(method)
    loaded = small.method(key, seed=9)
    loaded.load_tensors(stored)
    loaded.prepare(data, 0)
    assert same(loaded.tensors(), stored)
    first, second = small.last_stage_step(method, data), small.last_stage_step(loaded, data)
    assert same(first, second)
    assert same(loaded.tensors(), method.tensors())
    if key in TRAINED:
        assert not same(method.tensors(), stored)


@pytest.mark.parametrize("key", TRAINED)
def test_weights_load_without_the_optimizer(key, small):
    data, method = small.data(), small.method(key)
    small.run(method, data)
    loaded = small.method(key, seed=9)
    loaded.load_tensors(method.tensors(), optimizers=False)
    stored = {name: value for name, value in method.tensors().items() if name.startswith("net/")}
    assert same(loaded.tensors(), stored)


@pytest.mark.parametrize("key", TRAINED)
@pytest.mark.parametrize("damage", ["missing", "extra", "misshapen"])
def test_load_is_strict_and_names_the_weight(key, damage, small):
    method = small.method(key)
    stored = small.copied(method)
    name = [name for name in stored if name.startswith("net/")][-1]
    if damage == "missing":
        del stored[name]
    elif damage == "extra":
        name += "_more"
        stored[name] = torch.zeros(1)
    else:
        stored[name] = torch.zeros(7, 7)
    with pytest.raises((KeyError, RuntimeError), match=name.split("/", 2)[2]):
        method.load_tensors(stored)


@pytest.mark.parametrize("key", ALL)
def test_a_deep_copy_goes_its_own_way(key, small):
    """The copy makes the same next step, and stepping it leaves the original alone."""
    data, method = small.data(), small.method(key)
    small.run(method, data)
    stored, twin = small.copied(method), copy.deepcopy(method)
    small.last_stage_step(twin, data)
    assert same(method.tensors(), stored)
    small.last_stage_step(method, data)
    assert same(method.tensors(), twin.tensors())


@pytest.mark.parametrize("key", TRAINED)
def test_the_receptive_field_is_measurable(key, small):
    """Prediction's halo must not depend on the weights.

    It is measured on the network as built and after training, with the same result.
    """
    method, data = small.method(key), small.data()
    fresh = measured_receptive_field_px(method.denoiser, 1)
    small.run(method, data)
    assert fresh == measured_receptive_field_px(method.denoiser, 1) >= 1


class ClampOf215(torch.autograd.Function):
    """``torch.clamp`` as it is from PyTorch 2.15 on: no gradient at its own bounds."""

    @staticmethod
    def forward(ctx, x, low, high):
        ctx.save_for_backward((x > low) & (x < high))
        return x.clip(low, high)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0], None, None


@pytest.mark.parametrize("key", TRAINED)
def test_the_receptive_field_does_not_hang_on_the_gradient_of_clamp(key, small, monkeypatch):
    """With a halo of 0 px, planes larger than a tile get seams.

    It was measured for iscl, cyclegan and quan with PyTorch 2.15, instead of 22 px.
    """
    denoiser = small.method(key).denoiser
    expected = measured_receptive_field_px(denoiser, 1)
    monkeypatch.setattr(
        torch.Tensor, "clamp", lambda x, min=-math.inf, max=math.inf: ClampOf215.apply(x, min, max)
    )
    monkeypatch.setattr(
        torch, "clamp", lambda x, min=-math.inf, max=math.inf: ClampOf215.apply(x, min, max)
    )
    assert measured_receptive_field_px(denoiser, 1) == expected > 0


@pytest.mark.parametrize("key", TRAINED)
def test_missing_partners_are_asked_for(key, small):
    method, data = small.method(key), small.data()
    method.prepare(data, 0)
    bare = type(data)(data.noisy)
    at = At(0, 0, method.stages()[0].name, 0, 10)
    if method.needs is Needs.NOISY:
        method.step(bare.batch(0, 0, 2), at)
    else:
        with pytest.raises(ConfigError, match="needs"):
            method.step(bare.batch(0, 0, 2), at)


@pytest.mark.parametrize("key", TRAINED)
@pytest.mark.parametrize(
    "poison", ["NaN in the batch", "Inf in the batch", "NaN gradient", "Inf gradient"]
)
def test_divergence_is_refused_before_anything_changes(key, poison, small):
    """In each network of each method: DivergedError names step and network, and nothing has changed.

    Weights and moments stay those of the step before. Where a step updates several networks in
    turn, those that were updated before the one that diverged keep their update.
    """
    for name in small.method(key).optimizers:
        method, data = small.method(key), small.data()
        small.run(method, data)
        stored, batch = small.copied(method), data.batch(0, 50, 2)
        value = math.nan if "NaN" in poison else math.inf
        hooks = []
        if "batch" in poison:
            for image in (batch.noisy, batch.target, batch.clean, batch.noise):
                image[0, 0] = value
        else:
            parameter = next(
                p for p in method.networks[name.split(", ")[0]].parameters() if p.requires_grad
            )
            hooks.append(
                parameter.register_hook(lambda gradient, value=value: gradient * 0 + value)
            )
        at = At(0, 50, method.stages()[-1].name, 5, 10)
        with pytest.raises(DivergedError, match=f"(?s)step 50.*{name if hooks else ''}") as caught:
            method.step(batch, at)
        assert ("gradient" if hooks else "non-finite") in str(caught.value)
        first = name == next(iter(method.optimizers))
        own = ("",)
        if not first and "batch" not in poison:
            own = (f"opt/{name}/", *(f"net/{one}/" for one in name.split(", ")))
        now, before = (
            {key: value for key, value in found.items() if key.startswith(own)}
            for found in (method.tensors(), stored)
        )
        assert same(now, before)
        for hook in hooks:
            hook.remove()
        small.last_stage_step(method, data)  # and it goes on from there
        assert all(torch.isfinite(tensor).all() for tensor in method.tensors().values())


def test_the_help_of_method_names_every_method_and_what_it_needs():
    """The words that stand beneath ``Order.method``, in any order, are those that the table makes."""
    said, _, _ = field_docs(Order)["method"].partition("From Python")
    assert sorted(re.findall(r"[\w-]+", said)) == sorted(re.findall(r"[\w-]+", describe_methods()))
    assert set(METHODS) <= set(re.findall(r"[\w-]+", said))


def config_types(key: str) -> list[type]:
    """Of the paper's method, and of what a preset adds to it."""
    methods = [METHODS[key], *([EXTENDED[key]] if key in EXTENDED else [])]
    return [method.config_type for method in methods]


@pytest.mark.parametrize("key", METHODS)
def test_every_setting_has_its_meaning_beneath_it(key):
    """In the class that declares it; a class that only changes the default need not repeat it."""
    for config_type in config_types(key):
        silent = [name for name, words in field_docs(config_type).items() if not words.strip()]
        assert silent == [], f"{config_type.__name__}: say beneath these what they mean"


@pytest.mark.parametrize("key", METHODS)
def test_every_method_has_a_docs_page_that_lists_its_settings(key):
    page = DOCS / "methods" / f"{key}.md"
    assert f"<!-- pairfree: settings {key} -->" in page.read_text(encoding="utf-8")
