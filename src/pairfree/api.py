"""The public face: train, load, denoise, evaluate. Ties the rooms together; the command line adds nothing but words."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import logging
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pairfree import __version__
from pairfree.config import choose, updated
from pairfree.data.normalize import Normalizer, fit_normalizer
from pairfree.data.patches import PatchPool, TrainingData
from pairfree.data.sets import ImageSet, array_set, matched, read_set
from pairfree.engine import checkpoint
from pairfree.engine.model import Model
from pairfree.engine.predictor import DEFAULT_MAX_BYTES, Predictor
from pairfree.engine.run import EventLog, RunFolder, environment
from pairfree.engine.trainer import Loop, Plan, plan_minutes, plan_steps
from pairfree.engine.trainer import train as run_loop
from pairfree.errors import CheckpointError, ConfigError, InputError, PairfreeError
from pairfree.evaluate.metrics import Score, score
from pairfree.files.formats import open_image, open_sink
from pairfree.files.listing import find_images, partners, plan_outputs
from pairfree.methods import DEFAULT_NOISY_ONLY, METHODS, PRESETS
from pairfree.methods.base import Method, Needs

Images = str | Path | np.ndarray | Sequence[str] | Sequence[Path] | Sequence[np.ndarray]
OnStep = Callable[[int, int, str, float | None], None]
_say = logging.getLogger("pairfree")


def pick_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r}: must be auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda: this torch sees no CUDA device; use --device cpu, or install a CUDA build of torch")
    return torch.device(name)


def image_set(images: Images, what: str) -> tuple[ImageSet, list[str]]:
    """Planes of files or arrays, and the paths (empty for arrays). A single array is one image (H, W) or stack (N, H, W), (N, C, H, W)."""
    if isinstance(images, np.ndarray):
        if images.ndim not in (2, 3, 4):
            raise InputError(f"{what} has shape {images.shape}; expected (H, W), (N, H, W) or (N, C, H, W)")
        return array_set([images] if images.ndim == 2 else list(images), what), []
    listed = [images] if isinstance(images, str | Path) else list(images)
    if listed and all(isinstance(item, np.ndarray) for item in listed):
        return array_set([np.asarray(item) for item in listed], what), []
    paths = [Path(str(item)) for item in listed]
    return read_set(find_images(paths)), [str(path.resolve() if path.exists() else path.absolute()) for path in paths]


@dataclass(frozen=True)
class Job:
    """A training run, resolved: every choice made, nothing started."""

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


def resolve(
    noisy: Images,
    *,
    clean: Images | None = None,
    target: Images | None = None,
    method: str | type[Method] | Method | None = None,
    preset: str = "cpu",
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    net: nn.Module | None = None,
    init: str | Path | None = None,
    normalizer: Normalizer | None = None,
) -> Job:
    """Read the data, build the method, refuse what does not fit; nothing is written.

    normalizer   of the run to resume; default: that of ``init``, else fitted
    """
    if minutes is not None and steps is not None:
        raise ConfigError("give minutes or steps, not both")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed {seed}: must lie in 0..2^63 - 1")
    place = pick_device(device)
    start = None if init is None else load_checkpoint(init)
    if method is None:
        method = str(start.facts["method"]) if start is not None else DEFAULT_NOISY_ONLY
    needs, config = _settings(method, preset, settings, start)
    _check_needs(method, needs, clean is not None, target is not None)
    noisy_set, noisy_paths = image_set(noisy, "noisy image")
    inputs: dict[str, Any] = {"noisy": noisy_paths}
    # a fine-tuned network keeps the intensity map it was trained with
    if normalizer is None:
        normalizer = Normalizer(**start.facts["normalizer"]) if start is not None else fit_normalizer(noisy_set.planes, noisy_set.dtypes)
    torch.manual_seed(seed)
    made = _make(method, config, noisy_set.channels, place, net)
    if net is not None or not isinstance(method, str):
        Predictor(copy.deepcopy(made), normalizer, noisy_set.channels)  # refuses, before the first step, what could not be applied later
    pools = {"noisy": _pool(noisy_set, normalizer, place, made.patch_px)}
    for name, given, wanted in (("target", target, needs.target), ("clean", clean, needs is Needs.CLEAN)):
        if given is None or not wanted:
            continue
        other, paths = image_set(given, f"{name} image")
        inputs[name] = paths
        if name == "target":
            other = matched(noisy_set, other)
        if other.channels != noisy_set.channels:
            raise InputError(f"{other.names[0]}: has {other.channels} channels, the noisy images {noisy_set.channels}")
        pools[name] = _pool(other, normalizer, place, made.patch_px)
    if start is not None and init is not None:
        _start_from(made, start)
        inputs["init"] = str(Path(init).absolute())
    config = config if config is not None else getattr(made, "config", None)
    values = dataclasses.asdict(config) if dataclasses.is_dataclass(config) and not isinstance(config, type) else {}
    if minutes is None and steps is None:
        minutes, steps = float(values.get("minutes", 10.0)), int(values.get("steps", 0))
    job = Job(made, preset, values, TrainingData(**pools), normalizer, noisy_set, inputs, seed, float(minutes or 0), int(steps or 0), place)
    if not (0 < job.minutes < math.inf or job.steps > 0 or made.key == "bm3d"):
        raise ConfigError(f"a budget of {minutes or steps} is no budget: give --minutes or --steps above 0")
    return job


def _settings(method: Any, preset: str, settings: Mapping[str, Any] | None, start: checkpoint.Checkpoint | None) -> tuple[Needs, Any]:
    """What the method needs, and its config: the preset's (or that of the run to start from) with the user's settings."""
    if not isinstance(method, str):
        if settings:
            raise ConfigError("settings go into your own method's constructor, not beside it")
        return method.needs, None
    chosen = choose(method, METHODS, "method")
    base = choose(preset, PRESETS[method], f"preset of {method}")
    if start is not None:
        kept = ("net", "width", "predict")
        base = updated(base, {key: value for key, value in start.facts["config"].items() if key in kept}, "init")
    return chosen.needs, updated(base, settings or {}, f"settings of {method}")


def _make(method: Any, config: Any, channels: int, device: torch.device, net: nn.Module | None) -> Method:
    if isinstance(method, str):
        made: Method = METHODS[method](config, channels, device, net)  # type: ignore[call-arg]
        return made
    if isinstance(method, Method):
        return method
    own: Method = method(channels, device)
    return own


def _check_needs(method: Any, needs: Needs, clean: bool, target: bool) -> None:
    key = method if isinstance(method, str) else method.key
    if needs.target and not target:
        raise ConfigError(f"method {key} needs {needs.value}; without partners use a noisy-only method such as {DEFAULT_NOISY_ONLY}")
    if needs is Needs.CLEAN and not clean:
        raise ConfigError(f"method {key} needs {needs.value}")
    if target and not needs.target:
        raise ConfigError(f"method {key} makes no use of --target; leave it out, or use --method n2c or n2n")
    if clean and needs is not Needs.CLEAN:
        raise ConfigError(f"method {key} makes no use of --clean; leave it out")


def _pool(images: ImageSet, normalizer: Normalizer, device: torch.device, patch_px: int) -> PatchPool:
    return PatchPool([normalizer.apply(plane) for plane in images.planes], device, patch_px)


def _start_from(method: Method, start: checkpoint.Checkpoint) -> None:
    """Load the weights of another run; optimisers start afresh. A method that trains more networks takes what has its name."""
    weights = {name: value for name, value in start.tensors.items() if name.startswith("net/")}
    for name in method.networks:
        if not any(key.startswith(f"net/{name}/") for key in weights):
            weights.update(
                {key.replace("net/net/", f"net/{name}/", 1): value for key, value in weights.items() if key.startswith("net/net/")}
            )
    try:
        method.load_tensors(weights, optimizers=False)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"--init: its network does not fit this one: {str(error).splitlines()[-1].strip()}") from None


def train(
    noisy: Images | None = None,
    *,
    clean: Images | None = None,
    target: Images | None = None,
    method: str | type[Method] | Method | None = None,
    out: str | Path | None = None,
    preset: str = "cpu",
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    net: nn.Module | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    command: str = "",
    report: bool = True,
    on_step: OnStep | None = None,
) -> Model:
    """Train a denoiser.

    noisy      files, folders, globs, or arrays (H, W) / (C, H, W) of one intensity scale
    clean      unpaired clean images of other scenes; target   the partner of each noisy image
    method     a key of METHODS, your own Method (an instance, or a class called with (channels, device)); default: ``DEFAULT_NOISY_ONLY``
    out        run folder; None keeps the run in memory only
    preset     "cpu" for short budgets, "paper" for the published schedule
    minutes, steps   the budget, one of them; default: the preset's
    settings   changes to the method's config by field name
    net        your own network, (B, C, H, W) -> same; ``net.stride`` is what H and W must be multiples of (default 1)
    init       run folder to fine-tune from
    resume     go on with the run in ``out``; all other arguments are read from it, except arrays, ``net`` and your own method
    on_step    called with (steps done, total, stage, loss) after each step
    Returns    the trained Model
    Raises     InputError, ConfigError, OutputError, CheckpointError, BusyError, DivergedError
    """
    if out is None:
        if resume:
            raise ConfigError("resume needs the run folder: give out")
        with tempfile.TemporaryDirectory(prefix="pairfree-") as folder:
            return train(
                noisy, clean=clean, target=target, method=method, out=folder, preset=preset, minutes=minutes, steps=steps, seed=seed,
                device=device, settings=settings, net=net, init=init, command=command, report=False, on_step=on_step,
            )  # fmt: skip
    run = RunFolder(Path(out))
    if resume:
        return _resume(run, noisy, clean, target, method, net, device, on_step, report)
    if noisy is None:
        raise ConfigError("no noisy images given")
    run.check_free()
    job = resolve(
        noisy, clean=clean, target=target, method=method, preset=preset, minutes=minutes, steps=steps, seed=seed, device=device,
        settings=settings, net=net, init=init,
    )  # fmt: skip
    run.create()
    with run.locked():
        run.check_empty()
        run.rewind(0)
        job.method.prepare(job.data, seed)
        plan = plan_minutes(job.method, job.data, job.minutes, seed) if job.minutes > 0 else plan_steps(job.method, max(1, job.steps))
        run.write_config(
            {
                "method": job.method.key,
                "preset": preset,
                "seed": seed,
                "device": str(job.device),
                "minutes": job.minutes,
                "command": command,
                **job.inputs,
                "stage_names": [name for name, _ in plan.stages],
                "stage_steps": [count for _, count in plan.stages],
                "settings": job.config,
            }
        )
        run.write_environment(environment(job.device, getattr(job.method, "precision", "float32")))
        loop = Loop(job.method, job.data, plan, seed, run, _facts(job, plan))
        return _finish(loop, job, report, on_step)


def _fingerprint(data: TrainingData) -> str:
    """sha256 of the noisy training pixels in network units: a resumed run must see the same."""
    return hashlib.sha256(data.noisy.flat.cpu().numpy().data).hexdigest()


def _facts(job: Job, plan: Plan) -> dict[str, Any]:
    return {
        "method": job.method.key,
        "config": job.config,
        "preset": job.preset,
        "normalizer": job.normalizer.as_dict(),
        "channels": job.noisy.channels,
        "seed": job.seed,
        "plan": [list(stage) for stage in plan.stages],
        "data_sha256": _fingerprint(job.data),
        "precision": getattr(job.method, "precision", "float32"),
        "versions": {"pairfree": __version__, "torch": torch.__version__},
    }


def _resume(
    run: RunFolder,
    noisy: Any,
    clean: Any,
    target: Any,
    method: Any,
    net: nn.Module | None,
    device: str,
    on_step: OnStep | None,
    report: bool,
) -> Model:
    stored = run.read_config()
    with run.locked():
        last, problems = checkpoint.load_latest(run.checkpoints)
        facts = last.facts
        own = method is not None and not isinstance(method, str)
        if not own and facts["method"] not in METHODS:
            raise CheckpointError(f"{run.path}: trained with a method of your own, {facts['method']!r}; pass it as method=")
        normalizer = Normalizer(**facts["normalizer"])
        job = resolve(
            noisy if noisy is not None else stored.get("noisy", []), clean=clean or stored.get("clean") or None,
            target=target or stored.get("target") or None, method=method if own else facts["method"],
            preset=facts["preset"], steps=1, seed=facts["seed"], device=stored.get("device", "auto") if device == "auto" else device,
            settings=None if own else {**facts["config"], **({"precision": facts["precision"]} if "precision" in facts["config"] else {})},
            net=net, normalizer=normalizer,
        )  # fmt: skip
        job = dataclasses.replace(job, config=facts["config"])
        if _fingerprint(job.data) != facts["data_sha256"]:
            raise InputError(
                f"{run.path}: the training images are not those the run began with; restore them, or start a new run with --init {run.path}"
            )
        _load(job.method, last, run.path)
        run.rewind(last.step)
        _tell(problems, run, last.step)
        job.method.prepare(job.data, facts["seed"])
        plan = Plan(tuple((str(name), int(steps)) for name, steps in facts["plan"]))
        kept = {key: value for key, value in facts.items() if key not in ("step", "format", "tensors_sha256")}
        return _finish(Loop(job.method, job.data, plan, facts["seed"], run, kept, done=last.step), job, report, on_step)


def _tell(problems: Sequence[str], run: RunFolder, step: int) -> None:
    """Damaged checkpoints that were passed over: said aloud and logged."""
    if not problems:
        return
    log = EventLog(run.events_path)
    for line in problems:
        _say.warning("warning: %s; going on from step %d", line, step)
        log.write({"step": step, "event": "damaged checkpoint", "detail": line})
    log.close()


def _finish(loop: Loop, job: Job, report: bool, on_step: OnStep | None) -> Model:
    run_loop(loop, on_step)
    model = Model(Predictor(job.method, job.normalizer, job.noisy.channels), {**loop.facts, "step": loop.plan.total})
    if report:
        try:
            from pairfree.story import write_run_report

            write_run_report(loop.run, model, job.noisy)
        except Exception as error:  # a picture that cannot be drawn must not cost a trained model
            reason = str(error) if isinstance(error, PairfreeError) else f"{type(error).__name__}: {error}"
            _say.warning("warning: no report (%s); the model is trained and saved in %s", " ".join(reason.split()), loop.run.path)
    return model


def _load(method: Method, found: checkpoint.Checkpoint, where: Path, optimizers: bool = True) -> None:
    checkpoint.check_fits(found.tensors, method.tensors(), where)
    try:
        method.load_tensors(found.tensors, optimizers)
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{where}: the checkpoint's tensors do not fit method {method.key}: {str(error).splitlines()[-1].strip()}"
        ) from None


def load_checkpoint(run: str | Path) -> checkpoint.Checkpoint:
    folder = Path(run)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder; give the folder that 'pairfree train --out' wrote")
    found, problems = checkpoint.load_latest(folder / "checkpoints")
    for line in problems:
        _say.warning("warning: %s; using that of step %d", line, found.step)
    return found


def load(
    run: str | Path,
    *,
    device: str = "auto",
    max_bytes: float = DEFAULT_MAX_BYTES,
    method: type[Method] | Method | None = None,
    net: nn.Module | None = None,
) -> Model:
    """The model of a run folder, from its newest whole checkpoint.

    max_bytes    bound for the working memory of prediction, bytes
    method, net  your own Method or network, when the run was trained with one: code is never read from files
    """
    place = pick_device(device)
    found = load_checkpoint(run)
    facts = found.facts
    if method is None:
        key = str(facts["method"])
        if key not in METHODS:
            raise CheckpointError(f"{run}: trained with a method of your own, {key!r}; pass it to load(method=...)")
        try:
            config = updated(next(iter(PRESETS[key].values())), facts["config"], f"{run}")
            made = _make(key, config, int(facts["channels"]), place, net)
        except (ConfigError, RuntimeError, ValueError, MemoryError) as error:
            raise CheckpointError(f"{run}: its model cannot be built here: {' '.join(str(error).split()):.300}") from None
    else:
        made = _make(method, None, int(facts["channels"]), place, net)
    _load(made, found, Path(run), optimizers=False)
    return Model(Predictor(made, Normalizer(**facts["normalizer"]), int(facts["channels"]), max_bytes), facts)


@dataclass(frozen=True)
class FileResult:
    """source, written   paths;  pixels, clipped   counts;  warnings   one line each"""

    source: Path
    written: Path
    pixels: int
    clipped: int
    warnings: tuple[str, ...]


def denoise(
    run: str | Path | Model,
    inputs: Sequence[str | Path] | str | Path,
    out: str | Path,
    *,
    max_bytes: float = DEFAULT_MAX_BYTES,
    device: str = "auto",
    overwrite: bool = False,
    on_file: Callable[[int, int, FileResult], None] | None = None,
) -> list[FileResult]:
    """Denoise files into a folder: same relative path, stem, format and metadata. All refusals come before the first file is written.

    on_file   called with (files done, total, result)
    """
    entries = find_images([inputs] if isinstance(inputs, str | Path) else inputs)
    planned = plan_outputs(entries, out, overwrite)
    model = run if isinstance(run, Model) else load(run, device=device, max_bytes=max_bytes)
    results = []
    for entry, path in planned:
        image = open_image(entry.path)
        with open_sink(image, path, overwrite) as sink:
            done = model.denoise_image(image)
            for index in image.planes():
                sink.write(index, done.image.plane(index))
            sink.commit()
        results.append(FileResult(entry.path, path, image.pixels.size, done.clipped, tuple(image.metadata.get("warnings", []))))
        if on_file is not None:
            on_file(len(results), len(planned), results[-1])
    return results


def evaluate(
    denoised: str | Path, clean: str | Path, data_range: float, *, low: float = 0.0, fit: bool = False, luma: bool = False
) -> dict[str, Score]:
    """Scores of a folder of denoised files against clean ones of the same name, by stem.

    data_range   of the clean images, intensity units;  low   subtracted first;  both sides are then clipped to [0, data_range]
    fit          fit gain and offset of the denoised image first;  luma   score the Y channel (BT.601) of RGB
    """
    pairs = partners(clean, denoised)
    return {
        name: score(open_image(first).pixels, open_image(second).pixels, data_range, low, True, fit, luma)
        for name, (first, second) in pairs.items()
    }
