"""R26: the hand-written faults of ``benchmarks/faults.py`` fit the package as it is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAULTS = tomllib.loads((ROOT / "benchmarks/faults.toml").read_text(encoding="utf-8"))["fault"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault["file"])
def test_a_fault_can_be_put_in(fault: dict[str, str]) -> None:
    """Words that are there once; another text; tests that exist."""
    text = (ROOT / "src/pairfree" / fault["file"]).read_text(encoding="utf-8")
    assert text.count(fault["right"]) == 1
    assert fault["wrong"] != fault["right"]
    assert all((ROOT / path).exists() for path in fault["tests"].split())


def test_there_are_enough() -> None:
    assert len(FAULTS) >= 60
