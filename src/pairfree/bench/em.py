"""Electron micrographs with film and charge noise, unpaired: ISCL's Table III on other micrographs.

In 4-fold cross-validation. Table I (the ablation) and Figure 7 (convergence) on one fold of it.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pairfree.bench.base import (
    Cell,
    Experiment,
    Scored,
    Task,
    filter_cells,
    make_noisy,
    noise_alone,
    read_planes,
    to_8_bit,
)
from pairfree.methods import PRESETS, iscl_short

FOLDS = 4
CASES = {"film": "isbi2012", "charge": "vnc_sstem"}
"""Noise and the micrographs it is put on: two specimens, as in the paper's cases 2 and 1."""
BLANK = {"film": 255.0, "charge": 128.0}
"""Grey levels without a specimen: an empty plate for film, a mid-grey block for charge."""
GAUSSIANS_PX = (1.0, 2.0, 4.0)
METHODS = ("n2v", "n2s", "cyclegan", "uidnet", "quan", "iscl", "n2c")
SEEDED = {("film, fold 0", "iscl"): 3}
SWITCHES: dict[str, dict[str, Any]] = {
    "(A)": {"extract": False, "bypass": False, "boost": False, "noise_consistency": False},
    "(A)+(B)": {"bypass": False, "boost": False, "noise_consistency": False},
    "(A)+(B)+(C)": {"boost": False, "noise_consistency": False},
    "(A)+(B)+(C)+(D)": {"noise_consistency": False},
    "(A)+(B)+(C)+(D)+(E)": {},
}
"""The rows of Table I.

(A) the cycle alone, (B) the extractor, (C) bypass, (D) boosting, (E) noise consistency."""
PASSES_STEPS = 800
TURN = 2
"""Neighbouring sections that go to the same half of the training images."""


def cells(preset: str) -> list[Cell]:
    """Table III: every row on each fold of both cases."""
    dncnn = {"net": "dncnn"}
    found = []
    for column in [f"{case}, fold {fold}" for case in CASES for fold in range(FOLDS)]:
        found += filter_cells(column, preset, GAUSSIANS_PX)
        for method in METHODS:
            for seed in range(SEEDED.get((column, method), 1)):
                found.append(Cell(column, method, preset, seed))
        found.append(Cell(column, "n2c", preset, settings=dncnn, label="n2c, DnCNN"))
    return found


def from_random_weights(preset: str) -> dict[str, Any]:
    """The settings that make ISCL's preset begin as the paper does; none for a preset that does."""
    if preset != "cpu":
        return {}
    short = asdict(PRESETS["iscl"]["cpu"])
    scratch = asdict(iscl_short.ShortISCLConfig(**vars(iscl_short.SCRATCH)))
    return {name: value for name, value in scratch.items() if value != short[name]}


def ablation_cells(preset: str) -> list[Cell]:
    """Table I; for the short preset also its start, and the price of shared forward passes.

    The latter at an equal number of steps.
    """
    scratch = from_random_weights(preset)
    whole = Cell("film, fold 0", "iscl", preset)
    rows = []
    for row, switches in SWITCHES.items():
        rows.append(replace(whole, settings=scratch | switches, label=row))
    if preset != "cpu":
        return rows
    rows.append(replace(whole, settings={"start": 1.0}, label="the start alone"))
    rows.append(replace(whole, label="the start and Algorithm 1"))
    for share, passes in ((True, "shared passes"), (False, "separate passes")):
        settings = scratch | {"share_passes": share, "minutes": 0.0, "steps": PASSES_STEPS}
        label = f"{passes}, {PASSES_STEPS} steps"
        for seed in range(3):
            rows.append(replace(whole, seed=seed, settings=settings, label=label))
    return rows


def convergence_cells(preset: str) -> list[Cell]:
    """Figure 7; for the short preset also with its start."""
    alone = {"gamma": 1.0}
    scratch = from_random_weights(preset) | alone
    whole = Cell("film, fold 0", "iscl", preset)
    rows = [
        Cell("film, fold 0", "cyclegan", preset, label="cyclegan"),
        replace(whole, settings=scratch, label="iscl, F(x) alone"),
    ]
    if preset == "cpu":
        rows.append(replace(whole, settings=alone, label="iscl with its start, F(x) alone"))
    return rows


