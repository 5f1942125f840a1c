"""Image, to_dtype, sinks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pairfree.errors import InputError, OutputError
from pairfree.files import Image, differences, open_image, open_sink, to_dtype
from pairfree.files.image import samples_last

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32"]


def test_samples_stand_last_in_a_picture() -> None:
    planes = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    colour = samples_last(planes)
    assert colour.shape == (4, 5, 3)
    np.testing.assert_array_equal(colour[..., 1], planes[1])
    np.testing.assert_array_equal(samples_last(planes[2:]), planes[2])


def test_planes_walk_every_leading_index_once() -> None:
    image = Image(np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(np.uint8), "TZYX")
    assert list(image.planes()) == [(t, z) for t in range(2) for z in range(3)]
    np.testing.assert_array_equal(image.plane((1, 2)), image.pixels[1, 2])
    assert (image.height, image.width, image.samples, image.leading) == (4, 5, 1, (2, 3))
    colour = Image(np.zeros((4, 5, 3), np.uint8), "YXS")
    assert list(colour.planes()) == [()]
    assert (colour.plane(()).shape, colour.samples) == ((4, 5, 3), 3)
    with pytest.raises(InputError, match="does not exist"):
        image.plane((0, 3))


@pytest.mark.parametrize(
    ("pixels", "axes"),
    [
        (np.zeros((0, 4), np.uint8), "YX"),
        (np.zeros((4, 4), np.uint8), "ZYX"),
        (np.zeros((4, 4), np.uint8), "XY"),
        (np.zeros((4, 4, 3), np.uint8), "SYX"),
        (np.zeros((4, 4, 3), np.uint8), "YXC"),
        (np.zeros((2, 4, 4), np.uint8), "AYX"),
        (np.zeros((4, 4), bool), "YX"),
        (np.zeros((4, 4), np.complex64), "YX"),
        (np.zeros((4, 4), object), "YX"),
        (np.zeros((4, 4), np.int64), "YX"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(pixels: np.ndarray, axes: str) -> None:
    with pytest.raises(InputError) as caught:
        Image(pixels, axes)
    assert "\n" not in str(caught.value)


def test_big_endian_arrays_become_native() -> None:
    image = Image(np.arange(6, dtype=">u2").reshape(2, 3), "YX")
    assert image.dtype.isnative
    assert image.pixels.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_with_pixels_keeps_the_meaning_and_refuses_another_shape() -> None:
    image = Image(np.zeros((3, 4, 5), np.uint16), "CYX", {"X": (1.0, "nm")}, ("a", "b", "c"), 12)
    assert differences(image, image.with_pixels(image.pixels + 1)) == []
    with pytest.raises(InputError, match="expected"):
        image.with_pixels(np.zeros((3, 4, 4)))


def test_differences_name_each_loss() -> None:
    a = Image(
        np.zeros((2, 4, 5), np.uint16), "CYX", {"X": (1.0, "nm"), "Y": (1.0, "nm")}, ("a", "b")
    )
    b = Image(np.zeros((2, 4, 5), np.uint8), "ZYX", {"X": (1.0, "µm")}, family="png")
    text = "\n".join(differences(a, b))
    for word in (
        "family",
        "pixel type",
        "axes",
        "channel names",
        "unit along X",
        "spacing along Y",
    ):
        assert word in text
    assert "shape" not in text


@given(
    values=hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e12, 1e12)),
    dtype=st.sampled_from(INTEGERS),
)
@settings(max_examples=100, deadline=None)
def test_to_dtype_rounds_and_clips_and_counts(values: np.ndarray, dtype: str) -> None:
    out, clipped = to_dtype(values, dtype)
    bounds = np.iinfo(dtype)
    expected = [min(max(round(v), bounds.min), bounds.max) for v in values.tolist()]
    assert out.dtype == np.dtype(dtype)
    assert out.tolist() == expected
    assert clipped == sum(not bounds.min <= round(v) <= bounds.max for v in values.tolist())


@given(
    values=hnp.arrays(
        np.float32, st.integers(1, 30), elements=st.floats(width=32, allow_nan=False)
    ),
    dtype=st.sampled_from(INTEGERS),
)
@settings(max_examples=100, deadline=None)
def test_to_dtype_never_wraps_float32(values: np.ndarray, dtype: str) -> None:
    out, clipped = to_dtype(values, dtype)
    bounds = np.iinfo(dtype)
    inside = (values >= bounds.min) & (values <= bounds.max)
    np.testing.assert_array_less(
        np.abs(out[inside] - values[inside].astype(np.float64)), 0.5 + 1e-9
    )
    assert np.all(out[values > bounds.max] == bounds.max)
    assert np.all(out[values < bounds.min] == bounds.min)
    assert clipped <= int(np.count_nonzero(~inside))


def test_to_dtype_ends_of_the_range_survive_and_nan_is_refused() -> None:
    for dtype in INTEGERS:
        ends = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype=dtype)
        out, clipped = to_dtype(ends.astype(np.float64), dtype)
        assert out.tolist() == ends.tolist()
        assert clipped == 0
    with pytest.raises(InputError, match="NaN"):
        to_dtype(np.array([1.0, np.nan]), np.uint8)
    assert to_dtype(np.array([1.0, np.inf, -np.inf]), np.uint8)[0].tolist() == [1, 255, 0]
    out, clipped = to_dtype(np.array([1.0, 1e6]), np.float16)
    assert np.isfinite(out).all()
    assert clipped == 1
    assert to_dtype(np.array([300, -4], np.int64), np.uint8)[0].tolist() == [255, 0]


@pytest.mark.parametrize("family", ["tiff", "npy"])
def test_sink_writes_planes_in_any_order_and_only_on_commit(tmp_path: Path, family: str) -> None:
    like = Image(
        np.random.default_rng(0).integers(0, 99, (2, 3, 8, 9), dtype=np.uint16),
        "TZYX",
        family=family,
    )
    path = tmp_path / f"o{'.tif' if family == 'tiff' else '.npy'}"
    with open_sink(like, path) as sink:
        for index in reversed(list(like.planes())):
            sink.write(index, like.plane(index) + np.uint16(1))
        assert not path.exists()
        sink.commit()
    np.testing.assert_array_equal(open_image(path).pixels, like.pixels + 1)
    with pytest.raises(OutputError, match="exists"):
        open_sink(like, path)


def test_sink_refuses_wrong_planes_missing_planes_and_cleans_up(tmp_path: Path) -> None:
    like = Image(np.zeros((2, 8, 9), np.uint16), "ZYX", family="tiff")
    sink = open_sink(like, tmp_path / "o.tif")
    for index, plane in [
        ((2,), np.zeros((8, 9), np.uint16)),
        ((0,), np.zeros((8, 8), np.uint16)),
        ((0,), np.zeros((8, 9), np.float32)),
    ]:
        with pytest.raises(InputError):
            sink.write(index, plane)
    sink.write((0,), np.zeros((8, 9), np.uint16))
    with pytest.raises(OutputError, match="1 of 2 planes"):
        sink.commit()
    with open_sink(like, tmp_path / "p.tif") as other:
        other.write((0,), np.zeros((8, 9), np.uint16))  # leaving without commit aborts
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="suffix"):
        open_sink(like, tmp_path / "o.png")
