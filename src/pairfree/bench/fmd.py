"""Real fluorescence noise (FMD, Zhang et al., CVPR 2019): trained on the noisy files themselves, scored against 50-frame averages."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pairfree.bench.base import Cell, Experiment, Scored, Task, filter_cells, read_planes

COLUMNS = ("confocal + two-photon MICE", "wide-field")
METHODS = ("n2v", "n2s", "nb2nb", "b2u", "cvf-sid", "iddp", "gan2gan", "n2c")
GAUSSIANS_PX = (0.7, 1.0, 1.3, 1.6, 2.0)


def cells(preset: str) -> list[Cell]:
    found = []
    for column in COLUMNS:
        found += filter_cells(column, preset, GAUSSIANS_PX)
        found.append(Cell(column, "bm3d", preset, settings={"stabilise": True}, label="vst + bm3d"))
        found += [Cell(column, method, preset) for method in METHODS]
    return found


def belongs(name: str, column: str) -> bool:
    """IDDP's Table 3 leaves out wide-field (correlated noise) and two-photon BPAE (brightness not registered)."""
    return name.startswith("WideField") if column == "wide-field" else name.startswith(("Confocal", "TwoPhoton_MICE"))


def task(data: Path, cell: Cell) -> Task:
    raw, truth = (read_planes(data / "fluo" / "fmd" / side, 1) for side in ("raw", "gt"))
    names = [name for name in raw if belongs(name, cell.column)]
    noisy = {name: raw[name].astype(np.uint8) for name in names}
    return Task(
        noisy=[noisy[name] for name in names],
        clean=[truth[name].astype(np.uint8) for name in names],
        test=[Scored(name, noisy[name], truth[name], name.split("_")[0]) for name in names],
    )


EXPERIMENT = Experiment(
    name="fmd",
    title="FMD, real fluorescence noise, one frame",
    statement="PSNR in dB / SSIM, mean over files; data range 255, both sides clipped to it; 8-bit files; trained on the noisy test files "
    "themselves (n2c on their pairs: an upper bound that has seen the answers)",
    cells=cells,
    task=task,
    published={
        row: {COLUMNS[0]: f"{text} (5 levels)"}
        for row, text in {
            "bm3d, estimated sigma": "35.43 / 0.932",
            "nb2nb": "37.52 / 0.944",
            "b2u": "37.60 / 0.946",
            "iddp": "37.81 / 0.951",
            "n2c": "38.15 / 0.955",
        }.items()
    },
    after={"IDDP Table 3": "^confocal"},
)
