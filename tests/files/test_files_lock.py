"""A lock tells who holds it, whatever stands in its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairfree.errors import BusyError
from pairfree.files.lock import Lock


@pytest.mark.posix
@pytest.mark.parametrize(
    "said", [b"\xff\xfe\0 of mine", b"\x1b[2J\xe2\x80\xae", b"", b"x" * 10_000]
)
def test_bytes_that_are_no_text_are_no_traceback(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "lock"
    held = Lock(path, tmp_path)
    path.write_bytes(said)
    with pytest.raises(BusyError, match="in use by") as told:
        Lock(path, tmp_path)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 500
    held.release()
    Lock(path, tmp_path).release()
    assert path.read_text().startswith("process ")
