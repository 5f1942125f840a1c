"""The source keeps its shape: imports point one way, and nothing from a file is run.

Files and functions stay short, and departures are listed.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pairfree.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "pairfree"
FILES = sorted(SRC.rglob("*.py"))
MODULES = {
    ".".join(["pairfree", *path.relative_to(SRC).with_suffix("").parts]).removesuffix(".__init__")
    for path in FILES
}

OWN_PARTS = {"iscl": ["cooperation"]}
"""Files of methods/parts that hold a part of one method, with departures from its paper."""
MAX_FILE_LINES, MAX_FUNCTION_LINES = 420, 70
EVERYONE = {"plain", "errors", "regular", "facts", "config", "marks", "version", "sampling"}
NET_FACTS = {
    "nets.traits",
    "nets.receptive_field",
    "nets.batch_instance_norm",
    "nets.tensor_file",
}
"""For prediction: the receptive field, statistics of a whole image. For checkpoints: their file."""
ARROWS = {
    "plain": set(),
    "errors": {"plain"},
    "regular": set(),
    "facts": {"regular"},
    "config": {"plain", "errors", "facts", "marks"},
    "marks": set(),
    "version": set(),
    "sampling": set(),
    "files": EVERYONE,
    "data": EVERYONE | {"files", "measure"},
    "noise": EVERYONE | {"files", "scenes"},
    "scenes": EVERYONE,
    "measure": EVERYONE | {"files", "noise"},
    "nets": EVERYONE,
    "methods": EVERYONE | {"files", "data", "measure", "nets"},
    "engine": EVERYONE | {"files", "data", "methods.base", *NET_FACTS},
    "evidence": EVERYONE | {"files", "data", "measure"},
    "diagnosis": EVERYONE | {"files", "data", "noise", "measure", "evidence"},
    "examination": EVERYONE | {"files", "data", "noise", "measure", "evidence", "diagnosis"},
    "training": EVERYONE
    | {
        "files",
        "data",
        "measure",
        "nets",
        "methods",
        "engine",
        "evidence",
        "diagnosis",
        "examination",
    },
    "denoising": EVERYONE | {"files", "engine"},
    "inspection": EVERYONE | {"files", "nets", "methods", "engine", "training"},
    "api": EVERYONE
    | {
        "files",
        "data",
        "nets",
        "methods",
        "engine",
        "evidence",
        "examination",
        "training",
        "denoising",
    },
    "demo": EVERYONE | {"files", "engine", "training", "api"},
    # users of the public face
    "bench": EVERYONE
    | {"files", "data", "noise", "measure", "nets", "methods", "engine", "evidence", "api"},
}
TOP = {"pairfree", "__main__", "cli"}
WITHOUT_TORCH = ("files", "scenes", "noise", "measure", "evidence", "diagnosis", "examination")

RUNS_CODE = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "yaml",
    "code",
    "imp",
    "runpy",
}
RUNS_CODE_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "import_module",
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(SRC))


def room_of(module: str) -> str:
    """``pairfree.files.formats.pictures`` -> files; ``pairfree.api`` -> api; ``pairfree`` -> pairfree."""
    return [*module.split("."), "pairfree"][1]


def imported(tree: ast.AST, modules: set[str] = MODULES) -> set[str]:
    """Full names of all imported modules, in functions too.

    ``from pairfree.files import image`` counts as pairfree.files.image.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found |= {
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base
                for alias in node.names
            }
    return found


def wrong_arrows(room: str, tree: ast.AST) -> list[str]:
    """Imports of ``room`` against the direction of docs/design.md, and relative ones, which hide it."""
    wrong = [module for module in imported(tree) if module.startswith(".")]
    if room in TOP:
        return wrong
    for module in imported(tree):
        if module.split(".")[0] != "pairfree" or room_of(module) == room:
            continue
        inside = module.removeprefix("pairfree.")
        if not any(
            inside == allowed or inside.startswith(allowed + ".") for allowed in ARROWS[room]
        ):
            wrong.append(module)
    return wrong


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(tree: ast.AST) -> list[str]:
    """What could run code that came with a file."""
    found = [module for module in imported(tree) if module.split(".")[0] in RUNS_CODE]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("torch", "importlib"):
            found += [
                f"{node.module}.{alias.name}"
                for alias in node.names
                if alias.name in ("load", "import_module")
            ]
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            if called in RUNS_CODE_CALLS or called.rsplit(".", 1)[-1] in (
                "import_module",
                "__import__",
            ):
                found.append(called)
            found += [
                "allow_pickle"
                for k in node.keywords
                if k.arg == "allow_pickle" and getattr(k.value, "value", True) is not False
            ]
    return found


def departures(source: str) -> list[str]:
    """Texts of the comments that begin with "Departs from the paper:".

    Each comes with the comment lines that follow it.
    """
    found: list[str] = []
    inside = False
    for line in source.splitlines():
        comment = re.match(r"\s*#\s?(.*)", line)
        if comment and (start := re.match(r"\s*Departs from the paper:\s*(.*)", comment[1])):
            found.append(start[1])
            inside = True
        elif comment and inside:
            found[-1] += " " + comment[1]
        else:
            inside = False
    return [plain(text) for text in found]


def sources_of(key: str) -> list[Path]:
    """Where the departures of a method stand.

    That is its file, that of what its short preset adds, and parts that are its own.
    """
    name = key.replace("-", "_")
    paths = [SRC / "methods" / f"{name}.py", SRC / "methods" / f"{name}_short.py"]
    paths += [SRC / "methods" / "parts" / f"{part}.py" for part in OWN_PARTS.get(key, [])]
    return [path for path in paths if path.exists()]


