"""Colour natural images: the noises of IDDP's Tables 1 and 2. One model a noise family, trained on the range, tested on a level and on it.

The papers train on 4,744 Waterloo images, which are not free to ship; here bsd300/train + bsds500_test, 400 images.
"""

from __future__ import annotations

from pathlib import Path

from pairfree.bench.base import Cell, Experiment, Scored, Task, add_noise, read_planes

FAMILIES = {
    "gaussian": ("gaussian:sigma=0..50", "gaussian:sigma=25"),
    "speckle": ("speckle:v=0..0.2", "speckle:v=0.1"),
    "poisson": ("poisson:lam=5..50", "poisson:lam=30"),
}
METHODS = ("n2v", "nb2nb", "iddp", "n2n", "n2c")


def cells(preset: str) -> list[Cell]:
    found = []
    for family, (_, level) in FAMILIES.items():
        for stored in ("unclipped", "clipped"):
            column = f"{family}, {stored}"
            found.append(Cell(column, "noisy", preset))
            if level.startswith("gaussian"):
                found.append(Cell(column, "bm3d", preset, label="bm3d, estimated sigma"))
            found += [Cell(column, method, preset) for method in METHODS]
    return found


def task(data: Path, cell: Cell) -> Task:
    family, _, stored = cell.column.partition(", ")
    spread, level = FAMILIES[family]
    clip = stored == "clipped"
    natural = data / "natural"
    train = read_planes(natural / "bsd300" / "train", 3) | read_planes(natural / "bsds500_test", 3)
    test = read_planes(natural / "bsd300" / "test", 3)
    noisy = add_noise(train, spread, "train", clip)
    second = add_noise(train, spread, "second copy", clip) if cell.method == "n2n" else {}
    tests = [
        Scored(name, noisy_test[name], test[name], spec)
        for spec in (level, spread)
        for noisy_test in [add_noise(test, spec, "test", clip)]
        for name in test
    ]
    kind = "uint8" if clip else "float32"
    return Task(
        noisy=list(noisy.values()), clean=[train[name].astype(kind) for name in noisy], second_noisy=list(second.values()), test=tests
    )


EXPERIMENT = Experiment(
    name="bsd300",
    title="BSD300 test set, colour",
    statement="PSNR in dB / SSIM, mean over 100 images; data range 255, both sides clipped to it; RGB and the Y channel (BT.601) apart; "
    "noise drawn once; 'unclipped' noisy images are floats, 'clipped' ones rounded to 8 bits",
    cells=cells,
    task=task,
    luma=True,
    published={
        "bm3d, estimated sigma": {"gaussian": "30.90"},
        "n2v": {"gaussian": "30.56 fixed, 31.88 range", "speckle": "28.40 fixed, 28.77 range", "poisson": "29.58 fixed, 28.76 range"},
        "nb2nb": {"gaussian": "31.52 fixed, 33.08 range", "speckle": "30.62 fixed, 30.90 range", "poisson": "30.81 fixed, 30.19 range"},
        "iddp": {"gaussian": "31.70 fixed, 33.32 range", "speckle": "30.96 fixed, 31.22 range", "poisson": "30.91 fixed, 30.30 range"},
        "n2n": {"gaussian": "31.79 fixed, 33.40 range", "speckle": "31.33 fixed, 31.64 range", "poisson": "31.07 fixed, 30.42 range"},
        "n2c": {"gaussian": "31.81 fixed, 33.44 range", "speckle": "31.49 fixed, 31.86 range", "poisson": "31.09 fixed, 30.44 range"},
    },
)
