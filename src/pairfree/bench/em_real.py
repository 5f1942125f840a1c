"""Real noise of electron microscopes, with clean images of other scenes.

There is no ground truth, so evidence stands in the place of scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pairfree.bench.base import (
    Cell,
    Experiment,
    Images,
    Scored,
    Task,
    filter_cells,
    read_planes,
    to_8_bit,
)
from pairfree.evidence.noref import pool, residual_evidence
from pairfree.measure.level import estimate_sigma

COLUMNS = {
    "nanoparticles": ("emps/noisy", "emps/clean"),
    "charging": ("sem_charging_yeast", "vnc_sstem"),
}
"""Noisy folder and clean folder.

Nanoparticles: TEM and SEM figures, grain. Charging: one SEM image of yeast with a dark halo around a charged
particle; the clean set shows stained neurons, so it is as far from the noisy one as a clean set can be and
still be tissue."""
CHARGED = "SEM_yeast"
GAUSSIANS_PX = (1.0, 2.0)
METHODS = ("n2v", "iddp", "cyclegan", "uidnet", "iscl")
REACH_PX = 150
"""How far from the charged particle its halo is looked at, along the scan lines."""


def cells(preset: str) -> list[Cell]:
    """Filters and methods on both kinds of noise."""
    found = []
    for column in COLUMNS:
        found += filter_cells(column, preset, GAUSSIANS_PX, bm3d=False)
        found += [Cell(column, method, preset) for method in METHODS]
    return found


def task(data: Path, cell: Cell) -> Task:
    """Trained on the noisy images that are tested, beside clean ones of other scenes."""
    noisy_folder, clean_folder = COLUMNS[cell.column]
    noisy = to_8_bit(read_planes(data / "em" / noisy_folder, 1))
    clean = to_8_bit(read_planes(data / "em" / clean_folder, 1))
    if cell.column == "charging":
        noisy = {CHARGED: noisy[CHARGED]}
    return Task(
        noisy=list(noisy.values()),
        unpaired=list(clean.values()),
        test=[Scored(name, image, None) for name, image in noisy.items()],
    )


def evidence(test: Sequence[Scored], outputs: Images) -> dict[str, float]:
    """Pooled over the images; grey levels of 255.

    Of an ideal denoiser and white noise: no autocorrelation, no site of either kind.
    """
    each = []
    for image, output in zip(test, outputs, strict=True):
        noisy = image.noisy[0].astype(np.float64)
        each.append(residual_evidence(noisy, output[0]))
    found = pool(each)
    levels = [estimate_sigma(output[0]) for output in outputs]
    numbers = {
        "noise left, sigma": float(np.mean(levels)),
        "removed, std": found.std,
        "removed, mean": found.mean,
        "its lag-1 correlation along x": found.autocorr_x[0],
        "along y": found.autocorr_y[0],
        "with the output": found.corr_output,
        "unsupported sites in 1000": 1000.0 * found.unsupported_sites / found.sites,
        "removed sites in 1000": 1000.0 * found.removed_sites / found.sites,
    }
    if [image.name for image in test] == [CHARGED]:
        numbers["halo, grey levels"] = halo_depth(outputs[0][0])
    return numbers


PARTICLE = (slice(154, 258), slice(954, 1050))
"""Rows and columns of the charged particle, from the label that comes with the image."""


def halo_depth(image: np.ndarray) -> float:
    """How much darker (H, W) is beside the charged particle than above that place.

    Medians, grey levels; 0 without a halo.
    """
    rows, columns = PARTICLE
    left = slice(columns.start - REACH_PX, columns.start - 10)
    right = slice(columns.stop + 10, columns.stop + REACH_PX)
    height = rows.stop - rows.start
    above = slice(max(0, rows.start - height), rows.start - 10)
    beside = [image[rows, left].ravel(), image[rows, right].ravel()]
    around = [image[above, left].ravel(), image[above, right].ravel()]
    halo = np.median(np.concatenate(beside))
    return float(np.median(np.concatenate(around)) - halo)


EXPERIMENT = Experiment(
    name="em-real",
    title="Real electron micrographs, unpaired, no ground truth",
    statement="trained on the noisy images themselves and, where the method takes them, clean images of "
    "other scenes; 8-bit grey levels; evidence without ground truth, pooled over the noisy images; a "
    "site is 8 x 8 px",
    cells=cells,
    task=task,
    after={"ISCL Figure 6": ""},
    evidence=evidence,
)
