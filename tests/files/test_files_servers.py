"""OME-Zarr on a server: read, trained on and denoised by its address."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

import pairfree as pf
from pairfree.cli.main import app
from pairfree.errors import InputError
from pairfree.files import find_images, open_image, save_image
from pairfree.files.fidelity import verify
from pairfree.files.image import Image
from pairfree.files.messages import address_of, shown

pytest.importorskip("aiohttp")
RNG = np.random.default_rng(0)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, and pages that list it where ``listing`` is set."""

    listing = True

    def log_message(self, *words: Any) -> None: ...

    def list_directory(self, path: Any) -> Any:
        if self.listing:
            return super().list_directory(path)
        self.send_error(403)
        return None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image with labels beside it."""
    path = tmp_path / "served/cells.ome.zarr"
    path.parent.mkdir()
    counts = RNG.poisson(60.0, (2, 48, 56)).astype(np.uint16)
    spacing = {"Y": (0.1, "µm"), "X": (0.1, "µm")}
    save_image(Image(counts, "CYX", spacing, ("a", "b"), family="zarr"), path)
    labels = zarr.open_group(str(path), mode="r+").create_group("labels")
    labels.create_array("cells", data=(counts[0] // 50).astype("u4"))
    return path


@pytest.fixture(params=[True, False], ids=["lists", "lists nothing"])
def address(folder: Path, request: Any) -> Iterator[str]:
    """Of the image."""
    handler = type("Handler", (Quiet,), {"listing": request.param})
    served = functools.partial(handler, directory=str(folder.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), served)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{folder.name}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_addresses_survive_being_paths():
    for text in ("https://host/a.zarr", "s3://bucket/a.zarr"):
        assert address_of(text) == address_of(Path(text)) == shown(Path(text)) == text
    for text in ("a.zarr", "/data/a.zarr", "C:/data/a.zarr", "./https:/a"):
        assert address_of(text) is None


def test_an_image_on_a_server_is_the_image_on_the_disk(address: str, folder: Path) -> None:
    here, there = open_image(folder), open_image(address)
    assert (there.axes, there.spacing, there.channel_names) == (
        here.axes,
        here.spacing,
        here.channel_names,
    )
    np.testing.assert_array_equal(there.pixels, here.pixels)
    (entry,) = find_images([address])
    assert entry.relative == Path("cells.ome.zarr")


def test_what_a_server_that_does_not_list_leaves_out_is_told(
    address: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was one listing that failed; a missing chunk is found in any case."""
    told = [line for line in open_image(address).metadata["warnings"] if "lists no folders" in line]
    if told:
        assert re.search(r"\(.*40[34].*\): what lies beside the image is left out", told[0])
    else:
        fail = OSError("the connection was reset")
        monkeypatch.setattr(
            "fsspec.implementations.http.HTTPFileSystem.ls", mock.Mock(side_effect=fail)
        )
        (line,) = open_image(address).metadata["warnings"]
        assert "lists no folders (OSError: the connection was reset)" in line
    (folder / "0/c/1/0/0").unlink()
    with pytest.raises(InputError, match=r"chunk 0/c/1/0/0 is missing"):
        open_image(address)


def test_it_is_denoised_by_its_address(address: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["denoise", "shipped", address, "--out", str(out), "--report"])
    assert done.exit_code == 0, done.exception
    by_path = pf.denoise("shipped", folder, tmp_path / "by_path")
    written = open_image(out / "cells.ome.zarr")
    np.testing.assert_array_equal(written.pixels, open_image(by_path[0].written).pixels)
    lists = "lists no folders" not in done.output
    assert (out / "cells.ome.zarr/labels/cells/zarr.json").exists() == lists
    assert verify(address, out).kept
    again = pf.denoise("shipped", address, out, skip_done=True)
    assert again[0].before
    model = pf.train(address, method="n2v", steps=1, device="cpu", report=False)
    assert model.denoise(np.ones((48, 56), "u2")).shape == (48, 56)


def test_what_is_not_there_is_one_line(address: str) -> None:
    with pytest.raises(InputError, match=r"http://.*nothing.zarr.*check the address"):
        find_images([address.replace("cells.ome", "nothing")])
    with pytest.raises(InputError, match=r"http://127.0.0.1:9/a.zarr: .*check the address"):
        open_image("http://127.0.0.1:9/a.zarr")
