"""Apply a trained denoiser to images of any size.

Tiles with halo, bounded memory, intensities kept where the network leaves them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pairfree.data.directions import Change
from pairfree.data.normalize import Normalizer, PlaneMap
from pairfree.data.patches import SYMMETRIES, symmetric, undo_symmetric
from pairfree.engine.freed_blocks import keep_freed_blocks
from pairfree.engine.memory import (
    WholeImageMemory,
    activation_bytes_per_px,
    is_shortage,
)
from pairfree.engine.planes import (
    Plane,
    TileJob,
    Write,
    read_ahead,
    sample_places,
    write_into,
)
from pairfree.engine.progress import OnPixels, PixelCount, tell_progress
from pairfree.engine.shortage import shortage_of
from pairfree.engine.tiles import (
    PlacedTile,
    Region,
    bytes_for_core,
    core_for_memory,
    place_tiles,
    whole_strides,
)
from pairfree.errors import ConfigError, InputError
from pairfree.files.messages import size_text
from pairfree.methods.base import Method
from pairfree.nets.batch_instance_norm import find_norms, hold_statistics
from pairfree.nets.receptive_field import measured_receptive_field_px
from pairfree.nets.traits import (
    seconds_for_image,
    sees_whole_image,
    total_stride,
    whole_image_bytes,
)

DEFAULT_CORE_PX = 512
DEFAULT_MAX_BYTES = 2_000_000_000
MOST_HALVINGS = 3
"""How often tiles are halved when memory runs out."""


class Predictor:
    """``predict`` for planes (C, H, W) of intensities.

    Tiled equals untiled to rounding, whatever the tile size.

    Parameters
    ----------
    method
        The trained method. Its networks are put into evaluation mode.
    normalizer
        Intensity map of its images.
    channels
        That its network takes.
    max_bytes
        Bound for the working memory of a tile, or of what stands for a whole plane.
    core_px
        Side of what a tile writes, at most; 0 is ``DEFAULT_CORE_PX``.
    symmetries
        Whether the result is the mean over the 8 symmetries of the square, of each tile.

    Raises
    ------
    ConfigError
        For a network that cannot be applied in tiles and does not say ``whole_image``, and for ``max_bytes``
        that its smallest tile does not fit into.
    """

    def __init__(
        self,
        method: Method,
        normalizer: Normalizer,
        channels: int,
        max_bytes: float = DEFAULT_MAX_BYTES,
        core_px: int = 0,
        symmetries: bool = False,
    ) -> None:
        self.method, self.normalizer, self.channels = method, normalizer, channels
        self.symmetries = symmetries
        self.change: Change | None = None
        """By which results are corrected."""
        for net in method.networks.values():
            net.eval()
        net = method.denoiser
        self.whole_image = sees_whole_image(net)
        self.stride_px = total_stride(net)
        self.instance_layers = len(find_norms(net))
        if symmetries and self.instance_layers:
            raise ConfigError(
                "`symmetries`: this network holds statistics of the upright image; leave it out"
            )
        self.max_bytes = max_bytes
        self.sample_bytes = max_bytes
        """Of what stands for a whole plane where statistics of it are held."""
        self.halo_px, self.core_px = 0, 0
        if not self.whole_image:
            self._size_tiles(core_px or DEFAULT_CORE_PX)

    def _size_tiles(self, largest_px: int) -> None:
        """Halo from the receptive field, core from the memory."""
        try:
            self.halo_px = measured_receptive_field_px(self.method.denoiser, self.channels)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"the network cannot be applied in tiles: {error}; if H and W must be multiples of "
                "something, say so in an attribute stride; set whole_image = True on it if it must see the "
                "whole image"
            ) from None
        self.bytes_per_px = activation_bytes_per_px(self.method, self.channels)
        if self.change is not None:
            self.halo_px += self.change.reach_px
        tile = self.bytes_per_px, self.halo_px, self.stride_px
        self.core_px = core_for_memory(self.max_bytes, *tile, largest_px)
        least = bytes_for_core(self.stride_px, *tile)
        if least > self.max_bytes:
            raise ConfigError(
                f"{size_text(int(self.max_bytes))} of memory are too little: the smallest tile of this "
                f"network needs {size_text(least)}"
            )

    def change_by(self, change: Change) -> None:
        """Correct all results from now on; tiles look a little farther around then."""
        self.change = change
        if not self.whole_image:
            self._size_tiles(self.core_px)

    # -- what is made of a plane -----------------------------------------------------------------------

    def predict(self, intensity: np.ndarray, on_pixels: OnPixels | None = None) -> np.ndarray:
        """Denoise one plane.

        Parameters
        ----------
        intensity
            (C, H, W) of any supported dtype, C the model's channels; finite.
        on_pixels
            Called with the number of pixels of each finished tile.

        Returns
        -------
        ndarray
            (C, H, W) float64: intensity + scale * (F(y) - y), so that what the network leaves alone comes
            back exactly; where noise is made even, through the exact unbiased inverse.
        """
        out = np.empty(intensity.shape, np.float64)
        self.predict_plane(Plane.of(intensity), write_into(out), on_pixels)
        return out

    def predict_plane(
        self,
        plane: Plane,
        write: Write,
        on_pixels: OnPixels | None = None,
        within: Region | None = None,
    ) -> None:
        """``predict_tiles``, and in smaller tiles where memory runs out."""
        self.fit_into_memory(
            lambda tell: self.predict_tiles(plane, write, on_pixels=tell, within=within),
            on_pixels=on_pixels,
        )

    def predict_tiles(
        self,
        plane: Plane,
        write: Write,
        is_finished: Callable[[slice, slice], bool] = lambda rows, columns: False,
        on_pixels: OnPixels = lambda pixels: None,
        within: Region | None = None,
    ) -> None:
        """Denoise a plane that is read, and whose result is written, tile by tile; values as in ``predict``.

        Parameters
        ----------
        plane
            What is read.
        write
            Called with the result of each tile.
        is_finished
            Tells of which tiles the result stands already; they are left out.
        on_pixels
            Called with the number of pixels of each finished tile. A network that works on an image for
            minutes tells by itself how far it is.
        within
            One of ``cores``: only that part.
        """
        mapped = plane.map_by(self.normalizer)
        job = TileJob(
            plane,
            lambda x: self._denoise(x, mapped.correlated) - x,
            mapped,
            mapped.add,
            write,
            is_finished,
            within,
            self.change,
        )
        with tell_progress(self.method.denoiser, on_pixels, plane.height * plane.width) as tell:
            self._do_tiles(job, tell)

    def _denoise(self, x: Tensor, correlated: bool) -> Tensor:
        """What the method makes of tiles (B, C, H, W), or the mean over their symmetries."""
        if not self.symmetries:
            return self.method.denoise_plane(x, correlated)
        total = torch.zeros_like(x)
        for k in range(SYMMETRIES):
            turned = symmetric(x, k).contiguous()
            total += undo_symmetric(self.method.denoise_plane(turned, correlated), k)
        return total / SYMMETRIES

    def disagreement(self, intensity: np.ndarray) -> np.ndarray:
        """How far the method's two denoisers are apart on (C, H, W) as in ``predict``.

        float64, intensity units, not negative; ConfigError for a method with one denoiser.
        """
        out = np.empty(intensity.shape, np.float64)
        plane = Plane.of(intensity)
        self.fit_into_memory(lambda tell: self.disagree_tiles(plane, write_into(out)))
        return out

    def disagree_tiles(
        self,
        plane: Plane,
        write: Write,
        is_finished: Callable[[slice, slice], bool] = lambda rows, columns: False,
    ) -> None:
        """``disagreement`` of a plane that is read, and whose result is written, tile by tile.

        Parameters are those of ``predict_tiles``.
        """
        mapped = plane.map_by(self.normalizer)
        job = TileJob(
            plane,
            self.method.disagreement,
            mapped,
            mapped.widen,
            write,
            is_finished,
        )
        self._do_tiles(job, lambda pixels: None)

    # -- memory ----------------------------------------------------------------------------------------

    def fit_into_memory(
        self,
        attempt: Callable[[OnPixels], None],
        restart: Callable[[], None] = lambda: None,
        on_pixels: OnPixels | None = None,
    ) -> None:
        """Do ``attempt``; where memory runs out, do it anew in tiles of half the side. They stay as small.

        This is the only place that tries again: what is done inside ``attempt`` is done once each time.

        Parameters
        ----------
        attempt
            Called with what is to be told of finished pixels.
        restart
            Called before each further attempt, to forget what the one before wrote.
        on_pixels
            Told of finished pixels, and where an attempt failed of as many less.

        Raises
        ------
        ConfigError
            Where memory does not suffice for tiles halved ``MOST_HALVINGS`` times, for the smallest tile, or
            for a whole image, which nothing makes smaller.
        """
        keep_freed_blocks()  # here and not earlier: a model may have come from another process
        for halvings_left in reversed(range(MOST_HALVINGS + 1)):
            finished = PixelCount(on_pixels)
            try:
                return attempt(finished.add)
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
            # outside the handler: its traceback holds on to the memory of the tile
            if not halvings_left or not self.can_halve:
                raise shortage_of(self)
            self.halve_tiles()
            restart()
            finished.take_back()

    @property
    def can_halve(self) -> bool:
        """Whether tiles can be made smaller."""
        return not self.whole_image and self.core_px >= 2 * self.stride_px

    def halve_tiles(self) -> None:
        """Half the side, and as much less of what stands for a whole plane."""
        self.core_px //= 2
        self.sample_bytes /= 4
        if self.method.device.type == "cuda":
            torch.cuda.empty_cache()

    @cached_property
    def _whole_memory(self) -> WholeImageMemory:
        return WholeImageMemory(*whole_image_bytes(self.method.denoiser, self.channels))

    def working_bytes(self, height: int, width: int) -> int:
        """Upper estimate of what a plane of that size takes beside its file.

        That is a tile at a time, or what stands for the whole plane.
        """
        if self.whole_image:
            return int(self._whole_memory.needed(height, width))
        core = min(self.core_px, whole_strides(max(height, width), self.stride_px))
        tile = bytes_for_core(core, self.bytes_per_px, self.halo_px, self.stride_px)
        if not self.instance_layers:
            return tile
        return max(tile, int(min(self.sample_bytes, self.bytes_per_px * height * width)))

    def check_whole(self, height: int, width: int) -> None:
        """ConfigError, before minutes are spent, for an image that is worked on whole and does not fit."""
        self._whole_memory.check(height, width, self.max_bytes)

    def seconds_for_image(self, height: int, width: int) -> float | None:
        """What an image of that size takes at most; None where the network does not say."""
        return seconds_for_image(self.method.denoiser, self.channels, height, width)

    # -- tiles -----------------------------------------------------------------------------------------

    def cores(self, height: int, width: int) -> Iterator[Region]:
        """Rows and columns of the tiles of a plane, a partition of it."""
        return ((tile.rows, tile.columns) for tile in self._place_tiles(height, width))

    def _place_tiles(
        self, height: int, width: int, within: Region | None = None
    ) -> Iterator[PlacedTile]:
        """The tiles of a plane, or of a part of it."""
        core_px = self.core_px or max(self._padded_sides(height, width))
        return place_tiles(height, width, core_px, self.halo_px, self.stride_px, within)

    def _padded_sides(self, height: int, width: int) -> tuple[int, int]:
        """The sides rounded up to the network's stride."""
        return whole_strides(height, self.stride_px), whole_strides(width, self.stride_px)

    def _do_tiles(self, job: TileJob, on_pixels: OnPixels) -> None:
        """Do a job on all tiles of its plane, one after the other."""
        plane = job.plane
        self.check_whole(plane.height, plane.width)
        waiting = []
        for tile in self._place_tiles(plane.height, plane.width, job.within):
            if job.is_finished(tile.rows, tile.columns):
                on_pixels(tile.pixels)
            else:
                waiting.append(tile)
        if not waiting:
            return
        with self._hold_statistics(plane, job.mapped):
            parts = read_ahead(plane, [tile.read for tile in waiting])
            for tile, intensity in zip(waiting, parts):
                job.write(tile.rows, tile.columns, self._do_tile(job, tile, intensity))
                on_pixels(tile.pixels)

    def _do_tile(self, job: TileJob, tile: PlacedTile, intensity: np.ndarray) -> np.ndarray:
        """(C, h, w) of what a tile writes, from the intensities of what it reads."""
        made = self._apply_to_tile(job.apply, self._normalise(intensity, job.mapped))
        self._check_output(made, intensity)
        return job.finish(intensity, made, tile.inside)

    @torch.inference_mode()
    def _apply_to_tile(self, apply: Callable[[Tensor], Tensor], tile: np.ndarray) -> np.ndarray:
        """``apply`` on one tile (C, h, w), network units."""
        given = torch.from_numpy(tile).to(self.method.device)[None]
        made: np.ndarray = apply(given)[0].cpu().numpy()
        return made

    def _normalise(self, intensity: np.ndarray, mapped: PlaneMap) -> np.ndarray:
        if len(intensity) != self.channels and not self.method.any_channels:
            raise InputError(
                f"image has {len(intensity)} channels, the model was trained on {self.channels}; use a model "
                "trained on such images"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold shows as a non-finite output
            return mapped.apply(intensity)

    def _check_output(self, made: np.ndarray, intensity: np.ndarray) -> None:
        if np.isfinite(made).all():
            return
        low, high = self.normalizer.offset, self.normalizer.offset + self.normalizer.scale
        raise InputError(
            f"the network's output is not finite for intensities {intensity.min():.6g} .. "
            f"{intensity.max():.6g}; it was trained near {low:.6g} .. {high:.6g}: use images of that kind"
        )

    def _hold_statistics(self, plane: Plane, mapped: PlaneMap) -> AbstractContextManager[None]:
        """Inside, instance statistics are those of one plane for all its tiles.

        They are taken from the whole plane, or where memory forbids, from tiles drawn from it.
        """
        if not self.instance_layers or self.whole_image:
            return nullcontext()
        high, wide = self._padded_sides(plane.height, plane.width)
        places = sample_places(high, wide, self.sample_bytes / self.bytes_per_px, self.stride_px)
        parts = [self._normalise(plane.read_padded(*place), mapped) for place in places]
        sample = np.stack(parts)
        whole = torch.from_numpy(sample).to(self.method.device)
        return hold_statistics(self.method.denoiser, lambda: self.method.denoise(whole))
