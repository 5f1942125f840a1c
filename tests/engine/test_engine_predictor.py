"""R14, R20: tiling is invisible, any size and type works, and what is left alone comes back exactly."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pairfree.data.normalize import Normalizer
from pairfree.engine import predictor as predictor_module
from pairfree.engine.model import Model
from pairfree.engine.planes import sample_places
from pairfree.engine.predictor import Predictor
from pairfree.engine.record import Record
from pairfree.engine.tiles import core_for_memory, plan_tiles
from pairfree.errors import ConfigError, InputError
from pairfree.files.image import Image
from pairfree.methods import METHODS
from pairfree.methods.base import Method
from pairfree.methods.parts.cooperation import Ensemble
from pairfree.methods.parts.unpaired import Bounded
from pairfree.nets.batch_instance_norm import BatchInstanceNorm
from pairfree.nets.dncnn import DnCNN
from pairfree.nets.iscl import Extractor, Generator
from pairfree.nets.receptive_field import measured_receptive_field_px
from pairfree.nets.shuffle_unet import ShuffleUNet
from pairfree.nets.unet import UNet


class Plain(Method):
    """A network and nothing else."""

    key = "plain"

    def __init__(self, net):
        self.net, self.networks, self.optimizers = net, {"net": net}, {}

    denoiser = property(lambda self: self.net)
    device = torch.device("cpu")

    def step(self, batch, at):
        return {}

    def denoise(self, x):
        return self.net(x)


class Exact(Plain):
    """The network in float64, so that what tiling does stands apart from rounding.

    Random weights may amplify rounding as they like.
    """

    def __init__(self, net):
        super().__init__(net.double())

    def denoise(self, x):
        return self.net(x.double()).float()


def random_weights(net, seed):
    """Every weight is random, those of the last layer and the batch statistics, too.

    They are scaled so that outputs stay of order one.
    """
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            fan = max(1, parameter[0].numel() if parameter.ndim > 1 else 1)
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * (1.5 / fan) ** 0.5)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(
                    torch.randn(module.running_mean.shape, generator=rng) * 0.3
                )
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=rng) + 0.5)
                module.weight.copy_(torch.rand(module.weight.shape, generator=rng) + 0.5)
    return net


def model_of(net, channels=1, normalizer=None, **how):
    return untrained(Predictor(Plain(net), normalizer or Normalizer(0.0, 1.0), channels, **how))


def untrained(predictor):
    """A model that no run made."""
    return Model(
        predictor, Record.untrained(predictor.method.key, predictor.normalizer, predictor.channels)
    )


# -- the arithmetic of tiles ---------------------------------------------------------------------------------

sides = st.integers(1, 300)


@given(
    height=sides,
    width=sides,
    core=st.integers(1, 200),
    halo=st.integers(0, 90),
    power=st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_cores_are_a_partition_and_reads_hold_core_and_halo(height, width, core, halo, power):
    """Every pixel is written by exactly one tile, which saw all its surroundings.

    Surroundings reach to the halo or to the image's border.
    """
    stride = 2**power
    height, width = -(-height // stride) * stride, -(-width // stride) * stride
    written = np.zeros((height, width), np.uint8)
    for tile in plan_tiles(height, width, core, halo, stride):
        top, bottom, left, right = tile.core
        written[top:bottom, left:right] += 1
        assert bottom > top
        assert right > left
        read_top, read_bottom, read_left, read_right = tile.read
        assert 0 <= read_top <= max(0, top - halo)
        assert 0 <= read_left <= max(0, left - halo)
        assert min(height, bottom + halo) <= read_bottom <= height
        assert min(width, right + halo) <= read_right <= width
        assert [value % stride for value in tile.read + tile.core] == [0] * 8
    assert (written == 1).all()


@given(
    limit=st.floats(1e3, 1e9),
    per_px=st.floats(1, 1e4),
    halo=st.integers(0, 90),
    power=st.integers(0, 5),
    largest=st.integers(1, 2000),
)
@settings(max_examples=100, deadline=None)
def test_core_for_memory_keeps_the_bound(limit, per_px, halo, power, largest):
    """Tile with halo fits the memory, unless not even one stride does."""
    stride = 2**power
    core = core_for_memory(limit, per_px, halo, stride, largest)
    assert core % stride == 0
    assert stride <= core <= max(stride, largest)
    if core > stride:
        assert (core + 2 * -(-halo // stride) * stride) ** 2 * per_px <= limit


# -- tiled equals whole --------------------------------------------------------------------------------------

NETS = {
    "shuffle-unet": lambda: ShuffleUNet(1, 4),
    "unet": lambda: UNet(1, 4),
    "dncnn": lambda: DnCNN(1, 4, depth=5),
    "iscl": lambda: Bounded(Ensemble(Generator(1, 4, 1), Extractor(1, 4, 5), 0.5)),
}


def assert_tiling_is_invisible(name, height, width, core, seed, kind=Exact, tolerance=1e-6):
    net = random_weights(NETS[name](), seed)
    image = np.random.default_rng(seed).normal(0, 1, (1, height, width))
    whole = Predictor(kind(net), Normalizer(0.0, 1.0), 1, core_px=4096)
    tiled = Predictor(kind(net), Normalizer(0.0, 1.0), 1, core_px=core)
    assert tiled.core_px <= max(core, tiled.stride_px) < whole.core_px
    change = whole.predict(image) - image
    # With statistics of a pixel or two, a network may do next to nothing.
    if min(height, width) >= 4:
        assert np.abs(change).max() > 1e-3
    assert np.abs(tiled.predict(image) - image - change).max() <= tolerance * max(
        1.0, np.abs(change).max()
    )


@pytest.mark.parametrize("name", NETS)
@given(height=sides, width=sides, core=st.integers(24, 80), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_tiled_equals_whole(name, height, width, core, seed):
    assert_tiling_is_invisible(name, height, width, core, seed)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NETS)
@given(height=sides, width=sides, core=st.integers(8, 128), seed=st.integers(0, 10**6))
@settings(max_examples=333, deadline=None)
def test_tiled_equals_whole_many(name, height, width, core, seed):
    assert_tiling_is_invisible(name, height, width, core, seed)


@pytest.mark.parametrize("name", NETS)
def test_without_a_halo_tiles_show(name):
    """So the test above can fail."""
    net = random_weights(NETS[name](), 0)
    predictor = Predictor(Plain(net), Normalizer(0.0, 1.0), 1, core_px=32)
    whole = Predictor(Plain(net), Normalizer(0.0, 1.0), 1, core_px=4096)
    image = np.random.default_rng(0).normal(0, 1, (1, 97, 130))
    assert predictor.halo_px > 0
    predictor.halo_px = 0
    assert np.abs(predictor.predict(image) - whole.predict(image)).max() > 1e-3


def test_instance_statistics_of_a_large_image_leave_no_seams():
    assert_tiling_is_invisible("iscl", 900, 1200, 256, 0, Plain, 1e-5)


@pytest.mark.parametrize("name", NETS)
def test_tiled_equals_whole_in_float32(name):
    assert_tiling_is_invisible(name, 301, 190, 64, 0, Plain, 1e-5)


@pytest.mark.parametrize("max_px", [64 * 64, 100 * 300, 10**9])
def test_statistics_come_from_a_sample_where_the_image_does_not_fit(max_px):
    """Tiles of any size then still agree: they are given the same statistics."""
    net = random_weights(NETS["iscl"](), 3)
    image = np.random.default_rng(3).normal(0, 1, (1, 301, 402))
    first, second = (
        Predictor(Plain(net), Normalizer(0.0, 1.0), 1, core_px=core) for core in (64, 100)
    )
    for predictor in (first, second):
        predictor.max_bytes = max_px * predictor.bytes_per_px
    np.testing.assert_allclose(first.predict(image), second.predict(image), atol=1e-5)
    taken = sample_places(304, 404, max_px, 4)
    assert sum((bottom - top) * (right - left) for top, bottom, left, right in taken) <= max_px
    assert all(number % 4 == 0 for place in taken for number in place)
    assert all(
        0 <= top < bottom <= 304 and 0 <= left < right <= 404 for top, bottom, left, right in taken
    )
    assert taken == sample_places(304, 404, max_px, 4)


def test_progress_counts_every_pixel_once():
    counted = []
    Predictor(Plain(ShuffleUNet(1, 4)), Normalizer(0.0, 1.0), 1, core_px=24).predict(
        np.zeros((1, 61, 35)), counted.append
    )
    assert sum(counted) == 61 * 35
    assert len(counted) > 1


def test_less_memory_means_smaller_tiles():
    big, small = (
        Predictor(Plain(ShuffleUNet(1, 4)), Normalizer(0.0, 1.0), 1, max_bytes=size)
        for size in (2e9, 5e6)
    )
    assert small.core_px < big.core_px


def test_a_network_that_sees_the_whole_image_is_refused_or_declared(monkeypatch):
    """Instance norm has no receptive field, so the network must say that it wants the whole image.

    Tiles would change the result.
    """
    # For speed.
    monkeypatch.setattr(
        predictor_module,
        "measured_receptive_field_px",
        partial(measured_receptive_field_px, limit_px=64),
    )
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.InstanceNorm2d(2), nn.Conv2d(2, 1, 3, padding=1)
    )
    with pytest.raises(ConfigError, match="whole_image"):
        model_of(net)
    net.whole_image = True
    assert model_of(net).denoise(np.random.default_rng(0).random((40, 50))).shape == (40, 50)


# -- what comes back -----------------------------------------------------------------------------------------

TYPES = [
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "float16",
    "float32",
    "float64",
    ">u2",
    ">i4",
    ">f4",
    ">f8",
]


def extremes(dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        values = np.random.default_rng(0).normal(0, 100, (9, 17)).astype(dtype)
    else:
        bounds = np.iinfo(dtype)
        values = np.random.default_rng(0).integers(
            bounds.min, bounds.max, (9, 17), endpoint=True, dtype=dtype.newbyteorder("=")
        )
        values[0, :2] = bounds.min, bounds.max
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_what_the_network_leaves_alone_comes_back_exactly(dtype):
    """A fresh ShuffleUNet is the identity: every value of every type returns bit by bit.

    It does so through any intensity map.
    """
    image = extremes(dtype)
    back = model_of(ShuffleUNet(1, 4), normalizer=Normalizer(123.456, 789.1)).denoise(image)
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image)


def test_all_of_uint16_survives():
    image = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    back = model_of(ShuffleUNet(1, 4), normalizer=Normalizer(-7.3, 1000.1)).denoise(image)
    np.testing.assert_array_equal(back, image)


def test_clipped_pixels_are_counted_and_never_wrap():
    """uint8 250 + 10 is 255, not 4."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1))  # y + 1
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.fill_(1.0)
    image = Image(np.array([[0, 100], [250, 255]], np.uint8), "YX")
    done = model_of(net, normalizer=Normalizer(0.0, 10.0)).denoise_image(image)
    np.testing.assert_array_equal(done.image.pixels, [[10, 110], [255, 255]])
    assert done.clipped == 2


