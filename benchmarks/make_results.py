"""Write docs/results.md from the committed JSON: python benchmarks/make_results.py"""

from __future__ import annotations

from pathlib import Path

from pairfree.bench.harness import BENCH_PRESETS, EXPERIMENTS, cells_of
from pairfree.bench.tables import markdown, read_results

ROOT = Path(__file__).resolve().parent.parent


def page() -> str:
    """Preface, then each experiment's tables for each preset that has a measured cell."""
    parts = [(ROOT / "docs" / "results_preface.md").read_text(encoding="utf-8").rstrip()]
    for name, experiment in EXPERIMENTS.items():
        results = read_results(ROOT / "benchmarks" / "results" / name)
        for preset in BENCH_PRESETS:
            cells = cells_of(experiment, preset)
            if any(cell.name in results for cell in cells):
                parts.append(markdown(experiment, cells, results))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "results.md").write_text(page(), encoding="utf-8")
