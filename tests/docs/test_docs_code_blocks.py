"""Every block of commands or of Python in the docs and in the README runs, in the order of its page.

The rule that makes it a matter of seconds, told on docs/site.md:

- ``--minutes N`` becomes ``--steps 8``, ``minutes=N`` becomes ``steps=8``, a budget that is not
  named is 8 steps;
- of scenes, 4 of 128 px are drawn;
- commands that train take batches of 2 patches of 64 px, and Self2Self 2 predictions;
- a network's grid is measured on one patch;
- the demo trains for 3 seconds, once for all pages, and leaves a corner of each of its images;
- a folder that a command is to write is removed first, where an earlier block of the page left one;
- ``pip install`` and ``pytest`` are left out: they made the place in which this runs.

A block that cannot run here carries a comment with the reason, ``<!-- not run: ... -->``; there
may be only a few.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import tifffile

from pairfree.cli.main import main
from pairfree.methods import DEFAULT_NOISY_ONLY, DEFAULT_UNPAIRED, PRESETS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        ROOT / "README.md",
        *DOCS.glob("*.md"),
        *DOCS.glob("methods/*.md"),
        *DOCS.glob("reference/*.md"),
    ]
)
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<kind>python|bash|console)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
LEFT_OUT = ("pip install ", "pytest")
MOST_NOT_RUN = 5
STEPS, DEMO_MINUTES = "8", "0.05"
SCENES = "scenes:4:size=128"
SMALL = {"batch_size": 2, "predictions": 2, "patch_px": 64}
"""Settings that make a step cheap, for methods that have them."""
CORNER_PX = 128
DEMO = "pairfree-demo"
KEEPS_OUT = {"--resume", "--dry-run", "--skip-done", "--overwrite"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    kind: str
    """python, bash or console"""
    text: str
    """What is between the fences."""
    reason: str
    """Why it is not run, or nothing."""


def read_blocks(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    return [Block(one["kind"], one["text"], one["reason"] or "") for one in FENCE.finditer(page)]


def read_commands(block: Block) -> list[list[str]]:
    """Words of each command of a block in a shell: comments and prompts removed, broken lines joined."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    lines = joined.splitlines()
    if block.kind == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    found = [shlex.split(line, comments=True) for line in lines if not line.startswith(LEFT_OUT)]
    return [words for words in found if words]


def shorten(words: list[str]) -> list[str]:
    """A command of pairfree with a budget of a few cheap steps."""
    verb = words[1] if len(words) > 1 else ""
    short = [re.sub(r"^scenes:\d+$", SCENES, word) for word in words]
    if verb == "demo":
        return [*short, "--minutes", DEMO_MINUTES]
    if "--minutes" in short:
        place = short.index("--minutes")
        short[place : place + 2] = ["--steps", STEPS]
    elif verb == "train" and not {"--steps", "--resume"} & set(short):
        short += ["--steps", STEPS]
    if verb == "train" and "--resume" not in short:
        short += small_settings(short)
    return short


def small_settings(words: list[str]) -> list[str]:
    """``--set`` for those of SMALL that the method has and the command does not name."""
    default = DEFAULT_UNPAIRED if "--clean" in words else DEFAULT_NOISY_ONLY
    key = words[words.index("--method") + 1] if "--method" in words else default
    named = {word.partition("=")[0] for word in words}
    found = []
    for name, value in SMALL.items():
        if name not in named and hasattr(PRESETS[key]["cpu"], name):
            found += ["--set", f"{name}={value}"]
    return found


def folders_written(words: list[str]) -> list[str]:
    """Folders that a command makes, and would not touch if they were there."""
    if KEEPS_OUT & set(words):
        return []
    default = [DEMO] if words[1] == "demo" else []
    named = [
        words[place + 1]
        for place, word in enumerate(words[:-1])
        if word in ("--out", "--disagreement")
    ]
    return named or default


