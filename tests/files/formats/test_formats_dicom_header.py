"""DICOM headers: what is repaired, and what is refused when it is read and not after hours of computing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_objects import copied, lost, values, written
from pydicom.dataelem import DataElement
from pydicom.tag import Tag

from pairfree.errors import InputError
from pairfree.files import open_image, save_image
from pairfree.files.formats import dicom_header

SMALLEST, LARGEST = Tag(0x00280106), Tag(0x00280107)
LARGEST_IN_SERIES, PADDING = Tag(0x00280109), Tag(0x00280120)


def with_element(path: Path, tag: int, kind: str, value: Any) -> Path:
    dataset = pydicom.dcmread(path)
    dataset[tag] = DataElement(tag, kind, value)
    dataset.save_as(path)
    return path


def test_extremes_have_the_sign_of_the_pixels(tmp_path: Path) -> None:
    """Unsigned elements in an image of signed values, as some scanners write them."""
    stored = values(low=-900, high=3000, dtype="int16")
    path = written(tmp_path / "a.dcm", stored, 16)
    for tag in (SMALLEST, LARGEST, LARGEST_IN_SERIES):
        with_element(path, tag, "US", 65036)
    image, after = copied(path, add=7)
    assert (after[SMALLEST].VR, after[SMALLEST].value) == ("SS", int(stored.min()) + 7)
    assert (after[LARGEST].VR, after[LARGEST].value) == ("SS", int(stored.max()) + 7)
    assert (after[LARGEST_IN_SERIES].VR, after[LARGEST_IN_SERIES].value) == ("SS", -500)
    (told,) = image.metadata["warnings"]
    assert told == (
        "does not give SmallestImagePixelValue, LargestImagePixelValue, LargestPixelValueInSeries "
        "the sign of its pixels; written back as signed"
    )


def test_extremes_of_unsigned_pixels(tmp_path: Path) -> None:
    stored = values(low=40_000, high=60_000)
    path = with_element(written(tmp_path / "a.dcm", stored, 16), SMALLEST, "SS", -1)
    image, after = copied(path)
    assert (after[SMALLEST].VR, after[SMALLEST].value) == ("US", stored.min())
    assert "unsigned" in image.metadata["warnings"][0]
    right = with_element(written(tmp_path / "b.dcm", stored, 16), SMALLEST, "US", 1)
    assert open_image(right).metadata["warnings"] == []


@pytest.mark.parametrize("implicit", [False, True])
def test_padding_has_the_sign_of_the_pixels(tmp_path: Path, implicit: bool) -> None:
    """63536 is -2000 without its sign."""
    stored = values(low=-900, high=3000, dtype="int16")
    stored[:5, :5] = -2000
    path = written(tmp_path / "a.dcm", stored, 16, implicit=implicit, Modality="MR")
    image, after = copied(with_element(path, PADDING, "US", 63536), add=1)
    assert (after[PADDING].VR, after[PADDING].value) == ("SS", -2000)
    assert bool(image.metadata["warnings"]) != implicit
    np.testing.assert_array_equal(after.pixel_array[:5, :5], -2000)
    np.testing.assert_array_equal(after.pixel_array[5:], stored[5:] + 1)


def test_an_extreme_that_16_bits_cannot_hold_is_left_out(tmp_path: Path) -> None:
    stored = values(low=100_000, high=200_000, dtype="uint32")
    path = with_element(written(tmp_path / "a.dcm", stored, 32), SMALLEST, "US", 5)
    _, after = copied(with_element(path, LARGEST, "US", 5))
    assert SMALLEST not in after
    np.testing.assert_array_equal(after.pixel_array, stored)


def test_what_cannot_be_written_is_refused_when_it_is_read(tmp_path: Path) -> None:
    """No SOP class: pydicom writes no file of it."""
    path = written(tmp_path / "a.dcm", values(), 12)
    dataset = pydicom.dcmread(path)
    del dataset.SOPClassUID
    del dataset.file_meta.MediaStorageSOPClassUID
    dataset.save_as(path)
    with pytest.raises(InputError, match=r"a\.dcm: its header cannot be written back") as caught:
        open_image(path)
    assert "\n" not in str(caught.value)
    assert "SOP" in str(caught.value)


def test_reading_tries_the_functions_that_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the writer cannot do, the reader finds out."""
    path = written(tmp_path / "a.dcm", values(), 12)

    def fail(dataset: Any, file: Any) -> None:
        raise ValueError("With tag (0009,1001) got exception: too long\nTraceback: ...")

    monkeypatch.setattr(dicom_header, "save_dataset", fail)
    with pytest.raises(InputError, match=r"With tag \(0009,1001\) got exception: too long\)"):
        open_image(path)


def test_elements_that_are_not_understood_come_back_byte_for_byte(tmp_path: Path) -> None:
    """A number that is none, and private bytes."""
    path = written(tmp_path / "a.dcm", values(), 12, AcquisitionNumber="4321")
    block = pydicom.dcmread(path)
    private = block.private_block(0x0009, "SOMEONE", create=True)
    private.add_new(0x01, "UN", b"\x01\x02\x03\x04")
    block.save_as(path)
    data = path.read_bytes()
    assert data.count(b"4321") == 1
    path.write_bytes(data.replace(b"4321", b"43x1"))
    save_image(open_image(path), tmp_path / "b.dcm")
    assert lost(path, tmp_path / "b.dcm") == []
    copy = (tmp_path / "b.dcm").read_bytes()
    assert b"43x1" in copy
    assert pydicom.dcmread(tmp_path / "b.dcm")[0x0009, 0x1001].value == b"\x01\x02\x03\x04"
    changed_copy = copy.replace(b"43x1", b"43y1")
    (tmp_path / "b.dcm").write_bytes(changed_copy)
    assert lost(path, tmp_path / "b.dcm") == ["other elements"]


def test_a_value_that_is_not_a_number_is_no_loss(tmp_path: Path) -> None:
    path = with_element(written(tmp_path / "a.dcm", values(), 12), 0x00189073, "FD", float("nan"))
    path = with_element(path, 0x00189087, "FD", [1.5, float("nan")])
    _, after = copied(path)
    with_element(tmp_path / "out-a.dcm", 0x00189073, "FD", 1.0)
    assert lost(path, tmp_path / "out-a.dcm") == ["other elements"]
    assert np.isnan(after[0x00189073].value)


def test_changes_within_sequences_are_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", values(), 12)
    dataset = pydicom.dcmread(path)
    inner = pydicom.Dataset()
    inner.CodeValue, inner.CodeMeaning = "1", "head"
    dataset.AnatomicRegionSequence = [inner]
    dataset.save_as(path)
    _, after = copied(path)
    after.AnatomicRegionSequence[0].CodeMeaning = "foot"
    after.save_as(tmp_path / "out-a.dcm")
    assert lost(path, tmp_path / "out-a.dcm") == ["other elements"]


def test_a_first_element_of_no_known_kind_is_written_as_unknown(tmp_path: Path) -> None:
    """Readers would take its kind for that of a file that names none."""
    path = with_element(written(tmp_path / "a.dcm", values(), 16), 0x00080014, "UI", "1.2.3.45")
    words = path.read_bytes()
    assert words.count(b"\x08\x00\x14\x00UI") == 1
    path.write_bytes(words.replace(b"\x08\x00\x14\x00UI", b"\x01\x00\x14\x00U\xcd"))
    _, after = copied(path)
    assert after.get_item(0x00010014).VR == "UN"
    assert after.get_item(0x00010014).value == b"1.2.3.45"
