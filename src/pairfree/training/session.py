"""A run's life: begun in its folder or resumed there, trained, and reported."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from pairfree.data import processes
from pairfree.data.patches import TrainingData
from pairfree.engine import checkpoint
from pairfree.engine.memory import explain_shortage
from pairfree.engine.model import Model
from pairfree.engine.plan import Clock, Plan, plan_steps
from pairfree.engine.predictor import Predictor
from pairfree.engine.record import EARLIER_KEPT, START_KEPT, Record, current_versions
from pairfree.engine.run import EventLog, RunFolder, environment
from pairfree.engine.trainer import Loop, OnStep, Stopped, save
from pairfree.engine.trainer import train as run_loop
from pairfree.engine.watch import Watch
from pairfree.errors import CheckpointError, ConfigError, DivergedError, InputError, PairfreeError
from pairfree.files.messages import reason
from pairfree.methods import METHODS
from pairfree.methods.base import Method
from pairfree.nets.blocks import parameter_count
from pairfree.training.job import Job, resolve
from pairfree.training.order import Order
from pairfree.training.restoring import (
    check_law,
    check_own_parts,
    check_stages,
    check_stored,
    check_tensors,
    load_weights,
    stored_settings,
)
from pairfree.training.reviewing import LOOKS, plan_review

SHOWN_WARNINGS = 20
NEAREST = "nearest"
"""Name of the state that is kept like that of a stage: the one that is nearest to the truth so far."""
TOO_LARGE = (
    "a training step does not fit; give a smaller batch_size, patch_px or width (`settings` batch_size=4), "
    "or another device"
)
_say = logging.getLogger("pairfree")


def train_in_memory(order: Order, on_step: OnStep | None) -> Model:
    """A run in a folder that is gone afterwards, and of which no message speaks."""
    with tempfile.TemporaryDirectory(prefix="pairfree-") as folder:
        try:
            return begin(dataclasses.replace(order, out=folder, report=False), on_step)
        except Stopped:
            raise Stopped(
                "stopped, and nothing is kept: this run had no folder; give `out` to keep one"
            ) from None
        except DivergedError as error:
            words = str(error).split("; last good")[0]
            raise DivergedError(f"{words}; try a smaller rate (`settings` lr)") from None


def begin(order: Order, on_step: OnStep | None) -> Model:
    """Make the run folder, write down what will be done, and do it."""
    run = RunFolder(Path(str(order.out)))
    if order.noisy is None:
        raise ConfigError("no noisy images given")
    if processes.first():
        run.check_free()
    job = resolve(order)
    _check_processes(job.method)
    with processes.alone():
        job.method.prepare(
            job.data, job.seed
        )  # before anything is written: a method may refuse the images
    if job.choice is not None:
        job.choice.tell()
    for line in job.warnings[:SHOWN_WARNINGS]:
        _say.warning("%s", line)
    _say.info("%s: %s, on %s", job.method.key, _counted(len(job.noisy.planes), "plane"), job.device)
    with ExitStack() as held:
        if processes.first():
            run.create()
            held.enter_context(run.locked())
            run.check_empty()
            run.rewind(0)
        clock, plan = _plan(job)
        if processes.first():
            counted = clock is None and job.method.trains
            _write_down(run, job, plan, counted, order.command)
        loop = Loop(job.method, job.data, plan, job.seed, run, _record(job, plan), clock=clock)
        return _finish(loop, job, order.report, on_step)


def _plan(job: Job) -> tuple[Clock | None, Plan]:
    """Minutes as steps, after a short timed trial; steps as they were asked.

    All processes go by the first one's plan.
    """
    clock: Clock | None = None
    with explain_shortage(TOO_LARGE):
        if job.minutes > 0:
            clock = Clock.start(job.method, job.data, job.minutes, job.seed)
    plan = (
        clock.plan(job.method) if clock is not None else plan_steps(job.method, max(1, job.steps))
    )
    plan = Plan.of(processes.shared(plan.as_list()))
    _say.info(
        "planned: %s", ", ".join(f"{name} {_counted(count, 'step')}" for name, count in plan.stages)
    )
    return clock, plan


def _check_processes(method: Method) -> None:
    """ConfigError for what several processes cannot train together."""
    if processes.count() > 1 and (method.one_image or not method.trains):
        raise ConfigError(
            f"method {method.key} is not trained by several processes; start it without torchrun"
        )
    processes.part_of(method.batch_size)


def _write_down(run: RunFolder, job: Job, plan: Plan, counted: bool, command: str) -> None:
    """What will be done, and where; where ``counted`` is false, minutes settle the steps on the way."""
    run.write_config(
        {
            "method": job.method.key,
            "preset": job.preset,
            "seed": job.seed,
            "device": str(job.device),
            "minutes": job.minutes,
            "command": command,
            **job.inputs,
            **_noted_choice(job),
            "stage_names": [name for name, _ in plan.stages],
            "stage_steps": [count for _, count in plan.stages] if counted else [],
            "settings": job.config,
        }
    )
    run.write_environment(environment(job.device, job.method.precision))


def _noted_choice(job: Job) -> dict[str, Any]:
    """Why the method was chosen and what the noise is like, where it was not named."""
    if job.choice is None:
        return {}
    return {"auto": job.choice.why, "noise": list(job.choice.words)}


def _fingerprint(data: TrainingData) -> str:
    """sha256 of all training pixels in network units: a resumed run must see the same."""
    digest = hashlib.sha256()
    for pool in data.pools:
        digest.update(pool.flat.cpu().numpy().data)
    return digest.hexdigest()


def _record(job: Job, plan: Plan) -> Record:
    """What every checkpoint of a run says of it."""
    networks = job.method.networks.items()
    return Record(
        method=job.method.key,
        config=job.config,
        preset=job.preset,
        normalizer=job.normalizer,
        channels=job.noisy.channels,
        seed=job.seed,
        plan=plan,
        step=0,
        data_sha256=_fingerprint(job.data),
        precision=job.method.precision,
        versions=current_versions(),
        clean_normalizer=job.clean_normalizer,
        slices_around=job.noisy.reading.slices_around,
        denoiser=next((name for name, net in networks if net is job.method.denoiser), "net"),
        weights=parameter_count(job.method.denoiser),
        start=job.inputs["start"],
        start_kind=job.method.start_kind,
    )


def resume(order: Order, on_step: OnStep | None) -> Model:
    """Go on with the run in ``order.out`` from its newest whole checkpoint.

    Everything is read from the run, except arrays, the network and the method of the caller's own. Files may
    have been moved: where they are given, that their pixels are the same is checked.
    """
    run = RunFolder(Path(str(order.out)))
    stored = run.read_config()
    with ExitStack() as held:
        if processes.first():
            held.enter_context(run.locked())
        last, problems = checkpoint.load_latest(run.checkpoints)
        record = last.record
        check_own_parts(record, run.path, order.method, order.net)
        if not order.own_parts and order.net is None:
            check_stored(last, run.path)
        maps = record.normalizer, record.clean_normalizer
        job = resolve(_order_again(order, stored, record, run.path), maps)
        inputs = {**job.inputs, "start": record.start}
        job = dataclasses.replace(job, config=dict(record.config), inputs=inputs)
        if _fingerprint(job.data) != record.data_sha256:
            check_law(run.path, record)
            raise InputError(
                f"{run.path}: the training images are not those the run began with; restore them, "
                f"or start a new run with `init` {run.path}"
            )
        job.method.started = record.start == "shipped"  # before its stages, which depend on it
        job.method.start_kind = record.start_kind
        check_stages(job.method, last)
        load_weights(job.method, last)
        last.tensors.close()
        _check_processes(job.method)
        if processes.shared(last.step) != last.step:
            raise CheckpointError(
                f"{run.path}: not every process sees the checkpoint of the first; all need the same folder"
            )
        if processes.first():
            run.rewind(last.step)
            run.drop_stages_after(last.step)
            _report_damage(problems, run, last.step)
            run.note_resumed(last.step, environment(job.device, record.precision))
        with processes.alone():
            job.method.prepare(job.data, record.seed)
        return _finish(_loop_again(run, job, last), job, order.report, on_step)


def _order_again(order: Order, stored: Mapping[str, Any], record: Record, path: Path) -> Order:
    """The order that a run began with, as its folder and its checkpoint tell it."""
    images: dict[str, Any] = {}
    for name, value in order.images.items():
        images[name] = value if value is not None else stored.get(name) or None
    trains = order.own_parts or METHODS[record.method].trains
    return Order(
        **images,
        method=order.method if order.own_parts else record.method,
        preset=record.preset,
        steps=record.plan.total if trains else None,
        seed=record.seed,
        device=stored.get("device", "auto") if order.device == "auto" else order.device,
        settings=None if order.own_parts else stored_settings(record, f"{path}"),
        net=order.net,
        start="none",  # the weights are those of the checkpoint
        nan=str(stored.get("nan", "error")),
        scene=stored.get("scene"),
        slices_around=int(stored.get("slices_around", 0)),
        max_bytes=stored.get("max_bytes"),
    )


def _loop_again(run: RunFolder, job: Job, last: checkpoint.Checkpoint) -> Loop:
    """The loop where the checkpoint left it."""
    record = last.record
    watch = record.watch or Watch()
    return Loop(
        job.method,
        job.data,
        record.plan,
        record.seed,
        run,
        record,
        record.step,
        record.clock,
        watch,
    )


def _report_damage(problems: Sequence[str], run: RunFolder, step: int) -> None:
    """Damaged checkpoints that were passed over: said aloud and logged."""
    if not problems:
        return
    log = EventLog(run.events_path)
    for line in problems:
        _say.warning("%s; going on from step %d", line, step)
        log.write({"step": step, "event": "damaged checkpoint", "detail": line})
    log.close()


def _finish(loop: Loop, job: Job, report: bool, on_step: OnStep | None) -> Model:
    """Train to the end; the model, and its report."""
    if loop.record.ending not in (START_KEPT, EARLIER_KEPT):
        with explain_shortage(TOO_LARGE):
            _train(loop, job, on_step)
    _say.info("trained: %s, saved in %s", _counted(loop.done, "step"), loop.run.path)
    record = dataclasses.replace(loop.record, step=loop.done, plan=loop.plan, clock=loop.clock)
    predictor = Predictor(job.method, job.normalizer, job.noisy.channels)
    model = Model(predictor, record, masked=job.inputs.get("nan") == "mask")
    if report and processes.first():
        _write_report(loop, job, model)
    return model


def _train(loop: Loop, job: Job, on_step: OnStep | None) -> None:
    """Train, and keep the start or an earlier state where training came no nearer to the truth."""
    folder = loop.run.stage_path(NEAREST) / "checkpoints"
    earlier = _read_nearest(folder, job.method, loop.record)

    def keep() -> None:
        save(loop, folder, LOOKS)

    review = plan_review(job, loop.done, loop.plan, keep, earlier)
    if review is not None:
        loop.ends = review.ends
    run_loop(loop, on_step)
    ending = review.keep_better() if review is not None else ""
    if not ending:
        return
    loop.record = dataclasses.replace(loop.record, ending=ending)
    log = EventLog(loop.run.events_path)
    log.write({"step": loop.done, "event": "ended", "detail": ending})
    log.close()
    save(loop)


def _read_nearest(folder: Path, method: Method, record: Record) -> dict[str, Tensor] | None:
    """Weights of all networks as they were kept before a run was stopped; None where there are none of it."""
    try:
        if not checkpoint.listing(folder):
            return None
        last, problems = checkpoint.load_latest(folder)
        check_tensors(method, last, optimizers=True, ours=method.key in METHODS)
        theirs = last.record
        if (theirs.data_sha256, theirs.seed, theirs.config) != (
            record.data_sha256,
            record.seed,
            record.config,
        ):
            raise CheckpointError(f"{folder}: is of another run")
    except CheckpointError as error:
        _say.warning("%s; the run goes on without the earlier state that lay there", error)
        return None
    for line in problems:
        _say.warning("%s", line)
    weights = {name: last.tensors[name] for name in method.weights()}
    last.tensors.close()
    return weights


def _write_report(loop: Loop, job: Job, model: Model) -> None:
    """Draw the report: one that cannot be drawn must not cost a trained model."""
    from pairfree.training.report import write_run_report

    clean_planes = len(job.data.clean) if job.data.clean else 0
    try:
        for line in write_run_report(loop.run, model, job.noisy, job.warnings, clean_planes):
            _say.warning(
                "on the training images: %s See the report before you use this model.", line
            )
    except Exception as error:
        words = str(error) if isinstance(error, PairfreeError) else reason(error)
        _say.warning("no report (%s); the model is trained and saved in %s", words, loop.run.path)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"
