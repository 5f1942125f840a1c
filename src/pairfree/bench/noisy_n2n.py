"""How far rounds of Noisy N2N carry a noisy estimate: GAN2GAN's Figure 1, BSD400 -> BSD68.

With the noise itself at hand.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from pairfree.bench.base import Cell, Experiment, Scored, Task, make_noisy, noise_alone, read_planes

NOISE = "gaussian:sigma=25"
CLEAN_ROW = "clean images (upper bound)"


def _rows() -> dict[str, float]:
    found = {CLEAN_ROW: 0.0}
    for sigma in (5.0, 10.0, 15.0, 20.0, 25.0):
        psnr_db = 20 * math.log10(255 / sigma)
        found[f"estimates of sigma_0 = {sigma:g} ({psnr_db:.2f} dB)"] = sigma
    return found


ESTIMATES = _rows()
"""Deviation of the white Gaussian noise on the first estimates of the training images, by row; grey levels.
"""


def cells(preset: str) -> list[Cell]:
    """From each kind of estimates; from the clean images one round alone.

    A second would begin from the network's own estimates.
    """
    found = []
    for row, sigma in ESTIMATES.items():
        settings = {} if sigma else {"iterations": 1}
        found.append(Cell(NOISE, "noisy-n2n", preset, settings=settings, label=row))
    return found


def task(data: Path, cell: Cell) -> Task:
    """BSD400 to train on, with estimates of the row's quality; BSD68 to test on."""
    train = read_planes(data / "natural" / "bsd400", 1)
    test = read_planes(data / "natural" / "bsd68", 1)
    estimates = train
    sigma = ESTIMATES[cell.row]
    if sigma:
        estimates = make_noisy(train, f"gaussian:sigma={sigma:g}", f"estimate {sigma:g}")
    noisy = make_noisy(train, NOISE, "train")
    noisy_test = make_noisy(test, NOISE, "test")
    shapes = {name: image.shape for name, image in train.items()}
    return Task(
        noisy=list(noisy.values()),
        second_noisy=[image.astype(np.float32) for image in estimates.values()],
        noise_images=noise_alone(shapes, 0.0, NOISE),
        test=[Scored(name, noisy_test[name], test[name]) for name in test],
    )


EXPERIMENT = Experiment(
    name="noisy-n2n",
    title="Rounds of Noisy N2N from estimates of known quality, grey",
    statement="PSNR in dB / SSIM, mean over the 68 images of BSD68 with Gaussian noise of sigma 25; "
    "data range 255, both sides clipped to it; the estimates that training begins with are the "
    "training images with white Gaussian noise of sigma_0, drawn once; preset cpu: 5 minutes of "
    "training a cell",
    cells=cells,
    task=task,
    after={"GAN2GAN Figure 1": ""},
    cpu_minutes=5.0,
)
