"""GAN2GAN and its relatives from images to a run folder: stages, stops inside and between them, refusals."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from scipy import ndimage

import pairfree as pf
from pairfree.engine.trainer import Stopped
from pairfree.errors import ConfigError

NET = {"width": 4, "patch_px": 32, "batch_size": 2, "precision": "float32"}
IMITATION = {**NET, "noise_patch_px": 32, "smooth_limit": 9.0}
PLAIN = {"even": False, "iterations": 2}
WGAN = {
    **IMITATION,
    "generator": "wgan",
    "generator_px": 32,
    "critic_width": 4,
    "generative_batch": 2,
    **{"net": "dncnn", "start": "g2", "rough_width": 4, "second_copy": True, "from_scratch": True},
}
SMALL = {"patch_px": 32, "batch_size": 2, "precision": "float32"}
RUNS = {
    "gan2gan": ("gan2gan", {**IMITATION, **PLAIN}, ["start", "G2G 1", "G2G 2"]),
    "gan2gan, from the start": ("gan2gan", {**SMALL, "net": "even-unet"}, ["G2G 1"]),
    "gan2gan, W-GAN": ("gan2gan", {**WGAN, **PLAIN}, ["generative", "G2G 1", "G2G 2"]),
    "gcbd": ("gcbd", {**IMITATION, "rule": "wavelet"}, ["train"]),
    "noisy-n2n": ("noisy-n2n", NET, ["Noisy N2N 1", "Noisy N2N 2", "Noisy N2N 3"]),
}
STEPS = 12


def scenes(count: int, seed: int, sigma: float) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(rng.standard_normal((70, 80)), 12) for _ in range(count)]
    return [
        (1000 + 300 * one / one.std() + rng.normal(0, sigma, one.shape)).astype(np.float32)
        for one in smooth
    ]


def given(method: str) -> dict[str, list[np.ndarray]]:
    """What each method must be given; ``noisy`` shows the same scenes as the estimates."""
    noise = [np.random.default_rng(9).normal(50, 60, (64, 64)).astype(np.float32)]
    others = {
        "gcbd": {"clean": scenes(2, 1, 0)},
        "noisy-n2n": {"target": scenes(2, 0, 30), "noise_images": noise},
    }
    return {"noisy": scenes(2, 0, 60), **others.get(method, {})}


@pytest.mark.parametrize("name", RUNS)
def test_stopped_anywhere_and_resumed_it_is_the_run_that_was_never_stopped(name, tmp_path):
    """Weights and every logged number, with a stop inside each stage and one at its end."""
    method, settings, stages = RUNS[name]

    def stop_at(step):
        def on_step(done, total, stage, loss):
            if done == step:
                signal.raise_signal(signal.SIGINT)

        return on_step

    begin = {"method": method, "settings": settings, "steps": STEPS, "seed": 3}
    whole = pf.train(**given(method), **begin, out=tmp_path / "whole", report=False)
    plan = whole.record.plan.stages
    assert [stage for stage, _ in plan] == stages
    ends = np.cumsum([count for _, count in plan]).tolist()
    stops = sorted({1, *(end - 1 for end in ends), *ends[:-1]})
    assert all(count >= 3 for _, count in plan)
    for number, stop in enumerate(stops):
        with pytest.raises(Stopped):
            pf.train(
                **given(method),
                **(begin if number == 0 else {"resume": True}),
                out=tmp_path / "parts",
                report=False,
                on_step=stop_at(stop),
            )
    parts = pf.train(**given(method), out=tmp_path / "parts", resume=True, report=False)
    ours, theirs = whole.method.tensors(), parts.method.tensors()
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        np.testing.assert_array_equal(value.numpy(), theirs[key].numpy(), key)
    assert (tmp_path / "whole/events.jsonl").read_bytes() == (
        tmp_path / "parts/events.jsonl"
    ).read_bytes()


def test_rounds_need_an_estimate_and_the_noise():
    with pytest.raises(ConfigError, match=r"rough estimate of each file \(`target`\)"):
        pf.train(scenes(1, 0, 60), method="noisy-n2n", steps=3)
    with pytest.raises(ConfigError, match=r"images of the noise alone \(`noise_images`\)"):
        pf.train(scenes(1, 0, 60), target=scenes(1, 0, 30), method="noisy-n2n", steps=3)
