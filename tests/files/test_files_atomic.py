"""Files appear whole or not at all, whatever system call fails (reliability rows R3, R4)."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairfree.errors import OutputError
from pairfree.files import Image, save_image
from pairfree.files.atomic import (
    atomic_folder,
    atomic_path,
    remove_stale,
    require_space,
    write_bytes,
    write_text,
)

CALLS = ("open", "write", "fsync", "close", "replace", "makedirs")


class FailingCalls:
    """Lets k calls of the ``os`` functions in CALLS pass, then fails the next with ``code``."""

    def __init__(self, patch: pytest.MonkeyPatch, k: int, code: int) -> None:
        self.left, self.code, self.failed = k, code, ""
        for name in CALLS:
            patch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == -1:
                self.failed = name
                if name == "close":
                    real(*args, **kwargs)  # a failing close still gives the descriptor back
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
def test_every_failing_call_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, code: int, existing: bool
) -> None:
    failed = []
    for k in range(40):
        folder = tmp_path / str(k)
        folder.mkdir()
        final = folder / "out.bin"
        if existing:
            final.write_bytes(b"old")
        with pytest.MonkeyPatch.context() as patch:
            calls = FailingCalls(patch, k, code)
            try:
                write_bytes(final, b"new" * 1000, overwrite=True)
                error = None
            except OutputError as caught:
                error = str(caught)
        if error is None:
            break
        failed.append(calls.failed)
        assert "\n" not in error
        assert "out.bin" in error
        assert "free" in error
        assert "3000 bytes" in error or "2.9 KiB (3000 bytes)" in error
        assert not [p for p in folder.iterdir() if "partial" in p.name]
        if existing or final.exists():
            assert final.read_bytes() in (b"old", b"new" * 1000)
    else:
        pytest.fail("never succeeded")
    assert {"open", "write", "fsync", "replace"} <= set(failed)
    assert final.read_bytes() == b"new" * 1000


def _write_half(final: Path, error: type[BaseException]) -> None:
    with atomic_path(final) as temporary:
        temporary.write_bytes(b"half")
        assert temporary.name.startswith(".")
        assert f".partial-{os.getpid()}" in temporary.name
        raise error


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="syncfs is a call of Linux")
@pytest.mark.parametrize("existing", [False, True])
def test_a_disk_that_fails_as_it_is_flushed_leaves_the_old_folder(
    tmp_path: Path, existing: bool, monkeypatch
) -> None:
    """A delayed write error shows in the flush; nothing must then bear the final name."""
    final = tmp_path / "out.zarr"
    if existing:
        final.mkdir()
        (final / "old").write_text("old")

    class Library:
        def syncfs(self, descriptor: int) -> int:
            os.fstat(descriptor)
            ctypes.set_errno(errno.EIO)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *words, **how: Library())

    def write() -> None:
        with atomic_folder(final, overwrite=True) as temporary:
            temporary.mkdir()
            (temporary / "new").write_text("new")

    with pytest.raises(OutputError, match=r"out\.zarr"):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == (["out.zarr", "old"] if existing else [])


def test_exceptions_and_interrupts_leave_nothing(tmp_path: Path) -> None:
    for error in (RuntimeError, KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            _write_half(tmp_path / "a", error)
    assert list(tmp_path.iterdir()) == []


def test_existing_files_and_folders_are_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "d").mkdir()
    for name in ("a", "d"):
        with pytest.raises(OutputError, match=r"exists|folder"):
            write_text(tmp_path / name, "new")
    with pytest.raises(OutputError, match="folder"):
        write_text(tmp_path / "d", "new", overwrite=True)
    write_text(tmp_path / "a", "neü", overwrite=True)
    assert (tmp_path / "a").read_text("utf-8") == "neü"
    write_text(tmp_path / "new" / "deep" / "b", "x")
    assert (tmp_path / "new" / "deep" / "b").read_text() == "x"


@pytest.mark.parametrize(
    "name",
    ["a" * 255, "ä" * 127, "a\nb", "-rf", "CON", "🔬.tif", "a\0b", "a" * 256, "x/" * 2100 + "y"],
)
def test_strange_names_work_or_are_refused(tmp_path: Path, name: str) -> None:
    message = ""
    try:
        write_bytes(tmp_path / name, b"x")
    except OutputError as error:
        message = str(error)
    assert message or (tmp_path / name).read_bytes() == b"x"
    assert "\n" not in message
    assert len(message) < 1000


def test_space_is_checked_up_front(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "there", 10)
    with pytest.raises(OutputError, match=r"needed .*\(1152921504606846976 bytes\), free"):
        require_space(tmp_path, 2**60)


def _write_under_a_limit(folder: str, queue: Any) -> None:
    import resource  # POSIX has it

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    messages = []
    pixels = np.random.default_rng(0).integers(0, 60000, (512, 512), dtype=np.uint16)
    for family, suffix in (("tiff", ".tif"), ("npy", ".npy"), ("png", ".png")):
        try:
            save_image(Image(pixels, "YX", family=family), Path(folder) / f"out{suffix}")
            messages.append("written")
        except OutputError as error:
            messages.append(str(error))
    queue.put(messages)


@pytest.mark.posix
def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_write_under_a_limit, args=(str(tmp_path), queue))
    child.start()
    messages = queue.get(timeout=60)
    child.join(10)
    assert child.exitcode == 0
    for message in messages:
        assert str(tmp_path) in message
        assert "524288 bytes" in message
        assert "free" in message
        assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def _die_while_writing(folder: str) -> None:
    with atomic_path(Path(folder) / "out.bin") as temporary:
        temporary.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.posix
def test_killed_writer_leaves_only_a_stale_file_that_the_next_start_removes(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(
        target=_die_while_writing, args=(str(tmp_path),)
    )
    child.start()
    child.join(10)
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    assert not (tmp_path / "out.bin").exists()
    with atomic_path(tmp_path / "live") as mine:
        mine.write_bytes(b"x")
        other_host = tmp_path / mine.name.replace(f"-{os.getpid()}-", "-999999999-x")
        other_host.write_bytes(b"x")
        assert remove_stale(tmp_path) == left
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["live", other_host.name])
    assert remove_stale(tmp_path / "missing") == []


class Flushes:
    """What is flushed to disk and what is renamed, in order: ("flush", inode), ("rename", name)."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, object]] = []
        fsync, replace = os.fsync, os.replace

        def note_flush(descriptor: int) -> None:
            self.seen.append(("flush", os.fstat(descriptor).st_ino))
            fsync(descriptor)

        def note_rename(source: Path, target: Path) -> None:
            self.seen.append(("rename", Path(target).name))
            replace(source, target)

        patch.setattr(os, "fsync", note_flush)
        patch.setattr(os, "replace", note_rename)


