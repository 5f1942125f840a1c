"""Reconstructed CT, noisy images only: a phantom at two doses, and the Mayo clinic's quarter dose (after GAN2GAN's Figure 4b)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from pairfree.bench import ct
from pairfree.bench.base import Cell, Experiment, Scored, Task, files_of, filter_cells

PHANTOM = {"phantom, dose 10 %": "dose_010", "phantom, dose 100 %": "dose_100"}
GAUSSIANS_PX = (0.5, 1.0, 2.0)
PHANTOM_GROUP = "phantom"
INSERTS_HU, NEAR_PX = (14, 7, 5, 3), 31
"""Contrasts of the phantom's inserts, discs of 3 to 10 mm; water is measured in squares of that side around their pixels."""
METHODS = ("n2v", "iddp", "gan2gan")


def cells(preset: str) -> list[Cell]:
    found = []
    for column in (*PHANTOM, ct.MAYO):
        found += filter_cells(column, preset, GAUSSIANS_PX)
        found += [Cell(column, method, preset) for method in METHODS]
        if column in PHANTOM:
            found.append(Cell(column, "n2c", preset))
    return found


def task(data: Path, cell: Cell) -> Task:
    """Trained on the noisy test slices themselves; n2c, on the phantom, on their pairs with the ground truth."""
    test = ct.mayo(data) if cell.column == ct.MAYO else _phantom(data, PHANTOM[cell.column])
    truths = [image.clean for image in test if image.clean is not None]
    return Task(
        noisy=[image.noisy for image in test],
        clean=[truth.astype(np.float32) for truth in truths],
        test=test,
    )


def _phantom(data: Path, dose: str) -> list[Scored]:
    """Ten draws with the signal, and the object that they are of; HU."""
    folder = data / "ct" / "lcd_phantom"
    (whole,) = files_of(folder, "ground_truth.raw")
    truth = np.fromfile(whole, "<u2").reshape(1, 256, 256).astype(np.float64) - ct.PHANTOM_OFFSET
    low, width = ct.ABDOMEN_HU
    draws = files_of(folder / dose / "signal_present", "*.raw")
    return [
        Scored(path.stem, ct.phantom_draw(path), truth, PHANTOM_GROUP, low, width) for path in draws
    ]


def inserts(test: Sequence[Scored], outputs: Sequence[np.ndarray]) -> dict[str, float]:
    """What the phantom's faint inserts still measure: mean over each one's pixels and all draws, less that of the water around."""
    first = test[0]
    if first.group != PHANTOM_GROUP or first.clean is None:
        return {}
    truth, mean = first.clean[0], np.mean(outputs, axis=0)[0]
    near = np.isin(
        np.rint(
            ndimage.maximum_filter(np.where(np.abs(truth) <= INSERTS_HU[0], truth, 0.0), NEAR_PX)
        ),
        INSERTS_HU,
    )
    water = float(mean[near & (truth == 0)].mean())
    return {
        f"insert of {contrast} HU, HU": round(float(mean[truth == contrast].mean()) - water, 2)
        for contrast in INSERTS_HU
    }


EXPERIMENT = Experiment(
    name="ct-dose",
    title="Reconstructed CT, noisy images only",
    statement="PSNR in dB / SSIM, mean over slices; [-160, 240] HU, both sides clipped to the window; the phantom against the object "
    "itself, Mayo against its full dose; trained on the noisy test slices themselves (n2c on their pairs: an upper bound that has seen the "
    "answers); columns of inserts: what the phantom's faint discs measure, mean over the draws; preset cpu: 5 minutes of training a cell",
    cells=cells,
    task=task,
    no_cell={"gan2gan": {"the paper's reconstructed CT, dose 25 %": "46.72"}},
    after={"GAN2GAN Figure 4": ""},
    evidence=inserts,
    cpu_minutes=5.0,
)
