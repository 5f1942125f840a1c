"""OME-Zarr that is written to servers: whole or no image, gone on with, and nothing else touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pairfree.errors import InputError, OutputError
from pairfree.files import open_image, save_image, servers
from pairfree.files.fidelity import verify
from pairfree.files.image import Image
from pairfree.files.servers import UNSENT, Upload, check_free, check_server, is_sent, is_taken

pytestmark = pytest.mark.usefixtures("server")
MEMORY: Any = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem
SHAPE = (3, 20, 24)


def image_of(value: int) -> Image:
    counts = np.random.default_rng(value).poisson(60.0, SHAPE).astype(np.uint16)
    return Image(counts, "ZYX", {"Y": (0.1, "µm"), "X": (0.1, "µm")}, family="zarr")


def made(tmp_path: Path, value: int = 1, zarr_format: int = 3) -> Path:
    """An image on the disk with labels, and a file beside it whose name looks like a pattern."""
    folder = tmp_path / f"made/image{value}.zarr"
    folder.parent.mkdir(exist_ok=True)
    save_image(image_of(value), folder)
    if zarr_format == 2:
        attributes = dict(zarr.open_group(str(folder)).attrs)
        group = zarr.open_group(str(tmp_path / "old.zarr"), mode="w", zarr_format=2)
        group.create_array("0", data=image_of(value).pixels, chunks=(1, 20, 24))
        group.attrs.update({"multiscales": attributes["ome"]["multiscales"]})
        zarr.consolidate_metadata(str(tmp_path / "old.zarr"), zarr_format=2)
        return tmp_path / "old.zarr"
    labels = zarr.open_group(str(folder), mode="r+").create_group("labels")
    labels.create_array("cells", data=np.arange(12, dtype="u4").reshape(3, 4), chunks=(2, 2))
    (folder / "notes [a-c]*.txt").write_text("of the day")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def contents_there(server: Any, path: str) -> dict[str, bytes]:
    root = f"/{path.removeprefix('memory://')}/"
    found = {name: server.cat_file(name) for name in server.find(root)}
    return {name.removeprefix(root): content for name, content in found.items()}


class Broken:
    """The server's ``put_file``: counts, and fails at one call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails_at: int | None = None) -> None:
        self.put: list[str] = []
        real = MEMORY.put_file

        def put_file(system: Any, here: str, there: str, **options: Any) -> None:
            if len(self.put) == fails_at:
                raise ConnectionResetError("the line is cut")
            self.put.append(there)
            real(system, here, there, **options)

        monkeypatch.setattr(MEMORY, "put_file", put_file)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_metadata_of_the_whole_are_sent_last(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch, zarr_format: int
) -> None:
    source = made(tmp_path, zarr_format=zarr_format)
    expected = contents(source)
    sent = Broken(monkeypatch).put
    upload = Upload(source, Path("memory://bucket/a.zarr"))
    upload.send(overwrite=False)
    names = [name.removeprefix("/bucket/a.zarr/") for name in sent]
    assert names[0] == UNSENT
    are_metadata = [name.endswith(("zarr.json", ".zarray", ".zgroup", ".zattrs")) for name in names]
    assert are_metadata[1:-2] == sorted(are_metadata[1:-2])  # pixels first
    assert names[-1] == {2: ".zgroup", 3: "zarr.json"}[zarr_format]
    if zarr_format == 2:
        assert set(names[-3:-1]) == {".zattrs", ".zmetadata"}
    assert not is_sent(Path("memory://bucket/a.zarr"))
    upload.finish()
    assert is_sent(Path("memory://bucket/a.zarr"))
    assert contents_there(server, "memory://bucket/a.zarr") == expected
    assert list((tmp_path / "made").iterdir()) == [] or zarr_format == 2


def test_wherever_sending_stops_there_is_no_image_and_it_goes_on(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "BATCH_FILES", 1)
    original = made(tmp_path)
    expected = contents(original)
    for fails_at in range(len(expected) + 1):  # with the mark
        source = Path(shutil.copytree(original, tmp_path / f"made/{fails_at}.zarr"))
        path = Path(f"memory://bucket/{fails_at}.zarr")
        with monkeypatch.context() as patch:
            before = Broken(patch, fails_at)
            with pytest.raises(
                OutputError, match=r"line is cut; the result waits in .*made.*again"
            ):
                Upload(source, path).send(overwrite=False)
        assert not is_sent(path)
        assert not is_taken(path)
        with pytest.raises(InputError):
            open_image(path)
        with monkeypatch.context() as patch:
            after = Broken(patch)
            upload = Upload(source, path)
            upload.send(overwrite=False)
            upload.finish()
        assert len(before.put) == fails_at
        assert set(before.put).isdisjoint(after.put)  # nothing is sent twice
        assert contents_there(server, f"memory://bucket/{fails_at}.zarr") == expected


