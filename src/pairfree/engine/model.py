"""A trained denoiser as the user holds it: arrays in, arrays out; images in, images out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pairfree import __version__
from pairfree.data.sets import check_finite, to_channels_first
from pairfree.data.unpaired import window
from pairfree.engine.predictor import Predictor
from pairfree.errors import DivergedError, InputError
from pairfree.files.formats import to_dtype
from pairfree.files.image import Image

STRANGE, STRANGE_SHARE = 1.0, 10.0
"""An image is strange whose 10th or 90th percentile lies more than one training range outside the training range."""
STRANGE_PIXELS = 1_000_000


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
    facts      what its checkpoint says: config, normaliser, seed, steps, versions
    """

    def __init__(self, predictor: Predictor, facts: dict[str, Any]) -> None:
        self.predictor, self.facts = predictor, facts

    @property
    def method(self) -> Any:
        return self.predictor.method

    @property
    def channels(self) -> int:
        return self.predictor.channels

    @cached_property
    def derivation(self) -> str:
        """What is written into files that say how they were made: version, method, and a digest of the weights."""
        weights = [value for _, value in sorted(self.method.denoiser.state_dict().items())]
        digest = hashlib.sha256(b"".join(value.detach().cpu().contiguous().numpy().tobytes() for value in weights)).hexdigest()
        return f"denoised with pairfree {__version__}, method {self.method.key}, weights {digest[:16]}"

    def derived(self, image: Image) -> Image:
        """``image`` as the metadata of its result."""
        return replace(image, metadata={**image.metadata, "derivation": self.derivation, "derived": "denoised"})

    def denoise(self, array: np.ndarray, axes: str | None = None) -> np.ndarray:
        """Denoise an array; same shape and dtype back, integers rounded and clipped.

        array   (H, W), (C, H, W), or any shape with ``axes`` such as "ZYX", "TCYX" or "YXS"
        axes    one letter a dimension; C is denoised jointly where the model was trained on as many channels, else plane by plane
        Raises  InputError for NaN, Inf, and channels the model was not trained on
        """
        values = np.asarray(array)
        letters = axes if axes is not None else {2: "YX", 3: "CYX"}.get(values.ndim)
        if letters is None:
            raise InputError(f"array has shape {values.shape}; say what its {values.ndim} dimensions are, for example axes='TZYX'")
        if "C" in letters and len(letters) == values.ndim and self.channels > 1 and values.shape[letters.index("C")] == self.channels:
            return self._jointly(values, letters)
        return self.denoise_image(Image(values, letters)).image.pixels.astype(values.dtype, copy=False)  # in its byte order too

    def _jointly(self, values: np.ndarray, axes: str) -> np.ndarray:
        channel = axes.index("C")
        last = np.moveaxis(values, channel, -1)
        done = self.denoise_image(Image(last, axes.replace("C", "") + "S", alpha=False)).image.pixels
        return np.ascontiguousarray(np.moveaxis(done, -1, channel)).astype(values.dtype, copy=False)

    def denoise_image(self, image: Image, on_pixels: Callable[[int], None] | None = None) -> Denoised:
        """Denoise every plane of an image; stacks plane by plane, colour samples jointly; transparency comes back untouched."""
        self.check(image)
        out = np.empty(image.shape, image.dtype)
        clipped = 0
        for index in image.planes():
            try:
                out[index], count = self._plane(image, index, on_pixels)
            except DivergedError as error:  # of a method that learns each image
                raise DivergedError(f"{_label(image, index)}: {error}; make the run anew with a lower rate (--set lr=...)") from None
            clipped += count
        return Denoised(replace(self.derived(image), pixels=out), clipped)

    def disagreement_image(self, image: Image) -> Image:
        """Where the method's two denoisers are apart: float32 of the same shape and axes, intensity units; 0 for transparency.

        Raises   ConfigError for a method with one denoiser, InputError as ``denoise_image``
        """
        self.check(image)
        out = np.zeros(image.shape, np.float32)
        for index in image.planes():
            plane = image.plane(index)
            found = self.predictor.disagreement(to_channels_first(plane, image.colours))
            if plane.ndim == 2:
                out[index] = found[0]
            else:
                out[index][..., : image.colours] = np.moveaxis(found, 0, -1)
        return replace(image, pixels=out, family="tiff", metadata={}, bit_depth=None, limits=None)

    def check(self, image: Image) -> None:
        """InputError naming the first plane that cannot be denoised: NaN, Inf, or channels the model was not trained on."""
        for index in image.planes():
            plane = image.plane(index)
            label = _label(image, index)
            colours = image.colours
            check_finite(to_channels_first(plane, colours), label)
            if colours != self.channels:
                raise InputError(
                    f"{label}: has {colours} channel{'s' if colours > 1 else ''}, the model was trained on {self.channels}; "
                    "use a model trained on images of this kind"
                )

    def strange(self, image: Image) -> list[str]:
        """A line where most of an image lies outside the intensities the model knows: it then gets out what it was not trained for.

        Nothing where the model was trained on a window: most of a CT slice lies outside, and comes through.
        """
        if window(str(self.facts.get("config", {}).get("intensity", ""))) is not None:
            return []
        values = image.pixels.reshape(-1)
        low, high = np.percentile(values[:: max(1, values.size // STRANGE_PIXELS)], [STRANGE_SHARE, 100.0 - STRANGE_SHARE])
        normalizer = self.predictor.normalizer
        ends = (low - normalizer.offset) / normalizer.scale, (high - normalizer.offset) / normalizer.scale
        if ends[0] > -STRANGE and ends[1] < 1.0 + STRANGE:
            return []
        trained = f"{normalizer.offset:g} .. {normalizer.offset + normalizer.scale:g}"
        return [f"intensities {low:g} .. {high:g} lie far outside those of training ({trained}); is this an image of the same kind?"]

    def _plane(self, image: Image, index: tuple[int, ...], on_pixels: Callable[[int], None] | None) -> tuple[np.ndarray, int]:
        plane, colours = image.plane(index), image.colours
        channels_first = plane[None] if plane.ndim == 2 else np.moveaxis(plane, -1, 0)
        values = self.predictor.predict(channels_first[:colours], on_pixels)
        done, clipped = to_dtype(values, image.dtype, image.limits)
        done = np.concatenate([done, channels_first[colours:]]) if colours < len(channels_first) else done
        return (done[0] if plane.ndim == 2 else np.moveaxis(done, 0, -1)), clipped


def _label(image: Image, index: tuple[int, ...]) -> str:
    """A plane, by the name of its file and its place there."""
    return f"{image.source or 'array'}{list(index) if index else ''}"
