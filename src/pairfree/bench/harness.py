"""Runs experiments cell by cell: chooses cells, has them measured, keeps and tells what came out.

A cell is cached by its inputs; a killed one goes on where its run folder stands.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    quick,
    tables,
    wf,
)
from pairfree.bench.base import Cell, Experiment
from pairfree.bench.baselines import BASELINES
from pairfree.bench.cache import Result, holds, read_result
from pairfree.bench.cell import measure
from pairfree.bench.code import digest_code
from pairfree.bench.work import Work
from pairfree.config import choose
from pairfree.engine.trainer import OnStep
from pairfree.errors import BusyError, ConfigError, DivergedError, InputError, MissingPackageError
from pairfree.facts import Unreadable
from pairfree.files.atomic import write_text
from pairfree.files.damaged import set_aside
from pairfree.files.lock import Lock
from pairfree.files.messages import shown
from pairfree.methods import METHODS, PRESETS

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
        quick.EXPERIMENT,
    )
}
BENCH_PRESETS = ("cpu", "paper", "paper-200k")


def run(  # noqa: PLR0913 - the options of the verb, all but the first by name
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
    on_step: OnStep | None = None,
) -> str:
    """Measure the cells of one experiment that ``only`` selects, then return its table in Markdown.

    Each cell leaves ``out/NAME/CELL.json``; its run folder and denoised images lie in
    ``out/../runs/NAME/CELL`` and may be deleted. A cell that another process measures is passed over, and so
    is one whose optional package is not installed.

    Parameters
    ----------
    name
        Key of ``EXPERIMENTS``.
    preset
        One of ``BENCH_PRESETS``.
    only
        Texts that all stand in the names of the cells to measure.
    data
        Folder of data sets; default $PAIRFREE_DATA.
    out
        Folder of results.
    device
        What is trained on: auto, cpu or cuda.
    minutes
        Another training budget than the preset's: such cells are trials.
    seeds
        Only these of the experiment's seeds; default all.
    say
        Told a line for each cell.
    on_step
        As of ``api.train``.

    Raises
    ------
    ConfigError
        Where nothing is chosen, or what is chosen does not exist.
    InputError
        Where data are missing.
    DivergedError
        Where trainings diverged; it names their cells, and all others are measured.
    """
    experiment = choose(name, EXPERIMENTS, "experiment")
    cells = cells_of(experiment, preset, minutes)
    chosen = _choose_cells(cells, name, preset, only, seeds)
    root = data_folder(data)
    runs = out.parent / "runs" / name

    def work_of(cell: Cell) -> Work:
        task = experiment.task(root, cell)
        return Work(experiment, cell, task, runs / cell.slug, device, on_step)

    diverged = _measure_each(chosen, work_of, out / name, say)
    if diverged:
        names = ", ".join(diverged)
        raise DivergedError(
            f"bench {name}: training diverged in {names}; every other cell is measured"
        )
    return tables.markdown(experiment, preset, cells, tables.read_results(out / name))


def _choose_cells(
    cells: Sequence[Cell],
    name: str,
    preset: str,
    only: Sequence[str],
    seeds: Sequence[int] | None,
) -> list[Cell]:
    """Those whose names hold every text of ``only``, of these seeds. ConfigError where there are none."""
    if all(cell.preset != preset for cell in cells):
        raise ConfigError(f"bench {name}: none of its methods has the preset {preset!r}")
    chosen = []
    for cell in cells:
        of_seed = seeds is None or cell.seed in seeds
        if of_seed and all(text in cell.name for text in only):
            chosen.append(cell)
    if not chosen:
        raise ConfigError(
            f"bench {name}: no cell matches {' and '.join(only)!r}; "
            f"cells are named like {cells[0].name}"
        )
    return chosen


def _measure_each(
    cells: Sequence[Cell],
    work_of: Callable[[Cell], Work],
    results: Path,
    say: Callable[[str], None],
) -> list[str]:
    """Measure cells one by one; the names of those whose training diverged."""
    # before the first cell: the checkout may move on while this process runs what it has read
    commit = commit_of(Path(__file__))
    diverged = []
    for number, cell in enumerate(cells, 1):
        try:
            words = _measure_once(work_of(cell), results / f"{cell.slug}.json", commit)
        except DivergedError as error:
            diverged.append(cell.name)
            words = str(error)
        say(f"[{number}/{len(cells)}] {cell.name}: {words}")
    return diverged


def _measure_once(work: Work, target: Path, commit: str | None) -> str:
    """Measure a cell unless it has been, write down what came out, and say it in a line.

    Parameters
    ----------
    work
        The cell.
    target
        File of its result.
    commit
        Of the code.
    """
    before = _stored(target)
    if before is not None and holds(before, work.task, work.cell):
        return _tell_before(before["environment"], commit)
    alone: AbstractContextManager[None] = nullcontext()
    if work.cell.method not in BASELINES:
        alone = _alone(work.folder)
    try:
        with alone:
            result = measure(work)
    except (BusyError, MissingPackageError) as error:
        return f"passed over, {error}"
    result["environment"] |= {"commit": commit, "code": digest_code()}
    result["key"] = work.key
    write_text(target, json.dumps(result, indent=1) + "\n", overwrite=True)
    return _tell(result)


def _stored(target: Path) -> Result | None:
    """What is stored of a cell; None for nothing, and for a damaged file, which is set aside."""
    try:
        return read_result(target)
    except FileNotFoundError:
        return None
    except Unreadable as error:
        set_aside(target, str(error), "the cell is measured anew")
        return None


def _tell_before(facts: Mapping[str, Any], commit: str | None) -> str:
    """That a cell was measured before, and whether by other code than this."""
    code, by = facts.get("code"), facts.get("commit")
    same = code == digest_code() if code is not None else by in (None, commit)
    if same:
        return "measured before"
    return f"measured before, by other code ({shown(f'commit {by}')})"


def _tell(result: Mapping[str, Any]) -> str:
    """Scores, why the method refused, and evidence, in a line."""
    words = []
    for group, values in result["scores"].items():
        words.append(f"{group} {values['psnr_db']:.2f} dB {values['ssim']:.4f}")
    if "refused" in result["training"]:
        words.append(f"refused: {result['training']['refused']}")
    for name, value in result["evidence"].items():
        words.append(f"{value:.4g} {name}")
    return ", ".join(words)


def cells_of(experiment: Experiment, preset: str, minutes: float | None = None) -> list[Cell]:
    """The cells of an experiment, of those methods that have the preset.

    Where nothing is trained there is one cell for all presets, under the name of the first.

    Parameters
    ----------
    experiment
        The table.
    preset
        One of ``BENCH_PRESETS``.
    minutes
        Another training budget than the preset's: the cells are trials.

    Raises
    ------
    ConfigError
        For a preset that does not exist, and a budget that is none.
    """
    choose(preset, dict.fromkeys(BENCH_PRESETS), "preset of bench")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"bench: {minutes:g} minutes is no budget; give `minutes` above 0")
    budget = {}
    if preset == "cpu" and experiment.cpu_minutes is not None:
        budget["minutes"] = experiment.cpu_minutes
    found = []
    for cell in experiment.cells(preset):
        if cell.method in BASELINES:
            found.append(replace(cell, preset=BENCH_PRESETS[0], minutes=minutes))
        elif preset in PRESETS[cell.method]:
            asked = budget if METHODS[cell.method].trains else {}
            if asked and hasattr(PRESETS[cell.method][preset], "started_minutes"):
                asked = {**asked, "started_minutes": 0.0}
            settings = {**asked, **cell.settings}
            found.append(replace(cell, settings=settings, minutes=minutes))
    return found


def data_folder(data: Path | None) -> Path:
    """The folder of data sets: ``data``, else $PAIRFREE_DATA.

    Raises
    ------
    ConfigError
        Where neither is given.
    InputError
        Where there is no such folder.
    """
    named = os.environ.get("PAIRFREE_DATA")
    given = data or (Path(named) if named else None)
    if given is None:
        raise ConfigError("bench needs its data sets: give `data` or set PAIRFREE_DATA")
    if not given.is_dir():
        raise InputError(f"{given}: no such data folder; it must hold natural/, fluo/, ...")
    return given


def commit_of(file: Path) -> str | None:
    """Commit of the checkout that a source file belongs to, or None outside of one.

    It ends with "+" where tracked sources differ from it.
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=file.parent, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("diff", "HEAD", "--name-only", "--", ":/*.py")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+" if changed else commit


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """BusyError while another process measures the cell of this folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder.with_name(f"{folder.name}.lock"), folder)
    try:
        yield
    finally:
        lock.release()
