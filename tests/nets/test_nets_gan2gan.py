"""Noise of any size from a generator of one size: no seams, no repeats, the same statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from pairfree.nets.blocks import placed
from pairfree.nets.gan2gan import OVERLAP_PX, NoiseGenerator


class Correlated(NoiseGenerator):
    """A generator that has learned correlated Gaussian noise perfectly.

    Its noise has unit variance, the same everywhere in a block.
    """

    def forward(self, z):
        rng = np.random.default_rng(int(z.double().abs().sum() * 1e6))
        white = rng.standard_normal((len(z), 1, self.px + 8, self.px + 8))
        made = ndimage.gaussian_filter(white, (0, 0, 1.0, 1.0))[..., 4:-4, 4:-4]
        return torch.from_numpy(
            made / 0.2821
        ).float()  # 1 / (2 sqrt(pi)): what the filter leaves of unit deviation


def correlation(field: np.ndarray, lag: int) -> float:
    return float(np.mean(field[..., lag:] * field[..., :-lag]) / np.mean(field**2))


def sample(generator, count, height, width, seed=0):
    return generator.sample((count, height, width), torch.Generator().manual_seed(seed)).numpy()


@pytest.fixture(scope="module")
def large():
    return sample(Correlated(), 24, 512, 512)


def test_statistics_are_those_of_a_block(large):
    block = sample(Correlated(), 2000, 64, 64)
    assert large.shape == (24, 1, 512, 512)
    assert large.std() == pytest.approx(block.std(), rel=0.01)
    for lag in (1, 2, 3, 4):
        assert correlation(large, lag) == pytest.approx(correlation(block, lag), abs=0.02)


def test_there_is_no_seam(large):
    """Variances are the same across overlaps as beside them.

    They are those of a column, over images and rows, and of the difference of neighbours.
    """
    for field in (large, np.diff(large)):
        columns = np.mean(field**2, axis=(0, 1, 2))
        assert np.max(np.abs(columns / columns.mean() - 1)) < 0.1


def test_nothing_repeats(large):
    step = 64 - OVERLAP_PX
    for lag in (step - 1, step, step + 1, 64, 2 * step):
        assert abs(correlation(large, lag)) < 0.01
    assert not np.array_equal(large[0], large[1])


@pytest.mark.parametrize(
    ("height", "width"), [(64, 64), (20, 64), (64, 65), (100, 7), (1, 1), (97, 113)]
)
def test_every_size_is_made_and_follows_the_seed(height, width):
    torch.manual_seed(0)
    generator = placed(NoiseGenerator(3), "cpu").eval()  # in the memory order that methods use
    with torch.no_grad():
        first, again, other = (sample(generator, 2, height, width, seed) for seed in (1, 1, 2))
    assert first.shape == (2, 3, height, width)
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_size_it_makes_at_once_is_one_block():
    torch.manual_seed(0)
    generator = NoiseGenerator().eval()
    with torch.no_grad():
        made = sample(generator, 3, 64, 64)
        z = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
        np.testing.assert_array_equal(made, generator(z).numpy())
