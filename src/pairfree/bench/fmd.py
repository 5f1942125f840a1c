"""Real fluorescence noise (FMD, Zhang et al., CVPR 2019): trained on the noisy files themselves, scored against 50-frame averages.

The files are three frames of each scene, which n2n learns from. Methods that take clean images of other scenes have a column of their own:
trained and tested on the noisy frames of every other scene, beside the averages of the rest, and n2c on the pairs of the rest. Of
wide-field scenes there are three, too few to divide.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pairfree.bench.base import (
    Cell,
    Experiment,
    Scored,
    Task,
    filter_cells,
    later_noise2void,
    read_planes,
    trained,
)

COLUMNS = ("confocal + two-photon MICE", "wide-field")
METHODS = ("n2v", "n2s", "nb2nb", "b2u", "cvf-sid", "iddp", "gan2gan", "n2n", "n2c")
GAUSSIANS_PX = (0.7, 1.0, 1.3, 1.6, 2.0)
HALF = f"{COLUMNS[0]}, half of the scenes"
OTHER_SCENES = ("iddp", "gan2gan", "cyclegan", "uidnet", "iscl", "gcbd", "dncnn-b", "n2c")


def cells(preset: str) -> list[Cell]:
    found = []
    for column in (*COLUMNS, HALF):
        found += filter_cells(column, preset, GAUSSIANS_PX)
        found.append(Cell(column, "bm3d", preset, settings={"stabilise": True}, label="vst + bm3d"))
    for column in COLUMNS:
        found += [Cell(column, method, preset) for method in METHODS]
        found += later_noise2void(column, preset)
    return found + [trained(HALF, method, preset) for method in OTHER_SCENES]


def belongs(name: str, column: str) -> bool:
    """IDDP's Table 3 leaves out wide-field (correlated noise) and two-photon BPAE (brightness not registered)."""
    return (
        name.startswith("WideField")
        if column == "wide-field"
        else name.startswith(("Confocal", "TwoPhoton_MICE"))
    )


def task(data: Path, cell: Cell) -> Task:
    raw, truth = (read_planes(data / "fluo" / "fmd" / side, 1) for side in ("raw", "gt"))
    scenes: dict[str, list[str]] = {}
    for name in raw:
        if belongs(name, cell.column):
            scenes.setdefault(name.rpartition("_")[0], []).append(name)
    ours, others = list(scenes.values()), []
    if cell.column == HALF:
        ours, others = ours[::2], ours[1::2]
    test = [name for frames in ours for name in frames]
    seen = others if others and cell.method == "n2c" else ours
    learned = [name for frames in seen for name in frames]
    noisy, clean = (
        {name: image.astype(np.uint8) for name, image in side.items()} for side in (raw, truth)
    )
    return Task(
        noisy=[noisy[name] for name in learned],
        clean=[clean[name] for name in learned],
        second_noisy=[noisy[name] for frames in seen for name in (*frames[1:], frames[0])]
        if cell.method == "n2n"
        else [],
        unpaired=[clean[frames[0]] for frames in others],
        test=[Scored(name, noisy[name], truth[name], name.split("_")[0]) for name in test],
    )


EXPERIMENT = Experiment(
    name="fmd",
    title="FMD, real fluorescence noise, one frame",
    statement="PSNR in dB / SSIM, mean over files; data range 255, both sides clipped to it; 8-bit files, three frames of each scene; "
    "trained on the noisy test files themselves (n2n on pairs of frames; n2c on their averages: an upper bound that has seen the answers); "
    "half of the scenes: tested on every other scene, the averages of the rest are the clean images (n2c on the pairs of the rest: it has "
    "not seen the answers)",
    cells=cells,
    task=task,
    published={
        row: {COLUMNS[0]: f"{text} (5 levels)", HALF: ""}
        for row, text in {
            "bm3d, estimated sigma": "35.43 / 0.932",
            "nb2nb": "37.52 / 0.944",
            "b2u": "37.60 / 0.946",
            "iddp": "37.81 / 0.951",
            "n2n": "38.01 / 0.953",
            "n2c": "38.15 / 0.955",
        }.items()
    },
    after={"IDDP Table 3": "^confocal[^,]*/"},
)
