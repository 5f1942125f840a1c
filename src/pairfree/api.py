"""The public face: train, load, denoise, evaluate. Ties the rooms together; the command line adds nothing but words."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pairfree.data import processes
from pairfree.data.missing import check_treatment
from pairfree.data.normalize import Normalizer
from pairfree.data.patches import TrainingData
from pairfree.denoising.files import FileResult, Planned, denoise_files, network_bytes, plan_files
from pairfree.engine import checkpoint
from pairfree.engine.memory import enough
from pairfree.engine.model import Model
from pairfree.engine.plan import Clock, Plan, plan_steps
from pairfree.engine.predictor import DEFAULT_MAX_BYTES, Predictor
from pairfree.engine.run import EventLog, RunFolder, environment
from pairfree.engine.trainer import Loop, OnStep, Stopped
from pairfree.engine.trainer import train as run_loop
from pairfree.engine.watch import Watch
from pairfree.errors import CheckpointError, ConfigError, DivergedError, InputError, PairfreeError
from pairfree.methods import METHODS
from pairfree.methods.base import Method
from pairfree.nets.blocks import parameter_count
from pairfree.training.job import (
    Images,
    Job,
    check_own_parts,
    load_checkpoint,
    load_weights,
    make_method,
    pick_device,
    resolve,
    stored_config,
    stored_maps,
    stored_settings,
)
from pairfree.version import __version__

SHOWN_WARNINGS = 20
TOO_LARGE = "a training step does not fit; give a smaller batch_size, patch_px or width (--set batch_size=4), or another device"
_say = logging.getLogger("pairfree")


@processes.joined()
def train(
    noisy: Images | None = None,
    *,
    clean: Images | None = None,
    target: Images | None = None,
    noise_images: Images | None = None,
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
    nan: str = "error",
    slices_around: int = 0,
    max_bytes: float | None = None,
    resume: bool = False,
    command: str = "",
    report: bool = True,
    on_step: OnStep | None = None,
) -> Model:
    """Train a denoiser. Called in every process that torchrun started, they train one model together.

    noisy      files, folders, globs; a list of arrays (H, W) or (C, H, W); or one array (H, W), (N, H, W) or (N, C, H, W)
    clean      unpaired clean images of other scenes; target   the partner of each noisy image
    noise_images   images of the noise alone (quan, noisy-n2n)
    method     a key of METHODS, your own Method (an instance, or a class called with (channels, device)); default: ``DEFAULT_UNPAIRED``
               with ``clean``, else ``DEFAULT_NOISY_ONLY``
    out        run folder; None keeps the run in memory only
    preset     "cpu" for short budgets, "paper" for the published schedule;  minutes, steps   the budget, one of them; default: the preset's
    device     "auto", "cpu" or "cuda"
    settings   changes to the method's config by field name
    net        your own network, (B, C, H, W) -> same; ``net.stride`` is what H and W must be multiples of (default 1)
    init       run folder to fine-tune from
    nan        "error": pixels that are NaN or Inf are refused; "mask": they are made up from their neighbours
    slices_around   2.5-D: slices of a stack (axis Z, else T, else unnamed) on each side that the network sees with each
    max_bytes  bound for the process's memory: of files that take more, crops of all are trained on; None: 2 GB a set. Arrays stay whole
    resume     go on with the run in ``out``; all other arguments are read from it, except arrays, ``net`` and your own method
    command    what the report names as the command;  report   write report.html into ``out`` when training ends
    on_step    called with (steps done, total, stage, loss) after each step; returns True to stop there: ``Stopped`` is raised, and with
               ``out`` a checkpoint stands to go on from
    Returns    the trained Model
    Raises     InputError, ConfigError, OutputError, CheckpointError, BusyError, DivergedError
    """
    if out is None:
        if resume:
            raise ConfigError("resume needs the run folder: give out")
        return _without_folder(
            lambda folder: train(
                noisy, clean=clean, target=target, noise_images=noise_images, method=method, out=folder, preset=preset,
                minutes=minutes, steps=steps, seed=seed, device=device, settings=settings, net=net, init=init, nan=nan,
                slices_around=slices_around, max_bytes=max_bytes, command=command, report=False, on_step=on_step,
            )
        )  # fmt: skip
    run = RunFolder(Path(out))
    if resume:
        images = {"noisy": noisy, "clean": clean, "target": target, "noise_images": noise_images}
        return _resume(run, images, method, net, device, on_step, report)
    if noisy is None:
        raise ConfigError("no noisy images given")
    if processes.first():
        run.check_free()
    job = resolve(
        noisy, clean=clean, target=target, noise_images=noise_images, method=method, preset=preset, minutes=minutes, steps=steps,
        seed=seed, device=device, settings=settings, net=net, init=init, nan=nan, slices_around=slices_around, max_bytes=max_bytes,
    )  # fmt: skip
    return _begin(run, job, command, report, on_step)


def _without_folder(work: Callable[[str], Model]) -> Model:
    """``work`` in a folder that is gone afterwards, and of which no message speaks."""
    with tempfile.TemporaryDirectory(prefix="pairfree-") as folder:
        try:
            return work(folder)
        except Stopped:
            raise Stopped(
                "stopped, and nothing is kept: this run had no folder; give out= to keep one"
            ) from None
        except DivergedError as error:
            raise DivergedError(
                f"{str(error).split('; last good')[0]}; try a smaller rate (settings lr)"
            ) from None


def _begin(run: RunFolder, job: Job, command: str, report: bool, on_step: OnStep | None) -> Model:
    """Make the run folder, write down what will be done, and do it."""
    _check_processes(job.method)
    with processes.alone():
        job.method.prepare(job.data, job.seed)  # before anything is written: a method may refuse the images
    for line in job.warnings[:SHOWN_WARNINGS]:
        _say.warning("warning: %s", line)
    with ExitStack() as held:
        if processes.first():
            run.create()
            held.enter_context(run.locked())
            run.check_empty()
            run.rewind(0)
        with enough(TOO_LARGE):
            clock = Clock.start(job.method, job.data, job.minutes, job.seed) if job.minutes > 0 else None
        plan = clock.plan(job.method) if clock is not None else plan_steps(job.method, max(1, job.steps))
        plan = Plan.of(processes.shared(plan.as_list()))
        if processes.first():
            _write_down(run, job, plan, counted=clock is None and job.method.trains, command=command)
        return _finish(
            Loop(job.method, job.data, plan, job.seed, run, _facts(job), clock=clock), job, report, on_step
        )


def _check_processes(method: Method) -> None:
    """ConfigError for what several processes cannot train together."""
    if processes.count() > 1 and (method.one_image or not method.trains):
        raise ConfigError(
            f"method {method.key} is not trained by several processes; start it without torchrun"
        )
    processes.part_of(method.batch_size)


def _write_down(run: RunFolder, job: Job, plan: Plan, counted: bool, command: str) -> None:
    """What will be done, and where.   counted   the plan's steps are settled: minutes settle them on the way"""
    run.write_config(
        {
            "method": job.method.key,
            "preset": job.preset,
            "seed": job.seed,
            "device": str(job.device),
            "minutes": job.minutes,
            "command": command,
            **job.inputs,
            "stage_names": [name for name, _ in plan.stages],
            "stage_steps": [count for _, count in plan.stages] if counted else [],
            "settings": job.config,
        }
    )
    run.write_environment(environment(job.device, getattr(job.method, "precision", "float32")))


