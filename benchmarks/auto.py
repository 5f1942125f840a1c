"""What ``method`` auto takes on every set that is scored, and how far that is from the best.

    python benchmarks/auto.py --data DIR [--out benchmarks/results/auto.json]

The images of each set are diagnosed as training does, and the method that is taken is looked up in the tables
of results, beside the best method that may be compared (noisy images alone; with clean ones where they are
given) and the best Gaussian filter. Writes docs/choosing.md too, from docs/choosing_frame.md and the rules.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.bench.base import Cell
from pairfree.bench.harness import EXPERIMENTS, cells_of
from pairfree.bench.tables import read_results
from pairfree.data.sets import array_set
from pairfree.diagnosis.choice import RULES
from pairfree.diagnosis.diagnose import diagnose_set
from pairfree.methods import METHODS
from pairfree.training.auto import FILES, PLANES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FRAME, PAGE = ROOT / "docs" / "choosing_frame.md", ROOT / "docs" / "choosing.md"
RULES_HERE, SETS_HERE = "<!-- rules -->", "<!-- sets -->"


@dataclass(frozen=True)
class Set:
    """Images that auto is tried on."""

    name: str
    experiment: str
    column: str
    group: str = ""
    """Of the scores; the only one where empty."""
    clean: bool = False
    """Whether clean images of other scenes are given beside them."""


SETS = (
    Set("photographs, white noise of sigma 25 (BSD68)", "quick", "gaussian:sigma=25"),
    Set("photographs, correlated noise (BSD68)", "quick", "correlated:sigma=25"),
    Set(
        "colour photographs, clipped noise of 0 to 50 (BSD300)",
        "quick",
        "gaussian, clipped",
        "gaussian:sigma=0..50",
    ),
    Set("confocal (FMD)", "quick", "confocal + two-photon MICE", "Confocal"),
    Set("two-photon (FMD)", "quick", "confocal + two-photon MICE", "TwoPhoton"),
    Set("wide-field (FMD)", "quick", "FMD wide-field"),
    Set("wide-field (W2S)", "quick", "W2S"),
    Set("cameras (CC15)", "quick", "camera (CC15)"),
    Set("micrographs, film noise", "em", "film, fold 0"),
    Set("micrographs, film noise, with a clean set", "em", "film, fold 0", clean=True),
    Set("micrographs, charging", "em", "charge, fold 0"),
    Set("micrographs, charging, with a clean set", "em", "charge, fold 0", clean=True),
    Set("abdomen at quarter dose (Mayo)", "ct", "Mayo, quarter dose", "Mayo abdomen"),
    Set(
        "abdomen at quarter dose, with other scans",
        "ct",
        "Mayo, quarter dose",
        "Mayo abdomen",
        clean=True,
    ),
)
AS_AUTO = " start and even"
"""Of several rows of a method, that which training gives without further options."""


def measure(data: Path, one: Set) -> dict[str, Any]:
    """What auto takes, and the scores of all rows of the set, dB, mean over seeds."""
    experiment = EXPERIMENTS[one.experiment]
    cells = [cell for cell in cells_of(experiment, "cpu") if cell.column == one.column]
    task = experiment.task(data, cells[0])
    images = array_set(list(task.noisy))
    images.unit = "HU" if one.experiment == "ct" else images.unit
    found = diagnose_set(images, one.clean, FILES, PLANES)
    scores = score_rows(one, cells)
    method = found.choice.method
    taken = find_taken(method, scores)
    gaussians = {row: score for row, score in scores.items() if row.startswith("gaussian")}
    rivals = {row: score for row, score in scores.items() if may_compare(row, cells, one.clean)}
    best = max(rivals, key=lambda row: rivals[row])
    filtered = max(gaussians, key=lambda row: gaussians[row]) if gaussians else ""
    return {
        "set": one.name,
        "rule": found.choice.rule,
        "method": method,
        "row": taken,
        "psnr_db": scores.get(taken),
        "best": best,
        "best_db": scores[best],
        "gaussian": filtered,
        "gaussian_db": gaussians.get(filtered),
        "noisy_db": scores.get("noisy"),
        "seeds": sum(cell.row == taken for cell in cells),
    }


def score_rows(one: Set, cells: list[Cell]) -> dict[str, float]:
    """PSNR of each row that is measured, mean over its seeds."""
    results = read_results(RESULTS / one.experiment)
    gathered: dict[str, list[float]] = {}
    for cell in cells:
        if cell.name in results:
            scores = results[cell.name]["scores"]
            group = one.group or next(iter(scores), "")
            if group in scores:
                gathered.setdefault(cell.row, []).append(scores[group]["psnr_db"])
    return {row: float(np.mean(values)) for row, values in gathered.items()}


def find_taken(method: str | None, scores: dict[str, float]) -> str:
    """The row of the method as auto runs it; empty where none is taken, or none measured."""
    if method is None:
        return ""
    for row in scores:
        if row.split(",")[0] == method and (
            AS_AUTO in row or row in (method, f"{method}, not trained")
        ):
            return row
    return ""


def may_compare(row: str, cells: list[Cell], clean: bool) -> bool:
    """Whether a row needs no more than is given: no partners, and no clean images where there are none."""
    method = next(cell.method for cell in cells if cell.row == row)
    if method not in METHODS:
        return row != "noisy"
    needs = METHODS[method].needs
    return not (needs.target or needs.noise or (needs.clean and not clean))


def rules_table() -> Iterator[str]:
    """The rules, in their order, as Markdown."""
    yield "| if | then | why |"
    yield "|---|---|---|"
    for rule in RULES:
        method = (
            f"[`{rule.method}`](methods/{rule.method}.md)"
            if rule.method
            else "nothing, and it says why"
        )
        yield f"| {rule.condition} | {method} | {' '.join([rule.why, rule.better]).strip()} |"


def sets_table(found: list[dict[str, Any]]) -> Iterator[str]:
    """What auto takes on each set, as Markdown."""
    yield "| images | auto takes | dB | best Gaussian filter | best of all that were tried | behind it |"
    yield "|---|---|---|---|---|---|"
    for one in found:
        filtered = "-" if one["gaussian_db"] is None else f"{one['gaussian_db']:.2f}"
        best = f"{one['best_db']:.2f}, {one['best']}"
        taken, score, behind = f"nothing: {one['rule']}", "-", "-"
        if one["method"] is not None:
            taken = f"`{one['method']}`"
        if one["psnr_db"] is not None:
            score = f"{one['psnr_db']:.2f}"
            behind = f"{max(one['best_db'] - one['psnr_db'], 0.0):.2f}"
        yield f"| {one['set']} | {taken} | {score} | {filtered} | {best} | {behind} |"


def write_page(found: list[dict[str, Any]]) -> str:
    """docs/choosing.md."""
    page = FRAME.read_text(encoding="utf-8")
    page = page.replace(RULES_HERE, "\n".join(rules_table()))
    return page.replace(SETS_HERE, "\n".join(sets_table(found)))


def main() -> None:
    """Measure, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS / "auto.json")
    asked = parser.parse_args()
    found = [measure(asked.data, one) for one in SETS]
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(write_page(found), encoding="utf-8")
    print("\n".join(sets_table(found)))


if __name__ == "__main__":
    main()
