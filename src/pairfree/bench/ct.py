"""Computed tomography, unpaired: simulated low dose with ground truth, the Mayo clinic's quarter-dose pairs, and the MITA phantom.

All in HU. Training is on chests of other patients, of the Mayo column on its noisy slices too; nothing of the tests' full-dose side is ever
trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pairfree.bench.base import NOISE_SEED, Cell, Experiment, Scored, Task, files_of, filter_cells
from pairfree.evidence.ct import detectability, flat_regions, noise_power
from pairfree.files.formats.table import open_image
from pairfree.noise.files import simulate_pixels
from pairfree.noise.simulate import image_rng, parse_noise

PATIENTS = ("A027284", "A048383", "A058062")
"""The clean side (12 to 18 mAs): one patient's slices are made noisy, one's stay clean, one's are the test; by turns."""
NOISY_PATIENTS = ("A002304_19010112", "A046441_19001111", "A056642_19010107", "A062055_19001127")
"""The noisy side: scans of 4 to 8 mAs, of other patients than the clean side."""
FOLDS = ("chest, fold 0", "chest, fold 1", "chest, fold 2")
MAYO = "Mayo, quarter dose"
DOSE = "lowdose-ct:dose=0.25"
CHEST_HU, ABDOMEN_HU = (-400.0, 1400.0), (-160.0, 400.0)
"""Black, and white minus black, of ISCL's two windows."""
TISSUE_HU = (-160.0, 240.0)
GAUSSIANS_PX = (0.5, 1.0)
METHODS = ("n2v", "n2s", "cyclegan", "uidnet", "iscl", "n2c")
WINDOWED = ("cyclegan", "uidnet", "iscl")
PHANTOM_OFFSET = 1000.0
"""Of the phantom's stored values over HU."""
REGION_PX = 64
INSERTS = {
    "14 HU, 3 mm": (94.65, 160.35, 2.35),
    "7 HU, 5 mm": (94.61, 94.61, 3.88),
    "5 HU, 7 mm": (160.43, 94.57, 5.43),
    "3 HU, 10 mm": (160.50, 160.50, 7.73),
}
"""Row, column and radius in px of the phantom's low-contrast inserts, from its ground truth (ground_truth.mhd)."""


def cells(preset: str) -> list[Cell]:
    found = []
    for column in (*FOLDS, MAYO):
        found += filter_cells(column, preset, GAUSSIANS_PX)
        low, width = ABDOMEN_HU if column == MAYO else CHEST_HU
        window = {"intensity": f"{low:g},{low + width:g}"}
        for method in METHODS:
            if column != MAYO or method != "n2c":
                found.append(
                    Cell(column, method, preset, settings=window if method in WINDOWED else {})
                )
    return found


def task(data: Path, cell: Cell) -> Task:
    """A fold: one patient's slices at simulated quarter dose, another's clean. "Mayo": the noisy files themselves with those of the noisy
    side, and the clean side; it has no pairs to train on, so no supervised row."""
    chest = data / "ct" / "covid_ny_sbu"
    slices = files_of(chest, "*.dcm")
    clean = {path.stem: _hu(path) for path in slices if path.stem.startswith(PATIENTS)}
    quarter = mayo(data)
    if cell.column == MAYO:
        noisy = [_hu(path) for path in slices if path.stem.startswith(NOISY_PATIENTS)]
        return Task(
            noisy=[*noisy, *(image.noisy for image in quarter)],
            unpaired=list(clean.values()),
            test=[*quarter, *_phantom(data)],
        )
    fold = FOLDS.index(cell.column)
    ours, theirs, test = (_of_patient(clean, PATIENTS[(fold + turn) % 3]) for turn in range(3))
    low, width = CHEST_HU
    scored = [
        Scored(name, _low_dose(chest, name), image, "simulated chest", low, width)
        for name, image in test.items()
    ]
    return Task(
        noisy=[_low_dose(chest, name) for name in ours],
        clean=list(ours.values()),
        unpaired=list(theirs.values()),
        test=[*scored, *quarter, *_phantom(data)],
    )


def _of_patient(images: dict[str, np.ndarray], patient: str) -> dict[str, np.ndarray]:
    return {name: image for name, image in images.items() if name.startswith(patient)}


def _hu(path: Path) -> np.ndarray:
    """(1, H, W) float32 HU."""
    return np.asarray(open_image(path).pixels, dtype=np.float32)[None]


def _low_dose(folder: Path, name: str) -> np.ndarray:
    """The slice at a quarter of its dose, drawn once; (1, H, W) float32 HU, whole numbers as a scanner stores."""
    image = open_image(folder / f"{name}.dcm")
    noisy, _ = simulate_pixels(
        image,
        image.pixels.astype(np.float64),
        parse_noise(DOSE),
        image_rng(NOISE_SEED, f"ct/{name}"),
    )
    return np.rint(noisy).astype(np.float32)[None]


