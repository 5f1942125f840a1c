"""MRC files that are packed with gzip or bzip2, and those of 4 bits."""

from __future__ import annotations

import bz2
import gzip
import struct
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from pairfree.errors import InputError, OutputError
from pairfree.files import Image, Limits, differences, find_images, open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.listing import without_suffix

PACK = {".gz": gzip.compress, ".bz2": bz2.compress}
UNPACK = {".gz": gzip.decompress, ".bz2": bz2.decompress}


def values(shape: tuple[int, ...], dtype: str = "int16", below: int = 120) -> np.ndarray:
    return np.random.default_rng(0).integers(0, below, shape).astype(dtype)


def plain_mrc(path: Path, data: np.ndarray) -> bytes:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(data)
        file.voxel_size = 1.5
        file.set_extended_header(np.frombuffer(b"tilt angles and all" * 8, dtype="V1"))
        file.header.exttyp = b"FEI1"
        file.header.nxstart = -7
    return path.read_bytes()


@pytest.mark.parametrize("packing", [".gz", ".bz2"])
@pytest.mark.parametrize("suffix", [".mrc", ".mrcs", ".map", ".ccp4", ".rec", ".st"])
def test_packed_files_come_back_packed_alike(tmp_path, suffix, packing):
    data = values((3, 9, 12))
    packed = PACK[packing](plain_mrc(tmp_path / "a.mrc", data))
    path, out = tmp_path / f"in{suffix}{packing}", tmp_path / f"out{suffix}{packing}"
    path.write_bytes(packed)
    image = open_image(path)
    np.testing.assert_array_equal(image.pixels, data)
    assert image.axes == ("QYX" if suffix in (".mrcs", ".st") else "ZYX")
    assert (image.spacing["X"], image.metadata["warnings"]) == ((1.5, "Å"), [])
    changed = image.with_pixels(data + 1)
    save_image(changed, out)
    assert differences(image, open_image(out)) == []
    assert all(check.kept is not False for check in compare(path, out))
    unpacked = tmp_path / "plain.mrc"
    unpacked.write_bytes(UNPACK[packing](out.read_bytes()))
    assert mrcfile.validate(unpacked, print_file=(tmp_path / "log").open("w"))
    with mrcfile.open(out) as by_others:  # unpacks by itself
        np.testing.assert_array_equal(by_others.data, data + 1)
        assert by_others.extended_header.tobytes() == b"tilt angles and all" * 8
        assert int(by_others.header.nxstart) == -7
    save_image(changed, tmp_path / f"again{suffix}{packing}")
    assert (tmp_path / f"again{suffix}{packing}").read_bytes() == out.read_bytes()


@pytest.mark.parametrize("packing", [".gz", ".bz2"])
def test_packed_files_are_read_whole_or_refused(tmp_path, packing):
    path = tmp_path / f"a.mrc{packing}"
    path.write_bytes(PACK[packing](plain_mrc(tmp_path / "a.mrc", values((3, 9, 12)))))
    assert not open_image(path, Limits(resident_bytes=10)).stored
    with pytest.raises(InputError, match="read whole"):
        open_image(path, Limits(resident_bytes=10, max_bytes=600))
    with pytest.raises(InputError, match="limit of 300 pixels"):
        open_image(path, Limits(max_pixels=300))


@pytest.mark.parametrize("suffix", [".ccp4", ".preali"])
def test_more_names_of_plain_files(tmp_path, suffix):
    data = values((3, 9, 12))
    (tmp_path / f"a{suffix}").write_bytes(plain_mrc(tmp_path / "a.mrc", data))
    np.testing.assert_array_equal(open_image(tmp_path / f"a{suffix}").pixels, data)


def test_names_of_packed_files_are_understood(tmp_path):
    (tmp_path / "emd_1.map.gz").write_bytes(
        gzip.compress(plain_mrc(tmp_path / "b.mrc", values((4, 5))))
    )
    assert [one.path.name for one in find_images([tmp_path])] == ["b.mrc", "emd_1.map.gz"]
    assert without_suffix(Path("emd_1.map.gz")) == Path("emd_1")


def test_an_array_is_packed_as_its_name_says(tmp_path):
    save_image(Image(values((4, 5)), "YX"), tmp_path / "a.mrc.gz")
    with gzip.open(tmp_path / "a.mrc.gz") as file:
        assert len(file.read()) == 1024 + 40


@pytest.mark.parametrize("packing", [".gz", ".bz2"])
def test_bytes_after_packed_pixels_are_told(tmp_path, packing):
    data = plain_mrc(tmp_path / "a.mrc", values((4, 5)))
    (tmp_path / f"a.mrc{packing}").write_bytes(PACK[packing](data + b"more"))
    assert "after the pixels" in open_image(tmp_path / f"a.mrc{packing}").metadata["warnings"][0]


@pytest.mark.parametrize("packing", [".gz", ".bz2"])
@pytest.mark.parametrize("keep", [500, 1030, -1])
def test_packed_files_that_end_early_are_refused(tmp_path, packing, keep):
    data = plain_mrc(tmp_path / "a.mrc", values((40, 50)))
    (tmp_path / f"a.mrc{packing}").write_bytes(PACK[packing](data[:keep]))
    with pytest.raises(InputError, match="truncated"):
        open_image(tmp_path / f"a.mrc{packing}")


