"""A training run, resolved: the data read, the method built, everything refused that does not fit. Nothing is written here."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pairfree.config import choose, updated
from pairfree.data import processes
from pairfree.data.normalize import Normalizer, fit_normalizer
from pairfree.data.patches import PatchPool, TrainingData
from pairfree.data.sets import MOST_BYTES, USUAL, ImageSet, Reading, array_set, matched, read_set
from pairfree.data.unpaired import fit_unpaired, shared_scenes
from pairfree.engine import checkpoint
from pairfree.engine.plan import plan_steps
from pairfree.engine.predictor import Predictor
from pairfree.engine.run import RunFolder
from pairfree.errors import CheckpointError, ConfigError, InputError
from pairfree.files.listing import find_images, is_folder
from pairfree.files.messages import shown
from pairfree.measure.level import MIN_SIDE_PX, estimate_sigma
from pairfree.measure.two_sets import fine_excess
from pairfree.methods import DEFAULT_NOISY_ONLY, DEFAULT_UNPAIRED, METHODS, PRESETS
from pairfree.methods.base import Method, Needs, below
from pairfree.methods.parts.one_image import unused, with_budget
from pairfree.methods.parts.single import SingleConfig
from pairfree.nets import NETS

Images = str | Path | np.ndarray | Sequence[str] | Sequence[Path] | Sequence[np.ndarray]
ARCHITECTURE = (
    *(
        "net",
        "nets",
        "width",
        "predict",
        "blocks",
        "extractor_width",
        "extractor_depth",
        "generator_width",
        "critic_width",
    ),
    *("generator_px", "noise_width", "noise_body", "noise_head", "rough_width"),
    "critic_norm",
    "patch_px",
)
"""Settings that shape networks, which a fine-tuned run takes from the run it starts from; the last of them shapes critics only."""
NOISE_SAMPLES = 8
"""Planes of a set whose noise level is estimated."""
_say = logging.getLogger("pairfree")


def pick_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r}: must be auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device cuda: this torch sees no CUDA device; use --device cpu, or install a CUDA build of torch"
        )
    return torch.device(name)


def image_set(
    images: Images, what: str, reading: Reading = USUAL, most_bytes: int = MOST_BYTES
) -> tuple[ImageSet, list[str]]:
    """Planes of files or arrays, and the paths (empty for arrays). A single array is one image (H, W) or stack (N, H, W), (N, C, H, W)."""
    if isinstance(images, np.ndarray) and reading.slices_around and images.ndim == 3:
        images = [images]
    if isinstance(images, np.ndarray):
        if images.ndim not in (2, 3, 4):
            raise InputError(f"{what} has shape {images.shape}; expected (H, W), (N, H, W) or (N, C, H, W)")
        if images.ndim == 3 and images.shape[-1] <= 4 < images.shape[0]:
            raise InputError(
                f"{what} has shape {images.shape}: a colour image is given as [array], channels first: np.moveaxis(array, -1, 0)"
            )
        return array_set([images] if images.ndim == 2 else list(images), what, reading), []
    listed = [images] if isinstance(images, str | Path) else list(images)
    if listed and all(isinstance(item, np.ndarray) for item in listed):
        return array_set([np.asarray(item) for item in listed], what, reading), []
    paths = [Path(str(item)) for item in listed]
    found = read_set(find_images(paths), most_bytes, reading)
    return found, [_storable(path.resolve() if path.exists() else path.absolute()) for path in paths]


def _storable(path: Path) -> str:
    """``path`` as a config can hold it. InputError for a name that is no text: the run could not be repeated."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"{shown(path)}: its name is no UTF-8 text and cannot be written into the run's config; rename it"
        ) from None
    return str(path)


@dataclass(frozen=True)
class Job:
    """A training run, resolved: every choice made, nothing started.

    clean_normalizer   intensity map of the unpaired clean set, where there is one
    warnings           one line each, about the files
    """

    method: Method
    preset: str
    config: dict[str, Any]
    data: TrainingData
    normalizer: Normalizer
    noisy: ImageSet
    inputs: dict[str, Any]
    seed: int
    minutes: float
    steps: int
    device: torch.device
    clean_normalizer: Normalizer | None = None
    warnings: tuple[str, ...] = ()


