"""Images of two files, .hdr and .img, of NIfTI and Analyze; and files of those names that are none."""

from __future__ import annotations

import gzip
import shutil
import struct
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK

import pairfree as pf
from pairfree.errors import InputError, OutputError
from pairfree.files import Image, Limits, find_images, open_image, open_sink, save_image
from pairfree.files.fidelity import compare

AFFINE = np.array([[0, -1.5, 0, 10.0], [1.5, 0, 0, -5], [0, 0, 3, 2], [0, 0, 0, 1]])
KINDS = {
    "nifti1": nibabel.Nifti1Pair,
    "nifti2": nibabel.Nifti2Pair,
    "analyze": nibabel.AnalyzeImage,
    "spm99": nibabel.Spm99AnalyzeImage,
    "spm2": nibabel.Spm2AnalyzeImage,
}


def values(shape: tuple[int, ...] = (7, 9, 5), dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 120, shape).astype(dtype)


def write_pair(
    path: Path, kind: str = "nifti1", stored: np.ndarray | None = None, slope: float | None = None
) -> None:
    """By nibabel; the .mat file that it writes beside SPM's is left out."""
    made = KINDS[kind](values() if stored is None else stored, AFFINE)
    if kind.startswith("nifti"):
        made.header.set_xyzt_units("mm", "sec")
        made.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
        made.set_sform(AFFINE, 3)
    made.header["descrip"] = b"3 T, T2"
    if slope is not None:
        made.header.set_slope_inter(slope, 0.0)
    made.to_filename(path)
    path.with_suffix(".mat").unlink(missing_ok=True)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", ">i2"])
@pytest.mark.parametrize("named", [".hdr", ".img"])
def test_pairs_there_and_back_bit_by_bit(tmp_path, named, dtype, kind):
    write_pair(tmp_path / "a.img", kind, values(dtype=dtype))
    image = open_image(tmp_path / f"a{named}")
    by_others = np.asarray(nibabel.load(tmp_path / f"a{named}").dataobj).T
    np.testing.assert_array_equal(image.pixels, by_others)
    assert (image.axes, image.metadata["warnings"]) == ("ZYX", [])
    assert image.spacing == {"Z": (3.0, "mm"), "Y": (1.5, "mm"), "X": (1.5, "mm")}
    save_image(image, tmp_path / "out" / f"b{named}")
    assert files(tmp_path / "out") == ["b.hdr", "b.img"]
    for suffix in (".hdr", ".img"):
        before = (tmp_path / f"a{suffix}").read_bytes()
        assert (tmp_path / "out" / f"b{suffix}").read_bytes() == before
    checks = compare(tmp_path / "a.img", tmp_path / "out" / "b.img")
    assert [one.name for one in checks if one.kept is False] == []


@pytest.mark.parametrize("kind", KINDS)
def test_other_pixels_are_read_by_others(tmp_path, kind):
    write_pair(tmp_path / "a.img", kind)
    image = open_image(tmp_path / "a.img")
    changed = image.with_pixels(image.pixels + 1)
    save_image(changed, tmp_path / "b.img")
    by_nibabel = np.asarray(nibabel.load(tmp_path / "b.hdr").dataobj).T
    np.testing.assert_array_equal(by_nibabel, changed.pixels)
    if kind == "nifti2":  # which ITK does not read as a pair
        return
    by_itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "b.hdr")))
    np.testing.assert_array_equal(by_itk, changed.pixels)


@pytest.mark.parametrize("kind", ["nifti1", "spm99", "spm2"])
def test_scaled_pairs(tmp_path, kind):
    write_pair(tmp_path / "a.img", kind, slope=0.37)
    image = open_image(tmp_path / "a.img")
    expected = np.asarray(nibabel.load(tmp_path / "a.img").dataobj).T
    np.testing.assert_allclose(image.pixels, expected, rtol=1e-6)
    save_image(image, tmp_path / "b.img")
    assert (tmp_path / "b.img").read_bytes() == (tmp_path / "a.img").read_bytes()
    assert (tmp_path / "b.hdr").read_bytes() == (tmp_path / "a.hdr").read_bytes()


@pytest.mark.parametrize("scaling", [(1e-3, 1e5), (1e-42, 1e-40), (0.5, -10.0)])
def test_intensities_far_from_0_come_back(tmp_path, scaling):
    """Steps of the stored values that float32 cannot tell apart are float64."""
    stored = np.arange(-100, 155, dtype=np.int16).reshape(5, 51, 1)
    made = nibabel.Nifti1Pair(stored, AFFINE)
    made.header.set_slope_inter(*scaling)
    made.to_filename(tmp_path / "a.img")
    save_image(open_image(tmp_path / "a.img"), tmp_path / "b.img")
    np.testing.assert_array_equal(
        np.fromfile(tmp_path / "b.img", np.int16), np.fromfile(tmp_path / "a.img", np.int16)
    )


