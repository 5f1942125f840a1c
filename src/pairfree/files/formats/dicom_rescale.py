"""Stored values as intensities, one rescale for all frames or one for each; and what is padding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairfree.errors import InputError
from pairfree.files.formats.dicom_words import Words
from pairfree.files.image import DType, Shape, rescaled_dtype
from pairfree.files.messages import shown
from pairfree.files.spans import split_into_spans

LOWEST_HU = -1500.0
"""A lower value that fills a share of a CT image is padding, even where no tag says so: air reads -1000."""
MOST_WHOLE = 2.0**30
"""Of an intercept, so that int32 holds intensities."""
PADDED_SHARE = 0.005
"""That share."""
PADDING = {
    "PixelPaddingValue": "PixelPaddingRangeLimit",
    "FloatPixelPaddingValue": "FloatPixelPaddingRangeLimit",
    "DoubleFloatPixelPaddingValue": "DoubleFloatPixelPaddingRangeLimit",
}
"""Elements that state a value of padding, and the other end of its range."""
CONVERTED_PX = 2**22
"""Values that are converted at a time."""


@dataclass(frozen=True)
class Rescale:
    """Intensity = stored * slope + intercept: one of each for all frames, or one a frame."""

    slopes: tuple[float, ...] = (1.0,)
    intercepts: tuple[float, ...] = (0.0,)

    @property
    def by_frame(self) -> bool:
        """Whether each frame has its own."""
        return len(self.slopes) > 1

    def type_of(self, stored: DType) -> DType:
        """Of the intensities of values of that type.

        int32 where the rescale keeps them whole, so that all scanners' files come out as one type (8-bit ones
        without a rescale stay), else floats that hold every stored value.
        """
        identical = set(self.slopes) == {1.0} and set(self.intercepts) == {0.0}
        if identical and (stored.itemsize == 1 or stored.kind == "f"):
            return stored
        whole = all(
            intercept == int(intercept) and abs(intercept) < MOST_WHOLE
            for intercept in self.intercepts
        )
        if set(self.slopes) == {1.0} and whole and stored.itemsize <= 2:
            return np.dtype(np.int32)
        slope = max(self.slopes, key=abs)
        intercept = max(self.intercepts, key=abs)
        return rescaled_dtype(stored, slope, intercept)

    def intensities(self, stored: np.ndarray) -> np.ndarray:
        """Stored values, frames first, as intensities of ``type_of`` them."""
        out = np.empty(stored.shape, self.type_of(stored.dtype))
        for some in split_frames(stored.shape):
            wide = stored[some].astype(np.float64)
            wide *= self._along(self.slopes, some, stored.ndim)
            wide += self._along(self.intercepts, some, stored.ndim)
            out[some] = wide
        return out

    def stored(self, intensities: np.ndarray, frames: slice) -> np.ndarray:
        """Intensities of some frames as stored values that are not yet rounded (float64)."""
        wide = intensities.astype(np.float64)
        wide -= self._along(self.intercepts, frames, intensities.ndim)
        wide /= self._along(self.slopes, frames, intensities.ndim)
        return wide

    def _along(self, numbers: tuple[float, ...], frames: slice, dimensions: int) -> np.ndarray:
        """Those of some frames, to be combined with so many dimensions, frames first."""
        own = numbers[frames] if self.by_frame else numbers
        return np.reshape(own, (-1,) + (1,) * (dimensions - 1))

    def limits(self, low: int, high: int) -> tuple[float, float]:
        """Least and greatest intensity of stored values from ``low`` to ``high``, in any frame."""
        ends = []
        for slope, intercept in zip(self.slopes, self.intercepts, strict=True):
            ends += [low * slope + intercept, high * slope + intercept]
        return min(ends), max(ends)


def split_frames(shape: Shape) -> list[slice]:
    """Frames in stretches that take little memory, however many there are."""
    frames, *of_frame = shape
    return split_into_spans(frames, max(1, CONVERTED_PX // math.prod(of_frame)))


def functional_groups(dataset: Any, name: str) -> list[Any]:
    """The functional group ``name`` of a multi-frame object: the shared one, or one a frame.

    Empty where there is none.
    """
    for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        found = []
        for group in dataset.get(sequence) or []:
            if name in group and group[name].value:
                found.append(group[name].value[0])
        if found:
            return found
    return []


def read_rescale(dataset: Any, frames: int, path: Path) -> Rescale:
    """The rescale of all frames, or of each.

    Raises
    ------
    InputError
        For slopes and intercepts that are no map of intensities, and a number of them that is not that of
        the frames.
    """
    sources = [dataset]
    if "RescaleSlope" not in dataset and "RescaleIntercept" not in dataset:
        sources = functional_groups(dataset, "PixelValueTransformationSequence") or [dataset]
    found = []
    for one in sources:
        slope = _number(one, "RescaleSlope", 1.0)
        intercept = _number(one, "RescaleIntercept", 0.0)
        if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
            raise InputError(
                f"{shown(path)}: rescale slope {slope} and intercept {intercept} are no intensity map; "
                "export it again"
            )
        found.append((slope, intercept))
    if len(set(found)) == 1:
        found = found[:1]
    elif len(found) != frames:
        raise InputError(
            f"{shown(path)}: states rescales for {len(found)} of {frames} frames; export it again"
        )
    slopes, intercepts = zip(*found, strict=True)
    return Rescale(slopes, intercepts)


def _number(dataset: Any, name: str, default: float) -> float:
    value = dataset.get(name)
    return default if value is None else float(value)


def find_padding(
    dataset: Any, stored: np.ndarray, words: np.ndarray, layout: Words, rescale: Rescale
) -> np.ndarray | None:
    """Where pixels are padding (stored's shape), or None.

    By the value of padding and its range that the object states, or, in CT, by a value far below air.
    """
    for name, other in PADDING.items():
        value = dataset.get(name)
        if value is not None:
            limit = dataset.get(other)
            ends = (value, value if limit is None else limit)
            mask = _between(ends, stored, words, layout)
            return mask if mask.any() and not mask.all() else None
    if dataset.get("Modality") != "CT" or rescale.by_frame or stored.dtype.kind == "f":
        return None
    slope, intercept = rescale.slopes[0], rescale.intercepts[0]
    lowest = stored.min() if slope > 0 else stored.max()
    mask = stored == lowest
    if lowest * slope + intercept > LOWEST_HU or mask.mean() < PADDED_SHARE:
        return None
    return mask if not mask.all() else None


def _between(
    ends: tuple[Any, Any], stored: np.ndarray, words: np.ndarray, layout: Words
) -> np.ndarray:
    """Where a value of padding is, or one of its range."""
    if stored.dtype.kind == "f":
        low, high = sorted(float(end) for end in ends)
        if math.isnan(low):
            return np.asarray(np.isnan(stored))
        return np.asarray((stored >= low) & (stored <= high))
    values = [layout.within(int(end)) for end in ends]
    known = [value for value in values if value is not None]
    if len(known) == len(values):
        return np.asarray((stored >= min(known)) & (stored <= max(known)))
    # Some scanners pad with words that are no value of their stored bits.
    width = 8 * layout.dtype.itemsize
    whole = np.array([int(end) % 2**width for end in ends], layout.unsigned).view(layout.dtype)
    found = words.view(layout.dtype)
    return np.asarray((found >= whole.min()) & (found <= whole.max()))
