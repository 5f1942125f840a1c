"""Values in DICOM's words: where they lie, overlays in the bits beside them, padding, floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_objects import changed, copied, lost, values, written
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfree.errors import InputError
from pairfree.files import open_image, save_image
from pairfree.files.formats.dicom_words import Words, split_words


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_words_are_values_and_the_bits_beside_them(data: st.DataObject) -> None:
    """Any words come back from their values, which others compute bit by bit."""
    dtype = np.dtype(data.draw(st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4"])))
    width = 8 * dtype.itemsize
    bits = data.draw(st.integers(1, width))
    shift = data.draw(st.integers(0, width - bits))
    drawn = data.draw(st.lists(st.integers(0, 2**width - 1), min_size=1, max_size=6))
    words = np.array(drawn, f"u{dtype.itemsize}")
    values, kept = split_words(words, Words(dtype, bits, shift))
    expected = [word >> shift & 2**bits - 1 for word in drawn]
    if dtype.kind == "i":
        expected = [value - 2**bits * (value >> bits - 1) for value in expected]
    assert values.tolist() == expected
    assert values.dtype == dtype
    low, high = kept.stored_range or (0, 0)
    assert low <= min(expected) <= max(expected) <= high
    np.testing.assert_array_equal(kept.join(values), words)
    other = kept.join(np.full(len(words), high, dtype))
    again, beside = split_words(other, Words(dtype, bits, shift))
    assert set(again.tolist()) == {high}
    if kept.beside is not None and beside.beside is not None:
        np.testing.assert_array_equal(kept.beside, beside.beside)


def drawn() -> np.ndarray:
    """An overlay: a box."""
    box = np.zeros((20, 24), np.uint16)
    box[4:9, 5:15] = 1
    return box


def with_overlay(path: Path, stored: np.ndarray, bit: int, **elements: Any) -> Path:
    """An object with values of 12 bits and the box in one of the bits above them."""
    words = stored.astype(np.uint16) & 0xFFF | drawn() << bit
    path = written(path, words, 12, PixelRepresentation=int(stored.dtype.kind == "i"), **elements)
    dataset = pydicom.dcmread(path)
    for element, kind, value in (
        (0x0010, "US", 20),
        (0x0011, "US", 24),
        (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 16),
        (0x0102, "US", bit),
    ):
        dataset.add_new((0x6000, element), kind, value)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
@pytest.mark.parametrize("bit", [12, 15])
def test_an_overlay_in_the_words_comes_back(tmp_path: Path, dtype: str, bit: int) -> None:
    low = -2000 if dtype == "int16" else 0
    stored = values(low=low, high=2000, dtype=dtype)
    path = with_overlay(tmp_path / "a.dcm", stored, bit)
    image, after = copied(path, add=5)
    np.testing.assert_array_equal(image.pixels, stored.astype(np.int32) - 1024)
    np.testing.assert_array_equal(after.pixel_array, stored + 5)
    words = np.frombuffer(after.PixelData, "<u2").reshape(20, 24)
    np.testing.assert_array_equal(words >> 12, drawn() << (bit - 12))
    assert image.metadata["warnings"] == []
    others = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "out-a.dcm")))
    np.testing.assert_array_equal(np.squeeze(others), stored.astype(np.int32) + 5 - 1024)


def test_an_erased_overlay_is_found(tmp_path: Path) -> None:
    path = with_overlay(tmp_path / "a.dcm", values(), 12)
    save_image(open_image(path), tmp_path / "b.dcm")
    after = pydicom.dcmread(tmp_path / "b.dcm")
    words = np.frombuffer(after.PixelData, "<u2")
    after.PixelData = (words & 0xFFF).tobytes()
    after.save_as(tmp_path / "b.dcm")
    assert lost(path, tmp_path / "b.dcm") == ["bits beside the values"]
    moved = words ^ np.uint16(1 << 13)
    after.PixelData = moved.tobytes()
    after.save_as(tmp_path / "b.dcm")
    assert lost(path, tmp_path / "b.dcm") == ["bits beside the values"]


def test_bits_that_nothing_explains_are_kept_and_told(tmp_path: Path) -> None:
    words = values(high=4096) | np.uint16(0x4000)
    image, after = copied(written(tmp_path / "a.dcm", words, 12), add=-1)
    assert after.PixelData == ((words & 0xFFF) - (words & 0xFFF > 0) | 0x4000).tobytes()
    assert "480 pixels have bits set beside the 12 that are stored" in image.metadata["warnings"][0]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("big", [False, True])
def test_values_in_the_high_bits(tmp_path: Path, signed: bool, big: bool) -> None:
    """12 bits up to bit 15, and something else in the four below."""
    dtype = np.int16 if signed else np.uint16
    stored = values(low=-2048 if signed else 0, high=2047, dtype=np.dtype(dtype).name)
    below = values(high=16, dtype="uint16")
    words = (stored << 4).view(np.uint16) | below
    path = written(tmp_path / "a.dcm", words.view(dtype), 12, big=big, HighBit=15)
    image, after = copied(path, add=1)
    np.testing.assert_array_equal(image.pixels, stored.astype(np.int32) - 1024)
    order = ">u2" if big else "<u2"
    found = np.frombuffer(after.PixelData, order).reshape(stored.shape)
    np.testing.assert_array_equal(found & 15, below)
    np.testing.assert_array_equal(found.astype(np.uint16).view(dtype) >> 4, stored + 1)
    assert "beside the 12 that are stored" in image.metadata["warnings"][0]


def test_a_high_bit_that_is_not_true(tmp_path: Path) -> None:
    """12 bits in the lowest 12, and a header that has them in the highest; SimpleITK reads as we do."""
    stored = values(low=-2048, high=2047, dtype="int16")
    path = written(tmp_path / "a.dcm", stored, 12, HighBit=15)
    image, after = copied(path, add=1)
    np.testing.assert_array_equal(image.pixels, stored.astype(np.int32) - 1024)
    others = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "out-a.dcm")))
    np.testing.assert_array_equal(np.squeeze(others), stored.astype(np.int32) + 1 - 1024)
    np.testing.assert_array_equal(after.pixel_array, stored + 1)
    assert after.HighBit == 15
    assert image.metadata["warnings"][0].startswith("states values in bits 4 to 15")


def test_values_in_the_high_bits_with_nothing_below(tmp_path: Path) -> None:
    stored = values(high=200)
    path = written(tmp_path / "a.dcm", stored << 4, 12, HighBit=15)
    image, after = copied(path, add=1)
    np.testing.assert_array_equal(image.pixels, stored.astype(np.int32) - 1024)
    assert after.PixelData == ((stored + 1) << 4).tobytes()
    assert image.metadata["warnings"] == []


def test_signs_are_repeated_where_they_were(tmp_path: Path) -> None:
    stored = values(low=-2048, high=2000, dtype="int16")
    _, after = copied(written(tmp_path / "a.dcm", stored, 12), add=40)
    assert after.PixelData == (stored + 40).tobytes()
    empty = (stored.view(np.uint16) & 0xFFF).view(np.int16)
    _, after = copied(written(tmp_path / "b.dcm", empty, 12), add=40)
    assert after.PixelData == ((stored + 40).view(np.uint16) & 0xFFF).tobytes()


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"HighBit": 10}, "12 bits up to bit 10 of 16"),
        ({"HighBit": 16}, "12 bits up to bit 16 of 16"),
        ({"BitsStored": 17, "HighBit": 16}, "17 bits up to bit 16 of 16"),
        ({"BitsStored": 0}, "0 bits up to"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "it is a mask"),
        ({"BitsAllocated": 64}, "64 bits a pixel are not supported"),
    ],
)
def test_bits_that_make_no_sense_are_refused(
    tmp_path: Path, elements: dict[str, int], words: str
) -> None:
    path = changed(written(tmp_path / "a.dcm", values(), 12), **elements)
    with pytest.raises(InputError, match=words):
        open_image(path)


def test_padding_beyond_the_stored_bits(tmp_path: Path) -> None:
    """Some scanners pad 12 unsigned bits with -2000; these words come back, and are no intensity."""
    stored = values(low=10, high=4000)
    stored[:6, :6] = 63536
    path = written(tmp_path / "a.dcm", stored, 12, PixelPaddingValue=63536, Modality="MR")
    image, after = copied(path, add=3)
    measured = np.ones(stored.shape, bool)
    measured[:6, :6] = False
    assert (image.pixels[~measured] == image.pixels[measured].min()).all()
    words = np.frombuffer(after.PixelData, "<u2").reshape(stored.shape)
    assert (words[~measured] == 63536).all()
    np.testing.assert_array_equal(words[measured], stored[measured] + 3)


@pytest.mark.parametrize(
    ("keyword", "dtype"), [("FloatPixelData", "float32"), ("DoubleFloatPixelData", "float64")]
)
@pytest.mark.parametrize("big", [False, True])
def test_floats(tmp_path: Path, keyword: str, dtype: str, big: bool) -> None:
    stored = np.random.default_rng(0).normal(0, 1e3, (2, 7, 9)).astype(dtype)
    padding = keyword.replace("Data", "PaddingValue")
    stored[:, 0, 0] = -1e6
    path = written(
        tmp_path / "a.dcm",
        stored,
        big=big,
        pixels=keyword,
        BitsStored=None,
        HighBit=None,
        PixelRepresentation=None,
        RescaleSlope=None,
        RescaleIntercept=None,
        Modality="MR",
        **{padding: -1e6},
    )
    image, after = copied(path, add=0.5)
    assert (image.dtype, image.axes, image.bit_depth, image.limits) == (dtype, "ZYX", None, None)
    expected = stored + np.array(0.5, dtype)
    expected[:, 0, 0] = -1e6
    np.testing.assert_array_equal(after.pixel_array, expected)
    assert keyword in after
    assert "PixelData" not in after
    both = pydicom.dcmread(path)
    both.add_new("PixelData", "OW", b"\0" * 10)
    both.save_as(path)
    with pytest.raises(InputError, match=f"has PixelData and {keyword}"):
        open_image(path)


def test_floats_of_another_width_are_refused(tmp_path: Path) -> None:
    stored = values().astype(np.float32)
    path = written(tmp_path / "a.dcm", stored, pixels="FloatPixelData", BitsAllocated=16)
    with pytest.raises(InputError, match="16 bits a pixel, expected 32"):
        open_image(path)
