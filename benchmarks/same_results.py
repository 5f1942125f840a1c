"""Whether a change of the code changes results.

    python benchmarks/same_results.py --write before.json
    python benchmarks/same_results.py --compare before.json

Change between the two. Each method and preset takes twenty steps on drawn images (seed 0, float32, one
thread, batches of two small patches), so do the variants that have code of their own; digests of all
weights, of the optimisers' moments and of a denoised image are kept. One file of each format goes through
`denoise` with a fixed network, and digests of what is written are kept. Digests hold for one machine and
one version of PyTorch: write and compare on the same one.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mrcfile
import nibabel
import numpy as np
import SimpleITK
import tifffile
import torch
import zarr
from PIL import Image as Picture
from torch import Tensor

from pairfree import api
from pairfree.data.patches import PatchPool, TrainingData
from pairfree.methods import METHODS, PRESETS, build_method
from pairfree.methods.base import At

STEPS = 20
SMALL: dict[str, Any] = {
    "batch_size": 2,
    "patch_px": 32,
    "precision": "float32",
    "generative_batch": 2,
    "generator_px": 32,
}
SMALL |= {"noise_patch_px": 32, "smooth_limit": 9.0}
ONE_IMAGE: dict[str, Any] = {"steps": STEPS, "minutes": 0.0, "predictions": 2}
WGAN: dict[str, Any] = {"generator": "wgan", "start": "g2", "start_share": 0.4}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "iscl": {
        "from random weights": {
            "start": 0.0,
            "agreement": 1.0,
            "grid_weight": 0.0,
            "critics_ramp": 0.0,
        },
        "the start alone": {"start": 1.0},
        "separate passes": {"share_passes": False},
        "the paper's networks": {"nets": "iscl", "optimizer": "radam", "critic_norm": True},
        "no extractor": {
            "start": 0.0,
            "extract": False,
            "bypass": False,
            "boost": False,
            "noise_consistency": False,
        },
        "F alone": {"gamma": 1.0, "swa_from": 1.0},
        "no noise consistency": {"noise_consistency": False},
        "no boosting": {"boost": False},
    },
    "gan2gan": {
        "wgan": WGAN,
        "wgan, no cycle, no f2": {**WGAN, "beta": 0.0, "gamma": 0.0, "bounded": False},
        "from Z": {"start": "z"},
        "wgan, recorrupted": {"generator": "wgan", "start": "recorrupted"},
        "second copies": {"second_copy": True, "from_scratch": True, "iterations": 3},
        "not stabilised": {"stabilise": False},
        "rule of GCBD": {"rule": "gcbd"},
    },
    "iddp": {
        "no warm start": {"warm_share": 0.0, "alpha": 0.001},
        "no stop-gradient": {
            "warm_share": 0.0,
            "turnovers": 0.0,
            "leverage": 0.0,
            "stop_gradient": False,
        },
        "scheduled rate, no clipping": {"constant_lr": 0.0, "clip": False},
        "no average": {"window": 0.0, "turnovers": 0.0, "leverage": 0.5},
    },
    "n2v": {
        "N2V2": {"replacement": "median", "predict": "image"},
        "structured": {"struct_px": 1, "spacing_px": 8},
    },
    "gcbd": {"wgan": {"generator": "wgan"}},
    "bm3d": {"stabilised": {"stabilise": True}},
}


def drawn(seed: int, noise: float) -> list[np.ndarray]:
    """Four images (1, 96, 80) in 0..1: smooth scenes with an edge, noise that grows with the brightness."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(4):
        rows, columns = np.mgrid[:96, :80] / (6 + 2 * k)
        scene = (
            0.45 + 0.2 * np.sin(rows + k) * np.cos(columns - k) * (rows > 5) + 0.2 * (columns > 6)
        )
        found.append((scene + noise * np.sqrt(scene) * rng.normal(size=scene.shape))[None])
    return found


def pool(images: list[np.ndarray], px: int) -> PatchPool:
    return PatchPool(images, "cpu", px)


def training_data(px: int) -> TrainingData:
    rng = np.random.default_rng(9)
    noise = [0.12 * rng.normal(size=(1, 96, 80)) for _ in range(4)]
    return TrainingData(
        pool(drawn(1, 0.12), px), pool(drawn(2, 0.12), px), pool(drawn(3, 0.0), px), pool(noise, px)
    )


def configured(key: str, preset: str, changes: dict[str, Any]) -> Any:
    """The preset with small batches, and ``changes``.

    What a config does not know is left out, of SMALL alone.
    """
    base = PRESETS[key][preset]
    names = {field.name for field in dataclasses.fields(base)}
    small = SMALL | (ONE_IMAGE if METHODS[key].one_image else {})
    return dataclasses.replace(
        base, **{name: value for name, value in small.items() if name in names}, **changes
    )


