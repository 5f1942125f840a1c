"""A trained denoiser as the user holds it: arrays in, arrays out; images in, images out."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from pairfree.data.missing import REACH_PX, filled
from pairfree.data.sets import check_finite, to_channels_first
from pairfree.data.slices import stack_axis, together
from pairfree.data.unpaired import window
from pairfree.engine.planes import Plane, Work
from pairfree.engine.predictor import Predictor
from pairfree.engine.record import Record
from pairfree.errors import DivergedError, InputError
from pairfree.files.formats.table import to_dtype
from pairfree.files.image import Image
from pairfree.methods.base import Method
from pairfree.version import __version__

STRANGE, STRANGE_SHARE = 1.0, 10.0
"""An image is strange whose 10th or 90th percentile lies more than one training range outside the training range."""


@dataclass(frozen=True)
class Denoised:
    """image     same type, shape, axes and metadata as the input
    clipped   pixels that lay outside the integer type's range after rounding and were clipped
    """

    image: Image
    clipped: int


class Model:
    """What ``pairfree.train`` and ``pairfree.load`` return.

    method     the trained Method
    record     what its checkpoint says: config, normaliser, seed, steps, versions
    around     slices of a stack on each side that the network sees with each (``data.slices``)
    masked     pixels that are NaN or Inf come back as they were, and the network sees their neighbours' mean; else they are refused
    """

    def __init__(self, predictor: Predictor, record: Record, masked: bool = False) -> None:
        self.predictor, self.record, self.masked = predictor, record, masked
        self.around = record.slices_around

    @property
    def method(self) -> Method:
        """The trained method."""
        return self.predictor.method

    @property
    def channels(self) -> int:
        return self.predictor.channels

    @property
    def own(self) -> slice:
        """Which channels of a result are those of the image: all, or the middle one of slices."""
        return slice(self.around, self.around + 1) if self.around else slice(None)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides, beside an image, the pixels that come out, as JSON; only what was done under an equal one is gone on with."""
        predictor = self.predictor
        return {
            "model": self.derivation,
            "settings": dict(self.record.config),
            "normalizer": predictor.normalizer.as_dict(),
            "tile_px": predictor.core_px,
            "max_bytes": predictor.max_bytes,
            "device": self.method.device.type,
            **({"nan": "mask"} if self.masked else {}),
        }

    @cached_property
    def derivation(self) -> str:
        """What is written into files that say how they were made: version, method, and a digest of weights, or where none are trained of
        settings and seed."""
        weights = [value for _, value in sorted(self.method.denoiser.state_dict().items())]
        parts = [value.detach().cpu().contiguous().numpy().tobytes() for value in weights]
        if not self.method.trains:
            parts.append(json.dumps(dict(self.record.config), sort_keys=True).encode())
        what, digest = (
            "weights" if self.method.trains else "settings",
            hashlib.sha256(b"".join(parts)).hexdigest(),
        )
        return f"denoised with pairfree {__version__}, method {self.method.key}, {what} {digest[:16]}"

    def derived(self, image: Image) -> Image:
        """``image`` as the metadata of its result."""
        return replace(
            image, metadata={**image.metadata, "derivation": self.derivation, "derived": "denoised"}
        )

    def denoise(self, array: np.ndarray, axes: str | None = None) -> np.ndarray:
        """Denoise an array; same shape and dtype back, integers rounded and clipped.

        array   (H, W), (C, H, W), or any shape with ``axes`` such as "ZYX", "TCYX" or "YXS"
        axes    one letter a dimension; C is denoised jointly where the model was trained on as many channels, else plane by plane
        Raises  InputError for NaN, Inf, and channels the model was not trained on
        """
        values = np.asarray(array)
        letters = axes if axes is not None else {2: "YX", 3: "CYX"}.get(values.ndim)
        if letters is None:
            raise InputError(
                f"array has shape {values.shape}; say what its {values.ndim} dimensions are, for example axes='TZYX'"
            )
        colours = self.channels if not self.around else 1
        if (
            "C" in letters
            and len(letters) == values.ndim
            and colours > 1
            and values.shape[letters.index("C")] == colours
        ):
            return self._jointly(values, letters)
        return self.denoise_image(Image(values, letters)).image.pixels.astype(
            values.dtype, copy=False
        )  # in its byte order too

    def _jointly(self, values: np.ndarray, axes: str) -> np.ndarray:
        channel = axes.index("C")
        last = np.moveaxis(values, channel, -1)
        done = self.denoise_image(Image(last, axes.replace("C", "") + "S", alpha=False)).image.pixels
        return np.ascontiguousarray(np.moveaxis(done, -1, channel)).astype(values.dtype, copy=False)

    def denoise_image(self, image: Image, on_pixels: Callable[[int], None] | None = None) -> Denoised:
        """Denoise every plane of an image; stacks plane by plane, colour samples jointly; transparency comes back untouched."""
        out = _Pixels(np.empty(image.shape, image.dtype))
        self.denoise_into(image, out, on_pixels)
        return Denoised(replace(self.derived(image), data=out.pixels), out.clipped)

    def denoise_into(
        self,
        image: Image,
        sink: Receiver,
        on_pixels: Callable[[int], None] | None = None,
        planes: Iterable[tuple[int, ...]] | None = None,
        within: tuple[slice, slice] | None = None,
    ) -> None:
        """``denoise_image`` tile by tile: what ``sink`` has finished is left out, the rest is written to it.

        planes   only these, which were checked before;  within   only that part of them, one of the predictor's ``cores``
        Raises   InputError as ``check``; of an image that stays in its file, NaN and Inf are found when their tile is read

        Planes of common chunks are worked on together, tile by tile, so that a chunk is decoded once and not for each of its planes.
        """
        if planes is None:
            self.check(image)
        groups = image.plane_groups() if planes is None else [list(planes)]
        for group in groups:
            self._denoise_group(image, group, sink, on_pixels or (lambda pixels: None), within)

    def _denoise_group(
        self,
        image: Image,
        group: Sequence[tuple[int, ...]],
        sink: Receiver,
        on_pixels: Callable[[int], None],
        within: tuple[slice, slice] | None,
    ) -> None:
        predictor = self.predictor
        whole = (
            len(group) == 1 or within is not None or bool(predictor.instance_layers) or predictor.whole_image
        )
        told = 0

        def tell(pixels: int) -> None:
            nonlocal told
            told += pixels
            on_pixels(pixels)

        def done() -> bool:
            """False where memory ran out on the way: tiles are smaller since, and what of a plane was done before is forgotten."""
            tile_px = predictor.core_px
            parts = [within] if whole else list(predictor.cores(image.height, image.width))
            for part, index in itertools.product(parts, group):
                self._denoise_plane(image, index, sink, tell, part)
                if part is not None and predictor.core_px != tile_px:
                    return False
            return True

        while not done():
            tell(-told)

    def _denoise_plane(
        self,
        image: Image,
        index: tuple[int, ...],
        sink: Receiver,
        on_pixels: Callable[[int], None],
        within: tuple[slice, slice] | None,
    ) -> None:
        def write(rows: slice, columns: slice, values: np.ndarray) -> None:
            done, clipped = to_dtype(
                self._with_missing(values[self.own], image, index, rows, columns), image.dtype, image.limits
            )
            if image.samples > 1:
                done = np.moveaxis(done, 0, -1)
                rest = image.region(index, rows, columns)[..., image.colours :]
                sink.write(index, np.concatenate([done, rest], axis=-1), rows, columns, clipped)
            else:
                sink.write(index, done[0], rows, columns, clipped)

        try:
            self.predictor.predict_plane(
                self.plane_of(image, index), write, _Tiles(sink, index), on_pixels, within
            )
        except DivergedError as error:  # of a method that learns each image
            raise DivergedError(
                f"{_label(image, index)}: {error}; make the run anew with a lower rate (--set lr=...)"
            ) from None

    def disagreement_image(self, image: Image) -> Image:
        """Where the method's two denoisers are apart: float32 of the same shape and axes, intensity units; 0 for transparency.

        Raises   ConfigError for a method with one denoiser, InputError as ``denoise_image``
        """
        out = _Pixels(np.empty(image.shape, np.float32))
        self.disagreement_into(image, out)
        return replace(self.map_of(image), data=out.pixels)

    def map_of(self, image: Image) -> Image:
        """``image`` as a map of numbers of each pixel is described: float32, TIFF."""
        nothing = np.broadcast_to(np.float32(0), image.shape)
        return replace(image, data=nothing, family="tiff", metadata={}, bit_depth=None, limits=None)

    def disagreement_into(self, image: Image, sink: Receiver) -> None:
        """``disagreement_image`` tile by tile."""
        self.check(image)
        for index in image.planes():

            def write(
                rows: slice, columns: slice, values: np.ndarray, index: tuple[int, ...] = index
            ) -> None:
                found = np.zeros(
                    (rows.stop - rows.start, columns.stop - columns.start, image.samples), np.float32
                )
                found[..., : image.colours] = np.moveaxis(
                    self._with_missing(values[self.own], image, index, rows, columns), 0, -1
                )
                sink.write(index, found if image.samples > 1 else found[..., 0], rows, columns)

            self.predictor.disagreement_plane(self.plane_of(image, index), write, _Tiles(sink, index))

    def check(self, image: Image) -> None:
        """InputError naming the first plane that cannot be denoised: NaN, Inf, or channels the model was not trained on.

        ConfigError for an image that is worked on whole, and that there is no memory for
        """
        self.predictor.check_whole(image.height, image.width)
        if self.around:
            stack_axis(image, self.around, str(image.source or "array"))
        elif image.colours != self.channels:
            raise InputError(
                f"{_label(image, next(image.planes()))}: has {image.colours} channel{'s' if image.colours > 1 else ''}, the model was "
                f"trained on {self.channels}; use a model trained on images of this kind"
            )
        for index in image.planes() if not (image.stored or self.masked) else ():
            check_finite(to_channels_first(image.plane(index), image.colours), _label(image, index))

    def plane_of(self, image: Image, index: tuple[int, ...]) -> Plane:
        """A plane as the network sees it, with the slices around it, and what is missing made up."""

        def one(index: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
            if self.masked and image.dtype.kind == "f":
                return self._without_missing(image, index, rows, columns)
            found = to_channels_first(image.region(index, rows, columns), image.colours)
            if image.stored:
                check_finite(found, _label(image, index), (rows.start, columns.start))
            return found

        if not self.around:
            return Plane(
                image.height, image.width, lambda rows, columns: one(index, rows, columns), slow=image.stored
            )
        axis = stack_axis(image, self.around, _label(image, ()))

        def several(rows: slice, columns: slice) -> np.ndarray:
            return together(lambda place: one(place, rows, columns), image, index, axis, self.around)

        return Plane(image.height, image.width, several, slow=image.stored)

    def _without_missing(
        self, image: Image, index: tuple[int, ...], rows: slice, columns: slice
    ) -> np.ndarray:
        """(C, h, w) whose missing pixels are made up from those around them, also from beyond the part that is asked for."""
        top, left = max(0, rows.start - REACH_PX), max(0, columns.start - REACH_PX)
        wide = image.region(
            index,
            slice(top, min(rows.stop + REACH_PX, image.height)),
            slice(left, min(columns.stop + REACH_PX, image.width)),
        )
        middle = self.predictor.normalizer.offset + 0.5 * self.predictor.normalizer.scale
        found = filled(to_channels_first(wide, image.colours), middle)
        return found[:, rows.start - top :, columns.start - left :][
            :, : rows.stop - rows.start, : columns.stop - columns.start
        ]

    def _with_missing(
        self, values: np.ndarray, image: Image, index: tuple[int, ...], rows: slice, columns: slice
    ) -> np.ndarray:
        """``values`` (C, h, w), but what is missing in the image."""
        if not self.masked or image.dtype.kind != "f":
            return values
        given = to_channels_first(image.region(index, rows, columns), image.colours)
        return np.where(np.isfinite(given), values, given)

    def strange(self, image: Image) -> list[str]:
        """A line where most of an image lies outside the intensities the model knows: it then gets out what it was not trained for.

        Nothing where the model was trained on a window: most of a CT slice lies outside, and comes through.
        """
        if window(str(self.record.config.get("intensity", ""))) is not None:
            return []
        sample = image.sample()
        sample = sample[np.isfinite(sample)]
        if not sample.size:
            return []
        low, high = np.percentile(sample, [STRANGE_SHARE, 100.0 - STRANGE_SHARE])
        normalizer = self.predictor.normalizer
        ends = (low - normalizer.offset) / normalizer.scale, (high - normalizer.offset) / normalizer.scale
        if ends[0] > -STRANGE and ends[1] < 1.0 + STRANGE:
            return []
        trained = f"{normalizer.offset:g} .. {normalizer.offset + normalizer.scale:g}"
        return [
            f"intensities {low:g} .. {high:g} lie far outside those of training ({trained}); is this an image of the same kind?"
        ]


def _label(image: Image, index: tuple[int, ...]) -> str:
    """A plane, by the name of its file and its place there."""
    return f"{image.source or 'array'}{list(index) if index else ''}"


class Receiver(Protocol):
    """Takes a result part by part: a ``files.sinks.Sink``."""

    def write(
        self, index: tuple[int, ...], block: np.ndarray, rows: slice, columns: slice, clipped: int = 0
    ) -> None: ...
    def finished(self, index: tuple[int, ...], rows: slice, columns: slice) -> bool: ...
    def forget(self, index: tuple[int, ...]) -> None: ...


class _Pixels:
    """A receiver that is an array."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.clipped = pixels, 0
        self._clipped_of: dict[tuple[int, ...], int] = {}

    def write(
        self, index: tuple[int, ...], block: np.ndarray, rows: slice, columns: slice, clipped: int = 0
    ) -> None:
        self.pixels[index][rows, columns] = block
        self._clipped_of[index] = self._clipped_of.get(index, 0) + clipped
        self.clipped += clipped

    def finished(self, index: tuple[int, ...], rows: slice, columns: slice) -> bool:
        return False

    def forget(self, index: tuple[int, ...]) -> None:
        self.clipped -= self._clipped_of.pop(index, 0)


class _Tiles(Work):
    """What a receiver knows of one plane."""

    def __init__(self, sink: Receiver, index: tuple[int, ...]) -> None:
        self.sink, self.index = sink, index

    def finished(self, rows: slice, columns: slice) -> bool:
        return self.sink.finished(self.index, rows, columns)

    def restart(self) -> None:
        self.sink.forget(self.index)
