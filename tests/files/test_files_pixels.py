"""Wrong pixels are found, whatever the denoiser; results of denoisers pass; what cannot be judged is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, median_filter, uniform_filter

from pairfree.files import Image
from pairfree.files.checks import Check
from pairfree.files.fidelity import verify
from pairfree.files.frames import find_strangers, thumbnail
from pairfree.files.pixel_checks import NOT_JUDGED, OFFSET, PLACE, REGIONS, check_pixels
from pairfree.files.scale import check_intensities

Filter = Callable[[np.ndarray], np.ndarray]
DENOISERS: dict[str, Filter] = {
    "gaussian 0.7": lambda x: gaussian_filter(x, 0.7),
    "gaussian 2": lambda x: gaussian_filter(x, 2.0),
    "median": lambda x: median_filter(x, 3),
    "mean": lambda x: uniform_filter(x, 5),
    "none": lambda x: x.copy(),
    "blind spot": lambda x: (49 * uniform_filter(x, 7, mode="wrap") - x) / 48,
}


def cells(side: int, seed: int = 0, sigma: float = 20.0) -> np.ndarray:
    """Spots of 200 on 100 with white noise, uint16."""
    rng = np.random.default_rng(seed)
    spots = gaussian_filter((rng.random((side, side)) < 0.02) * 1.0, 1.5)
    clean = 100 + 200 * spots / max(spots.max(), 1e-9)
    return np.clip(clean + rng.normal(0, sigma, clean.shape), 0, None).astype(np.uint16)


def judge(
    x: np.ndarray, y: np.ndarray, axes: str = "YX", any_scale: bool = False
) -> dict[str, Check]:
    a, b = Image(x, axes), Image(y, axes)
    found = check_intensities(a, b, any_scale) + check_pixels(a, b, any_scale)
    return {one.name: one for one in found}


def lost(x: np.ndarray, y: np.ndarray, axes: str = "YX") -> set[str]:
    return {name for name, one in judge(x, y, axes).items() if one.kept is False}


def smoothed(x: np.ndarray) -> np.ndarray:
    return np.rint(gaussian_filter(x.astype(np.float64), 1.0)).astype(x.dtype)


def shifted(y: np.ndarray) -> np.ndarray:
    return np.roll(y, (3, -1), (0, 1))


def mirrored(y: np.ndarray) -> np.ndarray:
    return y[:, ::-1]


def upside_down(y: np.ndarray) -> np.ndarray:
    return y[::-1]


def transposed(y: np.ndarray) -> np.ndarray:
    return y.T


def turned(y: np.ndarray) -> np.ndarray:
    return np.rot90(y)


@pytest.mark.parametrize("side", [16, 24, 40, 100])
@pytest.mark.parametrize("fault", [mirrored, upside_down, transposed, turned, shifted])
def test_what_lies_otherwise_is_found(fault: Filter, side: int) -> None:
    x = cells(side, sigma=8.0)
    assert judge(x, smoothed(x))[PLACE].kept is True
    assert PLACE in lost(x, np.ascontiguousarray(fault(smoothed(x))))


def test_pure_noise_is_known_by_what_is_left_of_it() -> None:
    x = np.random.default_rng(0).normal(100, 5, (32, 32))
    assert judge(x, gaussian_filter(x, 1.0))[PLACE].kept is True
    assert PLACE in lost(x, gaussian_filter(x, 1.0)[:, ::-1].copy())


@pytest.mark.parametrize("side", [16, 32, 128])
@pytest.mark.parametrize("place", [(0, 0), (5, 3), (8, 8)])
def test_a_block_of_zeros_is_found_where_it_lies(place: tuple[int, int], side: int) -> None:
    x = cells(side, seed=2, sigma=10.0)
    y = smoothed(x)
    assert not lost(x, y)
    row, column = place
    y[row : row + 8, column : column + 8] = 0
    found = judge(x, y)[REGIONS]
    assert found.kept is False
    at = [int(word.strip(",")) for word in found.after.split() if word.strip(",").isdigit()]
    assert np.abs(np.subtract(at, place)).max() <= 8


def test_a_block_of_another_image_is_found() -> None:
    rng = np.random.default_rng(1)
    clean = gaussian_filter(rng.normal(0, 1, (96, 96)), 6)
    x = 500 + 100 * clean / clean.std() + rng.normal(0, 5, clean.shape)
    y = gaussian_filter(x, 1.0)
    assert not lost(x, y)
    y[32:48, 40:56] = y[80:64:-1, 10:26]
    assert lost(x, y) == {REGIONS}


def test_a_block_in_a_plane_of_several_tiles_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairfree.files.pixel_checks.TILE_PX", 64)
    monkeypatch.setattr("pairfree.files.pixel_checks.PLACED_PX", 2**12)
    x = cells(150)
    y = smoothed(x)
    assert judge(x, y)[PLACE].kept is True
    assert PLACE in lost(x, y[::-1].copy())
    y[100:110, 70:80] = 0
    assert "row 1" in judge(x, y)[REGIONS].after


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("side", [6, 8, 16, 33, 64])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_results_of_denoisers_pass(name: str, side: int, dtype: str) -> None:
    rng = np.random.default_rng(side)
    inputs = {
        "spots": cells(side),
        "noise": rng.normal(100, 5, (side, side)),
        "counts": rng.poisson(0.5, (side, side)),
        "flat": np.full((side, side), 7),
        "skewed": np.clip(rng.exponential(10, (side, side)), 0, 250),
    }
    for kind, values in inputs.items():
        x = values.astype(dtype)
        y = DENOISERS[name](x.astype(np.float64))
        y = np.rint(y).astype(dtype) if dtype != "float32" else y.astype(dtype)
        assert not lost(x, y), kind


def test_a_constant_result_of_noise_passes_and_of_an_image_does_not() -> None:
    noise = np.random.default_rng(0).normal(100, 5, (64, 64)).astype(np.uint8)
    assert not lost(noise, np.full_like(noise, 100))
    assert OFFSET in lost(noise, np.zeros_like(noise))
    x = cells(64)
    assert lost(x, np.full_like(x, 110))


def test_frames_of_noise_that_were_swapped_or_repeated_are_found() -> None:
    rng = np.random.default_rng(0)
    x = rng.poisson(20, (6, 48, 48)).astype(np.uint16)
    y = np.stack([smoothed(frame) for frame in x])
    assert not lost(x, y, "QYX")
    for order in ([1, 0, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 1, 2, 2, 4, 5]):
        assert "scene" in lost(x, y[order], "QYX")


def test_equal_results_of_a_scene_that_stands_still_pass() -> None:
    rng = np.random.default_rng(0)
    clean = 100 * gaussian_filter(rng.normal(0, 1, (64, 64)), 4)
    pairs = [(thumbnail(clean + rng.normal(0, 1, clean.shape)), thumbnail(clean)) for _ in range(8)]
    assert find_strangers(pairs, 0.0) == ""


def test_swapped_colours_are_found() -> None:
    x = np.stack([cells(48, seed) for seed in range(3)], axis=-1)
    y = np.stack([smoothed(x[..., sample]) for sample in range(3)], axis=-1)
    assert not lost(x, y, "YXS")
    assert "scene" in lost(x, np.ascontiguousarray(y[..., ::-1]), "YXS")


def test_a_moved_level_is_found_and_that_of_a_median_is_none() -> None:
    x = np.random.default_rng(0).exponential(30, (64, 64))
    assert not lost(x, median_filter(x, 5))
    assert OFFSET in lost(x, gaussian_filter(x, 1.0) + 15)
    assert judge(x, gaussian_filter(x, 1.0) + 15, any_scale=True)[OFFSET].kept is None


def test_what_cannot_be_judged_is_said(tmp_path: Path, pairfree) -> None:  # type: ignore[no-untyped-def]
    x = np.random.default_rng(0).normal(100, 5, (16, 16))
    found = judge(x, np.full_like(x, 100.0))
    assert found[PLACE] == Check(PLACE, "as in the input", NOT_JUDGED, None)
    for name, pixels in (("a", x), ("b", np.full_like(x, x.mean()))):
        np.save(tmp_path / f"{name}.npy", pixels)
    assert verify(tmp_path / "a.npy", tmp_path / "b.npy").not_judged == ["a.npy"]
    code, out, _ = pairfree("verify", tmp_path / "a.npy", tmp_path / "b.npy")
    assert code == 0
    assert "The pixels of 1 file could not be judged: too small, or too little contrast." in out
    assert verify(tmp_path / "a.npy", tmp_path / "a.npy").not_judged == []
