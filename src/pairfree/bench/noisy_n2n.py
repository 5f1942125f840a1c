"""How far rounds of Noisy N2N carry a noisy estimate: GAN2GAN's Figure 1, BSD400 -> BSD68, with the noise itself at hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from pairfree.bench.base import Cell, Experiment, Scored, Task, make_noisy, noise_alone, read_planes

NOISE = "gaussian:sigma=25"
CLEAN_ROW = "clean images (upper bound)"
ESTIMATES = {CLEAN_ROW: 0.0} | {
    f"estimates of sigma_0 = {sigma:g} ({20 * math.log10(255 / sigma):.2f} dB)": sigma
    for sigma in (5.0, 10.0, 15.0, 20.0, 25.0)
}
"""Row and the deviation of the white Gaussian noise on the first estimates of the training images, grey levels."""


def cells(preset: str) -> list[Cell]:
    """A second round would begin from the network's own estimates, so that of the clean images is the only one."""
    return [
        Cell(NOISE, "noisy-n2n", preset, settings={} if sigma else {"iterations": 1}, label=row)
        for row, sigma in ESTIMATES.items()
    ]


def task(data: Path, cell: Cell) -> Task:
    train, test = (read_planes(data / "natural" / folder, 1) for folder in ("bsd400", "bsd68"))
    sigma = ESTIMATES[cell.row]
    estimates = (
        make_noisy(train, f"gaussian:sigma={sigma:g}", f"estimate {sigma:g}") if sigma else train
    )
    noisy_test = make_noisy(test, NOISE, "test")
    return Task(
        noisy=list(make_noisy(train, NOISE, "train").values()),
        second_noisy=[image.astype(np.float32) for image in estimates.values()],
        noise_images=noise_alone({name: image.shape for name, image in train.items()}, 0.0, NOISE),
        test=[Scored(name, noisy_test[name], test[name]) for name in test],
    )


EXPERIMENT = Experiment(
    name="noisy-n2n",
    title="Rounds of Noisy N2N from estimates of known quality, grey",
    statement="PSNR in dB / SSIM, mean over the 68 images of BSD68 with Gaussian noise of sigma 25; data range 255, both sides clipped to "
    "it; the estimates that training begins with are the training images with white Gaussian noise of sigma_0, drawn once; "
    "preset cpu: 5 minutes of training a cell",
    cells=cells,
    task=task,
    after={"GAN2GAN Figure 1": ""},
    cpu_minutes=5.0,
)
