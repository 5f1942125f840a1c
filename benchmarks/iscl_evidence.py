"""What the trained ISCL runs of ``bench em`` and ``bench ablation`` say beside their scores.

    python benchmarks/iscl_evidence.py --data DIR [--runs benchmarks/runs]
                                       [--out benchmarks/results/iscl_evidence.json]

For each measured ISCL cell: mean PSNR of the test images with the saved, averaged weights and with those of
the last step (same run, so the average is all that differs), and Spearman's rank correlation of |F(x) - (x
- H(x))| with the true absolute error, over all test pixels and over means of 8 x 8 px. Data range 255,
clipped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

import pairfree as pf
from pairfree.bench import em
from pairfree.engine.predictor import Predictor
from pairfree.engine.run import environment
from pairfree.evidence.metrics import psnr
from pairfree.methods.iscl import ISCL
from pairfree.methods.parts.unpaired import Bounded

ROOT = Path(__file__).resolve().parent.parent
BLOCK_PX = 8
EVERY = 7
"""Every seventh pixel is enough for a rank correlation, and no multiple of a block's side."""


def with_raw_weights(method: ISCL) -> ISCL:
    """The same method, its result made by the networks of the last step."""
    method.ensemble = method.make_ensemble(method.F, method.H if method.config.extract else None)
    method.bounded = Bounded(method.ensemble)
    return method


def block_means(image: np.ndarray) -> np.ndarray:
    rows, columns = (side // BLOCK_PX for side in image.shape)
    return (
        image[: rows * BLOCK_PX, : columns * BLOCK_PX]
        .reshape(rows, BLOCK_PX, columns, BLOCK_PX)
        .mean((1, 3))
    )


def evidence(data: Path, run: Path, cell: em.Cell) -> dict[str, Any]:
    model = pf.load(run, device="cpu")
    method = model.method
    assert isinstance(method, ISCL)
    test = em.task(data, cell).test
    scores: dict[str, list[float]] = {"averaged": [], "raw": []}
    fine, coarse = [], []
    for image in test:
        assert image.clean is not None
        output = np.clip(model.predictor.predict(image.noisy)[0], 0, 255)
        scores["averaged"].append(psnr(image.clean[0], output, 255.0))
        error, apart = np.abs(output - image.clean[0]), model.predictor.disagreement(image.noisy)[0]
        fine.append((apart.ravel()[::EVERY], error.ravel()[::EVERY]))
        coarse.append((block_means(apart).ravel(), block_means(error).ravel()))
    raw = Predictor(with_raw_weights(method), model.predictor.normalizer, model.predictor.channels)
    scores["raw"] = [
        psnr(image.clean[0], raw.predict(image.noisy)[0], 255.0)
        for image in test
        if image.clean is not None
    ]
    pooled = {
        name: np.concatenate(found, axis=1)
        for name, found in (("pixels", fine), ("blocks of 8 px", coarse))
    }
    return {
        "psnr_db": {name: float(np.mean(values)) for name, values in scores.items()},
        "rank_correlation": {
            name: float(spearmanr(*values).statistic) for name, values in pooled.items()
        },
        "images": len(test),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "benchmarks" / "runs")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "iscl_evidence.json"
    )
    given = parser.parse_args()
    found = (
        json.loads(given.out.read_text(encoding="utf-8"))["cells"] if given.out.is_file() else {}
    )  # run folders may be deleted
    cells = [("em", cell) for cell in em.cells("cpu")] + [
        ("ablation", cell) for cell in em.ablation_cells("cpu")
    ]
    for experiment, cell in cells:
        run = given.runs / experiment / cell.slug / "run"
        if cell.method == "iscl" and cell.settings.get("extract", True) and run.is_dir():
            found[cell.name] = one = evidence(given.data, run, cell)
            psnr_db = one["psnr_db"]
            print(
                f"{cell.name}: averaged {psnr_db['averaged']:.2f} dB, "
                f"raw {psnr_db['raw']:.2f} dB, {one['rank_correlation']}"
            )
    record = {"cells": found, "environment": environment(torch.device("cpu"), "float32")}
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
