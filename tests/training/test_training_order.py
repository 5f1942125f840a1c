"""What was asked: what wins, what is refused, and that all three ways have the same options.

The ways are Python, the command line and a file.
"""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
import typer

import pairfree as pf
from pairfree.cli.main import app
from pairfree.cli.options import EVERYWHERE, OTHER_NAMES, help_of, spell_flags
from pairfree.config import OPTION, field_docs, options_of, to_toml
from pairfree.denoising.order import DenoisingOrder
from pairfree.errors import ConfigError
from pairfree.evidence.order import EvaluationOrder
from pairfree.methods import METHODS
from pairfree.training.order import FIXED, IMAGES, NOTED, STORED, Order, place_order, read_order

COMMAND_LINE_ONLY = {
    "json": "Python has the numbers themselves",
    "dry_run": "Python reads and checks with training.job.resolve",
    "settings_": "Python lists them with training.settings.list_settings",
    **dict.fromkeys(EVERYWHERE, "Python sets the level of the logger `pairfree`"),
}
PYTHON_ONLY = {"net", "command", "on_step", "on_file", "on_pixels"}
ONLY_OF = {"train": {"report"}}
"""Likewise, of one verb."""


def command(name: str):
    return typer.main.get_command(app).commands[name]


def written(tmp_path, **values):
    path = tmp_path / "order.toml"
    path.write_text(to_toml(values))
    return path


@pytest.mark.parametrize("verb", ["train", "denoise", "evaluate", "verify", "simulate", "info"])
def test_python_and_the_command_line_have_the_same_options(verb):
    """Every verb has its function in pairfree, with the same options but for exceptions that say why."""
    python = set(inspect.signature(getattr(pf, verb)).parameters)
    said = {OTHER_NAMES.get(one.name, one.name) for one in command(verb).params} - {"help"}
    assert said - set(COMMAND_LINE_ONLY) == python - PYTHON_ONLY - ONLY_OF.get(verb, set())


def test_verbs_without_a_function_are_those_that_are_for_the_terminal():
    verbs = set(typer.main.get_command(app).commands)
    assert verbs - set(pf.__all__) == {"demo", "bench"}


def test_fields_with_an_option_are_options():
    for verb, declared in (
        ("train", Order),
        ("denoise", DenoisingOrder),
        ("evaluate", EvaluationOrder),
    ):
        assert set(options_of(declared)) <= {one.name for one in command(verb).params}


def test_flags_are_the_names_of_the_fields_unless_the_field_says_otherwise():
    other = {"settings": "--set", "max_bytes": "--max-memory"}
    for one in command("train").params:
        if one.name in options_of(Order) and one.param_type_name == "option":
            assert one.opts == [other.get(one.name, "--" + one.name.replace("_", "-"))]


def test_every_field_says_what_it_is_in_help_and_in_the_docstring_of_train():
    for name, words in field_docs(Order).items():
        assert len(words) > 10, name
        assert words.splitlines()[0] in pf.train.__doc__
    help_texts = {one.name: one.help for one in command("train").params}
    for name in options_of(Order):
        assert help_texts[name] == spell_flags(help_of(field_docs(Order)[name]))
        assert "`" not in help_texts[name]


def test_every_method_stands_in_the_help_of_method():
    words = (
        field_docs(Order)["method"]
        .replace(",", " ")
        .replace(";", " ")
        .replace(".", " ")
        .replace(":", " ")
        .split()
    )
    assert set(METHODS) <= set(words)


def test_fields_of_files_and_of_resuming_are_fields():
    names = {field.name for field in dataclasses.fields(Order)}
    assert set(STORED) <= names
    assert set(FIXED) <= names
    assert set(IMAGES) <= set(STORED)
    assert not set(NOTED) & set(STORED)


def test_what_is_given_wins_over_the_file(tmp_path):
    path = written(
        tmp_path, method="n2v", seed=4, minutes=3.0, noisy=["a"], settings={"lr": 0.1, "width": 8}
    )
    order = place_order({"seed": 5, "settings": {"lr": 0.2}}, path)
    assert (order.method, order.seed, order.minutes, order.noisy) == ("n2v", 5, 3.0, ["a"])
    assert order.settings == {"lr": 0.2, "width": 8}


def test_a_given_budget_takes_the_place_of_the_files(tmp_path):
    order = place_order({"steps": 7}, written(tmp_path, minutes=3.0))
    assert (order.minutes, order.steps) == (None, 7)


