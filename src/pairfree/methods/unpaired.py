"""What the methods share that learn from a noisy set and a clean set of other scenes: range, checks of settings, forward passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor, nn

from pairfree.methods.single import PRECISIONS, autocast
from pairfree.nets.batch_instance_norm import clip_rho, take_statistics
from pairfree.nets.blocks import channels_last

INTENSITIES = ("auto", "common", "separate")


class UnpairedConfig(Protocol):
    """The settings that all of them have."""

    @property
    def patch_px(self) -> int: ...
    @property
    def intensity(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def minutes(self) -> float: ...
    @property
    def steps(self) -> int: ...


def common_problems(config: UnpairedConfig) -> list[str]:
    """What is wrong with the common settings, a phrase each."""
    problems = []
    if config.patch_px < 16 or config.patch_px & (config.patch_px - 1):
        problems.append(f"patch_px = {config.patch_px} must be a power of two from 16 up")
    if min(config.minutes, config.steps) < 0:
        problems.append(f"minutes = {config.minutes}, steps = {config.steps} must not be negative")
    if config.intensity not in INTENSITIES:
        problems.append(f"intensity = {config.intensity!r} must be one of {', '.join(INTENSITIES)}")
    if config.precision not in PRECISIONS:
        problems.append(f"precision = {config.precision!r} must be one of {', '.join(PRECISIONS)}")
    return problems


def signed(x: Tensor) -> Tensor:
    """Network units (0..1 where the files' range is) -> [-1, 1] there."""
    return 2.0 * x - 1.0


def unsigned(x: Tensor) -> Tensor:
    """Inverse of ``signed``."""
    return (x + 1.0) / 2.0


def run(net: nn.Module, x: Tensor, precision: str) -> Tensor:
    """A forward pass in training precision; float32 out."""
    with autocast(x.device, precision):
        out: Tensor = net(channels_last(x))
    return out.float()


@contextmanager
def constant(*nets: nn.Module) -> Iterator[None]:
    """Inside, the weights of ``nets`` collect no gradient, while their inputs still do."""
    parameters = [p for net in nets for p in net.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def settle(*nets: nn.Module) -> None:
    """After an update: normalisation shares into [0, 1], running statistics moved."""
    clip_rho(*nets)
    take_statistics(*nets)


class Bounded(nn.Module):
    """A denoiser of [-1, 1] as one of network units.

    It sees its input clipped to [-1, 1]; what lay beyond is put back, so that a hot pixel or a padding value comes through as it is.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.stride = int(getattr(net, "stride", 1))

    def forward(self, x: Tensor) -> Tensor:
        whole = signed(x)
        inside = whole.clamp(-1.0, 1.0)
        return unsigned(self.net(inside) + (whole - inside))
