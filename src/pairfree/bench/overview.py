"""What is measured and what is missing, in a terminal; and the index of the papers for the docs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pairfree.bench import tables
from pairfree.bench.base import Cell, Experiment
from pairfree.bench.cache import up_to_date
from pairfree.bench.harness import BENCH_PRESETS, EXPERIMENTS, cells_of
from pairfree.bench.tables import Results

PAPERS = ("ISCL", "GAN2GAN", "IDDP")


def overview(out: Path) -> str:
    """Every experiment and preset: how many cells are measured, where and when, and which are missing."""
    lines = []
    for name, experiment in EXPERIMENTS.items():
        papers = f" ({of_papers(experiment)})" if experiment.after else ""
        lines.append(f"{name}: {experiment.title}{papers}")
        results = tables.read_results(out / name)
        for preset in BENCH_PRESETS:
            cells = own_cells(experiment, preset)
            if cells:
                lines.append(f"  {preset:<10} {state(cells, results)}")
            for line in missing(cells, results):
                lines.append(f"    {line}")
    lines.append(
        "A cell is COLUMN/ROW/PRESET/seedN: pairfree bench NAME --preset PRESET --only COLUMN/ROW/ "
        "measures it."
    )
    return "\n".join(lines)


def own_cells(experiment: Experiment, preset: str) -> list[Cell]:
    """The cells of an experiment that no other preset has."""
    return [cell for cell in cells_of(experiment, preset) if cell.preset == preset]


def state(cells: Sequence[Cell], results: Results) -> str:
    """In words, how many cells are measured, when and where.

    "34 of 158 cells measured (2 with older settings), 2026-11-01 to 2026-11-22, on AMD EPYC".
    """
    measured = [cell for cell in cells if cell.name in results]
    words = f"{len(measured)} of {len(cells)} cells measured"
    older = 0
    dates, devices = set(), set()
    for cell in measured:
        result = results[cell.name]
        facts = result["environment"]
        dates.add(facts["date"].split()[0])
        devices.add(facts.get("gpu", facts["processor"]))
        if not up_to_date(result, cell):
            older += 1
    if older:
        words += f" ({older} with older settings)"
    if measured:
        days = dict.fromkeys([min(dates), max(dates)])
        words += f", {' to '.join(days)}, on {', '.join(sorted(devices))}"
    return words


def missing(cells: Sequence[Cell], results: Results) -> list[str]:
    """One line a column: the rows that are not measured, with their seeds where there are several.

    No line where nothing is measured.
    """
    if not any(cell.name in results for cell in cells):
        return []
    lines = []
    for column in dict.fromkeys(cell.column for cell in cells):
        here = [cell for cell in cells if cell.column == column]
        left = [cell for cell in here if cell.name not in results]
        if len(left) == len(here):
            lines.append(f"{column}: missing all {len(here)}")
        elif left:
            lines.append(f"{column}: missing {_rows_and_seeds(left)}")
    return lines


def _rows_and_seeds(cells: Iterable[Cell]) -> str:
    """Such as "noisy; iddp (seeds 1, 2)"."""
    rows: dict[str, list[int]] = {}
    for cell in cells:
        rows.setdefault(cell.row, []).append(cell.seed)
    texts = []
    for row, seeds in rows.items():
        numbers = ", ".join(map(str, seeds))
        texts.append(f"{row} (seeds {numbers})" if any(seeds) else row)
    return "; ".join(texts)


def of_papers(experiment: Experiment) -> str:
    """The tables and figures that it is after: "GAN2GAN Table 2, Table 3; IDDP Figure 4"."""
    papers: dict[str, list[str]] = {}
    for item in sorted(experiment.after, key=place):
        paper, _, what = item.partition(" ")
        papers.setdefault(paper, []).append(what)
    return "; ".join(f"{paper} {', '.join(items)}" for paper, items in papers.items())


def place(item: str) -> tuple[int, str]:
    """Sorts "GAN2GAN Table 2": by paper, then tables before figures."""
    paper, _, what = item.partition(" ")
    return PAPERS.index(paper), what.replace("Table", "A").replace("Figure", "B")


class Entry(NamedTuple):
    """Cells of one experiment that stand for a table or figure of a paper."""

    experiment: Experiment
    """Which has them."""
    pattern: str
    """Regular expression of their names."""
    results: Results
    """What is measured of the experiment."""

    def cells(self, presets: Iterable[str]) -> Iterator[Cell]:
        """Those of these presets."""
        for preset in presets:
            for cell in own_cells(self.experiment, preset):
                if re.search(self.pattern, cell.name):
                    yield cell


def index(root: Path, pictures: Mapping[str, str]) -> str:
    """Markdown table: each table and figure of the papers, and where it stands below.

    Beside it how many of its cells each preset has, and how many of those that stand beside a published
    number preset cpu has.

    Parameters
    ----------
    root
        Folder of the results of every experiment.
    pictures
        Markdown of its pictures by table or figure.
    """
    entries: dict[str, list[Entry]] = {}
    for name, experiment in EXPERIMENTS.items():
        results = tables.read_results(root / name)
        for item, pattern in experiment.after.items():
            entry = Entry(experiment, pattern, results)
            entries.setdefault(item, []).append(entry)
    lines = [
        "| paper | here | preset cpu | beside a published number | paper presets | picture |",
        "|---|---|---|---|---|---|",
    ]
    short, long = BENCH_PRESETS[:1], BENCH_PRESETS[1:]
    for item in sorted(entries, key=place):
        here = entries[item]
        links = "; ".join(link(one.experiment, one.results) for one in here)
        texts = [item, links, counted(here, short)]
        texts += [counted(here, short, beside=True), counted(here, long)]
        texts.append(pictures.get(item, ""))
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines)


def counted(entries: Iterable[Entry], presets: Sequence[str], beside: bool = False) -> str:
    """How many cells of a table or figure are measured: "12 of 26", or "-" where it has none.

    Parameters
    ----------
    entries
        Of the table or figure.
    presets
        Only cells of these.
    beside
        Only cells that stand beside a published number.
    """
    done = total = 0
    for entry in entries:
        for cell in entry.cells(presets):
            stated = tables.published(entry.experiment, cell.row, cell.column)
            if stated or not beside:
                total += 1
                done += cell.name in entry.results
    return f"{done} of {total}" if total else "-"


def link(experiment: Experiment, results: Results) -> str:
    """To the tables of the experiment, where it has any."""
    if not results:
        return experiment.name
    return f"[{experiment.name}](#{anchor(experiment.title)})"


def anchor(title: str) -> str:
    """Of a heading, as Markdown viewers make it."""
    words = re.sub(r"[^\w\- ]", "", title.lower())
    return words.replace(" ", "-")
