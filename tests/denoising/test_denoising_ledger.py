"""What is done of a folder stays known, whatever stops the writing of it."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from pairfree.denoising.ledger import LEDGER, FileResult, Ledger
from pairfree.errors import OutputError
from pairfree.files.listing import Entry
from pairfree.files.unchanged import fingerprint


@pytest.mark.parametrize("end", [-1, -20])
def test_nothing_is_lost_behind_a_line_that_is_cut_off(tmp_path: Path, end: int) -> None:
    """A full disk and a power cut leave half a line, on which the next would be written."""
    head = {"made": "so"}

    def add(*names: str) -> set[Path]:
        """What is known before more is done."""
        ledger = Ledger(tmp_path, tmp_path)
        known = ledger.paths
        ledger.belongs_to(head)
        for name in names:
            np.save(tmp_path / name, np.zeros(3))
            ledger.add(FileResult(Path(name), tmp_path / name, 3, 0, ()), None, "source")
        return known

    add("a.npy", "b.npy")
    listed = tmp_path / LEDGER
    listed.write_bytes(listed.read_bytes()[:end])
    known = add("c.npy")
    assert tmp_path / "a.npy" in known
    assert add() == known | {tmp_path / "c.npy"}
    assert all(line.endswith(b"}\n") for line in listed.read_bytes().splitlines(keepends=True))


def test_a_list_that_cannot_be_written_anew_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    done = FileResult(Path("a.npy"), tmp_path / "a.npy", 3, 0, ())
    ledger = Ledger(tmp_path, tmp_path)
    ledger.belongs_to({"made": "so"})
    ledger.add(done, None, "source")
    before = (tmp_path / LEDGER).read_bytes()
    again = Ledger(tmp_path, tmp_path)
    again.belongs_to({"made": "otherwise"})

    def write(path: Path, content: bytes) -> None:
        path.write_bytes(content[:10])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("pairfree.denoising.ledger.overwrite_regular", write)
    with pytest.raises(OutputError, match="no space left"):
        again.add(done, None, "source")
    assert (tmp_path / LEDGER).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [LEDGER, "a.npy"]


def test_a_folder_of_many_images_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold a million files, which take seconds each time."""
    source = tmp_path / "plate.npy"
    np.save(source, np.zeros(3))
    entries = [Entry(source, Path(f"{number}.npy"), number) for number in range(5)]
    ledger = Ledger(tmp_path, tmp_path)
    ledger.belongs_to({"made": "so"})
    for entry in entries:
        path = tmp_path / entry.relative
        np.save(path, np.zeros(3))
        ledger.add(FileResult(source, path, 3, 0, (), scene=entry.scene), None, fingerprint(source))
    looked: list[Path] = []

    def look(path: Path) -> str:
        looked.append(path)
        return fingerprint(path)

    monkeypatch.setattr("pairfree.denoising.ledger.fingerprint", look)
    again = Ledger(tmp_path, tmp_path)
    again.belongs_to({"made": "so"})
    found = [again.result(entry, tmp_path / entry.relative, None) for entry in entries]
    assert [one.scene for one in found if one] == [0, 1, 2, 3, 4]
    assert looked == [source]


def test_a_result_that_a_process_was_killed_over_is_known_by_both_of_its_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list holds absolute paths; the folder may be named from where the user stands."""
    monkeypatch.chdir(tmp_path)
    out = Path("out")
    out.mkdir()
    ledger = Ledger(out, out)
    ledger.belongs_to({"made": "so"})
    np.save(out / "a.npy", np.zeros(3))
    ledger.expect(out / "a.npy", out / "a.npy")
    assert Ledger(out, out).paths == {out / "a.npy", tmp_path / "out/a.npy"}


def test_a_result_that_someone_has_changed_is_no_longer_ours(tmp_path: Path) -> None:
    """It is neither taken for done nor replaced: whoever plans finds a file of somebody else."""
    head = {"made": "so"}
    ledger = Ledger(tmp_path, tmp_path)
    ledger.belongs_to(head)
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, np.zeros(3))
        ledger.add(FileResult(Path(name), tmp_path / name, 3, 0, ()), None, "source")
    np.save(tmp_path / "a.npy", np.ones(4))
    again = Ledger(tmp_path, tmp_path)
    assert again.belongs_to(head)
    assert again.paths == {tmp_path / "b.npy"}
