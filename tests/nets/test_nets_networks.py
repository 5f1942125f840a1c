"""Every network keeps shapes, starts as its docstring says, and its receptive field is measured right."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pairfree.errors import ConfigError
from pairfree.nets import NETS, build
from pairfree.nets.blocks import (
    clip,
    he_init,
    normal_init,
    parameter_count,
)
from pairfree.nets.dncnn import DnCNN
from pairfree.nets.receptive_field import _positive_copy, measured_receptive_field_px
from pairfree.nets.shuffle_unet import ShuffleUNet
from pairfree.nets.traits import total_stride
from pairfree.nets.unet import UNet

STRIDES = {
    "even-unet": 8,
    "shuffle-unet": 8,
    "unet": 8,
    "blur-unet": 8,
    "dncnn": 1,
    "plain-dncnn": 1,
}
PARAMETERS_BY_HAND = {
    # DnCNN, Zhang et al.: 17 layers of 64 channels; the first and last have biases, the 15 inner ones a batch
    # norm
    "dncnn": (9 * 64 + 64) + 15 * (9 * 64 * 64 + 2 * 64) + (9 * 64 + 1),
    # two 3x3 convolutions a level, 32-64-128-128, decoder on concatenated skips, 1x1 at the end
    "unet": sum(
        9 * a * b + b + 9 * b * b + b
        for a, b in [(1, 32), (32, 64), (64, 128), (128, 128), (256, 128), (192, 64), (96, 32)]
    )
    + 33,
}


def lively(net: nn.Module, seed: int = 0) -> nn.Module:
    """float64, evaluation mode, positive weights without biases: every path counts and none cancels."""
    torch.manual_seed(seed)
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.5, 1.0) if parameter.ndim > 1 else nn.init.zeros_(parameter)
        with torch.no_grad():
            parameter.div_(max(1, parameter[0].numel()))
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
    return net.double().eval()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("predict", ["residual", "image"])
def test_shape_and_type_are_kept(name, channels, predict):
    net = build(name, channels, 4, predict)
    stride = total_stride(net)
    for rows, columns in ((1, 2), (3, 1)):
        x = torch.rand(2, channels, 8 // stride * rows * stride, 8 // stride * columns * stride)
        out = net(x)
        assert (out.shape, out.dtype) == (x.shape, x.dtype)
        out.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("name", NETS)
def test_residual_output_is_the_input_minus_the_image_output(name):
    """The two modes of one set of weights: y - f(y) and f(y)."""
    residual, image = build(name, 1, 4, "residual").eval(), build(name, 1, 4, "image").eval()
    residual.load_state_dict(image.state_dict())
    x = torch.rand(1, 1, 16, 16)
    assert image(x).abs().sum() > 0
    torch.testing.assert_close(residual(x), x - image(x))


@pytest.mark.parametrize(
    ("name", "predict"), [("shuffle-unet", "residual"), ("unet", "image"), ("dncnn", "residual")]
)
def test_default_prediction_mode(name, predict):
    assert build(name, 1, 4).predict == predict


def test_fresh_shuffle_unet_is_the_identity():
    """Its last convolution starts at zero; in image mode it must not, or nothing would move."""
    x = torch.rand(1, 2, 16, 16)
    assert torch.equal(ShuffleUNet(2, 4)(x), x)
    assert ShuffleUNet(2, 4, predict="image")(x).abs().sum() > 0


@pytest.mark.parametrize("name", NETS)
def test_stride_is_stated_and_needed_at_most(name):
    net = build(name, 1, 4)
    assert total_stride(net) == STRIDES[name]
    x = torch.rand(1, 1, STRIDES[name] * 3, STRIDES[name])
    assert net(x).shape == x.shape


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_stride_of_shuffle_unet_doubles_with_each_level(levels):
    net = ShuffleUNet(1, 2, levels=levels)
    assert net.stride == 2**levels
    x = torch.rand(1, 1, net.stride, 2 * net.stride)
    assert net(x).shape[-2:] == x.shape[-2:]


def test_plain_modules_have_stride_1():
    assert total_stride(nn.Conv2d(1, 1, 3)) == 1


@pytest.mark.parametrize("name", NETS)
def test_the_start_depends_on_the_seed_alone(name):
    def start(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(build(name, 1, 4).state_dict().values())

    assert all(torch.equal(a, b) for a, b in zip(start(1), start(1), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(start(1), start(2), strict=True))


@pytest.mark.parametrize("name", PARAMETERS_BY_HAND)
def test_parameter_count_is_that_of_the_paper(name):
    assert parameter_count(build(name, 1)) == PARAMETERS_BY_HAND[name]


def test_parameter_count_of_shuffle_unet():
    """Width 32, three levels: 3x3 first and last, 2x2 down and up.

    Residual blocks of two 3x3 lie between: two at 32, two at 64, one at 128.
    """
    blocks = sum(count * 2 * (9 * w * w + w) for w, count in [(32, 2), (64, 2), (128, 1)])
    downs_and_ups = sum(2 * 4 * a * b + a + b for a, b in [(32, 64), (64, 128)])
    assert parameter_count(ShuffleUNet()) == blocks + downs_and_ups + (9 * 4 * 32 + 32) + (
        9 * 32 * 4 + 4
    )


@pytest.mark.parametrize("layers", [1, 2, 5, 12])
@pytest.mark.parametrize("kernel_px", [1, 3, 5])
def test_receptive_field_of_a_stack_is_the_sum_of_the_reaches(layers, kernel_px):
    stack = nn.Sequential(
        *(nn.Conv2d(1, 1, kernel_px, padding=kernel_px // 2) for _ in range(layers))
    )
    assert measured_receptive_field_px(stack, 1) == layers * (kernel_px // 2)


@pytest.mark.parametrize("predict", ["residual", "image"])
@pytest.mark.parametrize("depth", [3, 17, 20, 40])
def test_receptive_field_of_dncnn_is_its_depth(depth, predict):
    """Also beyond the first canvas (32 px), and whatever the batch norms have learned."""
    net = DnCNN(1, 4, depth, predict)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, 1.0, 9.0)
            nn.init.constant_(layer.weight, -1.0)
    assert measured_receptive_field_px(net, 1) == depth


class Subtracts(nn.Module):
    """Takes one channel of a layer from another, or what two layers with a stride make from the image."""

    def __init__(self, channels):
        super().__init__()
        self.stride = 1 if channels else 2
        self.first = nn.Conv2d(
            1, channels or 4, 3 if channels else 2, self.stride, int(channels > 0)
        )
        self.up = nn.ConvTranspose2d(4, 1, 2, stride=2)

    def forward(self, x):
        if self.stride == 2:
            return x - self.up(torch.relu(self.first(x)))
        a, b = self.first(x).chunk(2, dim=1)
        return a - b


@pytest.mark.parametrize(("channels", "reach"), [(0, 0), (2, 1)])
def test_what_is_subtracted_does_not_hide_the_receptive_field(channels, reach):
    """A cell of 2 x 2 px that sees itself reaches nowhere else."""
    assert measured_receptive_field_px(Subtracts(channels), 1) == reach


def test_a_wide_network_is_probed_without_a_copy_of_its_weights():
    net = nn.Conv2d(1, 1, 3, padding=1)
    net.add_module("spare", nn.Linear(3000, 3000))
    probe = _positive_copy(net)
    assert probe.spare.weight.untyped_storage().nbytes() < 3000 * 8 + 1
    assert probe.weight.dtype == torch.float64
    assert not torch.equal(probe.weight.float(), net.weight)


def test_receptive_field_of_the_identity_is_0():
    assert measured_receptive_field_px(nn.Identity(), 3) == 0


def test_dilated_and_one_sided_fields_are_measured_at_their_farthest():
    assert measured_receptive_field_px(nn.Conv2d(1, 1, 3, padding=7, dilation=7), 1) == 7
    causal = nn.Sequential(nn.ZeroPad2d((0, 0, 3, 0)), nn.Conv2d(1, 1, (4, 1)))
    assert measured_receptive_field_px(causal, 1) == 3


def test_measuring_leaves_the_network_alone():
    net = DnCNN(1, 4, 5)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    measured_receptive_field_px(net, 1)
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_network_that_mixes_the_whole_image_is_refused():
    mixes = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.InstanceNorm2d(2), nn.Conv2d(2, 1, 3, padding=1)
    )
    with pytest.raises(ValueError, match="larger than 64 px"):
        measured_receptive_field_px(mixes, 1, limit_px=64)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-1.0, 0.25), (torch.tensor(0.2), torch.tensor(0.8))]
)
def test_clip_is_clamp_with_a_gradient_of_1_at_both_bounds(low, high):
    """The gradient of torch.clamp at its bounds changed with PyTorch 2.15.

    A saturated pixel, which lies there, must train as before.
    """
    inner = torch.linspace(-2, 2, 41)
    x = torch.cat(
        [inner, torch.tensor([float(low), float(high), math.nan, math.inf, -math.inf])]
    ).requires_grad_(True)
    clipped = clip(x, low, high)
    torch.testing.assert_close(clipped, x.clamp(low, high), rtol=0, atol=0, equal_nan=True)
    (gradient,) = torch.autograd.grad(clipped.sum(), x)
    assert torch.equal(gradient, ((x >= low) & (x <= high)).float())


@pytest.mark.parametrize(
    "make",
    [ShuffleUNet, UNet, lambda *a: DnCNN(*a, depth=6)],
    ids=["shuffle-unet", "unet", "dncnn"],
)
def test_nothing_beyond_the_measured_field_matters_and_its_rim_does(make):
    """Change every pixel farther than the field: one stride cell of outputs stays bit for bit.

    Change its rim alone: the cell changes.
    """
    net = lively(make(1, 2))
    field_px, stride = measured_receptive_field_px(net, 1), total_stride(net)
    size = -(-(2 * field_px + 48) // stride) * stride
    start = size // 2 // stride * stride
    index = torch.arange(size)
    away = torch.clamp(torch.maximum(start - index, index - (start + stride - 1)), min=0)
    distance = torch.maximum(away.view(-1, 1), away.view(1, -1))
    torch.manual_seed(3)
    x = torch.rand(1, 1, size, size, dtype=torch.float64)

    def cell(image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return net(image)[..., start : start + stride, start : start + stride]

    plain = cell(x)
    assert torch.equal(cell(torch.where(distance > field_px, 100 * torch.rand_like(x), x)), plain)
    rim = cell(torch.where(distance == field_px, x + 1e6, x))
    assert (rim - plain).abs().max() > 0
    assert math.isfinite(rim.abs().max().item())


def test_initialisations_have_the_stated_spread():
    layer = nn.Conv2d(64, 64, 3)
    he_init(layer)
    assert layer.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)
    assert layer.bias.abs().sum() == 0
    normal_init(layer)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert build("unet", 1).last.weight.std().item() == pytest.approx(0.02, rel=0.5)


def test_build_names_what_there_is():
    with pytest.raises(ConfigError, match="no network named 'uNet', did you mean 'unet'"):
        build("uNet", 1)
    with pytest.raises(ConfigError, match=r"no network named 'resnet'.*dncnn, shuffle-unet, unet"):
        build("resnet", 1)
    with pytest.raises(ConfigError, match=r"predict = 'noise'.*'residual' or 'image'"):
        build("unet", 1, predict="noise")
