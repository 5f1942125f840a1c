"""Apply a trained denoiser to images of any size: tiles with halo, bounded memory, intensities kept where the network leaves them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from pairfree.data.normalize import Normalizer
from pairfree.engine.memory import enough, is_shortage, keep_freed_blocks
from pairfree.engine.planes import Plane, Work, Write, read_ahead, sample_places, write_into
from pairfree.engine.tiles import bytes_for_core, core_for_memory, plan_tiles, whole_strides
from pairfree.errors import ConfigError, InputError
from pairfree.files.messages import size_text
from pairfree.methods.base import Method
from pairfree.nets.batch_instance_norm import find_norms, hold_statistics
from pairfree.nets.receptive_field import measured_receptive_field_px
from pairfree.nets.traits import (
    hear_progress,
    seconds_for_image,
    sees_whole_image,
    total_stride,
    whole_image_bytes,
)

DEFAULT_CORE_PX = 512
DEFAULT_MAX_BYTES = 2_000_000_000
PROBE_PX = 64
MOST_HALVINGS = 3
"""How often tiles are halved when memory runs out."""


@dataclass(frozen=True)
class _Job:
    """apply    (1, C, h, w) network units -> same shape
    combine  intensities of a tile and what ``apply`` gave for it -> what is written
    within   rows and columns of tiles that are asked for, None for all
    """

    plane: Plane
    apply: Callable[[Tensor], Tensor]
    combine: Callable[[np.ndarray, np.ndarray], np.ndarray]
    write: Write
    work: Work
    within: tuple[slice, slice] | None = None


class Predictor:
    """``predict`` for planes (C, H, W) of intensities. Tiled equals untiled to rounding, whatever the tile size."""

    def __init__(
        self,
        method: Method,
        normalizer: Normalizer,
        channels: int,
        max_bytes: float = DEFAULT_MAX_BYTES,
        core_px: int = 0,
    ) -> None:
        self.method, self.normalizer, self.channels = method, normalizer, channels
        for net in method.networks.values():
            net.eval()
        net = method.denoiser
        self.whole_image = sees_whole_image(net)
        self.stride_px = total_stride(net)
        self.max_bytes, self.instance_layers = max_bytes, len(find_norms(net))
        self.sample_bytes = max_bytes
        """Of what stands for a whole plane where statistics of it are held."""
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
        out = np.empty(intensity.shape, np.float64)
        self.predict_plane(Plane.of(intensity), write_into(out), on_pixels=on_pixels)
        return out

    def predict_plane(
        self,
        plane: Plane,
        write: Write,
        work: Work | None = None,
        on_pixels: Callable[[int], None] | None = None,
        within: tuple[slice, slice] | None = None,
    ) -> None:
        """Denoise a plane that is read, and whose result is written, tile by tile; values as in ``predict``.

        within   one of ``cores``: only that part
        """
        scale = self.normalizer.scale
        job = _Job(
            plane,
            lambda x: self.method.denoise(x) - x,
            lambda y, change: y + scale * change,
            write,
            work or Work(),
            within,
        )
        with self._told(on_pixels, plane.height * plane.width) as tell:
            self._over_tiles(job, tell)

    @contextmanager
    def _told(
        self, on_pixels: Callable[[int], None] | None, pixels: int
    ) -> Iterator[Callable[[int], None] | None]:
        """What a finished tile is told to. A network that works on an image for minutes (``progress``) tells by itself how far it is."""
        if on_pixels is None:
            yield None
            return
        reached = 0

        def progress(share: float) -> None:
            nonlocal reached
            done = int(share * pixels)
            on_pixels(done - reached)
            reached = done

        with hear_progress(self.method.denoiser, progress) as heard:
            yield None if heard else on_pixels
        if heard:
            on_pixels(pixels - reached)

    def disagreement(self, intensity: np.ndarray) -> np.ndarray:
        """How far the method's two denoisers are apart: (C, H, W) as in ``predict`` -> same shape, float64, intensity units, not negative.

        Raises   ConfigError for a method with one denoiser
        """
        out = np.empty(intensity.shape, np.float64)
        self.disagreement_plane(Plane.of(intensity), write_into(out))
        return out

    def disagreement_plane(self, plane: Plane, write: Write, work: Work | None = None) -> None:
        """``disagreement`` of a plane that is read, and whose result is written, tile by tile."""
        self._over_tiles(
            _Job(
                plane,
                self.method.disagreement,
                lambda y, found: self.normalizer.scale * found,
                write,
                work or Work(),
            )
        )

    def _over_tiles(self, job: _Job, on_pixels: Callable[[int], None] | None = None) -> None:
        """Do a job on all tiles of its plane.

        When memory runs out, the plane is begun anew with tiles of half the size; what works on the whole plane ends.
        """
        keep_freed_blocks()  # here and not earlier: a model may have come from another process
        self.check_whole(job.plane.height, job.plane.width)
        for _ in range(0 if self.whole_image else MOST_HALVINGS):
            told = 0

            def tell(pixels: int) -> None:
                nonlocal told
                told += pixels
                if on_pixels is not None:
                    on_pixels(pixels)

            try:
                return self._tiled(job, tell)
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                if self.core_px < 2 * self.stride_px:
                    break
            self.core_px //= 2  # outside the handler: its traceback holds on to the memory of the tile
            self.sample_bytes /= 4
            if self.method.device.type == "cuda":
                torch.cuda.empty_cache()
            job.work.restart()
            tell(-told)
        what = "the whole image does" if self.whole_image else f"tiles of {self.core_px} px do"
        with enough(f"{what} not fit; free some memory, crop the image, or use another device"):
            self._tiled(job, on_pixels or (lambda pixels: None))

    @cached_property
    def _whole_bytes(self) -> tuple[float, float]:
        """Memory that an image takes of which the whole is worked on, bytes beside its size and for each pixel; 0 where the network is
        silent about it."""
        return whole_image_bytes(self.method.denoiser, self.channels)

    def seconds_for_image(self, height: int, width: int) -> float | None:
        """What an image of that size takes at most; None where the network does not say."""
        return seconds_for_image(self.method.denoiser, self.channels, height, width)

    def working_bytes(self, height: int, width: int) -> int:
        """Upper estimate of what a plane of that size takes beside its file: a tile at a time, or what stands for the whole plane."""
        if self.whole_image:
            fixed, each = self._whole_bytes
            return int(fixed + each * height * width)
        core = min(self.core_px, whole_strides(max(height, width), self.stride_px))
        tile = bytes_for_core(core, self.bytes_per_px, self.halo_px, self.stride_px)
        return max(
            tile,
            int(min(self.sample_bytes, self.bytes_per_px * height * width)) if self.instance_layers else 0,
        )

    def check_whole(self, height: int, width: int) -> None:
        """ConfigError, before minutes are spent, for an image that a network which works on the whole of it has no memory for."""
        fixed, each = self._whole_bytes
        needed = fixed + each * height * width
        if each and needed > self.max_bytes:
            side = int((max(0.0, self.max_bytes - fixed) / each) ** 0.5)
            crop = f"crop it to {side} x {side} px, or " if side else ""
            raise ConfigError(
                f"denoising an image of {height} x {width} px whole needs {size_text(int(needed))}, more "
                f"than the {size_text(int(self.max_bytes))} allowed: {crop}raise --max-memory"
            )

    def _tiled(self, job: _Job, on_pixels: Callable[[int], None]) -> None:
        plane = job.plane
        high, wide = (whole_strides(length, self.stride_px) for length in (plane.height, plane.width))
        tiles = []
        for read, rows, columns in self._tiles(plane.height, plane.width, job.within):
            if job.work.finished(rows, columns):
                on_pixels((rows.stop - rows.start) * (columns.stop - columns.start))
            else:
                tiles.append((read, rows, columns))
        if not tiles:
            return
        with self._statistics(plane, high, wide):
            for (read, rows, columns), intensity in zip(
                tiles, read_ahead(plane, [tile[0] for tile in tiles])
            ):
                found = self._applied(job.apply, self._normalised(intensity))
                inside = (
                    slice(rows.start - read[0], rows.stop - read[0]),
                    slice(columns.start - read[2], columns.stop - read[2]),
                )
                self._check_output(found, intensity)
                job.write(
                    rows,
                    columns,
                    job.combine(
                        intensity[:, inside[0], inside[1]], found[:, inside[0], inside[1]].astype(np.float64)
                    ),
                )
                on_pixels((rows.stop - rows.start) * (columns.stop - columns.start))

    def _tiles(
        self, height: int, width: int, within: tuple[slice, slice] | None = None
    ) -> Iterator[tuple[tuple[int, int, int, int], slice, slice]]:
        """(what is read, rows and columns that are written) of each tile of a plane, or of a part of it."""
        high, wide = (whole_strides(length, self.stride_px) for length in (height, width))
        if within is not None:
            rows, columns = (slice(one.start, whole_strides(one.stop, self.stride_px)) for one in within)
            within = rows, columns
        for tile in plan_tiles(
            high, wide, self.core_px or max(high, wide), self.halo_px, self.stride_px, within
        ):
            top, bottom, left, right = tile.core
            yield tile.read, slice(top, min(bottom, height)), slice(left, min(right, width))

    def cores(self, height: int, width: int) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of the tiles of a plane, a partition of it."""
        return ((rows, columns) for _, rows, columns in self._tiles(height, width))

    def _normalised(self, intensity: np.ndarray) -> np.ndarray:
        if len(intensity) != self.channels:
            raise InputError(
                f"image has {len(intensity)} channels, the model was trained on {self.channels}; use a model trained on such images"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold shows as a non-finite output
            return self.normalizer.apply(intensity)

    def _check_output(self, found: np.ndarray, intensity: np.ndarray) -> None:
        if not np.isfinite(found).all():
            low, high = self.normalizer.offset, self.normalizer.offset + self.normalizer.scale
            raise InputError(
                f"the network's output is not finite for intensities {intensity.min():.6g} .. {intensity.max():.6g}; it was "
                f"trained near {low:.6g} .. {high:.6g}: use images of that kind"
            )

    def _statistics(self, plane: Plane, high: int, wide: int) -> AbstractContextManager[None]:
        """Instance statistics for all tiles of one plane: of the whole plane, or where memory forbids, of tiles drawn from it."""
        if not self.instance_layers or self.whole_image:
            return nullcontext()
        places = sample_places(high, wide, self.sample_bytes / self.bytes_per_px, self.stride_px)
        sample = np.stack([self._normalised(plane.padded(*place)) for place in places])
        whole = torch.from_numpy(sample).to(self.method.device)
        return hold_statistics(self.method.denoiser, lambda: self.method.denoise(whole))

    @torch.inference_mode()
    def _applied(self, apply: Callable[[Tensor], Tensor], tile: np.ndarray) -> np.ndarray:
        """``apply`` on one tile (C, h, w), network units."""
        found: np.ndarray = apply(torch.from_numpy(tile).to(self.method.device)[None])[0].cpu().numpy()
        return found


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
