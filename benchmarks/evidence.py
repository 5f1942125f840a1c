"""How often the tests of a denoiser are right: python benchmarks/evidence.py --data DIR --runs DIR

Writes docs/evidence_measured.md too. Goes on where it was stopped: one line of FILE.jsonl an image and model.

Faults are planted in what trained networks make of simulated noise on photographs, micrographs and
fluorescence: each must raise an alarm, and the untouched results none. The estimated error, the uncertainty
and the resolution are held against the truth. What was looked at while limits were chosen had other images
and seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, shift
from scipy.signal.windows import tukey

import pairfree
from pairfree.engine.run import environment
from pairfree.evidence.rows import WITHIN_90
from pairfree.examination.examine import Examination, Subject, examine_subjects
from pairfree.examination.probe import Denoise
from pairfree.examination.transfer import RESOLVED, RINGS, TAPER

FloatArray = NDArray[np.float64]
Change = Callable[[FloatArray, FloatArray], FloatArray]
"""Output and input (H, W) -> what is shown instead."""

SIDE_PX, IMAGES, TRAINING = 320, 10, 12
MINUTES = 1.5
TILE_PX = 112
COSTS_DB = 0.1
"""From which a change is a fault for certain: a blur of 0.7 px may even help."""
TOGETHER = 4
"""Images of one set, for the estimated error."""


@dataclass(frozen=True)
class Scene:
    """A clean image with its noise."""

    clean: FloatArray
    noisy: FloatArray


@dataclass(frozen=True)
class Kind:
    """Where scenes come from, and their noise."""

    files: str
    training: str
    blur_px: float
    """Takes off the noise that the files have of their own."""
    add: Callable[[FloatArray, np.random.Generator], FloatArray]


def _white(clean: FloatArray, rng: np.random.Generator) -> FloatArray:
    return clean + 25.0 * rng.standard_normal(clean.shape)


def _count(gain: float, read: float) -> Callable[[FloatArray, np.random.Generator], FloatArray]:
    def add(clean: FloatArray, rng: np.random.Generator) -> FloatArray:
        counts = rng.poisson(np.maximum(clean, 0.0) / gain) * gain
        return np.asarray(counts + read * rng.standard_normal(clean.shape))

    return add


KINDS = {
    "photographs": Kind("natural/bsd68/*", "natural/bsd300/train/*", 0.0, _white),
    "micrographs": Kind("em/vnc_sstem/*", "em/isbi2012/*", 0.8, _count(8.5, 0.0)),
    "fluorescence": Kind("fluo/fmd/gt/*", "fluo/fmd/gt/*", 1.0, _count(3.0, 2.0)),
}
FOREIGN = {
    "photographs": "micrographs",
    "micrographs": "photographs",
    "fluorescence": "photographs",
}
"""What the network of the wrong kind was trained on."""


def read_scenes(data: Path, kind: Kind, seed: int) -> tuple[list[Scene], list[Scene]]:
    """For the test and for training, of other files."""
    rng = np.random.default_rng(seed)
    tested = _spread(sorted(data.glob(kind.files)), IMAGES)
    others = [path for path in sorted(data.glob(kind.training)) if path not in tested]
    training = _spread(others, TRAINING)
    made = []
    for paths in (tested, training):
        clean = [_read(path, kind.blur_px) for path in paths]
        made.append([Scene(one, kind.add(one, rng)) for one in clean])
    return made[0], made[1]


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    places = np.linspace(0, len(paths) - 1, min(count, len(paths)))
    return [paths[int(place)] for place in places]


def _read(path: Path, blur_px: float) -> FloatArray:
    pixels = np.asarray(Image.open(path)).astype(np.float64)
    if pixels.ndim == 3:
        pixels = pixels[..., 1]
    if blur_px:
        pixels = gaussian_filter(pixels, blur_px)
    return pixels[:SIDE_PX, :SIDE_PX]


def train_models(scenes: dict[str, tuple[list[Scene], list[Scene]]], runs: Path) -> None:
    """IDDP on the noisy images themselves, and the supervised bound on others; kept in ``runs``."""
    for kind, (tested, training) in scenes.items():
        noisy = [one.noisy.astype(np.float32) for one in tested]
        if not (runs / f"iddp-{kind}").exists():
            pairfree.train(
                noisy,
                method="iddp",
                minutes=MINUTES,
                seed=1,
                out=runs / f"iddp-{kind}",
                report=False,
            )
        if not (runs / f"n2c-{kind}").exists():
            pairfree.train(
                [one.noisy.astype(np.float32) for one in training],
                target=[one.clean.astype(np.float32) for one in training],
                method="n2c",
                minutes=MINUTES,
                seed=1,
                out=runs / f"n2c-{kind}",
                report=False,
            )


def make_faults(scene: Scene, other: FloatArray, sigma: float) -> dict[str, Change]:
    """Faults, by name; ``sigma`` is the deviation of the noise."""
    shape = scene.noisy.shape
    rng = np.random.default_rng(5)
    rough = gaussian_filter(rng.standard_normal(shape), 1.0)
    texture = rough - gaussian_filter(rough, 3.0)
    texture *= sigma / texture.std()
    detail = other - gaussian_filter(other, 4.0)
    detail = detail * sigma / max(float(detail.std()), 1e-9)
    rows, columns = (np.arange(side) // TILE_PX for side in shape)
    signs = rng.choice([-1.0, 1.0], (int(rows.max()) + 1, int(columns.max()) + 1))
    tiles = sigma * signs[rows][:, columns]
    board = sigma * np.where(np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 2, 1.0, -1.0)
    top, left = _find_busiest(scene.clean, 96)
    here = slice(top, top + 96), slice(left, left + 96)
    pasted = slice(shape[0] // 3, shape[0] // 3 + 64), slice(shape[1] // 3, shape[1] // 3 + 64)
    source = _find_busiest(other, 64)
    piece = other[source[0] : source[0] + 64, source[1] : source[1] + 64]

    def blur_here(output: FloatArray, noisy: FloatArray) -> FloatArray:
        made = output.copy()
        made[here] = gaussian_filter(output, 2.0)[here]
        return made

    def paste(output: FloatArray, noisy: FloatArray) -> FloatArray:
        made = output.copy()
        made[pasted] = piece - piece.mean() + output[pasted].mean()
        return made

    def sharpen(output: FloatArray, noisy: FloatArray) -> FloatArray:
        return output + (output - gaussian_filter(output, 1.0))

    return {
        "blur 0.7 px": lambda g, y: np.asarray(gaussian_filter(g, 0.7)),
        "blur 1 px": lambda g, y: np.asarray(gaussian_filter(g, 1.0)),
        "blur 2 px": lambda g, y: np.asarray(gaussian_filter(g, 2.0)),
        "blur of 96 px": blur_here,
        "pasted 64 px": paste,
        "foreign detail of 0.3 sigma": lambda g, y: g + 0.3 * detail,
        "sharpened": sharpen,
        "texture of 0.15 sigma": lambda g, y: g + 0.15 * texture,
        "noise left, 20 %": lambda g, y: 0.8 * g + 0.2 * y,
        "brighter by 0.1 sigma": lambda g, y: g + 0.1 * sigma,
        "contrast x 0.9": lambda g, y: 0.9 * g,
        "seams of 0.05 sigma": lambda g, y: g + 0.05 * tiles,
        "checkerboard of 0.05 sigma": lambda g, y: g + 0.05 * board,
        "shifted by 1 px": lambda g, y: np.asarray(shift(g, (0, 1), order=1, mode="nearest")),
    }


def _find_busiest(image: FloatArray, side: int) -> tuple[int, int]:
    """Where a square has the most detail: a blur of an empty place is no fault."""
    detail = (image - gaussian_filter(image, 2.0)) ** 2
    best = (0.0, 0, 0)
    for top in range(0, image.shape[0] - side + 1, 16):
        for left in range(0, image.shape[1] - side + 1, 16):
            power = float(detail[top : top + side, left : left + side].sum())
            best = max(best, (power, top, left))
    return best[1], best[2]


def change_output(denoise: Denoise, change: Change) -> Denoise:
    """A denoiser whose output is changed."""
    return lambda planes: np.stack([change(denoise(planes)[0], planes[0])])


def remember(denoise: Denoise) -> Denoise:
    """The same, that does no image twice."""
    kept: dict[bytes, FloatArray] = {}

    def look_up(planes: FloatArray) -> FloatArray:
        key = planes.tobytes()
        if key not in kept:
            kept[key] = denoise(planes)
        return kept[key]

    return look_up


def apply_model(model: pairfree.Model) -> Denoise:
    """A model as a function of float64 planes."""
    return lambda planes: model.predictor.predict(planes.astype(np.float32)).astype(np.float64)


def load_models(kind: str, runs: Path) -> dict[str, pairfree.Model]:
    """By name; the last one knows other images."""
    return {
        "shipped": pairfree.load("shipped"),
        "iddp": pairfree.load(runs / f"iddp-{kind}"),
        "n2c": pairfree.load(runs / f"n2c-{kind}"),
        "foreign": pairfree.load(runs / f"n2c-{FOREIGN[kind]}"),
    }


def measure_image(
    kind: str, name: str, model: pairfree.Model, number: int, scene: Scene, other: FloatArray
) -> dict[str, Any]:
    """All faults of one image and model."""
    denoise = remember(apply_model(model))
    noise = float(np.std(scene.noisy - scene.clean))
    changes: dict[str, Change] = {"none": lambda output, noisy: output}
    if name != "foreign":
        changes |= make_faults(scene, other, noise)
    found: dict[str, Any] = {"kind": kind, "model": name, "image": number, "faults": {}}
    for fault, change in changes.items():
        examined = examine(scene.noisy, change_output(denoise, change), f"{kind} {number}")
        made = change(denoise(scene.noisy[None])[0], scene.noisy)
        found["faults"][fault] = {
            "alarms": [row.name for row in examined.warnings],
            "rows": [row.name for row in examined.rows],
            "mse": float(np.mean((made - scene.clean) ** 2)),
        }
        if fault == "none":
            found |= compare_with_truth(examined, scene)
    return found


def examine(noisy: FloatArray, denoise: Denoise, name: str) -> Examination:
    """One image."""
    return examine_subjects([Subject(name, noisy[None], denoise)], data_range=255.0)


def compare_with_truth(examined: Examination, scene: Scene) -> dict[str, Any]:
    """Uncertainty and resolution beside what the truth says."""
    if not examined.images:
        return {}
    one = examined.images[0]
    height, width = one.output.shape[1:]
    clean = scene.clean[:height, :width]
    errors = np.abs(one.output[0] - clean)
    return {
        "covered": float(np.mean(errors <= WITHIN_90 * one.error_map[0])),
        "ranked": _correlate_blocks(one.error_map[0] ** 2, errors**2),
        "resolution_px": one.rings.resolution_px,
        "true_resolution_px": find_resolution(one.output[0], clean),
    }


def _correlate_blocks(found: FloatArray, true: FloatArray) -> float:
    height, width = (side // 32 * 32 for side in found.shape)
    blocks = []
    for values in (found, true):
        whole = values[:height, :width].reshape(height // 32, 32, width // 32, 32)
        blocks.append(np.sqrt(whole.mean(axis=(1, 3)).ravel()))
    return float(np.corrcoef(*blocks)[0, 1])


def find_resolution(output: FloatArray, clean: FloatArray) -> float:
    """Finest period at which output and truth correlate by half."""
    taper = np.outer(*(tukey(side, 2.0 * TAPER) for side in output.shape))
    spectra = [np.fft.fft2((one - one.mean()) * taper) for one in (output, clean)]
    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in output.shape), indexing="ij"))
    number = np.asarray(radius * 2 * RINGS, dtype=int).ravel()

    def add_up(values: FloatArray) -> FloatArray:
        return np.bincount(number, values.ravel(), minlength=RINGS)[:RINGS]

    shared = add_up((spectra[0] * spectra[1].conj()).real)
    powers = [add_up(np.abs(one) ** 2) for one in spectra]
    values = shared / np.sqrt(powers[0] * powers[1])
    below = np.flatnonzero(values < RESOLVED)
    if not below.size:
        return 2.0
    first = int(below[0])
    part = (values[first - 1] - RESOLVED) / (values[first - 1] - values[first])
    return float(1.0 / ((first - 0.5 + part) / (2.0 * RINGS)))


def measure_sets(
    kind: str, name: str, model: pairfree.Model, scenes: Sequence[Scene]
) -> Iterator[dict[str, Any]]:
    """The estimated error of sets of four images."""
    denoise = apply_model(model)
    for first in range(len(scenes) - TOGETHER + 1):
        some = scenes[first : first + TOGETHER]
        subjects = [
            Subject(f"{kind} {first + place}", one.noisy[None], denoise)
            for place, one in enumerate(some)
        ]
        examined = examine_subjects(subjects, data_range=255.0, quick=True)
        errors = [np.mean((denoise(one.noisy[None])[0] - one.clean) ** 2) for one in some]
        row = examined.rows[0]
        yield {
            "kind": kind,
            "model": name,
            "set": first,
            "offered": row.level == "ok",
            "estimated": row.value,
            "low": row.low,
            "high": row.high,
            "true": 10.0 * math.log10(255.0**2 / float(np.mean(errors))),
            "alarms": [one.name for one in examined.warnings],
        }


def summarize(lines: Sequence[dict[str, Any]], sets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts and shares."""
    judged = [line for line in lines if line["model"] != "foreign"]
    foreign = [line for line in lines if line["model"] == "foreign"]
    found: dict[str, Any] = {"images": len(judged), "faults": {}, "healthy": {}}
    for fault in judged[0]["faults"]:
        if fault == "none":
            continue
        told = [bool(line["faults"][fault]["alarms"]) for line in judged]
        costs = [
            10.0 * math.log10(line["faults"][fault]["mse"] / line["faults"]["none"]["mse"])
            for line in judged
        ]
        dear = [one for one, cost in zip(told, costs, strict=True) if cost >= COSTS_DB]
        alarms = Counter(name for line in judged for name in line["faults"][fault]["alarms"])
        found["faults"][fault] = {
            "told": sum(told),
            "of": len(told),
            "dear_told": sum(dear),
            "dear": len(dear),
            "cost_db": float(np.median(costs)),
            "by": alarms.most_common(3),
        }
    names = sorted({name for line in judged for name in line["faults"]["none"]["rows"]})
    for name in names:
        found["healthy"][name] = sum(name in line["faults"]["none"]["alarms"] for line in judged)
    found["healthy_any"] = sum(bool(line["faults"]["none"]["alarms"]) for line in judged)
    found["foreign"] = {
        "told": sum(bool(line["faults"]["none"]["alarms"]) for line in foreign),
        "of": len(foreign),
    }
    for kind in KINDS:
        of_kind = [line for line in judged if line["kind"] == kind and "covered" in line]
        of_sets = [one for one in sets if one["kind"] == kind]
        offered = [one for one in of_sets if one["offered"]]
        apart = np.array([one["estimated"] - one["true"] for one in offered])
        within = [one["low"] <= one["true"] <= one["high"] for one in of_sets]
        widths = [(one["high"] - one["low"]) / 2.0 for one in of_sets]
        resolutions = [line["resolution_px"] / line["true_resolution_px"] for line in of_kind]
        found[kind] = {
            "covered": [line["covered"] for line in of_kind],
            "ranked": float(np.median([line["ranked"] for line in of_kind])),
            "resolution_ratio": np.quantile(resolutions, (0.1, 0.5, 0.9)).tolist(),
            "sets": len(of_sets),
            "half_width_db": float(np.median(widths)),
            "within_interval": float(np.mean(within)),
            "offered": len(offered),
            "rms_db": float(np.sqrt(np.mean(apart**2))) if len(apart) else None,
            "within_half_db": float(np.mean(np.abs(apart) <= 0.5)) if len(apart) else None,
        }
    return found


