"""What is measured and what is not: of every experiment for the command line, of every table and figure of the papers for the docs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pairfree.bench import tables
from pairfree.bench.base import Cell, Experiment
from pairfree.bench.cache import up_to_date
from pairfree.bench.harness import BENCH_PRESETS, EXPERIMENTS, cells_of

PAPERS = ("ISCL", "GAN2GAN", "IDDP")

Results = Mapping[str, Mapping[str, Any]]


def overview(out: Path) -> str:
    """Every experiment and preset: how many cells are measured, where and when, and which are missing."""
    lines = []
    for name, experiment in EXPERIMENTS.items():
        lines.append(
            f"{name}: {experiment.title}{f' ({of_papers(experiment)})' if experiment.after else ''}"
        )
        results = tables.read_results(out / name)
        for preset in BENCH_PRESETS:
            if cells := own_cells(experiment, preset):
                lines.append(f"  {preset:<10} {state(cells, results)}")
                lines += [f"    {line}" for line in missing(cells, results)]
    return "\n".join(
        [
            *lines,
            "A cell is COLUMN/ROW/PRESET/seedN: pairfree bench NAME --preset PRESET --only COLUMN/ROW/ measures it.",
        ]
    )


def own_cells(experiment: Experiment, preset: str) -> list[Cell]:
    """The cells of an experiment that no other preset has."""
    return [cell for cell in cells_of(experiment, preset) if cell.preset == preset]


def state(cells: Iterable[Cell], results: Results) -> str:
    """ "34 of 158 cells measured (2 with older settings), 2026-11-01 to 2026-11-22, on AMD EPYC"."""
    every = list(cells)
    facts = [results[cell.name]["environment"] for cell in every if cell.name in results]
    dates = sorted({one["date"].split()[0] for one in facts})
    devices = sorted({one.get("gpu", one["processor"]) for one in facts})
    when = (
        f", {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, on {', '.join(devices)}"
        if facts
        else ""
    )
    older = sum(not up_to_date(results[cell.name], cell) for cell in every if cell.name in results)
    return f"{len(facts)} of {len(every)} cells measured{f' ({older} with older settings)' if older else ''}{when}"


def missing(cells: Iterable[Cell], results: Results) -> list[str]:
    """One line a column: the rows that are not measured, with their seeds where there are several. No line where nothing is measured."""
    cells = list(cells)
    if not any(cell.name in results for cell in cells):
        return []
    columns: dict[str, list[Cell]] = {}
    for cell in cells:
        columns.setdefault(cell.column, []).append(cell)
    lines = []
    for column, every in columns.items():
        rows: dict[str, list[int]] = {}
        for cell in every:
            if cell.name not in results:
                rows.setdefault(cell.row, []).append(cell.seed)
        if rows:
            named = [
                f"{row} (seeds {', '.join(map(str, seeds))})" if any(seeds) else row
                for row, seeds in rows.items()
            ]
            nothing = sum(map(len, rows.values())) == len(every)
            lines.append(
                f"{column}: missing {f'all {len(every)}' if nothing else '; '.join(named)}"
            )
    return lines


def of_papers(experiment: Experiment) -> str:
    """ "GAN2GAN Table 2, Table 3; IDDP Figure 4"."""
    papers: dict[str, list[str]] = {}
    for item in sorted(experiment.after, key=place):
        paper, _, what = item.partition(" ")
        papers.setdefault(paper, []).append(what)
    return "; ".join(f"{paper} {', '.join(items)}" for paper, items in papers.items())


def place(item: str) -> tuple[int, str]:
    """Sorts "GAN2GAN Table 2": by paper, then tables before figures."""
    paper, _, what = item.partition(" ")
    return PAPERS.index(paper), what.replace("Table", "A").replace("Figure", "B")


def index(root: Path, pictures: Mapping[str, str]) -> str:
    """Markdown table: each table and figure of the papers, where it stands below, how many of its cells each preset has, and how many of
    those that stand beside a published number preset cpu has.

    root      folder of the results of every experiment
    pictures  table or figure -> Markdown of its pictures
    """
    results = {name: tables.read_results(root / name) for name in EXPERIMENTS}
    entries: dict[str, list[tuple[Experiment, str]]] = {}
    for experiment in EXPERIMENTS.values():
        for item, pattern in experiment.after.items():
            entries.setdefault(item, []).append((experiment, pattern))
    lines = [
        "| paper | here | preset cpu | beside a published number | paper presets | picture |",
        "|---" * 6 + "|",
    ]
    for item in sorted(entries, key=place):
        links = "; ".join(
            link(experiment, results[experiment.name]) for experiment, _ in entries[item]
        )
        numbers = [
            counted(entries[item], results, BENCH_PRESETS[:1]),
            counted(entries[item], results, BENCH_PRESETS[:1], beside=True),
            counted(entries[item], results, BENCH_PRESETS[1:]),
        ]
        lines.append(f"| {item} | {links} | {' | '.join(numbers)} | {pictures.get(item, '')} |")
    return "\n".join(lines)


def counted(
    entries: Iterable[tuple[Experiment, str]],
    results: Mapping[str, Results],
    presets: Iterable[str],
    beside: bool = False,
) -> str:
    """ "12 of 26": cells that are measured, of those whose names the patterns find; ``beside``: of those with a published number. "-" where
    there is none."""
    done = total = 0
    for experiment, pattern in entries:
        for preset in presets:
            for cell in own_cells(experiment, preset):
                if re.search(pattern, cell.name) and not (
                    beside and not tables.published(experiment, cell.row, cell.column)
                ):
                    done, total = done + (cell.name in results[experiment.name]), total + 1
    return f"{done} of {total}" if total else "-"


def link(experiment: Experiment, results: Results) -> str:
    """To the tables of the experiment, where it has any."""
    return f"[{experiment.name}](#{anchor(experiment.title)})" if results else experiment.name


def anchor(title: str) -> str:
    """Of a heading, as Markdown viewers make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
