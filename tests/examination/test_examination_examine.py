"""An examination as a whole: faults that are planted are told, a good denoiser raises nothing."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

import pairfree
from pairfree.errors import InputError
from pairfree.evidence.rows import count_alarms

SIDE, SIGMA = 256, 20.0


def scene(seed: int = 0) -> np.ndarray:
    """Blobs of three sizes on a flat ground."""
    rng = np.random.default_rng(seed)
    made = np.full((SIDE, SIDE), 90.0)
    for size in (2.0, 4.0, 10.0):
        points = np.zeros((SIDE, SIDE))
        points[tuple(rng.integers(0, SIDE, (2, 24)))] = 1.0
        blobs = gaussian_filter(points, size)
        made += 60.0 * np.minimum(3.0 * blobs / blobs.max(), 1.0)
    return made


def noisy(seed: int = 0) -> np.ndarray:
    return scene(seed) + SIGMA * np.random.default_rng(seed + 9).standard_normal((SIDE, SIDE))


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [noisy(seed) for seed in range(3)]


MODEL = pairfree.load("shipped")
KEPT: dict[bytes, np.ndarray] = {}


def denoise(planes: np.ndarray) -> np.ndarray:
    """The network that comes with pairfree; no image twice."""
    key = planes.tobytes()
    if key not in KEPT:
        KEPT[key] = MODEL.denoise(planes[0].astype(np.float32))[None].astype(np.float64)
    return KEPT[key].copy()


def texture() -> np.ndarray:
    rough = gaussian_filter(np.random.default_rng(5).standard_normal((SIDE, SIDE)), 1.0)
    return (rough - rough.mean()) / rough.std()


BOARD = np.where(np.add.outer(np.arange(SIDE), np.arange(SIDE)) % 2, 1.0, -1.0)
SIGNS = np.where(np.arange(SIDE) // 96 % 2, 1.0, -1.0) * np.ones((SIDE, 1))


def test_a_good_denoiser_raises_nothing(images):
    found = pairfree.examine(denoise, images)
    assert [row.sentence for row in found.warnings] == []
    assert count_alarms(found.rows).startswith("None of ")
    true = np.mean(
        [np.mean((denoise(one[None])[0] - scene(k)) ** 2) for k, one in enumerate(images)]
    )
    assert found.risk.mse == pytest.approx(true, abs=2.0 * found.risk.mse_se)


def blurred(planes):
    return gaussian_filter(denoise(planes), (0, 8, 8))


def pasted(planes):
    made = denoise(planes)
    made[:, 96:144, 96:144] = scene(7)[:48, :48]
    return made


@pytest.mark.parametrize(
    ("fault", "row"),
    [
        (blurred, "sharpness"),
        (pasted, "places"),
        (lambda y: denoise(y) + 0.15 * SIGMA * texture(), "pattern"),
        (lambda y: 0.8 * denoise(y) + 0.2 * y, "noise left"),
        (lambda y: denoise(y) + 0.1 * SIGMA, "brightness"),
        (lambda y: 0.9 * denoise(y), "brightness"),
        (lambda y: denoise(y) + 0.05 * SIGMA * SIGNS, "seams"),
        (lambda y: denoise(y) + 0.05 * SIGMA * BOARD, "checkerboard"),
        (lambda y: shift(denoise(y), (0, 0, 4), mode="nearest"), "position"),
        (lambda y: gaussian_filter(y, (0, 0.8, 0.8)), "plain filter"),
        (lambda y: 3.0 * y - 2.0 * gaussian_filter(y, (0, 3, 3)), "made from noise"),
        (lambda y: 3.0 * y - 2.0 * gaussian_filter(y, (0, 3, 3)), "planted detail"),
    ],
)
def test_a_planted_fault_is_told(images, fault, row):
    found = pairfree.examine(fault, images)
    assert row in [one.name for one in found.warnings]
    assert all(one.advice for one in found.warnings)


def test_spots_that_vanish_are_noted(images):
    found = pairfree.examine(lambda y: gaussian_filter(y, (0, 9, 9)), images)
    row = next(one for one in found.rows if one.name == "planted detail")
    assert row.level == "note"
    assert row.value < 0.45


def test_a_place_is_named(images):
    row = next(one for one in pairfree.examine(pasted, images).rows if one.name == "places")
    first = row.places[0]
    number = [int(word) for word in re.findall(r"row (\d+), column (\d+)", first)[0]]
    assert all(64 <= one <= 128 for one in number)
    assert "foreign" in first or "smooth" in first


def test_places_are_those_of_the_whole_image():
    """Of a large image the middle is examined, and named by the rows and columns of the file."""
    whole = np.tile(scene(), (3, 3))
    large = whole + SIGMA * np.random.default_rng(1).standard_normal(whole.shape)

    def spoil(planes: np.ndarray) -> np.ndarray:
        out = gaussian_filter(planes, (0, 1, 1))
        out[:, 172:252, 172:252] = scene(7)[80:160, 80:160]
        return out

    row = next(one for one in pairfree.examine(spoil, [large]).rows if one.name == "places")
    number = [int(word) for word in re.findall(r"row (\d+), column (\d+)", row.places[0])[0]]
    assert all(260 <= one <= 390 for one in number)


@pytest.mark.parametrize("count", [5, 6, 7, 9])
def test_four_images_are_spread_over_all(count):
    seen = pairfree.examine(denoise, [noisy(seed % 3) for seed in range(count)], quick=True)
    numbers = [int(one.name.split()[-1]) for one in seen.images]
    assert numbers[0] <= 1
    assert numbers[-1] >= count - 2
    assert len(numbers) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        lambda planes: planes[0],
        lambda planes: planes * np.nan,
        lambda planes: planes.astype(complex),
    ],
)
def test_what_gives_no_image_back_is_one_line(wrong):
    with pytest.raises(InputError, match="the denoiser"):
        pairfree.examine(wrong, [noisy()])


def test_a_function_that_changes_what_it_is_given_changes_nothing_else():
    def spoil(planes: np.ndarray) -> np.ndarray:
        made = denoise(planes)
        planes[:] = 0.0
        return made

    first = pairfree.examine(spoil, [noisy()], quick=True).as_dict()
    second = pairfree.examine(denoise, [noisy()], quick=True).as_dict()
    assert json.dumps(first) == json.dumps(second)


def test_doing_nothing_is_not_called_right():
    rows = {row.name: row for row in pairfree.examine(lambda y: y, [noisy()]).rows}
    assert rows["residual"].level == "untold"
    assert rows["noise left"].level == "untold"
    assert rows["plain filter"].level == "warning"


def test_colours_are_examined_each_by_its_law():
    rng = np.random.default_rng(7)
    shades = np.stack([scene(1), 0.5 * scene(1) + 60.0, 1.5 * scene(1)])
    image = shades + 15.0 * rng.standard_normal(shades.shape)
    found = pairfree.examine(lambda y: gaussian_filter(y, (0, 1, 1)), [image], quick=True)
    true = np.mean((gaussian_filter(image, (0, 1, 1)) - shades) ** 2)
    assert found.risk.mse == pytest.approx(true, abs=3.0 * found.risk.mse_se)


def test_what_has_nothing_to_do_with_its_input_is_not_planted_into():
    found = pairfree.examine(lambda planes: scene()[None], [noisy()])
    assert "planted detail" not in [row.name for row in found.rows]
    assert [row.sentence for row in found.warnings] == []


def test_quick_leaves_out_what_costs(images):
    calls = []

    def count(planes):
        calls.append(1)
        return denoise(planes)

    quick = pairfree.examine(count, images, quick=True)
    assert len(calls) == 3 * len(images)
    names = {row.name for row in quick.rows}
    assert "error" in names
    assert not names & {"pattern", "seams", "made from noise", "planted detail"}


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda x: x + 30.0 * np.random.default_rng(3).standard_normal((SIDE, 1)), "rows"),
        (lambda x: 0.02 * (x - scene()) + scene(), "faint"),
    ],
)
def test_noise_of_no_known_law_is_refused_in_words(spoil, word):
    found = pairfree.examine(denoise, [spoil(noisy())])
    assert [row.level for row in found.rows] == ["untold"]
    assert word in str(found)
    assert "not available" in str(found)


def test_where_noise_is_cut_off_the_error_is_not_told_but_the_rest_is_tried():
    found = pairfree.examine(denoise, [np.clip(noisy(), 85.0, None)])
    names = [row.name for row in found.rows]
    assert found.rows[0].level == "untold"
    assert "cut off" in found.rows[0].text
    assert names == ["error", "pattern", "seams", "made from noise", "planted detail"]
    assert found.risk is None
    assert found.change is None


@pytest.mark.parametrize("wrong", [0.0, -5.0, float("nan")])
def test_a_range_that_is_none_is_refused(wrong):
    with pytest.raises(pairfree.ConfigError, match="data_range"):
        pairfree.examine(denoise, [noisy()], data_range=wrong)


def test_what_is_no_denoiser_is_refused():
    with pytest.raises(pairfree.ConfigError, match="`run`"):
        pairfree.examine(5, [noisy()])


def test_the_same_seed_gives_the_same_rows(images):
    first, second = (pairfree.examine(denoise, images[:1]).as_dict() for _ in range(2))
    assert json.dumps(first) == json.dumps(second)


def test_small_images_are_refused():
    with pytest.raises(InputError, match="96 px"):
        pairfree.examine(denoise, [np.zeros((64, 64)) + np.arange(64)])


def test_physical_units_are_told(tmp_path, images):
    path = tmp_path / "one.tif"
    pixels = np.clip(images[0], 0, 255).astype(np.uint8)
    steps = {"Y": (0.2, "µm"), "X": (0.2, "µm")}
    pairfree.save_image(pairfree.Image(pixels, "YX", spacing=steps), path)
    found = pairfree.examine(denoise, path)
    text = str(found)
    assert "µm" in text