DEGENERATE = {
    "1x1": np.full((1, 1), 5),
    "1xN": np.arange(40).reshape(1, 40),
    "Nx1": np.arange(40).reshape(40, 1),
    "constant": np.full((20, 20), 7),
    "zero": np.zeros((20, 20)),
    "two-valued": np.indices((21, 19)).sum(0) % 2 * 200,
    "3 slices": np.arange(3 * 5 * 7).reshape(3, 5, 7),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_images_give_finite_output_of_the_same_kind(name, dtype):
    net = random_weights(ShuffleUNet(1, 4), 1)
    image = DEGENERATE[name].astype(np.float64).clip(0, 120).astype(dtype)
    done = model_of(net, normalizer=Normalizer(0.0, 50.0), core_px=16).denoise(image)
    assert done.shape == image.shape
    assert done.dtype == image.dtype
    assert np.isfinite(done.astype(np.float64)).all()


def test_all_65535_never_wraps_to_zero():
    image = np.full((30, 30), 65535, np.uint16)
    net = random_weights(ShuffleUNet(1, 4), 1)
    with torch.no_grad():
        net.last.weight.zero_()
        net.last.bias.fill_(-0.5)  # output: y + 0.5
    assert (model_of(net, normalizer=Normalizer(0.0, 65535.0)).denoise(image) == 65535).all()


def test_channels_are_denoised_together_alpha_stays():
    net = random_weights(ShuffleUNet(3, 4), 2)
    model = model_of(net, 3, Normalizer(0.0, 255.0))
    rgba = np.random.default_rng(0).integers(0, 256, (20, 31, 4), dtype=np.uint8)
    done = model.denoise_image(Image(rgba, "YXS")).image.pixels
    np.testing.assert_array_equal(done[..., 3], rgba[..., 3])
    np.testing.assert_array_equal(
        np.moveaxis(done[..., :3], -1, 0), model.denoise(np.moveaxis(rgba[..., :3], -1, 0))
    )
    assert (done[..., :3] != rgba[..., :3]).any()
    stack = np.stack([np.moveaxis(rgba[..., :3], -1, 0)] * 2)
    np.testing.assert_array_equal(model.denoise(stack, axes="ZCYX")[1], model.denoise(stack[1]))
    with pytest.raises(InputError, match="1 channel, the model was trained on 3"):
        model.denoise(rgba[..., 0])


def test_a_last_sample_that_is_no_transparency_is_denoised_too():
    model = model_of(random_weights(ShuffleUNet(4, 4), 2), 4)
    image = np.random.default_rng(0).normal(0, 1, (20, 31, 4)).astype(np.float32)
    done = model.denoise_image(Image(image, "YXS", alpha=False)).image.pixels
    assert all((done[..., sample] != image[..., sample]).any() for sample in range(4))


def test_intensities_far_from_those_of_training_are_told():
    model = model_of(random_weights(ShuffleUNet(1, 4), 2), 1, Normalizer(0.0, 255.0))
    plain = np.random.default_rng(0).integers(0, 256, (40, 50))
    assert model.warn_of_intensities(Image(plain.astype(np.uint8), "YX")) == []
    hot = plain.astype(np.uint16)
    hot[:3] = 60000
    assert model.warn_of_intensities(Image(hot, "YX")) == []
    for values in (plain * 200, plain - 2000.0):
        (line,) = model.warn_of_intensities(Image(values.astype(np.float32), "YX"))
        assert "far outside those of training (0 .. 255)" in line


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_pixels_are_refused_with_count_and_place(bad):
    image = np.zeros((3, 8, 9), np.float32)
    image[1, 2, 3] = image[1, 4, 5] = bad
    with pytest.raises(InputError, match=r"\[1\].*2 of 72 pixels.*row 2, column 3"):
        model_of(ShuffleUNet(1, 4)).denoise(image)


def test_intensities_beyond_float32_are_refused_not_turned_into_nan():
    with pytest.raises(InputError, match="trained near"):
        model_of(random_weights(ShuffleUNet(1, 4), 0)).denoise(np.full((8, 8), 3e38))


@pytest.mark.parametrize(
    ("array", "axes"),
    [
        (np.zeros((4, 4), bool), None),
        (np.zeros((4, 4), complex), None),
        (np.zeros((4, 4), object), None),
        (np.zeros((0, 4)), None),
        (np.zeros(4), None),
        (np.zeros((2, 2, 4, 4)), None),
        (np.zeros((2, 4, 4)), "YX"),
        (np.zeros((2, 4, 4)), "XYA"),
        (np.array(3.0), None),
    ],
)
def test_arrays_that_are_no_images_are_refused(array, axes):
    with pytest.raises(InputError):
        model_of(ShuffleUNet(1, 4)).denoise(array, axes)


@pytest.mark.parametrize("failures", [1, 3])
def test_tiles_are_halved_when_memory_runs_out(monkeypatch, failures):
    """Then every later image is tiled as finely, and the result is that of such tiles."""
    net = DnCNN(1, 4, depth=3)
    image = np.random.default_rng(0).normal(size=(1, 90, 70))
    expected = Predictor(Plain(net), Normalizer(0.0, 1.0), 1, core_px=64 >> failures).predict(image)
    predictor = Predictor(Plain(net), Normalizer(0.0, 1.0), 1, core_px=64)
    true, left = predictor._apply_to_tile, [failures]

    def scarce(*given):
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return true(*given)

    monkeypatch.setattr(predictor, "_apply_to_tile", scarce)
    np.testing.assert_array_equal(predictor.predict(image), expected)
    assert predictor.core_px == 64 >> failures


def test_statistics_of_a_plane_are_taken_from_fewer_pixels_when_memory_runs_out():
    """The sample that stands for the plane is larger than any tile: smaller tiles alone would not help."""

    class Scarce(Plain):
        def denoise(self, x):
            if x.numel() > 50_000:
                raise RuntimeError("CUDNN_STATUS_ALLOC_FAILED")
            return super().denoise(x)

    net = random_weights(
        nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), BatchInstanceNorm(4), nn.Conv2d(4, 1, 3, padding=1)
        ),
        0,
    )
    image = np.random.default_rng(0).normal(size=(1, 600, 500))
    predictor = Predictor(Scarce(net), Normalizer(0.0, 1.0), 1, core_px=128, max_bytes=2e7)
    expected = Predictor(Plain(net), Normalizer(0.0, 1.0), 1, core_px=4096).predict(image)
    assert np.abs(predictor.predict(image) - expected).max() < 0.2 * np.abs(expected - image).max()
    assert predictor.sample_bytes < 2e7


