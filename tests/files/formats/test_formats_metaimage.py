"""MetaImage: read as ITK reads it, and written back so that ITK finds everything again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from pairfree.errors import InputError, OutputError
from pairfree.files import Image, Limits, differences, find_images, open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.listing import plan_outputs
from pairfree.files.unchanged import fingerprint

RNG = np.random.default_rng(0)
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def itk(path: Path, data: np.ndarray, compress: bool = False, vector: bool = False) -> np.ndarray:
    """Written by ITK, with spacing, origin, a rotation and a word of its own."""
    image = SimpleITK.GetImageFromArray(data, isVector=vector)
    image.SetSpacing((0.5, 0.75, 2.0)[: image.GetDimension()])
    image.SetOrigin((10.0, -3.0, 7.0)[: image.GetDimension()])
    if image.GetDimension() == 3:
        image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    image.SetMetaData("ScannerName", "number = 7")
    SimpleITK.WriteImage(image, str(path), compress)
    return data


def seen_by_itk(
    path: Path,
) -> tuple[np.ndarray, tuple[float, ...], tuple[float, ...], tuple[float, ...], str]:
    image = SimpleITK.ReadImage(str(path))
    return (
        SimpleITK.GetArrayFromImage(image),
        image.GetSpacing(),
        image.GetOrigin(),
        image.GetDirection(),
        image.GetMetaData("ScannerName"),
    )


def values(shape: tuple[int, ...], dtype: str = "int16") -> np.ndarray:
    return RNG.integers(0, 120, shape).astype(dtype)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", ["a.mhd", "a.mha"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_there_and_back(tmp_path: Path, name: str, dtype: str, compress: bool) -> None:
    data = itk(tmp_path / name, values((3, 9, 12), dtype), compress)
    image = open_image(tmp_path / name)
    assert (image.axes, image.dtype.name, image.metadata["warnings"]) == ("ZYX", dtype, [])
    assert image.spacing == {"X": (0.5, "mm"), "Y": (0.75, "mm"), "Z": (2.0, "mm")}
    np.testing.assert_array_equal(image.pixels, data)
    save_image(image.with_pixels((data + 1).astype(dtype)), tmp_path / "out" / name)
    before, after = seen_by_itk(tmp_path / name), seen_by_itk(tmp_path / "out" / name)
    np.testing.assert_array_equal(after[0], data + 1)
    assert after[1:] == before[1:]
    checks = compare(tmp_path / name, tmp_path / "out" / name)
    assert {one.name for one in checks if one.kept is False} <= {"offset"}
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == sorted(
        {name, "a.raw"} if name == "a.mhd" else {name}
    )


@pytest.mark.parametrize("samples", [2, 3])
def test_elements_with_channels_are_samples(tmp_path: Path, samples: int) -> None:
    data = itk(tmp_path / "a.mha", values((9, 12, samples), "uint8"), vector=True)
    image = open_image(tmp_path / "a.mha")
    assert image.axes == "YXS"
    np.testing.assert_array_equal(image.pixels, data)
    save_image(image, tmp_path / "b.mha")
    np.testing.assert_array_equal(seen_by_itk(tmp_path / "b.mha")[0], data)


def header(path: Path, data: np.ndarray, *lines: str) -> Path:
    sizes = " ".join(map(str, reversed(data.shape)))
    kind = {"<i2": "MET_SHORT", ">i2": "MET_SHORT", "<f4": "MET_FLOAT"}[data.dtype.str]
    text = [
        "ObjectType = Image",
        f"NDims = {data.ndim}",
        f"DimSize = {sizes}",
        f"ElementType = {kind}",
        *lines,
    ]
    path.write_text("\n".join(text) + "\n")
    return path


@pytest.mark.parametrize("listed", ["pattern", "list"])
def test_a_file_for_each_slice(tmp_path: Path, listed: str) -> None:
    data = values((4, 6, 5))
    for number, plane in enumerate(data, 1):
        plane.tofile(tmp_path / f"s_{number:03d}.raw")
    files = (
        "s_%03d.raw 1 4 1"
        if listed == "pattern"
        else "LIST\n" + "\n".join(f"s_{number:03d}.raw" for number in range(1, 5))
    )
    image = open_image(header(tmp_path / "a.mhd", data, f"ElementDataFile = {files}"))
    np.testing.assert_array_equal(image.pixels, data)
    np.testing.assert_array_equal(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "a.mhd"))), data
    )
    stored = open_image(tmp_path / "a.mhd", Limits(resident_bytes=10))
    assert stored.stored
    np.testing.assert_array_equal(stored.pixels, data)
    save_image(stored, tmp_path / "out" / "a.mhd")
    assert differences(image, open_image(tmp_path / "out" / "a.mhd")) == []
    np.testing.assert_array_equal(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "out" / "a.mhd"))), data
    )


def test_a_header_before_the_pixels_and_the_other_byte_order(tmp_path: Path) -> None:
    data = values((6, 5)).astype(">i2")
    (tmp_path / "pixels.bin").write_bytes(b"manufacturer" + data.tobytes())
    for skip in (12, -1):
        lines = (
            f"HeaderSize = {skip}",
            "BinaryDataByteOrderMSB = True",
            "ElementSize = 2 2",
            "ElementDataFile = pixels.bin",
        )
        image = open_image(header(tmp_path / "a.mhd", data, *lines))
        np.testing.assert_array_equal(image.pixels, data)
        assert image.spacing == {"X": (2.0, "mm"), "Y": (2.0, "mm")}
        save_image(image, tmp_path / "b.mhd", overwrite=True)
        assert (tmp_path / "b.raw").read_bytes() == data.tobytes()
        assert differences(image, open_image(tmp_path / "b.mhd")) == []
    longer = open_image(header(tmp_path / "c.mhd", data, "ElementDataFile = pixels.bin"))
    assert "after the pixels" in longer.metadata["warnings"][0]


@pytest.mark.parametrize("skip", [400, -1])
def test_pixels_in_the_same_file_may_begin_anywhere(tmp_path: Path, skip: int) -> None:
    data = values((6, 5)).astype("<i2")
    path = header(tmp_path / "a.mha", data, f"HeaderSize = {skip}", "ElementDataFile = LOCAL")
    path.write_bytes(path.read_bytes().ljust(400, b"#") + data.tobytes())
    np.testing.assert_array_equal(open_image(path).pixels, data)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))), data)


@pytest.mark.parametrize(
    "lines",
    [
        ("BinaryDataByteOrderMSB = T",),
        ("ElementByteOrderMSB = True",),
        ("ElementByteOrderMSB = True", "BinaryDataByteOrderMSB = False"),
        ("BinaryDataByteOrderMSB = False", "ElementByteOrderMSB = True"),
        ("BinaryData = T", "BinaryDataByteOrderMSB: True"),
    ],
)
def test_byte_order_is_what_itk_takes_it_for(tmp_path: Path, lines: tuple[str, ...]) -> None:
    data = values((6, 5)).astype("<i2")
    data.tofile(tmp_path / "a.raw")
    path = header(tmp_path / "a.mhd", data, *lines, "ElementDataFile = a.raw")
    np.testing.assert_array_equal(
        open_image(path).pixels, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    )


@pytest.mark.parametrize(
    "files",
    [
        "s_%03d.raw",
        "s_%03d.raw 1",
        "s_%3.3d.raw 1 9 1",
        "s_%03i.raw 1 4 1",
        "LIST 2D\ns_001.raw\ns_002.raw\ns_003.raw\ns_004.raw\n",
    ],
)
def test_files_of_slices_in_other_words(tmp_path: Path, files: str) -> None:
    data = values((4, 6, 5)).astype("<i2")
    for number, plane in enumerate(data, 1):
        plane.tofile(tmp_path / f"s_{number:03d}.raw")
    path = header(tmp_path / "a.mhd", data, f"ElementDataFile = {files}")
    np.testing.assert_array_equal(open_image(path).pixels, data)
    with (tmp_path / "s_003.raw").open("r+b") as file:
        file.write(b"\1\1")
    before = fingerprint(path)
    time.sleep(0.01)
    data[2].tofile(tmp_path / "s_003.raw")
    assert fingerprint(path) != before  # what is gone on with, or done, is told by all files


def test_planes_of_a_series_in_files_of_their_own(tmp_path: Path) -> None:
    data = values((2, 3, 6, 5)).astype("<i2")
    for number in range(6):
        data.reshape(6, 6, 5)[number].tofile(tmp_path / f"{number}.raw")
    listed = "\n".join(f"{number}.raw" for number in range(6))
    image = open_image(
        header(tmp_path / "a.mhd", data, f"ElementDataFile = LIST 2\n{listed}"),
        Limits(resident_bytes=10),
    )
    np.testing.assert_array_equal(image.pixels, data)


def test_names_in_any_script(tmp_path: Path) -> None:
    data = itk(tmp_path / "übung.mhd", values((6, 5)))
    image = open_image(tmp_path / "übung.mhd")
    np.testing.assert_array_equal(image.pixels, data)
    save_image(image, tmp_path / "out" / "图.mhd")
    np.testing.assert_array_equal(seen_by_itk(tmp_path / "out" / "图.mhd")[0], data)


def test_both_of_two_channels_are_intensities(tmp_path: Path) -> None:
    """Complex numbers and vectors: nothing of them is transparency."""
    itk(tmp_path / "a.mha", values((9, 12, 2), "float32"), vector=True)
    assert open_image(tmp_path / "a.mha").colours == 2


def test_statistics_of_the_old_pixels_are_gone(tmp_path: Path) -> None:
    data = values((6, 5)).astype("<i2")
    data.tofile(tmp_path / "a.raw")
    path = header(
        tmp_path / "a.mhd", data, "ElementMin = 0", "ElementMax = 119", "ElementDataFile = a.raw"
    )
    save_image(open_image(path).with_pixels(data + 7), tmp_path / "out/a.mhd")
    assert "ElementM" not in (tmp_path / "out/a.mhd").read_text()
    checks = compare(path, tmp_path / "out/a.mhd")
    assert {one.name for one in checks if one.kept is False} <= {"offset"}


def test_pixels_of_another_type_are_refused(tmp_path: Path) -> None:
    itk(tmp_path / "a.mha", values((6, 5), "uint8"))
    image = open_image(tmp_path / "a.mha")
    with pytest.raises(OutputError, match="float32"):
        save_image(image.with_pixels(np.full((6, 5), 300.7, np.float32)), tmp_path / "b.mha")


def test_an_input_is_never_replaced_by_its_result(tmp_path: Path) -> None:
    data = values((6, 5)).astype("<i2")
    (tmp_path / "out").mkdir()
    data.tofile(tmp_path / "out/a.raw")
    path = header(tmp_path / "a.mhd", data, "ElementDataFile = out/a.raw")
    with pytest.raises(OutputError, match=r"a\.raw is an input"):
        plan_outputs(find_images([path]), tmp_path / "out", overwrite=True)
    (tmp_path / "in").mkdir()
    itk(tmp_path / "in/x.mhd", values((6, 5)))
    (tmp_path / "in/x.MHD").write_bytes((tmp_path / "in/x.mhd").read_bytes())
    with pytest.raises(OutputError, match=r"x\.MHD and .*x\.mhd would both be written to .*x\.mhd"):
        plan_outputs(find_images([tmp_path / "in"]), tmp_path / "results", overwrite=True)


def test_a_header_that_cannot_be_renamed_leaves_no_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    itk(tmp_path / "a.mha", values((6, 5)))
    image, kept = open_image(tmp_path / "a.mha"), os.replace
    monkeypatch.setattr(
        os,
        "replace",
        lambda a, b: (
            kept(a, b) if str(b).endswith(".raw") else (_ for _ in ()).throw(OSError(5, "no"))
        ),
    )
    with pytest.raises(OutputError):
        save_image(image, tmp_path / "out/a.mhd")
    assert list((tmp_path / "out").iterdir()) == []


def test_pixels_stay_in_the_file(tmp_path: Path) -> None:
    for name in ("a.mhd", "a.mha"):
        data = itk(tmp_path / name, values((3, 9, 12)))
        image = open_image(tmp_path / name, Limits(resident_bytes=10))
        assert image.stored
        np.testing.assert_array_equal(
            image.region((1,), slice(2, 5), slice(3, 9)), data[1, 2:5, 3:9]
        )


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "ends before ElementDataFile"),
        (("ElementDataFile = gone.raw",), "gone.raw, which is not there"),
        (("ElementDataFile = /etc/hostname",), "outside of its folder"),
        (("ElementDataFile = ../a.raw",), "outside of its folder"),
        (("ElementDataFile = %999999999d.raw 1 2 1",), "which is not there"),
        (("ElementDataFile = s_%02d.raw 1 900000 1",), "which is not there"),
        (("ElementDataFile = LIST",), "names 0 files"),
        (("BinaryData = False", "ElementDataFile = a.raw"), "its pixels are text"),
        (("ElementSpacing = wide", "ElementDataFile = a.raw"), "expected numbers"),
        (("HeaderSize = 50", "ElementDataFile = a.raw"), "declares"),
        (("CompressedData = True", "ElementDataFile = a.raw"), "cannot be read"),
        (("DimSize = 30000 30000", "ElementDataFile = a.raw"), "declares 30000x30000"),
        (
            ("NDims = 3", "DimSize = 2 2 999999999", "ElementDataFile = s_%09d.raw"),
            "declares 999999999 files",
        ),
        (("DimSize = 1e999 4", "ElementDataFile = a.raw"), "whole numbers"),
        (("DimSize = -3 4", "ElementDataFile = a.raw"), "holds no pixels"),
        (("DimSize = 4.5 4", "ElementDataFile = a.raw"), "whole numbers"),
        (("ElementType = MET_LONG_LONG", "ElementDataFile = a.raw"), "int64"),
        (("ElementType = MET_ASCII_CHAR", "ElementDataFile = a.raw"), "ElementType"),
    ],
)
def test_headers_that_lie(tmp_path: Path, lines: tuple[str, ...], words: str) -> None:
    data = values((6, 5))
    data.tofile(tmp_path / "a.raw")
    with pytest.raises(InputError, match=words) as caught:
        open_image(header(tmp_path / "a.mhd", data, *lines))
    assert "\n" not in str(caught.value)


def test_a_bomb_is_inflated_no_further_than_declared(tmp_path: Path) -> None:
    itk(tmp_path / "a.mha", np.zeros((64, 512, 512), np.uint8), compress=True)
    data = (tmp_path / "a.mha").read_bytes().replace(b"512 512 64", b"512 512 2 ")
    (tmp_path / "b.mha").write_bytes(data)
    with pytest.raises(InputError, match="more than 524288 bytes"):
        open_image(tmp_path / "b.mha")


def test_what_a_metaimage_cannot_be_written_from(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="only be written from a MetaImage"):
        save_image(Image(np.zeros((4, 5)), "YX", family="metaimage"), tmp_path / "a.mhd")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    itk(tmp_path / "a.mha", values((6, 5)))
    (tmp_path / "b.raw").write_bytes(b"of somebody else")
    with pytest.raises(OutputError, match=r"b\.raw exists already"):
        save_image(open_image(tmp_path / "a.mha"), tmp_path / "b.mhd")
    assert (tmp_path / "b.raw").read_bytes() == b"of somebody else"
    assert not (tmp_path / "b.mhd").exists()


def test_a_folder_lists_headers_and_not_their_pixels(tmp_path: Path) -> None:
    itk(tmp_path / "a.mhd", values((6, 5)))
    assert [one.path.name for one in find_images([tmp_path])] == ["a.mhd"]
