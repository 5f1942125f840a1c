"""What a structured mask does to Noise2Void on noise that is correlated between neighbours.

    python benchmarks/structured_mask.py --data DIR [--minutes 2.5] [--seed 0]
                                         [--out benchmarks/results/structured_mask.json]

And on white noise. Trained on 376 images of BSD400, scored on 24 others of it: PSNR in dB, data range 255,
clipped to it. Both noises have a deviation of 25; the correlated one is half the sum of 2 x 2 white values,
0.5 between neighbours.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import pairfree as pf
from pairfree.bench.base import NOISE_SEED, read_planes
from pairfree.engine.run import environment
from pairfree.evidence.metrics import score
from pairfree.noise.simulate import image_rng

SIGMA, EVERY, HELD_OUT = 25.0, 17, 24
ROWS: dict[str, Mapping[str, Any]] = {
    "Noise2Void": {},
    "structured mask": {"struct_px": 1, "struct": "square", "spacing_px": 8},
}


def noisy(clean: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """(1, H, W) float32 grey levels each; noise is a function of the name."""
    found = {}
    for name, image in clean.items():
        height, width = image.shape[1:]
        white = image_rng(NOISE_SEED, f"{kind}/{name}").normal(0.0, SIGMA, (height + 1, width + 1))
        made = (
            white[1:, 1:]
            if kind == "white"
            else (white[1:, 1:] + white[:-1, 1:] + white[1:, :-1] + white[:-1, :-1]) / 2.0
        )
        found[name] = (image + made).astype(np.float32)
    return found


def measured(data: Path, minutes: float, seed: int) -> dict[str, Any]:
    every = read_planes(data / "natural" / "bsd400", 1)
    held_out = sorted(every)[::EVERY][:HELD_OUT]
    train, test = (
        {name: image for name, image in every.items() if (name in held_out) == held}
        for held in (False, True)
    )
    found: dict[str, Any] = {}
    for kind in ("white", "correlated"):
        given, tested = noisy(train, kind), noisy(test, kind)
        found[kind] = {"noisy": mean_psnr(tested, test)}
        for row, settings in ROWS.items():
            model = pf.train(
                list(given.values()),
                method="n2v",
                minutes=minutes,
                seed=seed,
                settings=settings,
                report=False,
            )
            denoised = {name: model.denoise(image) for name, image in tested.items()}
            found[kind][row] = mean_psnr(denoised, test) | {"steps": model.record.plan.total}
            print(f"{kind}, {row}: {found[kind][row]}", flush=True)
    return {
        "minutes": minutes,
        "seed": seed,
        "noise": found,
        "environment": environment(model.method.device, model.method.precision),
    }


def mean_psnr(found: Mapping[str, np.ndarray], clean: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {
        "psnr_db": round(
            float(
                np.mean([score(clean[name][0], found[name][0], 255.0).psnr_db for name in clean])
            ),
            2,
        )
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).resolve().parent / "results" / "structured_mask.json",
    )
    given = parser.parse_args()
    given.out.write_text(
        json.dumps(measured(given.data, given.minutes, given.seed), indent=1) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
