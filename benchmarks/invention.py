"""What networks invent, and what faint detail they keep.

    python benchmarks/invention.py --data DIR [--only PART] [--out benchmarks/results/invention.json]

Noise alone: 512 x 512 px of brightness 100 with noise and nothing else, once white of deviation 25, once the
same blurred by 1 px (and of 25 again), once 20 photons a pixel of 5 each. What is left of the noise's
deviation should be nothing.

Faint detail: discs of 3, 5, 9 and 15 px and lines of 2 x 31 px are added to the files of FMD (confocal and
two-photon), 0.5 to 2 times as strong as the noise is there, one for each square of 40 px. A network is
applied to the files with and without them; their difference, measured against what was added, is the recall.
Networks that are trained learned from the files as they are.

Each part is written as soon as it is done; what stands in the file is left alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import pairfree as pf
from pairfree.bench import fmd
from pairfree.bench.base import Cell
from pairfree.engine.run import environment
from pairfree.measure.plane_law import measure_noise_law

FloatArray = NDArray[np.float64]
Denoise = Callable[[np.ndarray], np.ndarray]

ROOT = Path(__file__).resolve().parent.parent
SIDE_PX = 512
MEAN, DEVIATION = 100.0, 25.0
PHOTONS, GAIN = 20.0, 5.0
CONTRASTS = (0.5, 0.75, 1.0, 1.5, 2.0)
DISCS_PX = (3, 5, 9, 15)
LINE_PX = (2, 31)
SPACING_PX = 40
FROM_RANDOM = {"net": "shuffle-unet", "even": False}
TRAINED: dict[str, dict[str, Any]] = {
    "iddp, 45 seconds from the start": {"method": "iddp", "minutes": 0.75},
    "gan2gan, 45 seconds from the start": {"method": "gan2gan", "minutes": 0.75},
    "iddp, 10 minutes from random weights": {
        "method": "iddp",
        "minutes": 10.0,
        "start": "none",
        "settings": FROM_RANDOM,
    },
}


def load_files(data: Path) -> list[np.ndarray]:
    """The noisy files of FMD, (H, W), grey levels."""
    task = fmd.task(data, Cell(fmd.COLUMNS[0], "iddp", "cpu"))
    return [image[0] for image in task.noisy]


def make_model(name: str, files: list[np.ndarray]) -> Denoise:
    """The shipped network, or one that is trained here."""
    if name == "shipped":
        return pf.load("shipped", device="cpu").denoise
    return pf.train(files, device="cpu", report=False, **TRAINED[name]).denoise


def draw_noises() -> dict[str, tuple[FloatArray, float]]:
    """Images of noise alone, and the noise's deviation."""
    rng = np.random.default_rng(0)
    white = rng.normal(size=(SIDE_PX, SIDE_PX))
    blurred = gaussian_filter(rng.normal(size=(SIDE_PX, SIDE_PX)), 1.0, mode="wrap")
    counts = GAIN * rng.poisson(PHOTONS, size=(SIDE_PX, SIDE_PX))
    return {
        "white": (MEAN + DEVIATION * white, DEVIATION),
        "blurred by 1 px": (MEAN + DEVIATION * blurred / blurred.std(), DEVIATION),
        "counted photons": (counts.astype(np.float64), GAIN * PHOTONS**0.5),
    }


def measure_noise_left(denoise: Denoise) -> dict[str, float]:
    """Deviation of what is left of noise alone over that of the noise."""
    left = {}
    for name, (image, deviation) in draw_noises().items():
        made = denoise(image.astype(np.float32))
        left[name] = round(float(np.std(made.astype(np.float64)) / deviation), 4)
    return left


def draw_shape(number: int) -> FloatArray:
    """A disc, or a line along rows or columns, 1 within, 0 outside, (SPACING_PX, SPACING_PX)."""
    shape = np.zeros((SPACING_PX, SPACING_PX))
    middle = SPACING_PX // 2
    if number < len(DISCS_PX):
        rows, columns = np.indices(shape.shape) - middle
        shape[rows**2 + columns**2 <= (DISCS_PX[number] / 2.0) ** 2] = 1.0
        return shape
    wide, long = LINE_PX
    first = middle - long // 2
    shape[middle : middle + wide, first : first + long] = 1.0
    return shape if number == len(DISCS_PX) else shape.T


def plant(file: np.ndarray, seed: int) -> tuple[FloatArray, list[tuple[int, int, int, float]]]:
    """A file with shapes, and (top, left, shape, contrast) of each; intensities, not clipped."""
    rng = np.random.default_rng(seed)
    law = measure_noise_law(file.astype(np.float64)).noise
    smooth = gaussian_filter(file.astype(np.float64), 2.0)
    variance = law.variance(smooth) if law.gain > 0 else np.full(file.shape, law.floor)
    level = np.sqrt(np.maximum(variance, law.floor if law.gain == 0 else law.gain**2 / 4.0))
    planted, places = file.astype(np.float64), []
    for top in range(0, file.shape[0] - SPACING_PX + 1, SPACING_PX):
        for left in range(0, file.shape[1] - SPACING_PX + 1, SPACING_PX):
            number = int(rng.integers(len(DISCS_PX) + 2))
            contrast = float(rng.choice(CONTRASTS))
            part = np.s_[top : top + SPACING_PX, left : left + SPACING_PX]
            strength = contrast * float(np.median(level[part]))
            planted[part] += strength * draw_shape(number)
            places.append((top, left, number, contrast))
    return planted, places


def measure_recall(denoise: Denoise, files: list[np.ndarray]) -> dict[str, dict[str, float]]:
    """Mean recall by kind of shape and contrast: 1 where a shape comes back as strong as it was added."""
    found: dict[tuple[str, float], list[float]] = {}
    for seed, file in enumerate(files):
        planted, places = plant(file, seed)
        added = planted - file
        change = denoise(planted.astype(np.float32)) - denoise(file.astype(np.float32))
        for top, left, number, contrast in places:
            part = np.s_[top : top + SPACING_PX, left : left + SPACING_PX]
            template = added[part]
            recall = float(np.sum(change[part] * template) / np.sum(template**2))
            found.setdefault((shape_name(number), contrast), []).append(recall)
    table: dict[str, dict[str, float]] = {}
    for (name, contrast), values in sorted(found.items()):
        table.setdefault(name, {})[f"{contrast:g}"] = round(float(np.mean(values)), 4)
    return table


def shape_name(number: int) -> str:
    """In words."""
    if number < len(DISCS_PX):
        return f"disc of {DISCS_PX[number]} px"
    return f"line of {LINE_PX[0]} x {LINE_PX[1]} px"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=("shipped", *TRAINED))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/invention.json")
    asked = parser.parse_args()
    known = json.loads(asked.out.read_text()) if asked.out.exists() else {"networks": {}}
    files = load_files(asked.data)
    wanted = [asked.only] if asked.only else ["shipped", *TRAINED]
    for name in wanted:
        if name in known["networks"]:
            continue
        denoise = make_model(name, files)
        known["networks"][name] = {
            "noise left": measure_noise_left(denoise),
            "recall": measure_recall(denoise, files),
        }
        known["statement"] = " ".join((__doc__ or "").split("\n\n", 2)[2].split())
        known["environment"] = environment(torch.device("cpu"), "auto")
        asked.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(known["networks"][name], indent=1), flush=True)


if __name__ == "__main__":
    main()
