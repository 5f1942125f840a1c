"""Settings: strict keys and types with suggestions, and all problems in one message.

TOML reads back the same.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairfree.config import (
    architecture,
    architecture_settings,
    choose,
    did_you_mean,
    parse_set,
    to_toml,
    updated,
)
from pairfree.errors import ConfigError
from pairfree.training.order import read_toml


@dataclass(frozen=True)
class Settings:
    steps: int = 10
    lr: float = 1e-3
    clip: bool = True
    net: str = "unet"
    seed: int | None = None


@pytest.mark.parametrize(
    ("key", "given_value", "expected"),
    [
        ("steps", 20, 20),
        ("steps", "20", 20),
        ("steps", 20.0, 20),
        ("lr", 1, 1.0),
        ("lr", "2e-4", 2e-4),
        ("clip", "False", False),
        ("clip", False, False),
        ("net", "dncnn", "dncnn"),
        ("seed", "3", 3),
        ("seed", None, None),
    ],
)
def test_values_become_the_fields_type(key, given_value, expected):
    """Text comes from --set, numbers from TOML and Python."""
    found = getattr(updated(Settings(), {key: given_value}, "test"), key)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("steps", "many", "expected a whole number"),
        ("steps", 2.5, "expected a whole number"),
        ("steps", "2.5", "expected a whole number"),
        ("steps", True, "expected a number"),
        ("steps", math.inf, "expected a whole number"),
        ("steps", math.nan, "expected a whole number"),
        ("steps", [1], "expected a whole number"),
        ("lr", "fast", "expected a number"),
        ("lr", math.nan, "expected a finite number"),
        ("lr", "inf", "expected a finite number"),
        ("lr", 10**400, "expected a number"),
        ("lr", None, "expected a number"),
        ("clip", 1, "expected true or false"),
        ("clip", "yes", "expected true or false"),
        ("net", 3, "expected text"),
        ("seed", "x", "expected a whole number"),
    ],
)
def test_values_of_another_kind_are_refused(key, value, reason):
    with pytest.raises(ConfigError, match=f"run.toml: {key} = .*: {reason}"):
        updated(Settings(), {key: value}, "run.toml")


def test_whole_numbers_keep_every_digit():
    assert updated(Settings(), {"steps": 2**53 + 1}, "test").steps == 2**53 + 1
    assert updated(Settings(), {"steps": str(2**53 + 1)}, "test").steps == 2**53 + 1


def test_all_problems_come_in_one_message_with_suggestions():
    with pytest.raises(ConfigError) as caught:
        updated(Settings(), {"stesp": 1, "lr": "fast", "clip": "maybe"}, "--set")
    text = str(caught.value)
    assert text.startswith("--set: unknown key 'stesp'; did you mean 'steps'?")
    assert text.count(" | ") == 2
    assert "\n" not in text


def test_updated_leaves_the_base_alone():
    base = Settings()
    assert updated(base, {"steps": 3}, "test") == Settings(steps=3)
    assert base == Settings()


def test_choose_finds_or_suggests():
    assert choose("iddp", {"iddp": 1}, "method") == 1
    with pytest.raises(ConfigError, match=r"no method named 'idpd'; did you mean 'iddp'\?"):
        choose("idpd", {"iddp": 1, "n2v": 2}, "method")
    assert did_you_mean("xyz", ["b", "a"]) == "; there are: a, b"


def test_set_pairs_are_split_at_the_first_equals_sign():
    assert parse_set(["lr=1e-3", " net = a=b ", "lr=2"]) == {"lr": "2", "net": "a=b"}
    for wrong in ("lr", "=3", " =3"):
        with pytest.raises(ConfigError, match="expected KEY=VALUE"):
            parse_set([wrong])


plain_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    plain_text,
    st.lists(st.integers(0, 9), max_size=3),
)
keys = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True)


@given(
    st.dictionaries(keys, st.one_of(values, st.dictionaries(keys, values, max_size=3)), max_size=5)
)
def test_toml_reads_back_the_same(mapping):
    found = tomllib.loads(to_toml(mapping))
    assert found == mapping
    assert {key: type(value) for key, value in found.items()} == {
        key: type(value) for key, value in mapping.items()
    }


def test_a_name_that_is_no_text_is_spelled_out():
    assert tomllib.loads(to_toml({"command": "pairfree train in --out r\udcff"})) == {
        "command": "pairfree train in --out r\\udcff"
    }


def test_toml_leaves_none_out():
    assert tomllib.loads(to_toml({"a": None, "b": {"c": None, "d": 1}})) == {"b": {"d": 1}}


@pytest.mark.parametrize("content", [b"lr = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_broken_file_is_named(tmp_path: Path, content):
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.toml: not readable as TOML"):
        read_toml(tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match="no such config file"):
        read_toml(tmp_path / "missing.toml")


@dataclass(frozen=True)
class Shaped:
    width: int = architecture(32)
    lr: float = 1e-3


@dataclass(frozen=True)
class ShapedMore(Shaped):
    width: int = 16
    depth: int = architecture(3)


def test_what_shapes_a_network_is_marked_where_it_is_declared():
    """A class that only changes a default keeps the mark."""
    assert architecture_settings(Shaped) == {"width"}
    assert architecture_settings(ShapedMore) == {"width", "depth"}
    assert (Shaped().width, ShapedMore().width, ShapedMore(width=8).width) == (32, 16, 8)
    assert architecture_settings(Settings) == frozenset()


@pytest.mark.parametrize("number", [2**63, -(10**400)])
def test_whole_numbers_have_a_bound(number):
    with pytest.raises(ConfigError, match=r"whole number of less than 2\^63"):
        updated(Settings(), {"steps": number}, "here")