def run_command(words: list[str], made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command of pairfree in this process; other programs have no place in the docs without a reason."""
    assert words[0] == "pairfree", (
        f"{words}: only pairfree runs here; mark the block as not run, with the reason"
    )
    for name in folders_written(words):
        shutil.rmtree(name, ignore_errors=True)
    if words[1:] == ["demo"] and (made / DEMO).is_dir():
        shutil.copytree(made / DEMO, DEMO)
        return
    monkeypatch.setattr(sys, "argv", shorten(words))
    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    assert not code, f"{shlex.join(words)}: exit code {code}"
    if words[1:] == ["demo"]:
        keep_demo(made)


def keep_demo(made: Path) -> None:
    """What the demo wrote, for the next page that calls it; of its images a corner."""
    for folder in ("noisy", "denoised"):
        for path in Path(DEMO, folder).glob("*.tif"):
            tifffile.imwrite(path, tifffile.imread(path)[:CORNER_PX, :CORNER_PX])
    shutil.copytree(DEMO, made / DEMO)


def run_python(text: str, names: dict[str, object]) -> None:
    """A block of Python, in the namespace of its page."""
    for name in re.findall(r'\bout="([\w-]+)"', text):
        shutil.rmtree(name, ignore_errors=True)
    exec(compile(re.sub(r"\bminutes=[\d.]+", f"steps={STEPS}", text), "block", "exec"), names)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if read_blocks(page.read_text(encoding="utf-8"))],
    ids=lambda page: page.stem,
)
def test_every_block_of_a_page_runs(page, sample, folder, monkeypatch):
    names: dict[str, object] = {"__name__": "page"}
    for block in read_blocks(page.read_text(encoding="utf-8")):
        if block.reason:
            continue
        if block.kind == "python":
            run_python(block.text, names)
            continue
        for words in read_commands(block):
            run_command(words, sample.parent, monkeypatch)


def test_few_blocks_are_not_run_and_each_says_why():
    reasons = [
        f"{page.name}: {block.reason}"
        for page in PAGES
        for block in read_blocks(page.read_text(encoding="utf-8"))
        if block.reason
    ]
    assert len(reasons) <= MOST_NOT_RUN, reasons


def test_extras_that_pages_install_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for page in PAGES:
        for extra in re.findall(r"'\.\[([\w,-]+)\]'", page.read_text(encoding="utf-8")):
            assert set(extra.split(",")) <= project["optional-dependencies"].keys(), (
                page.name,
                extra,
            )


def test_blocks_are_found_with_their_reasons():
    page = (
        "a\n\n```bash\npairfree info run\n```\n\n"
        "<!-- not run: no GPU -->\n```python\nx = 1\n```\n\n"
        "```text\nno\n```\n"
    )
    assert read_blocks(page) == [
        Block("bash", "pairfree info run\n", ""),
        Block("python", "x = 1\n", "no GPU"),
    ]


def test_commands_are_read_as_a_shell_reads_them():
    block = Block(
        "bash",
        "pip install .\npairfree train a \\\n  --out 'b c'  # comment\n\n# only a comment\n",
        "",
    )
    assert read_commands(block) == [["pairfree", "train", "a", "--out", "b c"]]
    assert read_commands(Block("console", "$ pairfree info run\nmethod: iddp\n", "")) == [
        ["pairfree", "info", "run"]
    ]


def test_budgets_become_a_few_steps():
    small = "--set batch_size=2 --set patch_px=64"
    for given, short in {
        "pairfree train a --minutes 10 --out b": f"pairfree train a --steps 8 --out b {small}",
        "pairfree train a --out b": f"pairfree train a --out b --steps 8 {small}",
        "pairfree train a --set batch_size=8": (
            "pairfree train a --set batch_size=8 --steps 8 --set patch_px=64"
        ),
        "pairfree train --resume --out b": "pairfree train --resume --out b",
        "pairfree denoise run a --out b": "pairfree denoise run a --out b",
        "pairfree simulate scenes:20 --out b": "pairfree simulate scenes:4:size=128 --out b",
    }.items():
        assert shorten(shlex.split(given)) == shlex.split(short)
