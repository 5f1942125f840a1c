"""Results that are written part by part: what a killed process left is gone on with, and nothing else."""

from __future__ import annotations

import itertools
import json
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
