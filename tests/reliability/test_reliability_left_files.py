"""What commands leave on the disk: who may read it, and nothing of a process that was killed (row R23)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pairfree as pf
from pairfree.api import plan_denoising
from pairfree.denoising.files import _remove_stale_files
from pairfree.engine.run import RunFolder
from pairfree.files.atomic import temporary_name

pytestmark = pytest.mark.posix
SETTINGS = {"net": "dncnn", "width": 4, "patch_px": 16, "batch_size": 2}
DEAD = 99_999_999
"""No process has so large a number."""


@pytest.fixture
def private() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def noisy(folder: Path) -> Path:
    (folder / "in/sub").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 200, (40, 40)).astype(np.uint8)
    np.save(folder / "in/sub/a.npy", pixels)
    pf.save_image(pf.Image(pixels, "YX", family="zarr"), folder / "in/sub/b.ome.zarr")
    return folder / "in"


def test_all_files_are_as_private_as_the_user_wants_them(tmp_path: Path, private: None) -> None:
    images, run, out = noisy(tmp_path), tmp_path / "run", tmp_path / "out"
    model = pf.train(images, method="n2v", steps=1, out=run, settings=SETTINGS)
    pf.denoise(model, images, out, report=True)
    pf.simulate(images / "sub/a.npy", "gaussian:sigma=9", tmp_path / "simulated")
    found = [path for path in tmp_path.rglob("*") if path.stat().st_mode & 0o077]
    assert found == []
    assert (out / "report.html").is_file()
    assert (run / "report.html").is_file()


def test_what_a_killed_process_left_is_gone_after_the_next(tmp_path: Path) -> None:
    """Of results, of reports and of maps, also where results lie in sub-folders alone."""
    images, run, out = noisy(tmp_path), tmp_path / "run", tmp_path / "out"
    left = []
    for final in (
        out / "report.html",
        out / "sub/a.npy",
        tmp_path / "maps/sub/a.tif",
        run / "report.html",
        run / "\udcff.html",
        run / "checkpoints/step-000000000.json",
        run / "stages/first/checkpoints/step-000000000.json",
    ):
        final.parent.mkdir(parents=True, exist_ok=True)
        name = temporary_name(final).name.replace(f"-{os.getpid()}-", f"-{DEAD}-")
        left.append(final.with_name(name))
        left[-1].touch()
    (run / "lock").touch()  # as in a run that was killed before its first checkpoint
    with RunFolder(run).locked():
        pass
    planned = plan_denoising("shipped", images, out)
    mapped = [one._replace(map_path=tmp_path / "maps/sub/a.tif") for one in planned.files]
    _remove_stale_files(replace(planned, files=tuple(mapped)))
    assert [path for path in left if path.exists()] == []
