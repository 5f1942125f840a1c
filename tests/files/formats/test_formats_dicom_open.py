"""DICOM files that lack their mark or are deflated: read where sound, never inflated without bound."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_objects import as_colours, changed, copied, lost, values, written
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pairfree.errors import InputError, NoImageError
from pairfree.files import Limits, open_image, save_image
from pairfree.files.formats import dicom_open
from pairfree.files.formats.dicom_open import begins_as_dicom

BEFORE_ELEMENTS = 132
"""Bytes of the preamble and the mark."""


def meta_end(data: bytes) -> int:
    """Where the data set of a file of pydicom's begins."""
    return BEFORE_ELEMENTS + 12 + int.from_bytes(data[140:144], "little")


def deflated(path: Path, stored: np.ndarray, **elements: Any) -> Path:
    dataset = pydicom.dcmread(written(path, stored, 12, **elements))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    return path


def repacked(path: Path, change: Any) -> Path:
    """A deflated file with other bytes inside."""
    data = path.read_bytes()
    start = meta_end(data)
    inside = change(zlib.decompress(data[start:], -zlib.MAX_WBITS))
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = b"".join(packer.compress(part) for part in inside) + packer.flush()
    path.write_bytes(data[:start] + packed)
    return path


@pytest.mark.parametrize("header_bytes", [2**24, 2**10])
def test_a_deflated_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header_bytes: int
) -> None:
    """Small ones are inflated at once, others in two steps."""
    monkeypatch.setattr(dicom_open, "HEADER_BYTES", header_bytes)
    stored = values((40, 50), high=4000)
    image, after = copied(deflated(tmp_path / "a.dcm", stored), add=3)
    np.testing.assert_array_equal(image.pixels, stored.astype(np.int32) - 1024)
    np.testing.assert_array_equal(after.pixel_array, stored + 3)
    assert after.file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"


def test_a_real_deflated_object(tmp_path: Path) -> None:
    path = Path(str(get_testdata_file("image_dfl.dcm")))
    image = open_image(path)
    np.testing.assert_array_equal(image.pixels, pydicom.dcmread(path).pixel_array)
    save_image(image, tmp_path / "a.dcm")
    assert lost(path, tmp_path / "a.dcm") == []


def megabytes(first: bytes, count: int) -> Any:
    yield first
    for _ in range(count):
        yield bytes(2**20)


def most_memory(path: Path, words: str, limits: Limits | None = None) -> int:
    """Bytes that a refusal takes."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=words) as caught:
            open_image(path, limits or Limits())
        assert "\n" not in str(caught.value)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_deflated_bomb_behind_the_pixels(tmp_path: Path) -> None:
    """100 MB behind an image of 4 kB."""
    path = deflated(tmp_path / "a.dcm", values((40, 50)))
    path = repacked(path, lambda inside: megabytes(inside, 100))
    assert most_memory(path, "inflates to more than it declares") < 60e6


def test_a_deflated_bomb_of_a_header(tmp_path: Path) -> None:
    """One private element of 100 MB in front of everything else."""
    path = deflated(tmp_path / "a.dcm", values((40, 50)))
    size = (100 * 2**20).to_bytes(4, "little")
    element = b"\x08\x00\x01\x00OB\0\0" + size
    path = repacked(path, lambda inside: megabytes(element, 100))
    assert most_memory(path, "its deflated header inflates to more than 16.0 MiB") < 60e6


def test_a_deflated_object_that_declares_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An honest one of 10 MB, beyond the limit; and one that could not hold what it declares."""
    big = values((2000, 2500), high=3)
    path = deflated(tmp_path / "a.dcm", big)
    with monkeypatch.context() as small_header:
        small_header.setattr(dicom_open, "HEADER_BYTES", 2**16)
        assert most_memory(path, "may be read whole", Limits(max_bytes=2**20)) < 9e6
    # 60000 x 60000 pixels declared by a few kB
    small = deflated(tmp_path / "b.dcm", values((40, 50)), Rows=60000, Columns=60000)
    assert most_memory(small, "declares 1x60000x60000") < 50e6
    assert most_memory(
        repacked(small, lambda inside: megabytes(inside, 50)), "declares 1x60000x60000"
    ) < 80e6  # fmt: skip


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("header_bytes", [2**24, 2**10])
def test_a_deflated_object_that_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, header_bytes: int
) -> None:
    monkeypatch.setattr(dicom_open, "HEADER_BYTES", header_bytes)
    path = deflated(tmp_path / "a.dcm", values((64, 64)))
    data = path.read_bytes()
    start = meta_end(data)
    path.write_bytes(data[: start + int(share * (len(data) - start))])
    with pytest.raises(InputError, match=r"a\.dcm.*(cut off|less than it declares)"):
        open_image(path)


