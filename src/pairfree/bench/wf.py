"""Real wide-field fluorescence, one frame (GAN2GAN's Figure 4a).

FMD's noise is correlated between pixels, that of W2S is not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pairfree.bench.base import Cell, Experiment, Scored, Task, filter_cells, read_planes

COLUMNS = {
    "FMD wide-field": ("fmd", "raw", "gt", "WideField"),
    "W2S": ("w2s", "avg1", "avg400", ""),
}
"""Set, folder of the noisy and of the averaged files, and how the names of its wide-field files begin."""
SCALED_APART = "W2S"
"""The two sides of that set were scaled to 8 bits each by itself."""
GAUSSIANS_PX = (1.0, 2.0, 3.0)
METHODS = ("n2v", "iddp", "gan2gan", "n2c")


def cells(preset: str) -> list[Cell]:
    """Filters and methods on both sets; GAN2GAN from its own start and from the noisy images."""
    from_z = {"start": "z"}
    found = []
    for column in COLUMNS:
        found += filter_cells(column, preset, GAUSSIANS_PX)
        found += [Cell(column, method, preset) for method in METHODS]
        found.append(
            Cell(column, "gan2gan", preset, settings=from_z, label="gan2gan, started from Z")
        )
    return found


def task(data: Path, cell: Cell) -> Task:
    """Trained on the noisy test files themselves, scored against their averages."""
    folder, noisy_side, clean_side, beginning = COLUMNS[cell.column]
    raw = read_planes(data / "fluo" / folder / noisy_side, 1)
    averaged = read_planes(data / "fluo" / folder / clean_side, 1)
    noisy, clean, test = [], [], []
    for name, image in raw.items():
        if not name.startswith(beginning):
            continue
        truth = averaged[name]
        if cell.column == SCALED_APART:
            truth = on_its_scale(truth, image)
        noisy.append(image.astype(np.uint8))
        clean.append(truth.astype(np.float32))
        test.append(Scored(name, noisy[-1], truth))
    return Task(noisy=noisy, clean=clean, test=test)


def on_its_scale(averaged: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """The averaged image times a gain plus an offset, nearest to the noisy one in the mean square."""
    gain, offset = np.polyfit(averaged.ravel(), noisy.ravel(), 1)
    return np.asarray(gain * averaged + offset)


EXPERIMENT = Experiment(
    name="wf",
    title="Wide-field fluorescence, one frame",
    statement="PSNR in dB / SSIM, mean over files; data range 255, both sides clipped to it; 8-bit "
    "files; in W2S the averaged image is brought to the scale of the noisy one by gain and offset "
    "(least squares) before scoring; trained on the noisy test files themselves (n2c on their pairs: "
    "an upper bound that has seen the answers); preset cpu: 5 minutes of training a cell",
    cells=cells,
    task=task,
    after={"GAN2GAN Figure 4": "", "GAN2GAN Figure 6": "started from Z"},
    published={"gan2gan": {"FMD wide-field": "32.73"}},
    cpu_minutes=5.0,
)
