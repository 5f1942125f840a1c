"""Pictures of the docs from a run of the demo, in the folder DEMO:

    pairfree demo --out DEMO
    python benchmarks/demo_pictures.py DEMO [--chromium chromium]

demo.png               a part of a micrograph of the demo, as recorded and denoised, in the report's window
report_images.png      the head of the demo's report, with the first image
report_evidence.png    its evidence; both only with --chromium, a browser that can take pictures of pages
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from pairfree.evidence.examples import display_window
from pairfree.evidence.plots import to_uint8
from pairfree.files.opening import open_image

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "figures"
SHOWN, ROWS, COLUMNS = "val_0001.tif", slice(36, 356), slice(112, 432)
TIMES, GAP_PX = 2, 8
HEIGHT_PX = 12_500
"""More than the report is high on any of the pages below."""


@dataclass(frozen=True)
class Part:
    """What is shown of the report: of a page ``width`` px wide, from ``top`` to ``bottom``."""

    width: int
    top: int
    bottom: int


PARTS = {"report_images.png": Part(1180, 0, 1380), "report_evidence.png": Part(760, 10_434, 10_988)}


def before_and_after(demo: Path) -> np.ndarray:
    """Noisy beside denoised, enlarged, with a white gap; the window is that of the denoised image."""
    noisy, denoised = (
        open_image(demo / folder / SHOWN).pixels[ROWS, COLUMNS] for folder in ("noisy", "denoised")
    )
    low, high = display_window(denoised.astype(np.float64))
    first, second = (
        np.kron(to_uint8(one, low, high), np.ones((TIMES, TIMES), np.uint8))
        for one in (noisy, denoised)
    )
    return np.hstack([first, np.full((len(first), GAP_PX), 255, np.uint8), second])


def report_part(demo: Path, browser: str, part: Part) -> Picture.Image:
    """A part of the report as a browser shows it."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "page.png"
        options = [
            "--headless=new",
            "--no-sandbox",
            "--hide-scrollbars",
            f"--window-size={part.width},{HEIGHT_PX}",
        ]
        page = (demo / "report.html").resolve().as_uri()
        command = [browser, *options, f"--screenshot={shot}", page]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return Picture.open(shot).convert("RGB").crop((0, part.top, part.width, part.bottom))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path)
    parser.add_argument("--chromium", help="the browser's command")
    given = parser.parse_args()
    Picture.fromarray(before_and_after(given.demo)).save(FIGURES / "demo.png", optimize=True)
    if given.chromium:
        for name, part in PARTS.items():
            report_part(given.demo, given.chromium, part).save(FIGURES / name, optimize=True)


if __name__ == "__main__":
    main()
