"""The paper's method and what a short preset adds: the class a config builds; its defaults add nothing."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pairfree.config import updated
from pairfree.errors import ConfigError
from pairfree.methods import (
    EXTENDED,
    METHODS,
    PRESETS,
    build_method,
    choose_config_type,
    extend_config,
    setting_names,
    settings_beside,
)

ADDED = {
    key: setting_names(made.config_type) - setting_names(METHODS[key].config_type)
    for key, made in EXTENDED.items()
}


def defaults(key):
    """What the extended method adds, at its defaults."""
    fields = dataclasses.fields(EXTENDED[key].config_type)
    return {field.name: field.default for field in fields if field.name in ADDED[key]}


@pytest.mark.parametrize("key", EXTENDED)
@pytest.mark.parametrize("preset", ["cpu", "paper"])
def test_a_config_builds_the_class_that_it_belongs_to(key, preset, small):
    config = small.config(key, preset)
    kind = EXTENDED[key] if isinstance(config, EXTENDED[key].config_type) else METHODS[key]
    assert type(build_method(key, config, 1)) is kind


@pytest.mark.parametrize("key", EXTENDED)
def test_the_defaults_of_what_is_added_add_nothing(key, small):
    """Two steps of the paper's class and of the extended one end in the same numbers, to the last bit."""
    config = small.config(key, "paper")
    data = small.data()
    ends = []
    for each in (config, extend_config(key, config, defaults(key))):
        torch.manual_seed(0)
        method = build_method(key, each, 1)
        logged = small.run(method, data)
        method.finish(data, 0)
        ends.append(
            (
                type(method),
                logged,
                method.tensors(),
                method.denoise(data.noisy.plane(0)[None, :, :32, :32]),
            )
        )
    (paper, *ours), (extended, *theirs) = ends
    assert (paper, extended) == (METHODS[key], EXTENDED[key])
    assert ours[0] == theirs[0]
    assert ours[1].keys() == theirs[1].keys()
    assert all(torch.equal(value, theirs[1][name]) for name, value in ours[1].items())
    assert torch.equal(ours[2], theirs[2])


@pytest.mark.parametrize("key", EXTENDED)
def test_settings_choose_the_type_that_has_them(key):
    paper, extended = METHODS[key].config_type, EXTENDED[key].config_type
    assert choose_config_type(key, {}) is paper
    assert choose_config_type(key, dataclasses.asdict(PRESETS[key]["paper"])) is paper
    for name, value in defaults(key).items():
        assert choose_config_type(key, {"lr": 0.1, name: value}) is extended
    assert choose_config_type("n2c", {"no such thing": 1}) is METHODS["n2c"].config_type


def test_a_value_that_the_paper_does_not_know_chooses_the_type_that_does():
    paper, extended = METHODS["gan2gan"].config_type, EXTENDED["gan2gan"].config_type
    assert choose_config_type("gan2gan", {"start": "z"}) is paper
    assert choose_config_type("gan2gan", {"start": "recorrupted"}) is extended
    config = PRESETS["gan2gan"]["paper"]
    made = updated(
        extend_config("gan2gan", config, {"start": "recorrupted"}), {"start": "recorrupted"}, "here"
    )
    assert dataclasses.asdict(made) == {
        **settings_beside("gan2gan", vars(config)),
        "start": "recorrupted",
    }


def test_a_value_that_neither_type_knows_is_refused_with_all_that_there_are():
    asked = {"start": "anywhere"}
    with pytest.raises(ConfigError, match="start = 'anywhere' must be g2, z or recorrupted"):
        updated(extend_config("gan2gan", PRESETS["gan2gan"]["paper"], asked), asked, "here")


@pytest.mark.parametrize("key", EXTENDED)
def test_a_config_is_extended_where_a_setting_asks_for_it(key):
    paper = PRESETS[key]["paper"]
    assert extend_config(key, paper, {"lr": 0.1}) is paper
    extended = extend_config(key, paper, {"lr": 0.1, **defaults(key)})
    assert dataclasses.asdict(extended) == settings_beside(key, dataclasses.asdict(paper))
    assert extend_config(key, extended, {}) is extended


def test_settings_of_a_method_that_adds_nothing_stay_as_they_are():
    stored = dataclasses.asdict(PRESETS["n2v"]["cpu"])
    assert settings_beside("n2v", stored) == stored
    assert settings_beside("a method of their own", {"depth": 3}) == {"depth": 3}