def _fingerprint(data: TrainingData) -> str:
    """sha256 of all training pixels in network units: a resumed run must see the same."""
    digest = hashlib.sha256()
    for pool in data.pools:
        digest.update(pool.flat.cpu().numpy().data)
    return digest.hexdigest()


def _facts(job: Job) -> dict[str, Any]:
    return {
        "method": job.method.key,
        "config": job.config,
        "preset": job.preset,
        "normalizer": job.normalizer.as_dict(),
        **({"clean_normalizer": job.clean_normalizer.as_dict()} if job.clean_normalizer else {}),
        "channels": job.noisy.channels,
        "slices_around": job.noisy.reading.slices_around,
        "seed": job.seed,
        "denoiser": next(
            (name for name, net in job.method.networks.items() if net is job.method.denoiser), "net"
        ),
        "data_sha256": _fingerprint(job.data),
        "weights": parameter_count(job.method.denoiser),
        "precision": getattr(job.method, "precision", "float32"),
        "versions": {"pairfree": __version__, "torch": torch.__version__},
    }


def _resume(
    run: RunFolder,
    images: Mapping[str, Any],
    method: Any,
    net: nn.Module | None,
    device: str,
    on_step: OnStep | None,
    report: bool,
) -> Model:
    stored = run.read_config()
    with ExitStack() as held:
        if processes.first():
            held.enter_context(run.locked())
        last, problems = checkpoint.load_latest(run.checkpoints)
        facts = last.facts
        check_own_parts(facts, run.path, method, net)
        own = method is not None and not isinstance(method, str)
        given = {
            name: value if value is not None else stored.get(name) or None for name, value in images.items()
        }
        noisy = given.pop("noisy")
        job = resolve(
            [] if noisy is None else noisy,
            **given,
            method=method if own else facts["method"],
            preset=facts["preset"],
            steps=None
            if not own and not METHODS[facts["method"]].trains
            else sum(steps for _, steps in facts["plan"]),
            seed=facts["seed"],
            device=stored.get("device", "auto") if device == "auto" else device,
            settings=None if own else stored_settings(facts, f"{run.path}"),
            net=net,
            nan=str(stored.get("nan", "error")),
            slices_around=int(stored.get("slices_around", 0)),
            max_bytes=stored.get("max_bytes"),
            normalizers=stored_maps(facts),
        )
        job = dataclasses.replace(job, config=facts["config"])
        if _fingerprint(job.data) != facts["data_sha256"]:
            raise InputError(
                f"{run.path}: the training images are not those the run began with; restore them, or start a new run with --init {run.path}"
            )
        load_weights(job.method, last, run.path)
        _check_processes(job.method)
        if processes.shared(last.step) != last.step:
            raise CheckpointError(
                f"{run.path}: not every process sees the checkpoint of the first; all need the same folder"
            )
        if processes.first():
            run.rewind(last.step)
            run.drop_stages_after(last.step)
            _tell(problems, run, last.step)
            run.note_resumed(last.step, environment(job.device, facts["precision"]))
        with processes.alone():
            job.method.prepare(job.data, facts["seed"])
        plan = Plan.of(facts["plan"])
        kept = {
            key: value
            for key, value in facts.items()
            if key not in ("step", "plan", "clock", "watch", "format", "tensors_sha256")
        }
        try:
            clock = Clock.from_dict(facts["clock"]) if "clock" in facts else None
        except ValueError as error:
            raise CheckpointError(f"{run.path}: {error}; start a new run with --init {run.path}") from None
        return _finish(
            Loop(
                job.method,
                job.data,
                plan,
                facts["seed"],
                run,
                kept,
                last.step,
                clock,
                Watch.of(facts.get("watch")),
            ),
            job,
            report,
            on_step,
        )


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
    with enough(TOO_LARGE):
        run_loop(loop, on_step)
    model = Model(
        Predictor(job.method, job.normalizer, job.noisy.channels),
        {
            **loop.facts,
            "step": loop.plan.total,
            "plan": loop.plan.as_list(),
            **({"clock": loop.clock.as_dict()} if loop.clock else {}),
        },
    )
    if report and processes.first():
        try:
            from pairfree.training.report import write_run_report

            for line in write_run_report(
                loop.run, model, job.noisy, job.warnings, len(job.data.clean) if job.data.clean else 0
            ):
                _say.warning(
                    "warning: on the training images: %s See the report before you use this model.", line
                )
        except Exception as error:  # a picture that cannot be drawn must not cost a trained model
            reason = str(error) if isinstance(error, PairfreeError) else f"{type(error).__name__}: {error}"
            _say.warning(
                "warning: no report (%s); the model is trained and saved in %s",
                " ".join(reason.split()),
                loop.run.path,
            )
    return model


