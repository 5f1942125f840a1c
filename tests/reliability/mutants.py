"""Damaged copies of files that pairfree wrote and reads back: of their bytes, their words and their kind."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

VALUES = [
    *(None, True, False, -1, 0, 1, 2.5, 10**400, 2**63, -(2**70), 1e308, -1e308),
    *(float("nan"), float("inf"), "", "x", "y" * 5000, "\0", "\ud800", "\x1b[2J\u202e\n", "1e999"),
    *("../../outside", "/", ".", "~", "n2v", [], {}, [[]], [1, "a", None], {"a": {"b": []}}),
    *({"": 0}, [None] * 300, json.loads("[" * 90 + "]" * 90)),
]
"""What stands in place of one of a file's values."""
TOML_VALUES = [
    *("nan", "inf", "-1", "0", "true", "1e400", "1979-05-27", '""', '"x"', r'"\u0000"', "[]"),
    *("[[[]]]", "{a = 1}", "[1, 'a']", "{}", "9" * 400, "9" * 5000, "0x7fffffffffffffffffff"),
    *('"../../outside"', "'''\na\nb'''", "[" * 400 + "]" * 400, '"' + "y" * 5000 + '"', "1 2", "'"),
    *(r'"\u001b[2J\u202e"', "07:32:00", "[''," * 40, "1.5", "2", '"n2c"', '["noisy", "noisy"]'),
]
BYTES = [
    *(
        b"",
        b"\n",
        b"\0",
        b"\0" * 100_000,
        b"null",
        b"{}",
        b"[]",
        b'"a"',
        b"\xff\xfe\xff",
        b"{" * 10,
    ),
    *(b"[" * 200_000, b'{"a":' * 100_000, b"\n" * 50_000, b"{}\n" * 20_000, b"9" * 100_000),
    *(b'{"step": 1}\n' * 20_000, b"a" * 1_000_000, b"a." * 100_000 + b"a = 1", b"[a]\n" * 1000),
    *(b"a = {" * 10_000, "\ufeff{}".encode(), "\ufeffa = 1".encode("utf-16"), b"-", b"nan"),
]
"""Whole files."""


def _places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value lies within a tree of JSON."""
    found = [at]
    names = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for name in names:
        found += _places(tree[name], (*at, name))
    return found


def _change_json(text: str, rng: np.random.Generator) -> str:
    """One value is another, or a field is gone or has another name."""
    tree = json.loads(text)
    places = _places(tree)
    *way, last = places[rng.integers(1, len(places))]
    inside = tree
    for name in way:
        inside = inside[name]
    choice = rng.random()
    if choice < 0.15:
        del inside[last]
    elif choice < 0.25 and isinstance(inside, dict):
        inside[f"{last}s"] = inside.pop(last)
    else:
        inside[last] = VALUES[rng.integers(len(VALUES))]
    return json.dumps(tree)


def _change_words(data: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """The file with other values in its own grammar."""
    if suffix == ".json":
        return _change_json(data.decode(), rng).encode()
    lines = data.decode().splitlines()
    at = int(rng.integers(len(lines)))
    if suffix == ".jsonl":
        choice = rng.random()
        if choice < 0.1:
            lines.insert(at, lines[rng.integers(len(lines))])
        elif choice < 0.2:
            del lines[at]
        elif choice < 0.3:
            lines[at] = json.dumps(VALUES[rng.integers(len(VALUES))])
        else:
            lines[at] = _change_json(lines[at], rng)
    else:
        name, equals, _ = lines[at].partition(" = ")
        value = TOML_VALUES[rng.integers(len(TOML_VALUES))]
        lines[at] = f"{name} = {value}" if equals and rng.random() < 0.85 else value
    return ("\n".join(lines) + "\n").encode()


def _change_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """1 to 8 bytes are others, or the end is missing."""
    if rng.random() < 0.3:
        return data[: rng.integers(len(data))]
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        changed[rng.integers(len(changed))] = rng.integers(256)
    return bytes(changed)


def put_mutant(path: Path, data: bytes, rng: np.random.Generator) -> None:
    """Write a mutant of a file that held ``data``, or something else than a file in its place."""
    remove(path)
    choice = rng.random()
    if choice < 0.04:
        path.mkdir()
        (path / "x").write_bytes(data)
    elif choice < 0.06 and sys.platform != "win32":
        os.mkfifo(path)
    elif choice < 0.08 and sys.platform != "win32":
        path.symlink_to(outside(path))
    elif choice < 0.20:
        path.write_bytes(BYTES[rng.integers(len(BYTES))])
    elif choice < 0.70 and path.suffix in (".json", ".jsonl", ".toml"):
        path.write_bytes(_change_words(data, path.suffix, rng))
    else:
        path.write_bytes(_change_bytes(data, rng))


def outside(path: Path) -> Path:
    """A file that nobody may touch."""
    victim = path.parent.parent / "outside.txt"
    victim.write_text("keep me\n", encoding="utf-8")
    return victim


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
"""Of Linux; elsewhere memory is not looked at."""


def peak() -> int:
    """Most memory that this process has held since it was cleared, bytes."""
    found = re.search(r"VmHWM:\s+(\d+)", STATUS.read_text()) if STATUS.exists() else None
    return 1024 * int(found[1]) if found else 0


def try_mutants(
    path: Path,
    use: Callable[[], str],
    put_back: Callable[[], None],
    count: int,
    seconds: float,
) -> dict[str, float]:
    """Have mutants of a file used, set aside or refused.

    Parameters
    ----------
    path
        Of the file, whole.
    use
        Does what reads it, and returns what was refused; any exception but a refusal fails.
    put_back
        Makes everything but the file as it was.
    count
        Of mutants.
    seconds
        That each may take.

    Returns
    -------
    dict
        Numbers for the record.
    """
    data = path.read_bytes()
    rng = np.random.default_rng(list(path.name.encode()))
    slowest, refused, grown = 0.0, 0, 0
    for _ in range(count):
        put_back()
        put_mutant(path, data, rng)
        size = path.lstat().st_size
        if CLEAR.exists():
            CLEAR.write_text("5")
        before, start = peak(), time.process_time()
        message = use()
        slowest = max(slowest, time.process_time() - start)
        grown = max(grown, peak() - before - size)
        refused += bool(message)
        assert "\n" not in message.strip()
        victim = path.parent.parent / "outside.txt"
        assert not victim.exists() or victim.read_text(encoding="utf-8") == "keep me\n"
    assert slowest < seconds
    assert grown < 200e6
    return {
        "mutants": count,
        "failures": 0,
        "refused": refused,
        "slowest s": round(slowest, 3),
        "grown MB": round(grown / 1e6),
    }
