"""The watch for a collapse of adversarial training (reliability row R19)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import pairfree as pf
from pairfree.engine.watch import PATIENCE_STEPS, Watch
from pairfree.methods.iscl import ISCL
from pairfree.methods.iscl_short import SCRATCH
from pairfree.methods.parts.unpaired import vital_signs

SEEDS = 20
SMALL = replace(
    SCRATCH,
    width=4,
    blocks=1,
    extractor_width=4,
    extractor_depth=3,
    critic_width=8,
    patch_px=32,
    batch_size=4,
)


def test_a_sign_must_stand_without_a_break() -> None:
    watch = Watch()
    for _ in range(PATIENCE_STEPS - 1):
        assert watch.find_signs({"accuracy": 1.0, "contrast": 0.5, "loss": 3.0}) == []
    assert watch.find_signs({"accuracy": 0.98}) == []
    for _ in range(PATIENCE_STEPS - 1):
        assert watch.find_signs({"accuracy": 1.0}) == []
    (line,) = watch.find_signs({"accuracy": 1.0})
    assert "100.0%" in line
    assert watch.find_signs({"accuracy": 1.0}) == []  # said once
    assert Watch().find_signs({"loss": 1.0}) == []


def test_signs_are_what_they_say() -> None:
    x = torch.randn(4, 1, 8, 8)
    real, fake = torch.tensor([1.0, 0.6, 0.2, 2.0]), torch.tensor([0.0, -3.0, 0.7, 0.4])
    signs = vital_signs(x, 0.25 * x, real, fake)
    assert float(signs["contrast"]) == pytest.approx(0.25)
    assert float(signs["accuracy"]) == pytest.approx(6 / 8)
    assert set(vital_signs(x, x)) == {"contrast"}


def images(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Noisy scenes, and clean ones of other places."""
    rng = np.random.default_rng(seed)
    scenes = [np.kron(rng.integers(40, 210, (16, 16)), np.ones((8, 8))) for _ in range(4)]
    noisy = [
        (scene * rng.lognormal(0, 0.2, scene.shape)).clip(0, 255).astype(np.uint8)
        for scene in scenes[:2]
    ]
    return noisy, [scene.astype(np.uint8) for scene in scenes[2:]]


class Grey(torch.nn.Module):
    """A denoiser that has collapsed, and does not recover."""

    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.0 * x + 0.0 * self.level


class Collapsed(ISCL):
    """Denoiser and generator have become constant."""

    key = "collapsed"

    def __init__(self, channels: int, device: torch.device | str = "cpu") -> None:
        super().__init__(replace(SMALL, lr=2e-3), channels, device)
        for net in (self.F, self.G):
            net.forward = Grey.forward.__get__(Grey())  # type: ignore[method-assign, assignment]


def warned(method: object, seed: int, out: Path) -> list[str]:
    noisy, clean = images(seed)
    pf.train(
        noisy,
        clean=clean,
        method=method,
        seed=seed,
        steps=PATIENCE_STEPS + 300,
        out=out,
        report=False,
        device="cpu",
    )  # type: ignore[arg-type]
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [event["detail"] for event in events if event.get("event") == "collapse"]


@pytest.mark.nightly
def test_collapse_is_found_and_health_is_not_called_collapse(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """20 seeds of each: every collapse detected, no false alarm."""
    begun = time.perf_counter()
    found = sum(bool(warned(Collapsed(1), seed, tmp_path / f"c{seed}")) for seed in range(SEEDS))
    alarms = sum(bool(warned(ISCL(SMALL, 1), seed, tmp_path / f"h{seed}")) for seed in range(SEEDS))
    record_property("collapses", SEEDS)
    record_property("found", found)
    record_property("healthy runs", SEEDS)
    record_property("false alarms", alarms)
    record_property("s a run", round((time.perf_counter() - begun) / (2 * SEEDS), 1))
    assert (found, alarms) == (SEEDS, 0)