@pytest.mark.parametrize(("big", "implicit"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("meta", [False, True])
def test_objects_without_the_mark(tmp_path: Path, big: bool, implicit: bool, meta: bool) -> None:
    """Elements from the first byte: those of the file, or only the object's."""
    stored = values()
    path = written(tmp_path / "a.dcm", stored, 12, big=big, implicit=implicit)
    data = path.read_bytes()
    path.write_bytes(data[BEFORE_ELEMENTS if meta else meta_end(data) :])
    image, after = copied(path, add=2)
    np.testing.assert_array_equal(image.pixels, stored.astype(np.int32) - 1024)
    np.testing.assert_array_equal(after.pixel_array, stored + 2)
    told = image.metadata["warnings"]
    assert told[0].startswith("lacks DICOM's preamble and mark")
    assert [line.startswith("states no transfer syntax") for line in told[1:]] == [True] * (
        not meta
    )
    syntax = after.file_meta.TransferSyntaxUID
    assert (syntax.is_implicit_VR, syntax.is_little_endian) == (implicit, not big)
    assert (tmp_path / "out-a.dcm").read_bytes()[128:132] == b"DICM"


def test_one_element_of_the_file_is_enough(tmp_path: Path) -> None:
    """The transfer syntax in explicit elements, and the object behind it in implicit ones."""
    stored = values()
    path = written(tmp_path / "a.dcm", stored, 12, implicit=True)
    data = path.read_bytes()
    syntax = b"\x02\0\x10\0UI\x12\x001.2.840.10008.1.2\0"
    path.write_bytes(syntax + data[meta_end(data) :])
    image, _ = copied(path)
    np.testing.assert_array_equal(image.pixels, stored.astype(np.int32) - 1024)


def test_a_deflated_object_without_the_mark(tmp_path: Path) -> None:
    stored = values((40, 50))
    path = deflated(tmp_path / "a.dcm", stored)
    path.write_bytes(path.read_bytes()[BEFORE_ELEMENTS:])
    np.testing.assert_array_equal(open_image(path).pixels, stored.astype(np.int32) - 1024)


def test_a_file_that_states_no_transfer_syntax(tmp_path: Path) -> None:
    stored = values()
    path = written(tmp_path / "a.dcm", stored, 12)
    dataset = pydicom.dcmread(path)
    del dataset.file_meta.TransferSyntaxUID
    dataset.save_as(path, implicit_vr=False, little_endian=True)
    image, _ = copied(path)
    np.testing.assert_array_equal(image.pixels, stored.astype(np.int32) - 1024)
    assert image.metadata["warnings"] == [
        "states no transfer syntax; its elements are read as Explicit VR Little Endian"
    ]


def test_other_bytes_are_no_dicom() -> None:
    """Whatever they are; and never by chance."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        assert not begins_as_dicom(rng.bytes(400))
        # The tag of an object's first element, and then noise.
        assert not begins_as_dicom(b"\x08\x00\x05\x00" + rng.bytes(400))
    for data in (b"", b"\0" * 4096, b"\x08\x00" * 500, b"not DICOM " * 90, b"II*\0" + bytes(500)):
        assert not begins_as_dicom(data)


@pytest.mark.parametrize("data", [b"", b"\0" * 5000, b"\x89PNG\r\n\x1a\n" * 60])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    with pytest.raises(InputError, match="is no DICOM file"):
        open_image(path)


def test_real_objects_without_the_mark() -> None:
    """Those of pydicom hold no image, and are said to."""
    for name in ("ExplVR_LitEndNoMeta.dcm", "ExplVR_BigEndNoMeta.dcm"):
        with pytest.raises(NoImageError, match="without Rows, Columns, PixelData"):
            open_image(Path(str(get_testdata_file(name))))


def test_a_name_without_suffix_needs_the_mark(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", values(), 12)
    bare = tmp_path / "1.2.840.7"
    bare.write_bytes(path.read_bytes()[BEFORE_ELEMENTS:])
    with pytest.raises(InputError, match="not supported"):
        open_image(bare)


def test_deflated_colours_that_share_their_chrominance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data are two thirds of what they become."""
    monkeypatch.setattr(dicom_open, "HEADER_BYTES", 2**10)
    pairs = values((60, 50, 4), high=256, dtype="uint8")
    path = written(tmp_path / "a.dcm", pairs[..., 0], 8, Modality="US")
    as_colours(path, pairs, 60, 100, "YBR_FULL_422")
    plain = open_image(path).pixels
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    np.testing.assert_array_equal(open_image(path).pixels, plain)
    short = changed(path, Rows=90)
    with pytest.raises(InputError, match="truncated"):
        open_image(short)
