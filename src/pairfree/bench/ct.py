"""Computed tomography, unpaired: simulated low dose, the Mayo clinic's quarter dose, the MITA phantom.

All in HU. Training is on chests of other patients, of the Mayo column on its noisy slices too; nothing of the
tests' full-dose side is ever trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pairfree.bench.base import (
    NOISE_SEED,
    Cell,
    Experiment,
    Images,
    Planes,
    Scored,
    Task,
    files_of,
    filter_cells,
)
from pairfree.evidence.ct import detectability, flat_regions, noise_power
from pairfree.files.opening import open_image
from pairfree.noise.files import simulate_pixels
from pairfree.noise.simulate import image_rng, parse_noise

PATIENTS = ("A027284", "A048383", "A058062")
"""The clean side (12 to 18 mAs).

One patient's slices are made noisy, one's stay clean, one's are the test; by turns."""
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
"""Row, column and radius of the phantom's low-contrast inserts, px; from its ground_truth.mhd."""


def cells(preset: str) -> list[Cell]:
    """All methods on each fold; Mayo's slices have no pairs to train on, so no supervised row."""
    found = []
    for column in (*FOLDS, MAYO):
        found += filter_cells(column, preset, GAUSSIANS_PX)
        low, width = ABDOMEN_HU if column == MAYO else CHEST_HU
        window = {"intensity": f"{low:g},{low + width:g}"}
        for method in METHODS:
            if column == MAYO and method == "n2c":
                continue
            settings = window if method in WINDOWED else {}
            found.append(Cell(column, method, preset, settings=settings))
    return found


def task(data: Path, cell: Cell) -> Task:
    """The slices to train on beside each other, and those to score.

    A fold: one patient's slices at simulated quarter dose, another's clean. "Mayo": the noisy files
    themselves with those of the noisy side, and the clean side.
    """
    chest = data / "ct" / "covid_ny_sbu"
    slices = files_of(chest, "*.dcm")
    clean = _of_patients(slices, PATIENTS)
    quarter = mayo(data)
    if cell.column == MAYO:
        noisy = _of_patients(slices, NOISY_PATIENTS)
        return Task(
            noisy=[*noisy.values(), *(image.noisy for image in quarter)],
            unpaired=list(clean.values()),
            test=[*quarter, *_phantom(data)],
        )
    first = FOLDS.index(cell.column)
    ours, theirs, tested = PATIENTS[first:] + PATIENTS[:first]
    partners = _of_patient(clean, ours)
    low, width = CHEST_HU
    scored = []
    for name, image in _of_patient(clean, tested).items():
        noisy_slice = _low_dose(chest, name)
        scored.append(Scored(name, noisy_slice, image, "simulated chest", low, width))
    return Task(
        noisy=[_low_dose(chest, name) for name in partners],
        clean=list(partners.values()),
        unpaired=list(_of_patient(clean, theirs).values()),
        test=[*scored, *quarter, *_phantom(data)],
    )


def _of_patients(slices: Sequence[Path], patients: tuple[str, ...]) -> Planes:
    """Those slices that belong to the patients, by their names."""
    return {path.stem: _hu(path) for path in slices if path.stem.startswith(patients)}


def _of_patient(images: Planes, patient: str) -> Planes:
    return {name: image for name, image in images.items() if name.startswith(patient)}


def _hu(path: Path) -> np.ndarray:
    """(1, H, W) float32 HU."""
    pixels = np.asarray(open_image(path).pixels, dtype=np.float32)
    return pixels[None]


def _low_dose(folder: Path, name: str) -> np.ndarray:
    """The slice at a quarter of its dose, drawn once.

    (1, H, W) float32 HU, whole numbers as a scanner stores.
    """
    image = open_image(folder / f"{name}.dcm")
    clean = image.pixels.astype(np.float64)
    rng = image_rng(NOISE_SEED, f"ct/{name}")
    noisy, _ = simulate_pixels(image, clean, parse_noise(DOSE), rng)
    return np.asarray(np.rint(noisy)[None], dtype=np.float32)


def mayo(data: Path) -> list[Scored]:
    """The quarter-dose slices and their partners at full dose, HU."""
    quarter = files_of(data / "ct" / "mayo_L506" / "quarter", "*.npy")
    full = files_of(data / "ct" / "mayo_L506" / "full", "*.npy")
    low, width = ABDOMEN_HU
    found = []
    for noisy, clean in zip(quarter, full, strict=True):
        truth = _hu(clean).astype(np.float64)
        found.append(Scored(noisy.stem, _hu(noisy), truth, "Mayo abdomen", low, width))
    return found


def _phantom(data: Path) -> list[Scored]:
    """Every draw at full dose, whose noise is that of a patient's quarter dose.

    Nothing is scored on it, it serves ``evidence``.
    """
    found = []
    for kind in ("present", "absent"):
        folder = data / "ct" / "lcd_phantom" / "dose_100" / f"signal_{kind}"
        for path in files_of(folder, "*.raw"):
            found.append(Scored(path.stem, phantom_draw(path), None, f"phantom, {kind}"))
    return found


def phantom_draw(path: Path) -> np.ndarray:
    """One draw of the phantom, (1, 256, 256) float32 HU."""
    stored = np.fromfile(path, "<i2").reshape(1, 256, 256)
    return stored.astype(np.float32) - PHANTOM_OFFSET


def evidence(test: Sequence[Scored], outputs: Images) -> dict[str, float]:
    """Brightness in flat tissue of the Mayo slices; texture and detectability on the phantom."""
    drawn: dict[str, list[np.ndarray]] = {}
    shifts = []
    for image, output in zip(test, outputs, strict=True):
        drawn.setdefault(image.group, []).append(output[0])
        if image.group == "Mayo abdomen" and image.clean is not None:
            flat = flat_regions(image.clean[0], *TISSUE_HU)
            shift = np.mean(output[0][flat]) - np.mean(image.noisy[0][flat])
            shifts.append(float(shift))
    present = np.stack(drawn["phantom, present"])
    absent = np.stack(drawn["phantom, absent"])
    middle = slice(128 - REGION_PX // 2, 128 + REGION_PX // 2)
    texture = noise_power(absent[:, middle, middle])
    numbers = {
        "shift in flat tissue, HU": max(shifts, key=abs),
        "phantom noise, HU": texture.std,
        "its mean frequency, 1/px": texture.mean_frequency,
    }
    for name, (row, column, radius_px) in INSERTS.items():
        rows, columns = around(row, radius_px), around(column, radius_px)
        with_insert = present[:, rows, columns]
        without = absent[:, rows, columns]
        numbers[f"d' {name}"] = detectability(with_insert, without, radius_px).index
    return numbers


def around(centre_px: float, radius_px: float) -> slice:
    """Three diameters along one axis, with the centre (which lies between two pixels) in their middle."""
    side = 2 * round(3 * radius_px)
    start = round(centre_px - (side - 1) / 2)
    return slice(start, start + side)


EXPERIMENT = Experiment(
    name="ct",
    title="Computed tomography, unpaired",
    statement="PSNR in dB / SSIM, mean over slices; simulated chest [-400, 1000] HU, Mayo abdomen [-160, "
    "240] HU, both sides clipped to the window; shift: the larger of two slices, output minus input, "
    "mean over the flattest quarter of soft tissue; phantom: 10 + 10 draws at full dose, d' of a "
    "channelised Hotelling observer (its standard error is about 0.5)",
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
