"""R32: links, pipes and devices in the place of any file are refused in one line, or set aside; nothing is
read from them or written through them.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

import pairfree as pf
from pairfree.denoising.ledger import LEDGER, FileResult, Ledger
from pairfree.engine import checkpoint
from pairfree.engine.model import Model
from pairfree.engine.run import EventLog, RunFolder
from pairfree.errors import InputError, OutputError, PairfreeError
from pairfree.files import Image, open_image, save_image
from pairfree.files.damaged import set_aside_name
from pairfree.files.journal import Journal, unfinished
from pairfree.files.messages import shown
from pairfree.regular import open_regular, overwrite_regular, read_regular

pytestmark = pytest.mark.posix
PIXELS = np.random.default_rng(0).integers(0, 200, (40, 40)).astype(np.uint8)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    """By a link: to make one takes an administrator."""
    path.symlink_to("/dev/zero")


def unix_socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


KINDS = [pipe, device, unix_socket]


def said(error: pytest.ExceptionInfo[PairfreeError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("links") / "run"
    settings = {"net": "dncnn", "width": 4, "patch_px": 16, "batch_size": 2}
    pf.train([PIXELS], method="n2v", steps=1, out=folder, settings=settings, report=False)
    return folder


@pytest.mark.parametrize("make", KINDS)
def test_what_is_no_file_is_not_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a")
    for follow in (True, False):
        with pytest.raises(OSError, match="and no file"):
            read_regular(tmp_path / "a", follow)
    with pytest.raises(OSError, match="and no file"):
        overwrite_regular(tmp_path / "a", b"x")


def test_what_is_replaced_while_it_is_opened_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at it was a file."""
    monkeypatch.setattr("pairfree.regular.check_regular", lambda path, follow: None)
    pipe(tmp_path / "a")
    with pytest.raises(OSError, match="it is a pipe and no file"):
        read_regular(tmp_path / "a")
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "b").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(OSError, match="symbolic links"):
        overwrite_regular(tmp_path / "b", b"x")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_links_to_files_are_read_where_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    (tmp_path / "b").symlink_to("a")
    assert read_regular(tmp_path / "b") == b"text"
    with pytest.raises(OSError, match="it is a link"):
        read_regular(tmp_path / "b", follow=False)
    with open_regular(tmp_path / "new", "a", follow=False) as file:
        file.write("µ")
    assert (tmp_path / "new").read_text(encoding="utf-8") == "µ"


def lock(folder: Path) -> None:
    with RunFolder(folder).locked():
        pass


def begin_journal(folder: Path) -> None:
    Journal(folder / "a.npy", Image(PIXELS, "YX"), {}).close(done=False)


def note_done(folder: Path) -> None:
    ledger = Ledger(folder, folder)
    ledger.belongs_to({"made": "so"})
    np.save(folder / "a.npy", PIXELS)
    ledger.add(FileResult(Path("a.npy"), folder / "a.npy", 1600, 0, ()), None, "source")


JOURNAL = unfinished(Path("a.npy")).name
WRITTEN = {
    "lock": lock,
    LEDGER: note_done,
    f"{JOURNAL}/lock": begin_journal,
    f"{JOURNAL}/blocks": begin_journal,
    f"{JOURNAL}/journal.jsonl": begin_journal,
    JOURNAL: begin_journal,
}
"""What is written under a fixed name in a user's folder, and by what."""


def put_in_place(path: Path, kind: str, mine: Path) -> None:
    path.parent.mkdir(parents=True)
    if kind == "pipe":
        pipe(path)
        return
    targets = {"link": mine, "link to nothing": mine / "gone", "device": Path("/dev/zero")}
    path.symlink_to(targets[kind])


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "device"])
def test_what_is_no_file_is_set_aside_and_never_written_through(
    tmp_path: Path, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, mine = tmp_path / "out" / name, tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all of it")
    if name != JOURNAL:  # of which all else are files
        mine = mine / "thesis.txt"
    put_in_place(path, kind, mine)
    WRITTEN[name](tmp_path / "out")
    aside = set_aside_name(path)
    if aside.parent.exists():  # a journal without parts is removed, with what lies in it
        assert aside.is_symlink() or aside.is_fifo()
    assert any(shown(path) in one.getMessage() for one in caplog.records)
    assert [one.name for one in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    assert (tmp_path / "mine/thesis.txt").read_text() == "all of it"


@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "device"])
def test_events_are_not_written_through_a_link(tmp_path: Path, kind: str) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    put_in_place(tmp_path / "out/events.jsonl", kind, mine)
    with pytest.raises(OutputError, match=r"cannot write .*is in its place") as caught:
        EventLog(tmp_path / "out/events.jsonl")
    assert "out" in said(caught)
    assert mine.read_text() == "mine"