class Small(Plain):
    """On a device that is out of memory for more than so many pixels at a time; counts its attempts."""

    def __init__(self, net, most_px):
        super().__init__(net)
        self.most_px, self.tried = most_px, []

    def denoise(self, x):
        side = x.shape[-1]
        if not self.tried or self.tried[-1] != side:
            self.tried.append(side)
        if x.shape[-2] * side > self.most_px:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().denoise(x)


def on_small_device(side_px, core_px=64, channels=1):
    """A predictor on a device that takes tiles of that side, of a network whose halo is 3 px."""
    net = random_weights(nn.Sequential(nn.Conv2d(channels, channels, 7, padding=3)), 0)
    made = Predictor(Plain(net), Normalizer(0.0, 1.0), channels, core_px=core_px)
    made.method = Small(net, side_px**2)
    return made


@pytest.mark.parametrize(("fits_px", "core_px"), [(64 + 6, 64), (32 + 6, 32), (8 + 6, 8)])
def test_a_device_without_memory_gets_tiles_that_fit_and_their_result(fits_px, core_px):
    """Bit for bit that of such tiles, of no fewer pixels than fit, and of all planes alike."""
    image = Image(np.random.default_rng(0).normal(size=(3, 150, 70)), "ZYX")
    predictor = on_small_device(fits_px)
    found = untrained(predictor).denoise_image(image).image.pixels
    assert predictor.core_px == core_px
    direct = Predictor(Plain(predictor.method.net), Normalizer(0.0, 1.0), 1, core_px=core_px)
    np.testing.assert_array_equal(found, untrained(direct).denoise_image(image).image.pixels)


