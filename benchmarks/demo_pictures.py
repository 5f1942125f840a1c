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
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from pairfree.evidence.plots import to_uint8
from pairfree.evidence.report import display_window
from pairfree.files.formats import open_image

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "figures"
SHOWN, ROWS, COLUMNS = "val_0001.tif", slice(36, 356), slice(112, 432)
TIMES, GAP_PX = 2, 8
PAGE_PX = 1180, 8200
PARTS = {"report_images.png": (0, 1380), "report_evidence.png": (5560, 6385)}
"""Top and bottom of what is shown of the report, on a page that is PAGE_PX wide."""


def before_and_after(demo: Path) -> np.ndarray:
    """Noisy beside denoised, enlarged, with a white gap; the window is that of the denoised image."""
    noisy, denoised = (
        open_image(demo / folder / SHOWN).pixels[ROWS, COLUMNS] for folder in ("noisy", "denoised")
    )
    low, high = display_window(denoised.astype(np.float64))
    first, second = (
        np.kron(to_uint8(one, low, high), np.ones((TIMES, TIMES), np.uint8)) for one in (noisy, denoised)
    )
    return np.hstack([first, np.full((len(first), GAP_PX), 255, np.uint8), second])


def report_parts(demo: Path, browser: str) -> dict[str, Picture.Image]:
    """Parts of the report as a browser shows it."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "page.png"
        page = (demo / "report.html").resolve().as_uri()
        options = [
            "--headless=new",
            "--no-sandbox",
            "--hide-scrollbars",
            f"--window-size={PAGE_PX[0]},{PAGE_PX[1]}",
        ]
        subprocess.run(
            [browser, *options, f"--screenshot={shot}", page], check=True, capture_output=True, timeout=120
        )
        whole = Picture.open(shot).convert("RGB")
        return {name: whole.crop((0, top, PAGE_PX[0], bottom)) for name, (top, bottom) in PARTS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path)
    parser.add_argument("--chromium", help="the browser's command")
    given = parser.parse_args()
    Picture.fromarray(before_and_after(given.demo)).save(FIGURES / "demo.png", optimize=True)
    if given.chromium:
        for name, part in report_parts(given.demo, given.chromium).items():
            part.save(FIGURES / name, optimize=True)


if __name__ == "__main__":
    main()
