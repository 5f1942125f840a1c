"""Methods that learn one image at a time, on three images of BSD68, each with its own budget."""

from __future__ import annotations

from pathlib import Path

from pairfree.bench import bsd68
from pairfree.bench.base import Cell, Experiment, Task, filter_cells

COLUMN = "gaussian:sigma=25"
PLACES = (0, 33, 67)
"""Of the images among the 68, in the order of their names."""


def cells(preset: str) -> list[Cell]:
    """Filters, and both methods."""
    return [
        *filter_cells(COLUMN, preset, bsd68.GAUSSIANS_PX),
        Cell(COLUMN, "bm3d", preset, settings={"sigma": 25.0}, label="bm3d, true sigma"),
        Cell(COLUMN, "dip", preset),
        Cell(COLUMN, "s2s", preset),
    ]


def task(data: Path, cell: Cell) -> Task:
    """Three of the noisy test images of BSD68, to learn from and to score."""
    whole = bsd68.task(data, cell)
    test = [whole.test[place] for place in PLACES]
    return Task(noisy=[image.noisy for image in test], test=test)


EXPERIMENT = Experiment(
    name="one-image",
    title="One image at a time, grey, Gaussian noise of sigma 25",
    statement="PSNR in dB / SSIM, mean over the first, the middle and the last of the 68 images; data "
    "range 255, both sides clipped to it; noise drawn once, neither clipped nor rounded; budgets are "
    "those of each image",
    cells=cells,
    task=task,
    published={
        "dip": {COLUMN: "29.99 / 0.850 (BSD300)"},
        "s2s": {COLUMN: "30.63 / 0.882 (BSD300)"},
    },
    after={"IDDP Table 1": "/(dip|s2s)"},
)