def test_packed_pairs_come_back_packed(tmp_path):
    write_pair(tmp_path / "a.img.gz")
    assert files(tmp_path) == ["a.hdr.gz", "a.img.gz"]
    image = open_image(tmp_path / "a.hdr.gz")
    save_image(image, tmp_path / "b.hdr.gz")
    np.testing.assert_array_equal(
        np.asarray(nibabel.load(tmp_path / "b.img.gz").dataobj).T, image.pixels
    )
    before, after = (gzip.decompress((tmp_path / f"{one}.hdr.gz").read_bytes()) for one in "ab")
    assert after == before
    assert [one.path.name for one in find_images([tmp_path])] == ["a.hdr.gz", "b.hdr.gz"]


def test_capital_names(tmp_path):
    write_pair(tmp_path / "a.img")
    for suffix in (".hdr", ".img"):
        (tmp_path / f"a{suffix}").rename(tmp_path / f"A{suffix.upper()}")
    assert open_image(tmp_path / "A.IMG").shape == (5, 9, 7)
    save_image(open_image(tmp_path / "A.HDR"), tmp_path / "B.HDR")
    assert files(tmp_path) == ["A.HDR", "A.IMG", "B.HDR", "B.IMG"]


def test_pixels_of_a_large_pair_stay_in_their_file(tmp_path):
    write_pair(tmp_path / "a.img")
    image = open_image(tmp_path / "a.hdr", Limits(resident_bytes=10))
    assert image.stored
    np.testing.assert_array_equal(image.pixels, values().T)


def test_a_pair_is_one_image_of_a_folder_however_it_is_named(tmp_path):
    write_pair(tmp_path / "a.img")
    assert [one.path.name for one in find_images([tmp_path])] == ["a.hdr"]
    both = [tmp_path / "a.img", tmp_path / "a.hdr"]
    assert [one.path.name for one in find_images(both)] == ["a.img"]
    assert [one.path.name for one in find_images([tmp_path / "*.img"])] == ["a.img"]


