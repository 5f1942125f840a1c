"""Images whose noise neighbours share are left out where most are of another kind."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pairfree.training import pools
from pairfree.training.job import resolve
from pairfree.training.order import Order


def noisy(seed: int, blur_px: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hills = 100.0 + 20.0 * gaussian_filter(rng.standard_normal((96, 96)), 12.0) * 12.0
    noise = gaussian_filter(rng.standard_normal((96, 96)), blur_px)
    return (hills + 10.0 * noise / noise.std()).astype(np.float32)


def order_of(images: list[np.ndarray], **more: object) -> Order:
    return Order(noisy=images, method="iddp", steps=2, device="cpu", report=False, **more)


@pytest.fixture
def images() -> list[np.ndarray]:
    return [noisy(seed, 0.0) for seed in range(6)] + [noisy(9, 1.2)]


def test_the_unlike_ones_are_left_out_and_told(images, monkeypatch):
    monkeypatch.setattr(pools, "ENOUGH_ALIKE", 6)
    job = resolve(order_of(images))
    assert len(job.data.noisy) == 6
    assert any("1 of 7 images are not trained on" in line for line in job.warnings)


def test_few_images_and_those_of_plain_intensities_are_all_taken(images, monkeypatch):
    assert len(resolve(order_of(images)).data.noisy) == 7
    monkeypatch.setattr(pools, "ENOUGH_ALIKE", 6)
    plain = {"even": False, "net": "shuffle-unet"}
    assert len(resolve(order_of(images, settings=plain)).data.noisy) == 7
    mostly = [noisy(seed, 1.2) for seed in range(8)] + images[:2]
    assert len(resolve(order_of(mostly)).data.noisy) == 10
