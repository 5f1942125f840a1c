"""The picture of the docs that shows the scenes: python benchmarks/scenes.py

docs/figures/scenes.png    a row for each kind: three grey scenes, then two in colour
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pairfree.files.image import Image
from pairfree.files.opening import save_image
from pairfree.scenes import KINDS, draw_scene

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "figures" / "scenes.png"
SIDE_PX, GAP_PX = 144, 4
SEED = 6
GREY, COLOURED = 3, 2


def draw_row(kind: str) -> np.ndarray:
    """Scenes of one kind side by side, (H, W, 3), 0 to 1."""
    gap = np.ones((SIDE_PX, GAP_PX, 3))
    parts = []
    for index in range(GREY):
        scene = draw_scene(index, SEED, height=SIDE_PX, width=SIDE_PX, kind=kind)
        parts += [np.repeat(scene[..., None], 3, axis=2), gap]
    for index in range(COLOURED):
        scene = draw_scene(index, SEED, height=SIDE_PX, width=SIDE_PX, kind=kind, channels=3)
        parts += [scene, gap]
    return np.concatenate(parts[:-1], axis=1)


def main() -> None:
    rows: list[np.ndarray] = []
    for kind in KINDS:
        row = draw_row(kind)
        rows += [row, np.ones((GAP_PX, *row.shape[1:]))]
    picture = np.rint(255.0 * np.concatenate(rows[:-1])).astype(np.uint8)
    save_image(Image(picture, "YXS", family="png"), FIGURE, overwrite=True)


if __name__ == "__main__":
    main()
