"""Kinds of TIFF that are rare: packed bits, colour tables, picture codecs, odd samples, several images."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfree.errors import InputError, OutputError
from pairfree.files import open_image, save_image
from pairfree.files.fidelity import compare
from pairfree.files.formats import codec_headers
from pairfree.files.formats.jpeg_header import has_end
from pairfree.files.formats.tiff_codecs import PICTURES, can_pack
from pairfree.files.formats.tiff_tags import Edit, edit_tags
from pairfree.files.image import Image
from pairfree.files.limits import DEFAULT
from pairfree.files.opening import rehearse_output

RNG = np.random.default_rng(5)
NEEDS_PACKING = pytest.mark.skipif(not can_pack(), reason="needs a newer imagecodecs")


def counts(*shape: int, most: int = 4000, dtype: str = "u2") -> np.ndarray:
    """Random whole numbers."""
    return RNG.integers(0, most, shape).astype(dtype)


def round_trip(path: Path) -> tuple[Image, list[str], Image]:
    """An image, what verify says that its copy has lost, and the copy."""
    image = open_image(path)
    copy = path.with_name("copies") / path.name
    save_image(image, copy)
    lost = [check.name for check in compare(path, copy) if check.kept is False]
    return image, lost, open_image(copy)


def pack(path: Path, values: np.ndarray, bits: int, fill_order: int = 1) -> None:
    """An uncompressed TIFF of packed unsigned integers, written byte by byte."""
    rows = [imagecodecs.packints_encode(row, bits) for row in values]
    data = b"".join(rows)
    if fill_order == 2:
        data = imagecodecs.bitorder_encode(data)
    height, width = values.shape
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 1)]
    tags += [
        (266, 3, fill_order),
        (273, 4, 200),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(data)),
    ]
    body = b"II*\0" + struct.pack("<IH", 8, len(tags))
    body += b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags)
    path.write_bytes((body + bytes(4)).ljust(200, b"\0") + data)


# -- packed bits ---------------------------------------------------------------------------------------------


@NEEDS_PACKING
@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize("bits", [2, 3, 4, 6, 10, 12, 14, 24])
def test_packed_bits_are_read_and_come_back_packed(
    tmp_path: Path, bits: int, fill_order: int
) -> None:
    dtype = "u1" if bits <= 8 else "u2" if bits <= 16 else "u4"
    values = counts(41, 51, most=2**bits, dtype=dtype)
    pack(tmp_path / "a.tif", values, bits, fill_order)
    image, lost, again = round_trip(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.pixels, values)
    assert image.bit_depth == bits
    assert image.limits == (0, 2**bits - 1)
    assert lost == []
    np.testing.assert_array_equal(again.pixels, values)
    with tifffile.TiffFile(tmp_path / "copies/a.tif") as written:
        assert written.pages[0].aspage().bitspersample == bits
        np.testing.assert_array_equal(written.asarray(), values)


@NEEDS_PACKING
@pytest.mark.parametrize("options", [{"tile": (32, 48)}, {"rowsperstrip": 7}])
def test_packed_bits_in_strips_and_tiles(tmp_path: Path, options: dict[str, Any]) -> None:
    values = counts(3, 70, 61, most=2**12)
    tifffile.imwrite(
        tmp_path / "a.tif", values, bitspersample=12, photometric="minisblack", **options
    )
    image, lost, again = round_trip(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.pixels, values)
    np.testing.assert_array_equal(again.pixels, values)
    assert lost == []


@NEEDS_PACKING
def test_packed_bits_that_were_compressed_come_back_packed(tmp_path: Path) -> None:
    values = counts(41, 51, most=2**12)
    pack(tmp_path / "a.tif", values, 12)
    packed = imagecodecs.deflate_encode((tmp_path / "a.tif").read_bytes()[200:])
    place = (tmp_path / "a.tif").stat().st_size
    with (tmp_path / "a.tif").open("ab") as file:
        file.write(packed)
    tags = [(259, 3, 1, struct.pack("<H", 8)), (273, 4, 1, struct.pack("<I", place))]
    tags += [(279, 4, 1, struct.pack("<I", len(packed)))]
    edit_tags(tmp_path / "a.tif", Edit(frozenset(), tuple(tags)))
    image, lost, again = round_trip(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.pixels, values)
    np.testing.assert_array_equal(again.pixels, values)
    assert image.metadata["warnings"] == ["values of 12 bits come back packed and not compressed"]
    assert lost == []


@NEEDS_PACKING
def test_a_truncated_packed_file_is_truncated(tmp_path: Path) -> None:
    pack(tmp_path / "a.tif", counts(40, 40), 12)
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[:-9])
    with pytest.raises(InputError, match=r"truncated|cut off"):
        open_image(tmp_path / "a.tif")


# -- colour tables -------------------------------------------------------------------------------------------


def table(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> np.ndarray:
    return np.stack([red, green, blue]).astype(np.uint16)


RAMP = np.arange(256) * 257
TABLES = {
    "grey": table(RAMP, RAMP, RAMP),
    "inverted": table(RAMP[::-1], RAMP[::-1], RAMP[::-1]),
    "green": table(0 * RAMP, RAMP, 0 * RAMP),
    "fire": table(np.minimum(3 * RAMP, 65535), np.clip(3 * RAMP - 65535, 0, 65535), 0 * RAMP),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_show_intensities_are_kept(tmp_path: Path, name: str) -> None:
    values = counts(40, 50, most=256, dtype="u1")
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=TABLES[name])
    image, lost, again = round_trip(tmp_path / "a.tif")
    assert image.axes == "YX"
    np.testing.assert_array_equal(again.pixels, values)
    assert lost == []
    with tifffile.TiffFile(tmp_path / "copies/a.tif") as written:
        np.testing.assert_array_equal(written.pages[0].aspage().colormap, TABLES[name])


def test_tables_of_colours_are_refused(tmp_path: Path) -> None:
    labels = RNG.integers(0, 65536, (3, 256)).astype(np.uint16)
    values = counts(40, 50, most=256, dtype="u1")
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=labels)
    with pytest.raises(InputError, match="indices of a colour table"):
        open_image(tmp_path / "a.tif")


# -- picture codecs ------------------------------------------------------------------------------------------

CODECS = ("jpeg2000", "jpegxl", "lerc", "jpegxr", "png")


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("codec", CODECS)
def test_pictures_in_tiles_are_read_as_others_read_them(
    tmp_path: Path, codec: str, dtype: str
) -> None:
    values = counts(3, 70, 61, most=250, dtype=dtype)
    tifffile.imwrite(
        tmp_path / "a.tif", values, compression=codec, tile=(32, 48), photometric="minisblack"
    )
    image, lost, again = round_trip(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.pixels, tifffile.imread(tmp_path / "a.tif"))
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert "compression is replaced by deflate" in image.metadata["warnings"][0]
    assert lost == []


@pytest.mark.parametrize("codec", ["webp", "jpegxl", "png", "jpeg2000"])
def test_pictures_of_colours(tmp_path: Path, codec: str) -> None:
    values = counts(70, 61, 3, most=250, dtype="u1")
    tifffile.imwrite(
        tmp_path / "a.tif", values, compression=codec, photometric="rgb", rowsperstrip=70
    )
    image, lost, _ = round_trip(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.pixels, tifffile.imread(tmp_path / "a.tif"))
    assert lost == []


@pytest.mark.parametrize(
    ("code", "packer"), [(1, imagecodecs.deflate_encode), (2, imagecodecs.zstd_encode)]
)
def test_lerc_that_is_packed_once_more(tmp_path: Path, code: int, packer: Any) -> None:
    values = RNG.random((40, 50)).astype(np.float32)
    packed = packer(imagecodecs.lerc_encode(values))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    place = len(data)
    (tmp_path / "a.tif").write_bytes(data + packed)
    tags = [(259, 3, 1, struct.pack("<H", 34887)), (273, 4, 1, struct.pack("<I", place))]
    tags += [
        (279, 4, 1, struct.pack("<I", len(packed))),
        (50674, 4, 2, struct.pack("<II", 4, code)),
    ]
    edit_tags(tmp_path / "a.tif", Edit(frozenset(), tuple(tags)))
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").pixels, values)


ENCODERS = {
    7: imagecodecs.jpeg8_encode,
    22610: imagecodecs.jpegxr_encode,
    34712: imagecodecs.jpeg2k_encode,
    34887: imagecodecs.lerc_encode,
    34933: imagecodecs.png_encode,
    50001: lambda grey: imagecodecs.webp_encode(np.stack([grey] * 3, -1)),
    50002: imagecodecs.jpegxl_encode,
}


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 700), columns=st.integers(1, 700))
def test_declared_sizes_are_those_of_the_pictures(rows: int, columns: int) -> None:
    grey = np.full((rows, columns), 7, np.uint8)
    for code, encode in ENCODERS.items():
        assert PICTURES[code](bytes(encode(grey))) == (rows, columns)
    boxed = bytes(imagecodecs.jpegxl_encode(grey, usecontainer=True))
    assert codec_headers.size_of_jpeg_xl(boxed) == (rows, columns)
    stream = bytes(imagecodecs.jpeg2k_encode(grey, codecformat="j2k"))
    assert codec_headers.size_of_jpeg_2000(stream) == (rows, columns)


@pytest.mark.parametrize("code", sorted(ENCODERS))
def test_sizes_of_damaged_pictures_are_none_or_numbers(code: int) -> None:
    whole = bytes(ENCODERS[code](np.full((60, 50), 7, np.uint8)))
    for _ in range(300):
        data = bytearray(whole[: int(RNG.integers(0, len(whole)))])
        if data:
            data[int(RNG.integers(len(data)))] ^= int(RNG.integers(1, 256))
        found = PICTURES[code](bytes(data))
        assert found is None or all(isinstance(side, int) for side in found)


@pytest.mark.parametrize("codec", CODECS)
def test_a_picture_that_is_larger_than_its_tile_is_refused_before_it_is_decoded(
    tmp_path: Path, codec: str, monkeypatch: Any
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", counts(64, 64, most=9, dtype="u1"), compression=codec)
    bomb = bytes(
        getattr(imagecodecs, f"{codec.replace('2000', '2k')}_encode")(np.zeros((4096, 4096), "u1"))
    )
    place = (tmp_path / "a.tif").stat().st_size
    with (tmp_path / "a.tif").open("ab") as file:
        file.write(bomb)
    tags = [(273, 4, 1, struct.pack("<I", place)), (279, 4, 1, struct.pack("<I", len(bomb)))]
    edit_tags(tmp_path / "a.tif", Edit(frozenset(), tuple(tags)))
    monkeypatch.setattr(tifffile.TiffPage, "decode", lambda *_, **__: pytest.fail("was decoded"))
    with pytest.raises(
        InputError, match=r"picture of size \(4096, 4096\) in a strip or tile of \(64, 64\)"
    ):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000"])
@pytest.mark.parametrize("colours", [False, True])
def test_pictures_of_large_files_stay_there_until_asked_for(
    tmp_path: Path, codec: str, colours: bool
) -> None:
    """Slides are tiles of JPEG, larger than the memory."""
    shape = (2, 200, 150, 3) if colours else (2, 200, 150)
    values = np.repeat(counts(*shape, most=250, dtype="u1")[:, ::4], 4, axis=1)
    kind = "rgb" if colours else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", values, compression=codec, tile=(64, 64), photometric=kind)
    stays = open_image(tmp_path / "a.tif", replace(DEFAULT, resident_bytes=10))
    assert stays.stored
    whole = tifffile.imread(tmp_path / "a.tif")
    rows, columns = slice(30, 170), slice(50, 149)
    np.testing.assert_array_equal(stays.region((1,), rows, columns), whole[1, rows, columns])
    np.testing.assert_array_equal(stays.pixels, whole)


# -- samples -------------------------------------------------------------------------------------------------


def without_extra_samples(path: Path) -> None:
    edit_tags(path, Edit(frozenset({338})))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("stack", [False, True])
@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize(
    ("photometric", "samples"), [("minisblack", 3), ("rgb", 4), ("minisblack", 2)]
)
def test_samples_with_and_without_their_kinds(
    tmp_path: Path, photometric: str, samples: int, declared: bool, stack: bool, planar: Any
) -> None:
    shape = (40, 50, samples) if planar == "contig" else (samples, 40, 50)
    values = counts(*((2,) if stack else ()), *shape)
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric=photometric, planarconfig=planar, metadata=None
    )
    if not declared:
        without_extra_samples(tmp_path / "a.tif")
    image, lost, again = round_trip(tmp_path / "a.tif")
    assert lost == []
    assert image.axes == ("QYXS" if stack else "YXS")
    np.testing.assert_array_equal(again.pixels, image.pixels)
    with (
        tifffile.TiffFile(tmp_path / "a.tif") as one,
        tifffile.TiffFile(tmp_path / "copies/a.tif") as two,
    ):
        before, after = [file.pages[0].aspage().tags.get(338) for file in (one, two)]
        assert (before is None) == (after is None) == (not declared)
        np.testing.assert_array_equal(one.asarray(), two.asarray())


# -- several images ------------------------------------------------------------------------------------------


def write_images(path: Path, sizes: list[int], **stated: Any) -> list[np.ndarray]:
    """An OME-TIFF of several images, such as the positions of a stage."""
    arrays = [counts(2, side, 50) for side in sizes]
    with tifffile.TiffWriter(path, ome=True) as writer:
        for number, array in enumerate(arrays):
            words = {
                "axes": "ZYX",
                "Name": f"Pos{number}",
                "PhysicalSizeX": 0.1,
                "PhysicalSizeY": 0.1,
            }
            writer.write(array, metadata=words | stated, photometric="minisblack")
    return arrays


def test_positions_that_are_alike_are_all_read_and_described(tmp_path: Path) -> None:
    arrays = write_images(tmp_path / "a.ome.tif", [40, 40, 40])
    image, lost, again = round_trip(tmp_path / "a.ome.tif")
    assert image.axes == "QZYX"
    assert image.metadata["warnings"] == []
    np.testing.assert_array_equal(image.pixels, np.stack(arrays))
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert lost == []
    with tifffile.TiffFile(tmp_path / "copies/a.ome.tif") as written:
        assert [series.name for series in written.series] == ["Pos0", "Pos1", "Pos2"]
        for series, array in zip(written.series, arrays, strict=True):
            np.testing.assert_array_equal(series.asarray(), array)


def test_images_of_other_sizes_are_scenes(tmp_path: Path) -> None:
    arrays = write_images(tmp_path / "a.ome.tif", [40, 48, 56])
    assert open_image(tmp_path / "a.ome.tif").metadata["warnings"] == [
        "the file holds 3 images; only the first is used (2x48x50, 2x56x50 left out; choose with `scene`)"
    ]
    for number, array in enumerate(arrays):
        image = open_image(tmp_path / "a.ome.tif", scene=number)
        np.testing.assert_array_equal(image.pixels, array)
        assert image.metadata["warnings"] == []
        save_image(image, tmp_path / f"{number}.ome.tif")
        with tifffile.TiffFile(tmp_path / f"{number}.ome.tif") as written:
            assert [series.name for series in written.series] == [f"Pos{number}"]
            np.testing.assert_array_equal(written.asarray(), array)
    with pytest.raises(InputError, match="no image of number 3; it holds 3 images, numbers 0 to 2"):
        open_image(tmp_path / "a.ome.tif", scene=3)


def test_pages_of_several_sizes_without_a_description_are_scenes(tmp_path: Path) -> None:
    arrays = [counts(40, 50), counts(30, 20), counts(64, 64)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for array in arrays:
            writer.write(
                array, metadata=None, resolution=(20000, 20000), resolutionunit="CENTIMETER"
            )
    for number, array in enumerate(arrays):
        image = open_image(tmp_path / "a.tif", scene=number)
        np.testing.assert_array_equal(image.pixels, array)
        save_image(image, tmp_path / f"{number}.tif")
        again = open_image(tmp_path / f"{number}.tif")
        assert again.spacing == image.spacing == {"Y": (0.5, "µm"), "X": (0.5, "µm")}
        np.testing.assert_array_equal(again.pixels, array)


def test_a_file_with_one_image_has_no_second(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", counts(40, 50))
    np.save(tmp_path / "a.npy", counts(40, 50))
    for name in ("a.tif", "a.npy"):
        open_image(tmp_path / name, scene=0)
        with pytest.raises(InputError, match="no image of number 1; it holds one image"):
            open_image(tmp_path / name, scene=1)


def test_another_compression_is_found(tmp_path: Path) -> None:
    values = counts(40, 50)
    for name, packing in (("a.tif", "zlib"), ("b.tif", None)):
        tifffile.imwrite(tmp_path / name, values, compression=packing, metadata=None)
    lost = [
        check for check in compare(tmp_path / "a.tif", tmp_path / "b.tif") if check.kept is False
    ]
    assert [(check.name, check.before, check.after) for check in lost] == [
        ("compression", "DEFLATE", "NONE")
    ]


def test_brightness_and_hues_are_told_by_their_name(tmp_path: Path) -> None:
    """Uncompressed, and so refused by its colours and not as truncated."""
    values = counts(40, 50, 3, most=250, dtype="u1")
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", metadata=None)
    as_ycbcr = (262, 3, 1, struct.pack("<H", 6))
    halves = (530, 3, 2, struct.pack("<HH", 2, 2))
    edit_tags(tmp_path / "a.tif", Edit(frozenset(), (as_ycbcr,)))
    with pytest.raises(InputError, match="colours are stored as YCbCr"):
        open_image(tmp_path / "a.tif")
    edit_tags(tmp_path / "a.tif", Edit(frozenset(), (halves,)))
    with pytest.raises(InputError, match="colours are stored as YCbCr"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize(("kind", "words"), [(32803, "a mosaic of colours"), (99, "is not known")])
@pytest.mark.parametrize("scene", [0, 1])
def test_pixels_that_are_no_intensities_of_one_kind_are_refused(
    tmp_path: Path, kind: int, words: str, scene: int
) -> None:
    """In any image of the file: raw files of cameras begin with a thumbnail in colours."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for side in (24, 48):
            writer.write(counts(side, side), photometric="minisblack", metadata=None)
    tags = ((262, 3, 1, struct.pack("<H", kind)),)
    edits = [Edit(), Edit()]
    edits[scene] = Edit(frozenset(), tags)
    edit_tags(path, edits[0], edits[1:])
    with pytest.raises(InputError, match=words):
        open_image(path, scene=scene)
    assert scene == 0 or open_image(path).axes == "YX"


