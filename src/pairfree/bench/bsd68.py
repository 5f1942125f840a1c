"""Grey natural images: BSD400 -> BSD68, the noises of GAN2GAN's Tables 2 and 3.

Every number is for one noise, trained and tested alike.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pairfree import methods
from pairfree.bench.base import (
    Cell,
    Experiment,
    Planes,
    Scored,
    Task,
    filter_cells,
    later_noise2void,
    make_noisy,
    noise_alone,
    read_planes,
    trained,
)
from pairfree.bench.cache import settings_of

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
METHODS = ("n2v", "n2s", "nb2nb", "b2u", "cvf-sid", "iddp", "gan2gan", "dncnn-b", "n2n", "n2c")
UNPAIRED = ("cyclegan", "uidnet", "quan", "iscl")
MID_GREY = 128.0
"""Of the images of the noise alone, which `quan` asks for."""
FULL = ("gaussian:sigma=25", "correlated:sigma=25")
"""Columns with every row: filters of all widths, unpaired methods, ablations."""
GAUSSIANS_PX = (0.7, 1.0, 1.3, 1.6, 2.0)
Z_ROUNDS = 5
"""Of G2G that starts from the noisy images: "a couple more iterations" than from g2 (Figure 6 b)."""
SEEDED = {
    ("gaussian:sigma=25", "iddp"): 5,
    ("gaussian:sigma=25", "nb2nb"): 3,
    ("gaussian:sigma=25", "gan2gan"): 3,
    ("gaussian:sigma=25", "iscl"): 3,
    ("gaussian:sigma=25", "n2c"): 3,
}


def cells(preset: str) -> list[Cell]:
    """Both tables; of the columns of ``FULL`` every row, of the others those that the papers have."""
    found = []
    for column in COLUMNS:
        everything = column in FULL
        found += filter_cells(column, preset, GAUSSIANS_PX if everything else ())
        if column.startswith("gaussian"):
            level = {"sigma": float(column.rpartition("=")[2])}
            found.append(Cell(column, "bm3d", preset, settings=level, label="bm3d, true sigma"))
        for method in METHODS + UNPAIRED if everything else METHODS:
            for seed in range(SEEDED.get((column, method), 1)):
                found.append(trained(column, method, preset, seed))
        by_rule_3 = trained(column, "gcbd", preset)
        by_rule_4 = {**by_rule_3.settings, "rule": "wavelet"}
        found.append(replace(by_rule_3, settings=by_rule_4, label="n2c (rule 4)"))
    for column in FULL:
        found += later_noise2void(column, preset)
    return found + _ablations(preset) + _generators(preset)


def _generators(preset: str) -> list[Cell]:
    """GAN2GAN's Figures 5 and 6: rule for patches, first estimate, parts of the generative model."""
    from_z = {"start": "z", "iterations": Z_ROUNDS}
    found = []
    for column in FULL:
        by_rule_3 = trained(column, "gcbd", preset)
        found.append(replace(by_rule_3, label="n2c (rule 3), gcbd"))
        found.append(
            Cell(column, "gan2gan", preset, settings=from_z, label="gan2gan, started from Z")
        )
    if preset == "paper":  # the short preset has no generative model to take parts from
        whole = Cell("gaussian:sigma=25", "gan2gan", preset)
        found.append(replace(whole, settings={"beta": 0.0}, label="gan2gan, no L_Z"))
        found.append(replace(whole, settings={"gamma": 0.0}, label="gan2gan, no L_cyc"))
        found.append(replace(whole, settings={"bounded": False}, label="gan2gan, no sigmoid"))
    return found


def _ablations(preset: str) -> list[Cell]:
    """IDDP with a thing changed; what a preset already does is no row of its own.

    "the paper's eq. 11" is it without averages, leverage and alpha = 0: the row that "no stop-gradient" (the
    paper's Figure 7) is to be compared with, since gradients cannot reach an average. The blur rows vary what
    the paper does not state.
    """
    paper = {"turnovers": 0.0, "window": 0.0, "leverage": 0.0, "alpha": 0.001}
    changes: dict[str, dict[str, Any]] = {
        "no leverage": {"leverage": 0.0},
        "the paper's eq. 11": paper,
        "no stop-gradient": {**paper, "stop_gradient": False},
    }
    for px in (3, 5, 7):
        changes[f"alpha 0.001, blur {px} px"] = {"alpha": 0.001, "blur_px": px}
    whole = Cell("gaussian:sigma=25", "iddp", preset)
    found = []
    for name, change in changes.items():
        cell = replace(whole, settings=change, label=f"iddp, {name}")
        if settings_of(cell) != settings_of(whole):
            found.append(cell)
    return found


def task(data: Path, cell: Cell) -> Task:
    """BSD400 to train on, BSD68 to test on.

    For methods that learn from clean images of other scenes, every other training image is clean, and the
    rest are noisy.
    """
    train = read_planes(data / "natural" / "bsd400", 1)
    test = read_planes(data / "natural" / "bsd68", 1)
    method = methods.METHODS.get(cell.method)
    unpaired = []
    if method is not None and method.needs.clean:
        unpaired = list(train)[1::2]
    ours = {name: image for name, image in train.items() if name not in unpaired}
    noisy = make_noisy(ours, cell.column, "train")
    noisy_test = make_noisy(test, cell.column, "test")
    second: Planes = {}
    if cell.method == "n2n":
        second = make_noisy(train, cell.column, "second copy")
    blank = {}
    if cell.method == "quan":
        blank = {name: image.shape for name, image in ours.items()}
    return Task(
        noisy=list(noisy.values()),
        clean=[train[name].astype("float32") for name in noisy],
        second_noisy=list(second.values()),
        unpaired=[train[name].astype("float32") for name in unpaired],
        noise_images=noise_alone(blank, MID_GREY, cell.column),
        test=[Scored(name, noisy_test[name], test[name]) for name in test],
    )