def digest_of(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def after_steps(key: str, preset: str, changes: dict[str, Any]) -> dict[str, str]:
    """Digests of what twenty steps make."""
    torch.manual_seed(0)
    method = build_method(key, configured(key, preset, changes), 1, "cpu")
    data = training_data(method.patch_px)
    image = data.noisy.plane(0)[None, :, :64, :64].clone()
    found: dict[str, str] = {}
    if method.trains:
        method.prepare(data, 0)
        stages = method.stages()
        counts = [max(2, round(STEPS * stage.share)) for stage in stages]
        step = 0
        for stage, count in zip(stages, counts, strict=True):
            for k in range(count):
                method.step(
                    data.batch(0, step, method.batch_size), At(0, step, stage.name, k, count)
                )
                step += 1
        method.finish(data, 0)
        found["state"] = digest_of(method.tensors())
    with torch.no_grad():
        found["denoised"] = digest_of({"": method.denoise(image)})
    return found


def cells() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for key, presets in PRESETS.items():
        if key == "bm3d" and importlib.util.find_spec("bm3d") is None:
            continue
        for preset in presets:
            yield f"{key}, {preset}", key, preset, {}
        for name, changes in VARIANTS.get(key, {}).items():
            yield f"{key}, {name}", key, "cpu", changes


class Smoothing(torch.nn.Module):
    """Binomial weights over 3 x 3 pixels; there is nothing to train."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", torch.outer(row, row)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = self.kernel.expand(channels, 1, 3, 3)
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
        return torch.nn.functional.conv2d(padded, kernel, groups=channels) + 0.0 * self.weight


def written_files(folder: Path) -> list[Path]:
    """A file of each format that is easily written, as other programs write them."""
    rng = np.random.default_rng(5)
    grey, colour = (
        rng.integers(0, 60_000, (40, 48), np.uint16),
        rng.integers(0, 250, (40, 48, 3), np.uint8),
    )
    stack = rng.integers(-900, 2_000, (3, 40, 48), np.int16)
    found = {
        name: folder / name
        for name in (
            "a.npy",
            "a.png",
            "c.png",
            "c.jpg",
            "c.bmp",
            "a.tif",
            "c.tif",
            "s.tif",
            "s.mrc",
            "s.nii.gz",
            "s.nii",
        )
    }
    np.save(found["a.npy"], grey)
    Picture.fromarray(grey).save(found["a.png"])
    for name in ("c.png", "c.jpg", "c.bmp", "c.tif"):
        Picture.fromarray(colour).save(found[name])
    tifffile.imwrite(found["a.tif"], grey.astype(">f4"), compression="zlib", tile=(16, 16))
    tifffile.imwrite(
        found["s.tif"],
        stack,
        imagej=True,
        metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"},
        resolution=(5, 5),
    )
    with mrcfile.new(found["s.mrc"]) as volume:
        volume.set_data(stack)
        volume.voxel_size = 1.5
        volume.header.label[0] = b"drawn"  # mrcfile writes the time there
    volume = np.moveaxis(stack, 0, -1)
    for name in ("s.nii", "s.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.5, 0.7, 2.0, 1.0])), found[name])
    for name in ("s.mha", "s.mhd"):
        found[name] = folder / name
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(stack), str(found[name]))
    for version in (2, 3):
        found[f"z{version}.zarr"] = folder / f"z{version}.zarr"
        zarr.create_array(
            str(found[f"z{version}.zarr"]), data=stack, chunks=(1, 16, 48), zarr_format=version
        )
    return list(found.values())


def files_digests(inputs: list[Path]) -> dict[str, str]:
    """What `denoise` writes of each input with a fixed network: a digest of every file."""
    found: dict[str, str] = {}
    for source in inputs:
        for channels in (1, 3):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    image = (
                        np.random.default_rng(0)
                        .random((1 if channels == 1 else 3, 48, 48))
                        .astype(np.float32)
                    )
                    run = Path(folder) / "run"
                    made = api.train(
                        [image],
                        method="n2v",
                        net=Smoothing(),
                        out=run,
                        steps=1,
                        settings={"patch_px": 16},
                        report=False,
                    )
                    api.denoise(made, [source], Path(folder) / "out")
                except Exception as error:
                    words = f"{type(error).__name__}: {error}".replace(folder, "").replace(
                        str(source.parent), ""
                    )
                    found[f"{source.name}, {channels} channels"] = words
                    continue
                written = sorted(
                    path for path in (Path(folder) / "out").rglob("*") if path.is_file()
                )
                for path in written:
                    name = f"{source.name}, {channels} channels: {path.relative_to(Path(folder) / 'out')}"
                    found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def measured(data: Path | None, log: Path) -> dict[str, Any]:
    """All digests; those that stand in ``log`` are not made again."""
    found: dict[str, Any] = json.loads(log.read_text()) if log.exists() else {}
    for name, key, preset, changes in cells():
        if name not in found:
            try:
                found[name] = after_steps(key, preset, changes)
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
            print(name, found[name], flush=True)
            log.write_text(json.dumps(found, indent=1) + "\n")
    inputs = sorted(Path(__file__).parents[1].glob("src/pairfree/assets/demo/*.tif"))[:1]
    inputs += sorted(data.iterdir()) if data is not None else []
    if "files" not in found:
        with tempfile.TemporaryDirectory() as folder:
            found["files"] = files_digests(inputs + written_files(Path(folder)))
        log.write_text(json.dumps(found, indent=1) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write", type=Path, help="write the digests; gone on with where the file exists"
    )
    parser.add_argument(
        "--compare", type=Path, help="compare with digests that were written before"
    )
    parser.add_argument("--data", type=Path, help="folder of files of several formats")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measured(arguments.data, arguments.write or Path(folder) / "log.json")
    if arguments.compare is None:
        return
    before = json.loads(arguments.compare.read_text())
    flat = [
        {
            f"{a}/{b}": value
            for a, one in side.items()
            for b, value in (one if isinstance(one, dict) else {"": one}).items()
        }
        for side in (before, found)
    ]
    other = sorted(
        name for name in flat[0].keys() | flat[1].keys() if flat[0].get(name) != flat[1].get(name)
    )
    print(f"{len(flat[0].keys() | flat[1].keys()) - len(other)} the same, {len(other)} differ")
    for name in other:
        print(f"  {name}: {flat[0].get(name)} -> {flat[1].get(name)}")
    sys.exit(1 if other else 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
