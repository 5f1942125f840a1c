"""Even noise: one size everywhere, and a way back that moves no brightness."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pairfree.data.even import EVEN_LEVEL, SAMPLE_PX, EvenMap, measure_even_map
from pairfree.data.normalize import Normalizer
from pairfree.measure.noise_law import NoiseLaw
from pairfree.measure.variance_line import PoissonGaussian


def map_of(plane: np.ndarray) -> EvenMap:
    return measure_even_map(lambda rows, columns: plane[:, rows, columns], *plane.shape[1:])


def hills(side: int = 256) -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.standard_normal((side, side)), 24.0)
    return 10.0 + 190.0 * (smooth - smooth.min()) / np.ptp(smooth)


def counted(clean: np.ndarray, gain: float, seed: int = 1, read: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    counts = gain * rng.poisson(clean / gain) + read * rng.standard_normal(clean.shape)
    return counts[None]


def test_counted_photons_have_one_level_in_bright_and_dark_areas():
    clean = hills()
    noisy = counted(clean, 3.0)
    even = map_of(noisy).apply(noisy)[0]
    assert even.dtype == np.float32
    left = even - gaussian_filter(even, 3.0)
    for low, high in ((20, 60), (60, 120), (120, 190)):
        area = (clean > low) & (clean < high)
        assert left[area].std() == pytest.approx(EVEN_LEVEL, rel=0.06)
    assert abs(np.median(even)) < 0.2 * EVEN_LEVEL


def test_files_of_different_gain_become_alike():
    clean = hills()
    levels = []
    for gain in (0.5, 8.0):
        even = map_of(counted(clean, gain)).apply(counted(clean, gain))[0]
        levels.append((even - gaussian_filter(even, 3.0)).std())
    assert levels[0] == pytest.approx(levels[1], rel=0.08)


@pytest.mark.parametrize("photons", [0.5, 1.0, 3.0, 30.0])
@pytest.mark.parametrize("read", [0.0, 2.0])
def test_a_gaussian_filter_through_the_map_is_as_good_as_the_plain_one(photons, read):
    """Within 0.1 dB, also at one photon a pixel: the way back is unbiased."""
    clean = 3.0 * photons * hills() / hills().mean()
    noisy = counted(clean, 3.0, seed=4, read=read)
    plain = gaussian_filter(noisy[0], 2.0)
    mapped = EvenMap((NoiseLaw(PoissonGaussian(3.0, read**2), False),), (0.0,))
    even = mapped.apply(noisy)
    through = mapped.add(noisy, gaussian_filter(even[0], 2.0)[None] - even)[0]
    loss = 10.0 * np.log10(np.mean((through - clean) ** 2) / np.mean((plain - clean) ** 2))
    assert loss < 0.1
    assert through.mean() == pytest.approx(clean.mean(), rel=0.01)


def test_no_change_leaves_even_noise_exactly_as_it_is():
    plane = np.random.default_rng(0).integers(0, 65535, (2, 64, 64)).astype(np.uint16)
    mapped = map_of(plane)
    assert all(law.noise.gain == 0 for law in mapped.laws)
    assert np.array_equal(mapped.add(plane, np.zeros(plane.shape)), plane.astype(np.float64))


def test_a_distance_is_wider_where_there_is_more_noise():
    mapped = EvenMap((NoiseLaw(PoissonGaussian(2.0, 4.0), False),), (0.0,))
    intensity = np.array([[[0.0, 48.0]]])
    apart = np.full(intensity.shape, EVEN_LEVEL)
    assert mapped.widen(intensity, apart) == pytest.approx(np.array([[[2.0, 10.0]]]))


def test_a_plane_is_measured_the_same_whole_or_in_parts_and_large_ones_on_a_sample():
    read = []
    clean = np.tile(hills(), (5, 5))
    plane = counted(clean, 3.0)

    def part(rows: slice, columns: slice) -> np.ndarray:
        found = plane[:, rows, columns]
        read.append(found.size)
        return found

    first = measure_even_map(part, *clean.shape)
    assert sum(read) <= SAMPLE_PX < plane.size
    assert measure_even_map(part, *clean.shape) == first
    assert first.laws[0].noise.gain == pytest.approx(3.0, rel=0.15)


def test_slices_of_a_stack_have_the_law_of_the_middle_one():
    stack = np.concatenate([counted(hills(), gain) for gain in (1.0, 4.0, 9.0)])
    one = Normalizer(0.0, 255.0, even=True, one_law=True)
    made = one.map_plane(lambda rows, columns: stack[:, rows, columns], 256, 256)
    assert made.laws == 3 * made.laws[1:2]
    assert made.laws[1].noise.gain == pytest.approx(4.0, rel=0.15)
    stack[1] = 0.0
    empty = one.map_plane(lambda rows, columns: stack[:, rows, columns], 256, 256)
    assert empty.laws[1].noise.gain == pytest.approx(9.0, rel=0.15)


def test_a_normaliser_that_makes_noise_even_maps_each_plane_by_its_own_law():
    plane = counted(hills(), 3.0)
    even = Normalizer(0.0, 255.0, even=True)
    made = even.map_plane(lambda rows, columns: plane[:, rows, columns], 256, 256)
    assert isinstance(made, EvenMap)
    assert np.array_equal(even.map_array(plane), made.apply(plane))
    assert even.as_dict() == {"offset": 0.0, "scale": 255.0, "even": True}
    plain = Normalizer(0.0, 255.0)
    assert plain.map_plane(lambda rows, columns: plane, 256, 256) is plain
    assert plain.as_dict() == {"offset": 0.0, "scale": 255.0}
    assert np.array_equal(plain.map_array(plane), plain.apply(plane))
