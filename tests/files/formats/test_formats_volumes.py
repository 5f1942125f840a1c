"""MRC and NIfTI: read as independent packages do, and written back with all that the file said."""

from __future__ import annotations

import warnings
from pathlib import Path

import mrcfile
import nibabel
import numpy as np
import pytest

import pairfree as pf
from pairfree.errors import InputError, OutputError
from pairfree.files import Image, differences, find_images, open_image, open_sink, save_image
from pairfree.files.listing import without_suffix

RNG = np.random.default_rng(0)
AFFINE = np.array([[0, -1.5, 0, 10.0], [1.5, 0, 0, -5], [0, 0, 3, 2], [0, 0, 0, 1]])


def values(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return RNG.integers(0, 120, shape).astype(dtype)


def mrc(path: Path, data: np.ndarray, kind: str = "volume", voxel: float = 1.5) -> np.ndarray:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(data)
        if kind == "stack":
            file.set_image_stack()
        file.voxel_size = voxel
        file.set_extended_header(np.frombuffer(b"tilt angles and all" * 8, dtype="V1"))
        file.header.exttyp = b"FEI1"
        file.header.origin.x = 3.0
        file.header.nxstart = -7
        file.add_label("from the microscope")
    return data


# -- MRC -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float32", "float16"])
@pytest.mark.parametrize(
    ("shape", "kind", "axes"),
    [((9, 12), "image", "YX"), ((3, 9, 12), "volume", "ZYX"), ((3, 9, 12), "stack", "QYX")],
)
def test_mrc_there_and_back(tmp_path, dtype, shape, kind, axes):
    data = mrc(tmp_path / "a.mrc", values(shape, dtype), kind)
    image = open_image(tmp_path / "a.mrc")
    assert (image.axes, image.dtype.name, image.metadata["warnings"]) == (axes, dtype, [])
    np.testing.assert_array_equal(image.pixels, data)
    assert image.spacing == {axis: (1.5, "Å") for axis in axes if axis in "ZYX"}
    changed = image.with_pixels((image.pixels + 1).astype(dtype))
    save_image(changed, tmp_path / "b.mrc")
    assert differences(image, open_image(tmp_path / "b.mrc")) == []
    with mrcfile.open(tmp_path / "a.mrc") as before, mrcfile.open(tmp_path / "b.mrc") as after:
        np.testing.assert_array_equal(after.data, changed.pixels)
        assert after.extended_header.tobytes() == before.extended_header.tobytes()
        expected = changed.pixels.astype(np.float64)
        for name in before.header.dtype.names:
            if name in ("dmin", "dmax", "dmean", "rms"):
                continue
            if name in ("nlabl", "label"):
                assert [
                    text for text in before.get_labels() if text in after.get_labels()
                ] == before.get_labels()
                continue
            assert before.header[name].tobytes() == after.header[name].tobytes(), name
        assert float(after.header.dmean) == pytest.approx(expected.mean(), rel=1e-6)
        assert (float(after.header.dmin), float(after.header.dmax)) == (
            expected.min(),
            expected.max(),
        )
    if dtype != "float16":  # mrcfile computes the deviation of float16 in float16, which overflows
        assert mrcfile.validate(tmp_path / "b.mrc", print_file=open("/dev/null", "w"))  # noqa: SIM115, PTH123


def test_a_volume_stack_keeps_its_volumes(tmp_path):
    data = values((2, 3, 8, 9), "int16")
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(data)
        file.set_volume() if data.ndim == 3 else None
    image = open_image(tmp_path / "a.mrc")
    assert (image.axes, image.shape) == ("QZYX", (2, 3, 8, 9))
    save_image(image, tmp_path / "b.mrc")
    with mrcfile.open(tmp_path / "b.mrc") as file:
        assert file.is_volume_stack()
        np.testing.assert_array_equal(file.data, data)


def test_sections_of_a_stack_file_are_images_of_their_own(tmp_path):
    mrc(tmp_path / "a.mrcs", values((3, 9, 12), "int16"))
    assert open_image(tmp_path / "a.mrcs").axes == "QYX"


def test_imods_unsigned_bytes_stay_unsigned(tmp_path):
    mrc(tmp_path / "a.st", values((2, 9, 12), "int8"))
    raw = bytearray((tmp_path / "a.st").read_bytes())
    raw[152:160] = (1146047817).to_bytes(4, "little") + (0).to_bytes(4, "little")
    start = len(raw) - 2 * 9 * 12
    raw[start] = 250
    (tmp_path / "a.st").write_bytes(raw)
    image = open_image(tmp_path / "a.st")
    assert (image.dtype.name, image.pixels[0, 0, 0]) == ("uint8", 250)
    save_image(image, tmp_path / "b.st")
    again = (tmp_path / "b.st").read_bytes()
    assert again[start:] == bytes(raw[start:])
    assert again[152:160] == bytes(raw[152:160])


def test_a_big_endian_mrc_is_read(tmp_path):
    data = mrc(tmp_path / "a.mrc", values((3, 9, 12), "float32"))
    with mrcfile.open(tmp_path / "a.mrc") as file:
        header, extended = file.header.copy(), file.extended_header.tobytes()
    swapped = header.byteswap()
    swapped["machst"] = (17, 17, 0, 0)
    for name in ("exttyp", "map", "label", "extra1", "extra2"):
        swapped[name] = header[name]
    (tmp_path / "big.mrc").write_bytes(swapped.tobytes() + extended + data.astype(">f4").tobytes())
    image = open_image(tmp_path / "big.mrc")
    np.testing.assert_array_equal(image.pixels, data)
    save_image(image, tmp_path / "b.mrc")
    assert differences(image, open_image(tmp_path / "b.mrc")) == []


def test_odd_axis_orders_are_kept_and_told(tmp_path):
    mrc(tmp_path / "a.mrc", values((3, 9, 12), "int16"))
    with mrcfile.open(tmp_path / "a.mrc", mode="r+") as file:
        file.header.mapc, file.header.maps = 3, 1
    image = open_image(tmp_path / "a.mrc")
    assert image.spacing == {}
    assert "another order" in image.metadata["warnings"][0]
    save_image(image, tmp_path / "b.mrc")
    with mrcfile.open(tmp_path / "b.mrc") as file:
        assert (int(file.header.mapc), int(file.header.maps)) == (3, 1)


@pytest.mark.parametrize(
    ("mode", "words"),
    [(3, "complex integers"), (4, "a transform"), (77, "no pixel type")],
)
def test_mrc_pixels_that_are_no_intensities_are_refused(tmp_path, mode, words):
    mrc(tmp_path / "a.mrc", values((3, 9, 12), "int16"))
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    raw[12:16] = mode.to_bytes(4, "little")
    (tmp_path / "a.mrc").write_bytes(raw)
    with pytest.raises(InputError, match=words):
        open_image(tmp_path / "a.mrc")


def test_what_mrc_cannot_hold_is_refused(tmp_path):
    with pytest.raises(OutputError, match="no float64 pixels"):
        save_image(Image(np.zeros((4, 5)), "YX", family="mrc"), tmp_path / "a.mrc")
    assert not (tmp_path / "a.mrc").exists()


def test_an_mrc_of_another_origin_has_its_pixel_size(tmp_path):
    save_image(
        Image(values((4, 5), "int16"), "YX", {"X": (2.0, "Å"), "Y": (2.0, "Å")}, family="mrc"),
        tmp_path / "a.mrc",
    )
    assert open_image(tmp_path / "a.mrc").spacing == {"Y": (2.0, "Å"), "X": (2.0, "Å")}


# -- NIfTI ---------------------------------------------------------------------------------------------------


def nifti(
    path: Path,
    stored: np.ndarray,
    scaling: tuple[float, float] | None = None,
    kind: type = nibabel.Nifti1Image,
) -> None:
    made = kind(stored, AFFINE)
    made.header.set_xyzt_units("mm", "sec")
    made.header["descrip"] = b"3 T, T2"
    made.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
    made.header.set_slope_inter(*(scaling or (None, None)))
    made.set_sform(AFFINE, 3)
    made.set_qform(AFFINE, 1)
    made.to_filename(path)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("scaling", [None, (0.37, -12.5), (-2.0, 1000.0)])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64", ">i2"]
)
def test_nifti_there_and_back_bit_by_bit(tmp_path, dtype, scaling, suffix, kind):
    """What is only read and written must not change: stored values and every header field.

    Scaled floats come back to rounding.
    """
    stored = values((7, 9, 5), dtype)
    nifti(tmp_path / f"a{suffix}", stored, scaling, kind)
    image = open_image(tmp_path / f"a{suffix}")
    reference = nibabel.load(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(image.pixels, np.asarray(reference.dataobj).T, rtol=1e-6)
    assert image.axes == "ZYX"
    assert image.spacing == {"Z": (3.0, "mm"), "Y": (1.5, "mm"), "X": (1.5, "mm")}
    save_image(image, tmp_path / f"b{suffix}")
    after = nibabel.load(tmp_path / f"b{suffix}")
    assert type(after) is kind
    exact = scaling is None or stored.dtype.kind != "f"
    found, expected = after.dataobj.get_unscaled(), reference.dataobj.get_unscaled()
    np.testing.assert_allclose(found, expected, rtol=0 if exact else 1e-12)
    np.testing.assert_array_equal(after.affine, reference.affine)
    assert after.header.extensions[0].get_content() == b"kept"
    for name in reference.header:
        np.testing.assert_array_equal(after.header[name], reference.header[name], name)
    if suffix == ".nii" and exact:
        assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()


@pytest.mark.parametrize(
    ("shape", "axes"), [((6, 5), "YX"), ((6, 5, 4, 3), "TZYX"), ((6, 5, 4, 3, 2), "QTZYX")]
)
def test_nifti_dimensions_are_space_then_time(tmp_path, shape, axes):
    stored = values(shape, "int16")
    nifti(tmp_path / "a.nii", stored)
    image = open_image(tmp_path / "a.nii")
    assert image.axes == axes
    np.testing.assert_array_equal(image.pixels, stored.T)
    save_image(image, tmp_path / "b.nii")
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "b.nii").dataobj), stored)


