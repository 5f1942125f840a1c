"""Write docs/results.md from the committed JSON: python benchmarks/make_results.py"""

from __future__ import annotations

from pathlib import Path

from pairfree.bench.harness import BENCH_PRESETS, EXPERIMENTS, cells_of
from pairfree.bench.overview import index
from pairfree.bench.tables import markdown, read_results

ROOT = Path(__file__).resolve().parent.parent
PICTURES = {
    "ISCL Figure 5": "[a CT slice](figures/ct_errors.png)",
    "ISCL Figure 6": "[charging](figures/em_charging.png)",
    "ISCL Figure 7": "[curves](figures/iscl_convergence.svg)",
    "GAN2GAN Figure 2": "[deviations](figures/noise_patches.svg)",
    "GAN2GAN Figure 4": "[the phantom](figures/phantom_errors.png)",
    "GAN2GAN Table 3": "[correlated noise](figures/correlated_errors.png)",
    "IDDP Figure 4": "[histograms](figures/iddp_residual.svg)",
}
"""Of the papers' tables and figures, those that the docs have a picture of (benchmarks/figures.py)."""


def page() -> str:
    """Preface, index of the papers' tables, then each experiment's tables for each preset that has a measured cell."""
    parts = [(ROOT / "docs" / "results_preface.md").read_text(encoding="utf-8").rstrip()]
    parts.append("## The papers' tables and figures\n\n" + index(ROOT / "benchmarks" / "results", PICTURES))
    for name, experiment in EXPERIMENTS.items():
        results = read_results(ROOT / "benchmarks" / "results" / name)
        for preset in BENCH_PRESETS:
            cells = cells_of(experiment, preset)
            if any(cell.name in results for cell in cells):
                parts.append(markdown(experiment, cells, results))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "results.md").write_text(page(), encoding="utf-8")
