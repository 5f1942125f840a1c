"""Scenes: a function of seed and index alone, in range, and with the statistics that their names promise."""

from __future__ import annotations

import numpy as np
import pytest

from pairfree.errors import ConfigError
from pairfree.scenes import KINDS, SHARES, draw_scene, draw_scenes
from pairfree.scenes.drawing import Canvas, draw_power_law
from pairfree.scenes.outlines import outline_bar, outline_circle
from pairfree.scenes.series import Series, parse_scenes


def make_canvas(height: int = 128, width: int = 128, seed: int = 0) -> Canvas:
    return Canvas(np.zeros((height, width, 1), np.float32), np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_scene_is_a_function_of_its_arguments(kind, channels):
    first = draw_scene(3, 7, height=64, width=48, channels=channels, kind=kind)
    draw_scene(0, 0, height=32, width=32)
    again = draw_scene(3, 7, height=64, width=48, channels=channels, kind=kind)
    assert np.array_equal(first, again)
    assert first.shape == ((64, 48) if channels == 1 else (64, 48, 3))
    assert first.dtype == np.float32
    assert first.min() >= 0.0
    assert first.max() <= 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_other_indices_and_seeds_are_other_scenes(kind):
    scenes = [draw_scene(0, 0, kind=kind), draw_scene(1, 0, kind=kind), draw_scene(0, 1, kind=kind)]
    for number, one in enumerate(scenes):
        for other in scenes[:number]:
            assert np.abs(one - other).max() > 0.01


def test_global_randomness_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not move
    draw_scene(5)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_scenes_of_a_series_are_those_of_their_index():
    series = list(draw_scenes(3, 4, height=40, width=40))
    assert np.array_equal(series[2], draw_scene(2, 4, height=40, width=40))


def test_shares_name_every_kind_and_add_up_to_one():
    assert set(SHARES) == set(KINDS)
    assert sum(SHARES.values()) == pytest.approx(1.0)


def test_the_mixture_holds_low_and_high_contrast_sparse_and_full():
    scenes = [draw_scene(index, 2, height=64, width=64) for index in range(60)]
    spreads = np.array([scene.std() for scene in scenes])
    medians = np.array([np.median(scene) for scene in scenes])
    assert spreads.min() < 0.08
    assert spreads.max() > 0.3
    assert (medians < 0.15).any()
    assert (medians > 0.6).any()


def test_colours_differ_between_channels():
    scene = draw_scene(1, 0, kind="leaves", channels=3)
    assert np.abs(scene[..., 0] - scene[..., 2]).max() > 0.05


def test_sizes_of_leaves_follow_their_law():
    """With density r^-3 from a to b the share below r is (a^-2 - r^-2) / (a^-2 - b^-2)."""
    sizes = draw_power_law(np.random.default_rng(0), 2.0, 64.0, 200_000)
    for size in (3.0, 5.0, 20.0):
        expected = (2.0**-2 - size**-2) / (2.0**-2 - 64.0**-2)
        assert np.mean(sizes < size) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_a_field_has_the_spectrum_that_it_is_asked_for(exponent):
    canvas = make_canvas(256, 256)
    power = np.mean(
        [np.abs(np.fft.fft2(canvas.draw_field(exponent))) ** 2 for _ in range(8)], axis=0
    )
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    chosen = (frequency > 0.02) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[chosen]), np.log(power[chosen]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.06)


def test_a_field_has_mean_zero_and_deviation_one():
    field = make_canvas(64, 96).draw_field(2.0, 1.5)
    assert field.shape == (64, 96)
    assert field.mean() == pytest.approx(0.0, abs=1e-4)
    assert field.std() == pytest.approx(1.0, abs=1e-4)


def test_dead_leaves_have_the_spectrum_of_natural_images():
    """Power about 1 / f^2, between 1.5 and 3 for single scenes of blurred shapes.

    Lee, Mumford, Huang 2001.
    """
    slopes = []
    for index in range(8):
        scene = draw_scene(index, 5, kind="leaves")
        window = np.outer(np.hanning(256), np.hanning(256))
        power = np.abs(np.fft.fft2((scene - scene.mean()) * window)) ** 2
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
        chosen = (frequency > 0.015) & (frequency < 0.2)
        slopes.append(np.polyfit(np.log(frequency[chosen]), np.log(power[chosen]), 1)[0])
    assert -3.2 < np.mean(slopes) < -1.5


def test_a_mask_holds_the_area_of_its_outline():
    canvas = make_canvas(200, 200)
    disc = canvas.find_inside(100.0 + 50.0 * outline_circle(96))
    assert disc.mask.sum() == pytest.approx(np.pi * 50.0**2, rel=0.03)
    bar = canvas.find_inside(outline_bar(np.array([100.0, 100.0]), 60.0, 20.0, 0.6))
    assert bar.mask.sum() == pytest.approx(1200.0, rel=0.1)


@pytest.mark.parametrize("centre", [(-500.0, 50.0), (50.0, 900.0), (5000.0, 5000.0)])
def test_an_outline_outside_of_the_canvas_fills_nothing(centre):
    canvas = make_canvas(100, 100)
    inside = canvas.find_inside(np.array(centre) + 20.0 * outline_circle(24))
    assert not inside.mask.any()
    canvas.pixels[inside.part][inside.mask] = 1.0
    assert canvas.pixels.sum() == 0.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"index": -1}, "at least 0"),
        ({"index": 0, "seed": -3}, "at least 0"),
        ({"index": 0, "height": 16}, "from 32 to 16384"),
        ({"index": 0, "width": 10**6}, "from 32 to 16384"),
        ({"index": 0, "channels": 2}, "draw 1"),
        ({"index": 0, "kind": "leafs"}, "did you mean 'leaves'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(arguments, words):
    with pytest.raises(ConfigError, match=words) as caught:
        draw_scene(**arguments)
    assert "\n" not in str(caught.value)


def test_a_series_is_read_from_its_name():
    assert parse_scenes("scenes:20") == Series(20)
    read = parse_scenes("scenes:5:size=64, kind=organs,bits=16,channels=3")
    assert read == Series(5, size=64, kind="organs", bits=16, channels=3)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("scenes:", "whole number"),
        ("scenes:-4", "whole number"),
        ("scenes:0", "from 1 to"),
        ("scenes:1.5", "whole number"),
        ("scenes:9999999", "from 1 to"),
        ("scenes:3:", "NAME=VALUE"),
        ("scenes:3:sise=64", "no 'sise'; did you mean 'size'"),
        ("scenes:3:size", "NAME=VALUE"),
        ("scenes:3:size=1000000", "from 32 to 16384"),
        ("scenes:3:size=8", "from 32"),
        ("scenes:3:bits=12", "8 or 16"),
        ("scenes:3:kind=organ", "did you mean 'organs'"),
        ("scenes:3:count=5", "no 'count'"),
    ],
)
def test_a_wrong_series_is_refused_in_one_line(spec, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_scenes(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_series_uses_the_range_of_its_type(bits):
    scenes = list(Series(12, size=64, bits=bits).draw(0))
    assert {scene.dtype.itemsize for scene in scenes} == {bits // 8}
    assert max(int(scene.max()) for scene in scenes) == 2**bits - 1
    assert np.array_equal(scenes[4], list(Series(5, size=64, bits=bits).draw(0))[4])