def resolve(
    noisy: Images,
    *,
    clean: Images | None = None,
    target: Images | None = None,
    noise_images: Images | None = None,
    method: str | type[Method] | Method | None = None,
    preset: str = "cpu",
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    net: nn.Module | None = None,
    init: str | Path | None = None,
    nan: str = "error",
    slices_around: int = 0,
    max_bytes: float | None = None,
    normalizers: tuple[Normalizer, Normalizer | None] | None = None,
) -> Job:
    """Read the data, build the method, refuse what does not fit; nothing is written.

    normalizers   of the noisy and of the clean set in the run to resume; default: those of ``init``, else fitted
    """
    if minutes is not None and steps is not None:
        raise ConfigError("give minutes or steps, not both")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed {seed}: must lie in 0..2^63 - 1")
    seed, place = int(seed), pick_device(device)
    start = None if init is None else load_checkpoint(init)
    if method is None:
        method = (
            str(start.facts["method"])
            if start is not None
            else DEFAULT_UNPAIRED
            if clean is not None
            else DEFAULT_NOISY_ONLY
        )
    if isinstance(method, type) and METHODS.get(method.key) is method:
        method = method.key
    if start is not None and start.facts.get("slices_around", 0) != slices_around:
        before = start.facts.get("slices_around", 0)
        raise ConfigError(
            f"--init: was trained with {before} slices around each, not {slices_around}; give --slices-around {before}"
        )
    needs, config = settings_of(method, preset, settings, start)
    config = completed(config, net, minutes, steps)
    _check_needs(method, needs, clean is not None, target is not None, noise_images is not None)
    reading = Reading(nan, slices_around, max_bytes)
    noisy_set, others, inputs = _read_all(
        noisy, {"target": target, "clean": clean, "noise": noise_images}, reading
    )
    warnings = [line for found in (noisy_set, *others.values()) for line in found.warnings]
    warnings += _types_differ(noisy_set, others) + (
        check_unpaired(noisy_set, others["clean"]) if "clean" in others else []
    )
    normalizer, clean_normalizer = normalizers or _intensity_maps(
        noisy_set, others.get("clean"), config, start
    )
    processes.begin_alike([*([net] if net is not None else []), *getattr(method, "networks", {}).values()])
    torch.manual_seed(seed)
    made = make_method(method, config, noisy_set.channels, place, net)
    if net is not None or not isinstance(method, str):
        Predictor(
            copy.deepcopy(made), normalizer, noisy_set.channels
        )  # refuses, before the first step, what could not be applied later
    pools = {"noisy": _pool(noisy_set, normalizer, place, made.patch_px)}
    for name, other in others.items():
        pools[name] = _pool(
            other,
            clean_normalizer if name == "clean" and clean_normalizer else normalizer,
            place,
            made.patch_px,
        )
    if start is not None and init is not None:
        _start_from(made, start)
        inputs["init"] = str(Path(init).absolute())
    config = config if config is not None else getattr(made, "config", None)
    values = (
        dataclasses.asdict(config)
        if dataclasses.is_dataclass(config) and not isinstance(config, type)
        else {}
    )
    warnings += unused(made, slices_around, minutes or steps)
    minutes, steps = _budget(made, values, minutes, steps)
    job = Job(
        made, preset, values, TrainingData(**pools), normalizer, noisy_set, inputs, seed, float(minutes or 0), int(steps or 0), place,
        clean_normalizer, tuple(warnings),
    )  # fmt: skip
    if not (0 < job.minutes < math.inf or job.steps > 0):
        raise ConfigError(
            f"a budget of {steps if minutes is None else minutes} is no budget: give --minutes or --steps above 0"
        )
    if job.minutes <= 0:
        plan_steps(made, job.steps)  # refuses fewer steps than stages
    return job


def _budget(
    made: Method, values: Mapping[str, Any], minutes: float | None, steps: int | None
) -> tuple[float | None, int | None]:
    """Minutes and steps as given, else the preset's; one step for a method that does not train."""
    if not made.trains:
        return 0.0, 1
    if minutes is None and steps is None:
        return float(values.get("minutes", 10.0)), int(values.get("steps", 0))
    return minutes, steps


