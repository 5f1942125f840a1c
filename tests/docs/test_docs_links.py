"""What pages name exists: absolute links of the README, files of the source, and written parts.

Written parts are what the code writes into pages.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import pairfree
from pairfree import errors
from pairfree.cli.main import app
from pairfree.methods import METHODS, PRESETS

ROOT = Path(__file__).resolve().parents[2]
DOCS, SRC = ROOT / "docs", ROOT / "src" / "pairfree"
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md"), *DOCS.glob("methods/*.md")])
HERE = (
    "https://github.com/pairfree/pairfree/blob/main/",
    "https://raw.githubusercontent.com/pairfree/pairfree/main/",
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SOURCE = re.compile(r"`((?:[\w-]+/)+[\w-]+\.(?:py|md|json))`")

sys.path.insert(0, str(DOCS / "_ext"))
import pairfree_reference as reference  # noqa: E402 - the path above comes first


def read_links(page: Path) -> list[str]:
    """Targets of all links and pictures of a page, those over two lines too."""
    return LINK.findall(page.read_text(encoding="utf-8").replace("\n", " "))


def test_the_readme_links_work_where_the_package_is_shown():
    for link in read_links(ROOT / "README.md"):
        assert link.startswith("https://"), link
        for home in HERE:
            if link.startswith(home):
                assert (ROOT / link.removeprefix(home).partition("#")[0]).is_file(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_linked_pages_exist(page):
    for link in read_links(page):
        if not re.match(r"https?:|#", link):
            assert (page.parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem != "design"], ids=lambda page: page.stem
)
def test_source_files_that_a_page_names_exist(page):
    for name in SOURCE.findall(page.read_text(encoding="utf-8")):
        places = (ROOT / name, SRC / name)
        assert any(place.is_file() for place in places), name


def names_in_source() -> set[str]:
    """Functions, classes and methods of all the package, as ``name`` and as ``Class.name``."""
    found = set()
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            if isinstance(node, ast.ClassDef):
                found |= {
                    f"{node.name}.{part.name}"
                    for part in node.body
                    if isinstance(part, ast.FunctionDef)
                }
    return found


def test_functions_that_stand_beside_equations_exist():
    known = names_in_source()
    for page in DOCS.glob("methods/*.md"):
        table = (
            page.read_text(encoding="utf-8").partition("**In the code:**")[2].partition("\n## ")[0]
        )
        rows = [line.rsplit("|", 2)[1] for line in table.splitlines() if line.startswith("|")]
        names = {name for row in rows for name in re.findall(r"`([A-Za-z_][\w.]*)`", row)}
        assert {name for name in names if not name.endswith(".py")} <= known, page.name


def test_every_verb_and_option_is_in_the_reference():
    page = reference.fill((DOCS / "reference" / "commands.md").read_text(encoding="utf-8"))
    for name, command in get_command(app).commands.items():
        part = page.partition(f"## `pairfree {name}`")[2].partition("\n## ")[0]
        for parameter in command.params:
            shown = (
                reference.argument_name(parameter)
                if parameter.param_type_name == "argument"
                else parameter.opts[0]
            )
            assert shown in part or shown == "--help", (name, shown)


@pytest.mark.parametrize("key", METHODS)
def test_every_setting_of_a_method_is_on_its_page_with_its_meaning(key):
    page = reference.fill((DOCS / "methods" / f"{key}.md").read_text(encoding="utf-8"))
    for preset in PRESETS[key].values():
        for field in vars(preset):
            row = next(
                (line for line in page.splitlines() if line.startswith(f"| `{field}` |")), ""
            )
            assert row, field
            assert row.split("|")[-2].strip(), f"{field}: no meaning"


def test_every_public_name_is_in_the_reference():
    page = reference.fill((DOCS / "reference" / "python.md").read_text(encoding="utf-8"))
    for name in pairfree.__all__:
        listed = f":: pairfree.{name}\n" in page or f"`pf.{name}`" in page
        assert listed or name.startswith("_") or hasattr(errors, name), name


def test_the_evidence_names_every_number():
    page = reference.fill((DOCS / "evidence.md").read_text(encoding="utf-8"))
    assert all(
        f"| `{name}` |" in page for name in ("noise_left", "detail_support", "unsupported_sites")
    )
