"""R7: a checkpoint whose digest fits and whose content does not is refused, before memory is taken."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time

import numpy as np
import pytest
import safetensors.torch
import torch

import pairfree as pf
from pairfree.data.normalize import Normalizer
from pairfree.engine import checkpoint
from pairfree.engine.fits import check_moments
from pairfree.engine.plan import Plan
from pairfree.engine.record import Record
from pairfree.engine.trainer import Stopped
from pairfree.errors import CheckpointError, ConfigError
from pairfree.methods import METHODS
from pairfree.methods.base import Method
from pairfree.methods.n2n import N2N
from pairfree.training.restoring import check_stored

SETTINGS = {"width": 4, "patch_px": 16, "batch_size": 2, "precision": "float32"}
IMAGE = np.random.default_rng(0).normal(1000, 50, (24, 24)).astype(np.uint16)


def forge(words, **changes):
    """Change fields as a careful forger would: with a digest that fits. ``None`` drops a field."""
    facts = json.loads(words.read_text())
    facts.pop("digest")
    facts = {key: value for key, value in {**facts, **changes}.items() if value is not None}
    words.write_text(checkpoint._text({**facts, "digest": checkpoint._digest(facts)}))


def forge_tensors(words, tensors, **changes):
    """Change tensors likewise, and how many there are said to be."""
    blob = safetensors.torch.save(tensors)
    words.with_suffix(".safetensors").write_bytes(blob)
    forge(words, tensors_sha256=hashlib.sha256(blob).hexdigest(), **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("trained") / "run"
    pf.train(
        IMAGE,
        method="n2v",
        steps=3,
        settings=SETTINGS,
        out=run,
        report=False,
        on_step=lambda done, *_: None,
    )
    return run


@pytest.fixture
def whole(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def run(whole):
    """A run with its newest checkpoint alone: there is none to fall back to."""
    for words in checkpoint.listing(whole / "checkpoints")[:-1]:
        words.unlink()
    return whole


def newest(run):
    return checkpoint.listing(run / "checkpoints")[-1]


def refusal(call):
    """The one line of a refusal, which comes soon."""
    begun = time.process_time()
    with pytest.raises(CheckpointError) as refused:
        call()
    assert time.process_time() - begun < 2.0
    line = str(refused.value)
    assert "\n" not in line
    assert len(line) < 700
    return line


def without(found, *parts):
    for name in [name for name in found if any(part in name for part in parts)]:
        del found[name]


MOMENTS = "opt/net/2/"
CHANGES = {
    "all moments are gone": (lambda found: without(found, "opt/"), "optimiser 'net'"),
    "one moment is gone": (
        lambda found: found.pop(MOMENTS + "exp_avg_sq"),
        MOMENTS + "exp_avg_sq' is missing",
    ),
    "all of a parameter are gone": (
        lambda found: without(found, "opt/net/5/"),
        r"tensors 'opt/net/...', expected",
    ),
    "the count is gone": (lambda found: without(found, "/step"), "step' is missing"),
    "a parameter that there is not": (
        lambda found: found.update({"opt/net/900/exp_avg": torch.zeros(4)}),
        "opt/net/900/exp_avg' is of no parameter",
    ),
    "an index that is none": (
        lambda found: found.update({"opt/net/../x": torch.zeros(4)}),
        "opt/net/../x' is of no parameter",
    ),
    "a moment that there is not": (
        lambda found: found.update({MOMENTS + "velocity": torch.zeros(4)}),
        MOMENTS + "velocity' is extra",
    ),
    "another optimiser": (
        lambda found: found.update({"opt/other/0/exp_avg": torch.zeros(4)}),
        "opt/other/0/exp_avg' is of an optimiser that there is not",
    ),
    "another type": (
        lambda found: found.update({MOMENTS + "exp_avg": found[MOMENTS + "exp_avg"].double()}),
        MOMENTS + "exp_avg' is float64",
    ),
    "another shape": (
        lambda found: found.update({MOMENTS + "exp_avg": torch.zeros(5)}),
        r"exp_avg' is float32 \(5,\), expected float32",
    ),
    "neither weight nor moment": (
        lambda found: found.update({"random/state": torch.zeros(4)}),
        "random/state' belongs to no network",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("counted", [True, False], ids=["counted", "uncounted"])
def test_moments_that_do_not_fit_are_named_on_resume(change, counted, run):
    """Also where the checkpoint does not say how many tensors it has, as older ones."""
    words = newest(run)
    found = dict(checkpoint.load(words).tensors)
    damage, named = CHANGES[change]
    damage(found)
    counts = {} if counted else {checkpoint.COUNTS: None}
    if change == "all of a parameter are gone" and not counted:
        pytest.skip("a parameter that never had a gradient looks like that")
    forge_tensors(words, found, **counts)
    with pytest.raises(CheckpointError, match=named) as refused:
        pf.train(IMAGE, out=run, resume=True, report=False)
    assert str(words.with_suffix(".safetensors")) in str(refused.value)
    assert "use an earlier checkpoint" in str(refused.value)


def test_what_is_refused_leaves_the_checkpoint_before_it(whole):
    """It goes on from there once the newest is out of the way, as the line says."""
    words = newest(whole)
    before = dict(checkpoint.load(words).tensors)
    found = dict(before)
    without(found, "opt/")
    forge_tensors(words, found)
    refusal(lambda: pf.train(IMAGE, out=whole, resume=True, report=False))
    words.unlink()
    pf.train(IMAGE, out=whole, resume=True, report=False)
    again = checkpoint.load(newest(whole)).tensors
    assert all(torch.equal(again[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 2**63},
        {"channels": 10**400},
        {"channels": 1000},
        {"channels": 2},
        {"channels": True},
        {"slices_around": 10**400},
        {"slices_around": 1},
        {"slices_around": -1},
        {"seed": -1},
        {"seed": 2**64},
        {"step": 10**400},
        {"weights": -1},
        {"weights": 10**400},
        {"precision": "float8"},
        {"start": "elsewhere"},
        {"method": "x" * 1000},
        {"preset": "y" * 1000},
        {"denoiser": "z" * 1000},
        {"versions": {"torch": [1]}},
        {"plan": [["train", 10**400]]},
        {"plan": [["x" * 1000, 3]]},
        {"watch": {"accuracy": -1}},
        {"watch": {"accuracy": 10**400}},
        {"watch": [1]},
        {"format": -1},
        {"format": "1"},
        {"tensor_counts": {"net/net": "many"}},
        {"tensor_counts": {"net/net": 10**400}},
        {"tensor_counts": {"net/net": 1}},
        {"clock": {"budget_s": 1.0, "shares": [], "paces": []}},
        {"clock": {"budget_s": 1e300, "shares": [1.0], "paces": [[1.0, 1.0]]}},
        {"clock": {"budget_s": 1.0, "shares": [1.0], "paces": [[1e-300, 1.0]]}},
        {"normalizer": {"offset": 10**400, "scale": 1}},
    ],
    ids=lambda changes: f"{changes!r:.40}",
)
def test_facts_that_cannot_be_are_named(changes, run):
    words = newest(run)
    forge(words, **changes)
    line = refusal(lambda: pf.load(run))
    assert str(run) in line
    if changes == {"slices_around": 1}:
        changes = {"channels": 1}
    if changes not in ({"channels": 1000}, {"channels": 2}, {"tensor_counts": {"net/net": 1}}):
        assert f"field '{next(iter(changes))}'" in line


def test_stages_of_another_method_are_named_on_resume(run):
    """They name folders: ``../../x`` would lie outside the run."""
    forge(newest(run), plan=[["../../x", 2], ["train", 3]])
    line = refusal(lambda: pf.train(IMAGE, out=run, resume=True, report=False))
    assert "field 'plan'" in line


@pytest.mark.parametrize("depth", [20, 900, 100_000])
def test_deep_settings_are_refused(depth, run):
    words = newest(run)
    text = words.read_text().replace('"lr": 0.002', '"lr": ' + "[" * depth + "]" * depth)
    words.write_text(text)
    for call in (lambda: pf.load(run), lambda: pf.train(IMAGE, out=run, resume=True)):
        assert str(run) in refusal(call)


def test_much_text_is_refused(run):
    newest(run).write_text('{"digest": "' + "x" * 2**21 + '"}')
    assert "has more than 1 MiB" in refusal(lambda: pf.load(run))


def store_untrained(folder, key, small, **changes):
    """A checkpoint of a method of ours that no step was taken with, forged at once."""
    method = small.method(key)
    config = dataclasses.asdict(method.config)
    record = dataclasses.replace(
        Record.untrained(key, Normalizer(0.0, 1.0), 1),
        config={**config, **changes},
        plan=Plan(tuple((stage.name, 1) for stage in method.stages())),
    )
    return checkpoint.save(folder / "checkpoints", record, method.tensors())


@pytest.mark.parametrize("key", [key for key in METHODS if key != "bm3d"])
def test_settings_of_any_size_are_refused_or_harmless(key, small, tmp_path):
    """Of every method: each whole number among its settings by a billion, and by what no type holds.

    Those that shape its networks are refused, soon and without memory; some do so with others only.
    """
    found = checkpoint.load(store_untrained(tmp_path, key, small))
    check_stored(found, tmp_path)
    settings = dataclasses.asdict(small.config(key))
    for name, value in settings.items():
        if type(value) is not int:
            continue
        for large in (3000, 10**9, 10**400):
            config = {**settings, name: large}
            forged = dataclasses.replace(
                found, record=dataclasses.replace(found.record, config=config)
            )
            refused = ""
            begun = time.process_time()
            try:
                check_stored(forged, tmp_path)
            except CheckpointError as error:
                refused = str(error)
            assert time.process_time() - begun < 1.0, (name, large)
            assert "\n" not in refused
            assert refused or name != "width" or not METHODS[key].trains, large


@pytest.mark.parametrize("name", ["levels", "width", "inputs", "steps"])
def test_a_network_that_is_made_later_has_bounds_too(name, small, tmp_path):
    """Of a method that learns each image by itself, nothing is stored that settings could be held against."""
    for large in (10**9, 10**400):
        store_untrained(tmp_path, "dip", small, **{name: large})
        if name == "steps" and large < 2**63:
            pf.load(tmp_path)
        else:
            assert f"{name} = 1" in refusal(lambda: pf.load(tmp_path))


def test_a_setting_of_the_command_line_has_the_same_bounds():
    with pytest.raises(ConfigError, match=r"width = 5000: expected at most 4096"):
        pf.train(IMAGE, method="n2v", settings={"width": 5000})
    with pytest.raises(ConfigError, match=r"blocks = 300: expected at most 256"):
        pf.train(IMAGE, method="iscl", clean=IMAGE, settings={"blocks": 300})


def test_a_start_whose_words_are_forged_is_refused(run):
    """``init`` builds the network that the words ask for: they must be those of the tensors."""
    config = json.loads(newest(run).read_text())["config"]
    forge(newest(run), config={**config, "width": 3000})
    line = refusal(lambda: pf.train(IMAGE, method="n2v", init=run, steps=1, report=False))
    assert "expected float32 (" in line


def test_a_start_of_another_type_is_refused(run):
    words = newest(run)
    found = {name: value.double() for name, value in checkpoint.load(words).tensors.items()}
    forge_tensors(words, found)
    line = refusal(lambda: pf.train(IMAGE, method="n2v", init=run, steps=1, report=False))
    assert "is float64" in line


def test_a_count_below_zero_is_named(small, tmp_path):
    """An average over -1 networks would divide by 0."""
    method = small.method("iscl")
    words = store_untrained(tmp_path, "iscl", small)
    found = {**method.tensors(), "net/F_swa/count": torch.tensor(-1)}
    forge_tensors(words, {name: value.contiguous().clone() for name, value in found.items()})
    assert "'net/F_swa/count' holds -1" in refusal(lambda: pf.load(tmp_path))


# -- optimisers ----------------------------------------------------------------------------------------------


def moments_of(optimizer):
    held = optimizer.state_dict()["state"]
    return {
        f"opt/net/{index}/{key}": torch.as_tensor(value)
        for index, state in held.items()
        for key, value in state.items()
        if value is not None
    }


@pytest.mark.parametrize(
    "make",
    [
        lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
        lambda weights: torch.optim.SGD(weights, lr=0.1),
        lambda weights: torch.optim.AdamW(weights, lr=0.1, amsgrad=True),
        lambda weights: torch.optim.RMSprop(weights, lr=0.1, momentum=0.5, centered=True),
        lambda weights: torch.optim.Adagrad(weights, lr=0.1),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_what_any_optimiser_keeps_fits_it(make, frozen, tmp_path):
    """Also where a weight had no gradient; the optimiser itself is left as it is."""
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Conv2d(3, 2, 3))
    optimizer = make(list(net.parameters()))
    frozen_weight = net[0].bias.requires_grad_(not frozen)
    before = [value.clone() for value in net.parameters()]
    optimizer.step(lambda: loss_of(net, optimizer))
    kept = moments_of(optimizer)
    after = [value.clone() for value in net.parameters()]
    check_moments(kept, {"net": optimizer}, tmp_path, all_used=bool(kept))
    assert all(torch.equal(a, b) for a, b in zip(after, net.parameters(), strict=True))
    assert frozen_weight.requires_grad is not frozen
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for lost in [name for name in kept if kept[name].ndim]:
        if sum(name.startswith(lost.rsplit("/", 1)[0] + "/") for name in kept) == 1:
            continue  # all that is kept of it: as if it never had a gradient
        left = {name: value for name, value in kept.items() if name != lost}
        with pytest.raises(CheckpointError, match=f"{lost}' is missing"):
            check_moments(left, {"net": optimizer}, tmp_path, all_used=True)


def loss_of(net, optimizer):
    optimizer.zero_grad()
    loss = net(torch.ones(1, 2, 8, 8)).square().mean()
    loss.backward()
    return loss


class OwnN2N(N2N):
    """A method of a caller's own whose optimiser keeps nothing."""

    key = "own"

    def __init__(self, channels: int, device: str = "cpu") -> None:
        super().__init__(dataclasses.replace(N2N.config_type(), **SETTINGS), channels, device)

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"net": torch.optim.SGD(self.net.parameters(), lr=1e-3)}


def test_a_method_of_ones_own_may_remember_nothing(tmp_path):
    own: type[Method] = OwnN2N
    given = {"noisy": IMAGE, "target": IMAGE + np.uint16(1), "out": tmp_path / "run"}
    with pytest.raises(Stopped):
        pf.train(**given, method=own, steps=4, report=False, on_step=lambda done, *_: done == 2)
    pf.train(**given, method=own, resume=True, report=False)
    words = newest(tmp_path / "run")
    found = dict(checkpoint.load(words).tensors)
    forge_tensors(words, {**found, "opt/net/77/x": torch.zeros(1)})
    line = refusal(lambda: pf.train(**given, method=own, resume=True, report=False))
    assert "opt/net/77/x" in line
