"""What strangers get: every import is declared, floors and pins agree, one version, one address.

Forms and workflows can be read.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import pairfree
from pairfree import version

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "pairfree"
WRITTEN = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = WRITTEN["project"]
EXTRAS = {
    name: [Requirement(one) for one in wanted]
    for name, wanted in PROJECT["optional-dependencies"].items()
}
BASE = [Requirement(one) for one in PROJECT["dependencies"]]
PACKAGE_OF = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "rsciio": "rosettasciio",
    "yaml": "pyyaml",
}
"""Packages whose import has another name."""
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / ".github").rglob("*.*")),
    ROOT / "CITATION.cff",
    ROOT / "docs" / "conf.py",
]


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def packages_imported(node: ast.AST, late: bool = False) -> Iterator[tuple[str, bool]]:
    """Top-level packages that a module imports, and whether it does so only within a function."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.Import):
            for alias in inner.names:
                yield alias.name.partition(".")[0], late
        elif isinstance(inner, ast.ImportFrom):
            yield (inner.module or "pairfree").partition(".")[0], late
        elif not isinstance(inner, ast.expr):
            yield from packages_imported(inner, late or isinstance(inner, ast.FunctionDef))


@functools.cache
def third_party(folder: Path) -> dict[str, bool]:
    """Distributions that the modules of ``folder`` import, by name.

    True where all imports stand within functions.
    """
    found: dict[str, bool] = {}
    for path in sorted(folder.rglob("*.py")):
        for name, late in packages_imported(ast.parse(path.read_text(encoding="utf-8"))):
            if name not in sys.stdlib_module_names | {"pairfree"}:
                package = canonicalize_name(PACKAGE_OF.get(name, name))
                found[package] = found.get(package, True) and late
    return found


def names_of(wanted: list[Requirement]) -> set[str]:
    return {canonicalize_name(one.name) for one in wanted}


def floor_of(wanted: Requirement) -> Version:
    """The version of its only bound, which must be a floor."""
    (bound,) = wanted.specifier
    assert bound.operator == ">=", f"{wanted}: floors, no caps"
    return Version(bound.version)


def test_every_import_of_the_package_is_declared():
    optional = set().union(
        *(names_of(EXTRAS[name]) for name in ("bm3d", "vendors", "vendors-gpl", "remote", "dask"))
    ) | {"distributed"}
    for package, late in third_party(SRC).items():
        assert package in names_of(BASE) or (package in optional and late), (
            f"src imports {package}: declare it in pyproject.toml, or in an extra and import it where it is "
            "used"
        )


def test_what_is_declared_is_imported():
    assert names_of(BASE) <= third_party(SRC).keys()
    for name in ("bm3d", "vendors", "vendors-gpl"):
        assert names_of(EXTRAS[name]) <= third_party(SRC).keys()


def test_every_import_of_the_tests_is_declared():
    """Of those that are no part of the package's own needs.

    Bm3d, whose licence is its own, is skipped where it is missing.
    """
    # Packaging comes with pytest, and xdist is what pytest-xdist installs.
    others = {"bm3d", "distributed", "packaging", "xdist"}
    known = names_of(BASE) | names_of(EXTRAS["test"]) | others
    ours = {path.stem for path in (ROOT / "docs" / "_ext").glob("*.py")} | {
        path.stem for path in (ROOT / "tests").rglob("*.py")
    }
    assert third_party(ROOT / "tests").keys() - {canonicalize_name(one) for one in ours} <= known


def test_continuous_integration_pins_every_requirement_at_or_above_its_floor():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            (bound,) = pin.specifier
            assert bound.operator == "==", line
            pins[canonicalize_name(pin.name)] = Version(bound.version)
    for wanted in [*BASE, *EXTRAS["test"], *EXTRAS["docs"], *EXTRAS["dask"], *EXTRAS["bm3d"]]:
        assert pins[canonicalize_name(wanted.name)] >= floor_of(wanted), wanted
    assert all(
        floor_of(wanted) for wanted in EXTRAS["vendors"] + EXTRAS["vendors-gpl"] + EXTRAS["remote"]
    )


def test_the_version_stands_in_one_place():
    assert pairfree.__version__ == version.__version__
    assert PROJECT["dynamic"] == ["version"]
    assert (
        WRITTEN["tool"]["setuptools"]["dynamic"]["version"]["attr"]
        == "pairfree.version.__version__"
    )
    for path in SRC.rglob("*.py"):
        if path.name != "version.py":
            assert not re.search(
                r"^__version__ *=", path.read_text(encoding="utf-8"), re.MULTILINE
            ), path


def test_the_changelog_and_the_citation_name_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[([^\]]+)\]", changelog, re.MULTILINE)
    assert headings[:2] == ["Unreleased", version.__version__]
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["version"] == version.__version__
    assert citation["license"] == PROJECT["license"].split(" AND ")
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]


def test_licence_files_are_there_and_the_notice_of_the_demo_is_one():
    for name in PROJECT["license-files"]:
        assert (ROOT / name).is_file()
    notice = (ROOT / PROJECT["license-files"][1]).read_text(encoding="utf-8")
    assert "MIT License" in notice
    assert PROJECT["license"] == "Apache-2.0 AND MIT"


def test_all_pages_name_one_address():
    home = PROJECT["urls"]["Repository"]
    owner = home.removeprefix("https://github.com/").partition("/")[0]
    assert all(link.startswith(home) for link in PROJECT["urls"].values())
    for page in PAGES:
        if not page.is_file():
            continue
        for link in re.findall(
            rf"https://github\.com/{owner}[\w./-]*", page.read_text(encoding="utf-8")
        ):
            assert link.rstrip("./") == home or link.startswith(f"{home}/"), (page, link)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_readable_and_their_actions_pinned(path):
    workflow = read_yaml(path)
    assert workflow["permissions"] in ({}, {"contents": "read"}), (
        "a job that needs more says so itself"
    )
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] > 0
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w.-]+/[\w./-]+@(v\d+|release/v\d+)", step["uses"]), step[
                    "uses"
                ]


def test_the_workflows_test_the_pythons_that_are_promised():
    promised = set(re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"])))
    matrix = read_yaml(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"][
        "matrix"
    ]
    assert {str(one) for one in matrix["python"]} == promised
    assert f">={min(promised, key=Version)}" == PROJECT["requires-python"]
    assert set(matrix["system"]) == {"ubuntu-latest", "macos-latest", "windows-latest"}


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_tests_that_a_page_names_exist(page):
    """`tests/…/test_file.py` and `test_name` after it; a name alone may stand in any test file."""
    text = (ROOT / page).read_text(encoding="utf-8")
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    for name in re.findall(r"`(tests/[\w/.]+)`", text):
        assert (ROOT / name).exists() or "NAME" in name, name
    named = re.findall(r"`(test_\w+)`", text)
    assert named
    for name in named:
        assert any(f"def {name}(" in source for source in sources.values()), name


def test_imports_within_functions_are_told_from_those_above():
    tree = ast.parse(
        "import zarr.codecs\ndef f():\n    from bm3d import bm3d\n    import os.path\n"
    )
    assert list(packages_imported(tree)) == [("zarr", False), ("bm3d", True), ("os", True)]
