"""R12: crafted names, as inputs, in folders, and in files that name others.

Nothing is written outside of the output folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

import pairfree as pf
from pairfree.engine.model import Model
from pairfree.errors import InputError, OutputError
from pairfree.files import Image, open_image, save_image

PIXELS = np.random.default_rng(0).integers(0, 200, (40, 40)).astype(np.uint8)
NAMES = [
    "",
    ".",
    "..",
    "...",
    "../x.tif",
    "../out/x.tif",
    "./../w/../x.tif",
    "/etc/passwd",
    "//etc//passwd",
    "~/x.tif",
    "$HOME.tif",
    "`id`.tif",
    "file:///etc/passwd",
    "%2e%2e%2fx.tif",
    "..\\x.tif",
    "C:\\x.tif",
    "\\\\server\\share\\x.tif",
    "CON.tif",
    "NUL",
    "-rf.tif",
    "--out.tif",
    "[",
    "[a].tif",
    "**/../*",
    "a\0b.tif",
    "a\nb.tif",
    "a\x1b[2Jb.tif",
    "\u202egnp.fit.tif",
    "e\u0301 🔬.tif",
    "\udcff.tif",
    " .tif ",
    "x" * 250 + ".tif",
    "x" * 4096 + ".tif",
]


@pytest.fixture(scope="module")
def model() -> Model:
    return pf.train(
        [PIXELS],
        method="n2v",
        steps=1,
        settings={"net": "dncnn", "width": 4, "patch_px": 16, "batch_size": 2},
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; what lies beside it must not change."""
    (tmp_path / "w/in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "w")
    tifffile.imwrite(tmp_path / "x.tif", PIXELS)
    return tmp_path / "w"


def outside(out: Path) -> dict[str, bytes]:
    """Every file beside ``out``."""
    return {
        str(path): path.read_bytes()
        for path in out.parent.rglob("*")
        if path.is_file() and not path.is_relative_to(out)
    }


def made(path: Path) -> bool:
    """Whether the system takes a file of that name."""
    try:
        save_image(Image(PIXELS, "YX", family="tiff"), path.parent / "plain.tif", overwrite=True)
        os.replace(path.parent / "plain.tif", path)  # noqa: PTH105 - pathlib refuses some of these names
    except (OSError, ValueError):
        return False
    return True


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_crafted_name_is_denoised_inside_or_refused(
    model: Model, folder: Path, tmp_path: Path, name: str, within: bool
) -> None:
    """Given by itself, or lying in a folder that is given."""
    out = tmp_path / "out"
    if "/" not in name and name not in ("", ".", ".."):
        made(folder / "in" / name if within else folder / name)
    before, message = outside(out), ""
    try:
        results = pf.denoise(model, "in" if within else name, out)
        assert all(result.written.resolve().is_relative_to(out.resolve()) for result in results)
    except (InputError, OutputError) as error:
        results, message = [], str(error)
    assert outside(out) == before
    assert results or message
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 1500


@pytest.mark.posix
def test_links_that_lead_out_are_read_and_never_written_through(
    model: Model, folder: Path, tmp_path: Path
) -> None:
    (folder / "in/x.tif").symlink_to(tmp_path / "x.tif")
    out = tmp_path / "out"
    out.mkdir()
    (out / "x.tif").symlink_to(tmp_path / "x.tif")
    before = outside(out)
    with pytest.raises(OutputError):
        pf.denoise(model, "in", out)
    with pytest.raises(OutputError, match="is an input"):
        pf.denoise(model, "in", out, overwrite=True)
    (out / "x.tif").unlink()
    assert pf.denoise(model, "in", out)[0].written == out / "x.tif"
    assert outside(out) == before
    assert not (out / "x.tif").is_symlink()


@pytest.mark.parametrize(
    "named", ["../secret.ome", "/etc/passwd", "in/../../secret.ome", "secret.ome/../../secret.ome"]
)
def test_a_companion_outside_of_the_folder_is_not_fetched(
    model: Model, folder: Path, tmp_path: Path, named: str
) -> None:
    (tmp_path / "secret.ome").write_text("secret")
    (folder / "secret.ome").write_text("secret")
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<BinaryOnly MetadataFile="{named}" UUID="urn:uuid:1"/></OME>'
    )
    tifffile.imwrite(folder / "in/a.ome.tif", PIXELS, description=xml, metadata=None)
    before = outside(tmp_path / "out")
    pf.denoise(model, "in", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.ome.tif"]
    assert outside(tmp_path / "out") == before


@pytest.mark.parametrize("named", ["../../w/in/b", "/etc", "..", "a/../../b"])
def test_a_zarr_group_that_names_pixels_outside_of_itself_is_refused(
    folder: Path, named: str
) -> None:
    save_image(Image(PIXELS, "YX", family="zarr"), folder / "in/a.ome.zarr")
    path = folder / "in/a.ome.zarr/zarr.json"
    words = json.loads(path.read_text())
    words["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = named
    path.write_text(json.dumps(words))
    with pytest.raises(InputError, match="outside"):
        open_image(folder / "in/a.ome.zarr")
