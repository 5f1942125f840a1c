"""Prediction by one and by two Dask workers of one thread each.

    python benchmarks/workers.py FOLDER [--gb 0.5] [--rounds 3]

Writes an OME-Zarr into FOLDER (deleted afterwards) and denoises it with the network of ``cpu`` presets,
runs taking turns. Times are of whole calls, the start of the workers included, and of the tiles alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from out_of_core import write_stack

import pairfree as pf
from pairfree.engine.run import environment

WORKERS = (1, 2)


def measure(run: Path, path: Path, out: Path, workers: int) -> dict[str, float]:
    started = time.perf_counter()
    came: list[float] = []
    pf.denoise(
        run,
        path,
        out,
        scheduler=f"local:{workers}",
        on_pixels=lambda pixels: came.append(time.perf_counter()),
    )
    seconds = time.perf_counter() - started
    shutil.rmtree(out)
    return {
        "workers": workers,
        "seconds": round(seconds, 2),
        "from the first result to the last": round(came[-1] - came[0], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gb", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "workers.json"
    )
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of a task
    torch.set_num_threads(1)
    given.folder.mkdir(parents=True, exist_ok=True)
    run, path = given.folder / "run", given.folder / "in.ome.zarr"
    images = [
        np.random.default_rng(seed).integers(0, 4096, (128, 128)).astype(np.uint16)
        for seed in range(4)
    ]
    pf.train(images, method="nb2nb", steps=20, out=run, report=False)
    size = write_stack(path, given.gb)
    found = [
        measure(run, path, given.folder / "out", workers)
        for _ in range(given.rounds)
        for workers in WORKERS
    ]
    medians = {
        key: [
            statistics.median(one[key] for one in found if one["workers"] == workers)
            for workers in WORKERS
        ]
        for key in ("seconds", "from the first result to the last")
    }
    ratios = {key: round(one / two, 2) for key, (one, two) in medians.items()}
    text = json.dumps(
        {
            "bytes": size,
            "runs": found,
            "ratios": ratios,
            "environment": environment(torch.device("cpu"), "bfloat16"),
        },
        indent=1,
    )
    given.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    shutil.rmtree(path)
    shutil.rmtree(run)


if __name__ == "__main__":
    main()