def test_a_folder_of_pairs_is_denoised(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        pixels = rng.poisson(60, (48, 64, 2)).astype(np.int16)
        write_pair(tmp_path / "in" / f"{name}.img", "nifti1", pixels)
    pf.train(
        tmp_path / "in", method="n2v", steps=2, device="cpu", out=tmp_path / "run", report=False
    )
    pf.denoise(tmp_path / "run", [tmp_path / "in"], tmp_path / "out")
    written = [name for name in files(tmp_path / "out") if name.startswith(("a.", "b."))]
    assert written == ["a.hdr", "a.img", "b.hdr", "b.img"]
    assert pf.verify(tmp_path / "in", tmp_path / "out").kept
    with pytest.raises(OutputError, match="exist"):
        pf.denoise(tmp_path / "run", [tmp_path / "in"], tmp_path / "out")


def test_an_output_that_is_half_there_is_not_overwritten(tmp_path):
    write_pair(tmp_path / "a.img")
    (tmp_path / "b.img").write_bytes(b"something else")
    with pytest.raises(OutputError, match=r"b\.img exists"):
        open_sink(open_image(tmp_path / "a.hdr"), tmp_path / "b.hdr")


def test_a_pair_is_not_written_as_one_file_nor_one_file_as_a_pair(tmp_path):
    write_pair(tmp_path / "a.img")
    nibabel.Nifti1Image(values(), AFFINE).to_filename(tmp_path / "c.nii")
    with pytest.raises(OutputError, match=r"read from \.hdr or \.img"):
        save_image(open_image(tmp_path / "a.img"), tmp_path / "b.nii")
    with pytest.raises(OutputError, match=r"read from \.nii"):
        save_image(open_image(tmp_path / "c.nii"), tmp_path / "d.img")
    assert files(tmp_path) == ["a.hdr", "a.img", "c.nii"]


@pytest.mark.parametrize("kind", ["nifti1", "analyze"])
def test_verify_finds_another_header(tmp_path, kind):
    for name in ("a", "b"):
        write_pair(tmp_path / f"{name}.img", kind)
    header = (tmp_path / "b.hdr").read_bytes()
    (tmp_path / "b.hdr").write_bytes(header.replace(b"3 T, T2", b"3 T, T1"))
    checks = compare(tmp_path / "a.img", tmp_path / "b.img")
    assert [one.name for one in checks if one.kept is False] == ["header", "header file"]


def test_positions_in_a_mat_file_are_told_of(tmp_path):
    KINDS["spm99"](values(), AFFINE).to_filename(tmp_path / "a.img")
    assert (tmp_path / "a.mat").exists()
    assert ".mat" in open_image(tmp_path / "a.img").metadata["warnings"][0]


@pytest.mark.parametrize("name", ["b.c.nii", "b.c.NII", "b.c.nii.gz"])
def test_positions_beside_a_series_are_told_of(tmp_path, name):
    """SPM states a position for each volume there."""
    made = tmp_path / ("x.nii.gz" if name.endswith("gz") else "x.nii")
    nibabel.Nifti1Image(values(), AFFINE).to_filename(made)
    made.rename(tmp_path / name)
    assert open_image(tmp_path / name).metadata["warnings"] == []
    (tmp_path / "b.c.mat").write_bytes(b"MATLAB")
    assert ".mat" in open_image(tmp_path / name).metadata["warnings"][0]


# -- files of these names that are something else ------------------------------------------------------------


def write_strangers(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "disk.img").write_bytes(bytes(4096))
    (folder / "land.hdr").write_text("ENVI\nsamples = 20\nlines = 30\nbands = 1\ndata type = 2\n")
    (folder / "land.img").write_bytes(bytes(1200))
    (folder / "light.hdr").write_bytes(
        b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 2 +X 2\n" + bytes(16)
    )
    (folder / "other.hdr.gz").write_bytes(b"no gzip")
    (folder / "other.img.gz").write_bytes(b"no gzip")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("disk.img", "disk.hdr is not there"),
        ("land.img", "of ENVI"),
        ("land.hdr", "of ENVI"),
        ("light.hdr", "light.img is not there"),
        ("other.img.gz", "cannot be read"),
    ],
)
def test_strangers_are_refused_in_true_words(tmp_path, name, words):
    write_strangers(tmp_path)
    with pytest.raises(InputError, match=words) as caught:
        open_image(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_strangers_do_not_disturb_a_folder(tmp_path):
    write_strangers(tmp_path / "in")
    with pytest.raises(InputError, match="holds no image"):
        find_images([tmp_path / "in"])
    write_pair(tmp_path / "in" / "a.img")
    assert [one.path.name for one in find_images([tmp_path / "in"])] == ["a.hdr"]


def test_half_a_pair_is_refused_and_skipped_in_folders(tmp_path):
    write_pair(tmp_path / "a.img")
    write_pair(tmp_path / "b.img")
    (tmp_path / "a.hdr").unlink()
    (tmp_path / "b.img").unlink()
    with pytest.raises(InputError, match=r"a\.hdr is not there"):
        open_image(tmp_path / "a.img")
    with pytest.raises(InputError, match=r"b\.img is not there"):
        open_image(tmp_path / "b.hdr")
    with pytest.raises(InputError, match="holds no image"):
        find_images([tmp_path])


def test_dicom_objects_with_these_names_are_dicom(tmp_path):
    from pydicom.data import get_testdata_file

    shutil.copy(str(get_testdata_file("CT_small.dcm")), tmp_path / "slice.img")
    assert [one.path.name for one in find_images([tmp_path])] == ["slice.img"]
    image = open_image(tmp_path / "slice.img")
    assert image.family == "dicom"
    save_image(image, tmp_path / "out" / "slice.img")
    assert files(tmp_path / "out") == ["slice.img"]
    assert pydicom.dcmread(tmp_path / "out" / "slice.img").Rows == image.height


def test_an_array_is_no_nifti(tmp_path):
    with pytest.raises(OutputError, match="only be written from a NIfTI file"):
        save_image(Image(values((4, 5)), "YX"), tmp_path / "a.img")
    assert files(tmp_path) == []


def test_a_header_of_one_file_with_its_pixels_apart_is_refused(tmp_path):
    nibabel.Nifti1Image(values(), AFFINE).to_filename(tmp_path / "a.nii")
    (tmp_path / "a.nii").rename(tmp_path / "a.hdr")
    (tmp_path / "a.img").write_bytes(bytes(1000))
    with pytest.raises(InputError, match="the same file"):
        open_image(tmp_path / "a.hdr")


@pytest.mark.parametrize("suffix", [".dscalar.nii", ".dtseries.nii"])
def test_cifti_is_refused_in_true_words(tmp_path, suffix):
    brain = nibabel.cifti2.BrainModelAxis.from_mask(np.ones((2, 3, 4), bool), affine=np.eye(4))
    rows = nibabel.cifti2.ScalarAxis(["a", "b"])
    if "series" in suffix:
        rows = nibabel.cifti2.SeriesAxis(0.0, 1.0, 2)
    made = nibabel.Cifti2Image(np.ones((2, 24), np.float32), (rows, brain))
    nibabel.save(made, tmp_path / f"a{suffix}")
    with pytest.raises(InputError, match="on a brain's surface"):
        open_image(tmp_path / f"a{suffix}")


def test_a_pair_that_lies(tmp_path):
    write_pair(tmp_path / "a.img")
    header = bytearray((tmp_path / "a.hdr").read_bytes())
    header[40:56] = struct.pack("<8h", 3, 30000, 30000, 30000, 1, 1, 1, 1)
    (tmp_path / "a.hdr").write_bytes(header)
    with pytest.raises(InputError, match="declares"):
        open_image(tmp_path / "a.img")
