"""Prediction of images larger than memory: python benchmarks/out_of_core.py FOLDER [--gb 1 20] [--max-memory 2e9]

Writes an OME-Zarr of each size into FOLDER (deleted afterwards), denoises it in a process of its own with a network of two layers, and
measures that process's peak memory as the operating system counts it, and its time. Needs three times the largest size of disk.
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
import torch
from torch import nn

import pairfree as pf
from pairfree.denoising import network_bytes
from pairfree.engine.run import environment

PLANE_PX, CHUNK_PX = 4096, 512


class TwoLayers(nn.Sequential):
    """The least that is a denoiser: two 3 x 3 convolutions."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


def write_stack(path: Path, gb: float) -> int:
    """A stack ZYX of uint16 planes, chunks of one plane; random pixels, so that nothing compresses away. Returns its bytes."""
    import zarr

    planes = max(1, round(gb * 1e9 / (2 * PLANE_PX**2)))
    root = zarr.open_group(str(path), mode="w", zarr_format=3)
    array = root.create_array("0", shape=(planes, PLANE_PX, PLANE_PX), chunks=(1, CHUNK_PX, CHUNK_PX), dtype="uint16")
    rng = np.random.default_rng(0)
    for index in range(planes):
        array[index] = rng.integers(0, 4096, (PLANE_PX, PLANE_PX), dtype=np.uint16)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.1, 0.1]}]}]
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return planes * 2 * PLANE_PX**2


def predict(run: Path, path: Path, out: Path, max_memory: float, pipe: Any) -> None:
    """In a process of its own."""
    started = time.perf_counter()
    model = pf.load(run, max_bytes=network_bytes(max_memory), net=TwoLayers())
    pf.denoise(model, path, out, max_bytes=max_memory)
    pipe.send((time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def measure(folder: Path, gb: float, max_memory: float) -> dict[str, float]:
    run, path, out = folder / "run", folder / f"in-{gb:g}.ome.zarr", folder / f"out-{gb:g}"
    size = write_stack(path, gb)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=predict, args=(run, path, out, max_memory, theirs))
    process.start()
    theirs.close()
    seconds, peak = ours.recv()
    process.join()
    for made in (path, out):
        shutil.rmtree(made)
    return {"bytes": size, "seconds": round(seconds, 1), "mb_per_s": round(size / seconds / 1e6, 1), "peak_memory_bytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gb", type=float, nargs="+", default=[1.0, 20.0])
    parser.add_argument("--max-memory", type=float, default=2e9)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "out_of_core.json")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    images = [np.random.default_rng(seed).integers(0, 4096, (128, 128)).astype(np.uint16) for seed in range(4)]
    pf.train(images, method="n2v", steps=20, out=given.folder / "run", net=TwoLayers(), report=False)
    found = [measure(given.folder, gb, given.max_memory) for gb in given.gb]
    facts = environment(torch.device("cpu"), "float32")
    text = json.dumps({"max_memory_bytes": given.max_memory, "runs": found, "environment": facts}, indent=1)
    given.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    shutil.rmtree(given.folder / "run")


if __name__ == "__main__":
    main()
