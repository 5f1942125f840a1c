"""What a new method, noise model or number of the evidence must touch beside its own file.

CONTRIBUTING.md names these tests.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pairfree.methods
import pairfree.noise
from pairfree.config import architecture_settings
from pairfree.errors import ConfigError
from pairfree.evidence.noref import Evidence
from pairfree.methods import METHODS, build_method
from pairfree.methods.base import Method
from pairfree.noise.measured import Measured
from pairfree.noise.model import NoiseModel
from pairfree.noise.simulate import MODELS

SRC = Path(pairfree.__file__).parent
ONLY_IN_FILES = {"n_images", "n_pixels", "detail_share", "offset_se"}
"""Counts, and numbers that ``evaluate --json`` writes and no sentence tells."""


def modules_of(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def classes_of(module: ModuleType, base: type) -> list[type]:
    """Classes under ``base`` that a module defines and gives a key of their own."""
    defined = [value for value in vars(module).values() if isinstance(value, type)]
    own = [one for one in defined if issubclass(one, base) and one.__module__ == module.__name__]
    return [one for one in own if isinstance(vars(one).get("key"), str)]


def test_every_method_is_in_the_table():
    for module in modules_of(pairfree.methods):
        for one in classes_of(module, Method):
            assert one.key in METHODS, f"{module.__name__}: add {one.key!r} to METHODS and PRESETS"
            assert issubclass(METHODS[one.key], one)


def test_every_noise_model_is_in_the_table():
    for module in modules_of(pairfree.noise):
        for one in classes_of(module, NoiseModel):
            known = MODELS | {Measured.key: Measured}
            assert known.get(one.key) is one, f"{module.__name__}: add {one.key!r} to MODELS"


Shapes = dict[str, dict[str, tuple[int, ...]]]


def shapes(method: Method) -> Shapes:
    """Of all weights, by network; buffers, such as the constants of even noise, may come and go."""
    found: Shapes = {}
    for network, net in method.networks.items():
        found[network] = {name: tuple(value.shape) for name, value in net.named_parameters()}
    return found


def fits(before: Shapes, after: Shapes) -> bool:
    """Whether networks that are in both have the same weights; whole networks may come and go."""
    return all(before[network] == after[network] for network in before.keys() & after.keys())


def other(value: Any) -> Any:
    """Another whole number, or the other truth; None for what has no obvious neighbour."""
    if isinstance(value, bool):
        return not value
    return 2 * value if isinstance(value, int) and value > 0 else None


@pytest.mark.parametrize("key", [key for key in METHODS if METHODS[key].trains])
def test_settings_that_shape_networks_are_kept_by_init(key, small):
    """A fine-tuned run takes them from the run it starts from: else its weights would not fit."""
    config = small.config(key)
    before = shapes(build_method(key, config, 1))
    marked = architecture_settings(type(config))
    for field in dataclasses.fields(config):
        changed = other(getattr(config, field.name))
        if changed is None or field.name in marked:
            continue
        try:
            method = build_method(key, dataclasses.replace(config, **{field.name: changed}), 1)
        except ConfigError:  # the two do not go together
            continue
        assert fits(before, shapes(method)), (
            f"{field.name} shapes a network of {key}: declare it with architecture()"
        )


def test_settings_that_shape_networks_are_seen(small):
    narrow, wide = (shapes(small.method("iddp", width=width)) for width in (4, 8))
    assert fits(narrow, narrow)
    assert not fits(narrow, wide)


def test_every_number_of_the_evidence_is_read():
    """By a sentence or a table of the report; a standard error beside its number."""
    read = set()
    for path in [*SRC.glob("evidence/*.py"), SRC / "training" / "report.py"]:
        if path.name != "noref.py":
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            read |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    fields = {field.name for field in dataclasses.fields(Evidence)}
    assert fields - ONLY_IN_FILES <= read
