"""Files of microscopes' makers: which package is missing, and what a damaged file says."""

from __future__ import annotations

import builtins
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers_olympus import write_oib

from pairfree.errors import InputError
from pairfree.files import open_image
from pairfree.files.formats.table import FORMATS
from pairfree.files.formats.vendors import READERS
from pairfree.files.opening import count_scenes

RNG = np.random.default_rng(0)
PACKAGES = {
    ".nd2": ("nd2", "vendors"),
    ".lif": ("liffile", "vendors"),
    ".oib": ("olefile", "vendors"),
    ".dm3": ("rsciio", "vendors-gpl"),
    ".dm4": ("rsciio", "vendors-gpl"),
    ".emd": ("rsciio", "vendors-gpl"),
}
"""What reads a file, and the extra that it is in."""


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """As where a package is not installed."""
    kept = builtins.__import__

    def refuse(module: str, *arguments: Any, **options: Any) -> Any:
        if module.partition(".")[0] == package and (len(arguments) < 4 or arguments[3] == 0):
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return kept(module, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize("suffix", PACKAGES)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    package, extra = PACKAGES[suffix]
    path = tmp_path / f"a{suffix}"
    if suffix == ".oib":
        write_oib(path, np.ones((1, 1, 1, 8, 8), np.uint16))
    else:
        path.write_bytes(b"something")
    without(monkeypatch, package)
    wanted = f"a{suffix}: reading it needs the package {package}: pip install 'pairfree[{extra}]'"
    for ask in (open_image, count_scenes):
        if suffix != ".oib" or ask is open_image:  # to count its images OIB is not opened
            with pytest.raises(InputError, match=re.escape(wanted)):
                ask(path)


def test_every_suffix_has_a_reader() -> None:
    """That of its row in the table."""
    suffixes = {*FORMATS["vendor"].suffixes, *FORMATS["electron"].suffixes}
    assert suffixes == READERS.keys()


@pytest.mark.parametrize("suffix", READERS)
def test_a_damaged_file_is_one_line_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    """Not on the terminal either, where libraries like to say more."""
    if suffix in PACKAGES:
        pytest.importorskip(PACKAGES[suffix][0])
    path = tmp_path / f"a{suffix}"
    path.write_bytes(RNG.bytes(5000))
    source = (
        "import sys\nfrom pairfree.files import open_image\n"
        "try:\n    open_image(sys.argv[1])\nexcept Exception as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.startswith(f"{path}: ")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("suffix", [".czi", ".nd2", ".lif", ".emd"])
def test_scenes_of_what_is_no_such_file_cannot_be_counted(tmp_path: Path, suffix: str) -> None:
    if suffix in PACKAGES:
        pytest.importorskip(PACKAGES[suffix][0])
    path = tmp_path / f"a{suffix}"
    path.write_bytes(RNG.bytes(5000))
    with pytest.raises(InputError):
        count_scenes(path)
