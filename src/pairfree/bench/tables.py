"""Results on disk -> Markdown tables: published | ours (mean and spread over seeds), device and budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.bench.base import Cell, Experiment
from pairfree.bench.cache import up_to_date


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Result of each measured cell by its name."""
    found = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        result = json.loads(path.read_text(encoding="utf-8"))
        found[result["cell"]] = result
    return found


def markdown(
    experiment: Experiment, preset: str, cells: Sequence[Cell], results: dict[str, dict[str, Any]]
) -> str:
    """One table a column of the experiment; below them what is published of rows that are not measured, and how many there are.

    cells   of that preset, and those that train nothing
    """
    lines = [f"## {experiment.title}", "", experiment.statement + ".", ""]
    for column in dict.fromkeys(cell.column for cell in cells):
        rows: dict[str, list[dict[str, Any]]] = {}
        for cell in cells:
            if cell.column == column and cell.name in results:
                rows.setdefault(cell.row, []).append(
                    {**results[cell.name], "older": not up_to_date(results[cell.name], cell)}
                )
        if rows:
            lines += _table(experiment, column, rows)
    lines += _published_alone(experiment, cells, results)
    done = sum(cell.name in results for cell in cells)
    lines.append(f"{done} of {len(cells)} cells of preset {preset} measured.")
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def published(experiment: Experiment, row: str, column: str) -> str:
    """What the row's paper has for a column, or for the part of it before a comma; "" for nothing."""
    return experiment.published.get(row, {}).get(_stated_for(experiment, row, column), "")


def stage_row(row: str, stage: str) -> str:
    return f"{row}: after its {stage}"


def _stated_for(experiment: Experiment, row: str, column: str) -> str:
    """ "film, fold 2", or "film" where the paper has one number for all folds."""
    return column if column in experiment.published.get(row, {}) else column.partition(",")[0]


def _published_alone(
    experiment: Experiment, cells: Sequence[Cell], results: dict[str, dict[str, Any]]
) -> list[str]:
    """A table of the published numbers that no measured one stands beside."""
    wanted: dict[tuple[str, str], bool] = {}
    for cell in cells:
        measured = results.get(cell.name, {})
        stages = [
            stage_row(cell.row, stage)
            for stage in measured.get("training", {}).get("scores_after", {})
        ]
        for row in (
            cell.row,
            *(one for one in experiment.published if one.startswith(stage_row(cell.row, ""))),
        ):
            place = row, _stated_for(experiment, row, cell.column)
            here = bool(measured) and row in (cell.row, *stages)
            wanted[place] = (
                wanted.get(place, True) and not here and bool(published(experiment, *place))
            )
    alone = {place: published(experiment, *place) for place, nowhere in wanted.items() if nowhere}
    alone |= {
        (row, column): text
        for row, texts in experiment.no_cell.items()
        for column, text in texts.items()
    }
    if not alone:
        return []
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*alone, strict=True))
    lines = [
        "Published, not measured here:",
        "",
        _line("method", *columns),
        "|---" * (len(columns) + 1) + "|",
    ]
    lines += [_line(row, *(alone.get((row, column), "") for column in columns)) for row in rows]
    return [*lines, ""]


def _table(experiment: Experiment, column: str, rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    groups = list(dict.fromkeys(group for found in rows.values() for group in found[0]["scores"]))
    if len(groups) == 2:
        groups = [
            group for group in groups if group != "all"
        ]  # the same images as those of the only group
    further = list(
        dict.fromkeys(name for found in rows.values() for name in found[0].get("evidence", {}))
    )
    heads = ["method", "published", *groups, *further, "seeds", "training", "device"]
    lines = [f"### {column}", "", _line(*heads), "|---" * len(heads) + "|"]
    for row, found in rows.items():
        cells = [
            _mean([one["scores"][group] for one in found if group in one["scores"]])
            for group in groups
        ]
        cells += [
            _value([one["evidence"][name] for one in found if name in one.get("evidence", {})])
            for name in further
        ]
        first = found[0]
        budget = _budget([one["training"] for one in found]) + ", older settings" * any(
            one["older"] for one in found
        )
        device = "; ".join(dict.fromkeys(_device(one["environment"]) for one in found))
        for stage in first["training"].get("scores_after", {}):
            before = [one["training"].get("scores_after", {}).get(stage, {}) for one in found]
            cells_before = [
                _mean([one[group] for one in before if group in one]) for group in groups
            ] + [""] * len(further)
            name = stage_row(row, stage)
            lines.append(
                _line(
                    name,
                    published(experiment, name, column) or "-",
                    *cells_before,
                    str(len(found)),
                    "",
                    "",
                )
            )
        lines.append(
            _line(
                row,
                published(experiment, row, column) or "-",
                *cells,
                str(len(found)),
                budget,
                device,
            )
        )
    return [*lines, ""]


def _device(facts: dict[str, Any]) -> str:
    return str(
        facts.get("gpu")
        or f"{facts['processor']}, {facts['threads']} thread{'s' * (facts['threads'] != 1)}"
    )


def _budget(trainings: Sequence[dict[str, Any]]) -> str:
    """What was spent on each of the seeds, from the least to the most."""
    first = trainings[0]
    if not first:
        return "none"
    if "refused" in first:
        return f"refused: {first['refused']}"
    if "seconds_an_image" in first:
        return f"{_range([one['seconds_an_image'] / 60 for one in trainings], '.1f')} min an image"
    seconds = [one["seconds"] / 60 for one in trainings if one["seconds"] is not None]
    steps = _range([sum(count for _, count in one["steps"]) for one in trainings], ",")
    return f"{_range(seconds, '.1f')} min, {steps} steps" if seconds else f"{steps} steps"


def _range(values: Sequence[float], form: str) -> str:
    """ "3 to 5", or one number where they are shown alike."""
    return " to ".join(dict.fromkeys(f"{value:{form}}" for value in (min(values), max(values))))


def _mean(scores: list[dict[str, float]]) -> str:
    """Mean over seeds, with the standard deviation (n - 1) where there are several."""
    psnr, ssim = ([one[key] for one in scores] for key in ("psnr_db", "ssim"))
    if not psnr:
        return ""
    spread = f" ± {np.std(psnr, ddof=1):.2f}" if len(psnr) > 1 else ""
    return f"{np.mean(psnr):.2f}{spread} / {np.mean(ssim):.4f}"


def _value(values: list[float]) -> str:
    """Mean over seeds of a number that is no score, to three digits (whole from 1,000 on), with its spread where there are several."""
    if not values:
        return ""
    mean = float(np.mean(values))
    return (f"{mean:,.0f}" if abs(mean) >= 1000 else f"{mean:.3g}") + (
        f" ± {np.std(values, ddof=1):.1g}" if len(values) > 1 else ""
    )
