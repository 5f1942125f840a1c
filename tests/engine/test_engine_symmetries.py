"""The mean over the symmetries of the square at prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pairfree as pf
from pairfree.data.patches import SYMMETRIES, symmetric, undo_symmetric
from pairfree.errors import ConfigError


def noisy(side: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (200.0 + 20.0 * rng.normal(size=(side, side + 24))).astype(np.float32)


@pytest.mark.parametrize("k", range(SYMMETRIES))
def test_each_symmetry_is_undone(k):
    x = torch.arange(2.0 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    turned = symmetric(x, k)
    assert torch.equal(undo_symmetric(turned, k), x)
    others = [symmetric(x[..., :4], other) for other in range(SYMMETRIES) if other != k]
    assert not any(torch.equal(symmetric(x[..., :4], k), other) for other in others)


def test_the_result_turns_with_the_image():
    """Which a single pass does not do."""
    image = noisy()[:, :64]
    single, mean = pf.load("shipped"), pf.load("shipped", symmetries=True)

    def apart(model):
        upright = model.denoise(image)
        turned = np.rot90(model.denoise(np.ascontiguousarray(np.rot90(image))), -1)
        return float(np.abs(upright - turned).max())

    assert apart(mean) < 1e-3 < apart(single)


def test_the_mean_is_that_of_eight_passes_and_another_result_for_the_ledger(tmp_path):
    image = noisy()
    model = pf.load("shipped", symmetries=True)
    single = pf.load("shipped")
    passes = []
    for k in range(SYMMETRIES):
        turned = symmetric(torch.from_numpy(image), k).contiguous().numpy()
        passes.append(undo_symmetric(torch.from_numpy(single.denoise(turned)), k).numpy())
    np.testing.assert_allclose(model.denoise(image), np.mean(passes, axis=0), atol=2e-3)
    assert model.identity != single.identity
    pf.save_image(pf.Image(image, axes="YX"), tmp_path / "a.tif")
    pf.denoise("shipped", tmp_path / "a.tif", tmp_path / "out", symmetries=True)
    written = pf.open_image(tmp_path / "out/a.tif").pixels
    np.testing.assert_allclose(written, model.denoise(image), atol=1e-4)


def test_a_method_that_learns_each_image_refuses(tmp_path):
    pf.train([noisy()], method="dip", steps=2, out=tmp_path / "run", report=False)
    with pytest.raises(ConfigError, match="learns each image anew"):
        pf.load(tmp_path / "run", symmetries=True)


def test_it_is_not_ignored_where_it_cannot_be_done(tmp_path):
    pf.save_image(pf.Image(noisy(), axes="YX"), tmp_path / "a.tif")
    model = pf.load("shipped")
    with pytest.raises(ConfigError, match="a Model keeps its own"):
        pf.denoise(model, tmp_path / "a.tif", tmp_path / "out", symmetries=True)
    both = {"symmetries": True, "disagreement": tmp_path / "maps"}
    with pytest.raises(ConfigError, match="maps are of a single pass"):
        pf.denoise("shipped", tmp_path / "a.tif", tmp_path / "out", **both)