def test_denoised_values_beyond_the_stored_type_are_cut_at_its_ends(tmp_path):
    nifti(tmp_path / "a.nii", values((7, 9, 5), "uint8"), (2.0, -100.0))
    image = open_image(tmp_path / "a.nii")
    assert image.limits == (-100.0, 410.0)
    pixels = image.pixels.copy()
    pixels[0, 0, :2] = (-5000.0, 5000.0)
    save_image(image.with_pixels(pixels), tmp_path / "b.nii")
    assert open_image(tmp_path / "b.nii").pixels[0, 0, :2].tolist() == [-100.0, 410.0]


def test_nifti_needs_its_header(tmp_path):
    with pytest.raises(OutputError, match="only be written from a NIfTI file"):
        save_image(Image(np.zeros((4, 5), np.float32), "YX", family="nifti"), tmp_path / "a.nii")


def test_colour_and_complex_voxels_are_refused(tmp_path):
    colour = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.Nifti1Image(colour, AFFINE).to_filename(tmp_path / "a.nii")
    with pytest.raises(InputError, match="records"):
        open_image(tmp_path / "a.nii")
    nibabel.Nifti1Image(np.zeros((4, 5, 6), np.complex64), AFFINE).to_filename(tmp_path / "b.nii")
    with pytest.raises(InputError, match="complex"):
        open_image(tmp_path / "b.nii")