@pytest.mark.parametrize("given", [{"method": "nb2nb"}, {"preset": "paper"}])
def test_settings_of_another_method_or_preset_are_left_out(tmp_path, given):
    path = written(tmp_path, method="n2v", preset="cpu", settings={"lr": 0.1})
    assert place_order(given, path).settings == {}
    assert place_order({**given, "settings": {"width": 4}}, path).settings == {"width": 4}
    same = {name: {"method": "n2v", "preset": "cpu"}[name] for name in given}
    assert place_order(same, path).settings == {"lr": 0.1}


def test_defaults_stand_where_nothing_is_given():
    assert place_order({"noisy": ["a"], "minutes": None}) == Order(noisy=["a"], settings={})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": "3"}, "`steps` = '3': expected a whole number"),
        ({"steps": 2.5}, "`steps` = 2.5: expected a whole number"),
        ({"steps": True}, "`steps` = True: expected a whole number"),
        ({"seed": "a", "minutes": "b"}, "`seed` = 'a': .* | `minutes` = 'b': expected a number"),
        ({"resume": 1}, "expected True or False"),
        ({"settings": 3}, "is a mapping"),
        ({"settings": ["lr"]}, "KEY=VALUE"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused_with_their_names(given, words):
    with pytest.raises(ConfigError, match=words) as caught:
        place_order({"noisy": "folder", **given})
    assert "\n" not in str(caught.value)


def test_words_are_read_as_on_the_command_line():
    order = place_order({"max_bytes": "4GB", "settings": ["lr=0.1", "width=8"]})
    assert order.max_bytes == 4e9
    assert order.settings == {"lr": "0.1", "width": "8"}
    assert place_order({"settings": "lr=0.1"}).settings == {"lr": "0.1"}
    assert place_order({"seed": np.int64(3), "minutes": np.float32(2)}).seed == 3


def test_settings_that_a_file_has_for_another_method_are_told(tmp_path, caplog):
    path = tmp_path / "config.toml"
    path.write_text(to_toml({"method": "nb2nb", "settings": {"lr": 0.1}}))
    place_order({"method": "n2v"}, path)
    assert "left out: lr" in caplog.text


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(ConfigError, match="is a folder"):
        place_order({}, tmp_path)


def test_an_unknown_option_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="no option 'minuets'; did you mean 'minutes'"):
        pf.train([np.zeros((8, 8))], minuets=3)


def test_a_file_with_unknown_keys_and_wrong_types_is_refused_whole(tmp_path):
    path = written(tmp_path, metod="n2v", seed="four", stage_steps=[1.5])
    with pytest.raises(
        ConfigError,
        match=r"metod.*did you mean 'method'.*seed = 'four': expected a whole number .*stage_steps",
    ):
        read_order(path)


def test_python_takes_a_runs_config_as_the_command_line_does(tmp_path):
    """The run is repeated bit for bit; what is given beside the file wins."""
    rng = np.random.default_rng(0)
    for k in range(2):
        np.save(tmp_path / f"{k}.npy", rng.normal(100, 10, (40, 40)).astype(np.float32))
    settings = {"patch_px": 16, "batch_size": 1, "width": 4}
    first = pf.train(
        tmp_path, method="n2v", steps=3, settings=settings, out=tmp_path / "run", report=False
    )
    config = tmp_path / "run" / "config.toml"
    again = pf.train(config=config, out=tmp_path / "again", report=False)
    fewer = pf.train(config=config, steps=2, report=False)
    image = np.load(tmp_path / "0.npy")
    assert np.array_equal(first.denoise(image), again.denoise(image))
    assert not np.array_equal(first.denoise(image), fewer.denoise(image))


def test_resuming_refuses_another_choice_from_python_too(tmp_path):
    images = [np.random.default_rng(0).normal(100, 10, (40, 40)).astype(np.float32)] * 2
    settings = {"patch_px": 16, "batch_size": 1, "width": 4}
    given = {
        "method": "n2v",
        "steps": 2,
        "settings": settings,
        "out": tmp_path / "run",
        "report": False,
    }
    pf.train(images, **given)
    pf.train(images, **given, resume=True)
    with pytest.raises(ConfigError, match=r"`seed` 3 \(the run has 0\)"):
        pf.train(images, **given, resume=True, seed=3)
    with pytest.raises(ConfigError, match=r"`settings` width=8 \(the run has 4\)"):
        pf.train(images, **{**given, "settings": {"width": 8}}, resume=True)


def test_options_are_metadata_of_fields():
    """What has no option is not on the command line."""
    without = {field.name for field in dataclasses.fields(Order) if OPTION not in field.metadata}
    assert without == {"net", "command", "report"}
