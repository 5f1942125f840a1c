"""Runs experiments cell by cell. A cell is cached by its inputs; a killed one goes on where its run folder stands."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pairfree import api
from pairfree.bench import (
    bsd68,
    bsd300,
    ct,
    ct_dose,
    em,
    em_real,
    fmd,
    noisy_n2n,
    one_image,
    patches,
    tables,
    wf,
)
from pairfree.bench.base import Cell, Experiment, Scored, Task
from pairfree.bench.baselines import BASELINES
from pairfree.bench.cache import cache_key, holds, revision_of, settings_of
from pairfree.bench.pictures import keep_pictures, samples_last
from pairfree.config import choose
from pairfree.engine import checkpoint
from pairfree.engine.model import Model
from pairfree.engine.run import RunFolder, environment, now
from pairfree.engine.trainer import Stopped
from pairfree.errors import BusyError, ConfigError, DivergedError, InputError, MissingPackageError
from pairfree.evidence.metrics import score
from pairfree.files.atomic import atomic_path, write_text
from pairfree.files.lock import Lock
from pairfree.methods import METHODS, PRESETS
from pairfree.methods.base import Needs

EXPERIMENTS: dict[str, Experiment] = {
    one.name: one
    for one in (
        bsd68.EXPERIMENT,
        fmd.EXPERIMENT,
        bsd300.EXPERIMENT,
        em.EXPERIMENT,
        em.ABLATION,
        em.CONVERGENCE,
        em_real.EXPERIMENT,
        ct.EXPERIMENT,
        wf.EXPERIMENT,
        ct_dose.EXPERIMENT,
        patches.EXPERIMENT,
        noisy_n2n.EXPERIMENT,
        one_image.EXPERIMENT,
    )
}
BENCH_PRESETS = ("cpu", "paper", "paper-200k")


def run(
    name: str,
    *,
    preset: str = "cpu",
    only: Sequence[str] = (),
    data: Path | None = None,
    out: Path = Path("benchmarks/results"),
    device: str = "auto",
    minutes: float | None = None,
    seeds: Sequence[int] | None = None,
    say: Callable[[str], None] = print,
    on_step: api.OnStep | None = None,
) -> str:
    """Measure the cells of one experiment that ``only`` selects, then return its table in Markdown.

    Each cell leaves ``out/NAME/CELL.json``; its run folder and denoised images lie in ``out/../runs/NAME/CELL`` and may be deleted. A cell
    that another process measures is passed over, and so is one whose optional package is not installed, or whose training diverges:
    DivergedError names it when all others are measured.
    """
    experiment = choose(name, EXPERIMENTS, "experiment")
    cells = cells_of(experiment, preset, minutes)
    chosen = [cell for cell in cells if all(text in cell.name for text in only)]
    if seeds is not None:
        chosen = [cell for cell in chosen if cell.seed in seeds]
    if all(cell.preset != preset for cell in cells):
        raise ConfigError(f"bench {name}: none of its methods has the preset {preset!r}")
    if not chosen:
        raise ConfigError(
            f"bench {name}: no cell matches {' and '.join(only)!r}; cells are named like {cells[0].name}"
        )
    root = data_folder(data)
    diverged: list[str] = []
    commit = commit_of(
        Path(__file__)
    )  # before the first cell: the checkout may move on while this process runs what it has read
    for number, cell in enumerate(chosen, 1):
        target = out / name / f"{cell.slug}.json"
        label = f"[{number}/{len(chosen)}] {cell.name}"
        task = experiment.task(root, cell)
        if target.is_file() and holds(json.loads(target.read_text(encoding="utf-8")), task, cell):
            say(f"{label}: measured before")
            continue
        key, folder = cache_key(task, cell), out.parent / "runs" / name / cell.slug
        try:
            with nullcontext() if cell.method in BASELINES else _alone(folder):
                result = measure(experiment, cell, task, folder, device, key, on_step)
        except DivergedError as error:
            diverged.append(cell.name)
            say(f"{label}: {error}")
            continue
        except (BusyError, MissingPackageError) as error:
            say(f"{label}: passed over, {error}")
            continue
        result["environment"]["commit"] = commit
        write_text(target, json.dumps({**result, "key": key}, indent=1) + "\n", overwrite=True)
        found = [
            f"{group} {values['psnr_db']:.2f} dB {values['ssim']:.4f}"
            for group, values in result["scores"].items()
        ]
        found += (
            [f"refused: {result['training']['refused']}"] if "refused" in result["training"] else []
        )
        say(
            f"{label}: "
            + ", ".join(
                [*found, *(f"{value:.4g} {name}" for name, value in result["evidence"].items())]
            )
        )
    if diverged:
        raise DivergedError(
            f"bench {name}: training diverged in {', '.join(diverged)}; every other cell is measured"
        )
    return tables.markdown(experiment, preset, cells, tables.read_results(out / name))


def cells_of(experiment: Experiment, preset: str, minutes: float | None = None) -> list[Cell]:
    """The cells of an experiment, of those methods that have the preset; trials of another budget where ``minutes`` are given.

    Where nothing is trained there is one cell for all presets, under the name of the first.
    """
    choose(preset, dict.fromkeys(BENCH_PRESETS), "preset of bench")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"bench: {minutes:g} minutes is no budget; give --minutes above 0")
    budget = (
        {"minutes": experiment.cpu_minutes}
        if preset == "cpu" and experiment.cpu_minutes is not None
        else {}
    )
    found = []
    for cell in experiment.cells(preset):
        if cell.method in BASELINES:
            found.append(replace(cell, preset=BENCH_PRESETS[0], minutes=minutes))
        elif preset in PRESETS[cell.method]:
            found.append(replace(cell, settings={**budget, **cell.settings}, minutes=minutes))
    return found


def data_folder(data: Path | None) -> Path:
    given = data or (Path(os.environ["PAIRFREE_DATA"]) if os.environ.get("PAIRFREE_DATA") else None)
    if given is None:
        raise ConfigError("bench needs its data sets: give --data DIR or set PAIRFREE_DATA")
    if not given.is_dir():
        raise InputError(f"{given}: no such data folder; it must hold natural/, fluo/, ...")
    return given


def commit_of(file: Path) -> str | None:
    """Commit of the checkout that a source file belongs to, with "+" where tracked sources differ from it; None outside of one."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=file.parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(
            git("diff", "HEAD", "--name-only", "--", ":/*.py")
        )
    except (OSError, subprocess.CalledProcessError):
        return None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """BusyError while another process measures the cell of this folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder.with_name(f"{folder.name}.lock"), folder)
    try:
        yield
    finally:
        lock.release()


def measure(
    experiment: Experiment,
    cell: Cell,
    task: Task,
    folder: Path,
    device: str,
    key: str,
    on_step: api.OnStep | None,
) -> dict[str, Any]:
    """Train (or go on), denoise, score: everything a reader needs beside the number. That a method refuses these images is a result too."""
    result: dict[str, Any] = {
        "experiment": experiment.name, "cell": cell.name, "column": cell.column, "row": cell.row, "preset": cell.preset, "seed": cell.seed,
        "revision": revision_of(cell), "statement": experiment.statement, "images": len(task.test),
    }  # fmt: skip
    training: dict[str, Any] = {}
    if cell.method in BASELINES:
        started = now()
        outputs = [BASELINES[cell.method](image.noisy, cell.settings) for image in task.test]
        elapsed = now() - started
        facts: dict[str, Any] = environment(torch.device("cpu"), "float64")
    else:
        try:
            model, seconds, on_the_way = _trained(
                experiment, cell, task, folder, device, key, on_step
            )
        except InputError as error:
            refused = {"refused": str(error), "config": settings_of(cell)}
            facts = environment(torch.device("cpu"), "none")
            return result | {
                "scores": {},
                "evidence": {},
                "training": refused,
                "environment": facts,
            }
        run = RunFolder(folder / "run")
        facts = run.read_environment()
        training = {
            "seconds": seconds,
            "minutes_given": cell.minutes,
            "steps": model.record.plan.as_list(),
            "config": model.record.config,
        }
        training["scores_after"] = {
            stage: score_groups(
                experiment,
                task.test,
                _apply(api.load(run.stage_path(stage), device=device), task.test),
            )
            for stage, _ in model.record.plan.stages[:-1]
        }
        if experiment.probes:
            training["scores_on_the_way"] = on_the_way
        if METHODS[cell.method].one_image:
            outputs, elapsed = _learned(model, task.test, folder / "learned")
            training["seconds_an_image"] = round(elapsed / len(task.test), 1)
        else:
            started = now()
            outputs = _apply(model, task.test)
            elapsed = now() - started
    pixels = sum(image.noisy[0].size for image in task.test)
    keep_pictures(outputs, task.test, folder / "denoised")
    evidence = dict(experiment.evidence(task.test, outputs)) if experiment.evidence else {}
    if experiment.statistics is not None:
        evidence |= experiment.statistics(task, cell)
    return result | {
        "scores": score_groups(experiment, task.test, outputs), "evidence": evidence,
        "prediction_seconds": round(elapsed, 2), "prediction_mpix_per_s": round(pixels / elapsed / 1e6, 3),
        "training": training, "environment": facts,
    }  # fmt: skip


def _apply(model: Model, test: Sequence[Scored]) -> list[np.ndarray]:
    return [model.predictor.predict(image.noisy) for image in test]


def _learned(model: Model, test: Sequence[Scored], folder: Path) -> tuple[list[np.ndarray], float]:
    """Outputs and seconds of a method that learns each image anew. Each is kept in ``folder``, for a process that is killed and goes on."""
    found = []
    for number, image in enumerate(test):
        path = folder / f"{number}.npz"
        if not path.is_file():
            started = now()
            output = model.predictor.predict(image.noisy)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, output=output, seconds=now() - started)
        with np.load(path) as kept:
            found.append((kept["output"], float(kept["seconds"])))
    return [output for output, _ in found], sum(seconds for _, seconds in found)


def _trained(
    experiment: Experiment,
    cell: Cell,
    task: Task,
    folder: Path,
    device: str,
    key: str,
    on_step: api.OnStep | None,
) -> tuple[Model, float | None, list[dict[str, Any]]]:
    """The trained model; the seconds it took: of this process, or, where it was stopped in between, those that the run's clock counted; and
    what the experiment's probes found."""
    marker, run = folder / "cell-key", folder / "run"
    mark = key + json.dumps(settings_of(cell), sort_keys=True)
    if folder.exists() and (not marker.is_file() or marker.read_text(encoding="utf-8") != mark):
        shutil.rmtree(folder)
    started = now()
    write_text(marker, mark, overwrite=True)
    again = bool(checkpoint.listing(run / "checkpoints"))
    if not again:
        shutil.rmtree(run, ignore_errors=True)

    def train(on_step: api.OnStep | None) -> Model:
        arrays = _training_arrays(cell, task)
        if checkpoint.listing(run / "checkpoints"):
            return api.train(
                out=run, resume=True, device=device, report=False, on_step=on_step, **arrays
            )
        return api.train(
            out=run, method=cell.method, preset=cell.preset, minutes=cell.minutes, seed=cell.seed, device=device, settings=cell.settings,
            report=False, command=f"pairfree bench, cell {cell.name}", on_step=on_step, **arrays,
        )  # fmt: skip

    found: list[dict[str, Any]] = []
    if experiment.probes:
        again, found = True, _probe(experiment, task, folder, device, train, on_step)
    model = train(on_step)
    clock = model.record.clock
    if again:
        return model, None if clock is None else round(clock.planned_s + clock.spent_s, 1), found
    return model, round(now() - started, 1), found


