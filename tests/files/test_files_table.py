"""What a new format must touch beside its own module; CONTRIBUTING.md names these tests."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from test_files_hostile import SEEDS

import pairfree.files.formats
from pairfree.files.formats.table import FORMATS, suffix_of

PAGE = Path(__file__).parents[2] / "docs" / "files.md"
WITH_OWN_DAMAGE = {"zarr", "vendor"}
"""Zarr: test_mutated_metadata and flipped bits of chunks.

Makers' files are read by optional packages; SECURITY.md says so.
"""


def test_every_reader_is_in_the_table():
    """Functions ``read_NAME`` of one path and its limits."""
    known = {one.read for one in FORMATS.values()}
    for found in pkgutil.iter_modules(pairfree.files.formats.__path__, "pairfree.files.formats."):
        module = importlib.import_module(found.name)
        for name, value in vars(module).items():
            ours = getattr(value, "__module__", "") == module.__name__
            if re.fullmatch(r"read_[a-z]+", name) and ours and _takes_limits(value):
                assert value in known, f"{found.name}: add {name} to FORMATS"


def _takes_limits(function: object) -> bool:
    code = function.__code__  # type: ignore[attr-defined]
    return code.co_varnames[: code.co_argcount] == ("path", "limits")


def test_every_format_is_tried_with_damaged_files():
    tried = {suffix_of(Path(name)) for name in SEEDS}
    for one in FORMATS.values():
        if one.family not in WITH_OWN_DAMAGE:
            assert tried & set(one.suffixes), f"{one.family}: add a file to SEEDS"


@pytest.mark.parametrize("key", FORMATS)
def test_the_page_of_files_names_every_format(key):
    names = [key, *(suffix.lstrip(".") for suffix in FORMATS[key].suffixes)]
    table = PAGE.read_text(encoding="utf-8").partition("## Formats")[2].partition("\n## ")[0]
    assert re.search("|".join(map(re.escape, names)), table, re.IGNORECASE)
