"""A folder in which some files cannot be denoised: all are named, or left out where that is asked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import imagecodecs
import mrcfile
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from typer.testing import CliRunner

import pairfree as pf
from pairfree.cli.main import app
from pairfree.errors import InputError, OutputError

run_cli = CliRunner()


def dicom(path: Path, pixels: np.ndarray | None) -> None:
    """A slice, or without pixels a report of its dose."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = BasicTextSRStorage if pixels is None else CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    one.SOPClassUID = meta.MediaStorageSOPClassUID
    one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    one.Modality = "SR" if pixels is None else "CT"
    if pixels is not None:
        one.Rows, one.Columns = pixels.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 0
        one.PixelData = pixels.tobytes()
    pydicom.dcmwrite(path, one, enforce_file_format=True)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Four good files of three formats, and four bad ones."""
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        pixels = rng.poisson(100.0, (48, 64)).astype(np.uint16)
        tifffile.imwrite(folder / f"good_{number}.tif", pixels)
    np.save(folder / "good.npy", rng.poisson(100.0, (48, 64)).astype(np.float32))
    dicom(folder / "good.dcm", rng.poisson(100.0, (48, 64)).astype(np.uint16))
    (folder / "empty.tif").write_bytes(b"")
    (folder / "words.png").write_bytes(b"these are words")
    np.save(folder / "one_row.npy", np.zeros(5))
    whole = (folder / "good_0.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    return folder


def call(folder: Path, out: Path, *words: str):
    return run_cli.invoke(app, ["denoise", "shipped", str(folder), "--out", str(out), *words])


BAD = ("empty.tif", "words.png", "one_row.npy", "cut.tif")
GOOD = ("good_0.tif", "good_1.tif", "good.npy", "good.dcm")


@pytest.mark.posix
def test_a_folder_without_permission_is_one_of_the_bad(tmp_path: Path, monkeypatch) -> None:
    for name in ("in/good.npy", "in/locked/other.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / name, np.random.default_rng(0).poisson(100.0, (48, 64)))
    true = os.scandir

    def refusing(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return true(path)

    monkeypatch.setattr(os, "scandir", refusing)
    told = "locked: cannot be looked into (Permission denied)"
    refused = call(tmp_path / "in", tmp_path / "out")
    assert isinstance(refused.exception, InputError)
    assert told in str(refused.exception)
    assert not (tmp_path / "out").exists()
    done = call(tmp_path / "in", tmp_path / "out", "--skip-bad")
    assert done.exit_code == 1
    assert "1 file left out" in done.output
    assert (tmp_path / "out/good.npy").exists()


def test_all_bad_files_are_named_before_anything_is_written(mixed: Path, tmp_path: Path) -> None:
    done = call(mixed, tmp_path / "out")
    assert isinstance(done.exception, InputError)
    told = str(done.exception)
    assert "4 of 8 files cannot be denoised; mend them, or leave them out with `skip_bad`" in told
    for name in BAD:
        assert name in told
    assert not (tmp_path / "out").exists()


def test_they_are_left_out_and_named_at_the_end(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call(mixed, out, "--skip-bad")
    assert done.exit_code == 1
    told = " ".join(done.output.split())
    assert "4 files, " in told
    assert "4 files left out" in told
    assert all(name in told for name in BAD)
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == sorted(GOOD)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = call(mixed, out, "--skip-bad", "--skip-done")
    assert again.exit_code == 1
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_good_folder_exits_with_0(mixed: Path, tmp_path: Path) -> None:
    for name in BAD:
        (mixed / name).unlink()
    assert call(mixed, tmp_path / "out", "--skip-bad").exit_code == 0


def test_where_all_are_bad_nothing_can_be_left_out(mixed: Path, tmp_path: Path) -> None:
    for name in GOOD:
        (mixed / name).unlink()
    done = call(mixed, tmp_path / "out", "--skip-bad")
    assert isinstance(done.exception, InputError)
    assert str(done.exception).startswith("4 of 4 files cannot be denoised; mend them: ")


def test_damage_that_shows_when_pixels_are_read_is_left_out_too(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.tif", "b.tif"):
        pixels = rng.normal(100.0, 5.0, (64, 64)).astype(np.float32)
        tifffile.imwrite(folder / name, pixels)
    pixels[5, 5] = np.nan
    tifffile.imwrite(folder / "nan.tif", pixels)
    results = pf.denoise("shipped", folder, tmp_path / "out", skip_bad=True)
    assert [one.source.name for one in results] == ["a.tif", "b.tif"]
    with pytest.raises(InputError, match=r"nan\.tif"):
        pf.denoise("shipped", folder, tmp_path / "other")


def test_a_file_of_several_images_is_named_once(tmp_path: Path) -> None:
    """Its directory is whole, and the pixels of all of its images are cut off."""
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    with tifffile.TiffWriter(folder / "two.tif") as writer:
        for side in (64, 48):
            pixels = rng.poisson(100.0, (side, side)).astype(np.uint16)
            writer.write(
                pixels, photometric="palette", colormap=rng.integers(0, 99, (3, 65536), "u2")
            )
    tifffile.imwrite(folder / "good.tif", pixels)
    (folder / "words.png").write_bytes(b"these are words")
    done = call(folder, tmp_path / "out", "--scene", "all")
    told = str(done.exception)
    assert told.startswith("2 of 3 files cannot be denoised")
    assert told.count("two.tif") == 1
    done = call(folder, tmp_path / "out", "--scene", "all", "--skip-bad")
    assert "2 files left out" in " ".join(done.output.split())


def test_a_report_among_slices_is_left_out_unasked(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        dicom(folder / f"slice_{number}.dcm", rng.poisson(100.0, (48, 64)).astype(np.uint16))
    dicom(folder / "dose.dcm", None)
    done = call(folder, tmp_path / "out")
    assert done.exit_code == 0
    assert "dose.dcm" in done.output
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 3
    model = pf.train(
        folder, method="n2v", steps=2, out=tmp_path / "run", device="cpu", report=False
    )
    assert model.record.step == 2
    with pytest.raises(InputError, match="holds no image"):
        pf.denoise("shipped", folder / "dose.dcm", tmp_path / "single")


def test_a_slice_that_was_cut_off_is_no_report(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = np.random.default_rng(0).poisson(100.0, (48, 64)).astype(np.uint16)
    dicom(folder / "a.dcm", pixels)
    dicom(folder / "cut.dcm", pixels)
    cut = pydicom.dcmread(folder / "cut.dcm")
    del cut.PixelData
    cut.save_as(folder / "cut.dcm")
    with pytest.raises(InputError, match=r"cut\.dcm"):
        pf.denoise("shipped", folder, tmp_path / "out")


def test_what_cannot_be_written_is_refused_before_a_pixel_is_computed(mixed, tmp_path, monkeypatch):
    """Planning writes a small file in place of each output: what its writer refuses is a bad file."""
    for name in BAD:
        (mixed / name).unlink()
    true = tifffile.TiffWriter.write

    def refusing(self, *data, **words):
        pixels = data[0] if data else words["data"]
        if np.shape(pixels) == (40, 41):
            raise ValueError("no such layout")
        return true(self, *data, **words)

    tifffile.imwrite(mixed / "odd.tif", np.random.default_rng(0).poisson(9, (40, 41)).astype("u2"))
    monkeypatch.setattr(tifffile.TiffWriter, "write", refusing)
    monkeypatch.setattr(pf.Model, "denoise_into", lambda *_, **__: pytest.fail("was computed"))
    with pytest.raises(OutputError, match=r"odd.tif as TIFF: ValueError: no such layout"):
        pf.denoise("shipped", [mixed], tmp_path / "out")
    monkeypatch.undo()
    assert not (tmp_path / "out").exists()


def _ten_formats(folder: Path) -> list[str]:
    """A small image in each of more than ten formats; their names."""
    counts = np.random.default_rng(0).poisson(100.0, (40, 48)).astype(np.uint16)
    tifffile.imwrite(folder / "a.tif", counts)
    tifffile.imwrite(folder / "b.ome.tif", counts, metadata={"axes": "YX"})
    np.save(folder / "c.npy", counts)
    (folder / "d.png").write_bytes(imagecodecs.png_encode(counts))
    dicom(folder / "e.dcm", counts)
    mrcfile.write(folder / "f.mrc", counts.astype(np.int16))
    mrcfile.new(folder / "g.mrc.gz", counts.astype(np.float32), compression="gzip").close()
    for name in ("h.nii", "i.nii.gz"):
        nibabel.Nifti1Image(counts.T.astype(np.int16), np.eye(4)).to_filename(folder / name)
    nibabel.Nifti1Pair(counts.T.astype(np.int16), np.eye(4)).to_filename(folder / "j.hdr")
    nibabel.MGHImage(counts.T.astype(np.float32)[..., None], np.eye(4)).to_filename(
        folder / "k.mgz"
    )
    for name in ("l.mha", "m.mhd"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(counts), str(folder / name))
    for name, family in (("n.zarr", "zarr"), ("o.ozx", "ozx")):
        pf.save_image(pf.Image(counts, "YX", family=family), folder / name)
    (folder / "p.jpg").write_bytes(imagecodecs.jpeg_encode((counts // 2).astype("u1")))
    return [path.name for path in folder.iterdir() if path.suffix not in (".img", ".raw")]


def test_a_folder_of_ten_formats_with_bad_files_of_each(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    good = _ten_formats(folder)
    bad = []
    for name in good:
        path, cut = folder / name, folder / f"bad_{name}"
        if path.is_file() and path.suffix != ".hdr":
            cut.write_bytes(path.read_bytes()[:40])
            bad.append(cut.name)
    (folder / "bad_n.zarr").mkdir()
    (folder / "bad_n.zarr/zarr.json").write_text("{")
    (folder / "bad_link.tif").symlink_to(folder / "nowhere.tif")
    (folder / "bad_empty.jpg").touch()
    bad += ["bad_n.zarr", "bad_link.tif", "bad_empty.jpg"]
    (folder / "notes.txt").write_text("no image")
    planned = call(folder, out, "--skip-bad", "--dry-run")
    assert planned.exit_code == 1
    assert not out.exists()
    done = call(folder, out, "--skip-bad")
    assert done.exit_code == 1, done.exception
    told = done.output.replace("\n", " ")
    assert all(name in told for name in bad)
    assert "object at 0x" not in told
    written = {path.name for path in out.iterdir() if path.suffix not in (".img", ".raw")}
    assert {name for name in written if not name.startswith(".")} == {
        name.replace("p.jpg", "p.png") for name in good
    }
    for name in good:
        (folder / f"bad_{name}").unlink(missing_ok=True) if name != "n.zarr" else None
    for name in ("bad_link.tif", "bad_empty.jpg"):
        (folder / name).unlink()
    shutil.rmtree(folder / "bad_n.zarr")
    found = pf.verify(folder, out)
    assert found.kept, found.lost
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = call(folder, out, "--skip-bad", "--skip-done")
    assert again.exit_code == 0, again.exception
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
