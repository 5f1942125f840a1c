"""Apply a trained denoiser to images of any size: tiles with halo, bounded memory, intensities kept where the network leaves them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pairfree.data.normalize import Normalizer
from pairfree.engine.memory import enough, is_shortage
from pairfree.engine.tiles import bytes_for_core, core_for_memory, plan_tiles
from pairfree.errors import ConfigError, InputError
from pairfree.files.words import size_text
from pairfree.methods.base import Method
from pairfree.nets.batch_instance_norm import held_statistics, layers
from pairfree.nets.blocks import measured_receptive_field_px, total_stride

DEFAULT_CORE_PX = 512
DEFAULT_MAX_BYTES = 2_000_000_000
PROBE_PX = 64
MOST_HALVINGS = 3
"""How often tiles are halved when memory runs out."""
SAMPLE_TILE_PX = 256
"""Side of the tiles that stand for an image which does not fit into memory as a whole."""


class Predictor:
    """``predict`` for planes (C, H, W) of intensities. Tiled equals untiled to rounding, whatever the tile size."""

    def __init__(
        self, method: Method, normalizer: Normalizer, channels: int, max_bytes: float = DEFAULT_MAX_BYTES, core_px: int = 0
    ) -> None:
        self.method, self.normalizer, self.channels = method, normalizer, channels
        for net in method.networks.values():
            net.eval()
        net = method.denoiser
        self.whole_image = bool(getattr(net, "whole_image", False))
        self.stride_px = total_stride(net)
        self.max_bytes, self.instance_layers = max_bytes, len(layers(net))
        if self.whole_image:
            self.halo_px, self.core_px = 0, 0
            return
        try:
            self.halo_px = measured_receptive_field_px(net, channels)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"the network cannot be applied in tiles: {error}; if H and W must be multiples of "
                "something, say so in an attribute stride; set whole_image = True on it if it must see the whole image"
            ) from None
        largest = core_px or DEFAULT_CORE_PX
        self.bytes_per_px = activation_bytes_per_px(method, channels)
        self.core_px = core_for_memory(max_bytes, self.bytes_per_px, self.halo_px, self.stride_px, largest)
        least = bytes_for_core(self.stride_px, self.bytes_per_px, self.halo_px, self.stride_px)
        if least > max_bytes:
            raise ConfigError(
                f"{size_text(int(max_bytes))} of memory are too little: the smallest tile of this network needs {size_text(least)}"
            )

    def predict(self, intensity: np.ndarray, on_pixels: Callable[[int], None] | None = None) -> np.ndarray:
        """Denoise one plane.

        intensity   (C, H, W) of any supported dtype, C the model's channels; finite
        on_pixels   called with the number of pixels of each finished tile
        Returns     (C, H, W) float64: intensity + scale * (F(y) - y), so that what the network leaves alone comes back exactly
        """
        with self._told(on_pixels, intensity[0].size) as tell:
            return intensity + self.normalizer.scale * self._over_tiles(intensity, lambda x: self.method.denoise(x) - x, tell)

    @contextmanager
    def _told(self, on_pixels: Callable[[int], None] | None, pixels: int) -> Iterator[Callable[[int], None] | None]:
        """What a finished tile is told to. A network that works on an image for minutes (``progress``) tells by itself how far it is."""
        net: Any = self.method.denoiser
        if on_pixels is None or not hasattr(net, "progress"):
            yield on_pixels
            return
        reached = 0

        def progress(share: float) -> None:
            nonlocal reached
            done = int(share * pixels)
            on_pixels(done - reached)
            reached = done

        net.progress = progress
        try:
            yield None
        finally:
            net.progress = None
        on_pixels(pixels - reached)

    def disagreement(self, intensity: np.ndarray) -> np.ndarray:
        """How far the method's two denoisers are apart: (C, H, W) as in ``predict`` -> same shape, float64, intensity units, not negative.

        Raises   ConfigError for a method with one denoiser
        """
        return self.normalizer.scale * self._over_tiles(intensity, self.method.disagreement)

    def _over_tiles(
        self, intensity: np.ndarray, apply: Callable[[Tensor], Tensor], on_pixels: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """``apply`` over all tiles of a plane (C, H, W): (1, C, h, w) network units -> same shape; float64, put together."""
        channels = len(intensity)
        if channels != self.channels:
            raise InputError(f"image has {channels} channels, the model was trained on {self.channels}; use a model trained on such images")
        self._check_whole(intensity)
        with np.errstate(over="ignore"):  # what float32 cannot hold shows as a non-finite output below
            padded = _pad_to_stride(self.normalizer.apply(intensity), self.stride_px)
        for _ in range(MOST_HALVINGS):
            try:
                return self._tiled(intensity, padded, apply, on_pixels)
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                if self.core_px < 2 * self.stride_px:
                    break
            self.core_px //= 2  # outside the handler: its traceback holds on to the memory of the tile
        what = "the whole image does" if self.whole_image else f"tiles of {self.core_px} px do"
        with enough(f"{what} not fit; free some memory, crop the image, or use another device"):
            return self._tiled(intensity, padded, apply, on_pixels)

    @cached_property
    def _learning_bytes_per_px(self) -> float:
        """Memory that learning an image takes, bytes for each of its pixels; 0 for a network that is only applied."""
        net: Any = self.method.denoiser
        return float(net.bytes_per_px(self.channels)) if hasattr(net, "bytes_per_px") else 0.0

    def _check_whole(self, intensity: np.ndarray) -> None:
        """ConfigError, before minutes are spent, for an image that a network which learns it whole has no memory for."""
        each, pixels = self._learning_bytes_per_px, intensity[0].size
        if each * pixels > self.max_bytes:
            side = int((self.max_bytes / each) ** 0.5)
            raise ConfigError(
                f"learning an image of {intensity.shape[1]} x {intensity.shape[2]} px whole needs {size_text(int(each * pixels))}, more "
                f"than the {size_text(int(self.max_bytes))} allowed: crop it to {side} x {side} px, or raise --max-memory"
            )

    def _tiled(
        self, intensity: np.ndarray, padded: np.ndarray, apply: Callable[[Tensor], Tensor], on_pixels: Callable[[int], None] | None
    ) -> np.ndarray:
        out = np.empty(intensity.shape, np.float64)
        height, width = intensity.shape[1:]
        high, wide = padded.shape[1:]
        core = self.core_px or max(high, wide)
        with self._statistics(padded):
            for tile in plan_tiles(high, wide, core, self.halo_px, self.stride_px):
                change = self._applied(apply, padded, tile.read)
                top, bottom, left, right = tile.core
                bottom, right = min(bottom, height), min(right, width)
                if bottom <= top or right <= left:
                    continue
                if not np.isfinite(change).all():
                    low, high = self.normalizer.offset, self.normalizer.offset + self.normalizer.scale
                    raise InputError(
                        f"the network's output is not finite for intensities {intensity.min():.6g} .. {intensity.max():.6g}; it was "
                        f"trained near {low:.6g} .. {high:.6g}: use images of that kind"
                    )
                inside = change[:, top - tile.read[0] : bottom - tile.read[0], left - tile.read[2] : right - tile.read[2]]
                out[:, top:bottom, left:right] = inside
                if on_pixels is not None:
                    on_pixels((bottom - top) * (right - left))
        return out

    def _statistics(self, padded: np.ndarray) -> AbstractContextManager[None]:
        """Instance statistics for all tiles of one plane (C, H, W): of the whole plane, or where memory forbids, of tiles drawn from it."""
        if not self.instance_layers or self.whole_image:
            return nullcontext()
        sample = np.ascontiguousarray(sample_of(padded, self.max_bytes / self.bytes_per_px, self.stride_px))
        whole = torch.from_numpy(sample).to(self.method.device)
        return held_statistics(self.method.denoiser, lambda: self.method.denoise(whole))

    @torch.inference_mode()
    def _applied(self, apply: Callable[[Tensor], Tensor], padded: np.ndarray, read: tuple[int, int, int, int]) -> np.ndarray:
        """``apply`` on one tile, network units."""
        top, bottom, left, right = read
        tile = torch.from_numpy(np.ascontiguousarray(padded[:, top:bottom, left:right])).to(self.method.device)[None]
        found: np.ndarray = apply(tile)[0].cpu().numpy()
        return found


def sample_of(plane: np.ndarray, max_px: float, stride_px: int) -> np.ndarray:
    """What stands for a whole plane (C, H, W): the plane itself up to ``max_px`` pixels, else as many square tiles as that allows.

    Returns   (B, C, h, w). The tiles' places are a function of the plane's shape alone.
    """
    height, width = plane.shape[1:]
    if height * width <= max_px:
        return plane[None]
    side = max(stride_px, int(min(SAMPLE_TILE_PX, height, width, max_px**0.5)) // stride_px * stride_px)
    rng = np.random.default_rng((height, width))
    rows, columns = (
        stride_px * rng.integers(0, (length - side) // stride_px + 1, max(1, int(max_px // side**2))) for length in (height, width)
    )
    return np.stack([plane[:, top : top + side, left : left + side] for top, left in zip(rows, columns, strict=True)])


def _pad_to_stride(x: np.ndarray, stride: int) -> np.ndarray:
    """Mirror the bottom and right edges of (C, H, W) until both sides are multiples of the stride; any size from 1 x 1 up."""
    height, width = x.shape[1:]
    grow = (-height % stride, -width % stride)
    return np.pad(x, [(0, 0), (0, grow[0]), (0, grow[1])], mode="symmetric") if any(grow) else x


def activation_bytes_per_px(method: Method, channels: int) -> float:
    """Upper estimate of the working memory of a forward pass: all layer outputs of a small tile together, bytes per input pixel.

    Layers free their inputs as they go, so the true peak is lower; the convolution's own workspace makes up part of the difference. A layer
    that is used again, in another pass, counts once.
    """
    largest: dict[nn.Module, int] = {}

    def count(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and not list(module.children()):
            largest[module] = max(largest.get(module, 0), output.numel() * output.element_size())

    handles = [module.register_forward_hook(count) for module in method.denoiser.modules()]
    side = math.ceil(PROBE_PX / total_stride(method.denoiser)) * total_stride(method.denoiser)
    try:
        with torch.inference_mode():
            method.denoise(torch.zeros(1, channels, side, side, device=method.device))
    finally:
        for handle in handles:
            handle.remove()
    return (sum(largest.values()) + 16 * channels * side**2) / side**2
