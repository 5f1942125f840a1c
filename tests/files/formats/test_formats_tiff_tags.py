"""Tags come back byte for byte, of every type, byte order and size of offsets; none comes by itself."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfree.files import Image, open_image, save_image
from pairfree.files.formats.tiff_tags import Edit, edit_tags

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
BIG_SIZES = {16: 8, 17: 8}
"""Of the types of TIFF, bytes of a value; 13 and 18 are places in the file."""
BASE = {256: 20, 257: 24, 258: 16, 259: 1, 262: 1, 277: 1, 278: 24, 339: 1}


def build(path: Path, order: str, big: bool, tags: dict[int, tuple[int, int, bytes]]) -> None:
    """A grey image of 24 x 20 px of 16 bits with these tags, by hand."""
    offset, entry = ("Q", "HHQ8s") if big else ("I", "HHI4s")
    room = 8 if big else 4
    pixels = np.arange(480, dtype=order + "u2").tobytes()
    mark = {"<": b"II", ">": b"MM"}[order]
    version = struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)
    start = len(mark + version) + room
    blob = bytearray(pixels)
    entries = {code: (4, 1, struct.pack(order + "I", value)) for code, value in BASE.items()}
    entries[273] = (4, 1, struct.pack(order + "I", start))
    entries[279] = (4, 1, struct.pack(order + "I", len(pixels)))
    entries |= tags
    packed = b""
    for code in sorted(entries):
        kind, count, value = entries[code]
        if len(value) > room:
            blob += b"\0" * (-len(blob) % 8)
            place = struct.pack(order + offset, start + len(blob))
            blob += value
            value = place
        packed += struct.pack(order + entry, code, kind, count, value.ljust(room, b"\0"))
    directory = start + len(blob)
    head = mark + version + struct.pack(order + offset, directory)
    number = struct.pack(order + ("Q" if big else "H"), len(entries))
    path.write_bytes(head + bytes(blob) + number + packed + b"\0" * room)


def directory(path: Path, order: str, big: bool) -> dict[int, tuple[int, int, bytes]]:
    """The tags of the first page whose values stand in its directory."""
    data = path.read_bytes()
    offset, entry, room = ("Q", "HHQ8s", 8) if big else ("I", "HHI4s", 4)
    (at,) = struct.unpack_from(order + offset, data, room)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    found = {}
    for number in range(count):
        place = at + number * struct.calcsize("=" + entry)
        code, kind, values, value = struct.unpack_from(order + entry, data, place)
        size = values * (SIZES | BIG_SIZES)[kind]
        if size <= room:
            found[code] = (kind, values, value[:size])
    return found


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_small_values_of_tags_that_are_large_elsewhere_come_back(tmp_path, order, big):
    """XMP, IPTC and tags of makers, which tifffile looks for outside the directory."""
    tags = {code: (1, 4, bytes((0, 0, n, 99))) for n, code in enumerate((700, 33723, 65426, 65459))}
    tags |= {65432: (1, 4, b"\x10\0\0\0"), 65439: (1, 4, b"\0\0\0\x10")}
    build(tmp_path / "a.tif", order, big, tags)
    save_image(open_image(tmp_path / "a.tif"), tmp_path / "b.tif")
    written = directory(tmp_path / "b.tif", order, big)
    assert {code: written.get(code) for code in tags} == tags


def read(path: Path) -> dict[int, tuple[int, int, bytes]]:
    """The tags of the first page, by an independent reader's offsets."""
    with tifffile.TiffFile(path) as tiff:
        found = {}
        for tag in tiff.pages.first.tags:
            tiff.filehandle.seek(tag.valueoffset)
            found[tag.code] = (int(tag.dtype), tag.count, tiff.filehandle.read(tag.valuebytecount))
        return found


@st.composite
def files(draw):
    order, big = draw(st.sampled_from("<>")), draw(st.booleans())
    sizes = SIZES | BIG_SIZES if big else SIZES
    tags = {}
    for code in draw(st.lists(st.integers(60000, 65535), max_size=5, unique=True)):
        kind = draw(st.sampled_from(sorted(sizes)))
        count = draw(st.integers(1, 6))
        tags[code] = (
            kind,
            count,
            draw(st.binary(min_size=count * sizes[kind], max_size=count * sizes[kind])),
        )
    return order, big, tags


@settings(max_examples=150, deadline=None)
@given(files())
def test_every_type_of_tag_comes_back_byte_for_byte(tmp_path_factory, file):
    order, big, tags = file
    folder = tmp_path_factory.mktemp("tags")
    build(folder / "a.tif", order, big, tags)
    image = open_image(folder / "a.tif")
    assert np.array_equal(image.pixels, np.arange(480).reshape(24, 20))
    save_image(image, folder / "b.tif")
    written = read(folder / "b.tif") | directory(folder / "b.tif", order, big)
    assert {code: written[code] for code in tags} == tags
    assert not {282, 283, 296, 305, 306, 270} & (written.keys() - tags.keys())
    again = open_image(folder / "b.tif")
    assert np.array_equal(again.pixels, image.pixels)