def split(count: int, fold: int) -> tuple[list[int], list[int], list[int]]:
    """Indices of the noisy and the clean half of the training images, and of the test images.

    The files are sections of one block. The test images are a run of neighbours. The two halves take turns of
    ``TURN`` sections: micrographs change along a block (from section 15 on those of ISBI 2012 are twice as
    grainy), and a clean half of another kind would be a wrong target.
    """
    bounds = [round(count * k / FOLDS) for k in range(FOLDS + 1)]
    test = list(range(bounds[fold], bounds[fold + 1]))
    rest = [index for index in range(count) if index not in test]
    halves: tuple[list[int], list[int]] = ([], [])
    for place, index in enumerate(rest):
        halves[place // TURN % 2].append(index)
    return *halves, test


def task(data: Path, cell: Cell) -> Task:
    """One half of a fold's training images noisy, the other clean."""
    case, _, fold = cell.column.partition(", fold ")
    clean = read_planes(data / "em" / CASES[case], 1)
    stored = to_8_bit(clean)
    noisy = make_noisy(clean, case, "em", clip=True)
    names = sorted(clean)
    parts = split(len(names), int(fold))
    ours, theirs, test = ([names[index] for index in part] for part in parts)
    blank = {}
    if cell.method == "quan":
        shape = clean[names[0]].shape
        blank = {f"blank {index}": shape for index in range(len(ours))}
    return Task(
        noisy=[noisy[name] for name in ours],
        clean=[stored[name] for name in ours],
        unpaired=[stored[name] for name in theirs],
        noise_images=noise_alone(blank, BLANK[case], case, clip=True),
        test=[Scored(name, noisy[name], clean[name]) for name in test],
    )


PUBLISHED = {
    "iscl": {"film": "27.06 / 0.8915", "charge": "27.12 / 0.9054"},
    "n2c, DnCNN": {"film": "27.55 / 0.8964", "charge": "28.27 / 0.9172"},
    "uidnet": {"film": "21.34 / 0.7826", "charge": "23.11 / 0.8592"},
    "quan": {"film": "23.44 / 0.8288", "charge": "22.32 / 0.8785"},
    "n2v": {"film": "12.86 / 0.6860", "charge": "18.06 / 0.8286"},
    "n2s": {"film": "13.47 / 0.7942", "charge": "18.75 / 0.8680"},
    "bm3d, estimated sigma": {"film": "12.85 / 0.6097", "charge": "17.85 / 0.7873"},
}
"""ISCL, Table III: mean over its four folds, on its own micrographs and measured noise."""
TABLE_I = ("22.33 / 0.7561", "22.10 / 0.7954", "29.43 / 0.8811", "30.13 / 0.8819", "30.61 / 0.8849")
PUBLISHED_ABLATION = {
    row: {"film": f"{psnr} (abdomen CT)"} for row, psnr in zip(SWITCHES, TABLE_I, strict=True)
}
STATEMENT = (
    "PSNR in dB / SSIM, mean over the test images of the fold; data range 255, both sides clipped to it; "
    "noise drawn once, 8-bit; unpaired methods see one half of the training images noisy and the other "
    "half clean, n2c the noisy half with its partners"
)
EXPERIMENT = Experiment(
    name="em",
    title="Film and charge noise on electron micrographs, unpaired",
    statement=STATEMENT,
    cells=cells,
    task=task,
    published=PUBLISHED,
    after={"ISCL Table III": "", "ISCL Figure 5": "/(noisy|n2v|quan|uidnet|iscl|n2c)"},
)
ABLATION = Experiment(
    name="ablation",
    title="ISCL's losses one by one, film noise",
    statement=STATEMENT + "; row (A) scores F(x), the others the ensemble of eq. (13)",
    cells=ablation_cells,
    task=task,
    published=PUBLISHED_ABLATION,
    after={"ISCL Table I": ""},
)
CONVERGENCE = Experiment(
    name="convergence",
    title="PSNR of F(x) on the way, film noise",
    statement=STATEMENT
    + "; F(x) alone, with averaged weights and Lookahead for both; scored nine times on the way",
    cells=convergence_cells,
    task=task,
    after={"ISCL Figure 7": ""},
    probes=9,
)