def four_bits(path: Path, columns: int, big_endian: bool = False) -> np.ndarray:
    """A file as the definition of the type says: two values a byte, the first in the low bits."""
    pixels = values((3, 6, columns), "uint8", below=16)
    rows = []
    for row in pixels.reshape(-1, columns):
        padded = [*row.tolist(), 0]
        pairs = [padded[at] + 16 * padded[at + 1] for at in range(0, columns, 2)]
        rows.append(bytes(pairs))
    data = bytearray(plain_mrc(path, pixels.astype(np.int8))[:1024])
    data[12:16] = struct.pack("<i", 101)
    data[92:96] = struct.pack("<i", 0)
    if big_endian:
        words = np.frombuffer(bytes(data[:208]), "<i4").astype(">i4")
        data[:208] = words.tobytes()
        data[212:216] = b"\x11\x11\0\0"
        data[216:220] = bytes(data[216:220])[::-1]
        data[220:224] = bytes(data[220:224])[::-1]
    path.write_bytes(bytes(data) + b"".join(rows))
    return pixels


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("columns", [12, 13, 1])
def test_four_bits_there_and_back(tmp_path, columns, big_endian):
    pixels = four_bits(tmp_path / "a.mrc", columns, big_endian)
    image = open_image(tmp_path / "a.mrc")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert (image.dtype.name, image.limits, image.bit_depth) == ("uint8", (0.0, 15.0), 4)
    save_image(image, tmp_path / "b.mrc")
    before, after = ((tmp_path / name).read_bytes() for name in ("a.mrc", "b.mrc"))
    assert after[1024:] == before[1024:]
    assert struct.unpack_from("<4i", after) == (columns, 6, 3, 101)
    assert all(check.kept is not False for check in compare(tmp_path / "a.mrc", tmp_path / "b.mrc"))
    with mrcfile.open(tmp_path / "b.mrc", header_only=True) as by_others:
        assert int(by_others.header.mode) == 101
        assert float(by_others.header.dmax) == pixels.max()


@pytest.mark.parametrize("columns", [12, 13])
def test_four_bits_that_stay_in_their_file(tmp_path, columns):
    pixels = four_bits(tmp_path / "a.mrc", columns)
    image = open_image(tmp_path / "a.mrc", Limits(resident_bytes=1))
    assert image.stored
    np.testing.assert_array_equal(image.pixels, pixels)
    for start, stop in ((0, 4), (1, 4), (3, columns), (4, 5), (5, 6)):
        part = image.region((1,), slice(2, 5), slice(start, stop))
        np.testing.assert_array_equal(part, pixels[1, 2:5, start:stop])


def test_verify_finds_that_four_bits_have_become_eight(tmp_path):
    four_bits(tmp_path / "a.mrc", 12)
    pixels = open_image(tmp_path / "a.mrc").pixels
    plain_mrc(tmp_path / "b.mrc", pixels.astype(np.int8))
    lost = {
        one.name for one in compare(tmp_path / "a.mrc", tmp_path / "b.mrc") if one.kept is False
    }
    assert {"values of 4 bits", "bit depth", "pixel type"} <= lost


def test_four_bits_hold_no_more_than_15(tmp_path):
    four_bits(tmp_path / "a.mrc", 12)
    image = open_image(tmp_path / "a.mrc")
    with pytest.raises(OutputError, match="0 to 15"):
        save_image(image.with_pixels(image.pixels + 1), tmp_path / "b.mrc")
    assert not (tmp_path / "b.mrc").exists()


def test_four_bits_in_bytes_are_refused_in_true_words(tmp_path):
    data = bytearray(plain_mrc(tmp_path / "a.mrc", values((4, 6), "int8")))
    data[152:160] = struct.pack("<2i", 1146047817, 16)
    (tmp_path / "a.mrc").write_bytes(data)
    with pytest.raises(InputError, match="two 4-bit values"):
        open_image(tmp_path / "a.mrc")


def test_big_endian_bytes_are_read(tmp_path):
    """Their type is number 0, which is the same in both byte orders."""
    data = bytearray(plain_mrc(tmp_path / "a.mrc", values((3, 4, 6), "int8")))
    words = np.frombuffer(bytes(data[:196]), "<i4").astype(">i4")
    data[:196] = words.tobytes()
    data[212:216] = b"\x11\x11\0\0"
    data[220:224] = bytes(data[220:224])[::-1]
    (tmp_path / "b.mrc").write_bytes(data)
    np.testing.assert_array_equal(
        open_image(tmp_path / "b.mrc").pixels, open_image(tmp_path / "a.mrc").pixels
    )


def test_volumes_that_do_not_share_out_the_sections_are_refused(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(values((2, 3, 8, 9)))
        file.header.mz = 4
    with pytest.raises(InputError, match="6 sections in volumes of 4"):
        open_image(tmp_path / "a.mrc")
