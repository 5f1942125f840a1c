"""A trained denoiser as the user holds it: arrays in, arrays out; images in, images out."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.data.directions import Change
from pairfree.data.sets import check_finite, to_channels_first
from pairfree.data.slices import stack_axis
from pairfree.data.unpaired import window
from pairfree.engine.arrays import check_letters, guess_axes, planes_last
from pairfree.engine.planes import Plane
from pairfree.engine.predictor import Predictor
from pairfree.engine.progress import OnPixels
from pairfree.engine.receivers import ArrayReceiver, Receiver
from pairfree.engine.record import Record
from pairfree.engine.tiles import Region
from pairfree.engine.views import OpenPlane, PlaneView, label_of
from pairfree.errors import DivergedError, InputError
from pairfree.files.dtypes import to_dtype
from pairfree.files.image import Image, Index
from pairfree.files.masked import fill_masked, restore_masked
from pairfree.methods.base import Method
from pairfree.version import __version__

FAR_RANGES = 1.0
"""How many training ranges from the training range intensities are far outside of it."""
FAR_PERCENTILE = 10.0
"""An image is warned of whose 10th or 90th percentile lies far outside."""


@dataclass(frozen=True)
class Denoised:
    """The result of an image."""

    image: Image
    """Same type, shape, axes and metadata as the input."""
    clipped: int
    """Pixels that lay outside the integer type's range after rounding and were clipped."""


