"""What a new format must touch beside its own module; CONTRIBUTING.md names these tests."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
from test_files_hostile import SEEDS

import pairfree.files.formats
from pairfree.errors import InputError
from pairfree.files.formats.table import FORMATS, suffix_of
from pairfree.files.image import Image
from pairfree.files.opening import open_image, save_image

PAGE = Path(__file__).parents[2] / "docs" / "files.md"
WITH_OWN_DAMAGE = {"zarr"}
"""test_mutated_metadata and flipped bits of chunks."""


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


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy"])
def test_an_image_that_was_made_from_an_array_is_written_as_the_suffix_says(tmp_path, suffix):
    pixels = np.arange(40 * 32, dtype=np.uint8).reshape(40, 32)
    path = tmp_path / f"made{suffix}"
    save_image(Image(pixels, "YX"), path)
    assert np.array_equal(open_image(path).pixels.squeeze(), pixels)


def test_an_array_is_no_image_and_the_message_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"found ndarray; wrap an array, Image\(pixels, 'YX'\)"):
        save_image(np.zeros((8, 8)), tmp_path / "o.tif")
    assert not list(tmp_path.iterdir())