def test_memory_that_runs_out_at_the_last_plane_gives_no_tiles_of_two_sizes():
    """What was done of the image before is done anew, and what was told of progress is taken back."""
    image = Image(np.random.default_rng(0).normal(size=(3, 150, 70)), "ZYX")
    predictor, told = on_small_device(1000), []

    def tell(pixels):
        told.append(pixels)
        if sum(told) == 2 * 150 * 70:
            predictor.method.most_px = (32 + 6) ** 2

    found = untrained(predictor).denoise_image(image, tell).image.pixels
    assert sum(told) == image.size
    direct = Predictor(Plain(predictor.method.net), Normalizer(0.0, 1.0), 1, core_px=32)
    np.testing.assert_array_equal(found, untrained(direct).denoise_image(image).image.pixels)


@pytest.mark.parametrize(("fits_px", "core_px"), [(4 + 6, 4), (1 + 6, 1)])
def test_after_three_halvings_the_largest_tile_that_fits_is_proposed(fits_px, core_px):
    """Measured here; and under the bound that is proposed, tiles are of that size."""
    predictor = on_small_device(fits_px)
    with pytest.raises(ConfigError, match="out of memory: tiles of 8 px do not fit; give") as told:
        predictor.predict(np.zeros((1, 90, 70)))
    assert predictor.method.tried[:4] == [64 + 3, 32 + 3, 16 + 3, 8 + 3]  # tiles at a corner
    bound = told.value.fitting_bytes
    assert f"`max_bytes` of {bound}: tiles of {core_px} px fit" in str(told.value)
    net = predictor.method.net
    again = Predictor(Plain(net), Normalizer(0.0, 1.0), 1, max_bytes=bound)
    assert again.core_px == core_px
    again.method = Small(net, fits_px**2)
    again.predict(np.random.default_rng(0).normal(size=(1, 12, 9)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(150, 70), (70, 150), (37, 9)])
