"""A training run, resolved: the data read, the method built, everything refused that does not fit.

Nothing is written here.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pairfree.config import architecture_settings, choose, updated
from pairfree.data import even as even_noise
from pairfree.data import processes
from pairfree.data.normalize import Normalizer, fit_normalizer
from pairfree.data.patches import PatchPool, TrainingData
from pairfree.data.sets import ImageSet, Reading
from pairfree.data.unpaired import fit_unpaired
from pairfree.engine import checkpoint
from pairfree.engine.plan import plan_steps
from pairfree.engine.predictor import Predictor
from pairfree.errors import ConfigError
from pairfree.methods import (
    DEFAULT_NOISY_ONLY,
    DEFAULT_UNPAIRED,
    METHODS,
    PRESETS,
    build_method,
    choose_config_type,
    extend_config,
    setting_names,
    settings_beside,
)
from pairfree.methods.base import Method, Needs
from pairfree.methods.parts.one_image import apply_budget
from pairfree.methods.parts.single import SingleConfig
from pairfree.methods.parts.untrained import check_untrained
from pairfree.training.auto import AutoChoice, choose_automatically
from pairfree.training.images import ImageSets, read_image_sets
from pairfree.training.order import AUTO, Order
from pairfree.training.pools import pool_noisy
from pairfree.training.restoring import (
    begin_with_shipped,
    check_stored,
    load_checkpoint,
    start_from,
)

Maps = tuple[Normalizer, Normalizer | None]
"""The intensity maps of the noisy set, and of the unpaired clean set where there is one."""


@dataclass(frozen=True)
class Job:
    """A training run, resolved: every choice made, nothing started."""

    method: Method
    preset: str
    config: dict[str, Any]
    """The method's settings by name."""

    data: TrainingData
    normalizer: Normalizer
    noisy: ImageSet
    inputs: dict[str, Any]
    """What config.toml says of the images and of ``init``."""

    seed: int
    minutes: float
    """Budget; 0 where steps count."""

    steps: int
    device: torch.device
    clean_normalizer: Normalizer | None = None
    """Intensity map of the unpaired clean set, where there is one."""

    warnings: tuple[str, ...] = ()
    """About the files, one line each."""

    choice: AutoChoice | None = None
    """How the method was chosen, where it was not named."""


