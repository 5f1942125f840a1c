"""Real fluorescence noise (FMD, Zhang et al., CVPR 2019), scored against 50-frame averages.

Trained on the noisy files themselves. They are three frames of each scene, which n2n learns from. Methods
that take clean images of other scenes have a column of their own: trained and tested on the noisy frames of
every other scene, beside the averages of the rest, and n2c on the pairs of the rest. Of wide-field scenes
there are three, too few to divide.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pairfree.bench.base import (
    Cell,
    Experiment,
    Scored,
    Task,
    filter_cells,
    later_noise2void,
    read_planes,
    to_8_bit,
    trained,
)

COLUMNS = ("confocal + two-photon MICE", "wide-field")
METHODS = ("n2v", "n2s", "nb2nb", "b2u", "cvf-sid", "iddp", "gan2gan", "n2n", "n2c")
GAUSSIANS_PX = (0.7, 1.0, 1.3, 1.6, 2.0)
HALF = f"{COLUMNS[0]}, half of the scenes"
SEEDS = 3
OTHER_SCENES = ("iddp", "gan2gan", "cyclegan", "uidnet", "iscl", "gcbd", "dncnn-b", "n2c")


def cells(preset: str) -> list[Cell]:
    """Filters on every column, methods where they have what they need."""
    stabilise = {"stabilise": True}
    found = []
    for column in (*COLUMNS, HALF):
        found += filter_cells(column, preset, GAUSSIANS_PX)
        found.append(Cell(column, "bm3d", preset, settings=stabilise, label="vst + bm3d"))
    for column in COLUMNS:
        found += [Cell(column, method, preset) for method in METHODS]
        found += later_noise2void(column, preset)
    found += [trained(HALF, method, preset) for method in OTHER_SCENES]
    if preset == "cpu":
        begun = Cell(HALF, "iscl", preset, start="shipped", label="iscl, from the shipped start")
        found += [replace(begun, seed=seed) for seed in range(SEEDS)]
    return found


def belongs(name: str, column: str) -> bool:
    """Whether a column holds the file of this name.

    IDDP's Table 3 leaves out wide-field (correlated noise) and two-photon BPAE (brightness not registered).
    """
    if column == "wide-field":
        return name.startswith("WideField")
    return name.startswith(("Confocal", "TwoPhoton_MICE"))


def task(data: Path, cell: Cell) -> Task:
    """Trained on the noisy files themselves; n2c of divided scenes on the pairs of the others."""
    raw = read_planes(data / "fluo" / "fmd" / "raw", 1)
    truth = read_planes(data / "fluo" / "fmd" / "gt", 1)
    tested = scenes_of(name for name in raw if belongs(name, cell.column))
    others: list[list[str]] = []
    if cell.column == HALF:
        tested, others = tested[::2], tested[1::2]
    learned = others if others and cell.method == "n2c" else tested
    noisy, clean = to_8_bit(raw), to_8_bit(truth)
    partners = []
    if cell.method == "n2n":
        for frames in learned:
            partners += [*frames[1:], frames[0]]
    test = []
    for name in itertools.chain(*tested):
        specimen = name.split("_")[0]
        test.append(Scored(name, noisy[name], truth[name], specimen))
    return Task(
        noisy=[noisy[name] for name in itertools.chain(*learned)],
        clean=[clean[name] for name in itertools.chain(*learned)],
        second_noisy=[noisy[name] for name in partners],
        unpaired=[clean[frames[0]] for frames in others],
        test=test,
    )


def scenes_of(names: Iterable[str]) -> list[list[str]]:
    """The names of files, those of one scene together."""
    scenes: dict[str, list[str]] = {}
    for name in names:
        scene = name.rpartition("_")[0]
        scenes.setdefault(scene, []).append(name)
    return list(scenes.values())


EXPERIMENT = Experiment(
    name="fmd",
    title="FMD, real fluorescence noise, one frame",
    statement="PSNR in dB / SSIM, mean over files; data range 255, both sides clipped to it; "
    "8-bit files, three frames of each scene; trained on the noisy test files themselves (n2n on "
    "pairs of frames; n2c on their averages: an upper bound that has seen the answers); half of the "
    "scenes: tested on every other scene, the averages of the rest are the clean images (n2c on the "
    "pairs of the rest: it has not seen the answers)",
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
