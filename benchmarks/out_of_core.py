"""Images larger than memory: python benchmarks/out_of_core.py FOLDER [--gb 1 20] [--max-memory 2e9]

Writes an OME-Zarr of each size into FOLDER (deleted afterwards). In processes of their own it is denoised
with a network of two layers, and trained on for some steps of preset cpu; of each is measured the peak
memory as the operating system counts it, the time, and, of prediction, the most open files. Needs three
times the largest size of disk.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

import pairfree as pf
from pairfree.denoising.plan import network_bytes
from pairfree.engine.run import environment

PLANE_PX, CHUNK_PX = 4096, 512
TRAINING_STEPS = 50


class TwoLayers(nn.Sequential):
    """The least that is a denoiser: two 3 x 3 convolutions."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


def write_stack(path: Path, gb: float) -> int:
    """A stack ZYX of uint16 planes, chunks of one plane; returns its bytes.

    Random pixels, so that nothing compresses away.
    """
    import zarr

    planes = max(1, round(gb * 1e9 / (2 * PLANE_PX**2)))
    root = zarr.open_group(str(path), mode="w", zarr_format=3)
    array = root.create_array(
        "0", shape=(planes, PLANE_PX, PLANE_PX), chunks=(1, CHUNK_PX, CHUNK_PX), dtype="uint16"
    )
    rng = np.random.default_rng(0)
    for index in range(planes):
        array[index] = rng.integers(0, 4096, (PLANE_PX, PLANE_PX), dtype=np.uint16)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    datasets = [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.1, 0.1]}]}
    ]
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return planes * 2 * PLANE_PX**2


def predict(run: Path, path: Path, out: Path, max_memory: float, pipe: Any) -> None:
    """In a process of its own."""
    started, process, files = time.perf_counter(), psutil.Process(), [0]
    model = pf.load(run, max_bytes=network_bytes(max_memory), net=TwoLayers())
    pf.denoise(
        model,
        path,
        out,
        max_bytes=max_memory,
        on_pixels=lambda pixels: files.append(process.num_fds()),
    )
    pipe.send({**_spent(started), "open_files": max(files)})


def train(path: Path, max_memory: float, pipe: Any) -> None:
    """In a process of its own."""
    started = time.perf_counter()
    pf.train(path, method="nb2nb", steps=TRAINING_STEPS, max_bytes=max_memory)
    pipe.send(_spent(started))


def _spent(started: float) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": round(time.perf_counter() - started, 1), "peak_memory_bytes": peak}


def alone(work: Any, *given: Any) -> dict[str, Any]:
    """What ``work`` sends from a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(*given, theirs))
    process.start()
    theirs.close()
    found: dict[str, Any] = ours.recv()
    process.join()
    return found


def measure(folder: Path, gb: float, max_memory: float) -> dict[str, Any]:
    run, path, out = folder / "run", folder / f"in-{gb:g}.ome.zarr", folder / f"out-{gb:g}"
    size = write_stack(path, gb)
    found = alone(predict, run, path, out, max_memory)
    shutil.rmtree(out)
    trained = alone(train, path, max_memory)
    shutil.rmtree(path)
    return {
        "bytes": size,
        "prediction": {**found, "mb_per_s": round(size / found["seconds"] / 1e6, 1)},
        "training": trained,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gb", type=float, nargs="+", default=[1.0, 20.0])
    parser.add_argument("--max-memory", type=float, default=2e9)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "out_of_core.json"
    )
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    images = [
        np.random.default_rng(seed).integers(0, 4096, (128, 128)).astype(np.uint16)
        for seed in range(4)
    ]
    pf.train(
        images, method="n2v", steps=20, out=given.folder / "run", net=TwoLayers(), report=False
    )
    found = [measure(given.folder, gb, given.max_memory) for gb in given.gb]
    facts = environment(torch.device("cpu"), "float32")
    text = json.dumps(
        {"max_memory_bytes": given.max_memory, "runs": found, "environment": facts}, indent=1
    )
    given.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    shutil.rmtree(given.folder / "run")


if __name__ == "__main__":
    main()
