"""Results on disk -> Markdown tables: published | ours (mean and spread over seeds), device and budget."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pairfree.bench.base import Cell, Experiment
from pairfree.bench.cache import Result, read_result, up_to_date
from pairfree.facts import Unreadable
from pairfree.files.messages import shown

Results = Mapping[str, Result]
"""Those of measured cells, by their names."""
Place = tuple[str, str]
"""Row and column."""
_say = logging.getLogger("pairfree")


def read_results(folder: Path) -> dict[str, Result]:
    """Result of each measured cell by its name; none where there is no such folder."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            result = read_result(path)
        except (Unreadable, FileNotFoundError) as error:
            _say.warning("%s: damaged, %s; passed over", shown(path), error)
            continue
        found[result["cell"]] = result
    return found


@dataclass
class Row:
    """A row of a table: what is measured of all its seeds."""

    name: str
    """What is tried."""
    seeds: list[Result] = field(default_factory=list)
    """One a seed."""
    older: bool = False
    """Whether one was measured with older settings."""

    def add(self, cell: Cell, result: Result) -> None:
        """Take in the result of one more seed."""
        self.seeds.append(result)
        if not up_to_date(result, cell):
            self.older = True

    @property
    def stages(self) -> list[str]:
        """Stages of the training that are scored by themselves."""
        return list(_scores_by_stage(self.seeds[0]))

    def mean_scores(self, groups: Sequence[str], stage: str = "") -> list[str]:
        """A text for each group of images: the mean over those seeds that have a score of it.

        Parameters
        ----------
        groups
            Names of the groups.
        stage
            After which the scores are taken; none for the end.
        """
        scores = [_scores_of(one, stage) for one in self.seeds]
        texts = []
        for group in groups:
            texts.append(_mean_score([one[group] for one in scores if group in one]))
        return texts

    def mean_numbers(self, names: Sequence[str]) -> list[str]:
        """A text for each number of the evidence."""
        evidence = [one.get("evidence", {}) for one in self.seeds]
        texts = []
        for name in names:
            texts.append(_mean_number([one[name] for one in evidence if name in one]))
        return texts

    @property
    def budget(self) -> str:
        """What was spent on each of the seeds, from the least to the most."""
        words = _spent([one["training"] for one in self.seeds])
        return f"{words}, older settings" if self.older else words

    @property
    def devices(self) -> str:
        """Every device that a seed was measured on."""
        names = [_device(one["environment"]) for one in self.seeds]
        return "; ".join(dict.fromkeys(names))


def markdown(
    experiment: Experiment,
    preset: str,
    cells: Sequence[Cell],
    results: Results,
) -> str:
    """One table a column of the experiment.

    Below them stand what is published of rows that are not measured, and how many cells there are.

    Parameters
    ----------
    experiment
        What is told.
    preset
        Named in the last line.
    cells
        Of that preset, and those that train nothing.
    results
        What is measured of them.
    """
    lines = [f"## {experiment.title}", "", f"{experiment.statement}.", ""]
    for column in dict.fromkeys(cell.column for cell in cells):
        rows: dict[str, Row] = {}
        for cell in cells:
            if cell.column == column and cell.name in results:
                row = rows.setdefault(cell.row, Row(cell.row))
                row.add(cell, results[cell.name])
        if rows:
            lines += _table(experiment, column, list(rows.values()))
    lines += _published_alone(experiment, cells, results)
    done = sum(cell.name in results for cell in cells)
    lines.append(f"{done} of {len(cells)} cells of preset {preset} measured.")
    return "\n".join(lines)


def _table(experiment: Experiment, column: str, rows: Sequence[Row]) -> list[str]:
    """What is measured of one column of an experiment."""
    groups = _names_in(rows, "scores")
    if len(groups) == 2:  # "all" are then the images of the only group
        groups = [group for group in groups if group != "all"]
    further = _names_in(rows, "evidence")
    heads = ["method", "published", *groups, *further]
    heads += ["seeds", "training", "device"]
    lines = [f"### {column}", "", *_head(heads)]
    for row in rows:
        seeds = str(len(row.seeds))
        for stage in row.stages:
            name = stage_row(row.name, stage)
            texts = [name, published(experiment, name, column) or "-"]
            texts += row.mean_scores(groups, stage)
            texts += [""] * len(further)
            lines.append(_line([*texts, seeds, "", ""]))
        texts = [row.name, published(experiment, row.name, column) or "-"]
        texts += row.mean_scores(groups)
        texts += row.mean_numbers(further)
        lines.append(_line([*texts, seeds, row.budget, row.devices]))
    return [*lines, ""]


def _names_in(rows: Sequence[Row], part: str) -> list[str]:
    """Names of the scores or numbers that the first seed of any row has."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(row.seeds[0].get(part, {}))
    return list(names)


def _head(titles: Sequence[str]) -> list[str]:
    """The first two lines of a table."""
    rule = "|---" * len(titles) + "|"
    return [_line(titles), rule]


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def published(experiment: Experiment, row: str, column: str) -> str:
    """What the row's paper has for a column, or for the part of it before a comma; "" for nothing."""
    texts = experiment.published.get(row, {})
    return texts.get(_stated_for(experiment, row, column), "")


