"""What a checkpoint gives back.

Weights for a method, settings for a run that goes on, a start for another run.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pairfree.config import updated
from pairfree.data import even as even_noise
from pairfree.data.patches import TrainingData
from pairfree.engine import checkpoint
from pairfree.engine.fits import (
    check_counts,
    check_moments,
    check_weights,
    check_whole_numbers,
)
from pairfree.engine.record import Record
from pairfree.engine.run import RunFolder
from pairfree.errors import CheckpointError, ConfigError, InputError
from pairfree.files.listing import is_folder
from pairfree.methods import METHODS, build_method, choose_config_type, extend_config
from pairfree.methods.base import Method
from pairfree.nets import NETS
from pairfree.nets.even_unet import EvenUNet
from pairfree.nets.loading import load_network, select_tensors, shapes_alone
from pairfree.nets.start import has_start, load_start
from pairfree.nets.traits import is_measured_from_data
from pairfree.training.order import Order, changed_settings

BUILDING_FAILS = (
    ConfigError,
    RuntimeError,
    TypeError,
    ValueError,
    ArithmeticError,
    MemoryError,
)
"""What comes of settings that nothing can be built from."""
STARTS = ("shipped", "none")
"""What a network may begin from, where it is no other run."""
_say = logging.getLogger("pairfree")


def load_checkpoint(run: str | Path) -> checkpoint.Checkpoint:
    """The newest whole checkpoint of a run folder; damaged ones are passed over and named."""
    folder = Path(run)
    if not is_folder(folder):
        raise InputError(
            f"{folder}: no such run folder; give the folder that training wrote, its `out`"
        )
    last, problems = checkpoint.load_latest(folder / "checkpoints")
    for line in problems:
        _say.warning("%s; using that of step %d", line, last.step)
    return last


def check_stored(stored: checkpoint.Checkpoint, run: str | Path, optimizers: bool = True) -> None:
    """Refuse a checkpoint whose tensors are not those that its words ask for, before anything is made.

    A method and a network of the caller's own are only known when they are made: ``load_weights`` checks
    those.

    Parameters
    ----------
    stored
        The checkpoint.
    run
        The run folder that is named where the words ask for what there is not.
    optimizers
        Whether what optimisers remember is read, too.

    Raises
    ------
    CheckpointError
        Naming the first setting, or the first tensor, that does not fit.
    """
    record = stored.record
    network = record.config.get("net")
    if isinstance(network, str) and network not in NETS:
        return
    if record.method not in METHODS or not METHODS[record.method].trains:
        return
    try:
        config = stored_config(record.method, record.config, f"{run}")
        with shapes_alone():
            method = build_method(record.method, config, record.channels, "meta")
    except BUILDING_FAILS as error:
        raise cannot_be_built(run, error) from None
    check_tensors(method, stored, optimizers)


def cannot_be_built(run: str | Path, error: Exception) -> CheckpointError:
    """What to raise where the words of a checkpoint ask for a model that cannot be made."""
    reason = " ".join(str(error).split())
    return CheckpointError(f"{run}: its model cannot be built here: {reason:.300}")


def check_tensors(
    method: Method, stored: checkpoint.Checkpoint, optimizers: bool, ours: bool = True
) -> None:
    """CheckpointError naming the first tensor of a checkpoint that a method has not, or has otherwise.

    Of a method that is ours is known that its steps use all optimisers from the second stage on, and that
    whole numbers among its weights are counts.
    """
    tensors, stages = stored.tensors, stored.record.plan.stages
    check_weights(tensors.declared, method.weights(), tensors.path)
    if ours:
        check_whole_numbers(tensors)
    if optimizers:
        begun = stages[0][1] if len(stages) > 1 else 0
        all_used = ours and stored.step > begun
        check_moments(tensors.declared, method.optimizers, tensors.path, all_used)
    if stored.counts is not None:
        check_counts(tensors, stored.counts, tensors.path)


def check_stages(method: Method, stored: checkpoint.Checkpoint) -> None:
    """CheckpointError where a checkpoint's plan is of other stages than the method's."""
    found = [name for name, _ in stored.record.plan.stages]
    expected = [stage.name for stage in method.stages()]
    if found != expected:
        raise CheckpointError(
            f"{stored.tensors.path.with_suffix('.json')}: field 'plan' has the stages {found!r:.80}, "
            f"expected {', '.join(expected)}; use an earlier checkpoint, or start anew"
        )


def load_weights(method: Method, stored: checkpoint.Checkpoint, optimizers: bool = True) -> None:
    """Load the numbers of a checkpoint into a method. CheckpointError where they do not fit."""
    check_tensors(method, stored, optimizers, ours=method.key in METHODS)
    try:
        method.load_tensors(stored.tensors, optimizers)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"{stored.tensors.path}: its tensors do not fit method {method.key}: {reason}"
        ) from None


def stored_config(key: str, values: Mapping[str, Any], where: str) -> Any:
    """The config of a run of the method ``key``.

    Options that did not exist when it was trained are at their defaults.
    """
    return updated(choose_config_type(key, values)(), values, where)


def stored_settings(record: Record, where: str) -> dict[str, Any]:
    """Settings that repeat a run, with the precision that was found best where it ran."""
    settings = dataclasses.asdict(stored_config(record.method, record.config, where))
    return {**settings, **({"precision": record.precision} if "precision" in settings else {})}


def start_from(method: Method, start: checkpoint.Checkpoint) -> None:
    """Load the weights of another run; optimisers start afresh.

    A network begins as its namesake there, as the average of that where there was one, or, in a method with
    one network and its copies, as what denoised there. A network that the other run had not (the extractor,
    after CycleGAN) begins afresh; so does what is measured from the images.
    """
    loaded = False
    for name, net in method.networks.items():
        if is_measured_from_data(net):
            continue
        weights = _weights_for(name, net, method, start)
        if weights is None:
            continue
        try:
            load_network(net, weights)
        except (KeyError, RuntimeError):
            raise _misfit(method, start.record) from None
        loaded = True
    if not loaded:
        raise CheckpointError(
            f"`init`: a run of {start.record.method} has no network that {method.key} could begin with"
        )


def begin_with_shipped(method: Method, order: Order, data: TrainingData) -> str:
    """Load the shipped start into a method's networks, where that is asked for or usual.

    Parameters
    ----------
    method
        Freshly made.
    order
        What was asked; with ``start`` None the start is taken by preset cpu, where it fits.
    data
        What it is going to learn from: its noise says which start.

    Returns
    -------
    str
        "shipped" or "none": what it began from.

    Raises
    ------
    ConfigError
        Where it is asked for and does not fit.
    CheckpointError
        Where its file is missing or damaged.
    """
    if order.start not in (None, *STARTS):
        raise ConfigError(f"`start` {order.start!r}: must be one of {', '.join(STARTS)}")
    if order.start == "none":
        return "none"
    if order.start is None and order.preset != "cpu":
        return "none"
    problem = _why_no_start(method, order)
    if not problem:
        kind, channels = method.choose_start(data), _channels_of(_startable(method)[0])
        if not has_start(kind, channels):
            problem = f"there is none for {kind} noise in images of {channels} channels"
    if problem and order.start == "shipped":
        raise ConfigError(f"`start` shipped: {problem}; give `start` none")
    if problem:
        return "none"
    weights = load_start(kind, channels)
    for net in _startable(method):
        if _alike(net, weights):
            load_network(net, weights)
    method.started, method.start_kind = True, kind
    return "shipped"


def read_start(method: Method) -> dict[str, torch.Tensor] | None:
    """The weights that a method's denoiser began from; None where it is no network of a shipped start."""
    if not method.started or not method.start_kind:
        return None
    weights = load_start(method.start_kind, _channels_of(_startable(method)[0]))
    return weights if _alike(method.denoiser, weights) else None