class Model:
    """What ``pairfree.train`` and ``pairfree.load`` return.

    Parameters
    ----------
    predictor
        Applies the trained method.
    record
        What its checkpoint says: config, normaliser, seed, steps, versions.
    masked
        Pixels that are NaN or Inf come back as they were, and the network sees their neighbours' mean; else
        they are refused.
    """

    def __init__(self, predictor: Predictor, record: Record, masked: bool = False) -> None:
        self.predictor = predictor
        self.record = record
        self.masked = masked

    @property
    def method(self) -> Method:
        """The trained method."""
        return self.predictor.method

    @property
    def channels(self) -> int:
        """Channels that the network takes."""
        return self.predictor.channels

    @property
    def around(self) -> int:
        """Slices of a stack on each side that the network sees with each (``data.slices``)."""
        return self.record.slices_around

    @property
    def own_channels(self) -> slice:
        """Which channels of a result are those of the image: all, or the middle one of slices."""
        if not self.around:
            return slice(None)
        return slice(self.around, self.around + 1)

    # -- what results say of it ------------------------------------------------------------------------

    @property
    def identity(self) -> dict[str, Any]:
        """What decides, beside an image, the pixels that come out, as JSON.

        Only what was done under an equal one is gone on with.
        """
        predictor = self.predictor
        identity = {
            "model": self.derivation,
            "settings": dict(self.record.config),
            "normalizer": predictor.normalizer.as_dict(),
            "tile_px": predictor.core_px,
            "max_bytes": predictor.max_bytes,
            "device": self.method.device.type,
        }
        if self.masked:
            identity["nan"] = "mask"
        if predictor.change is not None:
            identity["change"] = predictor.change.as_dict()
        return identity | ({"symmetries": True} if predictor.symmetries else {})

    @cached_property
    def derivation(self) -> str:
        """What is written into files that say how they were made: version, method, and a digest.

        The digest is that of the weights, or where none are trained of settings and seed.
        """
        digest = hashlib.sha256()
        weights = self.method.denoiser.state_dict()
        for _, value in sorted(weights.items()):
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        what = "weights"
        if not self.method.trains:
            settings = json.dumps(dict(self.record.config), sort_keys=True)
            digest.update(settings.encode())
            what = "settings"
        short = digest.hexdigest()[:16]
        words = f"denoised with pairfree {__version__}, method {self.method.key}, {what} {short}"
        change = self.predictor.change
        return words if change is None else f"{words}, corrected: {change}"

    def corrected(self, change: Change) -> Model:
        """The same model, whose results are corrected by this alone; this one stays as it is."""
        predictor = copy.copy(self.predictor)
        predictor.change_by(change)
        return Model(predictor, self.record, self.masked)

    def describe_result(self, image: Image) -> Image:
        """``image`` with the metadata of its result."""
        metadata = {**image.metadata, "derivation": self.derivation, "derived": "denoised"}
        return replace(image, metadata=metadata)

    def describe_map(self, image: Image) -> Image:
        """``image`` as a map of numbers of each pixel is described: float32, TIFF."""
        nothing = np.broadcast_to(np.float32(0), image.shape)
        return replace(image, data=nothing, family="tiff", metadata={}, bit_depth=None, limits=None)

    # -- denoising -------------------------------------------------------------------------------------

    def denoise(self, array: np.ndarray, axes: str | None = None) -> np.ndarray:
        """Denoise an array; same shape and dtype back, integers rounded and clipped.

        Parameters
        ----------
        array
            (H, W), (C, H, W), or any shape with ``axes`` such as "ZYX", "TCYX" or "YXC". Of a masked array of
            floats what is masked is NaN to the model (``nan``); it comes back masked, and as it was.
        axes
            One letter a dimension, in any order and case. C is denoised jointly where the model was trained
            on as many channels, else plane by plane; S are colours, grey and transparency.

        Raises
        ------
        InputError
            For NaN, Inf, channels the model was not trained on, and an array (H, W, C) without ``axes``.
        """
        if isinstance(array, Image | str | Path):
            raise InputError("expected an array; give image.pixels, files go to pairfree.denoise")
        if isinstance(array, np.ma.MaskedArray):
            return restore_masked(self.denoise(fill_masked(array, "array"), axes), array)
        values = np.asarray(array)
        letters = guess_axes(values) if axes is None else check_letters(axes)
        order = planes_last(letters)
        if len(letters) == values.ndim and order != sorted(order):
            turned = np.transpose(values, order)
            made = self.denoise(turned, "".join(letters[place] for place in order))
            return np.ascontiguousarray(np.transpose(made, np.argsort(order)))
        if self._is_joint(values, letters):
            return self._denoise_jointly(values, letters)
        made = self.denoise_image(Image(values, letters)).image.pixels
        return made.astype(values.dtype, copy=False)  # in its byte order too

    def _is_joint(self, values: np.ndarray, axes: str) -> bool:
        """Whether the axis C holds the channels that the model was trained on."""
        if self.around or self.channels == 1 or "C" not in axes or len(axes) != values.ndim:
            return False
        return bool(values.shape[axes.index("C")] == self.channels)

    def _denoise_jointly(self, values: np.ndarray, axes: str) -> np.ndarray:
        channel = axes.index("C")
        last = np.moveaxis(values, channel, -1)
        letters = axes.replace("C", "") + "S"
        image = Image(last, letters, alpha=False)
        pixels = self.denoise_image(image).image.pixels
        made = np.moveaxis(pixels, -1, channel)
        return np.ascontiguousarray(made).astype(values.dtype, copy=False)

    def denoise_image(self, image: Image, on_pixels: OnPixels | None = None) -> Denoised:
        """Denoise every plane of an image.

        Stacks plane by plane, colour samples jointly; transparency comes back untouched.
        """
        out = ArrayReceiver(np.empty(image.shape, image.dtype))
        self.denoise_into(image, out, on_pixels)
        described = self.describe_result(image)
        return Denoised(replace(described, data=out.pixels), out.clipped)

    def denoise_into(
        self,
        image: Image,
        sink: Receiver,
        on_pixels: OnPixels | None = None,
        planes: Iterable[Index] | None = None,
        within: Region | None = None,
    ) -> None:
        """``denoise_image`` tile by tile: what ``sink`` has finished is left out, the rest is written to it.

        Parameters
        ----------
        image
            What is denoised.
        sink
            Takes the result.
        on_pixels
            Called with the number of pixels of each finished tile.
        planes
            Only these, which were checked before.
        within
            Only that part of them, one of the predictor's ``cores``.

        Raises
        ------
        InputError
            As ``check``; of an image that stays in its file, NaN and Inf are found when their tile is read.

        Notes
        -----
        Planes of common chunks are worked on together, tile by tile, so that a chunk is decoded once and not
        for each of its planes.
        """
        if planes is None:
            self.check(image)
        given = None if planes is None else [list(planes)]

        def denoise(group: Sequence[Index], tell: OnPixels) -> None:
            self._denoise_group(image, group, sink, tell, within)

        self._do_groups(lambda: given or image.plane_groups(), denoise, sink, on_pixels)

    def _do_groups(
        self,
        groups: Callable[[], Iterable[Sequence[Index]]],
        work: Callable[[Sequence[Index], OnPixels], None],
        sink: Receiver,
        on_pixels: OnPixels | None = None,
    ) -> None:
        """Work on groups of planes; where memory runs out, on all anew: an image has tiles of one size."""
        begun: list[Index] = []

        def attempt(tell: OnPixels) -> None:
            for group in groups():
                begun.extend(group)
                work(group, tell)

        def forget() -> None:
            for index in begun:
                sink.forget(index)
            begun.clear()

        self.predictor.fit_into_memory(attempt, forget, on_pixels)

    def _denoise_group(
        self,
        image: Image,
        group: Sequence[Index],
        sink: Receiver,
        on_pixels: OnPixels,
        within: Region | None,
    ) -> None:
        """Planes of common chunks: one after the other where each is worked on whole, else tile by tile."""
        predictor = self.predictor
        needs_whole = bool(predictor.instance_layers) or predictor.whole_image
        parts: list[Region | None] = [within]
        together = [[index] for index in group]
        if within is None and not needs_whole and len(group) > 1:
            parts, together = list(predictor.cores(image.height, image.width)), [list(group)]
        for planes in together:
            opened = [OpenPlane.of(self._view(image, index)) for index in planes]
            for part, one in itertools.product(parts, opened):
                self._denoise_plane(one, sink, on_pixels, part)

    def _denoise_plane(
        self,
        opened: OpenPlane,
        sink: Receiver,
        on_pixels: OnPixels,
        within: Region | None,
    ) -> None:
        view = opened.view
        image, index = view.image, view.index

        def write(rows: slice, columns: slice, values: np.ndarray) -> None:
            restored = view.restore_missing(values[self.own_channels], rows, columns)
            block, clipped = to_dtype(restored, image.dtype, image.limits)
            if image.samples == 1:
                sink.write(index, block[0], rows, columns, clipped)
                return
            given = image.region(index, rows, columns)
            transparency = given[..., image.colours :]
            colours = np.moveaxis(block, 0, -1)
            samples = np.concatenate([colours, transparency], axis=-1)
            sink.write(index, samples, rows, columns, clipped)

        is_finished = partial(sink.finished, index)
        try:
            self.predictor.predict_tiles(opened.plane, write, is_finished, on_pixels, within)
        except DivergedError as error:  # of a method that learns each image
            raise DivergedError(
                f"{view.label}: {error}; make the run anew with a lower rate (`settings` lr=...)"
            ) from None

    # -- disagreement ----------------------------------------------------------------------------------

    def disagreement_into(self, image: Image, sink: Receiver) -> None:
        """Where the method's two denoisers are apart, tile by tile; float32, intensity units.

        0 for transparency. ConfigError for a method with one denoiser, InputError as ``denoise_image``.
        """
        self.check(image)

        def map_planes(group: Sequence[Index], tell: OnPixels) -> None:
            for index in group:
                self._map_plane(image, index, sink)

        self._do_groups(lambda: ([index] for index in image.planes()), map_planes, sink)

    def _map_plane(self, image: Image, index: Index, sink: Receiver) -> None:
        view = self._view(image, index)

        def write(rows: slice, columns: slice, values: np.ndarray) -> None:
            restored = view.restore_missing(values[self.own_channels], rows, columns)
            _, height, width = restored.shape
            block = np.zeros((height, width, image.samples), np.float32)
            block[..., : image.colours] = np.moveaxis(restored, 0, -1)
            if image.samples == 1:
                block = block[..., 0]
            sink.write(index, block, rows, columns)

        self.predictor.disagree_tiles(view.open(), write, partial(sink.finished, index))

    # -- images as the network sees them ---------------------------------------------------------------

    def check(self, image: Image) -> None:
        """Refuse an image that cannot be denoised.

        Raises
        ------
        InputError
            Naming the first plane with NaN, Inf, or channels the model was not trained on.
        ConfigError
            For an image that is worked on whole, and that there is no memory for.
        """
        self.predictor.check_whole(image.height, image.width)
        if self.around:
            stack_axis(image, self.around, str(image.source or "array"))
        elif image.colours != self.channels and not self.method.any_channels:
            first = label_of(image, next(image.planes()))
            plural = "s" if image.colours > 1 else ""
            raise InputError(
                f"{first}: has {image.colours} channel{plural}, the model was "
                f"trained on {self.channels}; use a model trained on images of this kind"
            )
        if image.stored or self.masked:
            return
        for index in image.planes():
            plane = to_channels_first(image.plane(index), image.colours)
            check_finite(plane, label_of(image, index))

    def open_plane(self, image: Image, index: Index) -> Plane:
        """A plane as the network sees it, with the slices around it, and what is missing filled."""
        return self._view(image, index).open()

    def _view(self, image: Image, index: Index) -> PlaneView:
        normalizer = self.predictor.normalizer
        middle = normalizer.offset + 0.5 * normalizer.scale
        return PlaneView(image, index, self.around, self.masked, middle)

    def warn_of_intensities(self, image: Image) -> list[str]:
        """A line where most of an image lies outside the intensities that the model was trained on.

        Nothing where the model was trained on a window: most of a CT slice lies outside, and comes through.
        """
        intensity = str(self.record.config.get("intensity", ""))
        if window(intensity) is not None or not self.method.trains:
            return []
        sample = image.sample()
        sample = sample[np.isfinite(sample)]
        if not sample.size:
            return []
        low, high = np.percentile(sample, [FAR_PERCENTILE, 100.0 - FAR_PERCENTILE])
        normalizer = self.predictor.normalizer
        first = (low - normalizer.offset) / normalizer.scale
        last = (high - normalizer.offset) / normalizer.scale
        if first > -FAR_RANGES and last < 1.0 + FAR_RANGES:
            return []
        brightest = normalizer.offset + normalizer.scale
        trained = f"{normalizer.offset:g} .. {brightest:g}"
        return [
            f"intensities {low:g} .. {high:g} lie far outside those of training ({trained}); is this an "
            "image of the same kind?"
        ]
