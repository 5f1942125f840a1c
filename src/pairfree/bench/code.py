"""Which code makes the numbers of a benchmark: what is half done is gone on with by the same code only."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
MATTERS = (
    *("data", "engine", "measure", "methods", "nets", "noise", "training"),
    *("api.py", "config.py", "sampling.py", "assets/start"),
    *("bench/baselines.py", "bench/cell.py", "bench/scores.py", "bench/training.py"),
    "evidence/metrics.py",
)
"""Rooms and files that a trained network and its scores come from. Reading files is not among them: the
pixels that were read are part of a cell's key."""
ONLY_WORDS = ("training/report.py", "training/denoised_report.py", "training/settings.py")
"""Files of those rooms that only tell of what was done."""


@cache
def digest_code() -> str:
    """Digest of the source that numbers come from; words for readers, comments and layout do not count.

    Python itself reads it, so that another version of Python may give another digest.
    """
    digest = hashlib.sha256()
    for path in _files():
        digest.update(f"{path.relative_to(SOURCE).as_posix()}\n".encode())
        if path.suffix == ".py":
            digest.update(outline(path.read_text(encoding="utf-8")).encode())
        else:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _files() -> Iterator[Path]:
    left_out = {SOURCE / name for name in ONLY_WORDS}
    for name in MATTERS:
        place = SOURCE / name
        found = [*place.rglob("*.py"), *place.rglob("*.json")] if place.is_dir() else [place]
        yield from sorted(set(found) - left_out)


def outline(source: str) -> str:
    """What Python makes of a source, without its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    """Whether this is a text that stands alone: a docstring, or the words beneath a field."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str)
