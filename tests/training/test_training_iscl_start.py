"""ISCL begins from the shipped network where noise is that of counts, and only there."""

from __future__ import annotations

import numpy as np
import pytest

import pairfree as pf
from pairfree.methods.iscl_short import COUNTS
from pairfree.nets.scaled import ScaledEvenUNet
from pairfree.nets.start import SCENES
from pairfree.scenes import draw_scene

SIDE = 128


def scenes(seed: int) -> list[np.ndarray]:
    """Dark images with something bright, of counts."""
    return [20.0 + 100.0 * draw_scene(i, seed, height=SIDE, width=SIDE) for i in range(6)]


def as_bytes(images: list[np.ndarray]) -> list[np.ndarray]:
    return [np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in images]


@pytest.fixture(scope="module")
def clean() -> list[np.ndarray]:
    return as_bytes(scenes(2))


@pytest.fixture(scope="module")
def counted() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return as_bytes([rng.poisson(scene) for scene in scenes(1)])


def train(noisy, clean, tmp_path, **order):
    given = {"method": "iscl", "steps": 4, "device": "cpu", "report": False, **order}
    return pf.train(noisy, clean=clean, out=tmp_path / "run", **given)


def test_noise_of_counts_takes_the_shipped_network(counted, clean, tmp_path):
    model = train(counted, clean, tmp_path)
    assert model.record.start == "shipped"
    assert {name: model.record.config[name] for name in COUNTS} == COUNTS
    net = model.method.ensemble.denoise
    assert isinstance(net, ScaledEvenUNet)
    # Poisson noise of mean 70 or so, in [-1, 1]: 8.4 of 255 are 0.066
    assert float(net.scale) == pytest.approx(0.1 / 0.066, rel=0.3)
    assert SCENES in model.method.sources
    again = pf.load(tmp_path / "run")
    assert np.array_equal(again.denoise(counted[0]), model.denoise(counted[0]))


def test_even_noise_and_no_start_take_the_small_networks(counted, clean, tmp_path):
    rng = np.random.default_rng(3)
    even = as_bytes([scene + rng.normal(0.0, 12.0, scene.shape) for scene in scenes(1)])
    for number, (noisy, order) in enumerate([(even, {}), (counted, {"start": "none"})]):
        model = train(noisy, clean, tmp_path / str(number), **order)
        assert model.record.start == "none"
        assert model.record.config["nets"] == "residual"


def test_a_killed_run_goes_on_with_the_same_network(counted, clean, tmp_path):
    whole = train(counted, clean, tmp_path / "whole", steps=6)

    def stop(step: int, *_rest: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, pf.PairfreeError)):
        train(counted, clean, tmp_path, steps=6, on_step=stop)
    pf.train(counted, clean=clean, out=tmp_path / "run", resume=True, report=False)
    resumed = pf.load(tmp_path / "run")
    assert np.array_equal(resumed.denoise(counted[0]), whole.denoise(counted[0]))
