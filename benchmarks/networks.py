"""Which network for a short budget: supervised training of each for the same minutes.

    python benchmarks/networks.py --data DIR [--minutes 4] [--out benchmarks/results/networks.json]

PSNR on 24 images of BSD400 held out from training. DIR is the data of ``pairfree bench``. No test set of a
table is touched. sigma 25, data range 255, clipped, seed 0. Rows are cached.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pairfree as pf
from pairfree.bench.base import make_noisy, read_planes
from pairfree.engine.run import environment
from pairfree.evidence.metrics import psnr

HELD_OUT = 24
ROWS: dict[str, dict[str, Any]] = {
    "shuffle-unet, width 32": {},
    "shuffle-unet, width 48": {"width": 48},
    "unet of the IDDP paper, residual": {"net": "unet", "predict": "residual"},
    "dncnn-17": {"net": "dncnn"},
    "shuffle-unet, width 32, adam": {"optimizer": "adam"},
}


def measure(data: Path, minutes: float, settings: dict[str, Any]) -> dict[str, Any]:
    clean = read_planes(data / "natural" / "bsd400", 1)
    noisy = make_noisy(clean, "gaussian:sigma=25", "held out")
    order = np.random.default_rng(0).permutation(sorted(clean))
    test, train = order[:HELD_OUT], order[HELD_OUT:]
    model = pf.train(
        [noisy[name] for name in train],
        target=[clean[name].astype(np.float32) for name in train],
        method="n2c",
        minutes=minutes,
        settings=settings,
    )
    scores = [psnr(clean[name][0], model.predictor.predict(noisy[name])[0], 255.0) for name in test]
    weights = sum(parameter.numel() for parameter in model.method.denoiser.parameters())
    return {
        "settings": settings,
        "minutes": minutes,
        "psnr_db": float(np.mean(scores)),
        "steps": model.record.plan.as_list(),
        "weights": weights,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/networks.json"))
    given = parser.parse_args()
    done = (
        json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {"rows": {}}
    )
    for name, settings in ROWS.items():
        stored = done["rows"].get(name, {})
        if stored.get("settings") != settings or stored.get("minutes") != given.minutes:
            done["rows"][name] = {
                **measure(given.data, given.minutes, settings),
                "environment": environment(torch.device("cpu"), "auto"),
            }
            given.out.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
        print(
            f"{name}: {done['rows'][name]['psnr_db']:.2f} dB, {done['rows'][name]['steps'][0][1]:,} steps",
            flush=True,
        )


if __name__ == "__main__":
    main()