def stage_row(row: str, stage: str) -> str:
    """Name of the row that tells what a method had reached after one of its stages."""
    return f"{row}: after its {stage}"


def _stated_for(experiment: Experiment, row: str, column: str) -> str:
    """Such as "film, fold 2", or "film" where the paper has one number for all folds."""
    texts = experiment.published.get(row, {})
    return column if column in texts else column.partition(",")[0]


def _published_alone(
    experiment: Experiment,
    cells: Sequence[Cell],
    results: Results,
) -> list[str]:
    """A table of the published numbers that no measured one stands beside."""
    alone = _not_measured(experiment, cells, results)
    for row, texts in experiment.no_cell.items():
        for column, text in texts.items():
            alone[row, column] = text
    if not alone:
        return []
    rows = dict.fromkeys(row for row, _ in alone)
    columns = dict.fromkeys(column for _, column in alone)
    lines = ["Published, not measured here:", ""]
    lines += _head(["method", *columns])
    for row in rows:
        line = [row]
        for column in columns:
            line.append(alone.get((row, column), ""))
        lines.append(_line(line))
    return [*lines, ""]


def _not_measured(
    experiment: Experiment,
    cells: Sequence[Cell],
    results: Results,
) -> dict[Place, str]:
    """Published texts of those rows and columns where no cell is measured."""
    stated: dict[Place, str] = {}
    measured: set[Place] = set()
    for cell in cells:
        here = _measured_rows(cell, results)
        for row in _published_rows(experiment, cell):
            place = row, _stated_for(experiment, row, cell.column)
            stated[place] = published(experiment, *place)
            if row in here:
                measured.add(place)
    alone = {}
    for place, text in stated.items():
        if text and place not in measured:
            alone[place] = text
    return alone


def _measured_rows(cell: Cell, results: Results) -> list[str]:
    """The rows that a cell's result fills: its own, and one a stage."""
    if cell.name not in results:
        return []
    stages = _scores_by_stage(results[cell.name])
    return [cell.row, *(stage_row(cell.row, stage) for stage in stages)]


def _published_rows(experiment: Experiment, cell: Cell) -> list[str]:
    """The rows that a paper may have of a cell: its own, and those after stages."""
    found = [cell.row]
    for row in experiment.published:
        if row.startswith(stage_row(cell.row, "")):
            found.append(row)
    return found


def _scores_by_stage(result: Result) -> Results:
    scores: Results = result.get("training", {}).get("scores_after", {})
    return scores


def _scores_of(result: Result, stage: str) -> Result:
    """Scores by group; none where there is no such stage."""
    if stage:
        return _scores_by_stage(result).get(stage, {})
    scores: Result = result["scores"]
    return scores


def _device(facts: Result) -> str:
    """The graphics card, or the processor and how many of its threads."""
    if facts.get("gpu"):
        return str(facts["gpu"])
    plural = "" if facts["threads"] == 1 else "s"
    return f"{facts['processor']}, {facts['threads']} thread{plural}"


def _spent(trainings: Sequence[Result]) -> str:
    """Minutes and steps of each of the seeds, or why there are none."""
    first = trainings[0]
    if not first:
        return "none"
    if "refused" in first:
        return f"refused: {first['refused']}"
    if "seconds_an_image" in first:
        seconds = [one["seconds_an_image"] for one in trainings if "seconds_an_image" in one]
        return f"{_minutes(seconds)} min an image"
    counts = []
    for one in trainings:
        counts.append(sum(count for _, count in one.get("steps", [])))
    steps = f"{_range(counts, ',')} steps"
    seconds = [one["seconds"] for one in trainings if one.get("seconds") is not None]
    return f"{_minutes(seconds)} min, {steps}" if seconds else steps


def _minutes(seconds: Sequence[float]) -> str:
    return _range([one / 60 for one in seconds], ".1f")


def _range(values: Sequence[float], form: str) -> str:
    """Such as "3 to 5", or one number where they are shown alike."""
    least, most = format(min(values), form), format(max(values), form)
    return least if least == most else f"{least} to {most}"


def _mean_score(scores: Sequence[Mapping[str, float]]) -> str:
    """Mean over seeds, with the standard deviation (n - 1) where there are several."""
    if not scores:
        return ""
    psnr = [one["psnr_db"] for one in scores]
    ssim = [one["ssim"] for one in scores]
    text = f"{np.mean(psnr):.2f}"
    if len(scores) > 1:
        text += f" ± {np.std(psnr, ddof=1):.2f}"
    return f"{text} / {np.mean(ssim):.4f}"


def _mean_number(values: Sequence[float]) -> str:
    """Mean over seeds of a number that is no score, with its spread where there are several.

    To three digits, whole from 1,000 on.
    """
    if not values:
        return ""
    mean = float(np.mean(values))
    text = f"{mean:,.0f}" if abs(mean) >= 1000 else f"{mean:.3g}"
    if len(values) > 1:
        text += f" ± {np.std(values, ddof=1):.1g}"
    return text