def restore_start(method: Method, weights: Mapping[str, torch.Tensor]) -> None:
    """Put the start back into all networks that began from it."""
    for net in _startable(method):
        if _alike(net, weights):
            load_network(net, weights)


def _why_no_start(method: Method, order: Order) -> str:
    """Why the shipped start does not fit, a phrase; "" where it does."""
    nets = _startable(method)
    if order.init is not None:
        return "the run of `init` is what it begins from"
    if not method.trains or not nets or order.own_parts or order.net is not None:
        return f"method {method.key} does not train the network even-unet here"
    if order.slices_around:
        return "there is none for slices of a stack together"
    if not _alike(nets[0], EvenUNet(_channels_of(nets[0])).state_dict()):
        return "the network has another width or prediction"
    return ""


def _startable(method: Method) -> list[EvenUNet]:
    """The networks of a method, or parts of them, that the shipped weights may fit."""
    parts = [part for net in method.networks.values() for part in net.modules()]
    return [part for part in parts if isinstance(part, EvenUNet)]


def _channels_of(net: EvenUNet) -> int:
    """Of the images that it takes."""
    return len(net.grid)


def _misfit(method: Method, record: Record) -> CheckpointError:
    """That a network cannot begin with another run's weights, and why."""
    config = getattr(method, "config", None)
    asked = "another" if config is None else _words_of_network(dataclasses.asdict(config))
    there = _words_of_network(record.config)
    if there == asked:
        return CheckpointError(
            "`init`: that run's images have another number of channels than these"
        )
    return CheckpointError(
        f"`init`: the network of that run ({there}) is not the one asked for ({asked}); leave its "
        "settings out, they are taken from that run"
    )


