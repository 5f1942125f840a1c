"""TIFF round trips, each checked with tifffile reading the output on its own."""

from __future__ import annotations

import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairfree.errors import InputError
from pairfree.files import Image, Limits, differences, open_image, save_image
from pairfree.files.fidelity import compare

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]


def noise(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    bounds = np.iinfo(dtype)
    return rng.integers(bounds.min, bounds.max, shape, dtype=dtype, endpoint=True)


def round_trip(path: Path) -> tuple[Image, Image, Path]:
    """Read, write beside, read again: nothing may differ."""
    image = open_image(path)
    out = path.with_name("out" + path.suffix)
    save_image(image, out)
    again = open_image(out)
    assert differences(image, again) == []
    np.testing.assert_array_equal(image.pixels, again.pixels)
    with tifffile.TiffFile(path) as a, tifffile.TiffFile(out) as b:
        np.testing.assert_array_equal(a.asarray(), b.asarray())
        assert a.series[0].axes == b.series[0].axes
        assert a.byteorder == b.byteorder
        assert a.pages[0].compression == b.pages[0].compression or a.pages[0].compression == 7
    return image, again, out


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_pages_of_every_type_and_byte_order(
    tmp_path: Path, dtype: str, byteorder: str
) -> None:
    pixels = noise((3, 13, 17), dtype)
    tifffile.imwrite(
        tmp_path / "in.tif", pixels, byteorder=byteorder, metadata=None, photometric="minisblack"
    )
    image, _, _ = round_trip(tmp_path / "in.tif")
    assert (image.axes, image.dtype) == ("QYX", np.dtype(dtype))
    np.testing.assert_array_equal(image.pixels, pixels)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize(
    ("compression", "predictor", "dtype"),
    [
        (None, None, "uint16"),
        ("zlib", None, "uint16"),
        ("zlib", 2, "uint16"),
        ("zlib", 2, "int32"),
        ("zlib", 3, "float32"),
        ("zlib", 3, "float64"),
        ("lzw", None, "uint8"),
        ("lzw", 2, "int16"),
        ("packbits", None, "uint8"),
        ("zstd", 2, "uint16"),
        ("lzma", None, "uint16"),
    ],
)
def test_compression_predictor_tiles(
    tmp_path: Path,
    compression: str | None,
    predictor: int | None,
    dtype: str,
    tile: tuple[int, int] | None,
    byteorder: str,
) -> None:
    pixels = noise((37, 45), dtype)
    layout = {"rowsperstrip": 8} if tile is None else {"tile": tile}
    tifffile.imwrite(
        tmp_path / "in.tif",
        pixels,
        byteorder=byteorder,
        compression=compression,
        predictor=predictor,
        **layout,
    )
    image, _, out = round_trip(tmp_path / "in.tif")
    np.testing.assert_array_equal(image.pixels, pixels)
    with tifffile.TiffFile(out) as tiff:
        assert tiff.pages[0].is_tiled == (tile is not None)
        assert tiff.pages[0].predictor == (predictor or 1)


@pytest.mark.parametrize("shape", [(3, 40, 50), (4, 40, 50), (5, 4, 40, 50)])
@pytest.mark.parametrize("layout", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
@pytest.mark.parametrize("resident", [10**9, 100])
def test_slices_that_are_stored_as_colours_are_slices(
    tmp_path: Path, shape: tuple[int, ...], layout: dict[str, Any], resident: int
) -> None:
    """As tifffile, scikit-image and imageio write three or four of them, transparency included."""
    pixels = noise(shape, "uint16")
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="rgb", planarconfig="separate", **layout
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.pages[0].photometric.name == "RGB"
        text = tiff.pages[0].description
    image = open_image(tmp_path / "a.tif", Limits(resident_bytes=resident))
    assert image.axes == "Q" * (len(shape) - 2) + "YX"
    assert (image.samples, image.colours) == (1, 1)
    np.testing.assert_array_equal(image.pixels, pixels)
    save_image(image, tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        page = tiff.pages[0]
        assert (page.photometric.name, page.planarconfig.name) == ("RGB", "SEPARATE")
        assert page.description == text
        np.testing.assert_array_equal(tiff.asarray(), pixels)


def test_transparency_that_is_passed_through_is_told(tmp_path: Path) -> None:
    pixels = noise((19, 23, 4), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    image = open_image(tmp_path / "a.tif")
    assert image.colours == 3
    assert any("transparency" in line for line in image.metadata["warnings"])


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(
    ("samples", "photometric", "extra", "colours"),
    [
        (3, "rgb", None, 3),
        (4, "rgb", ["unassalpha"], 3),
        (2, "minisblack", ["unassalpha"], 1),
        (4, "rgb", ["unspecified"], 4),
        (2, "minisblack", ["unspecified"], 2),
    ],
)
def test_colour_and_alpha(
    tmp_path: Path,
    samples: int,
    photometric: str,
    extra: list[str] | None,
    colours: int,
    planar: str,
) -> None:
    pixels = noise((19, 23, samples), "uint16")
    stored = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(
        tmp_path / "in.tif",
        stored,
        photometric=photometric,
        planarconfig=planar,
        extrasamples=extra,
        compression="zlib",
        metadata=None,
    )
    image, _, out = round_trip(tmp_path / "in.tif")
    assert (image.axes, image.samples, image.colours) == ("YXS", samples, colours)
    assert open_image(out).colours == colours
    np.testing.assert_array_equal(image.pixels, pixels)
    with tifffile.TiffFile(out) as tiff:
        assert tiff.pages[0].planarconfig == (1 if planar == "contig" else 2)


def test_jpeg_compressed_rgb_becomes_deflate_with_the_same_pixels(tmp_path: Path) -> None:
    smooth = np.repeat(np.linspace(0, 255, 64)[None, :, None], 48, 0).repeat(3, 2).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "in.tif", smooth, photometric="rgb", compression="jpeg", tile=(32, 32)
    )
    image, _, out = round_trip(tmp_path / "in.tif")
    assert any("JPEG" in line for line in image.metadata["warnings"])
    with tifffile.TiffFile(out) as tiff:
        assert tiff.pages[0].compression == 8


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("TZCYX", (2, 3, 2, 9, 11)),
        ("ZYX", (4, 9, 11)),
        ("CYX", (2, 9, 11)),
        ("TYX", (3, 9, 11)),
        ("YX", (9, 11)),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_imagej_hyperstack_keeps_everything(
    tmp_path: Path, axes: str, shape: tuple[int, ...], dtype: str
) -> None:
    metadata = {
        "axes": axes,
        "unit": "um",
        "spacing": 2.5,
        "finterval": 0.5,
        "min": 1.0,
        "max": 9.0,
        "Info": "made by hand",
    }
    metadata["Labels"] = [f"slice {i}" for i in range(int(np.prod(shape[:-2])))]
    metadata["Ranges"] = (0.0, 100.0)
    tifffile.imwrite(
        tmp_path / "in.tif",
        noise(shape, dtype),
        imagej=True,
        resolution=(4.0, 5.0),
        metadata=metadata,
    )
    image, _, out = round_trip(tmp_path / "in.tif")
    assert image.axes == axes
    assert image.spacing["X"] == (0.25, "µm")
    assert image.spacing["Y"] == (0.2, "µm")
    assert image.spacing["Z"] == (2.5, "µm")
    assert image.spacing["T"] == (0.5, "s")
    with tifffile.TiffFile(tmp_path / "in.tif") as a, tifffile.TiffFile(out) as b:
        assert b.is_imagej
        assert a.imagej_metadata == b.imagej_metadata


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("TCZYX", (2, 2, 3, 9, 11)),
        ("CYX", (2, 9, 11)),
        ("ZYX", (3, 9, 11)),
        ("YXS", (9, 11, 3)),
        ("ZYXS", (2, 9, 11, 3)),
    ],
)
def test_ome_tiff_keeps_its_xml(tmp_path: Path, axes: str, shape: tuple[int, ...]) -> None:
    metadata = {
        "axes": axes,
        "PhysicalSizeX": 0.29,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.31,
        "PhysicalSizeYUnit": "nm",
    }
    metadata |= {
        "PhysicalSizeZ": 1.5,
        "PhysicalSizeZUnit": "µm",
        "TimeIncrement": 0.1,
        "TimeIncrementUnit": "s",
        "SignificantBits": 12,
    }
    if "C" in axes:
        metadata["Channel"] = {"Name": ["DAPI", "Zürich <488>"]}
    photometric = "rgb" if "S" in axes else "minisblack"
    tifffile.imwrite(
        tmp_path / "in.ome.tif",
        noise(shape, "uint16"),
        ome=True,
        photometric=photometric,
        metadata=metadata,
    )
    image, _, out = round_trip(tmp_path / "in.ome.tif")
    assert image.axes == axes
    assert image.spacing == {
        "X": (0.29, "nm"),
        "Y": (0.31, "nm"),
        "Z": (1.5, "µm"),
        "T": (0.1, "s"),
    }
    assert image.channel_names == (("DAPI", "Zürich <488>") if "C" in axes else ())
    assert image.bit_depth == 12
    with tifffile.TiffFile(tmp_path / "in.ome.tif") as a, tifffile.TiffFile(out) as b:
        assert a.ome_metadata == b.ome_metadata


def test_changed_spacing_is_written_and_not_the_old_one(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "in.ome.tif",
        noise((2, 9, 11), "uint16"),
        metadata={"axes": "CYX", "PhysicalSizeX": 1.0},
        photometric="minisblack",
    )
    image = replace(
        open_image(tmp_path / "in.ome.tif"),
        spacing={"X": (2.0, "nm"), "Y": (3.0, "nm")},
        channel_names=("a", "b"),
    )
    save_image(image, tmp_path / "out.ome.tif")
    assert differences(image, open_image(tmp_path / "out.ome.tif")) == []


@given(
    axes=st.sampled_from(["YX", "ZYX", "CYX", "TYX", "TZCYX", "YXS", "TYXS", "QYX"]),
    dtype=st.sampled_from(DTYPES),
    sizes=st.lists(st.integers(2, 7), min_size=6, max_size=6),
    step=st.floats(1e-6, 1e6),
    unit=st.sampled_from(["nm", "µm", "mm", "Å", "pm"]),
    names=st.lists(
        st.text(
            st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"),
            min_size=1,
            max_size=9,
        ),
        min_size=7,
    ),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_arrays_with_metadata_survive(
    tmp_path: Path,
    axes: str,
    dtype: str,
    sizes: list[int],
    step: float,
    unit: str,
    names: list[str],
) -> None:
    shape = tuple(3 if a == "S" else n for a, n in zip(axes, sizes))
    spacing = {a: (step * (i + 1), unit) for i, a in enumerate(axes) if a in "ZYX"}
    channels = (
        tuple(name.strip() or "x" for name in names[: shape[axes.index("C")]])
        if "C" in axes
        else ()
    )
    # OME has no half floats: pixel size goes to the resolution tags, names have no place.
    if dtype == "float16":
        spacing, channels = {}, ()
    image = Image(noise(shape, dtype), axes, spacing, channels, family="tiff")
    save_image(image, tmp_path / "a.tif", overwrite=True)
    again = open_image(tmp_path / "a.tif")
    changed = differences(image, again)
    if dtype == "float16":
        changed = [line for line in changed if not line.startswith("axes")]
    assert changed == []
    np.testing.assert_array_equal(image.pixels, again.pixels)


def test_resolution_tags_software_and_private_tags_are_kept(tmp_path: Path) -> None:
    private = [
        (65000, 2, 6, b"hello\0", True),
        (65001, 12, 2, np.array([1.5, 2.5], "<f8").tobytes(), True),
        (65002, 3, 1, 7, True),
    ]
    tifffile.imwrite(
        tmp_path / "in.tif",
        noise((9, 11), "uint8"),
        resolution=((50000000, 23), (50000000, 23)),
        resolutionunit="CENTIMETER",
        software="Scope 1.0",
        datetime="2026:01:02 03:04:05",
        description="Größe µ".encode(),
        metadata=None,
        extratags=private,
    )
    image, _, out = round_trip(tmp_path / "in.tif")
    assert image.spacing["X"][0] == pytest.approx(4.6e-3)
    with tifffile.TiffFile(tmp_path / "in.tif") as a, tifffile.TiffFile(out) as b:
        for code in (270, 282, 283, 296, 305, 306, 65000, 65001, 65002):
            assert a.pages[0].tags[code].value == b.pages[0].tags[code].value, code


def test_print_density_is_no_pixel_size(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "in.tif", noise((9, 11), "uint8"), resolution=(72, 72), resolutionunit="INCH"
    )
    image, _, out = round_trip(tmp_path / "in.tif")
    assert image.spacing == {}
    with tifffile.TiffFile(out) as tiff:
        assert tiff.pages[0].tags[282].value == (72, 1)


def test_pages_with_their_own_text_keep_it(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for i in range(3):
            extra = [(51123, 2, 9, f'{{"i": {i}}}\0'.encode(), True)]
            writer.write(
                noise((9, 11), "uint16", i),
                metadata=None,
                description=f"plane {i}",
                contiguous=False,
                extratags=extra,
            )
    _, _, out = round_trip(tmp_path / "in.tif")
    with tifffile.TiffFile(out) as tiff:
        assert [page.aspage().description for page in tiff.pages] == [
            "plane 0",
            "plane 1",
            "plane 2",
        ]
        assert [page.aspage().tags[51123].value for page in tiff.pages] == [
            {"i": 0},
            {"i": 1},
            {"i": 2},
        ]


def test_bigtiff_stays_bigtiff(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "in.tif", noise((2, 9, 11), "uint16"), bigtiff=True, photometric="minisblack"
    )
    _, _, out = round_trip(tmp_path / "in.tif")
    with tifffile.TiffFile(out) as tiff:
        assert tiff.is_bigtiff


def test_pages_of_several_sizes_use_the_first_and_say_so(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        writer.write(noise((9, 11), "uint8"), metadata=None)
        writer.write(noise((5, 6), "uint8"), metadata=None)
    image = open_image(tmp_path / "in.tif")
    assert image.shape == (9, 11)
    assert "2 " in image.metadata["warnings"][0]
    save_image(image, tmp_path / "out.tif")
    assert open_image(tmp_path / "out.tif").shape == (9, 11)


@pytest.mark.parametrize("dtype", ["bool", "complex64"])
def test_types_that_are_no_intensities_are_refused_with_a_remedy(
    tmp_path: Path, dtype: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tifffile.imwrite(tmp_path / "in.tif", np.ones((9, 11), dtype))
    with pytest.raises(InputError, match=r"convert|save"):
        open_image(tmp_path / "in.tif")


def test_colour_tables_are_no_intensities(tmp_path):
    """Indices of a palette are refused; a table of greys, black to white, is not."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    tifffile.imwrite(tmp_path / "grey.tif", pixels, photometric="palette", colormap=ramp)
    np.testing.assert_array_equal(open_image(tmp_path / "grey.tif").pixels, pixels)
    tifffile.imwrite(
        tmp_path / "palette.tif",
        pixels,
        photometric="palette",
        colormap=np.random.default_rng(1).permuted(ramp, axis=1),
    )
    with pytest.raises(InputError, match=r"palette\.tif: its pixels are indices of a colour table"):
        open_image(tmp_path / "palette.tif")


@pytest.mark.parametrize(
    "inside",
    [
        '<TiffData IFD="0" PlaneCount="1000000000"/>',
        '<TiffData IFD="1000000000"/>',
        '</Pixels></Image><Image ID="Image:1"><Pixels ID="Pixels:1" DimensionOrder="XYZCT" '
        'Type="uint8" SizeX="4" SizeY="4" SizeZ="1" SizeC="1" SizeT="1000000000">',
        '<Modulo><ModuloAlongT Start="0" End="1e10" Step="1"/></Modulo>',
    ],
)
def test_an_ome_text_that_claims_a_billion_planes_is_refused_at_once(tmp_path, inside):
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
        f'SizeX="4" SizeY="4" SizeZ="1" SizeC="1" SizeT="1">{inside}</Pixels></Image></OME>'
    )
    tifffile.imwrite(
        tmp_path / "liar.ome.tif", np.zeros((4, 4), np.uint8), description=text, metadata=None
    )
    tracemalloc.start()
    with pytest.raises(InputError, match=r"liar\.ome\.tif: declares at least \d+ pages"):
        open_image(tmp_path / "liar.ome.tif")
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_floats_with_the_predictor_of_integers_can_be_written_again(tmp_path):
    """Predictor 2 on floats is read by libtiff and by us, but no writer takes it."""
    pixels = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    tifffile.imwrite(tmp_path / "in.tif", pixels, compression="zlib", predictor=3)
    image = open_image(tmp_path / "in.tif")
    image.metadata["tiff"] = replace(image.metadata["tiff"], predictor=2)
    save_image(image, tmp_path / "out.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), pixels)


def test_tiles_that_are_no_multiple_of_sixteen_become_strips(tmp_path):
    path = tmp_path / "in.tif"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    tifffile.imwrite(path, pixels, tile=(16, 16))
    image = open_image(path)
    image.metadata["tiff"] = replace(image.metadata["tiff"], tile=(20, 20))
    save_image(image, tmp_path / "out.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), pixels)


def ome_set(folder: Path) -> np.ndarray:
    """Two files of one OME-TIFF, two planes each; either holds the XML of all."""
    pixels = np.random.default_rng(0).integers(0, 999, (4, 32, 40)).astype(np.uint16)
    uuids = [f"urn:uuid:11111111-0000-4000-8000-00000000000{number}" for number in range(2)]
    data = "".join(
        f'<TiffData IFD="{z % 2}" FirstZ="{z}" PlaneCount="1">'
        f'<UUID FileName="s{z // 2}.ome.tif">{uuids[z // 2]}</UUID></TiffData>'
        for z in range(4)
    )
    for number in range(2):
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuids[number]}"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            'SizeX="40" SizeY="32" SizeZ="4" SizeC="1" SizeT="1" PhysicalSizeX="0.5">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            folder / f"s{number}.ome.tif",
            pixels[2 * number : 2 * number + 2],
            description=xml,
            metadata=None,
        )
    return pixels


def test_a_set_of_ome_files_comes_back_as_one(tmp_path: Path) -> None:
    """Each file holds its own planes; readers put the results together as they did the inputs."""
    (tmp_path / "in").mkdir()
    pixels = ome_set(tmp_path / "in")
    for number in range(2):
        image = open_image(tmp_path / f"in/s{number}.ome.tif")
        np.testing.assert_array_equal(image.pixels, pixels[2 * number : 2 * number + 2])
        assert image.spacing == {"X": (0.5, "µm")}
        assert image.metadata["warnings"] == [
            f"is one file of a set (s{1 - number}.ome.tif): keep their results together"
        ]
        save_image(
            image.with_pixels(image.pixels + np.uint16(1)), tmp_path / f"out/s{number}.ome.tif"
        )
    for number in range(2):
        np.testing.assert_array_equal(
            tifffile.imread(tmp_path / f"out/s{number}.ome.tif"), pixels + 1
        )


def test_a_renamed_ome_file_is_no_set(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.ome.tif", np.zeros((3, 8, 9), np.uint16), metadata={"axes": "ZYX"}
    )
    (tmp_path / "a.ome.tif").rename(tmp_path / "b.ome.tif")
    image = open_image(tmp_path / "b.ome.tif")
    assert (image.axes, image.metadata["warnings"]) == ("ZYX", [])


def test_levels_of_any_factor_show_the_whole_image(tmp_path):
    ramp = np.tile(np.arange(300, dtype=np.uint16), (8, 1))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(ramp, subifds=3, metadata={"axes": "YX"})
        for width in (200, 120, 75):
            writer.write(np.zeros((4, width), np.uint16), subfiletype=1, metadata=None)
    save_image(open_image(tmp_path / "a.ome.tif"), tmp_path / "b.ome.tif")
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as file:
        for level in file.series[0].levels[1:]:
            row, factor = level.asarray()[0].astype(float), 300 / level.shape[1]
            np.testing.assert_allclose(
                row, (np.arange(level.shape[1]) + 0.5) * factor - 0.5, atol=1.01
            )


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    ("shape", "axes", "options"),
    [
        ((60, 90), "YX", {}),
        ((3, 60, 90), "ZYX", {"tile": (16, 16), "compression": "zlib"}),
        ((60, 90, 3), "YXS", {"photometric": "rgb", "tile": (16, 16)}),
    ],
)
def test_a_pyramid_comes_back_with_its_levels_made_anew(tmp_path, shape, axes, options, stored):
    data = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    y = axes.index("Y")
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", bigtiff=True) as writer:
        writer.write(data, subifds=2, metadata={"axes": axes}, **options)
        for factor in (2, 3):
            part = data[(slice(None),) * y + (slice(None, None, factor), slice(None, None, factor))]
            writer.write(part, subfiletype=1, metadata=None, **options)
    image = open_image(tmp_path / "a.ome.tif", Limits(resident_bytes=10) if stored else Limits())
    assert image.stored is stored
    save_image(image, tmp_path / "b.ome.tif")
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as after:
        levels = [level.asarray() for level in after.series[0].levels]
        assert after.is_ome
    assert [level.shape[y : y + 2] for level in levels] == [(60, 90), (30, 45), (20, 30)]
    np.testing.assert_array_equal(levels[0], data)
    for factor, level in ((2, levels[1]), (3, levels[2])):
        blocks = data.reshape(
            *shape[:y], 60 // factor, factor, 90 // factor, factor, *shape[y + 2 :]
        ).astype(float)
        np.testing.assert_array_equal(level, np.rint(blocks.mean((y + 1, y + 3))))
    assert differences(image, open_image(tmp_path / "b.ome.tif")) == []


def test_pixel_size_of_digital_micrograph(tmp_path):
    """Its tags, as a real file has them.

    Text without its final NUL is no loss when it comes back with one.
    """
    numbers = [(65009, 12, 1, 0.00299, True), (65010, 12, 1, 0.00301, True)]
    words = [(65012, 2, 10, b"micrometer", True), (65013, 2, 10, b"micrometer", True)]
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((8, 9), np.uint16), extratags=[*numbers, *words], metadata=None
    )
    image = open_image(tmp_path / "a.tif")
    assert image.spacing == {"Y": (0.00301, "µm"), "X": (0.00299, "µm")}
    save_image(image, tmp_path / "b.tif")
    assert differences(image, open_image(tmp_path / "b.tif")) == []


def two_images(path: Path) -> np.ndarray:
    """OME-TIFF of a stack and an overview, as a slide scanner or a multi-position run leaves them."""
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 900, (3, 64, 70)).astype(np.uint16)
    with tifffile.TiffWriter(path, ome=True) as writer:
        described = {
            "axes": "ZYX",
            "PhysicalSizeX": 0.1,
            "PhysicalSizeY": 0.1,
            "Name": "first",
            "Plane": {"DeltaT": [0.0, 1.0, 2.0]},
        }
        writer.write(stack, metadata=described)
        writer.write(
            rng.integers(0, 900, (40, 50)).astype(np.uint16),
            metadata={"axes": "YX", "Name": "second"},
        )
    return stack


def test_of_two_images_the_first_keeps_its_description(tmp_path: Path) -> None:
    stack = two_images(tmp_path / "in.ome.tif")
    image = open_image(tmp_path / "in.ome.tif")
    assert "only the first is used" in image.metadata["warnings"][0]
    save_image(image, tmp_path / "out.ome.tif")
    assert not [
        check
        for check in compare(tmp_path / "in.ome.tif", tmp_path / "out.ome.tif")
        if check.kept is False
    ]
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tiff:
        assert len(tiff.series) == 1
        np.testing.assert_array_equal(tiff.asarray(), stack)
        assert "DeltaT" in tiff.ome_metadata
        assert "second" not in tiff.ome_metadata


def test_overviews_as_further_images_leave_the_first_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        writer.write(
            rng.integers(0, 255, (96, 80), np.uint8),
            description="scanner X, 20x",
            tile=(32, 32),
            metadata=None,
        )
        writer.write(rng.integers(0, 255, (48, 40), np.uint8), tile=(32, 32), metadata=None)
    save_image(open_image(tmp_path / "in.tif"), tmp_path / "out.tif")
    assert not [
        check for check in compare(tmp_path / "in.tif", tmp_path / "out.tif") if check.kept is False
    ]
    with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
        assert tiff.pages[0].description == "scanner X, 20x"


def test_texts_of_thousands_of_pages_are_kept(tmp_path: Path) -> None:
    """As ScanImage and Micro-Manager write time stamps."""
    frames = np.random.default_rng(0).integers(0, 255, (5000, 4, 4)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for number, frame in enumerate(frames):
            writer.write(
                frame,
                description=f"frameTimestamps_sec = {number / 30:.6f}",
                metadata=None,
                contiguous=False,
            )
    save_image(open_image(tmp_path / "in.tif"), tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
        assert tiff.pages[4999].aspage().description == f"frameTimestamps_sec = {4999 / 30:.6f}"


@pytest.mark.parametrize(
    ("counts", "words"),
    [((0,) * 6, ""), ((420, 0, 420, 420, 420, 300), "strip 2 is missing or cut off")],
)
def test_sizes_of_uncompressed_strips_that_are_not_stated(
    tmp_path: Path, counts: tuple[int, ...], words: str
) -> None:
    """Some writers state none at all, which is read; one that is 0 among others is a strip that is not there.

    Found by mutation.
    """
    pixels = np.random.default_rng(0).integers(0, 60000, (40, 30)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, rowsperstrip=7, photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        tiff.pages[0].tags["StripByteCounts"].overwrite(counts)
    if words:
        with pytest.raises(InputError, match=words):
            open_image(tmp_path / "a.tif")
    else:
        np.testing.assert_array_equal(open_image(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize(
    ("stated", "step"),
    [({"fps": 4.0}, 0.25), ({"finterval": 3.0, "fps": 4.0}, 3.0), ({}, None), ({"fps": 0}, None)],
)
def test_frames_per_second_of_imagej_are_a_time_step(
    tmp_path: Path, stated: dict[str, float], step: float | None
) -> None:
    pixels = noise((3, 19, 23), "uint16")
    metadata = {"axes": "TYX", **stated}
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata=metadata)
    found = open_image(tmp_path / "a.tif").spacing.get("T")
    assert found == (None if step is None else (step, "s"))


def test_lower_resolutions_that_are_written_are_not_said_to_be_left_out(tmp_path: Path) -> None:
    pixels = noise((256, 256), "uint16")
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for step in (1, 2, 4):
            kind = {"subfiletype": 1} if step > 1 else {}
            level = np.ascontiguousarray(pixels[::step, ::step])
            writer.write(level, tile=(32, 32), photometric="minisblack", metadata=None, **kind)
    image = open_image(tmp_path / "a.tif")
    save_image(image, tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        written = len(tiff.pages)
    told = [line for line in image.metadata["warnings"] if "are used" in line or "left out" in line]
    assert (written == 3) is not bool(told)


@pytest.mark.parametrize("stored", [False, True])
def test_pages_of_imagej_lie_in_a_row_also_where_they_have_tags_of_their_own(
    tmp_path: Path, stored: bool
) -> None:
    """ImageJ's readers look for no other page than the first: a gap would shift all pixels behind it."""
    pixels = np.arange(3 * 33 * 35, dtype=np.float32).reshape(3, 33, 35)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        description = "ImageJ=1.53k\nimages=3\nslices=3\n"
        writer.write(
            pixels,
            photometric="minisblack",
            description=description,
            metadata=None,
            extratags=[(65000, "s", 0, "of the first", True)],
        )
    assert len({page.dataoffsets[0] for page in tifffile.TiffFile(path).pages}) == 3
    limits = Limits(resident_bytes=0) if stored else Limits()
    image = open_image(path, limits)
    carried = image.metadata["tiff"]
    own = ((65001, 2, 3, b"abc"),)
    image.metadata["tiff"] = replace(carried, page_tags=(own, own), page_descriptions=(b"", b""))
    save_image(image, tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), pixels)
    np.testing.assert_array_equal(open_image(tmp_path / "b.tif").pixels, pixels)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert 65001 in file.pages[1].tags
