"""Colour natural images: the noises of IDDP's Tables 1 and 2.

One model a noise family, trained on the range, tested on a level and on it. The papers train on 4,744
Waterloo images, which are not free to ship; here bsd300/train + bsds500_test, 400 images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pairfree.bench.base import Cell, Experiment, Scored, Task, make_noisy, read_planes

FAMILIES = {
    "gaussian": ("gaussian:sigma=0..50", "gaussian:sigma=25"),
    "speckle": ("speckle:v=0..0.2", "speckle:v=0.1"),
    "poisson": ("poisson:lam=5..50", "poisson:lam=30"),
}
METHODS = ("n2v", "nb2nb", "b2u", "cvf-sid", "iddp", "n2n", "n2c")


def cells(preset: str) -> list[Cell]:
    """A column for each family, as floats and as 8 bits."""
    found = []
    for family in FAMILIES:
        for stored in ("unclipped", "clipped"):
            column = f"{family}, {stored}"
            found.append(Cell(column, "noisy", preset))
            found.append(Cell(column, "bm3d", preset, label="bm3d, estimated sigma"))
            found += [Cell(column, method, preset) for method in METHODS]
    return found


def task(data: Path, cell: Cell) -> Task:
    """Trained on the family's range; the test images at its level, and again over its range."""
    family, _, stored = cell.column.partition(", ")
    spread, level = FAMILIES[family]
    clip = stored == "clipped"
    kind = "uint8" if clip else "float32"
    natural = data / "natural"
    train = read_planes(natural / "bsd300" / "train", 3)
    train |= read_planes(natural / "bsds500_test", 3)
    test = read_planes(natural / "bsd300" / "test", 3)
    noisy = make_noisy(train, spread, "train", clip)
    second = {}
    if cell.method == "n2n":
        second = make_noisy(train, spread, "second copy", clip)
    scored = []
    for spec in (level, spread):
        noisy_test = make_noisy(test, spec, "test", clip)
        for name, image in test.items():
            scored.append(Scored(name, noisy_test[name], image, spec))
    return Task(
        noisy=list(noisy.values()),
        clean=[train[name].astype(kind) for name in noisy],
        second_noisy=list(second.values()),
        test=scored,
    )


TABLES_1_AND_2 = {
    "bm3d, estimated sigma": "30.90 .877 31.69 .881 26.64 .796 26.70 .783 27.70 .819 27.23 .815",
    "n2v": "30.56 .880 31.88 .883 28.40 .855 28.77 .858 29.58 .861 28.76 .840",
    "nb2nb": "31.52 .890 33.08 .894 30.62 .887 30.90 .891 30.81 .880 30.19 .860",
    "cvf-sid": "27.14 .808 27.92 .813 26.12 .729 26.08 .741 27.03 .756 26.69 .738",
    "b2u": "31.60 .890 33.21 .894 30.61 .888 30.95 .890 30.89 .881 30.28 .863",
    "n2n": "31.79 .896 33.40 .898 31.33 .901 31.64 .902 31.07 .884 30.42 .865",
    "n2c": "31.81 .897 33.44 .902 31.49 .905 31.86 .907 31.09 .887 30.44 .866",
    "iddp": "31.70 .897 33.32 .900 30.96 .893 31.22 .895 30.91 .884 30.30 .864",
}
"""IDDP's PSNR and SSIM: of each family the fixed level, then the range."""
ONE_IMAGE = {
    "dip": "29.99 .850 29.66 .833 26.73 .775 27.06 .780 28.77 .826 27.98 .801",
    "s2s": "30.63 .882 31.76 .885 28.60 .862 28.93 .863 29.83 .864 29.01 .846",
}
"""Likewise, of methods that would learn 600 images anew."""


def _published(texts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """By row and family: "31.70 / 0.897 fixed, 33.32 / 0.900 range"."""
    found: dict[str, dict[str, str]] = {}
    for row, text in texts.items():
        numbers = iter(text.split())
        found[row] = {}
        for family in FAMILIES:
            fixed = f"{next(numbers)} / 0{next(numbers)}"
            spread = f"{next(numbers)} / 0{next(numbers)}"
            found[row][family] = f"{fixed} fixed, {spread} range"
    return found


EXPERIMENT = Experiment(
    name="bsd300",
    title="BSD300 test set, colour",
    statement="PSNR in dB / SSIM, mean over 100 images; data range 255, both sides clipped to it; "
    "RGB and the Y channel (BT.601) apart; noise drawn once; 'unclipped' noisy images are floats, "
    "'clipped' ones rounded to 8 bits",
    cells=cells,
    task=task,
    after={"IDDP Table 1": "", "IDDP Table 2": ""},
    luma=True,
    published=_published(TABLES_1_AND_2),
    no_cell=_published(ONE_IMAGE),
)
