"""The intensity map: 8-bit keeps its scale, everything else maps its percentiles to 0 and 1.

The way back loses nothing.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pairfree.data.normalize import Normalizer, fit_normalizer
from pairfree.errors import CheckpointError, InputError

KINDS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]


@given(st.data(), st.sampled_from(KINDS))
def test_apply_then_invert_gives_the_intensity_back(data, kind):
    """Back to float32's rounding of the normalised value, whatever the offset's size.

    That is 2^-24 of the distance from the offset.
    """
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        limit = min(1e9, float(np.finfo(dtype).max))
        elements = st.floats(-limit, limit, width=dtype.itemsize * 8)
    else:
        elements = st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    image = data.draw(hnp.arrays(dtype, (4, 5), elements=elements))
    offset = float(image.astype(np.float64).min())
    scale = data.draw(st.floats(1e-3, 1e6))
    normalizer = Normalizer(offset, scale)
    applied = normalizer.apply(image)
    assert applied.dtype == np.float32
    exact = image.astype(np.float64)
    tolerance = 2.0**-23 * np.abs(exact - offset) + 1e-15 * np.abs(exact) + 1e-37 * scale
    assert (np.abs(normalizer.invert(applied) - exact) <= tolerance).all()


@pytest.mark.parametrize("offset", [0.0, 1e6, -3e9, 1e12])
def test_a_large_offset_costs_no_grey_levels(offset):
    """4096 counts on a pedestal far beyond float32's whole numbers come back exact after rounding."""
    image = offset + np.arange(4096, dtype=np.float64).reshape(64, 64)
    normalizer = fit_normalizer([image], [image.dtype])
    np.testing.assert_array_equal(np.rint(normalizer.invert(normalizer.apply(image))), image)


def test_uint16_survives_exactly():
    image = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    normalizer = fit_normalizer([image], [image.dtype])
    np.testing.assert_array_equal(np.rint(normalizer.invert(normalizer.apply(image))), image)


def test_8_bit_keeps_its_natural_scale():
    """0..255 -> 0..1, so that a published sigma means what it says, however dark the image."""
    dark = np.full((8, 8), 3, np.uint8)
    assert fit_normalizer([dark], [dark.dtype]) == Normalizer(0.0, 255.0)
    assert Normalizer(0.0, 255.0).apply(np.array([0, 51, 255], np.uint8)).tolist() == pytest.approx(
        [0.0, 0.2, 1.0]
    )


def test_one_other_type_among_8_bit_files_fits_all_of_them():
    images = [np.arange(256, dtype=np.uint8).reshape(16, 16), 1000 * np.ones((16, 16), np.uint16)]
    assert fit_normalizer(images, [image.dtype for image in images]).scale > 255


def test_percentiles_go_to_0_and_1_and_a_hot_pixel_does_not_squeeze_the_picture():
    image = np.linspace(100, 300, 40_000).reshape(200, 200)
    image[0, 0] = 1e9
    normalizer = fit_normalizer([image], [image.dtype])
    low, high = np.percentile(image, [0.5, 99.5])
    assert (normalizer.offset, normalizer.scale) == (pytest.approx(low), pytest.approx(high - low))
    assert normalizer.apply(image)[0, 0] > 1e6  # and it is not clipped


def test_the_fit_pools_all_planes_and_channels():
    planes = [
        np.zeros((100, 100), np.float32),
        np.stack([np.full((50, 50), v, np.float32) for v in (4.0, 10.0)]),
    ]
    planes[0][:, 50:] = 2.0
    normalizer = fit_normalizer(planes, [plane.dtype for plane in planes])
    assert normalizer == Normalizer(0.0, 10.0)


def test_nearly_constant_images_use_their_whole_range():
    image = np.zeros((100, 100), np.float32)
    image[3, 4] = 5.0
    assert fit_normalizer([image], [image.dtype]) == Normalizer(0.0, 5.0)


def test_constant_images_are_refused():
    image = np.full((8, 8), 7.0, np.float32)
    with pytest.raises(InputError, match="the same value 7"):
        fit_normalizer([image, image], [image.dtype] * 2)


@pytest.mark.parametrize(
    ("offset", "scale"),
    [(0.0, 0.0), (0.0, -1.0), (np.nan, 1.0), (0.0, np.inf), (np.inf, 1.0), (0.0, np.nan)],
)
def test_a_map_that_cannot_be_inverted_is_refused(offset, scale):
    with pytest.raises(CheckpointError, match="not a usable intensity map"):
        Normalizer(offset, scale)


def test_as_dict_rebuilds_the_map():
    assert Normalizer(**Normalizer(3.5, 2.0).as_dict()) == Normalizer(3.5, 2.0)
