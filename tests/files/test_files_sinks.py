"""Results that are written part by part: what a killed process left is gone on with, and nothing else."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairfree.errors import BusyError, OutputError
from pairfree.files.image import Image
from pairfree.files.journal import unfinished
from pairfree.files.opening import open_image, save_image
from pairfree.files.sinks import JournalSink, MemorySink, open_sink

PARTS = [
    (slice(top, min(top + 16, 37)), slice(left, min(left + 20, 51)))
    for top in range(0, 37, 16)
    for left in range(0, 51, 20)
]
WHAT = {"model": "a"}


def image(axes: str = "ZYX", family: str = "tiff") -> Image:
    shape = (2, 37, 51) + ((3,) if axes.endswith("S") else ())
    return Image(
        np.random.default_rng(0).integers(0, 2**16, shape).astype(np.uint16), axes, family=family
    )


def fill(sink: Any, like: Image, parts: Any) -> None:
    for index, (rows, columns) in parts:
        sink.write(index, like.region(index, rows, columns), rows, columns, clipped=1)


def parts_of(like: Image) -> list[Any]:
    return list(itertools.product(like.planes(), PARTS))


@pytest.mark.parametrize(
    ("axes", "name"), [("ZYX", "o.tif"), ("ZYXS", "o.tif"), ("ZYX", "o.npy"), ("ZYX", "o.mrc")]
)
@pytest.mark.parametrize("journal", [False, True])
def test_parts_make_the_whole(tmp_path: Path, axes: str, name: str, journal: bool) -> None:
    like = image(axes, {"tif": "tiff"}.get(name[2:], name[2:]))
    kind: Any = (
        JournalSink(like, tmp_path / name, False, WHAT)
        if journal
        else MemorySink(like, tmp_path / name, False)
    )
    with kind as sink:
        fill(sink, like, parts_of(like)[::-1])
        assert not (tmp_path / name).exists()
        sink.commit()
        assert sink.clipped == len(parts_of(like))
    np.testing.assert_array_equal(open_image(tmp_path / name).pixels, like.pixels)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_any_region_is_put_together_from_its_parts(tmp_path: Path) -> None:
    """Also one that has a single row or column of a part."""
    like = image()
    with JournalSink(like, tmp_path / "o.tif", False, WHAT) as sink:
        fill(sink, like, parts_of(like))
        whole = sink._journal.whole()
        for index, (top, bottom), columns in itertools.product(
            like.planes(), itertools.combinations(range(38), 2), (slice(0, 51), slice(19, 21))
        ):
            rows = slice(top, bottom)
            np.testing.assert_array_equal(
                whole.region(index, rows, columns), like.region(index, rows, columns)
            )


@pytest.mark.parametrize("cut", [0, 1, 4, 17])
@pytest.mark.parametrize("damage", ["none", "half a line", "half a part", "a flipped bit"])
def test_a_killed_process_is_gone_on_with(tmp_path: Path, cut: int, damage: str) -> None:
    like, path = image(), tmp_path / "o.tif"
    first = JournalSink(like, path, False, WHAT)
    fill(first, like, parts_of(like)[:cut])
    first._journal._lock.release()  # the system does it for a process that dies
    blocks, journal = unfinished(path) / "blocks", unfinished(path) / "journal.jsonl"
    if damage == "half a line":
        journal.write_bytes(journal.read_bytes()[:-7])
    elif damage == "half a part":
        blocks.write_bytes(blocks.read_bytes()[:-3])
    elif damage == "a flipped bit" and cut:
        data = bytearray(blocks.read_bytes())
        data[-1] ^= 4
        blocks.write_bytes(bytes(data))
    with JournalSink(like, path, False, WHAT) as sink:
        done = [part for part in parts_of(like) if sink.finished(part[0], *part[1])]
        assert len(done) == (cut if damage == "none" else max(0, cut - 1))
        assert sink.clipped == len(done)
        fill(sink, like, [part for part in parts_of(like) if part not in done])
        sink.commit()
    np.testing.assert_array_equal(open_image(path).pixels, like.pixels)
    assert [one.name for one in tmp_path.iterdir()] == ["o.tif"]


def test_what_belongs_to_something_else_is_dropped(tmp_path: Path) -> None:
    like, path = image(), tmp_path / "o.tif"
    with JournalSink(like, path, False, WHAT) as first:
        fill(first, like, parts_of(like)[:5])
    assert unfinished(path).is_dir()
    with JournalSink(like, path, False, {"model": "b"}) as second:
        assert not any(second.finished(index, *part) for index, part in parts_of(like))
    assert list(tmp_path.iterdir()) == []  # and a sink without a finished part leaves nothing


def test_a_forgotten_plane_is_written_anew_and_stays_forgotten(tmp_path: Path) -> None:
    like, path = image(), tmp_path / "o.tif"
    with JournalSink(like, path, False, WHAT) as first:
        fill(first, like, parts_of(like)[:-1])
        first.forget((0,))
        assert first.clipped == len(PARTS) - 1
    with JournalSink(like, path, False, WHAT) as second:
        assert [second.finished(index, *part) for index, part in parts_of(like)] == [False] * 9 + [
            True
        ] * 8 + [False]
        with pytest.raises(OutputError, match="0 of 2 planes"):
            second.commit()


def test_two_processes_do_not_write_one_result(tmp_path: Path) -> None:
    like = image()
    with JournalSink(like, tmp_path / "o.tif", False, WHAT) as first:
        fill(first, like, parts_of(like)[:1])
        with pytest.raises(BusyError, match=r"o\.tif: in use by process \d+"):
            JournalSink(like, tmp_path / "o.tif", False, WHAT)


def test_large_results_and_those_begun_so_are_journalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = image()
    assert isinstance(open_sink(like, tmp_path / "o.tif", of_what=WHAT), MemorySink)
    monkeypatch.setattr("pairfree.files.sinks.JOURNALED_PX", 1000)
    with open_sink(like, tmp_path / "o.tif", of_what=WHAT) as sink:
        assert isinstance(sink, JournalSink)
        fill(sink, like, parts_of(like)[:1])
    monkeypatch.undo()
    assert isinstance(open_sink(like, tmp_path / "o.tif", of_what=WHAT), JournalSink)
    assert isinstance(open_sink(like, tmp_path / "p.tif"), MemorySink)


def test_the_space_for_parts_and_result_is_asked_for_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = image()
    monkeypatch.setattr("pairfree.files.atomic.free_bytes", lambda folder: int(1.5 * like.nbytes))
    with pytest.raises(OutputError, match="not enough space"):
        JournalSink(like, tmp_path / "o.tif", False, WHAT)
    assert list(tmp_path.iterdir()) == []


def test_the_journal_of_an_image_that_stays_in_its_file(tmp_path: Path) -> None:
    like = image()
    save_image(like, tmp_path / "in.tif")
    from dataclasses import replace

    from pairfree.files.limits import DEFAULT

    stays = open_image(tmp_path / "in.tif", replace(DEFAULT, resident_bytes=100))
    with open_sink(stays, tmp_path / "o.tif", of_what=WHAT) as sink:
        assert isinstance(sink, JournalSink)
        fill(sink, stays, parts_of(stays))
        head = json.loads(
            (unfinished(tmp_path / "o.tif") / "journal.jsonl").read_text().splitlines()[0]
        )
        assert head["model"] == "a"
        sink.commit()
    np.testing.assert_array_equal(open_image(tmp_path / "o.tif").pixels, like.pixels)


def kill(sink: JournalSink) -> None:
    """What a killed process leaves: its files, without a hold on them."""
    for file in (sink._journal._blocks, sink._journal._lines):
        file.close()
    sink._journal._lock.release()


@pytest.mark.parametrize("damage", ["half a line", "half a part", "a part without a line"])
def test_what_is_cut_off_is_not_in_the_way_of_a_third_process(tmp_path: Path, damage: str) -> None:
    """A second process goes on behind the last whole part, so that a third one finds all of both."""
    like, path = image(), tmp_path / "o.tif"
    first = JournalSink(like, path, False, WHAT)
    fill(first, like, parts_of(like)[:4])
    kill(first)
    blocks, journal = unfinished(path) / "blocks", unfinished(path) / "journal.jsonl"
    if damage == "half a line":
        journal.write_bytes(journal.read_bytes()[:-7])
    elif damage == "half a part":
        blocks.write_bytes(blocks.read_bytes()[:-3])
    else:
        blocks.write_bytes(blocks.read_bytes() + b"abc")
    second = JournalSink(like, path, False, WHAT)
    kept = 4 if damage == "a part without a line" else 3
    fill(second, like, parts_of(like)[kept:9])
    kill(second)
    with JournalSink(like, path, False, WHAT) as third:
        done = [part for part in parts_of(like) if third.finished(part[0], *part[1])]
        assert done == parts_of(like)[:9]
        fill(third, like, parts_of(like)[9:])
        third.commit()
    np.testing.assert_array_equal(open_image(path).pixels, like.pixels)


@pytest.mark.parametrize(
    "change",
    [
        {"top": -1},
        {"bottom": 10**6},
        {"left": 30, "right": 20},
        {"index": [5]},
        {"index": []},
        {"index": [0, 0]},
        {"clipped": 10**9},
        {"clipped": "1"},
        {"crc32": None},
        {"top": 0.0},
    ],
)
def test_a_line_that_is_no_part_of_the_output_is_done_anew(
    tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    like, path = image(), tmp_path / "o.tif"
    first = JournalSink(like, path, False, WHAT)
    fill(first, like, parts_of(like)[:3])
    kill(first)
    journal = unfinished(path) / "journal.jsonl"
    lines = journal.read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), **change})
    journal.write_text("\n".join(lines) + "\n")
    with JournalSink(like, path, False, WHAT) as sink:
        done = [part for part in parts_of(like) if sink.finished(part[0], *part[1])]
    assert done == parts_of(like)[:1]
    assert caplog.text.count("damaged behind part 1; the rest is done anew") == 1


@pytest.mark.parametrize("head", ["[1]\n", "{\n", "\0\n", "x" * 2**21 + "\n", "[" * 500 + "\n"])
def test_a_damaged_journal_is_set_aside_and_begun_anew(
    tmp_path: Path, head: str, caplog: pytest.LogCaptureFixture
) -> None:
    like, path = image(), tmp_path / "o.tif"
    first = JournalSink(like, path, False, WHAT)
    fill(first, like, parts_of(like)[:3])
    kill(first)
    journal = unfinished(path) / "journal.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text(head + "\n".join(lines[1:]) + "\n")
    with JournalSink(like, path, False, WHAT) as sink:
        assert sink._journal.blocks == []
        damaged = head != "[1]\n"  # that is a journal of something else
        assert journal.with_name("journal.jsonl.damaged").is_file() is damaged
        assert len(caplog.records) == damaged
        fill(sink, like, parts_of(like))
        sink.commit()
    np.testing.assert_array_equal(open_image(path).pixels, like.pixels)
    assert [one.name for one in tmp_path.iterdir()] == ["o.tif"]


@pytest.mark.posix
@pytest.mark.parametrize("name", ["blocks", "journal.jsonl", "lock", ""])
@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_what_is_no_file_of_ours_is_set_aside(tmp_path: Path, name: str, kind: str) -> None:
    """Nothing waits for a pipe, and nothing is written through a link."""
    like, path = image(), tmp_path / "out" / "o.tif"
    first = JournalSink(like, path, False, WHAT)
    fill(first, like, parts_of(like)[:3])
    kill(first)
    place = unfinished(path) / name
    victim = tmp_path / "victim"
    victim.write_text("keep me")
    place.rename(tmp_path / "away")
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "link":
        place.symlink_to(victim)
    else:
        place.mkdir()
    with JournalSink(like, path, False, WHAT) as sink:
        fill(sink, like, [p for p in parts_of(like) if not sink.finished(p[0], *p[1])])
        sink.commit()
    np.testing.assert_array_equal(open_image(path).pixels, like.pixels)
    assert victim.read_text() == "keep me"
