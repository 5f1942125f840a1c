"""Colour natural images: the noises of IDDP's Tables 1 and 2. One model a noise family, trained on the range, tested on a level and on it.

The papers train on 4,744 Waterloo images, which are not free to ship; here bsd300/train + bsds500_test, 400 images.
"""

from __future__ import annotations

from pathlib import Path

from pairfree.bench.base import Cell, Experiment, Scored, Task, make_noisy, read_planes

FAMILIES = {
    "gaussian": ("gaussian:sigma=0..50", "gaussian:sigma=25"),
    "speckle": ("speckle:v=0..0.2", "speckle:v=0.1"),
    "poisson": ("poisson:lam=5..50", "poisson:lam=30"),
}
METHODS = ("n2v", "nb2nb", "b2u", "cvf-sid", "iddp", "n2n", "n2c")


def cells(preset: str) -> list[Cell]:
    found = []
    for family in FAMILIES:
        for stored in ("unclipped", "clipped"):
            column = f"{family}, {stored}"
            found.append(Cell(column, "noisy", preset))
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
    noisy = make_noisy(train, spread, "train", clip)
    second = make_noisy(train, spread, "second copy", clip) if cell.method == "n2n" else {}
    tests = [
        Scored(name, noisy_test[name], test[name], spec)
        for spec in (level, spread)
        for noisy_test in [make_noisy(test, spec, "test", clip)]
        for name in test
    ]
    kind = "uint8" if clip else "float32"
    return Task(
        noisy=list(noisy.values()),
        clean=[train[name].astype(kind) for name in noisy],
        second_noisy=list(second.values()),
        test=tests,
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


def _published(texts: list[str]) -> dict[str, str]:
    """By family: "31.70 / 0.897 fixed, 33.32 / 0.900 range"."""
    fixed, spread = (
        [f"{psnr} / 0{ssim}" for psnr, ssim in zip(texts[at::4], texts[at + 1 :: 4], strict=True)]
        for at in (0, 2)
    )
    return {
        family: f"{one} fixed, {other} range"
        for family, one, other in zip(FAMILIES, fixed, spread, strict=True)
    }


EXPERIMENT = Experiment(
    name="bsd300",
    title="BSD300 test set, colour",
    statement="PSNR in dB / SSIM, mean over 100 images; data range 255, both sides clipped to it; RGB and the Y channel (BT.601) apart; "
    "noise drawn once; 'unclipped' noisy images are floats, 'clipped' ones rounded to 8 bits",
    cells=cells,
    task=task,
    after={"IDDP Table 1": "", "IDDP Table 2": ""},
    luma=True,
    published={row: _published(text.split()) for row, text in TABLES_1_AND_2.items()},
    no_cell={row: _published(text.split()) for row, text in ONE_IMAGE.items()},
)