def mayo(data: Path) -> list[Scored]:
    """The quarter-dose slices and their partners at full dose, HU."""
    sides = {
        side: files_of(data / "ct" / "mayo_L506" / side, "*.npy") for side in ("quarter", "full")
    }
    low, width = ABDOMEN_HU
    return [
        Scored(quarter.stem, _hu(quarter), _hu(full).astype(np.float64), "Mayo abdomen", low, width)
        for quarter, full in zip(sides["quarter"], sides["full"], strict=True)
    ]


def _phantom(data: Path) -> list[Scored]:
    """Every draw at full dose, whose noise is that of a patient's quarter dose: nothing is scored on it, it serves ``evidence``."""
    found = []
    for kind in ("present", "absent"):
        folder = data / "ct" / "lcd_phantom" / "dose_100" / f"signal_{kind}"
        for path in files_of(folder, "*.raw"):
            found.append(Scored(path.stem, phantom_draw(path), None, f"phantom, {kind}"))
    return found


def phantom_draw(path: Path) -> np.ndarray:
    """(1, 256, 256) float32 HU."""
    return np.fromfile(path, "<i2").reshape(1, 256, 256).astype(np.float32) - PHANTOM_OFFSET


def evidence(test: Sequence[Scored], outputs: Sequence[np.ndarray]) -> dict[str, float]:
    """Brightness in flat tissue of the Mayo slices; texture and detectability on the phantom."""
    done = [(image, output[0]) for image, output in zip(test, outputs, strict=True)]
    shifts = []
    for image, output in done:
        if image.group == "Mayo abdomen" and image.clean is not None:
            flat = flat_regions(image.clean[0], *TISSUE_HU)
            shifts.append(float(np.mean(output[flat]) - np.mean(image.noisy[0][flat])))
    present, absent = (
        np.stack([output for image, output in done if image.group == f"phantom, {kind}"])
        for kind in ("present", "absent")
    )
    middle = slice(128 - REGION_PX // 2, 128 + REGION_PX // 2)
    texture = noise_power(absent[:, middle, middle])
    numbers = {
        "shift in flat tissue, HU": max(shifts, key=abs),
        "phantom noise, HU": texture.std,
        "its mean frequency, 1/px": texture.mean_frequency,
    }
    for name, (row, column, radius_px) in INSERTS.items():
        rows, columns = (around(centre, radius_px) for centre in (row, column))
        numbers[f"d' {name}"] = detectability(
            present[:, rows, columns], absent[:, rows, columns], radius_px
        ).index
    return numbers


def around(centre_px: float, radius_px: float) -> slice:
    """Three diameters along one axis, with the centre (which lies between two pixels) in their middle."""
    side = 2 * round(3 * radius_px)
    start = round(centre_px - (side - 1) / 2)
    return slice(start, start + side)


EXPERIMENT = Experiment(
    name="ct",
    title="Computed tomography, unpaired",
    statement="PSNR in dB / SSIM, mean over slices; simulated chest [-400, 1000] HU, Mayo abdomen [-160, 240] HU, both sides clipped to "
    "the window; shift: the larger of two slices, output minus input, mean over the flattest quarter of soft tissue; phantom: 10 + 10 "
    "draws at full dose, d' of a channelised Hotelling observer (its standard error is about 0.5)",
    cells=cells,
    task=task,
    published={
        "bm3d, estimated sigma": {MAYO: "30.31 / 0.8730", "chest": "26.75 / 0.7336 (Mayo)"},
        "n2v": {MAYO: "28.32 / 0.7961", "chest": "26.30 / 0.7283 (Mayo)"},
        "n2s": {MAYO: "28.94 / 0.8355", "chest": "23.76 / 0.6672 (Mayo)"},
        "uidnet": {MAYO: "28.91 / 0.8470", "chest": "24.15 / 0.7221 (Mayo)"},
        "cyclegan": {MAYO: "22.33 / 0.7561", "chest": "22.06 / 0.6236 (Mayo)"},
        "iscl": {MAYO: "30.61 / 0.8849", "chest": "26.93 / 0.7587 (Mayo)"},
        "n2c": {"chest": "27.47 / 0.7354 (DnCNN, Mayo)"},
    },
    no_cell={
        "n2c": {MAYO: "30.57 / 0.8192 (DnCNN)"},
        "iscl, (A)+(B)": {"chest": "22.58 / 0.5815 (Mayo)"},
        "iscl, (A)+(B)+(C)": {"chest": "26.61 / 0.7533 (Mayo)"},
        "iscl, (A)+(B)+(C)+(D)": {"chest": "26.89 / 0.7569 (Mayo)"},
    },
    after={"ISCL Table I": "^(Mayo|chest)", "ISCL Figure 4": "/(bm3d|n2s|n2v|uidnet|iscl|n2c)"},
    evidence=evidence,
)
