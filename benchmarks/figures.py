"""Pictures of the docs from measured cells: python benchmarks/figures.py --data DIR (the data of ``pairfree bench``).

iddp_residual.svg    after Figure 4 of IDDP: the noise n, and what the trained network removes, y - F(y)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pairfree.bench.bsd68 import EXPERIMENT
from pairfree.evaluate.plots import histogram_pair
from pairfree.files.formats import open_image

ROOT = Path(__file__).resolve().parent.parent
STYLE = """<style>
.plot { background: #fff; font: 12px system-ui, sans-serif; }
.plot text { fill: #444; } .plot .key { text-anchor: end; } .plot .axis { stroke: #444; }
.plot polyline { fill: none; stroke-width: 1.75; } .plot .line-b { stroke: #b04a00; } .plot .mark-b { fill: #b04a00; }
.plot .fill-a { fill: #0a6685; fill-opacity: 0.35; stroke: #0a6685; stroke-width: 0.75; } .plot .mark-a { fill: #0a6685; }
</style>"""


def residual_histogram(data: Path, runs: Path) -> str:
    """SVG: the noise of BSD68, sigma 25, filled, and the residual of IDDP (preset cpu, seed 0) as a line."""
    cell = next(cell for cell in EXPERIMENT.cells("cpu") if cell.name == "gaussian:sigma=25/iddp/cpu/seed0")
    images = EXPERIMENT.task(data, cell).test
    noise = np.concatenate([(image.noisy - image.clean).ravel() for image in images])
    removed = np.concatenate(
        [(image.noisy[0] - open_image(runs / cell.slug / "denoised" / f"{image.name}.tif").pixels).ravel() for image in images]
    )
    names = (f"n, std {noise.std():.1f}", f"y - F(y), std {removed.std():.1f}")
    svg = histogram_pair(
        noise, removed, names, "True noise and what IDDP removed", f"grey levels of {images[0].data_range:.0f}; heights are square roots"
    )
    head, inner = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg">{STYLE}{inner}\n'


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "benchmarks" / "runs" / "bsd68")
    given = parser.parse_args()
    folder = ROOT / "docs" / "figures"
    folder.mkdir(exist_ok=True)
    (folder / "iddp_residual.svg").write_text(residual_histogram(given.data, given.runs), encoding="utf-8")
