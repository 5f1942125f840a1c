"""A good and a bad case of each test of a denoiser: python benchmarks/evidence_pictures.py [--only NAME ...]

The photograph "camera" of scikit-image (CC0) with white noise of 25, denoised by the network that comes with
pairfree: docs/figures/evidence_*.png, good on the left, the planted fault on the right. Prints the row of
each, which docs/evidence.md quotes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

import pairfree
from evidence import Scene, apply_model, change_output, examine, make_faults, remember
from pairfree.examination.examine import Examination, ImageMeasures
from pairfree.examination.laws import find_laws
from pairfree.examination.probe import Denoise, disturb

FloatArray = NDArray[np.float64]

SIDE_PX, TIMES, GAP_PX = 128, 3, 8
SIGMA = 25.0
CORNER = (70, 200)
"""Of the part that is shown: a face, sky and cloth."""
FLAT = slice(128, 256), slice(128, 256)
"""Of the part of a flat scene that is shown: borders of tiles of 112 px cross it."""


@dataclass(frozen=True)
class Case:
    """What one test sees."""

    scene: Scene
    denoise: Denoise
    examined: Examination

    @property
    def one(self) -> ImageMeasures:
        """Its only image."""
        return self.examined.images[0]

    def show_output(self) -> FloatArray:
        """A part of the output."""
        return _cut(self.one.output[0]) / 255.0

    def show_middle(self) -> FloatArray:
        """The middle of the output, where something is pasted."""
        part = slice(SIDE_PX - 10, 2 * SIDE_PX - 10)
        return self.one.output[0][part, part] / 255.0

    def show_closely(self) -> FloatArray:
        """A quarter of the part, enlarged."""
        part = self.show_output()[32:96, 48:112]
        return np.kron(part, np.ones((2, 2)))

    def show_removed(self) -> FloatArray:
        """A part of what was removed, grey is zero."""
        return 0.5 + _cut(self.scene.noisy - self.one.output[0]) / (6.0 * SIGMA)

    def show_error(self) -> FloatArray:
        """A part of the true error, grey is zero."""
        return 0.5 + _cut(self.one.output[0] - self.scene.clean) / (4.0 * SIGMA)

    def show_noise_alone(self) -> FloatArray:
        """What becomes of noise on a flat scene, half a deviation of the noise from black to white."""
        laws = find_laws([self.scene.noisy[None]], True)[0].laws
        flat = np.full((1, *self.scene.noisy.shape), 128.0)
        noise = disturb(flat, laws, np.random.default_rng(1)).noise
        return 0.5 + (self.denoise(flat + noise)[0][FLAT] - 128.0) / (0.8 * SIGMA)

    def show_spots(self) -> FloatArray:
        """What becomes of a row of spots, ratios 4, 8 and 16, planted in the sky."""
        added = np.zeros_like(self.scene.noisy)
        rows, columns = np.indices(added.shape)
        for number, (width, ratio) in enumerate(
            (w, r) for w in (0.8, 1.5, 3.0) for r in (4, 8, 16)
        ):
            place = 22 + 32 * (number // 3), 330 + 34 * (number % 3)
            height = ratio * SIGMA / (np.sqrt(np.pi) * width)
            distance = (rows - place[0]) ** 2 + (columns - place[1]) ** 2
            added += height * np.exp(-distance / (2.0 * width**2))
        made = self.denoise((self.scene.noisy + added)[None])[0]
        return made[:SIDE_PX, 290 : 290 + SIDE_PX] / 255.0

    def show_map(self) -> FloatArray:
        """The map of standard errors, white from 30 grey levels on."""
        return _cut(self.one.error_map[0]) / 30.0

    def show_absolute_error(self) -> FloatArray:
        """The true error on the same scale, over 5 px."""
        square = (self.one.output[0] - self.scene.clean) ** 2
        return np.sqrt(_cut(gaussian_filter(square, 2.0))) / 30.0


Show = Callable[[Case], FloatArray]
PICTURES: dict[str, tuple[str, Show]] = {
    "sharpness": ("sharpened", Case.show_closely),
    "noise left": ("noise left, 20 %", Case.show_output),
    "brightness": ("contrast x 0.9", Case.show_error),
    "position": ("shifted by 1 px", Case.show_removed),
    "checkerboard": ("checkerboard of 0.05 sigma", Case.show_noise_alone),
    "residual": ("blur 2 px", Case.show_removed),
    "places": ("pasted 64 px", Case.show_middle),
    "pattern": ("texture of 0.15 sigma", Case.show_noise_alone),
    "seams": ("seams of 0.05 sigma", Case.show_noise_alone),
    "made from noise": ("made from noise", Case.show_noise_alone),
    "planted detail": ("blur 2 px", Case.show_spots),
    "plain filter": ("little learned", Case.show_output),
    "resolution": ("blur 2 px", Case.show_output),
}
"""Of each row: the fault, and what is shown."""


def _cut(image: FloatArray) -> FloatArray:
    top, left = CORNER
    return image[top : top + SIDE_PX, left : left + SIDE_PX]


def build_cases() -> Callable[[str], Case]:
    """Cases by the name of the fault; "none" for the untouched network."""
    clean = data.camera().astype(np.float64)[:448, :448]
    noisy = clean + SIGMA * np.random.default_rng(4).standard_normal(clean.shape)
    scene = Scene(clean, noisy)
    other = np.ascontiguousarray(clean[::-1])
    faults = make_faults(scene, other, SIGMA) | {
        "none": lambda g, y: g,
        "made from noise": lambda g, y: (
            g + 1.8 * (gaussian_filter(y, 2.0) - gaussian_filter(y, 6.0))
        ),
        "little learned": lambda g, y: np.asarray(gaussian_filter(y, 0.6)),
    }
    denoise = remember(apply_model(pairfree.load("shipped")))
    kept: dict[str, Case] = {}

    def find(fault: str) -> Case:
        if fault not in kept:
            changed = change_output(denoise, faults[fault])
            kept[fault] = Case(scene, changed, examine(noisy, changed, "camera"))
        return kept[fault]

    return find


def save_pair(path: Path, good: FloatArray, bad: FloatArray) -> None:
    """Both side by side, enlarged."""
    gap = np.ones((SIDE_PX, GAP_PX))
    joined = np.concatenate([good, gap, bad], axis=1)
    grey = np.clip(np.rint(255.0 * joined), 0, 255).astype(np.uint8)
    size = joined.shape[1] * TIMES, SIDE_PX * TIMES
    Image.fromarray(grey).resize(size, Image.Resampling.NEAREST).save(path, optimize=True)


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    given = parser.parse_args()
    find = build_cases()
    for row in find("none").examined.rows:
        print(f"none | {row.name} | {row.level} | {row.sentence}")
    for name, (fault, show) in PICTURES.items():
        if given.only and name not in given.only:
            continue
        good, bad = find("none"), find(fault)
        save_pair(given.out / f"evidence_{name.replace(' ', '_')}.png", show(good), show(bad))
        row = next(one for one in bad.examined.rows if one.name == name)
        print(f"{fault} | {name} | {row.level} | {row.sentence}")
    good = find("none")
    save_pair(given.out / "evidence_uncertainty.png", good.show_map(), good.show_absolute_error())


if __name__ == "__main__":
    main()
