"""What a Zarr image keeps beside its pixels: codecs, filters, order, consolidated metadata; zip archives."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

from pairfree.errors import InputError
from pairfree.files import open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.formats.zarr_files import MOST_METADATA_BYTES, SUMS
from pairfree.files.image import Image
from pairfree.files.unchanged import fingerprint

SHAPE = (3, 50, 61)
OPEN = Path("/proc/self/fd")
"""What this process has open, on Linux."""
pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
OF_FORMAT_2: dict[str, dict[str, Any]] = {
    "plain": {"compressors": None},
    "zstd": {"compressors": numcodecs.Zstd(level=5)},
    "zlib": {"compressors": numcodecs.Zlib(level=2)},
    "gzip": {"compressors": numcodecs.GZip(level=2)},
    "blosc": {"compressors": numcodecs.Blosc("lz4", clevel=3, shuffle=2)},
    "lz4": {"compressors": numcodecs.LZ4()},
    "bz2": {"compressors": numcodecs.BZ2(level=4)},
    "lzma": {"compressors": numcodecs.LZMA(preset=1)},
    "delta": {"filters": [numcodecs.Delta("u2")], "compressors": numcodecs.Zlib()},
    "shuffle": {"filters": [numcodecs.Shuffle(2)], "compressors": numcodecs.Zstd()},
    "columns first": {"order": "F", "compressors": numcodecs.Zlib()},
    "big-endian": {"dtype": ">u2", "compressors": numcodecs.Zlib()},
    "no fill value": {"fill_value": None, "compressors": numcodecs.Zlib()},
    "nested": {"compressors": numcodecs.Zlib(), "separator": "/"},
}


def make_array(path: Path, name: str) -> np.ndarray:
    """An array of format 2, as other programs write it: zstd without a word about checksums."""
    options = {"dtype": "<u2", "filters": None, **OF_FORMAT_2[name]}
    pixels = np.random.default_rng(1).integers(0, 2**16, SHAPE).astype(options["dtype"])
    separator = options.pop("separator", ".")
    array = zarr.create_array(
        str(path),
        shape=SHAPE,
        chunks=(2, 32, 32),
        zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": separator},
        **options,
    )
    array[...] = pixels
    stored = json.loads((path / ".zarray").read_text())
    if stored["compressor"]:
        stored["compressor"].pop("checksum", None)
    (path / ".zarray").write_text(json.dumps(stored))
    return pixels


def lost(first: Path, second: Path) -> list[str]:
    """What verify says is lost."""
    return [check.name for check in compare(first, second) if check.kept is False]


@pytest.mark.parametrize("name", OF_FORMAT_2)
def test_codecs_filters_and_order_of_format_2_stay(tmp_path: Path, name: str) -> None:
    pixels = make_array(tmp_path / "a.zarr", name)
    image = open_image(tmp_path / "a.zarr")
    np.testing.assert_array_equal(image.pixels, pixels)
    save_image(image, tmp_path / "b.zarr")
    before = json.loads((tmp_path / "a.zarr/.zarray").read_text())
    assert json.loads((tmp_path / "b.zarr/.zarray").read_text()) == before
    assert not lost(tmp_path / "a.zarr", tmp_path / "b.zarr")
    again = zarr.open_array(str(tmp_path / "b.zarr"), mode="r")
    np.testing.assert_array_equal(again[...], pixels)
    if "filters" not in OF_FORMAT_2[name] and name not in ("lz4", "lzma"):
        tensorstore = pytest.importorskip("tensorstore")
        for folder in ("a.zarr", "b.zarr"):
            kept = {"driver": "file", "path": str(tmp_path / folder)}
            opened = tensorstore.open({"driver": "zarr", "kvstore": kept}).result()
            np.testing.assert_array_equal(opened.read().result(), pixels)


def test_another_codec_is_a_loss_that_verify_finds(tmp_path: Path) -> None:
    make_array(tmp_path / "a.zarr", "blosc")
    make_array(tmp_path / "b.zarr", "zlib")
    assert lost(tmp_path / "a.zarr", tmp_path / "b.zarr") == ["chunks and codecs"]


def test_a_chunk_that_was_changed_is_told_with_a_way_out(tmp_path: Path) -> None:
    make_array(tmp_path / "a.zarr", "plain")
    save_image(open_image(tmp_path / "a.zarr"), tmp_path / "b.zarr")
    zarr.open_array(str(tmp_path / "b.zarr"), mode="r+")[0, 0, 0] = 9
    with pytest.raises(InputError, match=f"chunk 0.0.0 is not what pairfree wrote.*remove {SUMS}"):
        open_image(tmp_path / "b.zarr")
    (tmp_path / "b.zarr" / SUMS).unlink()
    assert open_image(tmp_path / "b.zarr").pixels[0, 0, 0] == 9


def make_group(path: Path, zarr_format: Any, consolidated: bool = True) -> np.ndarray:
    """Two resolutions below a group of their own; a table, a mask, a text and nested labels beside them."""
    pixels = np.random.default_rng(2).integers(0, 999, (40, 52)).astype(np.uint16)
    root = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    scale = {"type": "scale", "scale": [0.5, 0.5]}
    coarse = {"type": "scale", "scale": [1.0, 1.0]}
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    datasets = [
        {"path": "levels/0", "coordinateTransformations": [scale]},
        {"path": "levels/1", "coordinateTransformations": [coarse]},
    ]
    version = "0.5" if zarr_format == 3 else "0.4"
    multiscales = [{"version": version, "axes": axes, "datasets": datasets}]
    words = {"multiscales": multiscales}
    root.attrs.put({"ome": {"version": "0.5", **words}} if zarr_format == 3 else words)
    levels = root.create_group("levels", attributes={"said of": "levels"})
    levels.create_array("0", data=pixels, chunks=(16, 16))
    levels.create_array("1", data=pixels[::2, ::2].copy(), chunks=(16, 16))
    root.create_array("mask", data=np.eye(9, dtype=np.uint8), chunks=(4, 4))
    root.create_group("labels").create_group("cells").create_array("0", data=pixels // 9)
    (path / "README.txt").write_text("from the microscope")
    (path / "levels/notes.json").write_text("{}")
    if consolidated:
        zarr.consolidate_metadata(str(path), zarr_format=zarr_format)
    return pixels


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_all_beside_the_image_and_consolidated_metadata_stay(
    tmp_path: Path, zarr_format: Any
) -> None:
    pixels = make_group(tmp_path / "a.zarr", zarr_format)
    image = open_image(tmp_path / "a.zarr")
    save_image(image.with_pixels(image.pixels + np.uint16(1)), tmp_path / "b.zarr")
    root = zarr.open_consolidated(str(tmp_path / "b.zarr"), zarr_format=zarr_format)
    np.testing.assert_array_equal(root["levels/0"][...], pixels + 1)
    np.testing.assert_array_equal(root["labels/cells/0"][...], pixels // 9)
    np.testing.assert_array_equal(root["mask"][...], np.eye(9))
    assert root["levels"].attrs["said of"] == "levels"
    assert (tmp_path / "b.zarr/README.txt").read_text() == "from the microscope"
    assert (tmp_path / "b.zarr/levels/notes.json").read_text() == "{}"
    assert lost(tmp_path / "a.zarr", tmp_path / "b.zarr") == []


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_is_lost_beside_the_image_is_found(tmp_path: Path, zarr_format: Any) -> None:
    make_group(tmp_path / "a.zarr", zarr_format)
    make_group(tmp_path / "b.zarr", zarr_format, consolidated=False)
    (tmp_path / "b.zarr/README.txt").write_text("from elsewhere")
    assert lost(tmp_path / "a.zarr", tmp_path / "b.zarr") == [
        "beside the image",
        "consolidated metadata",
    ]


@pytest.mark.posix
def test_links_are_told_and_not_followed(tmp_path: Path) -> None:
    make_group(tmp_path / "a.zarr", 3, consolidated=False)
    (tmp_path / "a.zarr/labels/round").symlink_to(tmp_path)
    (tmp_path / "a.zarr/elsewhere").symlink_to("/etc")
    (tmp_path / "a.zarr/nowhere").symlink_to(tmp_path / "gone")
    image = open_image(tmp_path / "a.zarr")
    assert image.metadata["warnings"] == [
        "links, pipes and devices within the folder are left out: elsewhere, nowhere, labels/round"
    ]
    save_image(image, tmp_path / "b.zarr")
    written = {path.name for path in (tmp_path / "b.zarr").rglob("*")}
    assert not {"elsewhere", "nowhere", "round"} & written
    assert fingerprint(tmp_path / "a.zarr") == fingerprint(tmp_path / "a.zarr")


def test_resolutions_of_other_dimensions_are_refused_before_any_work(tmp_path: Path) -> None:
    make_group(tmp_path / "a.zarr", 2, consolidated=False)
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="r+")
    root["levels"].create_array("1", data=np.zeros((2, 20, 26), np.uint16), overwrite=True)
    with pytest.raises(InputError, match="resolution levels/1 has 3 axes and the finest has 2"):
        open_image(tmp_path / "a.zarr")


def zip_folder(folder: Path, archive: Path, method: int = zipfile.ZIP_STORED) -> None:
    """All files of a folder, in any order, with a comment."""
    with zipfile.ZipFile(archive, "w", method) as packed:
        packed.comment = b'{"ome": {"version": "0.5"}}'
        for file in sorted(folder.rglob("*"), reverse=True):
            if file.is_file():
                packed.write(file, file.relative_to(folder).as_posix())


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("suffix", [".ozx", ".zarr.zip", "b.zarr"])
def test_zipped_images_come_back_zipped(tmp_path: Path, zarr_format: Any, suffix: str) -> None:
    pixels = make_group(tmp_path / "a.zarr", zarr_format)
    given, written = tmp_path / f"a{suffix}", tmp_path / f"out/a{suffix}"
    zip_folder(tmp_path / "a.zarr", given, zipfile.ZIP_DEFLATED)
    image = open_image(given)
    assert image.spacing == {"Y": (0.5, "µm"), "X": (0.5, "µm")}
    np.testing.assert_array_equal(image.pixels, pixels)
    save_image(image, written)
    assert lost(given, written) == []
    assert [path.name for path in written.parent.iterdir()] == [written.name]
    with zipfile.ZipFile(written) as packed:
        assert packed.testzip() is None
        assert packed.comment == b'{"ome": {"version": "0.5"}}'
        assert all(one.compress_type == zipfile.ZIP_STORED for one in packed.infolist())
        assert packed.namelist()[0] in (".zattrs", "zarr.json")
    root = zarr.open_group(zarr.storage.ZipStore(written, mode="r"), mode="r")
    np.testing.assert_array_equal(root["levels/0"][...], pixels)


def test_zips_that_lie_are_refused(tmp_path: Path) -> None:
    make_group(tmp_path / "a.zarr", 3, consolidated=False)
    for name, content, words in (
        ("../out.txt", b"x", "would lie outside"),
        ("labels/zarr.json", b" " * (MOST_METADATA_BYTES + 1), "zarr.json has more than"),
        ("levels/0/c/0/0", b"\0" * 2**21, "chunk c/0/0 takes"),
    ):
        archive = tmp_path / "a.ozx"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in (tmp_path / "a.zarr").rglob("*"):
                inside = file.relative_to(tmp_path / "a.zarr").as_posix()
                if file.is_file() and inside != name:
                    packed.write(file, inside)
            packed.writestr(name, content)
        with pytest.raises(InputError, match=words):
            open_image(archive)
    archive.write_bytes(b"PK" + bytes(99))
    with pytest.raises(InputError, match="no zip archive"):
        open_image(archive)


def test_arrays_become_zips(tmp_path: Path) -> None:
    made = Image(
        np.ones((30, 40), np.float32), "YX", {"X": (2.0, "nm"), "Y": (2.0, "nm")}, family="ozx"
    )
    save_image(made, tmp_path / "a.ozx")
    again = open_image(tmp_path / "a.ozx")
    assert (again.axes, again.spacing, again.dtype) == ("YX", made.spacing, np.float32)


def test_zipped_collections_are_not_cut_to_their_first_image(tmp_path: Path) -> None:
    root = zarr.open_group(str(tmp_path / "c.zarr"), mode="w", zarr_format=3)
    root.attrs["ome"] = {"bioformats2raw.layout": 3}
    for number in range(2):
        image = Image(np.ones((8, 9), np.uint8), "YX", family="zarr")
        save_image(image, tmp_path / f"c.zarr/{number}")
    root.create_group("2")  # no image
    zip_folder(tmp_path / "c.zarr", tmp_path / "c.ozx")
    with pytest.raises(InputError, match="holds 2 images; unpack it"):
        open_image(tmp_path / "c.ozx")


def test_many_archives_take_no_descriptors(tmp_path: Path) -> None:
    made = Image(np.ones((30, 40), np.float32), "YX", family="ozx")
    save_image(made, tmp_path / "a.ozx")
    before = len(list(OPEN.iterdir())) if OPEN.exists() else 0
    images = [open_image(tmp_path / "a.ozx") for _ in range(20)]
    after = len(list(OPEN.iterdir())) if before else 0
    assert after - before < 5
    save_image(images[0], tmp_path / "b.ozx")
    np.testing.assert_array_equal(open_image(tmp_path / "b.ozx").pixels, made.pixels)


def test_a_missing_chunk_is_found_beside_strangers(tmp_path: Path) -> None:
    make_array(tmp_path / "a.zarr", "zlib")
    for number in range(3):
        (tmp_path / f"a.zarr/notes{number}.txt").write_text("stranger")
    save_image(open_image(tmp_path / "a.zarr"), tmp_path / "b.zarr")
    assert (tmp_path / "b.zarr/notes0.txt").exists()
    (tmp_path / "b.zarr/1.0.0").unlink()
    with pytest.raises(InputError, match=r"chunk 1\.0\.0 is missing"):
        open_image(tmp_path / "b.zarr")
