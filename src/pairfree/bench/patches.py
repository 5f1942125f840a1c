"""How true to the noise the patches of smooth areas are, under rules (3) and (4): GAN2GAN's Figure 2.

On BSD400 at full size. And how true to the noise is what the short preset makes from them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pairfree.bench.base import Cell, Experiment, Planes, Task, make_noisy, read_planes
from pairfree.evidence.residual import autocorrelation
from pairfree.measure.copula import TABLE_END, Copula, autocovariance, fit_copula
from pairfree.measure.noise_patches import NoisePatches
from pairfree.measure.smooth_areas import extract_noise
from pairfree.methods.parts.measured_noise import COPULA_PATCHES
from pairfree.nets.gan2gan import CopulaNoise
from pairfree.sampling import spaced_indices

TRUE_STD = {
    "gaussian:sigma=25": 25.0,
    "gaussian:sigma=50": 50.0,
    "correlated:sigma=25": 25.0 * (0.5 + (1 - 0.5**0.5) ** 2) ** 0.5,
}
"""Noise and its marginal deviation, grey levels."""
RULES = {"rule (3)": "gcbd", "rule (4)": "wavelet"}
MADE, MADE_PX, MADE_COUNT = "made by the copula", 512, 16
"""Row of the generator; side and number of the fields that it is judged by."""
FOLDERS = ("bsd300/train", "bsds500_test")


def cells(preset: str) -> list[Cell]:
    """Of each noise both rules, and the generator of the short preset."""
    generator = {"rule": "wavelet", "most": COPULA_PATCHES}
    found = []
    for column in TRUE_STD:
        for row, rule in RULES.items():
            found.append(Cell(column, "noisy", preset, settings={"rule": rule}, label=row))
        found.append(Cell(column, "noisy", preset, settings=generator, label=MADE))
    return found


def task(data: Path, cell: Cell) -> Task:
    """The noisy training images; nothing is denoised."""
    noisy: Planes = {}
    for folder in FOLDERS:
        clean = read_planes(data / "natural" / folder, 1)
        noisy |= make_noisy(clean, cell.column, f"patches/{folder}")
    return Task(noisy=list(noisy.values()), test=[])


def statistics(task: Task, cell: Cell) -> Mapping[str, float]:
    """How true the patches are, or what the generator makes from them; the seconds that it took."""
    started = time.perf_counter()
    rule = str(cell.settings["rule"])
    if cell.row == MADE:
        most = int(cell.settings["most"])
        patches = extract_noise(task.noisy, most=most, rule=rule)
        numbers = likeness(fit_copula(patches.pixels), cell.column)
        seconds = time.perf_counter() - started
    else:
        patches = extract_noise(task.noisy, rule=rule)
        seconds = time.perf_counter() - started
        numbers = summary(patches, TRUE_STD[cell.column])
    return numbers | {"seconds": seconds, "images": float(len(task.noisy))}


def likeness(copula: Copula, column: str) -> dict[str, float]:
    """Deviation of the noise that is made beside the truth, and how wrong its correlations are.

    The largest error of its autocorrelation at lags 1 to 4 px, along either axis.
    """
    generator = CopulaNoise(copula.filters, copula.table, TABLE_END)
    random = torch.Generator().manual_seed(0)
    fields = generator.sample((MADE_COUNT, MADE_PX, MADE_PX), random)
    made = fields[:, 0].double().numpy()
    true = _true_noise(column)
    errors = []
    for axis in (1, 2):
        found, wanted = autocorrelation(made, axis), autocorrelation(true, axis)
        errors.append(np.subtract(found, wanted))
    return {
        "true std": TRUE_STD[column],
        "std made": float(made.std()),
        "largest error of correlations": float(np.max(np.abs(errors))),
    }


def _true_noise(column: str) -> NDArray[np.float64]:
    """As many fields of the noise itself as the generator makes."""
    blank = {str(number): np.zeros((1, MADE_PX, MADE_PX)) for number in range(MADE_COUNT)}
    noisy = make_noisy(blank, column, "the noise alone")
    return np.concatenate(list(noisy.values())).astype(np.float64)


def summary(found: NoisePatches, true_std: float) -> dict[str, float]:
    """Deviations of the patches beside the truth, and what is left of structure.

    Parameters
    ----------
    found
        The patches.
    true_std
        Deviation of the noise itself, grey levels.

    Returns
    -------
    dict
        Also the spread of the deviations, the correlation of neighbours, and the threshold of the rule.
    """
    low, middle, high = np.quantile(found.deviations, [0.05, 0.5, 0.95])
    some = spaced_indices(len(found.pixels), 2000)
    patches = found.pixels[some].astype(np.float64)
    covariance = autocovariance(patches, 1)[0, 0]
    return {
        "patches": float(len(found.pixels)),
        "true std": true_std,
        "median std": float(middle),
        "5th percentile": float(low),
        "95th percentile": float(high),
        "lag-1 correlation": float(covariance[1, 2] / covariance[1, 1]),
        "lambda": found.threshold,
    }


EXPERIMENT = Experiment(
    name="patches",
    title="Noise patches of smooth areas, BSD400 at full size",
    statement="standard deviation of the chosen patches of 96 x 96 px, grey levels of 255; noise drawn "
    "once, neither clipped nor rounded",
    cells=cells,
    task=task,
    after={"GAN2GAN Figure 2": ""},
    statistics=statistics,
)
