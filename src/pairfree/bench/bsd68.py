"""Grey natural images: BSD400 -> BSD68, the noises of GAN2GAN's Tables 2 and 3. Every number is for one noise, trained and tested alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pairfree.bench.base import Cell, Experiment, Scored, Task, add_noise, read_planes

SIGMAS = (15, 25, 30, 50)
COLUMNS = (
    *(f"gaussian:sigma={sigma}" for sigma in SIGMAS),
    "mixture-a:s=15",
    "mixture-a:s=25",
    "mixture-b:s=30",
    "mixture-b:s=50",
    "correlated:sigma=15",
    "correlated:sigma=25",
)
METHODS = ("n2v", "nb2nb", "iddp", "gan2gan", "n2n", "n2c")
SEEDED = {
    ("gaussian:sigma=25", "iddp"): 5,
    ("gaussian:sigma=25", "nb2nb"): 3,
    ("gaussian:sigma=25", "gan2gan"): 3,
    ("gaussian:sigma=25", "n2c"): 3,
}


def cells(preset: str) -> list[Cell]:
    found = []
    for column in COLUMNS:
        found.append(Cell(column, "noisy", preset))
        if column.startswith("gaussian"):
            found.append(Cell(column, "bm3d", preset, settings={"sigma": float(column.rpartition("=")[2])}, label="bm3d, true sigma"))
        found.append(Cell(column, "bm3d", preset, label="bm3d, estimated sigma"))
        for method in METHODS:
            found += [Cell(column, method, preset, seed) for seed in range(SEEDED.get((column, method), 1))]
    return found + _ablations(preset)


def _ablations(preset: str) -> list[Cell]:
    """IDDP with a thing changed. "the paper's eq. 11" is it without averages, leverage and alpha = 0: the row that "no stop-gradient" (the
    paper's Figure 7) is to be compared with, since gradients cannot reach an average. The blur rows vary what the paper does not state."""
    paper = {"turnovers": 0.0, "window": 0.0, "leverage": 0.0, "alpha": 0.001}
    changes: dict[str, dict[str, Any]] = {
        "no leverage": {"leverage": 0.0},
        "the paper's eq. 11": paper,
        "no stop-gradient": {**paper, "stop_gradient": False},
        **{f"alpha 0.001, blur {px} px": {"alpha": 0.001, "blur_px": px} for px in (3, 5, 7)},
    }
    return [Cell("gaussian:sigma=25", "iddp", preset, settings=change, label=f"iddp, {name}") for name, change in changes.items()]


def task(data: Path, cell: Cell) -> Task:
    train = read_planes(data / "natural" / "bsd400", 1)
    test = read_planes(data / "natural" / "bsd68", 1)
    noisy, noisy_test = add_noise(train, cell.column, "train"), add_noise(test, cell.column, "test")
    second = add_noise(train, cell.column, "second copy") if cell.method == "n2n" else {}
    return Task(
        noisy=list(noisy.values()),
        clean=[train[name].astype("float32") for name in noisy],
        second_noisy=list(second.values()),
        test=[Scored(name, noisy_test[name], test[name]) for name in test],
    )


EXPERIMENT = Experiment(
    name="bsd68",
    title="BSD400 -> BSD68, grey",
    statement="PSNR in dB / SSIM, mean over 68 images; data range 255, both sides clipped to it; noise drawn once, neither clipped nor "
    "rounded; SSIM window Gaussian sigma 1.5",
    cells=cells,
    task=task,
    published={
        "bm3d, true sigma": {
            "gaussian:sigma=15": "31.07",
            "gaussian:sigma=25": "28.56",
            "gaussian:sigma=30": "27.78",
            "gaussian:sigma=50": "25.60",
        },
        "gan2gan": {
            "gaussian:sigma=15": "31.45",
            "gaussian:sigma=25": "28.96",
            "gaussian:sigma=30": "28.03",
            "gaussian:sigma=50": "25.78",
            "mixture-a:s=15": "42.49",
            "mixture-a:s=25": "39.72",
            "mixture-b:s=30": "30.49",
            "mixture-b:s=50": "30.00",
            "correlated:sigma=15": "31.26",
            "correlated:sigma=25": "28.00",
        },
        "n2v": {"gaussian:sigma=15": "29.48", "gaussian:sigma=25": "26.97", "gaussian:sigma=30": "26.38", "gaussian:sigma=50": "24.30"},
    },
)
