"""What the engine costs: training and prediction beside bare PyTorch, and the memory that each takes.

    python benchmarks/speed.py [--quick] [--device cpu] [--out benchmarks/results/speed.json]

Training    the loop of ``engine.trainer`` with a run folder beside a loop written here: same network,
            optimiser, batch, augmentation and precision, but no counted randomness, no schedule, no
            clipping or guard of gradients, no log, no checkpoints, no signals. Slices of the two alternate
            (A B A B ...); the overhead is the median over pairs of neighbours, because the machine's pace
            moves between two levels within a minute. Slices lie in the middle of a long plan, so that the
            log is as sparse as in a real run; a checkpoint is timed apart and counted as its share of the
            saving interval.
Prediction  ``Predictor`` by tile size beside one call of the network on the whole image, float32,
            alternating likewise.
Memory      peak resident memory (getrusage) of a process of its own for each case, and what of it was there
            before the work began.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairfree.data.normalize import Normalizer
from pairfree.data.patches import PatchPool, TrainingData
from pairfree.engine.plan import plan_steps
from pairfree.engine.predictor import DEFAULT_CORE_PX, Predictor
from pairfree.engine.record import Record
from pairfree.engine.run import RunFolder, environment
from pairfree.engine.trainer import CHECKPOINT_SECONDS, Loop, save, train
from pairfree.methods import PRESETS, build_method
from pairfree.methods.base import At
from pairfree.methods.parts.single import SingleNetwork, autocast

IMAGES, SIDE_PX, SIGMA = 64, 180, 25.0
PLAN_STEPS = 100_000
TRAINING = (("n2c", 0.2), ("nb2nb", 0.2), ("nb2nb", 0.7), ("iddp", 0.2), ("iddp", 0.7))
"""Method and position in its plan: the work of a step depends on the stage and on what is ramped in."""
UNBOUNDED_BYTES = 1e15
UNITS = Normalizer(0.0, 255.0)


@dataclass(frozen=True)
class Effort:
    """steps      training steps a slice
    repeats    slices or predictions of each kind
    training   cases of TRAINING
    pictures   (planes, height, width) by name
    cores_px   tile sizes
    """

    steps: int
    repeats: int
    training: tuple[tuple[str, float], ...]
    pictures: dict[str, tuple[int, int, int]]
    cores_px: tuple[int, ...]


FULL = Effort(
    40,
    9,
    TRAINING,
    {"512x512": (1, 512, 512), "2048x2048": (1, 2048, 2048), "16x512x512": (16, 512, 512)},
    (256, 512, 1024),
)
QUICK = Effort(
    2, 1, (TRAINING[0], TRAINING[-1]), {"200x200": (1, 200, 200), "3x96x96": (3, 96, 96)}, (128,)
)


# -- what both sides share


def make_method(key: str, device: torch.device) -> SingleNetwork:
    """The cpu preset's method, its output moved off the identity that a fresh network is."""
    torch.manual_seed(0)
    method = build_method(key, PRESETS[key]["cpu"], 1, device)
    assert isinstance(method, SingleNetwork)
    with torch.no_grad():
        for parameter in method.net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    return method