@pytest.mark.posix
def test_a_file_is_on_disk_before_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut there is the old file or the new one: its bytes first, then the folder's entry."""
    flushes = Flushes(monkeypatch)
    write_bytes(tmp_path / "a", b"new")
    file, folder = (tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino
    assert flushes.seen == [("flush", file), ("rename", "a"), ("flush", folder)]


@pytest.mark.posix
def test_the_name_of_a_folder_is_on_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushes = Flushes(monkeypatch)
    with atomic_folder(tmp_path / "a") as temporary:
        temporary.mkdir()
        (temporary / "b").write_bytes(b"new")
    assert flushes.seen[-2:] == [("rename", "a"), ("flush", tmp_path.stat().st_ino)]


def test_files_of_a_folder_are_flushed_one_by_one_where_there_is_no_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *given, **options: None)
    flushes = Flushes(monkeypatch)
    with atomic_folder(tmp_path / "a") as temporary:
        (temporary / "c").mkdir(parents=True)
        (temporary / "b").write_bytes(b"new")
        (temporary / "c" / "d").write_bytes(b"new")
    inside = {(tmp_path / "a" / name).stat().st_ino for name in ("b", "c/d")}
    at = flushes.seen.index(("rename", "a"))
    assert {inode for _, inode in flushes.seen[:at]} >= inside
