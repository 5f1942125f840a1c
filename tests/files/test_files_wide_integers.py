"""Whole numbers of 64 bits, and masked arrays: read exactly or refused, never changed without a word."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
import zarr

import pairfree as pf
from pairfree.errors import InputError
from pairfree.files import Image, Limits, differences, open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.wide_integers import type_in_file

SUFFIXES = (".npy", ".nii", ".nii.gz", ".mha", ".mhd", ".tif", ".zarr")
RANGES = {
    ("int64", (-5, 1000)): "int32",
    ("int64", (0, 2**32 - 1)): "uint32",
    ("uint64", (0, 1000)): "uint32",
    ("uint64", (0, 2**32 - 1)): "uint32",
}
"""Types of the pixels, by the type in the file and the range of its values."""


def write(path: Path, values: np.ndarray) -> None:
    """By another package."""
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, values, compression="zlib", photometric="minisblack")
    elif path.suffix == ".zarr":
        zarr.save_array(str(path), values)
    elif ".nii" in path.name:
        nibabel.Nifti1Image(
            values.T, np.diag([1.0, 1.0, 2.0, 1.0]), dtype=values.dtype
        ).to_filename(path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), str(path))


def read(path: Path) -> np.ndarray:
    """By another package."""
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    if path.suffix == ".tif":
        return np.asarray(tifffile.imread(path))
    if path.suffix == ".zarr":
        return np.asarray(zarr.open_array(str(path), mode="r")[...])
    if ".nii" in path.name:
        return np.asarray(nibabel.load(path).dataobj).T  # type: ignore[attr-defined]
    return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))


def values_between(least: int, most: int, dtype: str) -> np.ndarray:
    values = np.random.default_rng(0).integers(least, most, (3, 8, 9), endpoint=True)
    values.flat[:2] = least, most
    return values.astype(dtype)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("dtype", "ends"), list(RANGES))
def test_64_bits_there_and_back(tmp_path, dtype, ends, suffix):
    values = values_between(*ends, dtype)
    path, out = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write(path, values)
    image = open_image(path)
    assert image.dtype.name == RANGES[dtype, ends]
    assert type_in_file(image).name == dtype
    np.testing.assert_array_equal(image.pixels.astype(dtype), values)
    save_image(image, out)
    again = read(out)
    assert again.dtype.name == dtype
    np.testing.assert_array_equal(again, values)
    assert differences(image, open_image(out)) == []
    assert [one.name for one in compare(path, out) if one.kept is False] == []


def test_a_folder_of_64_bits_is_denoised(tmp_path):
    noisy = np.random.default_rng(0).poisson(60.0, (2, 48, 64))
    (tmp_path / "in").mkdir()
    for suffix in SUFFIXES:
        write(tmp_path / "in" / f"a{suffix.replace('.', '_')}{suffix}", noisy.astype(np.int64))
    wanted = {"method": "n2v", "device": "cpu", "report": False}
    pf.train(tmp_path / "in", steps=2, out=tmp_path / "run", **wanted)
    pf.denoise(tmp_path / "run", [tmp_path / "in"], tmp_path / "out")
    assert pf.verify(tmp_path / "in", tmp_path / "out").kept
    assert read(tmp_path / "out" / "a_npy.npy").dtype == np.int64
    assert ("pixel type", "int64") in pf.info(tmp_path / "in" / "a_npy.npy")


def test_a_result_of_another_type_is_a_loss(tmp_path):
    np.save(tmp_path / "a.npy", values_between(0, 9, "int64"))
    np.save(tmp_path / "b.npy", values_between(0, 9, "int32"))
    lost = [one for one in compare(tmp_path / "a.npy", tmp_path / "b.npy") if one.kept is False]
    assert [(one.name, one.before, one.after) for one in lost] == [("pixel type", "int64", "int32")]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("ends", "dtype", "furthest"),
    [
        ((-1, 2**31), "int64", 2**31),
        ((-(2**31) - 1, 0), "int64", -(2**31) - 1),
        ((0, 2**63), "uint64", 2**63),
    ],
)
def test_values_that_do_not_fit_are_named(tmp_path, suffix, ends, dtype, furthest):
    values = np.zeros((3, 8, 9), dtype)
    values[1, 2, 3], values[2, 0, 0] = ends
    write(tmp_path / f"a{suffix}", values)
    with pytest.raises(InputError, match=f"and {furthest} does not fit"):
        open_image(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".npy", ".nii", ".mha"])
def test_64_bits_are_read_whole_or_refused(tmp_path, suffix):
    values = values_between(0, 9, "int64")
    write(tmp_path / f"a{suffix}", values)
    image = open_image(tmp_path / f"a{suffix}", Limits(resident_bytes=10))
    assert not image.stored
    with pytest.raises(InputError, match="read whole"):
        open_image(tmp_path / f"a{suffix}", Limits(resident_bytes=10, max_bytes=1000))


def test_scaled_64_bits(tmp_path):
    made = nibabel.Nifti1Image(values_between(-4, 90, "int64").T, np.eye(4), dtype=np.int64)
    made.header.set_slope_inter(0.5, 3.0)
    made.to_filename(tmp_path / "a.nii")
    image = open_image(tmp_path / "a.nii")
    np.testing.assert_allclose(image.pixels, read(tmp_path / "a.nii"))
    save_image(image, tmp_path / "b.nii")
    assert (tmp_path / "b.nii").read_bytes() == (tmp_path / "a.nii").read_bytes()


def test_big_endian_64_bits(tmp_path):
    values = values_between(-5, 70000, "int64").astype(">i8")
    np.save(tmp_path / "a.npy", values)
    image = open_image(tmp_path / "a.npy")
    np.testing.assert_array_equal(image.pixels, values)
    save_image(image, tmp_path / "b.npy")
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


# -- masked arrays -------------------------------------------------------------------------------------------


def masked(shape: tuple[int, ...], dtype: str = "float32") -> np.ma.MaskedArray:
    rng = np.random.default_rng(0)
    values = rng.normal(100.0, 9.0, shape).astype(dtype)
    mask = rng.random(shape) < 0.02
    values[mask] = 9999
    return np.ma.MaskedArray(values, mask)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_masked_floats_are_nan(tmp_path, dtype):
    given = masked((20, 30), dtype)
    image = Image(given, "YX")
    assert not isinstance(image.pixels, np.ma.MaskedArray)
    np.testing.assert_array_equal(np.isnan(image.pixels), given.mask)
    np.testing.assert_array_equal(image.pixels[~given.mask], given.data[~given.mask])
    assert (given.data[given.mask] == np.array(9999).astype(dtype)).all()
    save_image(image, tmp_path / "a.npy")
    np.testing.assert_array_equal(np.isnan(np.load(tmp_path / "a.npy")), given.mask)


def test_masked_whole_numbers_are_refused_with_a_remedy():
    given = masked((20, 30), "uint16")
    with pytest.raises(InputError, match=r"pixels are masked, and uint16 has no NaN") as caught:
        Image(given, "YX")
    assert f"{given.mask.sum()} of its 600" in str(caught.value)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(Image(np.ma.MaskedArray(given.data), "YX").pixels, given.data)


def test_training_and_denoising_take_masked_arrays_by_one_rule(tmp_path):
    given = masked((2, 48, 48))
    wanted = {"method": "n2v", "device": "cpu", "report": False}
    for images in (given, list(given)):
        with pytest.raises(InputError, match="NaN"):
            pf.train(images, steps=1, **wanted)
    with pytest.raises(InputError, match=r"noisy image 0: .* are masked, and uint16"):
        pf.train(given.astype(np.uint16), steps=1, **wanted)
    pf.train(given, steps=2, nan="mask", out=tmp_path / "run", **wanted)
    model = pf.load(tmp_path / "run", nan="mask")
    filled = given.filled(np.nan)
    expected = model.denoise(filled)
    found = model.denoise(given)
    assert isinstance(found, np.ma.MaskedArray)
    assert found.dtype == given.dtype
    np.testing.assert_array_equal(found.mask, given.mask)
    np.testing.assert_array_equal(found.data[~given.mask], expected[~given.mask])
    np.testing.assert_array_equal(found.data[given.mask], given.data[given.mask])
    with pytest.raises(InputError, match="NaN"):
        pf.load(tmp_path / "run").denoise(given)
    with pytest.raises(InputError, match="are masked, and uint16"):
        model.denoise(given.astype(np.uint16))


def test_masked_channels_are_denoised_jointly(tmp_path):
    given = masked((48, 48, 3))
    wanted = {"method": "n2v", "device": "cpu", "report": False, "nan": "mask"}
    pf.train([np.moveaxis(given, -1, 0)], steps=2, out=tmp_path / "run", **wanted)
    model = pf.load(tmp_path / "run", nan="mask")
    found = model.denoise(given, axes="YXC")
    np.testing.assert_array_equal(found.mask, given.mask)
    assert np.isfinite(found.data).all()


def test_what_was_unsigned_does_not_wrap_below_0(tmp_path):
    np.save(tmp_path / "a.npy", np.full((64, 64), 3, "u8"))
    image = open_image(tmp_path / "a.npy")
    assert image.dtype == np.uint32  # to which results are clipped
