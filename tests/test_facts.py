"""The one reader of what is read back: bounds of size, depth and type, each refusal a phrase of one line."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pairfree import facts
from pairfree.facts import NUMBER, TEXT, WHOLE, Unreadable, check, list_of, or_none, table_of


def refused(read, *given) -> str:
    start = time.process_time()
    with pytest.raises(Unreadable) as caught:
        read(*given)
    assert time.process_time() - start < 5.0
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is no JSON"),
        (b"\xff{}", "is no JSON"),
        (b'{"a": 1', "is no JSON"),
        (b"[" * 500_000, "too deep"),
        (b"[" * 17 + b"]" * 17, "16 deep"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "16 deep"),
        (b"9" * 5000, "is no JSON"),
    ],
)
def test_what_is_no_json_or_too_deep_is_refused(data, words):
    assert words in refused(facts.parse_json, data)


def test_json_comes_back(tmp_path: Path):
    tree = {"a": [1, 2.5, None, True, "ü"], "b": json.loads("[" * 15 + "]" * 15)}
    (tmp_path / "a.json").write_text(json.dumps(tree), encoding="utf-8")
    assert facts.read_json(tmp_path / "a.json") == tree


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [
        (0, WHOLE, True),
        (True, WHOLE, False),
        (-1, WHOLE, False),
        (2**63, WHOLE, False),
        (1.0, WHOLE, False),
        (1.5, NUMBER, True),
        (10**400, NUMBER, False),
        (float("nan"), NUMBER, False),
        (float("inf"), NUMBER, False),
        ("", TEXT, True),
        (None, TEXT, False),
        (None, or_none(TEXT), True),
        (["a"], list_of(TEXT), True),
        (["a", 1], list_of(TEXT), False),
        ("ab", list_of(TEXT), False),
        ({"a": 1}, table_of(NUMBER), True),
        ({"a": "1"}, table_of(NUMBER), False),
        ([], table_of(NUMBER), False),
        ({"a": 10**400}, table_of(facts.VALUE), False),
        ({"a": float("nan"), "b": None, "c": True, "d": "x"}, table_of(facts.VALUE), True),
        ({"a": []}, table_of(facts.VALUE), False),
    ],
)
def test_kinds(value, kind, fits):
    assert kind.fits(value) is fits


def test_the_first_wrong_field_is_named():
    assert check({"a": 1, "more": []}, {"a": WHOLE}, {"b": TEXT}) == {"a": 1, "more": []}
    assert "is [], expected a table" in refused(check, [], {"a": WHOLE})
    assert "'a' is missing, expected a whole number" in refused(check, {}, {"a": WHOLE})
    assert "'b' is 5, expected text" in refused(check, {"a": 1, "b": 5}, {"a": WHOLE}, {"b": TEXT})
    assert "\\n" in refused(check, {"a": "x\n" * 9000}, {"a": WHOLE})


def test_larger_files_are_not_read(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 101)
    assert facts.read_bytes(path, 101) == b"x" * 101
    assert "has more than" in refused(facts.read_bytes, path, 100)
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no space
    assert "has more than 4 MiB" in refused(facts.read_json, path)
    assert "has more than 8 MiB" in refused(facts.read_toml, path)
    assert "a line of more than 1 MiB" in refused(lambda: list(facts.read_lines(path)))


def test_lines_come_one_by_one(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"1\n\n22\n3")
    assert list(facts.read_lines(tmp_path / "a")) == [b"1\n", b"\n", b"22\n", b"3"]


@pytest.mark.parametrize(
    "read", [facts.read_json, facts.read_toml, lambda p: list(facts.read_lines(p))]
)
def test_what_is_no_file(read, tmp_path: Path):
    refused(read, tmp_path)
    refused(read, tmp_path / "a\0b")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


@pytest.mark.posix
def test_nothing_waits_for_a_pipe(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(facts.read_json, tmp_path / "pipe") == "is a pipe and no file"


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 200_000) + " = 1",
        "[" + ".".join(["a"] * 200_000) + "]\nx = 1",
        "x = {" + ".".join(["a"] * 200_000) + " = 1}",
        '"".' * 200_000 + '"" = 1',
        "x = 0x" + "f" * 500_000,
        "x = " + "[" * 100_000,
        "x = " + "{a = " * 15_000,
        "[a]\n" * 30_000,
        "".join(f"k{number} = 1\n" for number in range(30_000)),
        "x = [" + "1," * 300_000 + "]",
        "#\n" * 300_000,
        "x = " + "9" * 900_000,
        "x = 0000-00-00",
        "x = " + "[" * 20 + "]" * 20,
        '"' * 100_000,
    ],
    ids=range(15),
)
def test_toml_that_takes_minutes_or_gigabytes_is_refused(text, tmp_path: Path):
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    refused(facts.read_toml, tmp_path / "a.toml")


def test_toml_of_many_paths_comes_back(tmp_path: Path):
    """Names with dots as DICOM has them, equals signs, backslashes and brackets are no keys."""
    uid = "1.2.840.113619.2.55.3.604688119.868.1234567890.12.7"
    paths = [rf"D:\data\sigma=25\img[0]\{uid}.{number}.dcm" for number in range(2000)]
    listed = ", ".join(json.dumps(path) for path in paths)
    (tmp_path / "a.toml").write_text(f"noisy = [{listed}]\n\n[settings]\nlr = 1e-3\n")
    assert facts.read_toml(tmp_path / "a.toml") == {"noisy": paths, "settings": {"lr": 1e-3}}
