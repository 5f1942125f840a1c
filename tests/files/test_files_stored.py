"""Images that stay in their file have the same pixels as when they are loaded, in any region.

They are written back without being loaded.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from pairfree.errors import InputError
from pairfree.files import Limits, differences, open_image, save_image
from pairfree.files.image import Image
from pairfree.files.limits import DEFAULT

STAYS = replace(DEFAULT, resident_bytes=10)
RNG = np.random.default_rng(0)
TIFFS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plane": ((37, 51), {}),
    "stack": ((5, 37, 51), {}),
    "deflate": ((5, 37, 51), {"compression": "zlib"}),
    "lzw": ((5, 37, 51), {"compression": "lzw", "predictor": True}),
    "tiles": ((5, 37, 51), {"tile": (16, 32), "compression": "zstd"}),
    "strips": ((300, 211), {"rowsperstrip": 7, "compression": "zlib"}),
    "rgb": ((37, 51, 3), {"photometric": "rgb"}),
    "rgb stack": ((2, 37, 51, 3), {"photometric": "rgb", "compression": "zlib"}),
    "planar": (
        (2, 3, 37, 51),
        {"photometric": "rgb", "planarconfig": "separate", "metadata": None},
    ),
    "planar tiles": (
        (2, 3, 37, 51),
        {
            "photometric": "rgb",
            "planarconfig": "separate",
            "compression": "zlib",
            "tile": (16, 16),
            "metadata": None,
        },
    ),
    "imagej": ((5, 37, 51), {"imagej": True}),
    "ome": (
        (2, 3, 37, 51),
        {
            "ome": True,
            "metadata": {"axes": "ZCYX", "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm"},
        },
    ),
    "big, big-endian": ((37, 51), {"bigtiff": True, "byteorder": ">"}),
}


def tiff(path: Path, name: str, dtype: str) -> Path:
    shape, options = TIFFS[name]
    options = (
        {**options, "predictor": 3 if dtype == "float32" else 2}
        if "predictor" in options
        else options
    )
    writer = {
        key: options[key] for key in ("imagej", "ome", "bigtiff", "byteorder") if key in options
    }
    with tifffile.TiffWriter(path, **writer) as made:
        made.write(
            (RNG.random(shape) * 200).astype(dtype),
            **{k: v for k, v in options.items() if k not in writer},
        )
    return path


def assert_stays_as_it_is(path: Path, out: Path) -> None:
    loaded, stays = open_image(path), open_image(path, STAYS)
    assert stays.stored
    assert not loaded.stored
    assert not differences(loaded, stays)
    np.testing.assert_array_equal(stays.pixels, loaded.pixels)
    height, width = loaded.height, loaded.width
    for index in loaded.planes():
        for rows, columns in (
            (slice(height // 3, height - height // 4), slice(width // 4, width - width // 5)),
            (slice(0, 1), slice(width - 1, width)),
        ):
            np.testing.assert_array_equal(
                stays.region(index, rows, columns), loaded.region(index, rows, columns)
            )
    save_image(stays, out, overwrite=True)
    again = open_image(out)
    np.testing.assert_array_equal(again.pixels, loaded.pixels)
    assert not differences(loaded, again)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("name", TIFFS)
def test_tiff(tmp_path: Path, name: str, dtype: str) -> None:
    assert_stays_as_it_is(tiff(tmp_path / "a.tif", name, dtype), tmp_path / "b.tif")


@pytest.mark.parametrize("name", TIFFS)
def test_tiff_whose_planes_are_large_is_written_in_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("pairfree.files.formats.tiff_write.STREAMED_PLANE_BYTES", 100)
    monkeypatch.setattr("pairfree.files.formats.tiff_write.STREAMED_TILE", (16, 32))
    assert_stays_as_it_is(tiff(tmp_path / "a.tif", name, "uint16"), tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as made:
        assert made.pages[0].is_tiled


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5, 6), "<f4"), ((4, 5, 6), ">i2"), ((9, 8, 3), "u1"), ((2, 3, 9, 8), "<f8")],
)
def test_npy(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    np.save(tmp_path / "a.npy", (RNG.random(shape) * 100).astype(dtype))
    assert_stays_as_it_is(tmp_path / "a.npy", tmp_path / "b.npy")
    assert np.load(tmp_path / "b.npy").dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5, 6), "i2"), ((4, 5, 6), "f4"), ((3, 4, 5, 6), "u2"), ((4, 5, 6), ">f4")],
)
def test_mrc(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    with mrcfile.new(tmp_path / "a.mrc") as made:
        made.set_data((RNG.random(shape) * 100).astype(dtype))
        made.set_extended_header(np.frombuffer(b"kept" * 7, "V1"))
        made.header.exttyp, made.voxel_size = b"MRCO", 1.3
    assert_stays_as_it_is(tmp_path / "a.mrc", tmp_path / "b.mrc")
    with mrcfile.open(tmp_path / "b.mrc") as again, mrcfile.open(tmp_path / "a.mrc") as first:
        assert again.extended_header.tobytes() == b"kept" * 7
        for name in ("dmin", "dmax", "dmean", "rms"):
            np.testing.assert_allclose(
                float(again.header[name]), float(first.header[name]), rtol=1e-5
            )
    assert mrcfile.validate(tmp_path / "b.mrc")


@pytest.mark.parametrize("scale", [None, (0.5, -3.0)])
def test_nifti(tmp_path: Path, scale: tuple[float, float] | None) -> None:
    made = nibabel.Nifti1Image(
        (RNG.random((6, 5, 4)) * 100).astype("i2"), np.diag([1.0, 2.0, 3.0, 1.0])
    )
    made.header.set_xyzt_units("mm")
    if scale is not None:
        made.header.set_slope_inter(*scale)
    nibabel.save(made, tmp_path / "a.nii")
    assert_stays_as_it_is(tmp_path / "a.nii", tmp_path / "b.nii")


@given(shape=st.tuples(st.integers(1, 70), st.integers(1, 70)), tile=st.booleans(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_region_of_a_compressed_page(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int], tile: bool, data: Any
) -> None:
    path = tmp_path_factory.mktemp("region") / "a.tif"
    pixels = RNG.integers(0, 2**16, shape).astype(np.uint16)
    tifffile.imwrite(
        path, pixels, compression="zlib", **({"tile": (16, 16)} if tile else {"rowsperstrip": 5})
    )
    spans = []
    for length in shape:
        start = data.draw(st.integers(0, length - 1))
        spans.append(slice(start, data.draw(st.integers(start + 1, length))))
    np.testing.assert_array_equal(
        open_image(path, Limits(resident_bytes=0)).region((), *spans), pixels[tuple(spans)]
    )


def test_the_bounds_of_what_is_loaded_do_not_hold_for_what_stays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((100, 100)))
    with pytest.raises(InputError, match="read whole"):
        open_image(tmp_path / "a.npy", Limits(max_bytes=1000))
    assert open_image(tmp_path / "a.npy", Limits(max_bytes=1000, resident_bytes=500)).stored


def test_a_file_that_was_cut_after_it_was_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((100, 100)))
    image = open_image(tmp_path / "a.npy", STAYS)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:5000])
    with pytest.raises(InputError, match="shorter than its pixels"):
        image.region((), slice(0, 1), slice(0, 1))


def test_a_sample_is_spread_over_the_image(tmp_path: Path) -> None:
    pixels = np.arange(40 * 300 * 200, dtype=np.float32).reshape(40, 300, 200)
    np.save(tmp_path / "a.npy", pixels)
    stays, array = open_image(tmp_path / "a.npy", STAYS), Image(pixels, "ZYX")
    for found in (stays.sample(100_000), array.sample(100_000)):
        assert 20_000 <= found.size <= 200_000
        np.testing.assert_allclose(
            np.quantile(found, [0.1, 0.5, 0.9]) / pixels.size, [0.1, 0.5, 0.9], atol=0.05
        )


@pytest.mark.parametrize("suffix", [".npy", ".mrc", ".nii"])
def test_a_large_plane_is_written_part_by_part(suffix, tmp_path, monkeypatch):
    """The memory of writing does not grow with the plane, and the file is the same."""
    import nibabel

    pixels = np.random.default_rng(0).normal(0, 50, (2, 700, 300)).astype(np.float32)
    if suffix == ".nii":
        nibabel.save(nibabel.Nifti1Image(pixels.T, np.eye(4)), tmp_path / "in.nii")
        image = open_image(tmp_path / "in.nii")
    else:
        image = Image(pixels, "QYX", family=suffix[1:])
    save_image(image, tmp_path / f"whole{suffix}")
    asked = []
    real = Image.region
    monkeypatch.setattr(
        Image,
        "region",
        lambda self, index, rows, columns: asked.append(rows) or real(self, index, rows, columns),
    )
    monkeypatch.setattr("pairfree.files.image.PART_BYTES", 50_000)
    save_image(image, tmp_path / f"parts{suffix}")
    assert max(rows.stop - rows.start for rows in asked) == 41
    whole, parts = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("whole", "parts"))
    # Mean and deviation in its header are sums in another order, and a label holds the time.
    if suffix == ".mrc":
        whole, parts = whole[1024:], parts[1024:]
    assert whole == parts
