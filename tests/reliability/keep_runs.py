"""Make the run folders that every later version must load: ``python tests/reliability/keep_runs.py NAME``.

Run once a release, and committed: ``kept_runs/NAME/METHOD``. Each run is stopped after 5 of 6 steps (seed 1,
float32, one thread); ``stopped.npy`` is what its checkpoint makes of a corner of old_runs/noisy/0.tif,
``finished.npy`` what the run makes of it when it was resumed.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path

import numpy as np
import tifffile
import torch

import pairfree as pf
from pairfree.engine.run import RunFolder
from pairfree.engine.trainer import Stopped

HERE = Path(__file__).parent
IMAGES = HERE / "old_runs"
KEPT = HERE / "kept_runs"
SMALL = {"width": 2, "patch_px": 16, "batch_size": 1, "precision": "float32"}
SETTINGS = {
    "n2v": SMALL,
    "iddp": SMALL,
    "gan2gan": SMALL | {"noise_patch_px": 32, "rule": "wavelet", "rough_width": 2},
    "iscl": SMALL
    | {"blocks": 1, "extractor_depth": 3, "extractor_width": 2, "critic_width": 2}
    | {"nets": "iscl"},
}
STEPS = 6
STOP = 5
"""In the last stage of each: all optimisers have taken steps."""


def corner() -> np.ndarray:
    """What the models are applied to, (48, 40)."""
    return tifffile.imread(IMAGES / "noisy" / "0.tif")[:48, :40].astype(np.float32)


def clean_for(key: str) -> dict[str, Path]:
    """The clean set of a method that needs one."""
    return {"clean": IMAGES / "clean"} if key == "iscl" else {}


def keep(key: str, out: Path) -> None:
    """One run, stopped, with its results."""
    with contextlib.suppress(Stopped):
        pf.train(
            IMAGES / "noisy",
            out=out,
            method=key,
            settings=SETTINGS[key],
            steps=STEPS,
            seed=1,
            start="none",
            report=False,
            on_step=lambda done, *_: done == STOP,
            **clean_for(key),
        )
    folder = RunFolder(out)
    stored = folder.read_config()
    places = {name: name for name in ("noisy", "clean") if name in stored}
    folder.write_config({**stored, **places, "command": ""})
    shutil.rmtree(out / "stages", ignore_errors=True)
    for old in sorted((out / "checkpoints").iterdir())[:-2]:
        old.unlink()
    (out / "lock").unlink(missing_ok=True)
    np.save(out / "stopped.npy", pf.load(out, device="cpu").denoise(corner()))
    again = shutil.copytree(out, out.with_name("again"))
    model = pf.train(IMAGES / "noisy", out=again, resume=True, report=False, **clean_for(key))
    np.save(out / "finished.npy", model.denoise(corner()))
    shutil.rmtree(again)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for key in SETTINGS:
        keep(key, KEPT / sys.argv[1] / key)
