"""The library names options as Python does, in backticks; the command line, and it alone, speaks of flags."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pairfree.cli.main  # noqa: F401  declares the verbs, whose options FLAGS then knows
from pairfree.cli.options import FLAGS, spell_flags

SRC = Path(__file__).resolve().parents[2] / "src" / "pairfree"
LIBRARY = [path for path in sorted(SRC.rglob("*.py")) if path.relative_to(SRC).parts[0] != "cli"]
COMMANDS = re.compile(r"(pairfree (evaluate|bench)|gdcmconv|torchrun) .*", re.DOTALL)
"""Command lines that a sentence tells to the reader: those are typed, not said to a function."""


def name_of(path: Path) -> str:
    return str(path.relative_to(SRC))


def texts(tree: ast.AST) -> Iterator[str]:
    """All strings of a module but docstrings, declared flags and words of command lines in lists."""
    left_out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) or (isinstance(node, ast.keyword) and node.arg == "flag"):
            left_out.add(node.value)
        elif isinstance(node, ast.List | ast.Call):
            words = node.elts if isinstance(node, ast.List) else node.args
            left_out |= {word for word in words if is_word_of_command(word)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in left_out:
            yield node.value


def is_word_of_command(node: ast.AST) -> bool:
    """Whether a string is one word that begins with dashes, such as ``"--short=12"``."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    return re.fullmatch(r"--[a-z-]*(=\S*)?", node.value) is not None


def flags_in(text: str) -> list[str]:
    return re.findall(r"(?<![\w-])--[a-z][a-z-]*", COMMANDS.sub("", text))


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_messages_of_the_library_name_no_flags(path):
    found = [text for text in texts(ast.parse(path.read_text())) if flags_in(text)]
    assert found == [], "name the option as Python does, in backticks: `max_bytes`"


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_options_that_messages_name_have_a_flag(path):
    named = {
        name
        for text in texts(ast.parse(path.read_text()))
        for name in re.findall("`([a-z_]+)`", text)
    }
    assert named <= FLAGS.keys()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("raise ConfigError('give --steps above 0')", ["--steps"]),
        ("raise ConfigError(f'{path}: pass --overwrite')", ["--overwrite"]),
        ("problems.append('leave (--slices-around) out')", ["--slices-around"]),
        ("'''Docstring of --steps'''", []),
        ("steps = option(1, int, flag='--steps')", []),
        ("git('diff', '--short=12', '--')", []),
        ("raise InputError('decompress it with gdcmconv --raw')", []),
    ],
)
def test_the_check_sees_flags(source, found):
    assert [flag for text in texts(ast.parse(source)) for flag in flags_in(text)] == found


@pytest.mark.parametrize(
    ("said", "typed"),
    [
        ("raise `max_bytes`", "raise --max-memory"),
        ("a lower rate (`settings` lr=...)", "a lower rate (--set lr=...)"),
        (
            "`overwrite` and `skip_done` exclude each other",
            "--overwrite and --skip-done exclude each other",
        ),
        (
            "leave `slices_around` out, or use `nan` mask",
            "leave --slices-around out, or use --nan mask",
        ),
        ("name another folder with `out`", "name another folder with --out"),
        ("`something_else` stays", "`something_else` stays"),
    ],
)
def test_the_command_line_spells_flags(said, typed):
    assert spell_flags(said) == typed


def test_sizes_that_cannot_be_read_are_named_as_they_were_typed(pairfree, tmp_path):
    code, _, err = pairfree("denoise", tmp_path, tmp_path, "--out", tmp_path, "--max-memory", "abc")
    assert code == 2
    assert "--max-memory 'abc': expected a size such as 2GB or 500MiB" in err


def test_log_files_spell_flags_too(pairfree, tmp_path):
    log = tmp_path / "log.txt"
    pairfree("info", tmp_path / "none", "--log-file", log)
    logging.getLogger("pairfree").warning("more than `max_bytes`")
    assert log.read_text().rstrip().endswith("WARNING more than --max-memory")