# -- both ----------------------------------------------------------------------------------------------------


def test_the_longest_suffix_counts(tmp_path):
    assert without_suffix(Path("scan.nii.gz")) == Path("scan")
    assert without_suffix(Path("scan.v2.nii")) == Path("scan.v2")
    assert without_suffix(Path("notes.gz")) == Path("notes.gz")
    assert without_suffix(Path(".nii.gz")) == Path(".nii.gz")
    for name in ("a.nii.gz", "b.NII", "c.MRC", "d.gz"):
        (tmp_path / name).write_bytes(b"x")
    assert [entry.relative.name for entry in find_images([tmp_path])] == [
        "a.nii.gz",
        "b.NII",
        "c.MRC",
    ]


@pytest.mark.parametrize("name", ["a.mrc", "a.nii.gz"])
def test_volumes_are_trained_on_denoised_and_keep_what_they_were(tmp_path, name):
    """The whole way: a noisy volume in, the same kind of file out, plane by plane through a sink."""
    (tmp_path / "in").mkdir()
    noisy = np.random.default_rng(1).normal(500, 60, (3, 40, 48)).astype(np.int16)
    if name.endswith("mrc"):
        mrc(tmp_path / "in" / name, noisy)
    else:
        nifti(tmp_path / "in" / name, noisy.T)
    settings = {"width": 4, "patch_px": 32, "batch_size": 2, "precision": "float32"}
    pf.train(
        tmp_path / "in",
        method="nb2nb",
        steps=3,
        settings=settings,
        out=tmp_path / "run",
        report=False,
    )
    pf.denoise(tmp_path / "run", [tmp_path / "in"], tmp_path / "out")
    before, after = (open_image(tmp_path / folder / name) for folder in ("in", "out"))
    assert differences(before, after) == []
    assert not np.array_equal(before.pixels, after.pixels)
    with open_sink(before, tmp_path / f"again_{name}") as sink:
        for index in range(3):
            sink.write((index,), before.pixels[index])
        sink.commit()
    np.testing.assert_array_equal(open_image(tmp_path / f"again_{name}").pixels, before.pixels)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    mrc(tmp_path / "a.mrc", values((9, 12), "int16"))
    monkeypatch.setitem(__import__("sys").modules, "mrcfile", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="pip install mrcfile"):
            open_image(tmp_path / "a.mrc")


