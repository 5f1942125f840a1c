"""Image sets: what is taken from a file, what is refused and by which name, and how partners are matched."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import pairfree as pf
from pairfree.data.crops import draw_crops
from pairfree.data.sets import (
    ImageSet,
    array_set,
    check_finite,
    match_partners,
    read_set,
    to_channels_first,
)
from pairfree.engine.trainer import Stopped
from pairfree.errors import ConfigError, InputError
from pairfree.files.image import Image
from pairfree.files.listing import find_images
from pairfree.files.opening import save_image
from pairfree.training.images import read_images
from pairfree.training.job import resolve
from pairfree.training.order import Order, read_order


def ramp(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def image_set(**images: np.ndarray) -> ImageSet:
    made = ImageSet()
    for name, pixels in images.items():
        made.add(Image(pixels, "YX" if pixels.ndim == 2 else "YXS"), f"{name}.tif", name)
    return made


def test_a_stack_gives_a_named_plane_for_each_index():
    made = ImageSet()
    made.add(Image(ramp(2, 3, 4, 5), "TZYX"), "a/stack.tif", "a/stack")
    assert made.names == [f"a/stack.tif[{t},{z}]" for t in range(2) for z in range(3)]
    assert made.stems[5] == "a/stack[1,2]"
    np.testing.assert_array_equal(made.planes[5], ramp(2, 3, 4, 5)[1, 2][None])
    assert (made.channels, made.pixels, made.dtypes[0]) == (1, 120, np.dtype("float32"))


@pytest.mark.parametrize(("samples", "channels"), [(1, 1), (2, 1), (3, 3), (4, 3)])
@pytest.mark.parametrize("alpha", [True, False])
def test_alpha_is_left_out(samples, channels, alpha):
    """And where the file says that the last sample is none, it stays."""
    image = Image(ramp(4, 5, samples), "YXS", alpha=alpha)
    found = to_channels_first(image.plane(()), image.colours)
    np.testing.assert_array_equal(
        found, np.moveaxis(image.pixels, -1, 0)[: channels if alpha else samples]
    )
    assert to_channels_first(image.pixels[..., 0], 1).shape == (1, 4, 5)


def test_nan_is_named_with_count_and_place():
    pixels = ramp(6, 7)
    pixels[2, 5] = np.nan
    pixels[4, 1] = np.inf
    with pytest.raises(
        InputError, match=r"bad\.tif: 2 of 42 pixels are NaN or Inf, the first at row 2, column 5"
    ):
        image_set(bad=pixels)


def test_nan_in_a_stack_is_named_with_its_plane():
    pixels = ramp(3, 6, 7)
    pixels[1, 0, 3] = -np.inf
    with pytest.raises(InputError, match=r"s\.tif\[1\]: 1 of 42 .* row 0, column 3"):
        ImageSet().add(Image(pixels, "ZYX"), "s.tif", "s")


def test_nan_in_colour_is_placed_by_row_and_column():
    pixels = ramp(6, 7, 3)
    pixels[5, 2, 1] = np.nan
    with pytest.raises(InputError, match=r"1 of 126 pixels .* row 5, column 2"):
        image_set(colour=pixels)
    with pytest.raises(InputError, match=r"array 0: 1 of 126 pixels .* row 5, column 2"):
        array_set([np.moveaxis(pixels, -1, 0)])


def test_whole_numbers_and_finite_values_pass():
    check_finite(ramp(3, 3, dtype="int16"), "x")
    check_finite(ramp(3, 3), "x")


def test_grey_and_colour_in_one_set_are_refused_by_name():
    with pytest.raises(
        InputError,
        match=r"b\.tif: is colour, but a\.tif is grey; train grey and colour images apart",
    ):
        image_set(a=ramp(4, 4), b=ramp(4, 4, 3))
    with pytest.raises(InputError, match=r"b\.tif: is grey, but a\.tif is colour"):
        image_set(a=ramp(4, 4, 4), b=ramp(4, 4, 2))


def test_a_constant_image_among_others_is_a_warning():
    made = image_set(a=ramp(4, 4), flat=np.full((4, 4), 3.0, np.float32))
    assert len(made.planes) == 2
    assert made.warnings == ["flat.tif: all pixels are 3.0; nothing to learn from it"]


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_nothing_but_constant_images_is_refused(shape, dtype):
    with pytest.raises(InputError, match="every image is constant"):
        array_set([np.full(shape, 5, dtype), np.full(shape, 7, dtype)])
    assert len(array_set([np.full(shape, 5, dtype), ramp(*shape, dtype=dtype)]).planes) == 2


def test_arrays_keep_their_values_types_and_channels():
    """All channels of an array are meant: nothing is taken for alpha."""
    grey, many = ramp(5, 6, dtype="uint16"), ramp(4, 5, 6)
    found = array_set([grey])
    np.testing.assert_array_equal(found.planes[0], grey[None])
    assert (found.names, found.stems, found.dtypes) == (["array 0"], ["0"], [np.dtype("uint16")])
    np.testing.assert_array_equal(array_set([many]).planes[0], many)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([], "no arrays given"),
        ([ramp(7)], r"array 0 has shape \(7,\)"),
        ([ramp(2, 2, 2, 2)], r"expected \(H, W\) or \(C, H, W\)"),
        ([ramp(3, 4, 4), ramp(2, 4, 4)], "array 1: is 2-channel, but array 0 is colour"),
        ([ramp(4, 4), ramp(3, 4, 4)], "array 1: is colour, but array 0 is grey"),
        ([ramp(4, 4, dtype="complex64")], "complex64 is not supported"),
        ([ramp(4, 4, dtype="int64")], "int64 is not supported"),
        ([np.zeros((0, 4), np.float32)], "no pixels"),
        ([np.zeros((3, 0, 4), np.float32)], "no pixels"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(arrays, message):
    with pytest.raises(InputError, match=message):
        array_set(arrays)


@pytest.mark.parametrize(
    ("images", "message"),
    [([ramp(9, 9), "a.npy"], "of type ndarray"), (3, "of type int"), ("", "empty name")],
)
def test_what_is_neither_names_nor_arrays_is_one_line(images, message):
    """The current folder, too, is read only where it is named."""
    with pytest.raises(InputError, match=message) as told:
        read_images(images, "noisy image")
    assert "\n" not in str(told.value)


def test_partners_are_put_in_the_order_of_the_noisy_set():
    noisy = image_set(a=ramp(4, 4), b=ramp(5, 5))
    target = image_set(c=ramp(3, 3), b=2 * ramp(5, 5), a=2 * ramp(4, 4))
    ordered = match_partners(noisy, target)
    assert ordered.names == ["a.tif", "b.tif"]
    for plane, partner in zip(noisy.planes, ordered.planes, strict=True):
        np.testing.assert_array_equal(partner, 2 * plane)


def test_a_missing_partner_is_named():
    with pytest.raises(
        InputError, match=r"b\.tif: no partner with the same name .*\(for example a\.tif"
    ):
        match_partners(image_set(a=ramp(4, 4), b=ramp(4, 4)), image_set(a=ramp(4, 4)))


def test_partners_of_other_shape_are_refused():
    with pytest.raises(
        InputError,
        match=r"a\.tif: shape \(1, 4, 4\), its partner a\.tif \(1, 4, 5\); partners must be registered",
    ):
        match_partners(image_set(a=ramp(4, 4)), image_set(a=ramp(4, 5)))
    with pytest.raises(InputError, match="registered"):
        match_partners(image_set(a=ramp(4, 4)), image_set(a=ramp(4, 4, 3)))


def test_planes_of_stacks_are_matched_one_by_one():
    noisy, target = ImageSet(), ImageSet()
    noisy.add(Image(ramp(2, 4, 4), "ZYX"), "s.tif", "s")
    target.add(Image(2 * ramp(2, 4, 4), "ZYX"), "s.png", "s")
    np.testing.assert_array_equal(match_partners(noisy, target).planes[1], 2 * noisy.planes[1])


def test_read_set_names_files_relative_to_the_folder(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    save_image(Image(ramp(8, 9, dtype="uint16"), "YX"), tmp_path / "sub" / "one.npy")
    save_image(Image(ramp(3, 8, 9, dtype="uint16"), "ZYX"), tmp_path / "two.npy")
    found = read_set(find_images([tmp_path]))
    by_stem = dict(zip(found.stems, found.planes, strict=True))
    assert set(by_stem) == {"sub/one", "two[0]", "two[1]", "two[2]"}
    np.testing.assert_array_equal(by_stem["two[2]"][0], ramp(3, 8, 9, dtype="uint16")[2])


def test_read_set_refuses_a_folder_of_blank_files(tmp_path: Path):
    save_image(Image(np.full((8, 8), 9, np.uint8), "YX"), tmp_path / "blank.npy")
    with pytest.raises(InputError, match=r"blank\.npy: every image is constant"):
        read_set(find_images([tmp_path]))


def test_a_set_larger_than_memory_is_trained_on_crops_of_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("pairfree.data.crops.CROP_PX", 128)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 2**16, (6, 900, 700)).astype(np.uint16)
    for name in ("noisy", "target"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "stack.npy", pixels + (name == "target"))
        np.save(tmp_path / name / "small.npy", pixels[0, :40, :50])
    budget = pixels.size * 4 // 3
    found, target = (
        read_set(find_images([tmp_path / name]), budget) for name in ("noisy", "target")
    )
    held = sum(plane.nbytes for plane in found.planes) * 2
    assert 0.5 * budget < held < 1.5 * budget
    assert {name.partition("]")[0] for name in found.names} >= {
        f"stack.npy[{number}" for number in range(6)
    }
    assert "crops spread over all of them" in found.warnings[-1]
    for plane, name in zip(found.planes, found.names, strict=True):
        if "small" in name:
            continue
        index, row, column = (int(number) for number in re.findall(r"\d+", name))
        np.testing.assert_array_equal(
            plane[0], pixels[index, row : row + 128, column : column + 128]
        )
    partners = match_partners(found, target)
    for first, second in zip(found.planes, partners.planes, strict=True):
        np.testing.assert_array_equal(first + np.uint16(1), second)


def test_a_set_that_fits_is_taken_whole(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(3, 4))
    found = read_set(find_images([tmp_path]))
    assert found.names == ["a.npy"]
    assert not found.warnings
    np.testing.assert_array_equal(found.planes[0][0], np.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize("share", [0.04, 0.3])
def test_crops_of_many_planes_make_up_the_share_also_where_it_is_less_than_one_of_each(share):
    height, width = 1024, 1536  # of 6 crops
    counts = [len(list(draw_crops(f"{n}.tif", height, width, share))) for n in range(2000)]
    assert np.mean(counts) == pytest.approx(6 * share, rel=0.15)


def test_training_within_a_bound_of_memory_takes_crops_and_remembers_it(tmp_path, monkeypatch):
    """A quarter of the bound's share for two sets of four images: both keep about that.

    The partners they keep are of the same places.
    """
    monkeypatch.setattr("pairfree.data.sets.BESIDE_BYTES", 1e6)
    rng = np.random.default_rng(0)
    for number in range(4):
        plane = rng.integers(0, 200, (1024, 1024)).astype(np.uint8)
        save_image(Image(plane, "YX", family="tiff"), tmp_path / f"noisy/{number}.tif")
        save_image(
            Image(plane + np.uint8(10), "YX", family="tiff"), tmp_path / f"target/{number}.tif"
        )
    settings = {"net": "dncnn", "width": 4, "patch_px": 16, "batch_size": 2}
    bound = 1e6 + 2 / 0.4 * 4 * 2**20  # 2**20 pixels of each set as float32
    common = {"target": tmp_path / "target", "method": "n2c", "settings": settings}
    job = resolve(Order(tmp_path / "noisy", max_bytes=bound, **common))
    assert 2**18 <= job.noisy.pixels <= 2**21
    assert job.data.target is not None
    apart = (job.data.target.flat - job.data.noisy.flat) * job.normalizer.scale
    assert torch.allclose(apart, torch.full_like(apart, 10.0), atol=1e-3)
    assert resolve(Order(tmp_path / "noisy", **common)).noisy.pixels == 4 * 2**20
    with pytest.raises(Stopped):
        pf.train(
            tmp_path / "noisy",
            max_bytes=bound,
            steps=3,
            out=tmp_path / "run",
            on_step=lambda done, *_: done == 1,
            **common,
        )
    assert read_order(tmp_path / "run/config.toml")["max_bytes"] == bound
    pf.train(out=tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match=r"too little to train: give `max_bytes` above"):
        pf.train(tmp_path / "noisy", max_bytes=1e6, **common)
