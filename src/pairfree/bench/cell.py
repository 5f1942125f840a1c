"""Measures one cell: train, denoise the test images, score them, and note all that a reader needs."""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pairfree import api
from pairfree.bench.base import Scored
from pairfree.bench.baselines import BASELINES
from pairfree.bench.cache import revision_of, settings_of
from pairfree.bench.pictures import keep_pictures
from pairfree.bench.scores import denoise_all, score_groups
from pairfree.bench.training import Trained, train_cell
from pairfree.bench.work import Work
from pairfree.engine.model import Model
from pairfree.engine.run import RunFolder, environment, now
from pairfree.errors import InputError
from pairfree.facts import Unreadable, open_file
from pairfree.files.atomic import atomic_path
from pairfree.files.damaged import set_aside
from pairfree.files.messages import reason
from pairfree.methods import METHODS

NO_ARRAYS = (
    *(Unreadable, OSError, ValueError, TypeError, KeyError, EOFError, SyntaxError),
    *(NotImplementedError, RuntimeError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What NumPy and zipfile raise for files that are no arrays of NumPy."""


def measure(work: Work) -> dict[str, Any]:
    """All that is known of a cell, as its JSON file holds it, but for its key and the commit of the code.

    That a method refuses these images is a result too. Denoised images and heat maps of their errors are left
    in the cell's folder.

    Raises
    ------
    DivergedError
        Where the training diverges.
    MissingPackageError
        Where the method needs a package that is not installed.
    """
    result = _heading(work)
    if work.cell.method in BASELINES:
        return result | _numbers(work, _filter(work))
    try:
        trained = train_cell(work)
    except InputError as error:
        return result | _refusal(work, error)
    return result | _numbers(work, _denoise(work, trained))


def _heading(work: Work) -> dict[str, Any]:
    """Which cell it is."""
    cell = work.cell
    return {
        "experiment": work.experiment.name,
        "cell": cell.name,
        "column": cell.column,
        "row": cell.row,
        "preset": cell.preset,
        "seed": cell.seed,
        "revision": revision_of(cell),
        "statement": work.experiment.statement,
        "images": len(work.task.test),
    }


@dataclass(frozen=True)
class Denoised:
    """What became of the test images."""

    outputs: list[np.ndarray]
    """(C, H, W), in the order of the test images."""
    seconds: float
    """It took to denoise them."""
    environment: dict[str, Any]
    """Machine, versions and device."""
    training: dict[str, Any] = field(default_factory=dict)
    """How the network was trained; empty where nothing is."""


def _filter(work: Work) -> Denoised:
    """For the rows that train nothing."""
    apply = BASELINES[work.cell.method]
    started = now()
    outputs = [apply(image.noisy, work.cell.settings) for image in work.task.test]
    seconds = now() - started
    return Denoised(outputs, seconds, environment(torch.device("cpu"), "float64"))


def _refusal(work: Work, error: InputError) -> dict[str, Any]:
    """The method does not take these images."""
    return {
        "scores": {},
        "evidence": {},
        "training": {"refused": str(error), "config": settings_of(work.cell)},
        "environment": environment(torch.device("cpu"), "none"),
    }


def _denoise(work: Work, trained: Trained) -> Denoised:
    test = work.task.test
    facts = RunFolder(work.run).read_environment()
    training = _describe_training(work, trained)
    if METHODS[work.cell.method].one_image:
        outputs, seconds = _learn_each(trained.model, test, work.folder / "learned")
        training["seconds_an_image"] = round(seconds / len(test), 1)
    else:
        started = now()
        outputs = denoise_all(trained.model, test)
        seconds = now() - started
    return Denoised(outputs, seconds, facts, training)


def _describe_training(work: Work, trained: Trained) -> dict[str, Any]:
    """Budget, steps and settings of a training; the scores after each stage but the last, and on the way."""
    record = trained.model.record
    run = RunFolder(work.run)
    scores_after = {}
    for stage, _ in record.plan.stages[:-1]:
        model = api.load(run.stage_path(stage), device=work.device)
        outputs = denoise_all(model, work.task.test)
        scores_after[stage] = score_groups(work.experiment, work.task.test, outputs)
    training: dict[str, Any] = {
        "seconds": trained.seconds,
        "minutes_given": work.cell.minutes,
        "steps": record.plan.as_list(),
        "config": record.config,
        "start": record.start,
        "scores_after": scores_after,
    }
    if work.experiment.probes:
        training["scores_on_the_way"] = trained.probes
    return training


def _learn_each(
    model: Model, test: Sequence[Scored], folder: Path
) -> tuple[list[np.ndarray], float]:
    """Outputs and seconds of a method that learns each image anew.

    Each is kept in ``folder``, for a process that is killed and goes on.
    """
    outputs = []
    seconds = 0.0
    for number, image in enumerate(test):
        path = folder / f"{number}.npz"
        kept = _read_learned(path, image.noisy.shape)
        if kept is None:
            started = now()
            output = model.predictor.predict(image.noisy)
            kept = output, now() - started
            with atomic_path(path, overwrite=True) as temporary, temporary.open("wb") as file:
                np.savez(file, output=output, seconds=kept[1])
        outputs.append(kept[0])
        seconds += kept[1]
    return outputs, seconds


def _read_learned(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, float] | None:
    """Output and seconds of an image that was learned before; None for none, and a damaged one is set aside.

    Only what is stored unpacked is read, as ``numpy.savez`` does: it is no larger than its file.
    """
    if not os.path.lexists(path):
        return None
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as packed:
            if any(one.compress_type != zipfile.ZIP_STORED for one in packed.infolist()):
                raise Unreadable("is packed")
            with np.load(path) as kept:
                output, seconds = kept["output"], float(kept["seconds"])
        if output.shape != shape or output.dtype.kind != "f" or not np.isfinite(output).all():
            raise Unreadable(f"holds {output.dtype} {output.shape}, expected finite floats {shape}")
        if not 0 <= seconds < np.inf:
            raise Unreadable(f"says {seconds} seconds")
    except NO_ARRAYS as error:
        set_aside(path, f"is no result ({reason(error)})", "the image is learned anew")
        return None
    return output, seconds


def _numbers(work: Work, done: Denoised) -> dict[str, Any]:
    """Scores, evidence, pace, training and machine; the images are kept beside them."""
    experiment, test = work.experiment, work.task.test
    keep_pictures(done.outputs, test, work.folder / "denoised")
    evidence: dict[str, float] = {}
    if experiment.evidence is not None:
        evidence |= experiment.evidence(test, done.outputs)
    if experiment.statistics is not None:
        evidence |= experiment.statistics(work.task, work.cell)
    pixels = sum(image.noisy[0].size for image in test)
    return {
        "scores": score_groups(experiment, test, done.outputs),
        "evidence": evidence,
        "prediction_seconds": round(done.seconds, 2),
        "prediction_mpix_per_s": round(pixels / done.seconds / 1e6, 3),
        "training": done.training,
        "environment": done.environment,
    }
