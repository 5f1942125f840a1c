"""Reconstructed CT, noisy images only: a phantom at two doses, and the Mayo clinic's quarter dose.

After GAN2GAN's Figure 4b.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from pairfree.bench import ct
from pairfree.bench.base import Cell, Experiment, Images, Scored, Task, files_of, filter_cells

PHANTOM = {"phantom, dose 10 %": "dose_010", "phantom, dose 100 %": "dose_100"}
GAUSSIANS_PX = (0.5, 1.0, 2.0)
PHANTOM_GROUP = "phantom"
INSERTS_HU = (14, 7, 5, 3)
"""Contrasts of the phantom's inserts, discs of 3 to 10 mm."""
NEAR_PX = 31
"""Water is measured in squares of this side around their pixels."""
METHODS = ("n2v", "iddp", "gan2gan")


def cells(preset: str) -> list[Cell]:
    """Filters and methods on each column, supervision where there is a ground truth."""
    found = []
    for column in (*PHANTOM, ct.MAYO):
        found += filter_cells(column, preset, GAUSSIANS_PX)
        found += [Cell(column, method, preset) for method in METHODS]
        if column in PHANTOM:
            found.append(Cell(column, "n2c", preset))
    return found


def task(data: Path, cell: Cell) -> Task:
    """Trained on the noisy test slices themselves; n2c on their pairs with the ground truth."""
    if cell.column == ct.MAYO:
        test = ct.mayo(data)
    else:
        test = _phantom(data, PHANTOM[cell.column])
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
    stored = np.fromfile(whole, "<u2").reshape(1, 256, 256)
    truth = stored.astype(np.float64) - ct.PHANTOM_OFFSET
    low, width = ct.ABDOMEN_HU
    found = []
    for path in files_of(folder / dose / "signal_present", "*.raw"):
        draw = ct.phantom_draw(path)
        found.append(Scored(path.stem, draw, truth, PHANTOM_GROUP, low, width))
    return found


def inserts(test: Sequence[Scored], outputs: Images) -> dict[str, float]:
    """What the phantom's faint inserts still measure.

    The mean over each one's pixels and all draws, less that of the water around.
    """
    first = test[0]
    if first.group != PHANTOM_GROUP or first.clean is None:
        return {}
    truth = first.clean[0]
    mean = np.mean(outputs, axis=0)[0]
    faint = np.where(np.abs(truth) <= INSERTS_HU[0], truth, 0.0)
    greatest_around = ndimage.maximum_filter(faint, NEAR_PX)
    near = np.isin(np.rint(greatest_around), INSERTS_HU)
    water = float(mean[near & (truth == 0)].mean())
    numbers = {}
    for contrast in INSERTS_HU:
        level = float(mean[truth == contrast].mean())
        numbers[f"insert of {contrast} HU, HU"] = round(level - water, 2)
    return numbers


EXPERIMENT = Experiment(
    name="ct-dose",
    title="Reconstructed CT, noisy images only",
    statement="PSNR in dB / SSIM, mean over slices; [-160, 240] HU, both sides clipped to the window; the "
    "phantom against the object itself, Mayo against its full dose; trained on the noisy test slices "
    "themselves (n2c on their pairs: an upper bound that has seen the answers); columns of inserts: "
    "what the phantom's faint discs measure, mean over the draws; preset cpu: 5 minutes of training a "
    "cell",
    cells=cells,
    task=task,
    no_cell={"gan2gan": {"the paper's reconstructed CT, dose 25 %": "46.72"}},
    after={"GAN2GAN Figure 4": ""},
    evidence=inserts,
    cpu_minutes=5.0,
)