@pytest.mark.parametrize(
    "damage",
    [
        lambda note: note + b'["a.zarr/0/c/',
        lambda note: note[:-9],
        lambda note: note[:20],
        lambda note: b"",
        lambda note: b"\xff" + note,
        lambda note: note + b"{}\n",
        lambda note: note + b'["../image1.zarr/zarr.json", "gone", "\\u0000", "\\ud800"]\n',
        lambda note: b"5\n" + note,
        lambda note: b'"\\ud800"\n' + note,
        lambda note: note.replace(b'["', b"[5, [], "),
        lambda note: b"[" * 100_000 + note,
        lambda note: note + b"x" * 2**21,
    ],
)
def test_a_damaged_note_of_what_was_sent_stops_nothing(
    tmp_path: Path,
    server: Any,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setattr(servers, "BATCH_FILES", 1)
    source, path = made(tmp_path), Path("memory://bucket/a.zarr")
    expected = contents(source)
    for fails_at in (3, 5):
        with monkeypatch.context() as patch:
            Broken(patch, fails_at)
            with pytest.raises(OutputError, match="line is cut"):
                Upload(source, path).send(overwrite=False)
        (note,) = source.parent.glob(".*.sent")
        note.write_bytes(damage(note.read_bytes()))
    upload = Upload(source, path)
    upload.send(overwrite=False)
    upload.finish()
    assert is_sent(path)
    assert contents_there(server, "memory://bucket/a.zarr") == expected


def test_an_older_image_is_replaced_and_nothing_of_it_stays(tmp_path: Path, server: Any) -> None:
    path = Path("memory://bucket/a.zarr")
    save_image(image_of(1), path)
    server.pipe_file("/bucket/a.zarr/0/c/7/7/7", b"of a larger image")
    source = made(tmp_path, 2)
    expected = contents(source)
    with pytest.raises(OutputError, match=r"memory://bucket/a.zarr exists already; pass `overw"):
        Upload(source, path).send(overwrite=False)
    np.testing.assert_array_equal(open_image(path).pixels, image_of(1).pixels)
    upload = Upload(source, path)
    upload.send(overwrite=True)
    upload.finish()
    assert contents_there(server, "memory://bucket/a.zarr") == expected


def test_what_a_server_does_not_let_go_of_is_told(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As S3 does, where removing many files tells of none that stayed."""
    path = Path("memory://bucket/a.zarr")
    save_image(image_of(1), path)
    monkeypatch.setattr(MEMORY, "rm", lambda system, names: None)
    with pytest.raises(OutputError, match=r"a\.zarr: 0/c/0/0/0 is there and cannot be removed"):
        Upload(made(tmp_path, 2), path).send(overwrite=True)
    assert not is_sent(path)


def test_what_a_killed_process_did_not_remove_is_removed(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("memory://bucket/a.zarr")
    save_image(image_of(1), path)
    server.pipe_file("/bucket/a.zarr/0/c/7/7/7", b"of a larger image")
    source = made(tmp_path, 2)
    expected = contents(source)
    with monkeypatch.context() as patch:
        patch.setattr(MEMORY, "rm_file", lambda *given: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OutputError, match="killed"):
            Upload(source, path).send(overwrite=True)
    assert not is_sent(path)
    upload = Upload(source, path)
    upload.send(overwrite=True)
    upload.finish()
    assert contents_there(server, "memory://bucket/a.zarr") == expected


def test_servers_that_replace_no_files_are_written_to(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Azure's are by fsspec, where a batch stopped in its middle."""
    real = MEMORY.put_file

    def put_file(system: Any, here: str, there: str, **options: Any) -> None:
        if system.exists(there):
            raise FileExistsError(there)
        real(system, here, there, **options)

    monkeypatch.setattr(MEMORY, "put_file", put_file)
    path = Path("memory://bucket/a.zarr")
    for number in (1, 2):  # the second as from another computer
        source = made(tmp_path, number)
        expected = contents(source)
        with monkeypatch.context() as patch:
            Broken(patch, 5)
            with pytest.raises(OutputError, match="line is cut"):
                Upload(source, path).send(overwrite=False)
    upload = Upload(source, path)
    upload.send(overwrite=False)
    upload.finish()
    assert contents_there(server, "memory://bucket/a.zarr") == expected


def test_what_another_computer_left_unfinished_is_replaced(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("memory://bucket/a.zarr")
    with monkeypatch.context() as patch:
        Broken(patch, 4)
        with pytest.raises(OutputError):
            Upload(made(tmp_path, 1), path).send(overwrite=False)
    server.pipe_file("/bucket/a.zarr/stray", b"of its")
    source = made(tmp_path, 2)
    expected = contents(source)
    upload = Upload(source, path)
    upload.send(overwrite=False)
    upload.finish()
    assert contents_there(server, "memory://bucket/a.zarr") == expected


def test_two_processes_do_not_mix_their_images(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("memory://bucket/a.zarr")
    monkeypatch.setattr(servers, "BATCH_FILES", 1)
    first, second = Upload(made(tmp_path, 1), path), Upload(made(tmp_path, 2), path)
    real = servers.ServerFolder.put
    calls = []

    def put(server: Any, source: Path, names: list[str]) -> None:
        calls.append(names)
        if len(calls) == 3:
            second.send(overwrite=False)
        real(server, source, names)

    monkeypatch.setattr(servers.ServerFolder, "put", put)
    with pytest.raises(OutputError, match="another process writes there too"):
        first.send(overwrite=False)
    assert (tmp_path / "made/image1.zarr").is_dir()


def test_what_a_server_loses_is_sent_again(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = made(tmp_path), Path("memory://bucket/a.zarr")
    expected = contents(source)
    with monkeypatch.context() as patch:
        real = servers.ServerFolder.put

        def put(folder: Any, source: Path, names: list[str]) -> None:
            real(folder, source, names)
            if "0/c/1/0/0" in names:
                server.pipe_file("/bucket/a.zarr/0/c/1/0/0", b"half")

        patch.setattr(servers.ServerFolder, "put", put)
        with pytest.raises(OutputError, match=r"lost 0/c/1/0/0; .*run the same command again"):
            Upload(source, path).send(overwrite=False)
    assert not is_sent(path)
    upload = Upload(source, path)
    upload.send(overwrite=False)
    upload.finish()
    assert contents_there(server, "memory://bucket/a.zarr") == expected


def test_what_is_no_image_is_left_alone(tmp_path: Path, server: Any) -> None:
    server.pipe_file("/bucket/thesis/chapter1.tex", b"words")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"memory://bucket/thesis: something else is there"):
            check_free(Path("memory://bucket/thesis"), overwrite)
        with pytest.raises(OutputError, match="something else"):
            Upload(made(tmp_path, 1 + overwrite), Path("memory://bucket/thesis")).send(overwrite)
    assert contents_there(server, "memory://bucket") == {"thesis/chapter1.tex": b"words"}


def test_where_nothing_can_be_written_is_told_in_one_line(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address, words in {
        "https://host/folder": "https:// can only be read",
        "file:///data/folder": "this is no server",
        "nowhere://bucket/folder": "Protocol not known",
    }.items():
        with pytest.raises(OutputError, match=words) as told:
            check_server(Path(address))
        assert "\n" not in str(told.value)
    check_server(Path("memory://bucket/folder"))
    assert server.find("/") == []
    refused = PermissionError("Access Denied")
    for call in ("rm_file", "put_file"):
        with monkeypatch.context() as patch:
            patch.setattr(MEMORY, call, lambda *given, **options: (_ for _ in ()).throw(refused))
            with pytest.raises(
                OutputError,
                match=r"memory://bucket/folder: .*Access Denied; .*(stays there|you may write)",
            ):
                check_server(Path("memory://bucket/folder"))


def test_an_image_is_saved_at_an_address(tmp_path: Path, server: Any) -> None:
    image, path = image_of(1), "memory://bucket/folder/a.zarr"
    save_image(image, path)
    save_image(image, tmp_path / "a.zarr")
    assert contents_there(server, path) == contents(tmp_path / "a.zarr")
    assert verify(tmp_path / "a.zarr", path).kept
    with pytest.raises(OutputError, match="exists already"):
        save_image(image_of(2), path)
    save_image(image_of(2), path, overwrite=True)
    np.testing.assert_array_equal(open_image(path).pixels, image_of(2).pixels)
    assert not verify(tmp_path / "a.zarr", path).kept
    save_image(Image(np.ones((8, 9), np.uint8), "YX"), "memory://bucket/from_array.zarr")
    assert open_image("memory://bucket/from_array.zarr").family == "zarr"
    assert list((tmp_path / "caches/pairfree/unsent").iterdir()) == []


def test_an_image_that_cannot_be_saved_leaves_nothing(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Broken(patch, 4)
        with pytest.raises(OutputError, match=r"a\.zarr: .*line is cut; save the image again"):
            save_image(image_of(1), "memory://bucket/a.zarr")
    assert server.find("/") == []
    assert list((tmp_path / "caches/pairfree/unsent").iterdir()) == []


def test_other_formats_stay_on_disks(server: Any) -> None:
    pixels = np.ones((8, 9), np.uint8)
    for name, family in {"a.tif": "tiff", "a.ozx": "ozx", "a.npy": "npy"}.items():
        with pytest.raises(OutputError, match=f"only OME-Zarr .* of the format {family}; name a"):
            save_image(Image(pixels, "YX", family=family), f"memory://bucket/{name}")
    assert server.find("/") == []