@pytest.mark.parametrize("missing", [0.1, 1.0])
def test_mrc_statistics_are_of_the_pixels_that_are_numbers(tmp_path, missing):
    pixels = np.random.default_rng(0).normal(50.0, 4.0, (3, 40, 40)).astype(np.float32)
    gone = np.random.default_rng(1).random(pixels.shape) < missing
    pixels[gone] = np.nan
    save_image(Image(pixels, "QYX", family="mrc"), tmp_path / "a.mrc")
    with mrcfile.open(tmp_path / "a.mrc", permissive=True) as mrc:
        header = mrc.header
        if missing == 1.0:
            assert header.dmax < header.dmin
            assert header.dmean < header.dmax
            assert header.rms < 0
            return
        known = pixels[~gone]
        assert (header.dmin, header.dmax) == (known.min(), known.max())
        assert header.dmean == pytest.approx(known.mean(), rel=1e-6)
        assert header.rms == pytest.approx(known.std(), rel=1e-5)


def test_an_mrc_without_a_cell_states_no_pixel_size(tmp_path):
    pixels = np.random.default_rng(0).normal(50.0, 4.0, (3, 40, 40)).astype(np.float32)
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(pixels)
        mrc.voxel_size = 2.0
        mrc.header.mx = mrc.header.my = mrc.header.mz = 0
    image = open_image(tmp_path / "a.mrc")
    assert image.spacing == {}
    save_image(image, tmp_path / "b.mrc")
    with mrcfile.open(tmp_path / "b.mrc", permissive=True) as mrc:
        assert (int(mrc.header.mx), float(mrc.header.cella.x)) == (0, 80.0)
