"""Compressed DICOM: the values of the native object, whatever the codec; damaged frames in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from pairfree.errors import InputError
from pairfree.files import open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.limits import Limits

LOSSLESS = {
    "1.2.840.10008.1.2.4.57": lambda plane: imagecodecs.ljpeg_encode(plane),
    "1.2.840.10008.1.2.4.70": lambda plane: imagecodecs.ljpeg_encode(plane),
    "1.2.840.10008.1.2.4.80": lambda plane: imagecodecs.jpegls_encode(plane),
    "1.2.840.10008.1.2.4.90": lambda plane: imagecodecs.jpeg2k_encode(
        plane, level=0, codecformat="j2k", reversible=True
    ),
}


def native(name: str) -> pydicom.Dataset:
    return pydicom.dcmread(str(get_testdata_file(name)))


def compressed(path: Path, values: np.ndarray, syntax: str, signed: bool) -> Path:
    """The object of MR_small with other frames: (frames, rows, columns) of 16-bit values."""
    dataset = native("MR_small.dcm")
    dataset.Rows, dataset.Columns = values.shape[1:]
    dataset.NumberOfFrames = len(values)
    dataset.PixelRepresentation = int(signed)
    plain = values.view(np.uint16)
    dataset.PixelData = encapsulate([bytes(LOSSLESS[syntax](plane)) for plane in plain])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize(
    "name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm"]
)
def test_real_objects_are_those_that_were_compressed(name: str, tmp_path: Path) -> None:
    path = Path(str(get_testdata_file(name)))
    image = open_image(path)
    np.testing.assert_array_equal(image.pixels, native("MR_small.dcm").pixel_array)
    save_image(image, tmp_path / "out.dcm")
    assert not [one.name for one in compare(path, tmp_path / "out.dcm") if one.kept is False]
    assert not pydicom.dcmread(tmp_path / "out.dcm").file_meta.TransferSyntaxUID.is_compressed


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_every_lossless_codec(tmp_path: Path, syntax: str, signed: bool) -> None:
    rng = np.random.default_rng(0)
    low, high = (-(2**15), 2**15) if signed else (0, 2**16)
    values = rng.integers(low, high, (3, 40, 33)).astype(np.int16 if signed else np.uint16)
    found = open_image(compressed(tmp_path / "a.dcm", values, syntax, signed))
    np.testing.assert_array_equal(found.pixels, values)
    assert found.axes == "ZYX"


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("overlay", [0, 0x4000])
def test_bits_beside_compressed_values_come_back(
    tmp_path: Path, signed: bool, overlay: int
) -> None:
    """12 bits in words of 16, and a bit above them; without it, signs are repeated there."""
    rng = np.random.default_rng(0)
    low = -2048 if signed else 0
    values = rng.integers(low, low + 4096, (1, 20, 16)).astype(np.int16)
    words = values.view(np.uint16)
    if overlay:
        words = (words & 0xFFF) | np.uint16(overlay)
    path = compressed(tmp_path / "a.dcm", words, "1.2.840.10008.1.2.4.80", signed)
    dataset = pydicom.dcmread(path)
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.save_as(path)
    image = open_image(path)
    np.testing.assert_array_equal(image.pixels, values[0])
    save_image(image, tmp_path / "b.dcm")
    assert pydicom.dcmread(tmp_path / "b.dcm").PixelData == words.tobytes()


def test_compressed_values_in_the_high_bits_are_refused(tmp_path: Path) -> None:
    dataset = native("MR_small_jpeg_ls_lossless.dcm")
    dataset.BitsStored, dataset.HighBit = 12, 15
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="with values in bits 4 to 15"):
        open_image(tmp_path / "a.dcm")


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_twelve_bit_jpeg(name: str) -> None:
    image = open_image(Path(str(get_testdata_file(name))))
    assert (image.shape, image.bit_depth) == ((1024, 256), 12)
    assert image.pixels.max() < 4096
    # The same study in another codec.
    same = open_image(Path(str(get_testdata_file("JPEG2000.dcm"))))
    assert np.corrcoef(image.pixels.ravel(), same.pixels.ravel())[0, 1] > 0.95


def broken(path: Path, change: Any) -> Path:
    dataset = native("MR_small_jp2klossless.dcm")
    change(dataset)
    dataset.save_as(path)
    return path


def frame_of(dataset: pydicom.Dataset) -> bytes:
    return next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))


def other_size(dataset: pydicom.Dataset) -> None:
    dataset.Rows = 63


def more_frames(dataset: pydicom.Dataset) -> None:
    dataset.NumberOfFrames = 3


def cut(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = encapsulate([frame_of(dataset)[:60]])


def no_header(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = encapsulate([b"\0" * 400])


def a_bomb(dataset: pydicom.Dataset) -> None:
    frame = bytearray(frame_of(dataset))
    at = frame.index(b"\xff\x51")
    frame[at + 6 : at + 14] = (2**31 - 1).to_bytes(4, "big") * 2
    dataset.PixelData = encapsulate([bytes(frame)])


def many_components(dataset: pydicom.Dataset) -> None:
    """Each would be decoded, and there may be 16384."""
    coloured = np.zeros((64, 64, 3), np.uint16)
    frame = imagecodecs.jpeg2k_encode(coloured, level=0, codecformat="j2k", reversible=True)
    dataset.PixelData = encapsulate([bytes(frame)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_size, "compressed as an image of"),
        (more_frames, "compressed frames, states 3|cannot be decoded"),
        (cut, "cannot be decoded|compressed as an image of"),
        (no_header, "compressed as an image of None"),
        (a_bomb, "compressed as an image of"),
        (many_components, r"with 3 values a pixel, the object states \(64, 64\) with 1"),
    ],
)
def test_damaged_frames_are_one_line(tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        open_image(broken(tmp_path / "a.dcm", change), Limits(max_bytes=2**26))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_frames_that_are_cut_off_are_refused(tmp_path: Path, syntax: str) -> None:
    """Also by decoders that make a frame of what is there."""
    values = np.arange(1600, dtype=np.uint16).reshape(1, 40, 40) ** 2
    path = compressed(tmp_path / "a.dcm", values, syntax, signed=False)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([frame_of(dataset).rstrip(b"\0")[:-4]])
    dataset.save_as(path)
    with pytest.raises(InputError, match="cannot be decoded"):
        open_image(path)


def test_a_jpeg_of_12_bits_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    dataset = native("JPGExtended.dcm")
    dataset.PixelData = encapsulate([frame_of(dataset)[:-2000]])
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="a picture whose end is missing"):
        open_image(tmp_path / "a.dcm")


def test_colour_in_the_jpeg_family_is_refused() -> None:
    with pytest.raises(InputError, match="colour image compressed as JPEG Baseline"):
        open_image(Path(str(get_testdata_file("SC_rgb_jpeg.dcm"))))