def settings_of(
    method: Any, preset: str, settings: Mapping[str, Any] | None, start: checkpoint.Checkpoint | None
) -> tuple[Needs, Any]:
    """What the method needs, and its config: the preset's (or that of the run to start from) with the user's settings."""
    if not isinstance(method, str):
        if settings:
            raise ConfigError("settings go into your own method's constructor, not beside it")
        return method.needs, None
    chosen = choose(method, METHODS, "method")
    base = choose(preset, PRESETS[method], f"preset of {method}")
    if start is not None:
        kept = ARCHITECTURE if "critic_width" in start.facts["config"] else ARCHITECTURE[:-1]
        base = updated(
            base,
            {
                key: value
                for key, value in start.facts["config"].items()
                if key in kept and hasattr(base, key)
            },
            "init",
        )
    return chosen.needs, updated(base, settings or {}, f"settings of {method}")


def stored_config(key: str, values: Mapping[str, Any], where: str) -> Any:
    """The config of a run of the method ``key``: options that did not exist when it was trained are at their defaults."""
    return updated(type(next(iter(PRESETS[key].values())))(), values, where)


def stored_settings(facts: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings that repeat a run, with the precision that was found best where it ran."""
    settings = dataclasses.asdict(stored_config(facts["method"], facts["config"], where))
    return {**settings, **({"precision": facts["precision"]} if "precision" in settings else {})}


def completed(config: Any, net: nn.Module | None, minutes: float | None, steps: int | None) -> Any:
    """The config with what is given beside it: the name of a user's own network; where a budget is one for each image, that budget."""
    if net is not None and isinstance(config, SingleConfig):
        return dataclasses.replace(config, net=type(net).__name__)
    return with_budget(config, minutes, steps)


def _intensity_maps(
    noisy: ImageSet, clean: ImageSet | None, config: Any, start: checkpoint.Checkpoint | None
) -> tuple[Normalizer, Normalizer | None]:
    """Of the noisy and of the unpaired clean set; a fine-tuned network keeps those it was trained with."""
    if start is not None:
        return stored_maps(start.facts)
    if clean is None:
        return fit_normalizer(noisy.planes, noisy.dtypes), None
    return fit_unpaired(noisy, clean, getattr(config, "intensity", "auto"))


def stored_maps(facts: Mapping[str, Any]) -> tuple[Normalizer, Normalizer | None]:
    """The intensity maps of a checkpoint: of its noisy set, and of its unpaired clean set where there was one."""
    clean = facts.get("clean_normalizer")
    return Normalizer(**facts["normalizer"]), Normalizer(**clean) if clean else None


def check_unpaired(noisy: ImageSet, clean: ImageSet) -> list[str]:
    """Warnings about a clean set. InputError where it shows scenes of the noisy set: what is learned from them could not be trusted."""
    shared = shared_scenes(noisy, clean)
    if shared:
        first, second, alike = shared[0]
        more = f", and {len(shared) - 1} more such pairs" if len(shared) > 1 else ""
        raise InputError(
            f"{second}: shows the same scene as {first} (correlation {alike:.2f}{more}); an unpaired method must not see both: leave one "
            "of them out, or train on pairs with --method n2c --target"
        )
    levels = [noise_level(found) for found in (noisy, clean)]
    noisier = None not in levels and set(noisy.dtypes) == set(clean.dtypes) and levels[1] > levels[0]  # type: ignore[operator]
    if (
        noisier and fine_excess(noisy.planes, clean.planes) < 1.0
    ):  # noise that takes contrast away, film's, lowers the estimate
        return [
            f"the clean set looks noisier than the noisy one (estimated sigma {levels[1]:.3g} against {levels[0]:.3g}): are they swapped?"
        ]
    return []


def _types_differ(noisy: ImageSet, others: Mapping[str, ImageSet]) -> list[str]:
    """Warnings where files of several pixel types are taken to share one intensity scale."""
    found = []
    kinds = {kind: index for index, kind in reversed(list(enumerate(map(str, noisy.dtypes))))}
    if len(kinds) > 1:
        examples = " and ".join(
            f"{kind} ({noisy.names[index]})"
            for kind, index in sorted(kinds.items(), key=lambda item: item[1])[:3]
        )
        found.append(
            f"noisy images are {examples}: one intensity scale is assumed for all; train them apart if that is wrong"
        )
    for name, other in others.items():
        if name != "clean" and set(other.dtypes) != set(noisy.dtypes):
            kind = f"{name} images are {other.dtypes[0]} ({other.names[0]}), noisy ones {noisy.dtypes[0]}"
            found.append(f"{kind}: one intensity scale is assumed for both; convert them if that is wrong")
    return found


def noise_level(found: ImageSet) -> float | None:
    """Median estimated sigma of a few planes spread over the set, intensity units; None where all are too small to tell."""
    step = max(1, len(found.planes) // NOISE_SAMPLES)
    levels = [
        estimate_sigma(np.moveaxis(plane, 0, -1))
        for plane in found.planes[::step][:NOISE_SAMPLES]
        if min(plane.shape[1:]) >= MIN_SIDE_PX
    ]
    return float(np.median(levels)) if levels else None


def make_method(
    method: Any, config: Any, channels: int, device: torch.device, net: nn.Module | None
) -> Method:
    if isinstance(method, str):
        made: Method = METHODS[method](config, channels, device, net)  # type: ignore[call-arg]
        return made
    if isinstance(method, Method):
        return method
    own: Method = method(channels, device)
    return own


def _check_needs(method: Any, needs: Needs, clean: bool, target: bool, noise: bool) -> None:
    key = method if isinstance(method, str) else method.key
    if needs.target and not target:
        raise ConfigError(
            f"method {key} needs {needs.value}; without partners use a noisy-only method such as {DEFAULT_NOISY_ONLY}"
        )
    if (needs.clean and not clean) or (needs.noise and not noise):
        raise ConfigError(f"method {key} needs {needs.value}")
    if target and not needs.target:
        raise ConfigError(f"method {key} makes no use of --target; leave it out, or use --method n2c or n2n")
    if clean and not needs.clean:
        raise ConfigError(
            f"method {key} makes no use of --clean; leave it out, or use --method {DEFAULT_UNPAIRED}"
        )
    if noise and not needs.noise:
        raise ConfigError(
            f"method {key} makes no use of --noise-images; leave it out, or use --method quan or noisy-n2n"
        )


def _read_all(
    noisy: Images, beside: Mapping[str, Images | None], reading: Reading
) -> tuple[ImageSet, dict[str, ImageSet], dict[str, Any]]:
    """The noisy set, those beside it by name, and what config.toml says of where they came from."""
    most_bytes = reading.set_bytes(1 + sum(given is not None for given in beside.values()))
    noisy_set, paths = image_set(noisy, "noisy image", reading, most_bytes)
    inputs: dict[str, Any] = {"noisy": paths, **reading.chosen()}
    others: dict[str, ImageSet] = {}
    for name, given in beside.items():
        if given is not None:
            others[name], inputs[name if name != "noise" else "noise_images"] = _beside(
                noisy_set, given, name, reading, most_bytes
            )
    return noisy_set, others, inputs


def _beside(
    noisy: ImageSet, given: Images, name: str, reading: Reading, most_bytes: int
) -> tuple[ImageSet, list[str]]:
    """The set called ``name`` ("target": matched to the noisy one; "clean": of other scenes), and its paths."""
    other, paths = image_set(given, f"{name} image", reading, most_bytes)
    if name == "target":
        other = matched(noisy, other)
    if other.channels != noisy.channels:
        raise InputError(
            f"{other.names[0]}: has {other.channels} channels, the noisy images {noisy.channels}"
        )
    return other, paths


def _pool(images: ImageSet, normalizer: Normalizer, device: torch.device, patch_px: int) -> PatchPool:
    return PatchPool(images.planes, device, patch_px, normalizer.apply)


def _start_from(method: Method, start: checkpoint.Checkpoint) -> None:
    """Load the weights of another run; optimisers start afresh.

    A network begins as its namesake there, as the average of that where there was one, or, in a method with one network and its copies, as
    what denoised there. A network that the other run had not (the extractor, after CycleGAN) begins afresh; so does what is measured from
    the images.
    """
    denoiser = str(start.facts.get("denoiser", "net"))
    single = "net" in method.networks
    loaded = False
    for name, net in method.networks.items():
        if getattr(net, "measured_from_data", False):
            continue
        averages = () if single else (f"{name}_swa/net.", f"{name}_slow/net.")
        sources = (
            (f"{denoiser}/",)
            if name == "net"
            else (*averages, f"{name}/", *((f"{denoiser}/",) if single else ()))
        )
        weights = next(
            (found for found in (below(start.tensors, f"net/{source}") for source in sources) if found), None
        )
        helper = (
            name != "net" and single and not below(start.tensors, f"net/{name}/")
        )  # a copy of the denoiser, or something else
        if weights is None or (helper and not _alike(net, weights)):
            continue
        try:
            net.load_state_dict(weights, strict=True)
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"--init: its network does not fit this one: {str(error).splitlines()[-1].strip()}"
            ) from None
        loaded = True
    if not loaded:
        raise CheckpointError(
            f"--init: a run of {start.facts['method']} has no network that {method.key} could begin with"
        )


def _alike(net: nn.Module, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether ``weights`` are those of such a network: the same names and shapes."""
    ours = net.state_dict()
    return ours.keys() == weights.keys() and all(ours[name].shape == weights[name].shape for name in ours)


def check_own_parts(facts: Mapping[str, Any], run: str | Path, method: Any, net: nn.Module | None) -> None:
    """CheckpointError where a run was trained with a method or a network that is not given and not ours: code is never read from files."""
    key, network = str(facts["method"]), facts["config"].get("net")
    if (method is None or isinstance(method, str)) and key not in METHODS:
        raise CheckpointError(f"{run}: trained with a method of your own, {key!r}; pass it as method=")
    if (
        (method is None or isinstance(method, str))
        and net is None
        and isinstance(network, str)
        and network not in NETS
    ):
        raise CheckpointError(f"{run}: trained with a network of your own, {network!r}; pass it as net=")


def check_resumed(run: str | Path, said: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """ConfigError where a choice said beside --resume is not the run's own: a resumed run goes on as it began.

    said       of method, preset, seed, minutes, steps, init, nan, slices_around, max_bytes, those that were given
    settings   fields of the method's config
    """
    stored = RunFolder(Path(run)).read_config()
    budget = {"steps": sum(stored.get("stage_steps", [])) or None}
    if stored["method"] in METHODS and METHODS[stored["method"]].one_image:
        budget = {name: stored["settings"][name] or None for name in ("minutes", "steps")}
    own = {"nan": "error", "slices_around": 0, "max_bytes": None, **stored, **budget}
    wrong = [
        f"--{key.replace('_', '-')} {value} (the run has {own.get(key)})"
        for key, value in said.items()
        if value != own.get(key)
    ]
    if settings and stored["method"] in PRESETS:
        before = stored_config(stored["method"], stored["settings"], str(run))
        after = updated(before, settings, f"settings of {stored['method']}")
        pairs = [(key, getattr(before, key), getattr(after, key)) for key in settings]
        wrong += [f"--set {key}={new} (the run has {old})" for key, old, new in pairs if old != new]
    if wrong:
        raise ConfigError(
            f"{run}: cannot be changed by --resume: {', '.join(wrong)}; leave it out, or start anew with --init {run}"
        )


def load_weights(method: Method, found: checkpoint.Checkpoint, where: Path, optimizers: bool = True) -> None:
    checkpoint.check_fits(found.tensors, method.weights(), where)
    try:
        method.load_tensors(found.tensors, optimizers)
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{where}: the checkpoint's tensors do not fit method {method.key}: {str(error).splitlines()[-1].strip()}"
        ) from None


def load_checkpoint(run: str | Path) -> checkpoint.Checkpoint:
    folder = Path(run)
    if not is_folder(folder):
        raise InputError(f"{folder}: no such run folder; give the folder that 'pairfree train --out' wrote")
    found, problems = checkpoint.load_latest(folder / "checkpoints")
    for line in problems:
        _say.warning("warning: %s; using that of step %d", line, found.step)
    return found
