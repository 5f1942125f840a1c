"""The source stays readable: few tokens a code line, no function with too many turns."""

from __future__ import annotations

from pathlib import Path

import pytest
from density import density_of, together

SRC = Path(__file__).resolve().parents[2] / "src" / "pairfree"
FILES = sorted(SRC.rglob("*.py"))
MOST_TOKENS_A_LINE = 9.0
"""Of the whole package."""
MOST_TOKENS_IN_A_FILE = 12.0
"""Of one file: formulas are denser than other code."""


def test_the_package_has_few_tokens_a_line():
    parts = {path: density_of(path.read_text(encoding="utf-8")) for path in FILES}
    worst = sorted(parts, key=lambda path: -parts[path].tokens_a_line)[:10]
    names = [f"{parts[path].tokens_a_line:.1f} {path.relative_to(SRC)}" for path in worst]
    whole = together(list(parts.values())).tokens_a_line
    assert whole <= MOST_TOKENS_A_LINE, f"{whole:.2f}; densest: {', '.join(names)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_a_file_is_not_dense_and_its_functions_can_be_followed(path):
    found = density_of(path.read_text(encoding="utf-8"))
    assert found.tokens_a_line <= MOST_TOKENS_IN_A_FILE
    assert found.complex_functions == ()


def test_tokens_are_counted_without_words_and_layout():
    source = '"""Words."""\n\nx = 1  # words\n\n\ndef f(a):\n    """Words."""\n    return a\n'
    found = density_of(source)
    assert (found.code_lines, found.tokens) == (3, 3 + 6 + 2)


def test_a_turn_in_an_expression_counts_as_one():
    """1 for the function, the comprehension 1 and its condition 1, ``or`` 1, the conditional expression 1."""
    source = "def f(a, b):\n    return [x for x in a if x or b] if a else b\n"
    assert density_of(source, most_complex=0).complex_functions == (("f", 5),)
