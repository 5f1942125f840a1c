"""The grid of a network's cells: noise and scenes have none, a faint pattern is found and measured."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pairfree.evidence.grid import measure_grid
from pairfree.evidence.interpretation import interpret
from pairfree.evidence.noref import pool, residual_evidence
from pairfree.scenes import draw_scene


def with_grid(image: np.ndarray, period: int, contrast: float) -> np.ndarray:
    """A pattern of +- half the contrast on every place of a checkerboard within cells."""
    rows, columns = np.indices(image.shape)
    board = ((rows % period < period // 2) ^ (columns % period < period // 2)) - 0.5
    return image + contrast * board


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_the_number_of_chance_and_scenes_less(seed):
    rng = np.random.default_rng(seed)
    number, _ = measure_grid(rng.normal(size=(256, 256)))
    assert 0.5 < number < 1.6
    scene, _ = measure_grid(255.0 * draw_scene(seed, seed, height=256, width=256))
    assert scene < 1.6


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_faint_pattern_is_found_and_measured(period):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(512, 512))
    number, contrast = measure_grid(with_grid(noise, period, 0.2))
    assert number > 4.0
    assert contrast == pytest.approx(0.2, rel=0.5)


def test_small_cells_show_in_images_that_have_too_few_large_ones():
    noise = np.random.default_rng(0).normal(size=(28, 28))
    number, contrast = measure_grid(with_grid(noise, 4, 3.0))
    assert number > 4.0
    assert contrast == pytest.approx(3.0, rel=0.5)


def test_a_small_image_does_not_tell():
    number, contrast = measure_grid(np.zeros((15, 200)))
    assert np.isnan(number)
    assert np.isnan(contrast)
    assert measure_grid(np.zeros((64, 64))) == (0.0, 0.0)


def test_the_report_says_what_lies_over_the_output_and_whether_the_camera_had_it():
    rng = np.random.default_rng(0)
    scene = 255.0 * draw_scene(3, 0, height=256, width=256)
    noisy = scene + 10.0 * rng.normal(size=scene.shape)

    def sentence(evidence):
        found = [one for one in interpret(evidence, "counts") if "grid" in one.text.lower()]
        assert len(found) == 1
        return found[0]

    healthy = residual_evidence(noisy, scene)
    assert sentence(healthy).level == "ok"
    bad = residual_evidence(noisy, with_grid(scene, 4, 30.0))
    assert sentence(bad).level == "warning"
    assert "counts" in sentence(bad).text
    assert "camera" not in sentence(bad).text
    cameras = residual_evidence(with_grid(noisy, 4, 30.0), with_grid(scene, 4, 30.0))
    assert "camera" in sentence(cameras).text
    pooled = pool([healthy, bad])
    assert pooled.grid == pytest.approx(np.sqrt((healthy.grid**2 + bad.grid**2) / 2))
    unknown = dataclasses.replace(healthy, grid=float("nan"))
    assert not [one for one in interpret(unknown) if "grid" in one.text.lower()]