def pick_device(name: str) -> torch.device:
    """Choose where networks lie: "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"`device` {name!r}: must be auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "`device` cuda: this torch sees no CUDA device; use `device` cpu, or install a CUDA "
            "build of torch"
        )
    return torch.device(name)


def _reading_of(order: Order) -> Reading:
    return Reading(order.nan, order.slices_around, order.scene, order.max_bytes)


def resolve(order: Order, maps: Maps | None = None) -> Job:
    """Read the data, build the method, refuse what does not fit; nothing is written.

    Parameters
    ----------
    order
        What was asked.
    maps
        The intensity maps of the run to resume; None takes those of ``order.init``, else fits them.

    Raises
    ------
    ConfigError, InputError, CheckpointError
        For what does not fit together.
    """
    _check_numbers(order)
    device = pick_device(order.device)
    start = None if order.init is None else _load_start(order.init)
    method = _chosen_method(order, start)
    _check_start(order, start)
    sets, choice = None, None
    if method == AUTO:
        sets = read_image_sets(order.images, _reading_of(order))
        choice = choose_automatically(order, sets)
        method = choice.method
    needs, config = settings_of(method, order.preset, order.settings, start)
    config = complete_config(config, order)
    _check_needs(method, needs, order)
    sets = sets or read_image_sets(order.images, _reading_of(order))
    warnings = sets.warnings
    normalizer, clean_normalizer = maps or _intensity_maps(sets, config, start)

    own = [] if order.net is None else [order.net]
    processes.begin_alike([*own, *getattr(method, "networks", {}).values()])
    torch.manual_seed(int(order.seed))
    made = make_method(method, config, sets.noisy.channels, device, order.net)
    if order.net is not None or not isinstance(method, str):
        # refuses, before the first step, what could not be applied later
        Predictor(copy.deepcopy(made), normalizer, sets.noisy.channels)
    data, told = _pool(sets, (normalizer, clean_normalizer), device, made.patch_px)
    warnings += told
    inputs = dict(sets.inputs)
    if start is not None and order.init is not None:
        start_from(made, start)
        inputs["init"] = str(Path(order.init).absolute())
    fitting = made.fit_to(data, int(order.seed), order.start != "none")
    if fitting is not made:
        made, config = fitting, fitting.config
    inputs["start"] = begin_with_shipped(made, order, data)
    values = _values_of(config if config is not None else made.config)
    warnings += check_untrained(made, order.slices_around, order.minutes or order.steps)
    minutes, steps = _budget(made, values, order)
    return Job(
        method=made,
        preset=order.preset,
        config=values,
        data=data,
        normalizer=normalizer,
        noisy=sets.noisy,
        inputs=inputs,
        seed=int(order.seed),
        minutes=minutes,
        steps=steps,
        device=device,
        clean_normalizer=clean_normalizer,
        warnings=tuple(warnings),
        choice=choice,
    )


def _pool(
    sets: ImageSets, maps: Maps, device: torch.device, patch_px: int
) -> tuple[TrainingData, list[str]]:
    """Patches of all sets in network units, and what was noticed, one line each."""
    normalizer, clean_normalizer = maps
    noisy, correlated, told = pool_noisy(
        sets.noisy, normalizer, device, patch_px, alone=not sets.others
    )
    pools = {"noisy": noisy}
    for name, other in sets.others.items():
        applied = clean_normalizer if name == "clean" and clean_normalizer else normalizer
        pools[name] = PatchPool(other.planes, device, patch_px, applied.map_array)
    return TrainingData(**pools, correlated=correlated), told


def _check_numbers(order: Order) -> None:
    if order.minutes is not None and order.steps is not None:
        raise ConfigError("give `minutes` or `steps`, not both")
    if not 0 <= order.seed < 2**63:
        raise ConfigError(f"`seed` {order.seed}: must lie in 0..2^63 - 1")


def _load_start(run: str | Path) -> checkpoint.Checkpoint:
    """The checkpoint to begin with, whose words are those of its tensors: they shape the networks."""
    start = load_checkpoint(run)
    check_stored(start, run, optimizers=False)
    return start


def _chosen_method(order: Order, start: checkpoint.Checkpoint | None) -> Any:
    """The key of one of ours, or the caller's own method."""
    method = order.method
    if method in (None, AUTO) and start is not None:
        return start.record.method
    if method is None:
        return AUTO
    if isinstance(method, type) and METHODS.get(method.key) is method:
        return method.key
    return method


def _check_start(order: Order, start: checkpoint.Checkpoint | None) -> None:
    """A fine-tuned network sees as many slices as it did before."""
    before = order.slices_around if start is None else start.record.slices_around
    if before != order.slices_around:
        raise ConfigError(
            f"`init`: was trained with {before} slices around each, not {order.slices_around}; "
            f"give `slices_around` {before}"
        )


def _budget(made: Method, values: Mapping[str, Any], order: Order) -> tuple[float, int]:
    """Minutes and steps as asked, else the preset's; one step for a method that does not train."""
    minutes, steps = order.minutes, order.steps
    if not made.trains:
        minutes, steps = 0.0, 1
    elif minutes is None and steps is None:
        minutes, steps = float(values.get("minutes", 10.0)), int(values.get("steps", 0))
        settled = {"minutes", "steps"} & set(order.settings or {})
        if made.started and not settled:
            minutes = float(values.get("started_minutes", 0.0)) or minutes
    budget = float(minutes or 0), int(steps or 0)
    if not (0 < budget[0] < math.inf or budget[1] > 0):
        raise ConfigError(
            f"a budget of {steps if minutes is None else minutes} is no budget: give `minutes` or `steps` "
            "above 0"
        )
    if budget[0] <= 0:
        plan_steps(made, budget[1])  # refuses fewer steps than stages
    return budget