def load(
    run: str | Path,
    *,
    device: str = "auto",
    max_bytes: float = DEFAULT_MAX_BYTES,
    method: type[Method] | Method | None = None,
    net: nn.Module | None = None,
    nan: str = "error",
) -> Model:
    """The model of a run folder, from its newest whole checkpoint.

    max_bytes    bound for the working memory of prediction, bytes
    nan          "error": images with pixels that are NaN or Inf are refused; "mask": those pixels come back as they were
    method, net  your own Method or network, when the run was trained with one: code is never read from files
    """
    check_treatment(nan)
    place = pick_device(device)
    found = load_checkpoint(run)
    facts = found.facts
    check_own_parts(facts, run, method, net)
    if method is None:
        key = str(facts["method"])
        try:
            config = stored_config(key, facts["config"], f"{run}")
            made = make_method(key, config, int(facts["channels"]), place, net)
        except (ConfigError, RuntimeError, ValueError, MemoryError) as error:
            raise CheckpointError(
                f"{run}: its model cannot be built here: {' '.join(str(error).split()):.300}"
            ) from None
    else:
        made = make_method(method, None, int(facts["channels"]), place, net)
    load_weights(made, found, Path(run), optimizers=False)
    return Model(
        Predictor(made, Normalizer(**facts["normalizer"]), int(facts["channels"]), max_bytes),
        facts,
        masked=nan == "mask",
    )


