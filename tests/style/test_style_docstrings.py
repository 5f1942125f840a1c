"""Docstrings are numpydoc, so that a reference can be made of them, and say nothing that the code does not.

That everything public has one, with a summary line, is checked by ruff (pydocstyle, its numpy convention).
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import pairfree

SRC = Path(__file__).resolve().parents[2] / "src" / "pairfree"
FILES = sorted(SRC.rglob("*.py"))
SECTIONS = {
    "Attributes",
    "Parameters",
    "Returns",
    "Yields",
    "Raises",
    "Warns",
    "Notes",
    "References",
    "Examples",
    "See Also",
}
FUNCTIONS = [name for name in pairfree.__all__ if inspect.isfunction(getattr(pairfree, name, None))]


def sections_of(docstring: str) -> dict[str, str]:
    """Titles that are underlined, and the text beneath each."""
    parts = re.split(r"^(\S[^\n]*)\n-{3,}\n", docstring, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def names_in(section: str) -> list[str]:
    """Names of a Parameters section: lines that are not indented, with commas between several."""
    lines = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return [name.strip(" *") for line in lines for name in line.split(":")[0].split(",")]


def parameters_of(node: ast.FunctionDef | ast.ClassDef) -> list[str] | None:
    """Parameters of a function, or of a class's ``__init__``; None for a class without one."""
    if isinstance(node, ast.ClassDef):
        starts = [part for part in node.body if getattr(part, "name", "") == "__init__"]
        return parameters_of(starts[0]) if starts else None
    given = node.args
    every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    names = [one.arg for one in every if one is not None]
    return [name for name in names if name not in ("self", "cls")]


def documented(path: Path) -> list[tuple[ast.FunctionDef | ast.ClassDef, dict[str, str]]]:
    """Functions and classes of a file that have a docstring, with its sections."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            text = ast.get_docstring(node)
            if text:
                found.append((node, sections_of(text)))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_sections_are_those_of_numpydoc_and_parameters_those_of_the_signature(path):
    for node, sections in documented(path):
        assert set(sections) <= SECTIONS, node.name
        expected = parameters_of(node)
        if (
            "Parameters" in sections
            and expected is not None
            and "{fields}" not in sections["Parameters"]
        ):
            listed = names_in(sections["Parameters"])
            known = [name for name in expected if name in listed]
            assert listed == known, node.name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_the_package_say_what_they_take_give_and_raise(name):
    function = getattr(pairfree, name)
    sections = sections_of(inspect.getdoc(function))
    signature = inspect.signature(function)
    wanted = {"Raises"}
    if signature.parameters:
        wanted.add("Parameters")
    if signature.return_annotation not in (None, "None"):
        wanted.add("Returns")
    assert wanted <= set(sections)
    listed = names_in(sections.get("Parameters", ""))
    taken = [one.name for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    assert set(taken) <= set(listed)


def test_a_parameter_that_is_gone_would_be_noticed():
    text = inspect.cleandoc(
        """Words.

        Parameters
        ----------
        a, b
            Two.
        c
            One.

        Returns
        -------
        int
            A number.
        """
    )
    sections = sections_of(text)
    assert set(sections) == {"Parameters", "Returns"}
    assert names_in(sections["Parameters"]) == ["a", "b", "c"]
