"""What a minute gives: the shipped start and even noise, each alone and both, on the sets of other tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pairfree.bench import bsd68, bsd300, fmd, wf
from pairfree.bench.base import Cell, Experiment, Scored, Task, filter_cells, read_planes

COLUMNS = (
    fmd.COLUMNS[0],
    "FMD wide-field",
    "W2S",
    "gaussian:sigma=25",
    "correlated:sigma=25",
    "gaussian, clipped",
    "camera (CC15)",
)
"""The last but one is of BSD300, colour, levels 0 to 50; the last one of cameras, means of 500 frames."""
CAMERA = COLUMNS[-1]
GAUSSIANS_PX = (1.0, 1.3, 1.6, 2.0, 3.0)
METHODS = {
    fmd.COLUMNS[0]: ("iddp", "gan2gan"),
    "FMD wide-field": ("gan2gan",),
    "W2S": ("iddp", "gan2gan"),
    "gaussian:sigma=25": ("iddp", "gan2gan"),
    "correlated:sigma=25": ("gan2gan",),
    "gaussian, clipped": ("iddp",),
    CAMERA: ("iddp",),
}
"""Noisy-only methods that train the default network: IDDP where neighbouring pixels do not share noise."""
SEEDS = 3
PLAIN = {"even": False}
RANDOM = {"net": "even-unet", "even": True}


def cells(preset: str) -> list[Cell]:
    """Filters, the start as it is, and each method with and without the start, in even and plain intensities.

    Three seeds where both are there, as the preset has it; one where a lever is left out.
    """
    found = []
    for column in COLUMNS:
        found += filter_cells(column, preset, GAUSSIANS_PX, bm3d=False)
        stabilise = {"stabilise": True}
        found.append(Cell(column, "bm3d", preset, settings=stabilise, label="vst + bm3d"))
        found.append(Cell(column, "shipped", preset, label="shipped, not trained"))
        for method in METHODS.get(column, ()):
            whole = Cell(column, method, preset, start="shipped", label=f"{method}, start and even")
            found += [replace(whole, seed=seed) for seed in range(SEEDS)]
            found.append(replace(whole, settings=PLAIN, label=f"{method}, start alone"))
            bare = Cell(column, method, preset)
            found.append(replace(bare, settings=RANDOM, label=f"{method}, even alone"))
            found.append(replace(bare, label=f"{method}, neither"))
    return found


def task(data: Path, cell: Cell) -> Task:
    """That of the table which the column is from."""
    if cell.column == fmd.COLUMNS[0]:
        return fmd.task(data, cell)
    if cell.column in wf.COLUMNS:
        return wf.task(data, cell)
    if cell.column == CAMERA:
        return camera_task(data)
    if cell.column.endswith("clipped"):
        return bsd300.task(data, cell)
    return bsd68.task(data, cell)


def camera_task(data: Path) -> Task:
    """Crops of cameras, trained on themselves, scored against the mean of 500 frames."""
    noisy = read_planes(data / "camera" / "cc15" / "real", 3)
    mean = read_planes(data / "camera" / "cc15" / "mean", 3)
    raw = {name: image.astype(np.uint8) for name, image in noisy.items()}
    test = [Scored(name, image, mean[name]) for name, image in raw.items()]
    return Task(noisy=list(raw.values()), test=test)


EXPERIMENT = Experiment(
    name="quick",
    title="A minute: the shipped start and even noise",
    statement="PSNR in dB / SSIM, mean over files; data range 255, both sides clipped to it; FMD and W2S: "
    "8-bit files, trained on the noisy test files themselves, W2S's averages on the scale of the noisy "
    "files; BSD68: trained on noisy images of BSD400, noise unclipped; BSD300 (gaussian, clipped): RGB, "
    "8-bit files, levels 0 to 50 drawn for each, tested on level 25 and on all; CC15: RGB, 8-bit files, "
    "trained on the noisy test files themselves; preset cpu: 45 seconds of "
    "training a cell",
    cells=cells,
    task=task,
    cpu_minutes=0.75,
)
