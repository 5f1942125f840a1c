"""A folder with the small real files that the pages speak of, and one trained run, shared by all pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

import pairfree as pf

SIDE_PX, CORNERS = 128, ((0, 0), (384, 384))
"""Parts of the demo's micrographs: their corners, which are smooth enough for methods that look for smooth
areas.
"""
BLUR_PX = 3.0
STEPS = 8
CT_GAIN, CT_OFFSET = 0.5, -100.0
"""From grey levels of the micrographs to values that lie in the window of the docs, [-160, 240] HU."""


@pytest.fixture(scope="session", autouse=True)
def _small_grid() -> Iterator[None]:
    """The grid of a network is measured on one patch, not on eight: that takes longer than eight steps."""
    with pytest.MonkeyPatch.context() as patch:
        for home in ("parts.single", "iscl_short"):
            patch.setattr(f"pairfree.methods.{home}.GRID_PATCHES", 1)
        yield


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder; each page works in a copy."""
    root = tmp_path_factory.mktemp("pages") / "sample"
    root.mkdir()
    first, second, other = (
        demo_parts(name) for name in ("train_0001.tif", "train_0002.tif", "val_0001.tif")
    )
    clean = [smoothed(part) for part in second]
    write(root / "my_noisy_folder", "cells", first)
    write(root / "new_folder", "new", second)
    write(root / "noisy", "cells", first)
    write(root / "clean", "cells", clean)
    write(root / "my_clean_folder", "other", [smoothed(part) for part in other])
    write(root / "first_frames", "scene", first)
    write(root / "second_frames", "scene", second)
    write(root / "my_rough_folder", "cells", clean)
    blank = [part - smoothed(part).astype(np.int32) + 300 for part in other]
    for name in ("my_blank_frames", "my_empty_films"):
        write(
            root / name, "blank", [np.clip(part, 0, 2**16 - 1).astype(np.uint16) for part in blank]
        )
    write(root / "low_dose", "slice", [as_ct(part) for part in first])
    write(root / "full_dose_of_others", "slice", [as_ct(smoothed(part)) for part in other])
    tifffile.imwrite(root / "stack.tif", np.stack(first), metadata={"axes": "ZYX"}, imagej=True)
    model = pf.train(
        root / "my_noisy_folder",
        out=root / "run",
        steps=STEPS,
        seed=0,
        settings={"batch_size": 2, "patch_px": 64},
    )
    pf.denoise(model, root / "my_noisy_folder", root / "denoised")
    return root


@pytest.fixture
def folder(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sample, in which the page works."""
    place = tmp_path / "page"
    shutil.copytree(sample, place)
    monkeypatch.chdir(place)
    return place


def demo_parts(name: str) -> list[np.ndarray]:
    """The corners of one of the micrographs that the package ships."""
    with files("pairfree").joinpath("assets/demo", name).open("rb") as stream:
        image = tifffile.imread(stream)
    return [image[top : top + SIDE_PX, left : left + SIDE_PX] for top, left in CORNERS]


def smoothed(part: np.ndarray) -> np.ndarray:
    """What stands for a clean image."""
    return gaussian_filter(part.astype(np.float64), BLUR_PX).astype(part.dtype)


def as_ct(part: np.ndarray) -> np.ndarray:
    """What stands for a CT slice."""
    return (CT_GAIN * part + CT_OFFSET).astype(np.int16)


def write(folder: Path, stem: str, parts: list[np.ndarray]) -> None:
    """Parts as files of a folder, numbered from 1."""
    folder.mkdir()
    for number, part in enumerate(parts, 1):
        tifffile.imwrite(folder / f"{stem}_{number}.tif", part)
