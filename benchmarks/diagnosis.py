"""How often a diagnosis is right: python benchmarks/diagnosis.py --data DIR [--seed N] [--out FILE]

Writes docs/diagnose_measured.md too.

Noise of 30 kinds is laid over clean photographs, micrographs, fluorescence and CT, and each sign is compared
with what was done. What was looked at while the limits were chosen had other seeds; images come from the same
sets. Then the real sets, in words.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, shift

import pairfree
from pairfree.engine.run import environment
from pairfree.noise.simulate import parse_noise

FloatArray = NDArray[np.float64]
Make = Callable[[FloatArray, Generator], FloatArray]

KINDS = {
    "photographs": ("natural/bsd300/train/*", 0.0),
    "micrographs": ("em/vnc_sstem/*", 0.8),
    "fluorescence": ("fluo/fmd/gt/*", 0.8),
    "CT": ("ct/covid_ny_sbu/*", 1.0),
}
"""Files, and the deviation of the Gaussian that takes off the noise that they have of their own, pixels."""
SIDE_PX = 512
REPEATS = 3
CUT = 1e-3
"""Share of the pixels that are cut off, from which this must be found; none of it must be where none are."""


@dataclass(frozen=True)
class Case:
    """One kind of noise."""

    name: str
    make: Make
    signs: tuple[str, ...] = ()
    """That are there."""
    open_signs: tuple[str, ...] = ()
    """That are neither right nor wrong."""
    sigma: float = 0.0
    """Deviation of white noise that does not grow."""
    gain: float = 0.0


def _spec(text: str) -> Make:
    return lambda x, rng: parse_noise(text).draw(rng).add(x, rng)


def _white(sigma: float) -> Make:
    return lambda x, rng: x + sigma * rng.standard_normal(x.shape)


def _mixed(gain: float, read: float) -> Make:
    counts = _spec(f"poisson:lam={255 / gain}")
    return lambda x, rng: counts(x, rng) + read * rng.standard_normal(x.shape)


def _blurred(sigma: float, blur: float) -> Make:
    def make(x: FloatArray, rng: Generator) -> FloatArray:
        wide = rng.standard_normal((x.shape[0] + 32, x.shape[1] + 32))
        noise = gaussian_filter(wide, blur)[16:-16, 16:-16]
        return np.asarray(x + sigma * noise / noise.std())

    return make


def _lines(sigma: float, lines: float, axis: int) -> Make:
    def make(x: FloatArray, rng: Generator) -> FloatArray:
        shape = [1, 1]
        shape[axis] = x.shape[axis]
        return np.asarray(_white(sigma)(x, rng) + lines * rng.standard_normal(shape))

    return make


def _clipped(sigma: float) -> Make:
    return lambda x, rng: np.clip(np.rint(_white(sigma)(128 + 1.5 * (x - 128), rng)), 0, 255)


def _jpeg(sigma: float, quality: int) -> Make:
    def make(x: FloatArray, rng: Generator) -> FloatArray:
        grey = np.clip(np.rint(_white(sigma)(x, rng)), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer)).astype(np.float64)

    return make


def _rounded(sigma: float, step: float) -> Make:
    return lambda x, rng: np.rint(_white(sigma)(x, rng) / step) * step


def _shifted(sigma: float, order: int) -> Make:
    return lambda x, rng: np.asarray(
        shift(_white(sigma)(x, rng), (0.5, 0.5), order=order, mode="nearest")
    )


def _denoised(sigma: float, blur: float) -> Make:
    return lambda x, rng: np.asarray(gaussian_filter(_white(sigma)(x, rng), blur))


SHARED = ("shared", "smooth")
CASES = (
    *(Case(f"white {s:g}", _white(s), sigma=s) for s in (2.0, 5.0, 9.0, 15.0, 25.0, 50.0)),
    *(
        Case(f"counts, gain {g:g}", _spec(f"poisson:lam={255 / g}"), ("grows",), gain=g)
        for g in (0.5, 2.0, 8.0, 30.0)
    ),
    Case("counts 4, read 10", _mixed(4.0, 10.0), ("grows",), gain=4.0),
    Case("counts 2, read 5", _mixed(2.0, 5.0), ("grows",), gain=2.0),
    Case("shared over 0.6 px", _blurred(15.0, 0.6), ("shared",)),
    Case("shared over 1 px", _blurred(25.0, 1.0), ("shared",), ("smooth",)),
    Case("white and blotches", _spec("correlated:sigma=25"), open_signs=("shared",)),
    Case("rows of 8", _lines(15.0, 8.0, 0), ("rows",)),
    Case("rows of 2", _lines(10.0, 2.0, 0), ("rows",)),
    Case("columns of 5", _lines(15.0, 5.0, 1), ("columns",)),
    Case("film", _spec("film"), ("lopsided", "shared"), ("grows", "clipped_low", "clipped_high")),
    Case(
        "charging",
        _spec("charge"),
        ("streaks",),
        open_signs=("shared", "rows", "lopsided", "grows", "smooth"),
    ),
    Case("clipped 25", _clipped(25.0), open_signs=("grows",)),
    Case("clipped 50", _clipped(50.0), open_signs=("grows",)),
    Case("whole numbers", _rounded(10.0, 1.0)),
    Case(
        "JPEG 75",
        _jpeg(10.0, 75),
        ("jpeg",),
        ("shared", "grows", "smooth", "rows", "columns", "lopsided"),
    ),
    Case(
        "JPEG 90",
        _jpeg(10.0, 90),
        ("jpeg",),
        ("shared", "grows", "smooth", "rows", "columns", "lopsided"),
    ),
    Case("few grey levels", _rounded(10.0, 16.0), ("few_levels",)),
    Case("half a pixel, linear", _shifted(15.0, 1), SHARED),
    Case("half a pixel, cubic", _shifted(15.0, 3), ("shared",), ("smooth",)),
    Case("denoised", _denoised(20.0, 1.0), SHARED),
    Case(
        "clean",
        lambda x, rng: x,
        open_signs=(
            *("shared", "smooth", "grows", "rows", "columns", "lopsided", "few_levels"),
            *("clipped_low", "clipped_high"),
        ),
    ),
)
CLIPPED_CASES = ("clipped 25", "clipped 50")
"""Which end is cut off depends on the image: counted in each."""
SIGNS = (
    "streaks",
    "grows",
    "shared",
    "smooth",
    "rows",
    "columns",
    "clipped_low",
    "clipped_high",
    "jpeg",
    "lopsided",
    "few_levels",
)
REAL = {
    "FMD, confocal": "fluo/fmd/raw/Confocal*",
    "FMD, two-photon": "fluo/fmd/raw/TwoPhoton*",
    "FMD, wide-field": "fluo/fmd/raw/WideField*",
    "FMD, averages": "fluo/fmd/gt/*",
    "W2S": "fluo/w2s/avg1/*",
    "Convallaria, 16 bits": "fluo/pn2v_16bit/*Conv*",
    "nanoparticles": "em/emps/noisy/*",
    "low-dose TEM": "em/tem_lowdose/*",
    "charging": "em/sem_charging_yeast/SEM_yeast.tif",
    "rat axons": "em/sem_rat_axon/*",
    "cryo-EM, single frames": "em/cryo_apoferritin/single_frame/*",
    "ISBI sections": "em/isbi2012/*",
    "Mayo, quarter dose": "ct/mayo_L506/quarter/*",
    "chest CT": "ct/covid_ny_sbu/*",
    "camera (CC15)": "camera/cc15/real/*",
}


def read_clean(data: Path, kind: str, number: int) -> FloatArray:
    """One of the images of a kind, 0 to 255."""
    pattern, blur = KINDS[kind]
    paths = sorted(data.glob(pattern))
    image = pairfree.open_image(paths[number % len(paths)])
    plane = image.plane(next(iter(image.planes()))).astype(np.float64)
    plane = plane if plane.ndim == 2 else plane[..., 1]
    plane = plane[:SIDE_PX, :SIDE_PX]
    if kind == "CT":
        plane = np.clip((plane + 160.0) / 400.0 * 255.0, 0, 255)
    return np.asarray(gaussian_filter(plane, blur) if blur else plane)


def truth_of(case: Case, noisy: FloatArray, name: str) -> bool | None:
    """Whether a sign is there; None where it does not count."""
    if name in case.open_signs:
        return None
    if name.startswith("clipped"):
        if case.name not in CLIPPED_CASES:
            return False
        share = float(np.mean(noisy == (0.0 if name == "clipped_low" else 255.0)))
        return True if share > CUT else None
    return name in case.signs


def measure_cases(data: Path, seed: int) -> dict[str, Any]:
    """Counts of right and wrong signs, errors of levels and gains, and what could not be told."""
    rng = np.random.default_rng(seed)
    counts: dict[str, Counter[str]] = {name: Counter() for name in SIGNS}
    unknown: dict[str, Counter[str]] = {case.name: Counter() for case in CASES}
    errors: dict[str, list[float]] = {"level": [], "level from 9, no micrographs": [], "gain": []}
    wrong, seconds, pixels, total = [], 0.0, 0, 0
    for case in CASES:
        for kind in KINDS:
            for _ in range(REPEATS):
                clean = read_clean(data, kind, int(rng.integers(1 << 30)))
                noisy = case.make(clean, rng)
                begun = time.process_time()
                found = pairfree.diagnose([noisy]).facts.files[0]
                seconds += time.process_time() - begun
                pixels += noisy.size
                total += 1
                for name in SIGNS:
                    expected = truth_of(case, noisy, name)
                    if expected is None:
                        continue
                    said = found.signs[name]
                    counts[name][f"{'there' if expected else 'absent'}, {said}"] += 1
                    if said is None:
                        unknown[case.name][name] += 1
                    elif said != expected:
                        wrong.append(f"{name}: {case.name}, {kind}")
                if case.sigma:
                    error = found.level.value / case.sigma - 1.0
                    errors["level"].append(error)
                    if case.sigma >= 9 and kind != "micrographs":
                        errors["level from 9, no micrographs"].append(error)
                if case.gain and found.signs["grows"]:
                    errors["gain"].append(found.gain.value / case.gain - 1.0)
    return {
        "cases": total,
        "seconds_a_megapixel": 1e6 * seconds / pixels,
        "signs": {name: dict(one) for name, one in counts.items()},
        "errors": {name: summarise(values) for name, values in errors.items()},
        "not_told": {name: dict(one) for name, one in unknown.items() if one},
        "wrong": wrong,
    }


def summarise(errors: Sequence[float]) -> dict[str, float]:
    """Median and 90th percentile of the size of relative errors."""
    sizes = np.abs(errors)
    return {
        "number": len(errors),
        "median": float(np.median(sizes)),
        "percentile_90": float(np.quantile(sizes, 0.9)),
    }


def describe_real(data: Path) -> dict[str, dict[str, Any]]:
    """What is said of the real sets."""
    said = {}
    for name, pattern in REAL.items():
        paths = [str(path) for path in sorted(data.glob(pattern))]
        found = pairfree.diagnose(paths)
        said[name] = {
            "files": len(paths),
            "words": list(found.words),
            "method": found.choice.method,
            "rule": found.choice.rule,
        }
    return said


WORDS = {
    "grows": "grows with the brightness",
    "shared": "shared by neighbours",
    "smooth": "smoothed before",
    "rows": "rows",
    "columns": "columns",
    "streaks": "streaks",
    "clipped_low": "cut off at black",
    "clipped_high": "cut off at white",
    "jpeg": "JPEG",
    "lopsided": "lopsided",
    "few_levels": "few grey levels",
}
"""Signs, as the page calls them."""
PAGE = Path(__file__).resolve().parent.parent / "docs" / "diagnose_measured.md"


def write_tables(result: dict[str, Any]) -> str:
    """What came out, as Markdown."""
    simulated = result["simulated"]
    errors = simulated["errors"]
    even, gain = errors["level from 9, no micrographs"], errors["gain"]
    machine = result["environment"]["processor"]
    lines = [
        "# How often a diagnosis is right",
        "",
        "Written by `python benchmarks/diagnosis.py`. "
        f"{simulated['cases']} images of 512 x 512 px and smaller, {len(CASES)} kinds of noise on clean "
        f"photographs, micrographs, fluorescence and CT (seed {result['seed']}; limits were chosen on images "
        "of other seeds from the same sets). A sign is counted where what was done decides it; 'not told' is "
        "'cannot be told from this image'.",
        "",
        "| sign | there: found | missed | not told | absent: right | false | not told |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, words in WORDS.items():
        one = simulated["signs"][name]
        numbers = []
        for truth in ("there", "absent"):
            right, wrong = ("True", "False") if truth == "there" else ("False", "True")
            numbers += [one.get(f"{truth}, {said}", 0) for said in (right, wrong, "None")]
        lines.append(f"| {words} | {' | '.join(map(str, numbers))} |")
    lines += [
        "",
        f"Level of white noise, sigma 9 to 50, no micrographs: {_both(even)} ({even['number']} images); "
        "with micrographs, whose texture is everywhere, and sigma from 2: "
        f"{_both(errors['level'])}. Gain, where growth was found: {_both(gain)} of {gain['number']} images. "
        f"{simulated['seconds_a_megapixel']:.2f} s of one core a megapixel ({machine}).",
        "",
        "What was wrong: " + "; ".join(sorted(set(simulated["wrong"]))) + ".",
        "",
        "## What one image does not tell",
        "",
        f"Of {4 * REPEATS} images each.",
        "",
        "| noise | not told |",
        "|---|---|",
    ]
    for name, signs in simulated["not_told"].items():
        told = ", ".join(f"{WORDS[sign]} ({count})" for sign, count in signs.items())
        lines.append(f"| {name} | {told} |")
    lines += [
        "",
        "## Real images",
        "",
        "What is said of all sets that we have, and the method that is taken.",
        "",
        "| set | files | in words | method |",
        "|---|---|---|---|",
    ]
    for name, one in result["real"].items():
        lines.append(
            f"| {name} | {one['files']} | {' '.join(one['words'])} | {one['method'] or 'none'} |"
        )
    return "\n".join(lines) + "\n"


def _both(error: dict[str, float]) -> str:
    """Median and 90th percentile."""
    median, percentile = 100.0 * error["median"], 100.0 * error["percentile_90"]
    return f"{median:.1f} % off in the median, {percentile:.1f} % at the 90th percentile"


def main() -> None:
    """Measure, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/diagnosis.json"))
    asked = parser.parse_args()
    result = {
        "environment": environment(torch.device("cpu"), "float32"),
        "seed": asked.seed,
        "simulated": measure_cases(asked.data, asked.seed),
        "real": describe_real(asked.data),
    }
    asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(write_tables(result), encoding="utf-8")
    print(json.dumps(result["simulated"], indent=1))


if __name__ == "__main__":
    main()
