"""What ``pairfree bench`` and the index of docs/results.md say about cells that are measured and missing."""

import json
import re
import runpy
from pathlib import Path

import pytest

from pairfree.bench import overview
from pairfree.bench.base import Cell, Experiment
from pairfree.bench.baselines import BASELINES
from pairfree.bench.cache import settings_of
from pairfree.bench.harness import EXPERIMENTS, cells_of

ROOT = Path(__file__).resolve().parents[2]
CELLS = [
    Cell("hum", "noisy", "cpu"),
    *(Cell("hum", "iddp", "cpu", seed) for seed in range(3)),
    Cell("buzz", "noisy", "cpu"),
]
TINY = Experiment(
    "tiny",
    "Tiny, a table",
    "-",
    lambda preset: CELLS if preset == "cpu" else [],
    lambda data, cell: None,
    after={"GAN2GAN Table 2": "^hum", "GAN2GAN Figure 1": "/iddp/", "ISCL Table I": "^buzz"},
    published={"iddp": {"hum": "30.00"}},
)


PAPERS = {
    "ISCL": ["Table I", "Table III", "Figure 4", "Figure 5", "Figure 6", "Figure 7"],
    "GAN2GAN": [f"Table {k}" for k in (2, 3)] + [f"Figure {k}" for k in (1, 2, 4, 5, 6)],
    "IDDP": ["Table 1", "Table 2", "Table 3", "Figure 4", "Figure 7"],
}
"""Tables and figures whose subject an experiment measures."""


def result(cell, date="2026-02-03 10:00 UTC", **environment):
    config = {} if cell.method in BASELINES else settings_of(cell)
    return {
        "cell": cell.name,
        "scores": {},
        "training": {"config": config, "steps": [], "seconds": None},
        "environment": {"date": date, "processor": "a chip", "threads": 2, **environment},
    }


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setattr(overview, "EXPERIMENTS", {"tiny": TINY})
    monkeypatch.setattr(overview, "cells_of", lambda experiment, preset: experiment.cells(preset))

    def store(*cells):
        (tmp_path / "tiny").mkdir(exist_ok=True)
        for cell in cells:
            (tmp_path / "tiny" / f"{cell.slug}.json").write_text(json.dumps(result(cell)))

    return tmp_path, store


def test_a_state_says_how_many_where_and_when():
    results = {
        CELLS[0].name: result(CELLS[0]),
        CELLS[1].name: result(CELLS[1], "2026-02-05 09:00 UTC", gpu="a big card"),
    }
    assert (
        overview.state(CELLS, results)
        == "2 of 5 cells measured, 2026-02-03 to 2026-02-05, on a big card, a chip"
    )
    assert (
        overview.state(CELLS, {CELLS[0].name: result(CELLS[0])})
        == "1 of 5 cells measured, 2026-02-03, on a chip"
    )
    assert overview.state(CELLS, {}) == "0 of 5 cells measured"


def test_a_state_tells_results_of_older_settings():
    results = {cell.name: result(cell) for cell in CELLS[:3]}
    results[CELLS[1].name]["training"]["config"]["lr"] = 0.5
    assert overview.state(CELLS, results).startswith(
        "3 of 5 cells measured (1 with older settings), 2026-02-03, on"
    )


def test_missing_rows_are_named_by_column():
    results = {cell.name: result(cell) for cell in CELLS[:2]}
    assert overview.missing(CELLS, results) == [
        "hum: missing iddp (seeds 1, 2)",
        "buzz: missing all 1",
    ]
    assert overview.missing(CELLS, {}) == []
    assert overview.missing(CELLS, {cell.name: result(cell) for cell in CELLS}) == []


def test_the_overview_shows_every_table_and_preset_that_has_cells(tiny):
    root, store = tiny
    store(CELLS[0])
    text = overview.overview(root).splitlines()
    assert text[0] == "tiny: Tiny, a table (ISCL Table I; GAN2GAN Table 2, Figure 1)"
    assert text[1] == "  cpu        1 of 5 cells measured, 2026-02-03, on a chip"
    assert text[2:4] == ["    hum: missing iddp (seeds 0, 1, 2)", "    buzz: missing all 1"]
    assert len(text) == 5  # the presets without cells have no line


def test_the_index_counts_the_cells_of_each_table(tiny):
    root, store = tiny
    store(*CELLS[:2])
    lines = overview.index(root, {"GAN2GAN Figure 1": "[drawn](figures/one.svg)"}).splitlines()[2:]
    here = "[tiny](#tiny-a-table)"
    assert lines == [
        f"| ISCL Table I | {here} | 0 of 1 | - | - |  |",
        f"| GAN2GAN Table 2 | {here} | 2 of 4 | 1 of 3 | - |  |",
        f"| GAN2GAN Figure 1 | {here} | 1 of 3 | 1 of 3 | - | [drawn](figures/one.svg) |",
    ]


def test_an_experiment_without_results_has_no_link(tiny):
    root, _ = tiny
    assert overview.index(root, {}).splitlines()[2] == "| ISCL Table I | tiny | 0 of 1 | - | - |  |"


def test_every_table_and_figure_of_the_papers_has_cells_of_the_short_preset():
    items = {item for experiment in EXPERIMENTS.values() for item in experiment.after}
    expected = set()
    for paper, numbers in PAPERS.items():
        expected |= {f"{paper} {number}" for number in numbers}
    assert items == expected
    for experiment in EXPERIMENTS.values():
        names = [cell.name for cell in cells_of(experiment, "cpu")]
        for item, pattern in experiment.after.items():
            assert any(re.search(pattern, name) for name in names), (experiment.name, item)


@pytest.mark.parametrize(
    ("title", "link"),
    [
        ("BSD400 -> BSD68, grey", "bsd400---bsd68-grey"),
        ("ISCL's losses one by one, film noise", "iscls-losses-one-by-one-film-noise"),
    ],
)
def test_anchors_are_those_of_markdown_viewers(title, link):
    assert overview.anchor(title) == link


def test_the_page_of_results_is_what_the_committed_json_gives():
    page = runpy.run_path(str(ROOT / "benchmarks" / "make_results.py"))["page"]()
    assert page == (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), (
        "run python benchmarks/make_results.py"
    )
    assert all(
        (ROOT / "docs" / picture).is_file()
        for picture in re.findall(r"\]\((figures/[^)]+)\)", page)
    )
