"""The recipes of CONTRIBUTING.md, followed step by step with a toy each, in a copy of the source.

Before a step, one of the tests that the page names for it fails; after it, all of them pass.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOYS = Path(__file__).parent / "recipes"
SOURCE = "src/pairfree"
Step = Callable[[Path], None]
Outcomes = dict[str, bool]


def read_recipes() -> dict[str, list[list[str]]]:
    """Of each recipe of the page, the tests that it names, step by step."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    part = page.partition("## Four recipes\n")[2].partition("\n## ")[0]
    found = {}
    for recipe in part.split("\n### ")[1:]:
        name, _, body = recipe.partition("\n")
        steps = re.split(r"^\d+\. ", body, flags=re.MULTILINE)[1:]
        found[name] = [
            re.findall(r"`(test_\w+)`", step.partition("*Tells you:")[2]) for step in steps
        ]
    return found


RECIPES = read_recipes()
CASES = [
    (name, number) for name, steps in RECIPES.items() for number, named in enumerate(steps) if named
]


# -- the steps --------------------------------------------------------------------------------------------


def replace(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path}: {before!r} stands {text.count(before)} times"
    path.write_text(text.replace(before, after), encoding="utf-8")


def put_before(path: Path, line: str, new: str) -> None:
    """``new`` above the first line that begins with ``line``."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    starts = [number for number, one in enumerate(lines) if one.startswith(line)]
    assert starts, f"{path}: no line begins with {line!r}"
    lines.insert(starts[0], new + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def copy_toy(toy: str, folder: str) -> Step:
    return lambda house: shutil.copy(TOYS / toy, house / folder / toy) and None


def list_method(house: Path) -> None:
    table = house / SOURCE / "methods/__init__.py"
    put_before(table, "    n2c,", "    median,")
    put_before(table, '    "n2c": n2c.N2C', '    "median": median.Median,')
    put_before(table, '    "n2c": n2c.PRESETS', '    "median": median.PRESETS,')


def mark_architecture(house: Path) -> None:
    toy = house / SOURCE / "methods/median.py"
    replace(toy, "reach_px: int = 2", "reach_px: int = architecture(2)")
    put_before(toy, "from pairfree.data.patches", "from pairfree.config import architecture")


def list_format(house: Path) -> None:
    table = house / SOURCE / "files/formats/table.py"
    put_before(
        table,
        "from pairfree.files.formats.npy",
        "from pairfree.files.formats.pgm import read_pgm, write_pgm",
    )
    put_before(
        table, '    "npy": Format', '    "pgm": Format("pgm", (".pgm",), read_pgm, write_pgm),'
    )


CHECK_PGM = """
def _check_pgm(a: Image, b: Image) -> list[Check]:
    return [check_same("header", a.metadata["header"], b.metadata["header"])]


"""


def compare_format(house: Path) -> None:
    checks = house / SOURCE / "files/metadata_checks.py"
    put_before(checks, "METADATA: ", CHECK_PGM)
    put_before(checks, '    "npy": _check', '    "pgm": _check_pgm,')
    tests = house / "tests/files/test_files_fidelity.py"
    replace(tests, '"npy", "png", "jpg"', '"npy", "pgm", "png", "jpg"')
    replace(
        tests,
        '    if "chunks" in image.metadata:',
        '    if image.family == "pgm":\n        pixels = pixels[0]\n    if "chunks" in image.metadata:',
    )
    replace(
        tests,
        "    else:\n        np.save(path, pixels)\n    return path",
        '    elif kind == "pgm":\n        Picture.fromarray(pixels[0]).save(path)\n'
        "    else:\n        np.save(path, pixels)\n    return path",
    )


def damage_format(house: Path) -> None:
    tests = house / "tests/files/test_files_hostile.py"
    put_before(
        tests,
        '    "a.mrc": ',
        '    "a.pgm": lambda p: PIL.Image.fromarray(_pixels((40, 30))).save(p),',
    )
    replace(tests, '(".png", ".jpg", ".bmp")', '(".png", ".jpg", ".bmp", ".pgm")')


def list_noise(house: Path) -> None:
    table = house / SOURCE / "noise/simulate.py"
    put_before(table, "from pairfree.noise.structured", "from pairfree.noise.salt import Salt")
    put_before(table, '    "film": Film', '    "salt": Salt,')


def measure(house: Path) -> None:
    put_before(house / SOURCE / "evidence/residual.py", "def white_band", SKEWNESS)
    home = house / SOURCE / "evidence/noref.py"
    put_before(
        home,
        "    sites: int",
        '    skewness: float\n    """Of the residual; that of the noise for an oracle."""',
    )
    put_before(home, "        sites=int(", "        skewness=residual.skewness(r),")


SKEWNESS = '''
def skewness(residual: FloatArray) -> float:
    """Third standardised moment of a residual, 0 where it is flat."""
    centred = residual - residual.mean()
    spread = float(centred.std())
    return float(np.mean(centred**3)) / spread**3 if spread > 0 else 0.0


'''


def pool_measure(house: Path) -> None:
    pooled = '        skewness=parts.mean("skewness"),'
    put_before(house / SOURCE / "evidence/noref.py", "        sites=parts.total(", pooled)


FINDING = """
def judge_skewness(e: Evidence, unit: str = "") -> Finding:
    level: Level = "note" if abs(e.skewness) > 1 else "ok"
    return Finding(level, f"The residual's skewness is {e.skewness:.2f}.")