def make_images(count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy and clean (N, 1, H, W) float32 in network units: random blots, Gaussian noise."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(
        rng.random((count, 1, max(2, height // 16), max(2, width // 16)), dtype=np.float32)
    )
    clean = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False).numpy()
    noise = rng.standard_normal(clean.shape, dtype=np.float32) * np.float32(SIGMA / UNITS.scale)
    return clean + noise, clean


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


def alternate(
    works: dict[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each work, in turn, after one unmeasured turn: drift of the machine then meets all alike."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            spent = seconds(work, device)
            if turn:
                taken[name].append(spent)
    return taken


# -- training: the engine


class SliceDone(Exception):
    """Ends the engine's loop after a slice; the engine takes it as any exception of a caller."""


def engine_loop(key: str, position: float, device: torch.device, folder: Path) -> Loop:
    """The engine's loop at ``position`` (0..1) of a long plan."""
    method = make_method(key, device)
    noisy, clean = make_images(IMAGES, SIDE_PX, SIDE_PX)
    pools = [PatchPool(list(planes), device, method.patch_px) for planes in (noisy, clean)]
    data = TrainingData(noisy=pools[0], target=pools[1] if method.needs.target else None)
    method.prepare(data, 0)
    run = RunFolder(folder)
    run.create()
    record = replace(Record.untrained(key, UNITS, 1), config=asdict(method.config))
    return Loop(
        method,
        data,
        plan_steps(method, PLAN_STEPS),
        0,
        run,
        record,
        done=int(position * PLAN_STEPS),
    )


def engine_slice(loop: Loop, steps: int) -> None:
    last = loop.done + steps

    def stop(done: int, total: int, stage: str, loss: float | None) -> None:
        if done >= last:
            raise SliceDone

    with suppress(SliceDone):
        train(loop, stop)


# -- training: bare PyTorch


class Bare:
    """A loop as one would write it for oneself: the same work in each step, none of the engine's care."""

    def __init__(self, key: str, at: At, device: torch.device) -> None:
        method = make_method(key, device)
        self.net, self.optimizer, self.config, self.precision = (
            method.net,
            method.optimizers["net"],
            method.config,
            method.precision,
        )
        self.prior, self.average = (copy.deepcopy(self.net).requires_grad_(False) for _ in range(2))
        self.noisy, self.clean = (
            torch.from_numpy(planes).to(device) for planes in make_images(IMAGES, SIDE_PX, SIDE_PX)
        )
        self.at, self.device = at, device
        self.batch = getattr(self.config, "prior_batch", 0) if at.stage == "iddp" else 0
        self.batch = self.batch or self.config.batch_size
        self.loss = {"n2c": self.n2c, "nb2nb": self.nb2nb, "iddp": self.iddp}[key]

    def slice(self, steps: int) -> None:
        for _ in range(steps):
            places = self.places()
            loss = self.loss(self.crop(self.noisy, places), places)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.follow()

    def places(self) -> list[tuple[int, int, int, int]]:
        top = SIDE_PX - self.config.patch_px + 1
        drawn = [torch.randint(high, (self.batch,)).tolist() for high in (IMAGES, top, top, 8)]
        return list(zip(*drawn, strict=True))

    def crop(self, images: Tensor, places: list[tuple[int, int, int, int]]) -> Tensor:
        side = self.config.patch_px
        patches = (
            torch.rot90(images[i, :, y : y + side, x : x + side], k % 4, (1, 2))
            for i, y, x, k in places
        )
        return torch.stack(
            [
                patch.flip(2) if k > 3 else patch
                for patch, (_, _, _, k) in zip(patches, places, strict=True)
            ]
        )

    def f(self, x: Tensor, net: nn.Module | None = None) -> Tensor:
        with autocast(self.device, self.precision):
            out: Tensor = (net or self.net)(x.contiguous(memory_format=torch.channels_last))
        return out.float()

    def n2c(self, y: Tensor, places: list[tuple[int, int, int, int]]) -> Tensor:
        return F.mse_loss(self.f(y), self.crop(self.clean, places))

    def nb2nb(self, y: Tensor, places: list[tuple[int, int, int, int]]) -> Tensor:
        ramped_in = self.at.progress >= self.config.gamma_from
        return self.neighbours(y, self.config.gamma_end * self.at.progress if ramped_in else 0.0)

    def neighbours(self, y: Tensor, gamma: float) -> Tensor:
        first, second = self.draw_cells(y)
        error = self.f(self.sub(y, first)) - self.sub(y, second)
        loss = error.square().mean()
        if gamma > 0:
            with torch.no_grad():
                full = self.f(y)
            loss = (
                loss
                + gamma * (error - (self.sub(full, first) - self.sub(full, second))).square().mean()
            )
        return loss

    def draw_cells(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Two adjacent cells of each 2 x 2 block (0 1 / 2 3).

        The first is any, the second its row or column neighbour.
        """
        shape = (len(y), 1, 1, y.shape[2] // 2, y.shape[3] // 2)
        first = torch.randint(4, shape, device=y.device)
        return first, first ^ torch.randint(1, 3, shape, device=y.device)

    def sub(self, y: Tensor, cell: Tensor) -> Tensor:
        blocks = F.pixel_unshuffle(y, 2).unflatten(1, (-1, 4))
        return blocks.gather(2, cell.expand(-1, y.shape[1], -1, -1, -1)).squeeze(2)

    def iddp(self, y: Tensor, places: list[tuple[int, int, int, int]]) -> Tensor:
        if self.at.stage != "iddp":
            return self.neighbours(y, self.at.progress if self.at.progress >= 0.5 else 0.0)
        with torch.no_grad():
            raw = self.f(y, self.prior)
            prior = raw.clamp(-0.5, 1.5)
            sign, probe = (
                torch.randint(2, y.shape, device=y.device).float() * 2 - 1 for _ in range(2)
            )
            probe = probe * 0.25 * (y - raw).std((1, 2, 3), keepdim=True)
            kept = (probe * (self.f(y + probe, self.prior) - raw)).mean(
                (1, 2, 3), keepdim=True
            ) / probe.square().mean((1, 2, 3), keepdim=True)
            size = (1 - kept.clamp(0, 0.7)) ** (-0.5 * self.config.leverage)
            again = (prior + size * sign * (y - prior)).clamp(-0.5, 1.5)
        assert self.config.alpha == 0, (
            "the blurred image has no part in the preset that is timed here"
        )
        return self.config.beta * F.mse_loss(self.f(again), prior)

    @torch.no_grad()
    def follow(self) -> None:
        if self.at.stage == "iddp":
            steps, learned = self.at.stage_steps, list(self.net.parameters())
            torch._foreach_lerp_(
                list(self.prior.parameters()), learned, self.config.turnovers / steps
            )
            torch._foreach_lerp_(
                list(self.average.parameters()), learned, 1.0 / (self.config.window * steps)
            )


def measure_training(
    key: str, position: float, effort: Effort, device: torch.device
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        loop = engine_loop(key, position, device, Path(folder) / "run")
        at = loop.plan.at(0, loop.done)
        bare = Bare(key, at, device)
        works = {
            "engine": partial(engine_slice, loop, effort.steps),
            "bare": partial(bare.slice, effort.steps),
        }
        taken = alternate(works, effort.repeats, device)
        saving = median(seconds(partial(save, loop), device) for _ in range(3))
    rate = {name: effort.steps / median(spent) for name, spent in taken.items()}
    pairs = sorted(
        100.0 * (a / b - 1.0) for a, b in zip(taken["engine"], taken["bare"], strict=True)
    )
    return {
        "method": key,
        "stage": at.stage,
        "position": position,
        "precision": bare.precision,
        "batch": [bare.batch, 1, bare.config.patch_px, bare.config.patch_px],
        "engine_steps_per_s": rate["engine"],
        "bare_steps_per_s": rate["bare"],
        "overhead_percent": median(pairs),
        "overhead_percent_of_pairs": pairs,
        "checkpoint_s": saving,
        "checkpoint_percent": 100.0 * saving / CHECKPOINT_SECONDS,
        "slice_seconds": taken,
    }


# -- prediction


def variants(effort: Effort, height: int, width: int) -> list[str]:
    """Tile sizes that differ on such a plane, the plane in one tile, and the network alone."""
    return [*(str(core) for core in effort.cores_px if core < max(height, width)), "whole", "plain"]


def prediction(variant: str, images: np.ndarray, device: torch.device) -> Callable[[], np.ndarray]:
    """A call that denoises (N, 1, H, W) and returns the change it made to the last plane, network units."""
    method = make_method("n2c", device)
    if variant == "plain":
        x = torch.from_numpy(images).to(device)

        def plain() -> np.ndarray:
            with torch.inference_mode():
                return (method.net(x)[-1] - x[-1]).cpu().numpy()

        return plain
    core_px = max(images.shape[2:]) if variant == "whole" else int(variant)
    predictor = Predictor(
        method, Normalizer(0.0, 1.0), 1, max_bytes=UNBOUNDED_BYTES, core_px=core_px
    )
    return lambda: [predictor.predict(plane) for plane in images][-1] - images[-1]


def measure_prediction(name: str, effort: Effort, device: torch.device) -> list[dict[str, Any]]:
    planes, height, width = effort.pictures[name]
    images, _ = make_images(planes, height, width)
    works = {
        variant: prediction(variant, images, device) for variant in variants(effort, height, width)
    }
    reference = works["plain"]()
    apart = {variant: float(np.abs(work() - reference).max()) for variant, work in works.items()}
    taken = alternate(works, effort.repeats, device)
    plain = median(taken["plain"])
    return [
        {
            "picture": name,
            "core": variant,
            "mpix_per_s": images.size / 1e6 / median(spent),
            "overhead_percent": 100.0 * (median(spent) / plain - 1.0),
            "largest_difference_from_plain": apart[variant],
            "seconds": spent,
        }
        for variant, spent in taken.items()
    ]


# -- memory: a process a case


def memory_of(work: Callable[[], object], device: torch.device) -> dict[str, int]:
    before = psutil.Process().memory_info().rss
    work()
    wait(device)
    # Linux counts kilobytes here, macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    found = {"before_bytes": before, "peak_bytes": peak}
    if device.type == "cuda":
        found["gpu_peak_bytes"] = torch.cuda.max_memory_allocated(device)
    return found


def memory_worker(case: dict[str, Any]) -> dict[str, int]:
    device = torch.device(case["device"])
    if "picture" in case:
        return memory_of(prediction(case["core"], make_images(*case["shape"])[0], device), device)
    with tempfile.TemporaryDirectory() as folder:
        loop = engine_loop(case["method"], case["position"], device, Path(folder) / "run")
        if case["loop"] == "engine":
            return memory_of(partial(engine_slice, loop, case["steps"]), device)
        bare = Bare(case["method"], loop.plan.at(0, loop.done), device)
        del loop
        return memory_of(partial(bare.slice, case["steps"]), device)


def measure_memory(effort: Effort, device: torch.device) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = [
        {"method": key, "position": position, "loop": side, "steps": min(10, effort.steps)}
        for key, position in effort.training
        for side in ("engine", "bare")
    ]
    for name, (planes, height, width) in effort.pictures.items():
        cases += [
            {"picture": name, "shape": (planes, height, width), "core": variant}
            for variant in variants(effort, height, width)
        ]
    return [case | run_worker(case | {"device": str(device)}) for case in cases]


def run_worker(case: dict[str, Any]) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, __file__, "--worker", json.dumps(case)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"speed: case {case} failed:\n{done.stderr}")
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


# -- words and files


def print_table(title: str, head: list[str], rows: list[list[str]]) -> None:
    sizes = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    print(f"\n{title}")
    for line in (head, *rows):
        print(
            "  ".join(
                cell.ljust(size) if column < 2 else cell.rjust(size)
                for column, (cell, size) in enumerate(zip(line, sizes))
            )
        )


def training_row(one: dict[str, Any]) -> list[str]:
    rates = [f"{one[name]:.2f}" for name in ("engine_steps_per_s", "bare_steps_per_s")]
    costs = [f"{one['overhead_percent']:+.1f}", f"{one['checkpoint_percent']:.2f}"]
    return [
        f"{one['method']} at {one['position']:g}",
        f"{one['stage']}, {one['precision']}",
        *rates,
        *costs,
    ]


def prediction_row(one: dict[str, Any]) -> list[str]:
    return [
        one["picture"],
        one["core"],
        f"{one['mpix_per_s']:.2f}",
        f"{one['overhead_percent']:+.1f}",
    ]


def memory_row(one: dict[str, Any]) -> list[str]:
    case = (
        [one["picture"], one["core"]]
        if "picture" in one
        else [f"{one['method']} at {one['position']:g}", one["loop"]]
    )
    return [
        *case,
        *(
            f"{size / 2**20:.0f}"
            for size in (one["peak_bytes"], one["peak_bytes"] - one["before_bytes"])
        ),
    ]


def print_results(found: dict[str, Any]) -> None:
    head = ["method", "stage", "engine steps/s", "bare steps/s", "overhead %", "checkpoints %"]
    print_table("Training", head, [training_row(one) for one in found["training"]])
    print_table(
        "Prediction, float32",
        ["picture", "core px", "MPix/s", "overhead %"],
        [prediction_row(one) for one in found["prediction"]],
    )
    print_table(
        "Peak memory, MiB",
        ["case", "variant", "process", "of it work"],
        [memory_row(one) for one in found["memory"]],
    )


def measure(effort: Effort, device: torch.device) -> dict[str, Any]:
    facts = environment(device, make_method("n2c", device).precision)
    facts |= {
        "steps_a_slice": effort.steps,
        "repeats": effort.repeats,
        "default_core_px": DEFAULT_CORE_PX,
    }
    # First: Linux counts the memory of the process that starts another into the other's peak,
    # so this one must still be small.
    memory = measure_memory(effort, device)
    training = [
        measure_training(key, position, effort, device) for key, position in effort.training
    ]
    predicted = [
        row for name in effort.pictures for row in measure_prediction(name, effort, device)
    ]
    return {"environment": facts, "training": training, "prediction": predicted, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Speed and memory of pairfree beside bare PyTorch."
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="JSON file to write; benchmarks/results/speed.json, and nothing with --quick",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small pictures, few steps: does the script work; no numbers to quote",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        print(json.dumps(memory_worker(json.loads(asked.worker))))
        return
    found = {"quick": asked.quick} | measure(
        QUICK if asked.quick else FULL, torch.device(asked.device)
    )
    print_results(found)
    out = asked.out or (None if asked.quick else Path(__file__).parent / "results" / "speed.json")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten: {out}")


if __name__ == "__main__":
    main()