def write_page(path: Path, found: dict[str, Any], seed: int) -> None:
    """The tables of the documentation."""
    total = found["images"]
    words = [
        "# How often the evidence is right",
        "",
        "Faults were planted in results of trained networks, and the [tests of a denoiser](evidence.md) were "
        "asked. The noise is simulated, so that the truth is known.",
        "",
        f"{total} results: {IMAGES} images of each kind (photographs with white noise of 25; "
        "micrographs with counts of gain 8.5; fluorescence with counts of gain 3 and read noise of 2), "
        "three networks each "
        f"(the one that comes with pairfree, IDDP trained on the noisy images for {MINUTES:g} minutes, the "
        f"supervised bound trained as long on others); {SIDE_PX} × {SIDE_PX} px, each image by "
        f"itself, seed {seed}. The images and seeds on which limits were chosen were others.",
        "",
        f"| planted fault | told | of those that cost {COSTS_DB:g} dB | costs (median) | by |",
        "|---|---|---|---|---|",
    ]
    for fault, one in found["faults"].items():
        by = ", ".join(f"{name} {count}" for name, count in one["by"])
        told, dear = f"{one['told']} of {one['of']}", f"{one['dear_told']} of {one['dear']}"
        words.append(f"| {fault} | {told} | {dear} | {one['cost_db']:.2f} dB | {by} |")
    words += ["", "| alarms on untouched results | of " + str(total) + " |", "|---|---|"]
    for name, count in found["healthy"].items():
        words.append(f"| {name} | {count} |")
    words.append(f"| any of them | {found['healthy_any']} |")
    foreign = found["foreign"]
    words += [
        "",
        f"A supervised network that was trained on images of another kind: {foreign['told']} of "
        f"{foreign['of']} told.",
        "",
        "| | nine of ten intervals hold | least, most | correlation of blocks | resolution over the true "
        f"one (10 %, median, 90 %) | PSNR of {TOGETHER} images: half of its interval (median) | holds the "
        "truth | told as a number | off by (rms) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        one = found[kind]
        covered = one["covered"]
        ratio = ", ".join(f"{value:.2f}" for value in one["resolution_ratio"])
        off = "–" if one["rms_db"] is None else f"{one['rms_db']:.2f} dB"
        cells = [
            kind,
            f"{100 * np.mean(covered):.1f} %",
            f"{100 * min(covered):.0f} %, {100 * max(covered):.0f} %",
            f"{one['ranked']:.2f}",
            ratio,
            f"{one['half_width_db']:.1f} dB",
            f"{one['within_interval']:.0%} of {one['sets']}",
            f"{one['offered']} of {one['sets']}",
            off,
        ]
        words.append(f"| {' | '.join(cells)} |")
    path.write_text("\n".join(words) + "\n", encoding="utf-8")


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="where networks are kept")
    parser.add_argument("--seed", type=int, default=104)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/evidence.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/evidence_measured.md"))
    given = parser.parse_args()
    began = time.time()
    scenes = {
        kind: read_scenes(given.data, one, given.seed + number)
        for number, (kind, one) in enumerate(KINDS.items())
    }
    train_models(scenes, given.runs)
    kept = given.out.with_suffix(".jsonl")
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {(line["kind"], line["model"], line.get("image"), line.get("set")) for line in lines}

    def keep(line: dict[str, Any]) -> None:
        lines.append(line)
        with kept.open("a") as file:
            file.write(json.dumps(line) + "\n")

    for kind, (tested, _) in scenes.items():
        for name, model in load_models(kind, given.runs).items():
            for number, scene in enumerate(tested):
                if (kind, name, number, None) in done:
                    continue
                other = tested[(number + 1) % len(tested)].clean
                other = np.resize(other, scene.clean.shape)
                keep(measure_image(kind, name, model, number, scene, other))
                print(f"{kind}, {name}, {number}: {time.time() - began:.0f} s", flush=True)
            last = len(tested) - TOGETHER
            if name != "foreign" and (kind, name, None, last) not in done:
                for line in measure_sets(kind, name, model, tested):
                    if (kind, name, None, line["set"]) not in done:
                        keep(line)
    images = [line for line in lines if "image" in line]
    found = summarize(images, [line for line in lines if "set" in line])
    found["seed"] = given.seed
    found["environment"] = environment(torch.device("cpu"), "float32")
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_page(given.page, found, given.seed)
    kept.unlink()


if __name__ == "__main__":
    main()