"""
ROW = """    _Test(
        "skewness",
        "Whether what was removed is lopsided",
        findings.judge_skewness,
        "skewness",
    ),
"""


def interpret_measure(house: Path) -> None:
    put_before(house / SOURCE / "evidence/findings.py", "def describe_removed", FINDING)
    rows = house / SOURCE / "evidence/interpretation.py"
    replace(rows, '    _Test(\n        "grid"', ROW + '    _Test(\n        "grid"')


STEPS: dict[str, list[Step]] = {
    "A method": [
        copy_toy("median.py", f"{SOURCE}/methods"),
        list_method,
        mark_architecture,
        lambda house: replace(
            house / SOURCE / "training/order.py", "nb2nb, n2v,", "nb2nb, median, n2v,"
        ),
        copy_toy("median.md", "docs/methods"),
    ],
    "A format": [
        copy_toy("pgm.py", f"{SOURCE}/files/formats"),
        list_format,
        compare_format,
        damage_format,
        lambda house: put_before(
            house / "docs/files.md", "| PNG, NPY", "| PGM | the same | 16 bits |"
        ),
    ],
    "A noise model": [
        copy_toy("salt.py", f"{SOURCE}/noise"),
        list_noise,
        lambda house: put_before(
            house / "docs/noise.md", "| `film`", "| `salt` | white pixels | | `share=0.05` |"
        ),
    ],
    "A test of evidence": [measure, pool_measure, interpret_measure],
}
AT_THE_END = {
    "tests/contract/test_contract_methods.py": "median",
    "tests/files/test_files_hostile.py": "mutations and pgm and not 10000",
    "tests/files/test_files_fidelity.py": "smoothed and pgm",
    "tests/noise/test_noise_simulate.py": "salt or spec_round_trip",
    "tests/evidence/test_evidence_noref.py": "oracle or made_up",
}
"""What runs over the toys by itself, once they are in their tables: files of tests, and which of them."""


# -- running them -----------------------------------------------------------------------------------------


def run_tests(house: Path, wanted: Iterable[str], *options: str) -> Outcomes:
    """Whether each test passed, those with parameters as one; what was not found did not pass."""
    results = house / "results.xml"
    results.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={results}",
    ]
    compiled = {"PYTHONPYCACHEPREFIX": str(house / "compiled")}
    environment = {**os.environ, "PYTHONPATH": str(house / "src"), **compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [*command, *wanted, *options],
        cwd=house,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert results.is_file(), done.stdout + done.stderr
    outcomes: Outcomes = {}
    for case in ElementTree.parse(results).iter("testcase"):
        name = str(case.get("name")).partition("[")[0]
        failed = case.find("failure") is not None or case.find("error") is not None
        outcomes[name] = outcomes.get(name, True) and not failed
    return outcomes


def homes_of(names: Iterable[str]) -> list[str]:
    """Files that define tests of these names."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if any(f"def {name}(" in text for name in names):
            found.append(str(path.relative_to(ROOT)))
    return found


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of the source, its tests, and the pages that they read."""
    here: Path = tmp_path_factory.mktemp("house")
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "figures", "_build", "_static")
    for name in ("src", "tests", "docs"):
        shutil.copytree(ROOT / name, here / name, ignore=left_out)
    for name in ("pyproject.toml", "CONTRIBUTING.md", "README.md"):
        shutil.copy(ROOT / name, here / name)
    return here


@pytest.fixture(scope="module")
def outcomes(house: Path) -> list[Outcomes]:
    """After each step of every recipe, the tests of that step and of the next are run."""
    found = []
    for number in range(max(len(steps) for steps in STEPS.values())):
        for steps in STEPS.values():
            if number < len(steps):
                steps[number](house)
        names: list[str] = []
        for recipe in RECIPES.values():
            for named in recipe[number : number + 2]:
                names += named
        found.append(run_tests(house, homes_of(names), "-k", " or ".join(names)))
    return found


@pytest.mark.parametrize(("recipe", "number"), CASES)
def test_a_step_is_asked_for_until_it_is_done(recipe: str, number: int, outcomes: list[Outcomes]):
    named = RECIPES[recipe][number]
    assert number > 0, "nothing can ask for the first step"
    before, after = outcomes[number - 1], outcomes[number]
    assert not all(before.get(name, False) for name in named)
    assert {name: after.get(name) for name in named} == dict.fromkeys(named, True)


def test_what_is_in_its_table_is_tested_by_itself(outcomes: list[Outcomes], house: Path):
    assert outcomes
    found = run_tests(
        house, AT_THE_END, "-k", " or ".join(f"({one})" for one in AT_THE_END.values())
    )
    assert len(found) > 20
    assert all(found.values()), [name for name, passed in found.items() if not passed]


def test_every_recipe_of_the_page_is_followed():
    assert RECIPES.keys() == STEPS.keys()
    assert all(len(RECIPES[name]) >= len(steps) for name, steps in STEPS.items())