READ = {"config.toml": lambda folder: RunFolder(folder).read_config()}
"""What reads a file that ``load`` does not need."""


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", ["config.toml", "json", "safetensors", "environment.json"])
def test_a_run_of_pipes_and_devices_is_refused(
    run: Path, tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    *earlier, words = checkpoint.listing(tmp_path / "run/checkpoints")
    for one in earlier:
        one.unlink()
    path = tmp_path / "run" / name if "." in name else words.with_suffix(f".{name}")
    path.unlink()
    make(path)
    if name == "environment.json":  # says nothing that is needed
        assert isinstance(pf.load(tmp_path / "run"), Model)
        return
    with pytest.raises(PairfreeError) as caught:
        READ.get(name, pf.load)(tmp_path / "run")
    assert "run" in said(caught)


@pytest.mark.parametrize("make", KINDS)
def test_a_config_that_is_no_file_is_refused(
    tmp_path: Path, pairfree: Callable[..., tuple[int, str, str]], make: Callable[[Path], None]
) -> None:
    make(tmp_path / "mine.toml")
    np.save(tmp_path / "a.npy", PIXELS)
    code, _, words = pairfree("train", tmp_path / "a.npy", "--config", tmp_path / "mine.toml")
    assert code == 2
    assert "and no file" in words


NAMES = (
    "a a.tif a.png a.jpg a.bmp a.npy a.dcm a.mrc a.mrc.gz a.mha a.mhd a.ozx a.zarr a.svs a.czi a.nii "
    "a.nii.gz a.hdr a.img a.mgz a.nd2 a.lif a.oif a.oib a.dm3"
)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", NAMES.split())
def test_an_input_that_is_no_file_is_refused(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError) as caught:
        open_image(tmp_path / name)
    assert "is no regular file" in said(caught) or name == "a"


@pytest.mark.parametrize("make", KINDS)
def test_pixels_beside_a_header_that_are_no_file_are_refused(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    for compressed in ("False", "True"):
        (tmp_path / "a.mhd").write_text(
            f"NDims = 2\nDimSize = 20 24\nCompressedData = {compressed}\nElementType = MET_USHORT\n"
            "ElementDataFile = a.raw\n"
        )
        if not os.path.lexists(tmp_path / "a.raw"):
            make(tmp_path / "a.raw")
        with pytest.raises(InputError) as caught:
            open_image(tmp_path / "a.mhd")
        assert "a.raw" in said(caught)


@pytest.mark.parametrize("make", KINDS)
def test_a_set_of_files_of_which_one_is_none_is_read_without_it(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """An OME-TIFF whose second plane is said to lie in another file; a companion of the set."""
    planes = "".join(
        f'<TiffData FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(("a.ome.tif", "b.ome.tif", "c.ome"))
    )
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="40" '
        f'SizeY="40" SizeZ="3" SizeC="1" SizeT="1">{planes}</Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", PIXELS, description=xml, metadata=None)
    make(tmp_path / "b.ome.tif")
    make(tmp_path / "c.ome")
    image = open_image(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(np.squeeze(image.pixels), PIXELS)
    assert image.metadata["beside"] == []


def test_a_result_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", PIXELS)
    (tmp_path / "out.npy").symlink_to(tmp_path / "mine.npy")
    save_image(Image(PIXELS + 1, "YX"), tmp_path / "out.npy", overwrite=True)
    np.testing.assert_array_equal(np.load(tmp_path / "mine.npy"), PIXELS)
    assert not (tmp_path / "out.npy").is_symlink()