def _probe(
    experiment: Experiment,
    task: Task,
    folder: Path,
    device: str,
    train: Callable[[api.OnStep], Model],
    on_step: api.OnStep | None,
) -> list[dict[str, Any]]:
    """Train up to each probe in turn, stop, score. What was found stands on disk, for a run that is killed and goes on."""
    path = folder / "probes.json"
    found: list[dict[str, Any]] = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    )
    for number in range(len(found) + 1, experiment.probes + 1):
        reached = False

        def step(done: int, total: int, stage: str, loss: float | None) -> bool:
            nonlocal reached
            if on_step is not None:
                on_step(done, total, stage, loss)
            reached = total > done >= total * number / (experiment.probes + 1)  # noqa: B023 - called within this turn of the loop
            return reached

        try:
            train(step)
        except Stopped:
            if not reached:
                raise
        model = api.load(folder / "run", device=device)
        clock = model.record.clock
        found.append(
            {
                "step": model.record.step,
                "seconds": None if clock is None else round(clock.planned_s + clock.spent_s, 1),
                "scores": score_groups(experiment, task.test, _apply(model, task.test)),
            }
        )
        write_text(path, json.dumps(found, indent=1) + "\n", overwrite=True)
    return found


def _training_arrays(cell: Cell, task: Task) -> dict[str, Any]:
    """What ``api.train`` is given of the task, by the needs of the cell's method."""
    arrays: dict[str, Any] = {"noisy": list(task.noisy)}
    needs = METHODS[cell.method].needs
    if needs.target:
        arrays["target"] = list(task.clean if needs is Needs.TARGET_CLEAN else task.second_noisy)
    if needs.clean:
        arrays["clean"] = list(task.unpaired)
    if needs.noise:
        arrays["noise_images"] = list(task.noise_images)
    return arrays


def score_groups(
    experiment: Experiment, test: Sequence[Scored], outputs: Sequence[np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Mean scores per group, and over "all" where all are scored in one window; on the image as it is, and on "Y" where the experiment asks
    for it."""
    one_window = len({(image.low, image.data_range) for image in test}) == 1
    found: dict[str, dict[str, Any]] = {}
    spaces: Mapping[str, bool] = {"RGB": False, "Y": True} if experiment.luma else {"": False}
    for space, luma in spaces.items():
        each: dict[str, list[tuple[float, float]]] = {}
        for image, output in zip(test, outputs, strict=True):
            if image.clean is None:
                continue
            one = score(
                samples_last(image.clean),
                samples_last(output),
                image.data_range,
                image.low,
                luma=luma,
            )
            for group in (
                {image.group, "all"} if one_window and not experiment.luma else {image.group}
            ):
                each.setdefault(group, []).append((one.psnr_db, one.ssim))
        for group, values in each.items():
            name = f"{group} {space}".strip()
            psnr, ssim = np.mean(values, axis=0)
            found[name] = {
                "psnr_db": round(float(psnr), 4),
                "ssim": round(float(ssim), 5),
                "n": len(values),
            }
    return dict(sorted(found.items()))