def _words_of_network(settings: Mapping[str, Any]) -> str:
    """The settings that name a network, as far as there are any."""
    named = []
    for name in ("net", "width", "predict"):
        if settings.get(name):
            named.append(f"{name}={settings[name]}")
    return ", ".join(named) or "another kind"


def _weights_for(
    name: str, net: nn.Module, method: Method, start: checkpoint.Checkpoint
) -> Mapping[str, torch.Tensor] | None:
    """What the network called ``name`` begins with; None where the other run has nothing for it."""
    denoiser = f"{start.record.denoiser}/"
    single = "net" in method.networks
    if name == "net":
        sources = [denoiser]
    elif single:
        sources = [f"{name}/", denoiser]
    else:
        sources = [f"{name}_swa/net.", f"{name}_slow/net.", f"{name}/"]
    candidates = (select_tensors(start.tensors, f"net/{source}") for source in sources)
    weights = next((one for one in candidates if one), None)
    copy_or_helper = name != "net" and single and not select_tensors(start.tensors, f"net/{name}/")
    if weights is not None and copy_or_helper and not _alike(net, weights):
        return None
    return weights


def _alike(net: nn.Module, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether ``weights`` are those of such a network: the same names and shapes."""
    ours = net.state_dict()
    return ours.keys() == weights.keys() and all(
        ours[name].shape == weights[name].shape for name in ours
    )


def check_own_parts(record: Record, run: str | Path, method: Any, net: nn.Module | None) -> None:
    """CheckpointError where a run was trained with a method or a network that is not given and not ours.

    Code is never read from files.
    """
    if method is not None and not isinstance(method, str):
        return
    key, network = record.method, record.config.get("net")
    if key not in METHODS:
        raise CheckpointError(
            f"{run}: trained with a method of your own, {key!r}; pass it as method="
        )
    if net is None and isinstance(network, str) and network not in NETS:
        raise CheckpointError(
            f"{run}: trained with a network of your own, {network!r}; pass it as net="
        )


def _said(name: str, value: Any) -> Any:
    """A value as it is compared: a scene's number may be a word."""
    return str(value) if name == "scene" else value


def check_law(run: str | Path, record: Record) -> None:
    """CheckpointError where a run is to go on whose noise was measured otherwise than today."""
    if record.normalizer.even and record.normalizer.law != even_noise.REVISION:
        raise CheckpointError(
            f"{run}: was begun by a pairfree that measured noise otherwise, and cannot go on; start a new "
            f"run with `init` {run}"
        )


def check_unchanged(run: str | Path, given: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """ConfigError where a choice beside ``resume`` is not the run's own: a resumed run goes on as it began.

    Parameters
    ----------
    run
        The run folder.
    given
        Of ``order.FIXED`` those fields that were given.
    settings
        Fields of the method's config that were given.
    """
    stored = RunFolder(Path(run)).read_config()
    key = stored["method"]
    budget = {"steps": sum(stored.get("stage_steps", [])) or None}
    if key in METHODS and METHODS[key].one_image:
        budget = {name: stored["settings"].get(name) or None for name in ("minutes", "steps")}
    unsaid = {"nan": "error", "scene": None, "slices_around": 0, "max_bytes": None}
    own = {**unsaid, **stored, **budget}
    wrong = []
    for name, value in given.items():
        if _said(name, value) != _said(name, own.get(name)):
            wrong.append(f"`{name}` {value} (the run has {own.get(name)})")
    if settings and key in METHODS:
        before = extend_config(key, stored_config(key, stored["settings"], str(run)), settings)
        after = updated(before, settings, f"settings of {key}")
        for name, old, new in changed_settings(before, after, list(settings)):
            wrong.append(f"`settings` {name}={new} (the run has {old})")
    if wrong:
        raise ConfigError(
            f"{run}: cannot be changed by `resume`: {', '.join(wrong)}; leave it out, or start anew with "
            f"`init` {run}"
        )