def settings_of(
    method: Any,
    preset: str,
    settings: Mapping[str, Any] | None,
    start: checkpoint.Checkpoint | None,
) -> tuple[Needs, Any]:
    """What the method needs, and its config.

    The preset's (or that of the run to start from) with the user's settings.
    """
    if not isinstance(method, str):
        if settings:
            raise ConfigError("settings go into your own method's constructor, not beside it")
        return method.needs, None
    chosen = choose(method, METHODS, "method")
    base = choose(preset, PRESETS[method], f"preset of {method}")
    if start is not None:
        base = _shaped_as_before(method, base, start)
    settings = settings or {}
    return chosen.needs, updated(
        extend_config(method, base, settings), settings, f"settings of {method}"
    )


def _shaped_as_before(method: str, base: Any, start: checkpoint.Checkpoint) -> Any:
    """``base`` with the networks of the run to start from."""
    before = settings_beside(start.record.method, start.record.config)
    kind = choose_config_type(method, before)
    kept = architecture_settings(kind) - {"patch_px"}
    if "critic_width" in before:  # the side of a patch shapes critics only
        kept |= {"patch_px"}
    known = setting_names(kind)
    shapes = {name: value for name, value in before.items() if name in kept and name in known}
    return updated(extend_config(method, base, shapes), shapes, "init")


def complete_config(config: Any, order: Order) -> Any:
    """The config with what was asked beside it: the name of a user's own network.

    Where a budget is one for each image, that budget.
    """
    if order.net is not None and isinstance(config, SingleConfig):
        return dataclasses.replace(config, net=type(order.net).__name__)
    return apply_budget(config, order.minutes, order.steps)


def _values_of(config: Any) -> dict[str, Any]:
    """The settings of a config by name; none where it is no dataclass."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return dataclasses.asdict(config)
    return {}


def _intensity_maps(sets: ImageSets, config: Any, start: checkpoint.Checkpoint | None) -> Maps:
    """Of the noisy and of the unpaired clean set; a fine-tuned network keeps those it was trained with."""
    if start is not None:
        before = start.record.normalizer
        law = even_noise.REVISION if before.even else before.law
        return dataclasses.replace(before, law=law), start.record.clean_normalizer
    if sets.clean is None:
        fitted = fit_normalizer(sets.noisy.planes, sets.noisy.dtypes)
        even = bool(getattr(config, "even", False))
        one_law = even and sets.noisy.reading.slices_around > 0
        law = even_noise.REVISION if even else fitted.law
        return dataclasses.replace(fitted, even=even, one_law=one_law, law=law), None
    return fit_unpaired(sets.noisy, sets.clean, getattr(config, "intensity", "auto"))


def make_method(
    method: Any, config: Any, channels: int, device: torch.device, net: nn.Module | None
) -> Method:
    """A method by its key and config, or the caller's own.

    An instance as it is, a class called with channels and device.
    """
    if isinstance(method, str):
        return build_method(method, config, channels, device, net)
    if isinstance(method, Method):
        return method
    own: Method = method(channels, device)
    return own


def _check_needs(method: Any, needs: Needs, order: Order) -> None:
    """ConfigError for images that the method needs and was not given, and for those it makes no use of."""
    key = method if isinstance(method, str) else method.key
    clean, target, noise = (
        one is not None for one in (order.clean, order.target, order.noise_images)
    )
    if needs.target and not target:
        raise ConfigError(
            f"method {key} needs {needs.value}; without partners use a noisy-only method such as "
            f"{DEFAULT_NOISY_ONLY}"
        )
    if (needs.clean and not clean) or (needs.noise and not noise):
        raise ConfigError(f"method {key} needs {needs.value}")
    remedies = [
        ("target", target and not needs.target, "n2c or n2n"),
        ("clean", clean and not needs.clean, DEFAULT_UNPAIRED),
        ("noise_images", noise and not needs.noise, "quan or noisy-n2n"),
    ]
    for name, useless, others in remedies:
        if useless:
            raise ConfigError(
                f"method {key} makes no use of `{name}`; leave it out, or use `method` {others}"
            )
