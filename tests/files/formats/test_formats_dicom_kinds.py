"""Kinds of DICOM objects: colours, tables of colours, rescales by frame, mosaics of slices."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_objects import as_colours, changed, copied, lost, values, written
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, convert_color_space
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from pairfree.errors import InputError, NoImageError
from pairfree.files import Limits, open_image, save_image
from pairfree.files.formats.dicom_colour import shows_greys


def colours(shape: tuple[int, ...] = (8, 10, 3)) -> np.ndarray:
    return values(shape, high=256, dtype="uint8")


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("big", [False, True])
def test_luminance_and_chrominance_become_rgb(tmp_path: Path, planar: int, big: bool) -> None:
    ybr = colours()
    rgb = convert_color_space(ybr, "YBR_FULL", "RGB")
    path = written(tmp_path / "a.dcm", ybr[..., 0], 8, big=big, Modality="US")
    data = np.moveaxis(ybr, -1, 0) if planar else ybr
    if big:
        data = np.frombuffer(data.tobytes(), "<u2").byteswap()
    image, after = copied(as_colours(path, data, 8, 10, "YBR_FULL", planar))
    np.testing.assert_array_equal(image.pixels, rgb)
    assert (image.axes, image.colours) == ("YXS", 3)
    assert image.metadata["warnings"] == [
        "its colours are stored as YBR_FULL; they are written back as RGB"
    ]
    assert (after.PhotometricInterpretation, after.PlanarConfiguration) == ("RGB", 0)
    np.testing.assert_array_equal(after.pixel_array, rgb)
    others = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "out-a.dcm")))
    np.testing.assert_array_equal(np.squeeze(others), rgb)


def test_run_lengths_of_luminance_and_chrominance(tmp_path: Path) -> None:
    ybr = colours()
    path = written(tmp_path / "a.dcm", ybr[..., 0], 8, Modality="US")
    dataset = pydicom.dcmread(as_colours(path, ybr, 8, 10, "YBR_FULL"))
    dataset.compress(RLELossless)
    dataset.save_as(path)
    image, after = copied(path)
    np.testing.assert_array_equal(image.pixels, convert_color_space(ybr, "YBR_FULL", "RGB"))
    np.testing.assert_array_equal(after.pixel_array, image.pixels)


def test_two_pixels_that_share_their_chrominance(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pairs = rng.integers(0, 256, (6, 5, 4), dtype=np.uint8)  # Y1 Y2 Cb Cr
    full = np.empty((6, 10, 3), np.uint8)
    full[:, 0::2, 0], full[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    full[..., 1:] = np.repeat(pairs[..., 2:], 2, axis=1)
    rgb = convert_color_space(full, "YBR_FULL", "RGB")
    path = written(tmp_path / "a.dcm", pairs[..., 0], 8, Modality="US")
    image, after = copied(as_colours(path, pairs, 6, 10, "YBR_FULL_422"))
    np.testing.assert_array_equal(image.pixels, rgb)
    np.testing.assert_array_equal(after.pixel_array, rgb)
    assert "YBR_FULL_422" in image.metadata["warnings"][0]


@pytest.mark.parametrize(
    ("kind", "elements", "words"),
    [
        ("YBR_FULL", {"PlanarConfiguration": None}, "planar configuration None"),
        ("RGB", {"PlanarConfiguration": 7}, "planar configuration 7"),
        ("YBR_FULL_422", {"PlanarConfiguration": 1}, "YBR_FULL_422 with planar configuration 1"),
        ("YBR_FULL_422", {"Columns": 9}, "9 columns, expected 0 and an even number"),
        ("YBR_FULL", {"BitsStored": 7, "HighBit": 6}, "have 7 bits as uint8"),
        ("YBR_FULL", {"PixelRepresentation": 1}, "have 8 bits as int8"),
        ("YBR_FULL", {"SamplesPerPixel": 1}, "states 1 samples a pixel, YBR_FULL has 3"),
        ("MONOCHROME2", {}, "states 3 samples a pixel, MONOCHROME2 has 1"),
        ("YBR_PARTIAL_422", {}, "YBR_PARTIAL_422, not intensities"),
    ],
)
def test_colours_that_make_no_sense_are_refused(
    tmp_path: Path, kind: str, elements: dict[str, Any], words: str
) -> None:
    path = written(tmp_path / "a.dcm", colours()[..., 0], 8, Modality="US")
    path = changed(as_colours(path, colours(), 8, 10, kind), **elements)
    with pytest.raises(InputError, match=words):
        open_image(path)


def with_table(
    path: Path, stored: np.ndarray, table: np.ndarray, first: int = 0, big: bool = False
) -> Path:
    """An object whose pixels are indices of a table, (entries, 3)."""
    written(path, stored, big=big, Modality="US", PhotometricInterpretation="PALETTE COLOR")
    dataset = pydicom.dcmread(path)
    del dataset.RescaleSlope, dataset.RescaleIntercept
    for number, colour in enumerate(("Red", "Green", "Blue")):
        bits = 8 * table.dtype.itemsize
        data = table[:, number].astype(table.dtype.newbyteorder(">" if big else "<")).tobytes()
        name = f"{colour}PaletteColorLookupTable"
        dataset.add_new(f"{name}Descriptor", "US", [len(table) % 2**16, first, bits])
        dataset.add_new(f"{name}Data", "OW", data)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("first", [0, 3])
def test_indices_become_their_colours(tmp_path: Path, dtype: str, first: int) -> None:
    table = values((200, 3), high=np.iinfo(dtype).max, dtype=dtype)
    stored = values((12, 10), high=256, dtype="uint8")
    path = with_table(tmp_path / "a.dcm", stored, table, first)
    image, after = copied(path)
    expected = table[np.clip(stored.astype(int) - first, 0, 199)]
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.axes == "YXS"
    np.testing.assert_array_equal(after.pixel_array, expected)
    assert after.PhotometricInterpretation == "RGB"
    assert not [element for element in after if "Palette" in element.keyword]
    assert "indices of colours" in image.metadata["warnings"][0]


def test_a_table_of_a_real_object(tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    found = get_testdata_file("examples_palette.dcm", download=False)
    if found is None:
        pytest.skip("this pydicom comes without the object")
    path = Path(str(found))
    original = pydicom.dcmread(path)
    image = open_image(path)
    expected = apply_color_lut(original.pixel_array, original)
    np.testing.assert_array_equal(image.pixels, expected)
    save_image(image, tmp_path / "b.dcm")
    assert lost(path, tmp_path / "b.dcm") == []
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "b.dcm").pixel_array, expected)


def test_words_of_a_table_have_the_order_of_the_file(tmp_path: Path) -> None:
    table = values((256, 3), high=60_000)
    stored = values((12, 10), high=256, dtype="uint16")
    image, _ = copied(with_table(tmp_path / "a.dcm", stored, table, big=True))
    np.testing.assert_array_equal(image.pixels, table[stored])


def test_eight_bits_in_the_words_of_a_table(tmp_path: Path) -> None:
    table = values((256, 3), high=256)
    stored = values((12, 10), high=256, dtype="uint8")
    path = with_table(tmp_path / "a.dcm", stored, table)
    dataset = pydicom.dcmread(path)
    for colour in ("Red", "Green", "Blue"):
        dataset[f"{colour}PaletteColorLookupTableDescriptor"].value = [256, 0, 8]
    dataset.save_as(path)
    image, after = copied(path)
    assert (image.dtype, after.BitsStored) == (np.uint8, 8)
    np.testing.assert_array_equal(image.pixels, table[stored])


def test_a_table_of_rising_greys_leaves_intensities(tmp_path: Path) -> None:
    """A curve of display: the indices are denoised, the table stays."""
    curve = (255 * np.linspace(0, 1, 256) ** 0.4).astype(np.uint8)
    table = np.repeat(curve[:, np.newaxis], 3, axis=1)
    stored = values((12, 10), high=250, dtype="uint8")
    image, after = copied(with_table(tmp_path / "a.dcm", stored, table), add=4)
    np.testing.assert_array_equal(image.pixels, stored)
    np.testing.assert_array_equal(after.pixel_array, stored + 4)
    assert after.RedPaletteColorLookupTableData == curve.tobytes()
    assert after.PhotometricInterpretation == "PALETTE COLOR"
    assert image.metadata["warnings"] == []


def test_other_tables_show_no_greys() -> None:
    rising = np.repeat(np.arange(4)[:, np.newaxis], 3, axis=1)
    assert shows_greys(rising)
    assert not shows_greys(rising[::-1])
    assert not shows_greys(rising * 0)
    assert not shows_greys(rising * [1, 1, 2])


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"RedPaletteColorLookupTableData": None}, "table of colours is missing"),
        ({"GreenPaletteColorLookupTableData": b"\1\2"}, "has 2 bytes for 200 entries"),
        ({"BluePaletteColorLookupTableDescriptor": [100, 0, 16]}, "differ in length or begin"),
        ({"RedPaletteColorLookupTableDescriptor": [200, 1, 8]}, "differ in length or begin"),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, elements: dict[str, Any], words: str) -> None:
    table = values((200, 3), high=256, dtype="uint8")
    path = with_table(tmp_path / "a.dcm", values((12, 10), high=256, dtype="uint8"), table)
    with pytest.raises(InputError, match=words):
        open_image(changed(path, **elements))


def test_tables_obey_the_limits(tmp_path: Path) -> None:
    table = values((200, 3), high=256, dtype="uint8")
    path = with_table(tmp_path / "a.dcm", values((64, 64), high=256, dtype="uint8"), table)
    with pytest.raises(InputError, match="declares 1x64x64x3"):
        open_image(path, Limits(max_bytes=2 * 64 * 64))


def by_frame(path: Path, stored: np.ndarray, maps: list[tuple[float, float]], **more: Any) -> Path:
    frames = []
    for slope, intercept in maps:
        inner, outer = Dataset(), Dataset()
        inner.RescaleSlope, inner.RescaleIntercept = slope, intercept
        outer.PixelValueTransformationSequence = Sequence([inner])
        frames.append(outer)
    bare = {"RescaleSlope": None, "RescaleIntercept": None}
    groups = Sequence(frames)
    return written(path, stored, 12, PerFrameFunctionalGroupsSequence=groups, **bare, **more)


def test_each_frame_has_its_rescale(tmp_path: Path) -> None:
    maps = [(1.0, -5.0), (2.5, 0.0), (-0.5, 100.0)]
    stored = values((3, 9, 11), high=4000)
    image, after = copied(by_frame(tmp_path / "a.dcm", stored, maps), add=5)
    expected = [frame * slope + add for frame, (slope, add) in zip(stored, maps, strict=True)]
    np.testing.assert_allclose(image.pixels, np.array(expected), rtol=1e-6)
    assert image.dtype == np.float32
    assert image.limits == (100 - 0.5 * 4095, 2.5 * 4095)
    steps = np.array([5, 2, -10])[:, np.newaxis, np.newaxis]
    np.testing.assert_array_equal(after.pixel_array, stored + steps)


def test_intercepts_of_frames_leave_whole_numbers(tmp_path: Path) -> None:
    stored = values((2, 9, 11), high=4000)
    image, after = copied(by_frame(tmp_path / "a.dcm", stored, [(1, 10), (1, -20)]), add=3)
    assert image.dtype == np.int32
    np.testing.assert_array_equal(image.pixels[1], stored[1].astype(int) - 20)
    np.testing.assert_array_equal(after.pixel_array, stored + 3)


def test_changed_rescales_of_frames_are_found(tmp_path: Path) -> None:
    stored = values((2, 9, 11), high=4000)
    path = by_frame(tmp_path / "a.dcm", stored, [(1, 10), (1, -20)])
    other = by_frame(tmp_path / "b.dcm", stored, [(1, 10), (1, -21)])
    assert {"rescale", "geometry"} <= set(lost(path, other))


def test_rescales_of_some_frames_are_refused(tmp_path: Path) -> None:
    stored = values((3, 9, 11), high=4000)
    with pytest.raises(InputError, match="states rescales for 2 of 3 frames"):
        open_image(by_frame(tmp_path / "a.dcm", stored, [(1, 0), (2, 0)]))


def csa(number: int) -> bytes:
    """A CSA header of the second kind that only states the number of slices."""
    text = str(number).encode().ljust(12, b"\0")
    name = b"NumberOfImagesInMosaic".ljust(64, b"\0")
    tag = name + struct.pack("<i4s3i", 1, b"US\0\0", 0, 1, 77)
    return (
        b"SV10\4\3\2\1"
        + struct.pack("<2I", 1, 77)
        + tag
        + struct.pack("<4i", 77, 12, 77, 77)
        + text
    )


def mosaic(path: Path, tiles: np.ndarray, side: int, number: Any, where: str, **more: Any) -> Path:
    _, rows, columns = tiles.shape
    grid = tiles.reshape(side, side, rows, columns).transpose(0, 2, 1, 3)
    plane = grid.reshape(side * rows, side * columns)
    written(path, plane, 12, Modality="MR", RescaleIntercept=0, SpacingBetweenSlices=3.0, **more)
    dataset = pydicom.dcmread(path)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    if where == "tag":
        block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0A, "US", number)
    if where == "unknown":
        block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0A, "UN", struct.pack("<H", number))
    if where == "csa":
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", number if isinstance(number, bytes) else csa(number))
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("where", ["tag", "unknown", "csa"])
def test_tiles_of_a_mosaic_are_slices(tmp_path: Path, where: str) -> None:
    """Seven slices in three rows of three; the spare two hold something, which stays."""
    tiles = values((9, 6, 8), high=4000)
    path = mosaic(tmp_path / "a.dcm", tiles, 3, 7, where)
    image, after = copied(path, add=9)
    assert (image.axes, image.shape) == ("ZYX", (7, 6, 8))
    assert image.spacing == {"Z": (3.0, "mm"), "Y": (0.7, "mm"), "X": (0.6, "mm")}
    np.testing.assert_array_equal(image.pixels, tiles[:7])
    assert image.metadata["warnings"] == []
    expected = tiles.copy()
    expected[:7] += 9
    rows = [np.concatenate(list(expected[at : at + 3]), axis=1) for at in (0, 3, 6)]
    np.testing.assert_array_equal(after.pixel_array, np.concatenate(rows))


def test_a_changed_spare_tile_is_found(tmp_path: Path) -> None:
    tiles = values((9, 6, 8), high=4000)
    path = mosaic(tmp_path / "a.dcm", tiles, 3, 7, "tag")
    save_image(open_image(path), tmp_path / "b.dcm")
    after = pydicom.dcmread(tmp_path / "b.dcm")
    pixels = after.pixel_array.copy()
    pixels[-1, -1] += 1
    after.PixelData = pixels.tobytes()
    after.save_as(tmp_path / "b.dcm")
    assert lost(path, tmp_path / "b.dcm") == ["mosaic"]


@pytest.mark.parametrize(
    ("number", "where", "told"),
    [
        (0, "none", "does not state how many"),
        (0, "tag", "does not state how many"),
        (70, "tag", "mosaic of 70 slices, which do not fit"),
        (b"SV10" + b"\xff" * 90, "csa", "does not state how many"),
    ],
)
def test_a_mosaic_of_unknown_slices_is_one_plane(
    tmp_path: Path, number: Any, where: str, told: str
) -> None:
    tiles = values((9, 6, 8), high=4000)
    image, after = copied(mosaic(tmp_path / "a.dcm", tiles, 3, number, where), add=1)
    assert (image.axes, image.shape) == ("YX", (18, 24))
    assert told in image.metadata["warnings"][0]
    assert "treated as one plane" in image.metadata["warnings"][0]
    np.testing.assert_array_equal(after.pixel_array, image.pixels + 1)


def test_a_mosaic_keeps_the_bits_beside_its_values(tmp_path: Path) -> None:
    tiles = values((4, 6, 8), high=4000) | np.uint16(0x8000)
    path = mosaic(tmp_path / "a.dcm", tiles, 2, 3, "tag")
    image, after = copied(path, add=1)
    np.testing.assert_array_equal(image.pixels, tiles[:3] & 0xFFF)
    assert (np.frombuffer(after.PixelData, "<u2") & 0x8000).all()


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"EncapsulatedDocument": b"%PDF", "MIMETypeOfEncapsulatedDocument": "application/pdf"},
         r"holds a document \(application/pdf\)"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "holds a segmentation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.2"}, "holds spectra"),
    ],
)  # fmt: skip
def test_what_is_no_image_says_so(tmp_path: Path, elements: dict[str, Any], words: str) -> None:
    path = changed(written(tmp_path / "a.dcm", values(), 12), **elements)
    with pytest.raises(NoImageError, match=words):
        open_image(path)


def test_an_image_that_was_cut_off_is_no_report(tmp_path: Path) -> None:
    path = changed(
        written(tmp_path / "a.dcm", values(), 12), Rows=None, Columns=None, PixelData=None
    )
    with pytest.raises(
        InputError, match=r"CT Image without .*: it was cut off or damaged"
    ) as caught:
        open_image(path)
    assert not isinstance(caught.value, NoImageError)


def test_pixels_that_are_elsewhere(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", values(), 12)
    path = changed(path, PixelData=None, PixelDataProviderURL="http://localhost/1")
    with pytest.raises(InputError, match="not in the file, but at an address"):
        open_image(path)
