"""What a network may say of itself, and what holds where it is silent.

Nothing else asks a network for such attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor, nn

_SILENT = object()
GRID_PATCHES = 8
"""Patches that the grid of a network is measured on: a fifth of its size away from that of 64."""


class NetworkTraits(Protocol):
    """Attributes that a network, an ``nn.Module`` of (B, C, H, W) -> (B, C, H, W), may have.

    None of them is required.

    One that is silent is taken for a network that sees a neighbourhood of each pixel, which is then measured
    (``receptive_field.measured_receptive_field_px``), on inputs of any height and width.
    """

    stride: int | tuple[int, ...]
    """Pixels that H and W of an input must be multiples of. Silent: 1.

    Of several, as a bare ``nn.Conv2d`` says (1, 1), the largest.
    """

    whole_image: bool
    """True: it must see the whole image, and is never applied to tiles. Silent: False."""

    measured_from_data: bool
    """True: its numbers are measured from the training images, not learned. Silent: False.

    Another run starts without them.
    """

    progress: Callable[[float], None] | None
    """What it calls, as it goes on, with the share of the image that is done, in 0..1; None for silence.

    For one that works on an image for minutes. Networks without the attribute are heard after each tile.
    """

    def settle_grid(self, patches: Tensor) -> None:
        """Take off, from now on, what sets the places of its cells apart. Silent: nothing is done.

        Called after training with patches (B, C, H, W), network units; H and W are multiples of ``stride``.
        """

    def receptive_field_px(self, channels: int) -> int:
        """Largest distance, in pixels, at which an input pixel can change an output pixel.

        Silent: it is measured. For a network made of many passes of another, of which it follows from the
        other's.
        """

    def whole_bytes(self, channels: int) -> tuple[float, float]:
        """Memory that an image takes of which the whole is worked on. Silent: not foretold.

        Bytes beside its size, and for each pixel.
        """

    def seconds(self, channels: int, height: int, width: int) -> float:
        """What an image of that size takes at most. Silent: timed on a tile."""


def total_stride(net: nn.Module) -> int:
    """Pixels that the input's height and width must be a multiple of; 1 where the network does not say."""
    stride = _stated(net, "stride")
    if stride is _SILENT:
        return 1
    return max(stride) if isinstance(stride, tuple) else int(stride)


def sees_whole_image(net: nn.Module) -> bool:
    """Whether the network must see the whole image, so that it cannot be applied in tiles."""
    whole = _stated(net, "whole_image")
    return whole is not _SILENT and bool(whole)


def is_measured_from_data(net: nn.Module) -> bool:
    """Whether the numbers of the network are measured from the training images, not learned."""
    measured = _stated(net, "measured_from_data")
    return measured is not _SILENT and bool(measured)


def settle_grid(net: nn.Module, patches: Tensor) -> None:
    """Let a network that can take off its grid, as it is seen on patches (B, C, H, W)."""
    settle = _stated(net, "settle_grid")
    if settle is not _SILENT:
        settle(patches)


def stated_receptive_field_px(net: nn.Module, channels: int) -> int | None:
    """The receptive field as the network states it; None where it does not."""
    state = _stated(net, "receptive_field_px")
    return None if state is _SILENT else int(state(channels))


def whole_image_bytes(net: nn.Module, channels: int) -> tuple[float, float]:
    """Memory of an image that is worked on whole: bytes beside its size, and for each pixel.

    0 where the network does not say.
    """
    state = _stated(net, "whole_bytes")
    if state is _SILENT:
        return 0.0, 0.0
    fixed, each = state(channels)
    return float(fixed), float(each)


def seconds_for_image(net: nn.Module, channels: int, height: int, width: int) -> float | None:
    """What an image of that size takes at most; None where the network does not say."""
    state = _stated(net, "seconds")
    return None if state is _SILENT else float(state(channels, height, width))


@contextmanager
def hear_progress(net: nn.Module, listener: Callable[[float], None]) -> Iterator[bool]:
    """Inside, a network that tells how far it is tells ``listener``, in 0..1. Yields whether it is one."""
    if _stated(net, "progress") is _SILENT:
        yield False
        return
    telling: Any = net
    telling.progress = listener
    try:
        yield True
    finally:
        telling.progress = None


def _stated(net: nn.Module, name: str) -> Any:
    """What the network says under that name; a layer that has such a name by chance is no statement."""
    value = getattr(net, name, _SILENT)
    return _SILENT if isinstance(value, nn.Module) else value