TABLES_2_AND_3 = {
    "bm3d, true sigma": (
        "31.07 / 0.8717",
        "28.56 / 0.8013",
        "27.78 / 0.7727",
        "25.60 / 0.6866",
    ),
    "bm3d, estimated sigma": (
        "-",
        "-",
        "-",
        "-",
        "41.44 / 0.9822",
        "37.97 / 0.9647",
        "30.12 / 0.8549",
        "29.27 / 0.8190",
        "29.84 / 0.8504",
        "26.69 / 0.7544",
    ),
    "dncnn-b": (
        "31.44 / 0.8836",
        "28.92 / 0.8137",
        "28.06 / 0.7812",
        "25.78 / 0.6721",
        "39.62 / 0.9749",
        "37.23 / 0.9616",
        "30.58 / 0.8655",
        "30.20 / 0.8547",
        "30.84 / 0.9011",
        "27.39 / 0.8257",
    ),
    "n2v": (
        "29.48 / 0.8199",
        "26.97 / 0.7083",
        "26.38 / 0.6657",
        "24.30 / 0.5765",
        "33.53 / 0.9368",
        "31.62 / 0.9057",
        "28.10 / 0.7543",
        "28.22 / 0.7755",
        "28.80 / 0.8367",
        "26.11 / 0.7348",
    ),
    "gan2gan": (
        "31.45 / 0.8825",
        "28.96 / 0.8080",
        "28.03 / 0.7759",
        "25.78 / 0.6749",
        "42.49 / 0.9885",
        "39.72 / 0.9807",
        "30.49 / 0.8538",
        "30.00 / 0.8417",
        "31.26 / 0.8954",
        "28.00 / 0.8447",
    ),
    "n2n": (
        "31.20 / 0.8745 (blind)",
        "28.74 / 0.8041 (blind)",
        "27.91 / 0.7720 (blind)",
        "25.71 / 0.6712 (blind)",
        "40.59 / 0.9860 (blind)",
        "37.39 / 0.9737 (blind)",
        "30.36 / 0.8559 (blind)",
        "30.20 / 0.8547 (blind)",
        "30.69 / 0.9223 (blind)",
        "27.32 / 0.8594 (blind)",
    ),
    "gan2gan: after its generative": (
        "25.94 / 0.7519",
        "24.16 / 0.6630",
        "23.43 / 0.5967",
        "20.58 / 0.4482",
        "31.85 / 0.9522",
        "32.73 / 0.9478",
        "27.55 / 0.7728",
        "27.36 / 0.7712",
        "28.13 / 0.8370",
        "25.68 / 0.7607",
    ),
    "gan2gan: after its G2G 1": (
        "30.98 / 0.8552",
        "28.23 / 0.7669",
        "27.58 / 0.7413",
        "25.08 / 0.6215",
        "42.35 / 0.9876",
        "39.13 / 0.9761",
        "29.05 / 0.8199",
        "29.78 / 0.8345",
        "30.73 / 0.8889",
        "27.80 / 0.8130",
    ),
    "gan2gan: after its G2G 2": (
        "32.51 / 0.8827 (a misprint: above its upper bound)",
        "28.82 / 0.8056",
        "27.99 / 0.7783",
        "25.55 / 0.6639",
        "42.56 / 0.9888",
        "39.64 / 0.9800",
        "30.32 / 0.8456",
        "30.04 / 0.8392",
        "31.09 / 0.8949",
        "28.01 / 0.8271",
    ),
    "n2c (rule 4)": (
        "31.64 / 0.8870",
        "29.11 / 0.8189",
        "28.28 / 0.7890",
        "26.03 / 0.6951",
        "42.92 / 0.9843",
        "40.42 / 0.9843",
        "30.78 / 0.8685",
        "30.39 / 0.8574",
        "31.60 / 0.9075",
        "28.42 / 0.8376",
    ),
}
"""GAN2GAN's tables, in the order of COLUMNS; "-" where they have no number.

G2G_3 for gan2gan, g2 after its generative stage. Its N2N is trained on levels 0 to 55."""


def _published() -> dict[str, dict[str, str]]:
    """By row and column."""
    found: dict[str, dict[str, str]] = {}
    for row, texts in TABLES_2_AND_3.items():
        found[row] = {}
        for column, text in zip(COLUMNS, texts, strict=False):
            if text != "-":
                found[row][column] = text
    return found


EXPERIMENT = Experiment(
    name="bsd68",
    title="BSD400 -> BSD68, grey",
    statement="PSNR in dB / SSIM, mean over 68 images; data range 255, both sides clipped to it; "
    "noise drawn once, neither clipped nor rounded; SSIM window Gaussian sigma 1.5; of methods that "
    "take a clean set, every other training image is clean and the rest noisy",
    cells=cells,
    task=task,
    published=_published(),
    after={
        "GAN2GAN Table 2": "^gaussian",
        "GAN2GAN Table 3": "^(mixture|correlated)",
        "GAN2GAN Figure 5": r"\(rule",
        "GAN2GAN Figure 6": "started from Z|no L_|no sigmoid",
        "IDDP Figure 4": "^gaussian:sigma=25/iddp/",
        "IDDP Figure 7": r"eq\. 11|stop-gradient",
    },
)