def test_pages_and_resolutions_below_them_gain_no_resolution(tmp_path):
    path = tmp_path / "pyramid.tif"
    pixels = np.random.default_rng(0).integers(0, 4000, (2, 64, 64), dtype=np.uint16)
    with tifffile.TiffWriter(path) as writer:
        for page in pixels:
            writer.write(page, photometric="minisblack", subifds=1, metadata=None)
            writer.write(page[::2, ::2], photometric="minisblack", subfiletype=1, metadata=None)
    save_image(open_image(path), tmp_path / "with.tif")
    strip_resolution(path)
    save_image(open_image(path), tmp_path / "without.tif")
    for name, expected in (("with.tif", True), ("without.tif", False)):
        with tifffile.TiffFile(tmp_path / name) as tiff:
            assert np.array_equal(tiff.asarray(), pixels)
            for page in tiff.pages:
                assert (282 in page.aspage().tags) is expected
                (below,) = page.aspage().pages
                assert below.shape == (32, 32)
                assert expected or 282 not in below.aspage().tags


def strip_resolution(path: Path) -> None:
    """Give the resolution tags of all main pages private numbers: as good as none."""
    with tifffile.TiffFile(path) as tiff:
        places = [
            tag.offset
            for page in tiff.pages
            for tag in page.aspage().tags
            if tag.code in (282, 283, 296)
        ]
    blob = bytearray(path.read_bytes())
    assert len(places) == 6
    for place in places:
        blob[place : place + 2] = struct.pack("<H", 300)
    path.write_bytes(bytes(blob))


def test_a_result_that_is_described_anew_claims_no_resolution(tmp_path):
    save_image(Image(np.zeros((16, 16), np.uint8), "YX"), tmp_path / "a.tif")
    assert not {282, 283, 296} & read(tmp_path / "a.tif").keys()


@pytest.mark.parametrize("axes", ["ZYX", "CYX", "SYX"])
@pytest.mark.parametrize("count", [3, 4])
def test_slices_whose_axes_are_named_come_back(tmp_path, axes, count):
    pixels = np.random.default_rng(0).integers(0, 250, (count, 48, 64), dtype=np.uint8)
    layout = {"photometric": "rgb", "planarconfig": "separate", "metadata": {"axes": axes}}
    tifffile.imwrite(tmp_path / "a.tif", pixels, **layout)
    image = open_image(tmp_path / "a.tif")
    assert image.axes == {"SYX": "YXS"}.get(axes, axes)
    save_image(image, tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        assert np.array_equal(tiff.asarray(), pixels)
        assert tiff.series[0].axes == axes


@pytest.mark.parametrize("kind", ["0/0", "300/0", "float", "unit alone"])
def test_a_resolution_that_says_nothing_comes_back_as_it_was(tmp_path, kind):
    ratio = {"0/0": (0, 0), "300/0": (300, 0)}.get(kind)
    tags = {296: (3, 1, struct.pack("<H", 2))}
    for code in (282, 283):
        if ratio is not None:
            tags[code] = (5, 1, struct.pack("<II", *ratio))
        elif kind == "float":
            tags[code] = (11, 1, struct.pack("<f", 300.0))
    build(tmp_path / "a.tif", "<", False, tags)
    save_image(open_image(tmp_path / "a.tif"), tmp_path / "b.tif")
    written = read(tmp_path / "b.tif")
    found = {code: value for code, value in written.items() if code in (282, 283, 296)}
    assert {code: value[2][: len(tags[code][2])] for code, value in found.items()} == {
        code: value[2] for code, value in tags.items()
    }


def test_dates_that_differ_from_page_to_page_stay(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for second in range(3):
            page = np.full((16, 16), second, np.uint8)
            writer.write(page, datetime=f"2024:01:01 00:00:0{second}", metadata=None)
    save_image(open_image(tmp_path / "a.tif"), tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        dates = [page.aspage().tags[306].value for page in tiff.pages]
    assert dates == [f"2024:01:01 00:00:0{second}" for second in range(3)]


def test_each_page_keeps_a_resolution_of_its_own(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for step in (100, 100, 250):
            page = np.full((20, 30), step, np.uint8)
            words = {"resolution": (step, step), "resolutionunit": 3, "contiguous": False}
            writer.write(page, photometric="minisblack", metadata=None, **words)
    save_image(open_image(tmp_path / "a.tif"), tmp_path / "b.tif")
    for name in ("a.tif", "b.tif"):
        with tifffile.TiffFile(tmp_path / name) as tiff:
            assert [page.aspage().resolution for page in tiff.pages] == [
                (100.0, 100.0),
                (100.0, 100.0),
                (250.0, 250.0),
            ]


def test_a_third_description_stays(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((20, 30), np.uint8), metadata=None)
    said = [(270, 2, 6, b"first\0"), (270, 2, 7, b"second\0"), (270, 2, 6, b"third\0")]
    edit_tags(tmp_path / "a.tif", Edit(frozenset(), tuple(said)))
    save_image(open_image(tmp_path / "a.tif"), tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        tags = tiff.pages[0].aspage().tags
        assert [tags.get(270, index=number).value for number in range(3)] == [
            "first",
            "second",
            "third",
        ]


def test_tags_of_lower_resolutions_are_told(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        page = np.ones((64, 64), np.uint8)
        writer.write(page, subifds=1, metadata=None)
        writer.write(
            page[::2, ::2], metadata=None, subfiletype=1, extratags=[(65000, 2, 3, "ab", True)]
        )
    assert open_image(tmp_path / "a.tif").metadata["warnings"] == [
        "tags of the lower resolutions are left out (65000)"
    ]
