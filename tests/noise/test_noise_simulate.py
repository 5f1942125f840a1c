"""SPEC strings, ranges and per-image randomness."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfree.errors import ConfigError
from pairfree.noise.model import NoiseModel, Range
from pairfree.noise.pixelwise import Gaussian, Poisson
from pairfree.noise.simulate import MODELS, add_noise, image_rng, parse_noise, spec_of

SPECS = [
    "gaussian:sigma=25",
    "gaussian:sigma=0..50",
    "poisson:lam=30",
    "poisson:lam=5..50",
    "speckle:v=0.1",
    "speckle:v=0..0.2",
    "mixture-a:s=15",
    "mixture-b:s=30",
    "correlated:sigma=25",
    "film",
    "charge",
    "lowdose-ct:dose=0.25",
    "lowdose-ct:dose=0.1..0.5,i0=2e6,views=24",
]


@st.composite
def models(draw: st.DrawFn) -> NoiseModel:
    """Any valid model: each field a number or range inside its domain."""
    kind = draw(st.sampled_from(list(MODELS.values())))
    values = {}
    for field in dataclasses.fields(kind):
        low = max(field.metadata["least"], field.metadata["above"], -1e6)
        high = min(field.metadata["most"], 1e6)
        inside = st.floats(
            low, high, exclude_min=field.metadata["above"] > -math.inf, allow_nan=False
        )
        ends = sorted((draw(inside), draw(inside)))
        values[field.name] = Range(*ends) if ends[0] < ends[1] and draw(st.booleans()) else ends[0]
    return kind(**values)


@given(models())
@settings(max_examples=150, deadline=None)
def test_spec_round_trip(model):
    assert parse_noise(spec_of(model)) == model


@pytest.mark.parametrize("spec", SPECS)
def test_every_documented_spec_parses_and_simulates(spec):
    model = parse_noise(spec)
    assert isinstance(model, MODELS[spec.partition(":")[0]])
    clean = np.full((9, 6, 2), 90.0)
    noisy, drawn = add_noise(clean, spec, image_rng(0, "a"))
    again, _ = add_noise(clean, model, image_rng(0, "a"))
    assert noisy.shape == clean.shape
    assert noisy.dtype == np.float64
    np.testing.assert_array_equal(noisy, again)
    assert not any(
        isinstance(getattr(drawn, field.name), Range) for field in dataclasses.fields(drawn)
    )
    assert parse_noise(spec_of(drawn)) == drawn


def test_keys_of_the_table_are_those_of_the_models():
    assert {key: kind.key for key, kind in MODELS.items()} == {key: key for key in MODELS}


@pytest.mark.parametrize("key", list(MODELS))
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1), (3, 3, 1), (2, 7, 4)])
def test_every_model_takes_any_size(key, shape):
    noisy, _ = add_noise(np.full(shape, 30, np.uint8), key, np.random.default_rng(0))
    assert noisy.shape == shape
    assert np.isfinite(noisy).all()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("gausian:sigma=25", "did you mean 'gaussian'"),
        ("Film", "did you mean 'film'"),
        ("", "there are: gaussian, poisson"),
        ("snow", "lowdose-ct"),
        ("gaussian:sigm=25", "did you mean 'sigma'"),
        ("poisson:sigma=25", "it takes: lam"),
        ("gaussian:", "nothing follows"),
        ("gaussian:25", "NAME=VALUE"),
        ("gaussian:sigma", "NAME=VALUE"),
        ("gaussian:sigma=", "neither a number"),
        ("gaussian:sigma=abc", "neither a number"),
        ("gaussian:sigma=1_0", "neither a number"),
        ("gaussian:sigma=٢٥", "neither a number"),
        ("gaussian:sigma=nan", "neither a number"),
        ("gaussian:sigma=inf", "neither a number"),
        ("gaussian:sigma=1e999", "finite"),
        ("gaussian:sigma=-1", "at least 0"),
        ("gaussian:sigma=-1..5", "at least 0"),
        ("gaussian:sigma=5..", "neither a number"),
        ("gaussian:sigma=..5", "neither a number"),
        ("gaussian:sigma=50..5", "empty"),
        ("gaussian:sigma=5..5", "empty"),
        ("gaussian:sigma=0...5", "three dots"),
        ("gaussian:sigma=1..2..3", "neither a number"),
        ("gaussian:sigma=1,sigma=2", "twice"),
        ("poisson:lam=0", "above 0"),
        ("poisson:lam=0..5", "above 0"),
        ("film:loss=1.5", "at most 1"),
        ("film:loss=0.5..1.5", "at most 1"),
        ("gaussian:sigma=1\n2", "neither a number"),
        ("ga\nussian", "no model"),
    ],
)
def test_wrong_specs_are_refused_in_one_line(spec, says):
    with pytest.raises(ConfigError) as caught:
        parse_noise(spec)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [True, "25", None, math.nan, math.inf, -1])
def test_wrong_fields_are_refused_however_a_model_is_made(value):
    with pytest.raises(ConfigError):
        Gaussian(sigma=value)


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_range_draws_from_its_half_open_interval(low, width, seed):
    drawn = Range(low, low + width).draw(np.random.default_rng(seed))
    assert low <= drawn <= low + width


def test_ranges_are_uniform_per_image():
    drawn = [
        add_noise(np.zeros((1, 1)), "gaussian:sigma=10..50", image_rng(0, str(index)))[1]
        for index in range(800)
    ]
    sigmas = np.array([model.sigma for model in drawn])
    assert abs(sigmas.mean() - 30.0) < 5 * 40 / np.sqrt(12 * sigmas.size)
    assert sigmas.min() > 10.0
    assert sigmas.max() <= 50.0
    assert abs(sigmas.std() - 40 / np.sqrt(12)) < 1.0


def test_the_drawn_level_is_the_level_of_the_noise():
    noisy, drawn = add_noise(np.zeros((300, 300)), "gaussian:sigma=10..50", image_rng(3, "x"))
    assert noisy.std() == pytest.approx(drawn.sigma, rel=0.02)


def test_a_model_without_ranges_is_its_own_draw_and_takes_no_randomness():
    rng = np.random.default_rng(0)
    assert Poisson(30.0).draw(rng) == Poisson(30.0)
    assert rng.random() == np.random.default_rng(0).random()


def test_noise_is_a_function_of_seed_and_name_not_of_order():
    names = ["a", "b", "scan_10"]
    clean = np.full((8, 8), 100.0)
    forward = {
        name: add_noise(clean, "gaussian:sigma=0..50", image_rng(7, name))[0] for name in names
    }
    backward = {
        name: add_noise(clean, "gaussian:sigma=0..50", image_rng(7, name))[0]
        for name in reversed(names)
    }
    for name in names:
        np.testing.assert_array_equal(forward[name], backward[name])
    assert not np.array_equal(forward["a"], forward["b"])
    assert not np.array_equal(
        forward["a"], add_noise(clean, "gaussian:sigma=0..50", image_rng(8, "a"))[0]
    )


def test_image_rng_is_frozen_across_versions():
    """A change here would silently redraw the noise of every stored noisy set."""
    assert image_rng(0, "test001").integers(0, 2**32, 3).tolist() == [
        4116455201,
        3524009090,
        2960784044,
    ]


def test_spellings_of_a_name_on_other_file_systems_have_the_same_noise():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert composed != decomposed
    assert image_rng(3, composed).random() == image_rng(3, decomposed).random()
    assert image_rng(3, composed).random() != image_rng(3, "cafe").random()


def test_big_seeds_and_odd_names():
    values = {image_rng(seed, "a").random() for seed in (0, 1, 2**32, 2**32 + 1, 2**70)}
    assert len(values) == 5
    assert 0.0 <= image_rng(0, "\udcff").random() < 1.0
    with pytest.raises(ConfigError, match="seed"):
        image_rng(-1, "a")


def test_the_page_of_the_noise_models_names_each_with_its_defaults():
    page = (Path(__file__).parents[2] / "docs/noise.md").read_text(encoding="utf-8")
    rows = {
        line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")
    }
    assert rows.keys() == MODELS.keys()
    for key, model in MODELS.items():
        for field in dataclasses.fields(model):
            name, _, default = f"{field.name}={field.default:g}".partition("=")
            said = re.search(rf"`{name}=([^`]+)`", rows[key])
            assert said, (key, name)
            assert float(said[1]) == float(default)
