"""Real fluorescence noise (FMD, Zhang et al., CVPR 2019): trained on the noisy files themselves, scored against 50-frame averages.

Of every specimen there are three fields of view. Methods that take clean images of other scenes have columns of their own: trained and
tested on the noisy files of the first field, beside the averages of the other two, and n2c on the pairs of those.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pairfree.bench.base import Cell, Experiment, Scored, Task, filter_cells, later_noise2void, read_planes, trained

COLUMNS = ("confocal + two-photon MICE", "wide-field")
METHODS = ("n2v", "n2s", "nb2nb", "b2u", "cvf-sid", "iddp", "gan2gan", "n2c")
GAUSSIANS_PX = (0.7, 1.0, 1.3, 1.6, 2.0)
FIRST_FIELD = ", field 1"
OTHER_SCENES = ("iddp", "gan2gan", "cyclegan", "uidnet", "iscl", "gcbd", "dncnn-b", "n2c")
GAUSSIANS_OF_FIELDS_PX = (1.0, 2.0, 3.0)


def cells(preset: str) -> list[Cell]:
    found = []
    for column in COLUMNS:
        found += filter_cells(column, preset, GAUSSIANS_PX)
        found.append(Cell(column, "bm3d", preset, settings={"stabilise": True}, label="vst + bm3d"))
        found += [Cell(column, method, preset) for method in METHODS]
        found += later_noise2void(column, preset)
        found += filter_cells(column + FIRST_FIELD, preset, GAUSSIANS_OF_FIELDS_PX, bm3d=False)
        found += [trained(column + FIRST_FIELD, method, preset) for method in OTHER_SCENES]
    return found


def belongs(name: str, column: str) -> bool:
    """IDDP's Table 3 leaves out wide-field (correlated noise) and two-photon BPAE (brightness not registered)."""
    return name.startswith("WideField") if column.startswith("wide-field") else name.startswith(("Confocal", "TwoPhoton_MICE"))


def task(data: Path, cell: Cell) -> Task:
    raw, truth = (read_planes(data / "fluo" / "fmd" / side, 1) for side in ("raw", "gt"))
    names = [name for name in raw if belongs(name, cell.column)]
    first, others = ([name for name in names if name.endswith("_1") is wanted] for wanted in (True, False))
    seen, test, unpaired = (names, names, []) if not cell.column.endswith(FIRST_FIELD) else (first, first, others)
    if unpaired and cell.method == "n2c":
        seen = others
    noisy, clean = ({name: side[name].astype(np.uint8) for name in names} for side in (raw, truth))
    return Task(
        noisy=[noisy[name] for name in seen],
        clean=[clean[name] for name in seen],
        unpaired=[clean[name] for name in unpaired],
        test=[Scored(name, noisy[name], truth[name], name.split("_")[0]) for name in test],
    )


EXPERIMENT = Experiment(
    name="fmd",
    title="FMD, real fluorescence noise, one frame",
    statement="PSNR in dB / SSIM, mean over files; data range 255, both sides clipped to it; 8-bit files; trained on the noisy test files "
    "themselves (n2c on their pairs: an upper bound that has seen the answers); columns of field 1: beside the averages of the other two "
    "fields of each specimen where a method takes clean images (n2c on the pairs of those: it has not seen the answers)",
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
    no_cell={"n2n": {COLUMNS[0]: "38.01 / 0.953 (5 levels)"}},
    after={"IDDP Table 3": "^confocal[^,]*/"},
)