def test_tiles_of_any_size_cover_images_that_are_not_square(shape, channels):
    image = np.random.default_rng(0).normal(size=(channels, *shape))
    predictor = on_small_device(32 + 6, channels=channels)
    whole = Predictor(Plain(predictor.method.net), Normalizer(0.0, 1.0), channels, core_px=4096)
    np.testing.assert_allclose(predictor.predict(image), whole.predict(image), atol=1e-5)


def test_memory_that_never_suffices_is_one_line(monkeypatch):
    predictor = Predictor(Plain(DnCNN(1, 4, depth=3)), Normalizer(0.0, 1.0), 1, core_px=64)

    def none(*given):
        raise MemoryError

    monkeypatch.setattr(predictor, "_apply_to_tile", none)
    with pytest.raises(ConfigError, match="tiles of 8 px do not fit"):
        predictor.predict(np.zeros((1, 90, 70)))


def test_other_errors_of_a_network_are_not_taken_for_a_shortage(monkeypatch):
    predictor = Predictor(Plain(DnCNN(1, 4, depth=3)), Normalizer(0.0, 1.0), 1, core_px=64)

    def wrong(*given):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(predictor, "_apply_to_tile", wrong)
    with pytest.raises(RuntimeError, match="shapes"):
        predictor.predict(np.zeros((1, 90, 70)))
    assert predictor.core_px == 64