def bullets(page: str, heading: str) -> list[str]:
    """Items of the list under a heading."""
    part = page.partition(heading + "\n")[2].partition("\n## ")[0]
    return [plain(item) for item in re.split(r"^- ", part, flags=re.MULTILINE)[1:]]


def plain(text: str) -> str:
    return " ".join(text.split())


def long_functions(tree: ast.AST) -> list[str]:
    functions = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return [f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > MAX_FUNCTION_LINES]


def test_every_room_is_known():
    rooms = {path.relative_to(SRC).parts[0].removesuffix(".py") for path in FILES} - {"__init__"}
    assert rooms <= ARROWS.keys() | TOP, (
        "a new room needs a place in the direction of imports (docs/design.md)"
    )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path):
    room = room_of("pairfree." + path.relative_to(SRC).parts[0].removesuffix(".py"))
    assert wrong_arrows(room.replace("__init__", "pairfree"), ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.relative_to(SRC).parts[0] in WITHOUT_TORCH], ids=name_of
)
def test_no_torch_where_none_is_needed(path):
    assert not {
        module
        for module in imported(ast.parse(path.read_text()))
        if module.split(".")[0] == "torch"
    }


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_that_came_with_a_file_is_run(path):
    """No pickle, torch.load, eval, exec, yaml or import by string.

    pairfree/__init__.py imports lazily, from its own literal table.
    """
    tree = ast.parse(path.read_text())
    found = dangers(tree)
    if path == SRC / "__init__.py":
        assert found == ["importlib.import_module"]
        table = next(
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and dotted(node.targets[0]) == "_HOMES"
        )
        assert set(ast.literal_eval(table).values()) <= MODULES
    else:
        assert found == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_short(path):
    source = path.read_text()
    assert len(source.splitlines()) <= MAX_FILE_LINES
    assert long_functions(ast.parse(source)) == []


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "methods").glob("*.md")), ids=lambda path: path.stem
)
def test_departures_from_the_paper_in_source_and_docs_are_the_same(page):
    found = [text for path in sources_of(page.stem) for text in departures(path.read_text())]
    assert sorted(found) == sorted(bullets(page.read_text(), "## Departures from the paper"))
    assert found


def test_every_method_has_a_docs_page():
    assert {path.stem for path in (ROOT / "docs" / "methods").glob("*.md")} == {
        method.key for method in METHODS.values()
    }


@pytest.mark.parametrize(
    ("room", "line", "wrong"),
    [
        ("files", "from pairfree.data import sets", ["pairfree.data.sets"]),
        ("data", "import pairfree.noise.ct", ["pairfree.noise.ct"]),
        ("noise", "from pairfree.data.seeding import generator", ["pairfree.data.seeding"]),
        ("nets", "from pairfree.methods.base import At", ["pairfree.methods.base"]),
        (
            "engine",
            "def f():\n    from pairfree.methods.iddp import IDDP",
            ["pairfree.methods.iddp"],
        ),
        ("engine", "from pairfree.methods import METHODS", ["pairfree.methods"]),
        ("engine", "from pairfree.methods.base import Method", []),
        ("evidence", "from pairfree.engine import tiles", ["pairfree.engine.tiles"]),
        (
            "methods",
            "from pairfree.methods import n2c\nfrom pairfree.measure.level import estimate_sigma",
            [],
        ),
        ("methods", "from pairfree import api", ["pairfree.api"]),
        ("config", "from pairfree.files.messages import shown", ["pairfree.files.messages"]),
        ("files", "from . import png", ["."]),
        (
            "files",
            "from pairfree.config import choose\nfrom pairfree.version import __version__",
            [],
        ),
        ("files", "from pairfree import __version__", ["pairfree"]),
        ("bench", "import pairfree", ["pairfree"]),
        ("cli", "from pairfree.bench import harness", []),
    ],
)
def test_the_arrow_check_sees_wrong_arrows(room, line, wrong):
    assert wrong_arrows(room, ast.parse(line)) == wrong


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "def f():\n    import yaml",
        "torch.load(p)",
        "from torch import load",
        "eval('1')",
        "exec(s)",
        "__import__(name)",
        "importlib.import_module(name)",
        "from importlib import import_module",
        "np.load(p, allow_pickle=True)",
        "np.load(p, allow_pickle=flag)",
    ],
)
def test_the_danger_check_sees_dangers(line):
    assert dangers(ast.parse(line))


@pytest.mark.parametrize(
    "line",
    [
        "net.eval()",
        "safetensors.torch.load_file(p)",
        "np.load(p, allow_pickle=False)",
        "re.compile('a')",
    ],
)
def test_the_danger_check_lets_harmless_calls_pass(line):
    assert dangers(ast.parse(line)) == []


def test_departures_are_read_over_several_lines():
    source = (
        "x = 1\n    # Departs from the paper: means\n    # instead of sums.\n    y = 2\n"
        "# not this\n# Departs from the paper: two\nz = 3\n"
    )
    assert departures(source) == ["means instead of sums.", "two"]


def test_long_functions_are_seen():
    assert long_functions(ast.parse("def f():\n" + "    x = 1\n" * 70)) == ["f"]
    assert long_functions(ast.parse("def f():\n" + "    x = 1\n" * 69)) == []