@pytest.mark.parametrize(
    ("code", "kind", "value"), [(338, 3, 999), (338, 3, 3), (296, 3, 9), (254, 4, 2), (255, 3, 3)]
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_values_of_tags_that_are_rare_or_unknown_come_back(
    tmp_path: Path, code: int, kind: int, value: int, byteorder: Any
) -> None:
    values = counts(40, 50, 4, most=250, dtype="u1")
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="rgb", extrasamples=[0], byteorder=byteorder
    )
    stored = struct.pack(byteorder + ("H" if kind == 3 else "I"), value)
    edit_tags(tmp_path / "a.tif", Edit(frozenset(), ((code, kind, 1, stored),)))
    image, lost, again = round_trip(tmp_path / "a.tif")
    assert (image.alpha, image.metadata["warnings"], lost) == (False, [], [])
    np.testing.assert_array_equal(again.pixels, values)
    with tifffile.TiffFile(tmp_path / "copies/a.tif") as written:
        found = written.pages[0].aspage().tags[code].value
    assert tuple(np.atleast_1d(found)) == (value,)


def test_pages_of_one_document_say_so_on_each(tmp_path: Path) -> None:
    """NewSubfileType 2; a loss of it is found."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in counts(3, 40, 50):
            writer.write(page, photometric="minisblack", metadata=None, subfiletype=2)
    _, lost, _ = round_trip(tmp_path / "a.tif")
    assert lost == []
    copy = tmp_path / "copies/a.tif"
    with tifffile.TiffFile(copy) as written:
        assert [page.aspage().subfiletype for page in written.pages] == [2, 2, 2]
    edit_tags(copy, Edit(frozenset((254,))))
    found = [one.name for one in compare(tmp_path / "a.tif", copy) if one.kept is False]
    assert found == ["tags", "tags of later pages"]


@NEEDS_PACKING
@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("stays", [False, True])
def test_packed_bits_of_big_endian_files(tmp_path: Path, bits: int, stays: bool) -> None:
    """The order of bytes says nothing of packed bits; tifffile packs values as they lie in memory."""
    values = counts(41, 51, most=2**bits)
    pack(tmp_path / "a.tif", values, bits)
    little = (tmp_path / "a.tif").read_bytes()
    (count,) = struct.unpack_from("<H", little, 8)
    tags = [struct.unpack_from("<HHII", little, 10 + 12 * number) for number in range(count)]
    body = b"MM\0*" + struct.pack(">IH", 8, count)
    for code, kind, number, value in tags:
        inside = struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
        body += struct.pack(">HHI", code, kind, number) + inside
    (tmp_path / "a.tif").write_bytes((body + bytes(4)).ljust(200, b"\0") + little[200:])
    limits = replace(DEFAULT, resident_bytes=10) if stays else DEFAULT
    image = open_image(tmp_path / "a.tif", limits)
    np.testing.assert_array_equal(image.pixels, values)
    save_image(image, tmp_path / "b.tif")
    assert (tmp_path / "b.tif").read_bytes()[:2] == b"MM"
    np.testing.assert_array_equal(open_image(tmp_path / "b.tif").pixels, values)


def test_bombs_of_many_components_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: Any
) -> None:
    many = np.zeros((64, 64, 200), np.uint8)
    for codec, data in (
        ("lerc", imagecodecs.lerc_encode(many, planar=False)),
        ("jpeg2000", imagecodecs.jpeg2k_encode(many)),
    ):
        path = tmp_path / f"{codec}.tif"
        tifffile.imwrite(path, counts(64, 64, most=9, dtype="u1"), compression=codec)
        place = path.stat().st_size
        with path.open("ab") as file:
            file.write(bytes(data))
        tags = [(273, 4, 1, struct.pack("<I", place)), (279, 4, 1, struct.pack("<I", len(data)))]
        edit_tags(path, Edit(frozenset(), tuple(tags)))
        with monkeypatch.context() as patched:
            patched.setattr(
                tifffile.TiffPage, "decode", lambda *_, **__: pytest.fail("was decoded")
            )
            with pytest.raises(InputError, match="states no size that is understood"):
                open_image(path)


@pytest.mark.parametrize("codec", ["jpeg", "png", "jpegxl", "lerc"])
def test_damage_of_pictures_that_stay_in_their_file_is_one_line(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, counts(64, 64, 3, most=250, dtype="u1"), compression=codec, photometric="rgb"
    )
    image = open_image(path, replace(DEFAULT, resident_bytes=10))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0].aspage()
        start, size = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[start + size // 2 : start + size] = bytes(size - size // 2)
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="strip 1 is damaged"):
        image.plane(())


@pytest.mark.parametrize("codec", ["jpeg", "webp", "png", "jpegxl", "lerc", "jpegxr", "jpeg2000"])
@pytest.mark.parametrize("left", [0.3, 0.6, 0.95])
def test_pictures_that_are_cut_off_are_refused(tmp_path: Path, codec: str, left: float) -> None:
    """Also by decoders that make a picture of what is there."""
    path = tmp_path / "a.tif"
    values = counts(64, 64, 3, most=250, dtype="u1")
    tifffile.imwrite(path, values, compression=codec, photometric="rgb", rowsperstrip=64)
    with tifffile.TiffFile(path) as tiff:
        size = tiff.pages[0].aspage().databytecounts[0]
    count = struct.pack("<I", int(left * size))
    edit_tags(path, Edit(frozenset(), ((279, 4, 1, count),)))
    with pytest.raises(InputError, match="strip 1 is damaged"):
        open_image(path)


@pytest.mark.parametrize("progressive", [False, True])
def test_the_end_of_a_jpeg_is_found_behind_all_of_its_scans(progressive: bool) -> None:
    picture = PIL.Image.fromarray(counts(64, 64, 3, most=250, dtype="u1"))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", progressive=progressive, restart_marker_blocks=5)
    data = buffer.getvalue()
    assert has_end(data)
    assert has_end(data + b"\0" * 7)  # strips are filled to whole words
    assert not any(has_end(data[:length]) for length in range(len(data)))


def test_an_ome_image_without_pages_gives_its_words_to_no_other(tmp_path: Path) -> None:
    arrays = write_images(tmp_path / "a.ome.tif", [40, 48, 56])
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        xml = tiff.pages[0].aspage().description
    gone = xml.replace('IFD="0"', 'IFD="900"', 1).replace(
        'PhysicalSizeX="0.1"', 'PhysicalSizeX="7.0"', 1
    )
    tifffile.tiffcomment(tmp_path / "a.ome.tif", gone)
    image = open_image(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(image.pixels, arrays[1])
    assert image.spacing["X"] == (0.1, "µm")


def test_a_strip_that_states_too_few_bytes_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", counts(40, 50), metadata=None)
    edit_tags(tmp_path / "a.tif", Edit(frozenset(), ((279, 4, 1, struct.pack("<I", 3900)),)))
    with pytest.raises(InputError, match="first page holds 3900 of 4000 bytes"):
        open_image(tmp_path / "a.tif")


def test_too_many_planes_are_refused_by_the_name_of_the_output(tmp_path: Path) -> None:
    planes = Image(np.zeros((2**17 + 1, 1, 1), np.uint8), "QYX", family="electron")
    with pytest.raises(OutputError, match=r"many\.tif: 131073 planes are too many"):
        rehearse_output(planes, tmp_path / "many.tif")