def denoise(
    run: str | Path | Model,
    inputs: Sequence[str | Path] | str | Path,
    out: str | Path,
    *,
    max_bytes: float = DEFAULT_MAX_BYTES,
    device: str = "auto",
    overwrite: bool = False,
    skip_done: bool = False,
    disagreement: str | Path | None = None,
    nan: str = "error",
    scheduler: str | None = None,
    on_file: Callable[[int, int, FileResult], None] | None = None,
    on_pixels: Callable[[int], None] | None = None,
) -> list[FileResult]:
    """Denoise files into a folder: same relative path, stem, format and metadata. All refusals come before the first file is written.

    A killed call, made again, goes on where it stood: finished files are left as they are, and of large images finished tiles too.

    max_bytes   bound for the memory of this process; a Model that is given keeps the tiles it has
    device, nan   of a run folder's model, as in ``load``;  overwrite   replace results that exist;  skip_done   leave them, do the rest
    disagreement   a folder for maps of |F(x) - (x - H(x))| in intensity units, float32 TIFF (iscl)
    on_file   called with (files done, total, result);  on_pixels   called with the number of pixels of each finished tile
    """

    planned = plan_denoising(
        run,
        inputs,
        out,
        max_bytes=max_bytes,
        device=device,
        overwrite=overwrite,
        skip_done=skip_done,
        disagreement=disagreement,
        nan=nan,
    )
    return denoise_files(planned, on_file, on_pixels, scheduler)


def plan_denoising(
    run: str | Path | Model,
    inputs: Sequence[str | Path] | str | Path,
    out: str | Path,
    *,
    max_bytes: float = DEFAULT_MAX_BYTES,
    device: str = "auto",
    overwrite: bool = False,
    skip_done: bool = False,
    disagreement: str | Path | None = None,
    nan: str = "error",
) -> Planned:
    """Everything that ``denoise`` checks before the first file, and nothing more; arguments as there."""

    def model() -> Model:
        return (
            run
            if isinstance(run, Model)
            else load(run, device=device, max_bytes=network_bytes(max_bytes), nan=nan)
        )

    return plan_files(
        model, [inputs] if isinstance(inputs, str | Path) else inputs, Path(out), max_bytes=max_bytes, overwrite=overwrite,
        skip_done=skip_done, disagreement=None if disagreement is None else Path(disagreement),
    )  # fmt: skip
