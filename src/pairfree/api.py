"""The public face: train, load, denoise, evaluate. Ties the rooms together; the command line adds words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pairfree.config import read_arguments, with_fields_of
from pairfree.data import processes
from pairfree.data.given import Images
from pairfree.data.missing import check_treatment
from pairfree.data.sets import Reading
from pairfree.denoising.files import denoise_files
from pairfree.denoising.ledger import FileResult
from pairfree.denoising.order import DenoisingOrder
from pairfree.denoising.plan import Planned, network_bytes, plan_files
from pairfree.engine.model import Model
from pairfree.engine.predictor import DEFAULT_MAX_BYTES, Predictor
from pairfree.engine.trainer import OnStep
from pairfree.errors import ConfigError, PairfreeError
from pairfree.evidence.folders import Evaluation, compare_folders
from pairfree.evidence.order import EvaluationOrder
from pairfree.examination.examine import Examination, Subject, examine_subjects
from pairfree.files.messages import reason
from pairfree.methods.base import Method
from pairfree.training import session
from pairfree.training.comparing import compare_results
from pairfree.training.denoised_report import check_report, write_denoised_report
from pairfree.training.examining import (
    correct_model,
    examine_set,
    read_noisy,
)
from pairfree.training.job import make_method, pick_device
from pairfree.training.order import Order, fixed_fields, place_order
from pairfree.training.restoring import (
    BUILDING_FAILS,
    cannot_be_built,
    check_own_parts,
    check_stored,
    check_unchanged,
    load_checkpoint,
    load_weights,
    stored_config,
)
from pairfree.training.shipped import is_shipped, make_shipped, shipped_record

_say = logging.getLogger("pairfree")


@with_fields_of(Order, "noisy")
@processes.joined()
def train(
    noisy: Any = None,
    *,
    config: str | Path | None = None,
    on_step: OnStep | None = None,
    **options: Any,
) -> Model:
    """Train a denoiser. Called in every process that torchrun started, they train one model together.

    Parameters
    ----------
    {fields}
    config
        TOML file; a run's config.toml repeats that run. What is given beside it wins.
    on_step
        Called with (steps done, total, stage, loss) after each step; returns True to stop there: ``Stopped``
        is raised, and with ``out`` a checkpoint stands to go on from.

    Returns
    -------
    Model
        The trained model.

    Raises
    ------
    InputError, ConfigError, OutputError, CheckpointError, BusyError, DivergedError
    """
    given = {"noisy": noisy, **options}
    order = place_order(given, config)
    if order.resume:
        if order.out is None:
            raise ConfigError("`resume` needs the run folder: give `out`")
        check_unchanged(order.out, fixed_fields(order, given), order.settings or {})
        return session.resume(order, on_step)
    if order.out is None:
        return session.train_in_memory(order, on_step)
    return session.begin(order, on_step)


def load(
    run: str | Path,
    *,
    device: str = "auto",
    max_bytes: float = DEFAULT_MAX_BYTES,
    method: type[Method] | Method | None = None,
    net: nn.Module | None = None,
    nan: str = "error",
    symmetries: bool = False,
) -> Model:
    """The model of a run folder, from its newest whole checkpoint.

    Parameters
    ----------
    run
        The run folder; or "shipped", the network that comes with pairfree and needs no run.
    device
        "auto", "cpu" or "cuda".
    max_bytes
        Bound for the working memory of prediction, bytes.
    method, net
        Your own Method or network, when the run was trained with one: code is never read from files.
    nan
        "error": images with pixels that are NaN or Inf are refused; "mask": those pixels come back as they
        were.
    symmetries
        Whether results are the mean over the 8 symmetries of the square: a little better, eight times as
        long.

    Returns
    -------
    Model
        Denoises arrays, images and files.

    Raises
    ------
    InputError, CheckpointError, ConfigError
        Where there is no run, its checkpoint is damaged, or its model cannot be built here.
    """
    check_treatment(nan)
    place = pick_device(device)
    if is_shipped(run):
        return Model(
            make_shipped(place, max_bytes, symmetries), shipped_record(), masked=nan == "mask"
        )
    found = load_checkpoint(run)
    record = found.record
    check_own_parts(record, run, method, net)
    if method is None and net is None:
        check_stored(found, run, optimizers=False)
    if method is None:
        try:
            config = stored_config(record.method, record.config, f"{run}")
            made = make_method(record.method, config, record.channels, place, net)
        except BUILDING_FAILS as error:
            raise cannot_be_built(run, error) from None
    else:
        made = make_method(method, None, record.channels, place, net)
    load_weights(made, found, optimizers=False)
    found.tensors.close()
    made.started = record.start == "shipped"
    if symmetries and made.one_image:
        raise ConfigError(
            f"`symmetries`: method {made.key} learns each image anew, eight times would take too long; "
            "leave it out"
        )
    predictor = Predictor(
        made, record.normalizer, record.channels, max_bytes, symmetries=symmetries
    )
    return Model(predictor, record, masked=nan == "mask")


@with_fields_of(DenoisingOrder, "run", "inputs", "out")
def denoise(
    run: str | Path | Model,
    inputs: Sequence[str | Path] | str | Path,
    out: str | Path,
    *,
    on_file: Callable[[int, int, FileResult], None] | None = None,
    on_pixels: Callable[[int], None] | None = None,
    **options: Any,
) -> list[FileResult]:
    """Denoise files into a folder. All refusals come before the first file is written.

    A killed call, made again, goes on where it stood: finished files are left as they are, and of large
    images finished tiles too.

    Parameters
    ----------
    {fields}
    on_file
        Called with (files done, total, result).
    on_pixels
        Called with the number of pixels of each finished tile.

    Returns
    -------
    list of FileResult
        One for each file that was done, in order.

    Raises
    ------
    InputError, OutputError, CheckpointError, ConfigError, DivergedError
    """
    planned = plan_denoising(run, inputs, out, **options)
    results = denoise_files(planned, on_file, on_pixels, options.get("scheduler"))
    for line in planned.bad:
        _say.warning("left out: %s", line)
    if options.get("report"):
        for line in report_on(planned, results, out) or ():
            _say.warning("%s", line)
    return results


def report_on(
    planned: Planned, results: Sequence[FileResult], out: str | Path, command: str = ""
) -> list[str] | None:
    """Write ``report.html`` beside denoised files; what stands in its way is a warning, the files are done.

    Parameters
    ----------
    planned, results
        What was planned, and what became of it.
    out
        The folder of the results.
    command
        What was called, for the page.

    Returns
    -------
    list of str or None
        Signs that the network makes up what was not there, one line each; None where there is no report.
    """
    if not results:
        return None
    try:
        return write_denoised_report(planned.model, results, Path(out), planned.limits, command)
    except Exception as error:  # one that cannot be drawn must not cost the files
        words = str(error) if isinstance(error, PairfreeError) else reason(error)
        _say.warning("no report (%s); the files are denoised", words)
        return None


@with_fields_of(DenoisingOrder, "run", "inputs", "out")
def plan_denoising(
    run: str | Path | Model,
    inputs: Sequence[str | Path] | str | Path,
    out: str | Path,
    **options: Any,
) -> Planned:
    """Everything that ``denoise`` checks before the first file, and nothing more.

    Parameters
    ----------
    {fields}

    Returns
    -------
    Planned
        What will be done to which file.
    """
    order = DenoisingOrder(run, inputs, out, **read_arguments(DenoisingOrder, options, "denoise"))
    if order.symmetries and order.disagreement is not None:
        raise ConfigError(
            "`symmetries` and `disagreement`: maps are of a single pass; give one of them"
        )

    def model() -> Model:
        loaded = _load_for(order)
        if not order.correct:
            return loaded
        return correct_model(loaded, order.inputs, order.scene, order.out)

    if order.report:
        check_report(Path(order.out))
    return plan_files(model, order)


def _load_for(order: DenoisingOrder) -> Model:
    """The model that was asked for."""
    if isinstance(order.run, Model):
        if order.symmetries and not order.run.predictor.symmetries:
            raise ConfigError("`symmetries`: a Model keeps its own; give it to pairfree.load")
        return order.run
    return load(
        order.run,
        device=order.device,
        max_bytes=network_bytes(order.max_bytes),
        nan=order.nan,
        symmetries=order.symmetries,
    )


@with_fields_of(EvaluationOrder, "denoised", "clean", "data_range")
def evaluate(
    denoised: str | Path | None = None,
    clean: str | Path | None = None,
    data_range: float | None = None,
    **options: Any,
) -> Evaluation:
    """Score denoised files against clean ones, gather evidence against the noisy ones, examine the denoiser.

    Parameters
    ----------
    {fields}

    Returns
    -------
    Evaluation
        Scores of each file and their mean, evidence of each file, and rows of what it all says.

    Raises
    ------
    ConfigError
        Where nothing is given to compare with, and for ``clean`` without ``data_range``.
    InputError
        For files that cannot be read, lack a partner, or differ in shape from theirs.
    """
    given = {"denoised": denoised, "clean": clean, "data_range": data_range, **options}
    order = EvaluationOrder(**read_arguments(EvaluationOrder, given, "evaluate"))
    if order.run is None or order.noisy is None:
        return compare_folders(order)
    model = load(order.run) if isinstance(order.run, str | Path) else order.run
    examined = examine(model, order.noisy, data_range=order.data_range, quick=order.quick)
    found = compare_folders(order, examined.replaces)
    rows = [*examined.rows, *found.rows]
    if isinstance(model, Model) and order.denoised is not None:
        rows.insert(0, compare_results(model, order.noisy, order.denoised, examined.change))
    return replace(found, rows=rows, change=examined.change, numbers=examined.numbers)


def examine(
    run: str | Path | Model | Callable[[np.ndarray], np.ndarray],
    noisy: Images,
    *,
    data_range: float | None = None,
    quick: bool = False,
    nan: str = "mask",
    scene: int | str | None = None,
) -> Examination:
    """Examine a denoiser on noisy images: its error, what it invents, and what it loses.

    Parameters
    ----------
    run
        A run folder, "shipped", a model, or any function of an array (C, H, W) of float64 intensities that
        gives such an array back.
    noisy
        Files, folders or globs; a list of arrays (H, W) or (C, H, W); or one array (H, W), (N, H, W) or
        (N, C, H, W). Four images that are spread over them are taken, and of each the middle 512 x 512 px; of
        sets of more than 512 MB, of crops.
    data_range
        White minus black, for the PSNR; None for the range of what is made of them.
    quick
        Leave out noise alone and planted spots.
    nan
        Pixels that are NaN or Inf: "mask" takes their neighbours' mean, "error" refuses them.
    scene
        Of files that hold several images: number of one, from 0, or "all".

    Returns
    -------
    Examination
        A row for each test: number, interval, verdict, advice.

    Raises
    ------
    InputError
        For what cannot be read, for a function that gives no image back, and for images under 96 px a side or
        constant.
    CheckpointError, ConfigError
        As ``load``.
    """
    if isinstance(run, str | Path):
        run = load(run, nan=nan)
    if not isinstance(run, Model) and not callable(run):
        raise ConfigError("`run` must be a run folder, shipped, a model or a function of an array")
    around = run.around if isinstance(run, Model) else 0
    reading = Reading(nan=nan, slices_around=around, scene=scene)
    images, pixel = read_noisy(noisy, reading)
    if isinstance(run, Model):
        return examine_set(run, images, pixel, data_range, quick)
    subjects = []
    for name, plane in zip(images.names, images.planes, strict=True):
        subjects.append(Subject(name, plane, run))
    return examine_subjects(subjects, images.unit, pixel, data_range, quick)