def test_less_memory_than_the_smallest_tile_needs_is_refused():
    with pytest.raises(ConfigError, match="smallest tile of this network needs"):
        Predictor(Plain(UNet(1)), Normalizer(0.0, 1.0), 1, max_bytes=1e4)


# -- every method, both maps of intensities, stacks and colours ----------------------------------------------


TILED = [key for key, method in METHODS.items() if not method.one_image and method.trains]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("key", TILED)
def test_tiled_equals_whole_for_every_method(key, channels, small):
    method = small.method(key, channels)
    random_weights(method.denoiser, 1)
    image = np.random.default_rng(0).normal(500, 120, (channels, 150, 131))
    for normalizer in (Normalizer(0.0, 255.0), Normalizer(320.0, 410.0)):
        whole = Predictor(method, normalizer, channels, core_px=4096).predict(image) - image
        tiled = Predictor(method, normalizer, channels, core_px=48)
        assert tiled.core_px <= 64
        assert np.abs(whole).max() > 1e-3
        assert np.abs(tiled.predict(image) - image - whole).max() <= 1e-5 * max(
            normalizer.scale, np.abs(whole).max()
        )


@pytest.mark.parametrize(
    ("shape", "axes"), [((2, 3, 90, 70), "TCYX"), ((3, 90, 70), "ZYX"), ((90, 70, 3), "YXS")]
)
def test_tiled_equals_whole_with_axes(shape, axes, small):
    channels = 3 if axes.endswith("S") else 1
    method = small.method("n2v", channels)
    random_weights(method.denoiser, 2)
    pixels = np.random.default_rng(0).normal(0.5, 0.2, shape).astype(np.float32)
    whole, tiled = (
        untrained(Predictor(method, Normalizer(0.0, 1.0), channels, core_px=core))
        for core in (4096, 32)
    )
    expected = whole.denoise(pixels, axes)
    assert np.abs(tiled.denoise(pixels, axes) - expected).max() <= 1e-5 * np.abs(expected).max()
